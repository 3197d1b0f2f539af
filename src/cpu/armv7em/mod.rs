//! Armv7E-M, and Armv8-M without Helium: the DSP extension, and the single-precision FPU where there is one.

pub mod dsp;
#[cfg(flatmin_vfp)]
pub mod vfp;
