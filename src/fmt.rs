//! The only place that knows `defmt`: log macros that are nothing without the feature.

/// Logs at info level through defmt, or nothing without the feature `defmt`.
#[cfg(feature = "defmt")]
macro_rules! info {
    ($($argument:tt)*) => { defmt::info!($($argument)*) };
}

/// Logs at info level through defmt, or nothing without the feature `defmt`.
#[cfg(not(feature = "defmt"))]
macro_rules! info {
    ($format:literal $(, $argument:expr)* $(,)?) => {{ $( let _ = &$argument; )* }};
}

pub(crate) use info;
