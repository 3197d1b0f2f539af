//! CONV_2D: `y[r,c,o] = b[o] + sum_{i,j,k} x[r*s + i*d - p, c*s + j*d - p, k] * w[o,i,j,k]`, taps outside the input
//! left out. Weights `[out, height, width, in]` as in a `.tflite`, activations HWC.
//!
//! A 3x3 of ones over a 2x2 image, padded by 1: every output is the sum of all four inputs.
//!
//! ```
//! use flatmin::internals::{op::{Shape, Window, ConvShape}, tail::kernels::{Sink, conv2d}};
//! let image = Shape { height: 2, width: 2, channels: 1 };
//! let window = Window { filter: [3; 2], stride: [1; 2], dilation: [1; 2], padding: [1; 2] };
//! let shape = ConvShape::new(image, image, window)?;
//! let (w, b, x) = ([1.0; 9], [0.5], [1.0, 2.0, 3.0, 4.0]);
//! let mut y = [0.0; 4];
//! conv2d::forward(&shape, &w, &b, &x, &mut y);
//! assert_eq!(y, [10.5; 4]);
//!
//! // Of the loss `y[0]` alone: the window at the first pixel sees x in its lower right corner.
//! let delta = [1.0, 0.0, 0.0, 0.0];
//! let (mut d_w, mut d_b, mut d_x) = ([0.0; 9], [0.0], [0.0; 4]);
//! conv2d::backward_weights(&shape, 1.0, &x, &delta, &mut d_w);
//! conv2d::backward_biases(&shape, 1.0, &delta, &mut d_b);
//! conv2d::backward_input(&shape, &w, &delta, Sink::Overwrite, &mut d_x);
//! assert_eq!(d_w, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0]);
//! assert_eq!(d_b, [1.0]);
//! assert_eq!(d_x, [1.0; 4]);
//! # Ok::<(), flatmin::internals::op::ShapeError>(())
//! ```

use super::{Sink, Weight};
use crate::cpu::block::{self, Lanes, ROWS};
use crate::cpu::grid::Grid;
use crate::cpu::lanes::{LANES, sum_of};
use crate::op::ConvShape;
use core::array::from_fn;
use core::ops::Range;

/// Number of weights; there are as many biases as output channels.
pub const fn weights(shape: &ConvShape) -> usize {
    products(shape) * shape.output().channels
}

/// Products a sum.
const fn products(shape: &ConvShape) -> usize {
    let [height, width] = shape.window().filter;
    height * width * shape.input().channels
}

/// Overwrites `y`. Biases that are not there count as 0.
///
/// Order: taps side by side in a row of the window are one run of `taps * in` values, or where columns are dilated
/// one run of `in` values a tap; run after run goes through four lanes, value i of a run through lane i mod 4, summed as (0 + 2) + (1 + 3); the
/// bias comes last. Pointwise, 1x1 with stride 1, has a single lane.
pub fn forward<W: Weight>(shape: &ConvShape, weights: &[W], biases: &[f32], x: &[f32], y: &mut [f32]) {
    let output = shape.output();
    if shape.is_pointwise() {
        return forward_pointwise(shape, weights, biases, x, y);
    }
    let (rows, columns) = (shape.rows(), shape.columns());
    let done = W::floats(weights).map_or(0, |weights| forward_together(shape, weights, biases, x, y));
    let pixels = y.chunks_exact_mut(output.channels.max(1)).enumerate();
    for (pixel, y) in pixels.take(output.height * output.width) {
        if pixel < done {
            continue;
        }
        let (row, column) = (pixel / output.width.max(1), pixel % output.width.max(1));
        let runs = Runs { shape, x, row, column, rows: rows.taps(row), columns: columns.taps(column) };
        forward_pixel(&runs, weights, biases, y);
    }
}

/// As many windows at a time as a path takes, which see the same taps; returns how many pixels, of the first, it did.
#[inline(always)]
fn forward_together(shape: &ConvShape, weights: &[f32], biases: &[f32], x: &[f32], y: &mut [f32]) -> usize {
    if block::WINDOWS == 0 {
        return 0;
    }
    let (output, pixels) = (shape.output(), shape.output().height * shape.output().width);
    let taps = |pixel: usize| {
        let (row, column) = (pixel / output.width.max(1), pixel % output.width.max(1));
        let [rows, columns] = [shape.rows().taps(row), shape.columns().taps(column)];
        // A window without a tap inside lies nowhere: no slice reaches so far.
        let line = shape.rows().place(row, rows.start).wrapping_mul(shape.input().width);
        let place = line.wrapping_add(shape.columns().place(column, columns.start));
        let origin = place.wrapping_mul(shape.input().channels);
        ([rows, columns], origin)
    };
    let mut first = 0;
    let mut next = taps(first);
    while first < pixels {
        let (own, origin) = next.clone();
        let mut origins = [origin; block::WINDOWS];
        let mut count = 0;
        while let Some(place) = origins.get_mut(count).filter(|_| next.0 == own && first + count < pixels) {
            *place = next.1;
            count += 1;
            next = taps(first + count);
        }
        let windows = windows(shape, &own);
        let y = y.get_mut(first * output.channels..(first + count) * output.channels).unwrap_or(&mut []);
        let origins = origins.get(..count).unwrap_or(&[]);
        if block::windows(&windows, x, origins, weights, biases, y) < count {
            break;
        }
        first += count;
    }
    first
}

