//! The only caller of `libm` (default) and `micromath` (feature): every transcendental goes through here, so
//! that one feature switches all of them and the default gives the same bits on every target.

/// `e^x`.
#[cfg(not(feature = "micromath"))]
pub(crate) fn exp(x: f32) -> f32 {
    libm::expf(x)
}

/// `e^x`, off by up to 2.4e-3 relative from -80 to 0, the range that a softmax asks for.
#[cfg(feature = "micromath")]
pub(crate) fn exp(x: f32) -> f32 {
    // Below this the approximation wraps instead of reaching zero.
    if x < -80.0 { 0.0 } else { micromath::F32Ext::exp(x) }
}

/// Natural logarithm.
#[cfg(not(feature = "micromath"))]
pub(crate) fn ln(x: f32) -> f32 {
    libm::logf(x)
}

/// Natural logarithm, off by up to 1e-4 absolute from 1 to 65,536, the range of a softmax's sum; by far more below 1.
#[cfg(feature = "micromath")]
pub(crate) fn ln(x: f32) -> f32 {
    micromath::F32Ext::ln(x)
}

/// Natural logarithm of what may lie far below 1, where micromath's is off by up to 0.12: no feature approximates it.
#[cfg(feature = "mfcc")]
pub(crate) fn ln_of_any(x: f32) -> f32 {
    libm::logf(x)
}

/// Square root, correctly rounded: a wrong norm would change rho itself, so no feature approximates it.
pub(crate) fn sqrt(x: f32) -> f32 {
    libm::sqrtf(x)
}

/// Cosine of an angle in radians; once a step, so that exactness costs nothing.
pub(crate) fn cos(x: f32) -> f32 {
    libm::cosf(x)
}

/// Rounds half away from zero.
pub(crate) fn round(x: f32) -> f32 {
    libm::roundf(x)
}

/// Rounds half away from zero.
pub(crate) fn round_double(x: f64) -> f64 {
    libm::round(x)
}
