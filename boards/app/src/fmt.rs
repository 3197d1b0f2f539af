//! The only place that knows `defmt`: its log macros, or the same that do nothing without the feature.

#[cfg(feature = "defmt")]
pub(crate) use defmt::{debug, info, warn};

#[cfg(not(feature = "defmt"))]
macro_rules! nothing {
    ($format:literal $(, $argument:expr)* $(,)?) => {{ $( let _ = &$argument; )* }};
}
#[cfg(not(feature = "defmt"))]
pub(crate) use {nothing as debug, nothing as info, nothing as warn};