/// The runs of a window that sees these taps.
fn windows(shape: &ConvShape, [rows, columns]: &[Range<usize>; 2]) -> block::Windows {
    let (input, window) = (shape.input(), shape.window());
    let (width, channels) = (window.filter[1], input.channels);
    let together = window.dilation[1] == 1;
    block::Windows {
        rows: rows.len(),
        row_steps: [window.dilation[0] * input.width * channels, width * channels],
        runs: if together { columns.len().min(1) } else { columns.len() },
        run_steps: [window.dilation[1] * channels, channels],
        length: if together { columns.len() * channels } else { channels },
        products: products(shape),
        first: (rows.start * width + columns.start) * channels,
    }
}

/// Four pixels by four filters at a time; after the last of either it stands again, and its sums are dropped.
fn forward_pointwise<W: Weight>(shape: &ConvShape, weights: &[W], biases: &[f32], x: &[f32], y: &mut [f32]) {
    let (inputs, outputs) = (shape.input().channels.max(1), shape.output().channels.max(1));
    if W::floats(weights).is_some_and(|w| block::pointwise(x, w, biases, y, [inputs, outputs]) > 0) {
        return;
    }
    let pixels = y.chunks_mut((ROWS * outputs).max(1)).zip(x.chunks((ROWS * inputs).max(1)));
    for (y, x) in pixels {
        let done = block::four_pixels(x, weights, biases, y, [inputs, outputs]);
        if done == outputs {
            continue;
        }
        let x = four_of(x, inputs, x.len() == ROWS * inputs);
        let weights = weights.get(done * inputs..).unwrap_or(&[]);
        for (block, weights) in weights.chunks((ROWS * inputs).max(1)).enumerate() {
            let (first, whole) = (done + block * ROWS, weights.len() == ROWS * inputs);
            let filters = ROWS.min(outputs - first);
            let biases: [f32; ROWS] = match biases.get(first..).and_then(<[f32]>::first_chunk) {
                Some(biases) => *biases,
                None => from_fn(|r| biases.get(first + r).copied().unwrap_or(0.0)),
            };
            let sums = block::matrix(x, four_of(weights, inputs, whole));
            for (pixel, sums) in sums.iter().enumerate() {
                let y = y.get_mut(pixel * outputs + first..).unwrap_or(&mut []);
                match y.first_chunk_mut::<ROWS>() {
                    Some(y) if whole => *y = from_fn(|r| sums[r] + biases[r]),
                    _ => {
                        for ((y, sum), bias) in y.iter_mut().zip(sums).zip(biases).take(filters) {
                            *y = sum + bias;
                        }
                    }
                }
            }
        }
    }
}

/// Four rows of `values`; the last one again where there are fewer.
#[inline(always)]
fn four_of<T>(values: &[T], length: usize, whole: bool) -> [&[T]; ROWS] {
    // Not every core divides, and all but the last block are whole.
    let last = if whole { ROWS - 1 } else { (values.len() / length.max(1)).saturating_sub(1) };
    from_fn(|r| values.get(r.min(last) * length..).and_then(|row| row.get(..length)).unwrap_or(&[]))
}

/// What one output pixel sees of the input.
struct Runs<'a> {
    shape: &'a ConvShape,
    x: &'a [f32],
    row: usize,
    column: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Runs<'_> {
    /// Calls `see(first weight, inputs)` for every run.
    #[inline(always)]
    fn for_each(&self, mut see: impl FnMut(usize, &[f32])) {
        let (shape, channels) = (self.shape, self.shape.input().channels);
        let together = if shape.window().dilation[1] == 1 { self.columns.len().max(1) } else { 1 };
        for i in self.rows.clone() {
            let line = shape.rows().place(self.row, i) * shape.input().width;
            let mut j = self.columns.start;
            while j < self.columns.end {
                let first = (line + shape.columns().place(self.column, j)) * channels;
                let x = self.x.get(first..first + together * channels).unwrap_or(&[]);
                see((i * shape.window().filter[1] + j) * channels, x);
                j += together;
            }
        }
    }
}

