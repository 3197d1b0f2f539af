//! int8 products with AVX2; and the layers' f32 loops with the 256-bit registers of an x86-64 processor that has AVX, which is asked for once: eight
//! sums, or two of four lanes, lie side by side in a register, so that no bit differs from the portable loops'. AVX has
//! no fused multiply-add.
//!
//! Several samples or pixels at once take every weight from memory once.
#![allow(unsafe_code)]

mod channels;
mod combine;
mod dense;
mod int8;
#[cfg(test)]
mod int8_tests;
mod outer;
mod pointwise;
#[cfg(test)]
pub(crate) mod portable;
mod register;
#[cfg(test)]
mod tests;
mod weights;
mod windows;

use super::block::Windows;
use super::grid::Grid;
use super::int8::{Column, Filters, Requantization, Taps};

cpufeatures::new!(avx, "avx");
cpufeatures::new!(avx2, "avx2");

/// Whether the processor has AVX; a test may do without.
#[inline(always)]
fn available() -> bool {
    #[cfg(test)]
    if portable::IS_ASKED_FOR.get() {
        return false;
    }
    avx::get()
}

/// Whether the processor has AVX2; a test may do without.
#[inline(always)]
fn available_for_integers() -> bool {
    #[cfg(test)]
    if portable::IS_ASKED_FOR.get() {
        return false;
    }
    avx2::get()
}

/// [`super::int8::accumulate`] of P columns, if the processor can.
#[inline]
pub fn accumulate<const P: usize>(
    filters: &Filters,
    columns: [Column; P],
    from: usize,
    sums: &mut [&mut [i32]; P],
) -> usize {
    // SAFETY: the processor has AVX2.
    if available_for_integers() { unsafe { int8::accumulate(filters, columns, from, sums) } } else { 0 }
}

/// [`super::int8::depthwise`], if the processor can.
#[inline]
pub fn depthwise(taps: &Taps, offset: i32, start: &[i32], sums: &mut [i32]) -> usize {
    // SAFETY: the processor has AVX2.
    if available_for_integers() { unsafe { int8::depthwise(taps, offset, start, sums) } } else { 0 }
}

/// [`super::int8::Requantizer`], if the processor can.
#[inline]
pub fn requantize(sums: &[i32], requantization: &Requantization, output: &mut [i8]) -> usize {
    // SAFETY: the processor has AVX2.
    if available_for_integers() { unsafe { int8::requantize(sums, requantization, output) } } else { 0 }
}

/// [`super::block::dense_together`], if the processor can.
#[inline]
pub fn dense(w: &[f32], biases: &[f32], samples: &mut [(&[f32], &mut [f32])]) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { dense::dense(w, biases, samples) } } else { 0 }
}

/// [`super::block::add_rank_ones`], if the processor can.
#[inline]
pub fn add_rank_ones(d: &mut [f32], scale: f32, samples: &[(&[f32], &[f32])]) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { outer::add_rank_ones(d, scale, samples) } } else { 0 }
}

/// [`super::block::pointwise`], if the processor can.
#[inline]
pub fn pointwise(x: &[f32], w: &[f32], biases: &[f32], y: &mut [f32], widths: [usize; 2]) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { pointwise::pointwise(x, w, biases, y, widths) } } else { 0 }
}

/// [`super::block::windows`], if the processor can.
#[inline]
pub fn windows(
    windows: &Windows,
    x: &[f32],
    origins: &[usize],
    w: &[f32],
    biases: &[f32],
    y: &mut [f32],
) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { windows::windows(windows, x, origins, w, biases, y) } } else { 0 }
}

/// [`super::block::add_outer_products`], if the processor can.
#[inline]
pub fn add_outer_products(
    d: &mut [f32],
    stride: usize,
    widths: [usize; 2],
    scale: f32,
    [delta, x]: [&[f32]; 2],
    grid: &Grid,
) -> usize {
    // SAFETY: the processor has AVX.
    if available() {
        unsafe { weights::add_outer_products(d, stride, widths, scale, [delta, x], grid) }
    } else {
        0
    }
}

/// [`super::block::combine_pixels`], if the processor can.
#[inline]
pub fn combine_pixels(
    d: &mut [f32],
    delta: &[f32],
    w: &[f32],
    stride: usize,
    widths: [usize; 2],
    grid: &Grid,
) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { combine::combine_pixels(d, delta, w, stride, widths, grid) } } else { 0 }
}

/// [`super::block::add_channel_products`], if the processor can.
#[inline]
pub fn add_channel_products(y: &mut [f32], x: &[f32], w: &[f32], grid: &Grid) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { channels::add_channel_products(y, x, w, grid) } } else { 0 }
}

/// [`super::block::sum_channel_products`], if the processor can.
#[inline]
pub fn sum_channel_products(d: &mut [f32], scale: f32, delta: &[f32], x: &[f32], grid: &Grid) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { channels::sum_channel_products(d, scale, delta, x, grid) } } else { 0 }
}

/// [`super::block::sum_channels`], if the processor can.
#[inline]
pub fn sum_channels(d: &mut [f32], scale: f32, delta: &[f32]) -> usize {
    // SAFETY: the processor has AVX.
    if available() { unsafe { channels::sum_channels(d, scale, delta) } } else { 0 }
}
