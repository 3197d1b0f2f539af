//! int8 products summed in int32, and the sums' way back to int8.
//!
//! Paths with one result: integer sums are the same in every order, and every rounding is the portable path's.
//! Helium where the core has it, the DSP extension of Armv7E-M and Armv8-M, loops for cores without vectors (Armv6-M,
//! RISC-V), and portable Rust elsewhere, which asks on x86-64 for AVX2 when it runs.

use super::portable;

#[cfg(flatmin_dsp)]
use super::armv7em::dsp as path;
#[cfg(flatmin_helium)]
use super::helium as path;
#[cfg(flatmin_plain)]
use super::plain as path;
#[cfg(not(any(flatmin_dsp, flatmin_helium, flatmin_plain)))]
use super::portable as path;

#[cfg(any(flatmin_dsp, flatmin_helium))]
pub use path::Requantizer;
pub use path::{Scratch, accumulate, accumulate_two};
#[cfg(flatmin_helium)]
pub use path::{copy, fill};
#[cfg(not(any(flatmin_dsp, flatmin_helium)))]
pub use portable::Requantizer;
#[cfg(not(flatmin_helium))]
pub use portable::{copy, fill};
pub use portable::{dot, requantize_as_double};

/// `sums[c] = start[c] + sum over taps (input[tap, c] + offset) * weights[tap, c]`, wrapping.
#[inline]
pub fn depthwise(taps: Taps, offset: i32, start: &[i32], sums: &mut [i32]) {
    #[cfg(flatmin_avx)]
    let done = super::x86_64::depthwise(&taps, offset, start, sums);
    #[cfg(not(flatmin_avx))]
    let done = path::depthwise(taps, offset, start, sums);
    #[cfg(any(flatmin_dsp, flatmin_helium, flatmin_plain, flatmin_avx))]
    if done < sums.len() {
        let (start, sums) = (start.get(done..).unwrap_or(&[]), sums.get_mut(done..).unwrap_or(&mut []));
        portable::depthwise(taps.behind(done), offset, start, sums);
    }
    #[cfg(not(any(flatmin_dsp, flatmin_helium, flatmin_plain, flatmin_avx)))]
    debug_assert_eq!(done, sums.len());
}

/// `sums[c] += sum over pixels of pixels[.., c]`, wrapping.
#[inline]
pub fn add_pixels(pixels: Pixels, sums: &mut [i32]) {
    #[cfg(flatmin_dsp)]
    let (pixels, sums) = {
        let done = path::add_pixels(pixels, sums);
        (pixels.after(done), sums.get_mut(done..).unwrap_or(&mut []))
    };
    pixels.fold(sums, |sum, x| sum.wrapping_add(x.into()));
}

/// What a layer with weights needs beside its weights, one entry per output channel.
#[derive(Debug, Clone, Copy)]
pub struct Requantization<'a> {
    /// Zero point of the input, in -128..=127.
    pub input_zero_point: i32,
    /// Zero point of the output, in -128..=127.
    pub output_zero_point: i32,
    /// int32 biases at scale `input * weight`.
    pub biases: &'a [i32],
    /// Q31 mantissas of `input * weight / output`; not negative.
    pub mantissas: &'a [i32],
    /// Shifts of the same, in -31..=30.
    pub shifts: &'a [i32],
    /// Lowest and highest output.
    pub clamp: [i8; 2],
}

impl<'a> Requantization<'a> {
    /// That of `count` outputs from `first` on; fewer if there are fewer.
    #[inline(always)]
    pub(crate) fn outputs(&self, first: usize, count: usize) -> Self {
        let part = |values: &'a [i32]| values.get(first..first + count).unwrap_or(&[]);
        let (biases, mantissas, shifts) = (part(self.biases), part(self.mantissas), part(self.shifts));
        Self { biases, mantissas, shifts, ..*self }
    }
}

