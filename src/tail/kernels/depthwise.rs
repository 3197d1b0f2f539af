//! DEPTHWISE_CONV_2D: output channel `o = k * multiplier + m` sees input channel k alone:
//! `y[r,c,o] = b[o] + sum_{i,j} x[r*s + i*d - p, c*s + j*d - p, k] * w[i,j,o]`, taps outside the input left out.
//! Weights `[height, width, out]` as in a `.tflite`, activations HWC.
//!
//! ```
//! use flatmin::internals::{op::{Shape, Window, ConvShape}, tail::kernels::{Sink, depthwise}};
//! let (input, output) =
//!     (Shape { height: 1, width: 3, channels: 1 }, Shape { height: 1, width: 2, channels: 2 });
//! let window = Window { filter: [1, 2], stride: [1; 2], dilation: [1; 2], padding: [0; 2] };
//! let shape = ConvShape::new(input, output, window)?;
//! assert_eq!(depthwise::multiplier(&shape)?, 2);
//! let (w, b, x) = ([1.0, 10.0, -1.0, 0.0], [0.0, 0.5], [3.0, 1.0, 2.0]);
//! let mut y = [0.0; 4];
//! depthwise::forward(&shape, &w, &b, &x, &mut y);
//! assert_eq!(y, [2.0, 30.5, -1.0, 10.5]); // x0 - x1, 10 x0 + 0.5; x1 - x2, 10 x1 + 0.5
//!
//! let delta = [1.0, 0.0, 0.0, 2.0]; // of the loss y[0,0] + 2 y[1,1]
//! let (mut d_w, mut d_x) = ([0.0; 4], [0.0; 3]);
//! depthwise::backward_weights(&shape, 1.0, &x, &delta, &mut d_w);
//! depthwise::backward_input(&shape, &w, &delta, Sink::Overwrite, &mut d_x);
//! assert_eq!(d_w, [3.0, 2.0, 1.0, 4.0]);
//! assert_eq!(d_x, [1.0, 19.0, 0.0]);
//! # Ok::<(), flatmin::internals::op::ShapeError>(())
//! ```

use super::conv2d::seen_by;
use super::{Sink, Weight};
use crate::cpu::block;
use crate::cpu::grid::Grid;
use crate::cpu::lanes::add_scaled;
use crate::op::{ConvShape, ShapeError};

/// Output channels an input channel.
///
/// # Errors
/// [`ShapeError::Multiplier`] if there is no such number: then `shape` is no depthwise convolution, and the kernels
/// here must not be given it.
pub const fn multiplier(shape: &ConvShape) -> Result<usize, ShapeError> {
    let (inputs, outputs) = (shape.input().channels, shape.output().channels);
    if outputs.is_multiple_of(inputs) {
        Ok(outputs / inputs)
    } else {
        Err(ShapeError::Multiplier { inputs, outputs })
    }
}

/// Number of weights; there are as many biases as output channels.
pub const fn weights(shape: &ConvShape) -> usize {
    let [height, width] = shape.window().filter;
    height * width * shape.output().channels
}

/// Channels that share a tap's addresses.
const BLOCK: usize = 16;

/// Overwrites `y`. Order: taps row by row; the bias comes last. Biases that are not there count as 0.
pub fn forward<W: Weight>(shape: &ConvShape, weights: &[W], biases: &[f32], x: &[f32], y: &mut [f32]) {
    let output = shape.output();
    if W::floats(weights).is_some_and(|weights| forward_together(shape, weights, biases, x, y)) {
        return;
    }
    let (pixels, width) = (y.chunks_exact_mut(output.channels.max(1)).enumerate(), output.width.max(1));
    let blocked = blocked(shape);
    for (pixel, y) in pixels.take(output.height * output.width) {
        let pixel = (pixel / width, pixel % width);
        let mut first = 0;
        while first < output.channels {
            if first < blocked {
                forward_block::<BLOCK, W>(shape, weights, biases, x, pixel, [first, first], y);
                first += BLOCK;
            } else {
                forward_block::<1, W>(shape, weights, biases, x, pixel, [first, first / quotient(shape)], y);
                first += 1;
            }
        }
    }
}

/// Tap after tap for all pixels that see it; or false, and all of `y` is still to be written.
#[inline(always)]
fn forward_together(shape: &ConvShape, weights: &[f32], biases: &[f32], x: &[f32], y: &mut [f32]) -> bool {
    let Some(y) = y.get_mut(..shape.output_length()) else { return false };
    let done = together(shape, weights, y, |y, w, grid, [first_y, first_x]| {
        let (y, x) = (y.get_mut(first_y..).unwrap_or(&mut []), x.get(first_x..).unwrap_or(&[]));
        block::add_channel_products(y, x, w, &grid.turned())
    });
    if done {
        for y in y.chunks_exact_mut(shape.output().channels.max(1)) {
            let (own, rest) = y.split_at_mut(biases.len().min(y.len()));
            own.iter_mut().zip(biases).for_each(|(y, bias)| *y += bias);
            rest.iter_mut().for_each(|y| *y += 0.0);
        }
    }
    done
}

