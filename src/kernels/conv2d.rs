//! CONV_2D.

use super::Requantization;
use crate::cpu::int8::{self, Column, ColumnShape, Filters, Requantizer};
use crate::op::{Shape, Window};
use core::ops::Range;

/// Outputs of one pixel that are summed before they are scaled; the stack of an Armv6-M core is small.
const OUTPUTS: usize = if cfg!(flatmin_thumb1) { 32 } else { 64 };
/// Values of a window that are gathered at a time where it reaches into the padding or is dilated.
const GATHERED: usize = 256;

/// `y[r,c,o] = requantize(bias[o] + sum_{i,j,k} (x[r*s+i*d-p, c*s+j*d-p, k] - zero_point) * w[o,i,j,k])`,
/// taps outside the input left out. Input and output HWC, weights OHWI. Rounding and clamp: the
/// specification's section "Int8 quantized operator specifications", CONV_2D.
///
/// The zero point is folded into the bias, `bias[o] - zero_point * sum w[o]`; padding then counts as zero point.
pub fn conv2d(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    weights: &[i8],
    requantization: &Requantization,
    output: &mut [i8],
    output_shape: Shape,
) {
    let all = 0..output_shape.channels;
    conv2d_rows(input, input_shape, window, weights, requantization, (output, all), output_shape);
}

/// [`conv2d`] of some output channels, `rows`: weights and requantization are theirs alone, the output is that of all.
// Its buffers are on the stack: inlined, they would be there for as long as the caller's.
#[inline(never)]
pub fn conv2d_rows(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    weights: &[i8],
    requantization: &Requantization,
    (output, rows): (&mut [i8], Range<usize>),
    output_shape: Shape,
) {
    let (input_shape, output_shape) = flattened(window, input_shape, output_shape);
    let [filter_height, filter_width] = window.filter;
    let products = filter_height * filter_width * input_shape.channels;
    // A zero point is an int8 value.
    let padding = requantization.input_zero_point as i8;
    let geometry = Geometry::new(input, input_shape, window, padding);
    let mut scratch =
        Scratch { dot: int8::Scratch::EMPTY, sums: [[0; OUTPUTS]; 2], gathered: [[0; GATHERED]; 2] };
    let mut folded = [0i32; OUTPUTS];
    let channels = output_shape.channels;
    for first in (0..rows.len()).step_by(OUTPUTS) {
        let count = OUTPUTS.min(rows.len() - first);
        let weights = weights.get(first * products..(first + count) * products).unwrap_or(&[]);
        let requantization = requantization.outputs(first, count);
        let Some(folded) = folded.get_mut(..count) else { return };
        fold(&requantization, weights, products, &mut scratch.dot, folded);
        let Some(filters) = Filters::new(weights, products, folded, 0) else { return };
        let requantizer = Requantizer::new(requantization);
        let mut block = Block { filters, products, count, requantizer, scratch: &mut scratch };
        let own = rows.start + first..rows.start + first + count;
        let mut pixels = output.chunks_exact_mut(channels.max(1)).map(|pixel| pixel.get_mut(own.clone()));
        let mut origins = geometry.origins(output_shape.width);
        while let Some(Some(one)) = pixels.next() {
            // Two pixels share every weight that is loaded.
            match pixels.next() {
                Some(Some(other)) => block.two(&geometry, origins.next_two(), [one, other]),
                _ => block.one(&geometry, origins.next(), one),
            }
        }
    }
}

/// A pointwise convolution does not care where rows end.
fn flattened(window: &Window, input: Shape, output: Shape) -> (Shape, Shape) {
    let pointwise = window.filter == [1; 2] && window.stride == [1; 2] && window.padding == [0; 2];
    let flat = |s: Shape| Shape { height: 1, width: s.height * s.width, channels: s.channels };
    if pointwise { (flat(input), flat(output)) } else { (input, output) }
}

/// `folded[o] = bias[o] - zero_point * sum_k weights[o, k]`, wrapping like every sum here.
fn fold(
    requantization: &Requantization,
    weights: &[i8],
    products: usize,
    scratch: &mut int8::Scratch,
    folded: &mut [i32],
) {
    // References, so that they lie in flash and not on the stack.
    const ONES: &[i8; GATHERED] = &[1; GATHERED];
    const ZEROS: &[i32; OUTPUTS] = &[0; OUTPUTS];
    let zeros = ZEROS.get(..folded.len()).unwrap_or(&[]);
    let Some(filters) = Filters::new(weights, products, zeros, 0) else { return };
    for first in (0..products).step_by(GATHERED) {
        let column = Column::contiguous(ONES.get(..GATHERED.min(products - first)).unwrap_or(&[]));
        int8::accumulate(scratch, &filters, column, first, folded);
    }
    for (folded, &bias) in folded.iter_mut().zip(requantization.biases) {
        *folded = bias.wrapping_sub(requantization.input_zero_point.wrapping_mul(*folded));
    }
}