fn forward_pixel<W: Weight>(runs: &Runs, weights: &[W], biases: &[f32], y: &mut [f32]) {
    let products = products(runs.shape);
    let blocks = y.chunks_mut(ROWS).zip(weights.chunks((ROWS * products).max(1)));
    for (block, (y, weights)) in blocks.enumerate() {
        let biases = biases.get(block * ROWS..).unwrap_or(&[]);
        let filters: [&[W]; ROWS] = from_fn(|r| weights.get(r * products..(r + 1) * products).unwrap_or(&[]));
        let mut sums: Lanes = [[0.0; LANES]; ROWS];
        runs.for_each(|first, x| {
            let rows = filters.map(|filter| filter.get(first..first + x.len()).unwrap_or(&[]));
            block::dots(&mut sums, rows, x);
        });
        for (r, (y, sums)) in y.iter_mut().zip(sums).enumerate() {
            *y = sum_of(sums) + biases.get(r).copied().unwrap_or(0.0);
        }
    }
}

/// `d_weights[o,i,j,k] += scale * sum_{r,c} delta[r,c,o] * x[r*s + i*d - p, c*s + j*d - p, k]`.
///
/// Order: pixel after pixel, row by row; then the scale.
pub fn backward_weights(shape: &ConvShape, scale: f32, x: &[f32], delta: &[f32], d_weights: &mut [f32]) {
    let shape = &shape.flattened();
    let [filter_height, filter_width] = shape.window().filter;
    let channels = shape.input().channels;
    for i in 0..filter_height {
        for j in 0..filter_width {
            let (grid, [first_delta, first_x]) = seen_by(shape, i, j);
            let tap = Tap {
                scale,
                grid,
                channels,
                products: products(shape),
                delta: delta.get(first_delta..).unwrap_or(&[]),
                x: x.get(first_x..).unwrap_or(&[]),
            };
            tap.add((i * filter_width + j) * channels, d_weights);
        }
    }
}

/// The pixels that a tap of the window takes part in, and the first of them in delta and in x.
pub(super) fn seen_by(shape: &ConvShape, i: usize, j: usize) -> (Grid, [usize; 2]) {
    let (input, output, stride) = (shape.input(), shape.output(), shape.window().stride);
    let (rows, columns) = (shape.rows().outputs(i), shape.columns().outputs(j));
    let grid = Grid::new(
        [output.channels, stride[1] * input.channels],
        columns.len(),
        [output.width * output.channels, stride[0] * input.width * input.channels],
        rows.len(),
    );
    if rows.is_empty() || columns.is_empty() {
        return (grid, [0; 2]);
    }
    let line = shape.rows().place(rows.start, i) * input.width;
    let x = (line + shape.columns().place(columns.start, j)) * input.channels;
    (grid, [(rows.start * output.width + columns.start) * output.channels, x])
}

/// One tap of the window, with delta and x from the first pixel on.
struct Tap<'a> {
    scale: f32,
    grid: Grid,
    channels: usize,
    products: usize,
    delta: &'a [f32],
    x: &'a [f32],
}

impl Tap<'_> {
    /// Its gradient in all filters; `first` is its first weight in each.
    fn add(&self, first: usize, d_weights: &mut [f32]) {
        let Self { scale, ref grid, channels, products, delta, x } = *self;
        let outputs = d_weights.len() / products.max(1);
        let d = d_weights.get_mut(first..).unwrap_or(&mut []);
        if block::add_outer_products(d, products, [outputs, channels], scale, [delta, x], grid) > 0 {
            return;
        }
        for (block, d_weights) in d_weights.chunks_mut((ROWS * products).max(1)).enumerate() {
            let delta = delta.get(block * ROWS..).unwrap_or(&[]);
            let whole = d_weights.len() == ROWS * products;
            for k in (0..channels).step_by(ROWS) {
                let x = x.get(k..).unwrap_or(&[]);
                if whole && k + ROWS <= channels {
                    let d = d_weights.get_mut(first + k..).unwrap_or(&mut []);
                    block::outer::<ROWS, ROWS>(d, products, scale, delta, x, grid);
                    continue;
                }
                for o in 0..d_weights.len() / products.max(1) {
                    for further in 0..ROWS.min(channels - k) {
                        let (delta, x) = (delta.get(o..).unwrap_or(&[]), x.get(further..).unwrap_or(&[]));
                        let d = d_weights.get_mut(o * products + first + k + further..).unwrap_or(&mut []);
                        block::outer::<1, 1>(d, products, scale, delta, x, grid);
                    }
                }
            }
        }
    }
}

/// `d_biases[o] += scale * sum_{r,c} delta[r,c,o]`, pixel after pixel; then the scale.
pub fn backward_biases(shape: &ConvShape, scale: f32, delta: &[f32], d_biases: &mut [f32]) {
    super::backward_biases(shape.output().channels, scale, delta, d_biases);
}