/// Weights of some outputs and where their sums start.
#[derive(Debug, Clone, Copy)]
pub struct Filters<'a> {
    pub(super) weights: &'a [i8],
    pub(super) stride: usize,
    pub(super) start: &'a [i32],
    pub(super) offset: i32,
}

impl<'a> Filters<'a> {
    /// `stride` weights for each of `start`, and what is added to every input value. `None` if the weights are not
    /// as many, or there are none.
    #[inline(always)]
    pub fn new(weights: &'a [i8], stride: usize, start: &'a [i32], offset: i32) -> Option<Self> {
        let whole = !weights.is_empty() && weights.len() == stride * start.len();
        whole.then_some(Self { weights, stride, start, offset })
    }

    /// Whether weights `from..from + length` of every output and a sum for each are there; not for no weights.
    #[inline(always)]
    pub(super) fn hold(&self, from: usize, length: usize, sums: &[i32]) -> bool {
        length > 0 && from + length <= self.stride && sums.len() == self.start.len()
    }
}

/// The values that one output reads: `rows` rows of `row_length` values, `row_stride` apart.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    pub(super) values: &'a [i8],
    pub(super) rows: usize,
    pub(super) row_length: usize,
    pub(super) row_stride: usize,
}

impl<'a> Column<'a> {
    /// One row.
    #[inline(always)]
    pub fn contiguous(values: &'a [i8]) -> Self {
        Self { values, rows: 1, row_length: values.len(), row_stride: 0 }
    }

    /// Number of values.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.rows * self.row_length
    }

    /// Copies values `from..`, as many as `values` takes.
    #[cfg_attr(not(any(flatmin_dsp, flatmin_helium)), allow(dead_code))]
    pub(super) fn copy(&self, from: usize, values: &mut [i8]) {
        let mut rest = values;
        let (first, mut skipped) = (from / self.row_length.max(1), from % self.row_length.max(1));
        for row in self.iter().skip(first) {
            let row = row.get(skipped..).unwrap_or(&[]);
            skipped = 0;
            let (place, behind) = rest.split_at_mut(row.len().min(rest.len()));
            copy(row.get(..place.len()).unwrap_or(&[]), place);
            rest = behind;
        }
    }

    /// The rows.
    #[inline(always)]
    pub(super) fn iter(self) -> impl Iterator<Item = &'a [i8]> {
        let Self { values, rows, row_length, row_stride } = self;
        (0..rows).map(move |row| {
            let start = row * row_stride;
            values.get(start..start + row_length).unwrap_or(&[])
        })
    }
}

/// How rows of values lie, for many columns.
#[derive(Debug, Clone, Copy)]
pub struct ColumnShape {
    rows: usize,
    row_length: usize,
    row_stride: usize,
    /// From the first value to after the last.
    span: usize,
}

impl ColumnShape {
    /// `rows` rows of `row_length` values, `row_stride` apart; rows that touch are one.
    pub fn new(rows: usize, row_length: usize, row_stride: usize) -> Self {
        if row_stride == row_length {
            return Self { rows: 1, row_length: rows * row_length, row_stride: 0, span: rows * row_length };
        }
        let span = rows.saturating_sub(1) * row_stride + row_length;
        Self { rows, row_length, row_stride, span }
    }

    /// The column from the start of `values`; `None` if they are too few.
    #[inline(always)]
    pub fn of<'a>(&self, values: &'a [i8]) -> Option<Column<'a>> {
        let Self { rows, row_length, row_stride, span } = *self;
        (span <= values.len()).then_some(Column { values, rows, row_length, row_stride })
    }
}

/// The taps of one output of a depthwise convolution that lie inside the input: `rows * columns` of them, each
/// with `channels` neighbours in input and weights.
#[derive(Debug, Clone, Copy)]
pub struct Taps<'a> {
    /// Input from the first tap on.
    pub input: &'a [i8],
    /// Weights from the first tap on.
    pub weights: &'a [i8],
    /// Rows of taps.
    pub rows: usize,
    /// Taps in a row.
    pub columns: usize,
    /// From one row to the next: in the input, in the weights.
    pub row_stride: [usize; 2],
    /// From one tap to the next: in the input, in the weights.
    pub column_stride: [usize; 2],
}

