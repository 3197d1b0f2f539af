//! Weights' gradients over many pixels.

use super::register::{self, REGISTER, load, store};
use crate::cpu::grid::Grid;
use core::arch::x86_64::{
    __m256i, _mm256_add_ps, _mm256_broadcast_ss, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps,
};

/// `d[o * stride + k] += scale * sum_p delta[p][o] * x[p][k]` for o and k below `widths`, line by line, p ascending;
/// returns how many outputs it did: all, or none unless all values are there.
#[target_feature(enable = "avx")]
pub fn add_outer_products(
    d: &mut [f32],
    stride: usize,
    [outputs, channels]: [usize; 2],
    scale: f32,
    [delta, x]: [&[f32]; 2],
    grid: &Grid,
) -> usize {
    if !are_there(d.len(), stride, [outputs, channels])
        || !grid.reaches([delta.len(), x.len()], [outputs, channels])
    {
        return 0;
    }
    let gradient = Gradient { d: d.as_mut_ptr(), stride, scale, delta, x, grid };
    let mask = register::first(channels % REGISTER);
    let mut first = 0;
    // SAFETY: all outputs and channels of every pixel and of d are there, as was asked above.
    unsafe {
        while first + 2 * REGISTER <= channels {
            gradient.rows::<4, 2, false>(outputs, first, mask);
            first += 2 * REGISTER;
        }
        if first + REGISTER <= channels {
            gradient.rows::<8, 1, false>(outputs, first, mask);
            first += REGISTER;
        }
        if first < channels {
            gradient.rows::<8, 1, true>(outputs, first, mask);
        }
    }
    outputs
}

/// Whether rows of `channels` values, `stride` apart, end in so many values, and there is one.
pub fn are_there(length: usize, stride: usize, [rows, channels]: [usize; 2]) -> bool {
    let last = rows.checked_sub(1).and_then(|last| last.checked_mul(stride)?.checked_add(channels));
    channels > 0 && last.is_some_and(|end| end <= length)
}

struct Gradient<'a> {
    d: *mut f32,
    stride: usize,
    scale: f32,
    delta: &'a [f32],
    x: &'a [f32],
    grid: &'a Grid,
}

impl Gradient<'_> {
    /// N registers of channels from `first` on, M outputs at a time.
    ///
    /// # Safety
    /// They are there, for all pixels and in d.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn rows<const M: usize, const N: usize, const MASKED: bool>(
        &self,
        outputs: usize,
        first: usize,
        mask: __m256i,
    ) {
        let mut o = 0;
        // SAFETY: the caller's.
        unsafe {
            while o + M <= outputs {
                self.block::<M, N, MASKED>(o, first, mask);
                o += M;
            }
            while o < outputs {
                self.block::<1, N, MASKED>(o, first, mask);
                o += 1;
            }
        }
    }

    /// # Safety
    /// As above.
    #[target_feature(enable = "avx")]
    #[inline]
    unsafe fn block<const M: usize, const N: usize, const MASKED: bool>(
        &self,
        o: usize,
        first: usize,
        mask: __m256i,
    ) {
        let Self { d, stride, scale, delta, x, grid } = *self;
        let mut sums = [[_mm256_setzero_ps(); N]; M];
        let ([delta_step, x_step], line_steps) = (grid.steps(), grid.line_steps());
        // SAFETY: the caller's.
        unsafe {
            for line in 0..grid.lines() {
                let mut delta = delta.as_ptr().wrapping_add(line * line_steps[0] + o);
                let mut x = x.as_ptr().wrapping_add(line * line_steps[1] + first);
                for _ in 0..grid.pixels() {
                    let mut columns = [_mm256_setzero_ps(); N];
                    for (n, column) in columns.iter_mut().enumerate() {
                        *column = load::<MASKED>(x.add(n * REGISTER), mask);
                    }
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let delta = _mm256_broadcast_ss(&*delta.add(m));
                        for (sum, column) in sums.iter_mut().zip(columns) {
                            *sum = _mm256_add_ps(*sum, _mm256_mul_ps(delta, column));
                        }
                    }
                    (delta, x) = (delta.wrapping_add(delta_step), x.wrapping_add(x_step));
                }
            }
            let scale = _mm256_set1_ps(scale);
            for (m, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    let place = d.add((o + m) * stride + first + n * REGISTER);
                    let sum = _mm256_add_ps(load::<MASKED>(place, mask), _mm256_mul_ps(scale, sum));
                    store::<MASKED>(place, mask, sum);
                }
            }
        }
    }
}