/// Writes to `sink`: `d_x[q,k] = sum_{i,j,o} delta[r,c,o] * w[o,i,j,k]` over the taps (i, j) that see pixel q from an
/// output (r, c).
///
/// Order: taps row by row, and for each the output channels ascending.
pub fn backward_input<W: Weight>(
    shape: &ConvShape,
    weights: &[W],
    delta: &[f32],
    sink: Sink,
    d_x: &mut [f32],
) {
    let input = shape.input();
    if sink == Sink::Overwrite
        && W::floats(weights).is_some_and(|weights| backward_together(shape, weights, delta, d_x))
    {
        return;
    }
    if shape.is_pointwise() && sink == Sink::Overwrite {
        let pixels = d_x
            .chunks_exact_mut(input.channels.max(1))
            .zip(delta.chunks_exact(shape.output().channels.max(1)));
        return pixels
            .take(input.height * input.width)
            .for_each(|(d_x, delta)| backward_pixel(weights, delta, d_x));
    }
    for (pixel, d_x) in
        d_x.chunks_exact_mut(input.channels.max(1)).enumerate().take(input.height * input.width)
    {
        let pixel = (pixel / input.width.max(1), pixel % input.width.max(1));
        let (blocks, rest) = d_x.as_chunks_mut::<16>();
        let mut first = 0;
        for block in blocks {
            input_block(shape, weights, delta, pixel, first, sink, block);
            first += 16;
        }
        let (blocks, rest) = rest.as_chunks_mut::<4>();
        for block in blocks {
            input_block(shape, weights, delta, pixel, first, sink, block);
            first += 4;
        }
        let (blocks, _) = rest.as_chunks_mut::<1>();
        for block in blocks {
            input_block(shape, weights, delta, pixel, first, sink, block);
            first += 1;
        }
    }
}

/// Tap after tap for all pixels that it sees; or false, and all of `d_x` is still to be written.
#[inline(always)]
fn backward_together(shape: &ConvShape, weights: &[f32], delta: &[f32], d_x: &mut [f32]) -> bool {
    let Some(d_x) = d_x.get_mut(..shape.input_length()).filter(|_| block::WINDOWS > 0) else { return false };
    let (shape, products) = (&shape.flattened(), products(shape));
    let [filter_height, filter_width] = shape.window().filter;
    let widths = [shape.output().channels, shape.input().channels];
    d_x.fill(0.0);
    (0..filter_height * filter_width).all(|tap| {
        let (grid, [first_delta, first_x]) = seen_by(shape, tap / filter_width, tap % filter_width);
        let delta = delta.get(first_delta..).unwrap_or(&[]);
        let d = d_x.get_mut(first_x..).unwrap_or(&mut []);
        let weights = weights.get(tap * shape.input().channels..).unwrap_or(&[]);
        grid.is_empty() || block::combine_pixels(d, delta, weights, products, widths, &grid) > 0
    })
}

/// `d_x = W^T delta` of a pixel.
fn backward_pixel<W: Weight>(weights: &[W], delta: &[f32], d_x: &mut [f32]) {
    let channels = d_x.len();
    d_x.fill(0.0);
    let (blocks, rest) = d_x.as_chunks_mut::<16>();
    let mut columns = weights;
    for sums in blocks {
        block::combine(sums, delta, columns, channels);
        columns = columns.get(16..).unwrap_or(&[]);
    }
    for sum in rest.as_chunks_mut::<1>().0 {
        block::combine(sum, delta, columns, channels);
        columns = columns.get(1..).unwrap_or(&[]);
    }
}

/// N channels of a pixel, from channel `first`.
#[inline(always)]
fn input_block<const N: usize, W: Weight>(
    shape: &ConvShape,
    weights: &[W],
    delta: &[f32],
    (row, column): (usize, usize),
    first: usize,
    sink: Sink,
    d_x: &mut [f32; N],
) {
    let [filter_height, filter_width] = shape.window().filter;
    let (input, output, products) = (shape.input(), shape.output(), products(shape));
    let mut added = [0.0; N];
    let sums = if sink == Sink::Add { &mut added } else { &mut *d_x };
    sums.fill(0.0);
    for i in 0..filter_height {
        let Some(r) = shape.rows().output_of(row, i) else { continue };
        for j in 0..filter_width {
            let Some(c) = shape.columns().output_of(column, j) else { continue };
            let pixel = (r * output.width + c) * output.channels;
            let delta = delta.get(pixel..pixel + output.channels).unwrap_or(&[]);
            let tap = (i * filter_width + j) * input.channels + first;
            block::combine(sums, delta, weights.get(tap..).unwrap_or(&[]), products);
        }
    }
    if sink == Sink::Add {
        d_x.iter_mut().zip(added).for_each(|(d, sum)| *d += sum);
    }
}