/// Calls `add(sums, a tap's weights, pixels of output and input, the first of both)` for every tap, after `sums` have been
/// set to 0, until it returns 0; and returns whether it never did.
#[inline(always)]
fn together(
    shape: &ConvShape,
    weights: &[f32],
    sums: &mut [f32],
    mut add: impl FnMut(&mut [f32], &[f32], &Grid, [usize; 2]) -> usize,
) -> bool {
    let channels = shape.output().channels;
    if block::WINDOWS == 0 || channels != shape.input().channels {
        return false;
    }
    let [height, width] = shape.window().filter;
    sums.fill(0.0);
    (0..height * width).all(|tap| {
        let (grid, first) = seen_by(shape, tap / width, tap % width);
        let weights = weights.get(tap * channels..(tap + 1) * channels).unwrap_or(&[]);
        grid.is_empty() || add(sums, weights, &grid, first) > 0
    })
}

/// [`multiplier`] where it is known to be one.
fn quotient(shape: &ConvShape) -> usize {
    (shape.output().channels / shape.input().channels.max(1)).max(1)
}

/// Output channels, from the first on, that come in whole [`BLOCK`]s: none where inputs do not lie side by side.
#[inline(always)]
fn blocked(shape: &ConvShape) -> usize {
    let channels = shape.output().channels;
    if channels == shape.input().channels { channels / BLOCK * BLOCK } else { 0 }
}

/// N channels of a pixel of the output: from output channel `o`, input channel `k`.
#[inline(always)]
fn forward_block<const N: usize, W: Weight>(
    shape: &ConvShape,
    weights: &[W],
    biases: &[f32],
    x: &[f32],
    (row, column): (usize, usize),
    [o, k]: [usize; 2],
    y: &mut [f32],
) {
    let (input, channels) = (shape.input(), shape.output().channels);
    let Some(y) = y.get_mut(o..).and_then(|y| y.first_chunk_mut::<N>()) else { return };
    *y = [0.0; N];
    let (taps, rows) = (shape.columns().taps(column), shape.rows().taps(row));
    if !taps.is_empty() && !rows.is_empty() {
        let window = shape.window();
        let grid = Grid::new(
            [window.dilation[1] * input.channels, channels],
            taps.len(),
            [window.dilation[0] * input.width * input.channels, window.filter[1] * channels],
            rows.len(),
        );
        let line = shape.rows().place(row, rows.start) * input.width;
        let place = (line + shape.columns().place(column, taps.start)) * input.channels + k;
        let tap = (rows.start * window.filter[1] + taps.start) * channels + o;
        block::products(y, x.get(place..).unwrap_or(&[]), weights.get(tap..).unwrap_or(&[]), &grid);
    }
    match biases.get(o..).and_then(|biases| biases.first_chunk::<N>()) {
        // A factor of 1 rounds nothing.
        Some(biases) => add_scaled(y, 1.0, biases),
        None => {
            for (at, y) in y.iter_mut().enumerate() {
                *y += biases.get(o + at).copied().unwrap_or(0.0);
            }
        }
    }
}

/// `d_weights[i,j,o] += scale * sum_{r,c} delta[r,c,o] * x[r*s + i*d - p, c*s + j*d - p, k]`.
///
/// Order: pixel after pixel, row by row; then the scale.
pub fn backward_weights(shape: &ConvShape, scale: f32, x: &[f32], delta: &[f32], d_weights: &mut [f32]) {
    let (width, blocked) = (shape.window().filter[1].max(1), blocked(shape));
    for (tap, d_weights) in d_weights.chunks_exact_mut(shape.output().channels.max(1)).enumerate() {
        let tap = (tap / width, tap % width);
        if shape.output().channels == shape.input().channels {
            let (grid, [first_delta, first_x]) = seen_by(shape, tap.0, tap.1);
            let (delta, x) = (delta.get(first_delta..).unwrap_or(&[]), x.get(first_x..).unwrap_or(&[]));
            if block::sum_channel_products(d_weights, scale, delta, x, &grid) > 0 {
                continue;
            }
        }
        for first in (0..blocked).step_by(BLOCK) {
            weights_block::<BLOCK>(shape, scale, x, delta, tap, [first, first], d_weights);
        }
        for first in blocked..shape.output().channels {
            weights_block::<1>(shape, scale, x, delta, tap, [first, first / quotient(shape)], d_weights);
        }
    }
}