/// Where a window's first tap lies; before the input if it is padded there.
#[derive(Clone, Copy)]
struct Origin {
    row: isize,
    column: isize,
    /// Offset of the row in the input, if all rows of the window lie inside.
    line: Option<usize>,
}

/// Origins of all outputs, row by row.
struct Origins<'a> {
    geometry: &'a Geometry<'a>,
    next: Origin,
    first_column: isize,
    stride: [isize; 2],
    width: usize,
    place: usize,
}

impl Origins<'_> {
    #[inline]
    fn next(&mut self) -> Origin {
        let origin = self.next;
        self.place += 1;
        self.next.column += self.stride[1];
        if self.place == self.width {
            (self.place, self.next.column) = (0, self.first_column);
            self.next.row += self.stride[0];
            self.next.line = self.geometry.line(self.next.row);
        }
        origin
    }

    #[inline]
    fn next_two(&mut self) -> [Origin; 2] {
        [self.next(), self.next()]
    }
}

/// Input and windows over it.
struct Geometry<'a> {
    input: &'a [i8],
    shape: Shape,
    window: &'a Window,
    /// What stands in the padding.
    padding: i8,
    /// How a window lies that is not padded.
    column: ColumnShape,
}

impl<'a> Geometry<'a> {
    fn new(input: &'a [i8], shape: Shape, window: &'a Window, padding: i8) -> Self {
        let [height, width] = window.filter;
        let row_stride = window.dilation[0] * shape.width * shape.channels;
        let column = ColumnShape::new(height, width * shape.channels, row_stride);
        Self { input, shape, window, padding, column }
    }

    fn origins(&'a self, width: usize) -> Origins<'a> {
        // Sizes are far below isize::MAX: tensors have at most 2^26 elements, strides and padding 16 bits.
        let [row, column] = self.window.padding.map(|padding| -(padding as isize));
        let stride = self.window.stride.map(|stride| stride as isize);
        let next = Origin { row, column, line: self.line(row) };
        Origins { geometry: self, next, first_column: column, stride, width, place: 0 }
    }

    /// Offset of `row` if a window that begins there lies inside with all rows, each in one piece.
    fn line(&self, row: isize) -> Option<usize> {
        let Window { filter: [height, width], dilation, .. } = *self.window;
        let row = usize::try_from(row).ok()?;
        let whole = (dilation[1] == 1 || width == 1) && row + (height - 1) * dilation[0] < self.shape.height;
        whole.then_some(row * self.shape.width * self.shape.channels)
    }

    /// The window at `origin` where it lies, if it is in one piece.
    #[inline]
    fn in_place(&self, origin: Origin) -> Option<Column<'a>> {
        let column = usize::try_from(origin.column).ok()?;
        if column + self.window.filter[1] > self.shape.width {
            return None;
        }
        self.column.of(self.input.get(origin.line? + column * self.shape.channels..)?)
    }

    /// Values `from..` of the window at `origin`, as many as `values` takes, the padding filled in.
    fn gather(&self, origin: Origin, from: usize, values: &mut [i8]) {
        let width = self.window.filter[1];
        if self.window.dilation[1] != 1 || from != 0 {
            return self.gather_taps(origin, from, values);
        }
        // Taps of one row are neighbours in memory: `before..until` of them lie inside.
        let Shape { height: rows, width: columns, channels } = self.shape;
        let before = (-origin.column).max(0).min(width as isize);
        let until = (columns as isize - origin.column).max(before).min(width as isize);
        // None of them is negative, as they were clamped.
        let [before, until, column] =
            [before, until, origin.column + before].map(|position| position as usize * channels);
        let row_step = self.window.dilation[0] as isize;
        let mut row = origin.row;
        let mut filter_rows = values.chunks_exact_mut((width * channels).max(1));
        for place in &mut filter_rows {
            let line =
                usize::try_from(row).ok().filter(|&row| row < rows).map(|row| row * columns * channels);
            row += row_step;
            let source = line.and_then(|line| self.input.get(line + column..line + column + until - before));
            let (Some(source), Some((head, rest))) = (source, place.split_at_mut_checked(before)) else {
                int8::fill(self.padding, place);
                continue;
            };
            int8::fill(self.padding, head);
            int8::copy(source, rest);
            int8::fill(self.padding, rest.get_mut(until - before..).unwrap_or(&mut []));
        }
        let done = values.len() / (width * channels).max(1) * width * channels;
        let rest = values.get_mut(done..).unwrap_or(&mut []);
        if !rest.is_empty() {
            self.gather_taps(origin, done, rest);
        }
    }

