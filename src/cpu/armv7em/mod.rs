//! Armv7E-M and Armv8-M: the DSP extension where there is no Helium, and the single-precision FPU where there is one.

#[cfg(flatmin_dsp)]
pub mod dsp;
#[cfg(flatmin_vfp)]
pub mod vfp;