impl Taps<'_> {
    /// The same after `channel` channels.
    #[inline]
    #[cfg_attr(not(any(flatmin_dsp, flatmin_helium, flatmin_plain, flatmin_avx)), allow(dead_code))]
    pub(super) fn behind(self, channel: usize) -> Self {
        let (x, w) = (self.input.get(channel..).unwrap_or(&[]), self.weights.get(channel..).unwrap_or(&[]));
        Self { input: x, weights: w, ..self }
    }

    /// Whether `channels` neighbours of every tap lie in input and weights.
    #[cfg_attr(not(any(flatmin_dsp, flatmin_helium, flatmin_plain, flatmin_avx)), allow(dead_code))]
    pub(super) fn hold(&self, channels: usize) -> bool {
        let last = |axis: usize| {
            self.rows.saturating_sub(1) * self.row_stride[axis]
                + self.columns.saturating_sub(1) * self.column_stride[axis]
                + channels
        };
        last(0) <= self.input.len() && last(1) <= self.weights.len()
    }
}

/// Pixels of an activation, in lines: what a mean or a maximum is taken of, for each channel.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    pub(super) values: &'a [i8],
    pub(super) lines: usize,
    /// Pixels of a line.
    pub(super) pixels: usize,
    /// From one line to the next, and from one pixel to the next.
    pub(super) steps: [usize; 2],
}

/// Channels folded side by side: vectors' lanes, or registers.
const SIDE_BY_SIDE: usize = if cfg!(flatmin_thumb1) {
    4
} else if cfg!(any(flatmin_dsp, flatmin_plain)) {
    8
} else {
    16
};

impl<'a> Pixels<'a> {
    /// So many lines of so many pixels, from the start of `values`. Lines that touch are one.
    #[inline]
    pub fn new(values: &'a [i8], [lines, pixels]: [usize; 2], steps: [usize; 2]) -> Self {
        let (lines, pixels) =
            if pixels * steps[1] == steps[0] { (1, lines * pixels) } else { (lines, pixels) };
        Self { values, lines, pixels, steps }
    }

    /// Values from channel `channel` on.
    #[inline]
    pub fn after(self, channel: usize) -> Self {
        Self { values: self.values.get(channel..).unwrap_or(&[]), ..self }
    }

    /// Takes every pixel's value of channel c into `states[c]`, in order.
    #[inline]
    pub fn fold<T: Copy>(self, states: &mut [T], take: impl Fn(T, i8) -> T + Copy) {
        let (blocks, rest) = states.as_chunks_mut::<SIDE_BY_SIDE>();
        let first = blocks.len() * SIDE_BY_SIDE;
        for (block, states) in blocks.iter_mut().enumerate() {
            self.after(block * SIDE_BY_SIDE).fold_block(states, take);
        }
        let (fours, ones) = rest.as_chunks_mut::<4>();
        let last = first + 4 * fours.len();
        for (block, states) in fours.iter_mut().enumerate() {
            self.after(first + 4 * block).fold_block(states, take);
        }
        for (channel, state) in ones.iter_mut().enumerate() {
            self.after(last + channel).fold_block(core::array::from_mut(state), take);
        }
    }

    #[inline]
    fn fold_block<const N: usize, T: Copy>(self, states: &mut [T; N], take: impl Fn(T, i8) -> T) {
        let mut folded = *states;
        for line in 0..self.lines {
            let mut at = line * self.steps[0];
            for _ in 0..self.pixels {
                let Some(pixel) = self.values.get(at..).and_then(|rest| rest.first_chunk::<N>()) else {
                    break;
                };
                for (state, &x) in folded.iter_mut().zip(pixel) {
                    *state = take(*state, x);
                }
                at += self.steps[1];
            }
        }
        *states = folded;
    }
}