/// N channels of a tap.
#[inline(always)]
fn weights_block<const N: usize>(
    shape: &ConvShape,
    scale: f32,
    x: &[f32],
    delta: &[f32],
    (i, j): (usize, usize),
    [o, k]: [usize; 2],
    d_weights: &mut [f32],
) {
    let (input, output) = (shape.input(), shape.output());
    let columns = shape.columns().outputs(j);
    let Some(column) = columns.clone().next() else { return };
    let (rows, stride) = (shape.rows().outputs(i), shape.window().stride);
    let mut sums = [0.0; N];
    if !rows.is_empty() {
        let grid = Grid::new(
            [output.channels, stride[1] * input.channels],
            columns.len(),
            [output.width * output.channels, stride[0] * input.width * input.channels],
            rows.len(),
        );
        let first = (rows.start * output.width + column) * output.channels + o;
        let line = shape.rows().place(rows.start, i) * input.width + shape.columns().place(column, j);
        let x = x.get(line * input.channels + k..).unwrap_or(&[]);
        block::products(&mut sums, delta.get(first..).unwrap_or(&[]), x, &grid);
    }
    for (d, sum) in d_weights.get_mut(o..).unwrap_or(&mut []).iter_mut().zip(sums) {
        *d += scale * sum;
    }
}

/// `d_biases[o] += scale * sum_{r,c} delta[r,c,o]`, pixel after pixel; then the scale.
pub fn backward_biases(shape: &ConvShape, scale: f32, delta: &[f32], d_biases: &mut [f32]) {
    super::backward_biases(shape.output().channels, scale, delta, d_biases);
}

/// Writes to `sink`: `d_x[q,k] = sum_{i,j,m} delta[r,c,o] * w[i,j,o]` over the taps (i, j) that see pixel q from an
/// output (r, c).
///
/// Order: taps row by row, and for each the output channels of k ascending.
pub fn backward_input<W: Weight>(
    shape: &ConvShape,
    weights: &[W],
    delta: &[f32],
    sink: Sink,
    d_x: &mut [f32],
) {
    let (input, blocked) = (shape.input(), blocked(shape));
    let width = input.width.max(1);
    if sink == Sink::Overwrite
        && W::floats(weights).is_some_and(|weights| backward_together(shape, weights, delta, d_x))
    {
        return;
    }
    for (pixel, d_x) in
        d_x.chunks_exact_mut(input.channels.max(1)).enumerate().take(input.height * input.width)
    {
        let pixel = (pixel / width, pixel % width);
        let (blocks, rest) = d_x.split_at_mut(blocked.min(d_x.len()));
        for (block, d_x) in blocks.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let mut sums = [0.0; BLOCK];
            seen_from(shape, pixel, |place, tap| {
                let (delta, w) = (delta.get(place + block * BLOCK..), weights.get(tap + block * BLOCK..));
                block::products(&mut sums, delta.unwrap_or(&[]), w.unwrap_or(&[]), &Grid::PIXEL);
            });
            d_x.iter_mut().zip(sums).for_each(|(d, sum)| sink.put(d, sum));
        }
        let multiplier = quotient(shape);
        for (k, d_x) in rest.iter_mut().enumerate() {
            let own = (blocked + k) * multiplier;
            let mut sum = 0.0;
            seen_from(shape, pixel, |place, tap| {
                let delta = delta.get(place + own..).unwrap_or(&[]).iter();
                let weights = weights.get(tap + own..).unwrap_or(&[]);
                for (&delta, &w) in delta.zip(weights).take(multiplier) {
                    sum += delta * w.value();
                }
            });
            sink.put(d_x, sum);
        }
    }
}

/// Tap after tap for all pixels that it sees; or false, and all of `d_x` is still to be written.
#[inline(always)]
fn backward_together(shape: &ConvShape, weights: &[f32], delta: &[f32], d_x: &mut [f32]) -> bool {
    let Some(d_x) = d_x.get_mut(..shape.input_length()) else { return false };
    together(shape, weights, d_x, |d_x, w, grid, [first_delta, first_x]| {
        let (d_x, delta) =
            (d_x.get_mut(first_x..).unwrap_or(&mut []), delta.get(first_delta..).unwrap_or(&[]));
        block::add_channel_products(d_x, delta, w, grid)
    })
}

/// Calls `see(offset of the output's pixel, offset of the tap's weights)` for every tap that sees an input pixel.
#[inline(always)]
fn seen_from(shape: &ConvShape, (row, column): (usize, usize), mut see: impl FnMut(usize, usize)) {
    let [height, width] = shape.window().filter;
    let output = shape.output();
    for i in 0..height {
        let Some(r) = shape.rows().output_of(row, i) else { continue };
        for j in 0..width {
            let Some(c) = shape.columns().output_of(column, j) else { continue };
            see((r * output.width + c) * output.channels, (i * width + j) * output.channels);
        }
    }
}
