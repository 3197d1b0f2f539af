//! Layers whose channels keep to themselves, and sums over pixels.

use super::register::{REGISTER, in_registers, load, store};
use crate::cpu::grid::Grid;
use core::arch::x86_64::{__m256i, _mm256_add_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps};

/// `y[q][c] += x[p][c] * w[c]` for all of w; the grid's pixels are those of x and of y. Returns how many channels it
/// did: all, or none unless all values are there.
#[target_feature(enable = "avx")]
pub fn add_channel_products(y: &mut [f32], x: &[f32], w: &[f32], grid: &Grid) -> usize {
    if w.is_empty() || !grid.reaches([x.len(), y.len()], [w.len(); 2]) {
        return 0;
    }
    let (y, x) = (y.as_mut_ptr(), x.as_ptr());
    // SAFETY: all channels of every pixel and of w are there, as was asked above.
    unsafe {
        in_registers!(
            w.len(),
            |first, mask| add_block::<4, false>(y, x, w, grid, first, mask),
            add_block::<2, false>(y, x, w, grid, first, mask),
            add_block::<1, false>(y, x, w, grid, first, mask),
            add_block::<1, true>(y, x, w, grid, first, mask)
        );
    }
    w.len()
}

/// N registers of channels from `first` on.
///
/// # Safety
/// They are there, for all pixels.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn add_block<const N: usize, const MASKED: bool>(
    y: *mut f32,
    x: *const f32,
    w: &[f32],
    grid: &Grid,
    first: usize,
    mask: __m256i,
) {
    let mut weights = [_mm256_setzero_ps(); N];
    let ([x_step, y_step], line_steps) = (grid.steps(), grid.line_steps());
    // SAFETY: the caller's.
    unsafe {
        for (n, weight) in weights.iter_mut().enumerate() {
            *weight = load::<MASKED>(w.as_ptr().add(first + n * REGISTER), mask);
        }
        for line in 0..grid.lines() {
            let mut x = x.wrapping_add(line * line_steps[0] + first);
            let mut y = y.wrapping_add(line * line_steps[1] + first);
            for _ in 0..grid.pixels() {
                for (n, &weight) in weights.iter().enumerate() {
                    let product = _mm256_mul_ps(load::<MASKED>(x.add(n * REGISTER), mask), weight);
                    let place = y.add(n * REGISTER);
                    store::<MASKED>(place, mask, _mm256_add_ps(load::<MASKED>(place, mask), product));
                }
                (x, y) = (x.wrapping_add(x_step), y.wrapping_add(y_step));
            }
        }
    }
}

/// `d[c] += scale * sum_p delta[p][c] * x[p][c]` for all of d, line by line, p ascending; returns how many channels it
/// did: all, or none unless all values are there.
#[target_feature(enable = "avx")]
pub fn sum_channel_products(d: &mut [f32], scale: f32, delta: &[f32], x: &[f32], grid: &Grid) -> usize {
    if d.is_empty() || !grid.reaches([delta.len(), x.len()], [d.len(); 2]) {
        return 0;
    }
    let (delta, x) = (delta.as_ptr(), x.as_ptr());
    // SAFETY: all channels of every pixel and of d are there, as was asked above.
    unsafe {
        in_registers!(
            d.len(),
            |first, mask| sum_block::<4, false>(d, scale, [delta, x], grid, first, mask),
            sum_block::<2, false>(d, scale, [delta, x], grid, first, mask),
            sum_block::<1, false>(d, scale, [delta, x], grid, first, mask),
            sum_block::<1, true>(d, scale, [delta, x], grid, first, mask)
        );
    }
    d.len()
}

/// N registers of channels from `first` on.
///
/// # Safety
/// They are there, for all pixels.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn sum_block<const N: usize, const MASKED: bool>(
    d: &mut [f32],
    scale: f32,
    [delta, x]: [*const f32; 2],
    grid: &Grid,
    first: usize,
    mask: __m256i,
) {
    let mut sums = [_mm256_setzero_ps(); N];
    let ([delta_step, x_step], line_steps) = (grid.steps(), grid.line_steps());
    // SAFETY: the caller's.
    unsafe {
        for line in 0..grid.lines() {
            let mut delta = delta.wrapping_add(line * line_steps[0] + first);
            let mut x = x.wrapping_add(line * line_steps[1] + first);
            for _ in 0..grid.pixels() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    let (delta, x) = (delta.add(n * REGISTER), x.add(n * REGISTER));
                    let product = _mm256_mul_ps(load::<MASKED>(delta, mask), load::<MASKED>(x, mask));
                    *sum = _mm256_add_ps(*sum, product);
                }
                (delta, x) = (delta.wrapping_add(delta_step), x.wrapping_add(x_step));
            }
        }
        add_scaled::<N, MASKED>(d, scale, sums, first, mask);
    }
}

/// `d[c] += scale * sum_p delta[p][c]` for all of d, p ascending over all of delta; returns how many channels it did:
/// all, or none unless there are whole pixels.
#[target_feature(enable = "avx")]
pub fn sum_channels(d: &mut [f32], scale: f32, delta: &[f32]) -> usize {
    let channels = d.len();
    if channels == 0 || !delta.len().is_multiple_of(channels) {
        return 0;
    }
    // SAFETY: all channels of every pixel and of d are there.
    unsafe {
        in_registers!(
            channels,
            |first, mask| column_block::<4, false>(d, scale, delta, first, mask),
            column_block::<2, false>(d, scale, delta, first, mask),
            column_block::<1, false>(d, scale, delta, first, mask),
            column_block::<1, true>(d, scale, delta, first, mask)
        );
    }
    channels
}

/// N registers of channels from `first` on.
///
/// # Safety
/// They are there, for all pixels.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn column_block<const N: usize, const MASKED: bool>(
    d: &mut [f32],
    scale: f32,
    delta: &[f32],
    first: usize,
    mask: __m256i,
) {
    let mut sums = [_mm256_setzero_ps(); N];
    // SAFETY: the caller's.
    unsafe {
        for pixel in delta.chunks_exact(d.len().max(1)) {
            for (n, sum) in sums.iter_mut().enumerate() {
                let delta = load::<MASKED>(pixel.as_ptr().add(first + n * REGISTER), mask);
                *sum = _mm256_add_ps(*sum, delta);
            }
        }
        add_scaled::<N, MASKED>(d, scale, sums, first, mask);
    }
}

/// `d[first + c] += scale * sums[c]`.
///
/// # Safety
/// So many values are there.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn add_scaled<const N: usize, const MASKED: bool>(
    d: &mut [f32],
    scale: f32,
    sums: [core::arch::x86_64::__m256; N],
    first: usize,
    mask: __m256i,
) {
    let scale = _mm256_set1_ps(scale);
    for (n, sum) in sums.into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let place = d.as_mut_ptr().add(first + n * REGISTER);
            let sum = _mm256_add_ps(load::<MASKED>(place, mask), _mm256_mul_ps(scale, sum));
            store::<MASKED>(place, mask, sum);
        }
    }
}