    /// The same tap by tap.
    fn gather_taps(&self, origin: Origin, from: usize, values: &mut [i8]) {
        let Window { filter: [height, width], dilation, .. } = *self.window;
        let Shape { height: rows, width: columns, channels } = self.shape;
        let mut gathered = Gathered { values, from, padding: self.padding, filled: 0 };
        let inside = |position: isize, extent: usize| usize::try_from(position).ok().filter(|&p| p < extent);
        for i in 0..height {
            let Some(row) = inside(origin.row + (i * dilation[0]) as isize, rows) else { continue };
            for j in 0..width {
                let Some(column) = inside(origin.column + (j * dilation[1]) as isize, columns) else {
                    continue;
                };
                let source = self.input.get((row * columns + column) * channels..).unwrap_or(&[]);
                let tap = i * width + j;
                gathered.copy(tap * channels, (tap + 1) * channels, source);
            }
        }
        let end = gathered.values.len();
        gathered.pad(end);
    }
}

/// Values `from..` of a window, being put together.
struct Gathered<'a> {
    values: &'a mut [i8],
    from: usize,
    padding: i8,
    filled: usize,
}

impl Gathered<'_> {
    /// The window's values `first..end` from the start of `source`, padding up to them.
    #[inline]
    fn copy(&mut self, first: usize, end: usize, source: &[i8]) {
        let begin = first.max(self.from) - self.from;
        let stop = end.saturating_sub(self.from).min(self.values.len());
        if begin >= stop {
            return;
        }
        self.pad(begin);
        let source = source.get(begin + self.from - first..stop + self.from - first);
        if let (Some(source), Some(place)) = (source, self.values.get_mut(begin..stop)) {
            int8::copy(source, place);
        }
        self.filled = stop;
    }

    /// Padding up to `end`.
    #[inline]
    fn pad(&mut self, end: usize) {
        if self.filled < end {
            int8::fill(self.padding, self.values.get_mut(self.filled..end).unwrap_or(&mut []));
        }
    }
}

/// A block of output channels.
struct Block<'a> {
    filters: Filters<'a>,
    /// Weights of one output.
    products: usize,
    /// Outputs.
    count: usize,
    requantizer: Requantizer<'a>,
    scratch: &'a mut Scratch,
}

/// Buffers of a call.
struct Scratch {
    dot: int8::Scratch,
    sums: [[i32; OUTPUTS]; 2],
    gathered: [[i8; GATHERED]; 2],
}

/// The window at `origin` where it lies, or else gathered, if it can be had in one piece.
#[inline]
fn whole<'a>(
    geometry: &Geometry<'a>,
    origin: Origin,
    products: usize,
    gathered: &'a mut [i8; GATHERED],
) -> Option<Column<'a>> {
    geometry.in_place(origin).or_else(|| {
        let values = gathered.get_mut(..products)?;
        geometry.gather(origin, 0, values);
        Some(Column::contiguous(values))
    })
}

impl Block<'_> {
    fn one(&mut self, geometry: &Geometry, origin: Origin, pixel: &mut [i8]) {
        let Self { ref filters, products, count, ref mut requantizer, ref mut scratch } = *self;
        let Scratch { dot, sums: [sums, _], gathered: [gathered, _] } = &mut **scratch;
        let Some(sums) = sums.get_mut(..count) else { return };
        if let Some(column) = whole(geometry, origin, products, gathered) {
            int8::accumulate(dot, filters, column, 0, sums);
        } else {
            for from in (0..products).step_by(GATHERED) {
                let values = gathered.get_mut(..GATHERED.min(products - from)).unwrap_or(&mut []);
                geometry.gather(origin, from, values);
                int8::accumulate(dot, filters, Column::contiguous(values), from, sums);
            }
        }
        requantizer.run(sums, pixel);
    }

    fn two(&mut self, geometry: &Geometry, [a, b]: [Origin; 2], pixels: [&mut [i8]; 2]) {
        let Self { ref filters, products, count, ref mut requantizer, ref mut scratch } = *self;
        // Larger windows are taken in pairs only where both lie in one piece.
        let in_one_piece =
            products <= GATHERED || geometry.in_place(a).is_some() && geometry.in_place(b).is_some();
        if !in_one_piece {
            let [first, second] = pixels;
            self.one(geometry, a, first);
            return self.one(geometry, b, second);
        }
        let Scratch { dot, sums: [sums0, sums1], gathered: [gathered0, gathered1] } = &mut **scratch;
        let (Some(sums0), Some(sums1)) = (sums0.get_mut(..count), sums1.get_mut(..count)) else { return };
        let columns = (whole(geometry, a, products, gathered0), whole(geometry, b, products, gathered1));
        let (Some(first), Some(second)) = columns else { return };
        int8::accumulate_two(dot, filters, [first, second], 0, [sums0, sums1]);
        let [pixel0, pixel1] = pixels;
        requantizer.run(sums0, pixel0);
        requantizer.run(sums1, pixel1);
    }
}
