//! The input's gradients of many pixels.

use super::register::{REGISTER, in_registers, load, store};
use super::weights::are_there;
use crate::cpu::grid::Grid;
use core::arch::x86_64::{__m256i, _mm256_add_ps, _mm256_broadcast_ss, _mm256_mul_ps, _mm256_setzero_ps};

/// `d[q][k] += sum_o delta[p][o] * w[o * stride + k]` for o and k below `widths`, one product after the other, o
/// ascending; the grid's pixels are those of delta and of d. Returns how many outputs it did: all, or none unless all
/// values are there.
#[target_feature(enable = "avx")]
pub fn combine_pixels(
    d: &mut [f32],
    delta: &[f32],
    w: &[f32],
    stride: usize,
    [outputs, channels]: [usize; 2],
    grid: &Grid,
) -> usize {
    if !are_there(w.len(), stride, [outputs, channels])
        || !grid.reaches([delta.len(), d.len()], [outputs, channels])
    {
        return 0;
    }
    let layer = Layer { w: w.as_ptr(), stride, outputs, steps: grid.steps() };
    let line_steps = grid.line_steps();
    for line in 0..grid.lines() {
        let mut delta = delta.as_ptr().wrapping_add(line * line_steps[0]);
        let mut d = d.as_mut_ptr().wrapping_add(line * line_steps[1]);
        let mut pixel = 0;
        // SAFETY: all outputs and channels of every pixel and of w are there, as was asked above.
        unsafe {
            while pixel + 4 <= grid.pixels() {
                in_registers!(
                    channels,
                    |first, mask| {
                        layer.block::<4, 2, false>(d, delta, first, mask);
                        layer.block::<4, 2, false>(d, delta, first + 2 * REGISTER, mask);
                    },
                    layer.block::<4, 2, false>(d, delta, first, mask),
                    layer.block::<4, 1, false>(d, delta, first, mask),
                    layer.block::<4, 1, true>(d, delta, first, mask)
                );
                pixel += 4;
                delta = delta.wrapping_add(4 * layer.steps[0]);
                d = d.wrapping_add(4 * layer.steps[1]);
            }
            while pixel < grid.pixels() {
                in_registers!(
                    channels,
                    |first, mask| layer.block::<1, 4, false>(d, delta, first, mask),
                    layer.block::<1, 2, false>(d, delta, first, mask),
                    layer.block::<1, 1, false>(d, delta, first, mask),
                    layer.block::<1, 1, true>(d, delta, first, mask)
                );
                pixel += 1;
                delta = delta.wrapping_add(layer.steps[0]);
                d = d.wrapping_add(layer.steps[1]);
            }
        }
    }
    outputs
}

struct Layer {
    w: *const f32,
    stride: usize,
    outputs: usize,
    steps: [usize; 2],
}

impl Layer {
    /// P pixels, and N registers of channels from `first` on.
    ///
    /// # Safety
    /// They are there.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn block<const P: usize, const N: usize, const MASKED: bool>(
        &self,
        d: *mut f32,
        delta: *const f32,
        first: usize,
        mask: __m256i,
    ) {
        let Self { w, stride, outputs, steps: [delta_step, d_step] } = *self;
        let mut sums = [[_mm256_setzero_ps(); N]; P];
        // SAFETY: the caller's.
        unsafe {
            for (p, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = load::<MASKED>(d.add(p * d_step + first + n * REGISTER), mask);
                }
            }
            let mut row = w.wrapping_add(first);
            for o in 0..outputs {
                let mut columns = [_mm256_setzero_ps(); N];
                for (n, column) in columns.iter_mut().enumerate() {
                    *column = load::<MASKED>(row.add(n * REGISTER), mask);
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let delta = _mm256_broadcast_ss(&*delta.add(p * delta_step + o));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = _mm256_add_ps(*sum, _mm256_mul_ps(delta, column));
                    }
                }
                row = row.wrapping_add(stride);
            }
            for (p, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    store::<MASKED>(d.add(p * d_step + first + n * REGISTER), mask, sum);
                }
            }
        }
    }
}
