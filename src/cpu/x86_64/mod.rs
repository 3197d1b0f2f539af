//! Fully connected layers with the 256-bit registers of an x86-64 processor that has AVX, which is asked for once: two
//! sums of four lanes lie side by side in a register, so that no bit differs from the portable loops'. AVX has no fused
//! multiply-add.
//!
//! Several samples at once take every weight from memory once.
#![allow(unsafe_code)]

mod dense;
mod outer;
#[cfg(test)]
mod tests;

cpufeatures::new!(avx, "avx");

/// [`super::block::dense_together`], if the processor can.
#[inline]
pub fn dense(w: &[f32], biases: &[f32], samples: &mut [(&[f32], &mut [f32])]) -> usize {
    // SAFETY: the processor has AVX.
    if avx::get() { unsafe { dense::dense(w, biases, samples) } } else { 0 }
}

/// [`super::block::add_rank_ones`], if the processor can.
#[inline]
pub fn add_rank_ones(d: &mut [f32], scale: f32, samples: &[(&[f32], &[f32])]) -> usize {
    // SAFETY: the processor has AVX.
    if avx::get() { unsafe { outer::add_rank_ones(d, scale, samples) } } else { 0 }
}
