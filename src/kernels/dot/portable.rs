//! Plain Rust that LLVM vectorizes: the host's, Cortex-M0+'s and RISC-V's path, and the one the others must equal.

use super::{Column, Filters, Taps};
use crate::kernels::Requantization;
use crate::quant::Multiplier;

/// Buffers that a path wants; this one wants none.
#[derive(Debug)]
pub struct Scratch;

impl Scratch {
    /// No buffer.
    pub const EMPTY: Self = Self;
}

/// `sums[o] = start[o] + sum_k (column[k] + offset) * weights[o, from + k]`, wrapping; where `from` is not 0, it goes
/// on from what is in `sums`.
pub fn accumulate(_scratch: &mut Scratch, filters: &Filters, column: Column, from: usize, sums: &mut [i32]) {
    if !filters.hold(from, column.len(), sums) {
        return;
    }
    if from == 0 {
        sums.copy_from_slice(filters.start);
    }
    let Filters { weights, stride, offset, .. } = *filters;
    let weights = weights.get(from..).unwrap_or(&[]);
    // Without an offset LLVM knows that a product has 15 bits, and sums pairs.
    if offset == 0 {
        add_products(column, i32::from, weights, stride, sums);
    } else {
        add_products(column, |x| i32::from(x) + offset, weights, stride, sums);
    }
}

/// The same for two columns.
pub fn accumulate_two(
    scratch: &mut Scratch,
    filters: &Filters,
    columns: [Column; 2],
    from: usize,
    sums: [&mut [i32]; 2],
) {
    for (column, sums) in columns.into_iter().zip(sums) {
        accumulate(scratch, filters, column, from, sums);
    }
}

/// Armv6-M has eight registers that instructions reach: four sums at a time would live in memory.
const FEW_REGISTERS: bool = cfg!(target_arch = "arm");

#[inline]
fn add_products(
    column: Column,
    widen: impl Fn(i8) -> i32 + Copy,
    weights: &[i8],
    stride: usize,
    sums: &mut [i32],
) {
    let mut rest = weights;
    let (blocked, single) = sums.split_at_mut(if FEW_REGISTERS { 0 } else { sums.len() / 4 * 4 });
    let mut blocks = blocked.chunks_exact_mut(4);
    for block in &mut blocks {
        let filters = [0, 1, 2, 3].map(|o| rest.get(o * stride..).unwrap_or(&[]));
        let mut at = 0;
        let mut added = [0i32; 4];
        for row in column.iter() {
            let [w0, w1, w2, w3] = filters.map(|w| w.get(at..at + row.len()).unwrap_or(&[]));
            for ((((&x, &w0), &w1), &w2), &w3) in row.iter().zip(w0).zip(w1).zip(w2).zip(w3) {
                let x = widen(x);
                // |x| <= 255 and |w| <= 128: a product cannot overflow.
                for (sum, w) in added.iter_mut().zip([w0, w1, w2, w3]) {
                    *sum = sum.wrapping_add(x * i32::from(w));
                }
            }
            at += row.len();
        }
        for (sum, added) in block.iter_mut().zip(added) {
            *sum = sum.wrapping_add(added);
        }
        rest = rest.get(4 * stride..).unwrap_or(&[]);
    }
    for sum in single {
        let mut at = 0;
        for row in column.iter() {
            let w = rest.get(at..at + row.len()).unwrap_or(&[]);
            *sum = row.iter().zip(w).fold(*sum, |sum, (&x, &w)| sum.wrapping_add(widen(x) * i32::from(w)));
            at += row.len();
        }
        rest = rest.get(stride..).unwrap_or(&[]);
    }
}

/// Copies as many values as both have.
#[inline]
pub fn copy(from: &[i8], to: &mut [i8]) {
    let length = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..length), to.get_mut(..length)) {
        to.copy_from_slice(from);
    }
}

/// Fills `values`.
#[inline]
pub fn fill(value: i8, values: &mut [i8]) {
    values.fill(value);
}

/// Channels summed side by side.
const BLOCK: usize = 8;

/// `sums[c] = start[c] + sum over taps (input[tap, c] + offset) * weights[tap, c]`, wrapping.
pub fn depthwise(taps: Taps, offset: i32, start: &[i32], sums: &mut [i32]) {
    for ((block, sums), start) in sums.chunks_mut(BLOCK).enumerate().zip(start.chunks(BLOCK)) {
        let first = block * BLOCK;
        let mut added = [0i32; BLOCK];
        for (sum, &start) in added.iter_mut().zip(start) {
            *sum = start;
        }
        for row in 0..taps.rows {
            let [mut x_at, mut w_at] = taps.row_stride.map(|stride| row * stride + first);
            for _ in 0..taps.columns {
                let x = taps.input.get(x_at..x_at + sums.len()).unwrap_or(&[]);
                let w = taps.weights.get(w_at..w_at + sums.len()).unwrap_or(&[]);
                for ((sum, &x), &w) in added.iter_mut().zip(x).zip(w) {
                    *sum = sum.wrapping_add((i32::from(x) + offset) * i32::from(w));
                }
                x_at += taps.column_stride[0];
                w_at += taps.column_stride[1];
            }
        }
        for (sum, added) in sums.iter_mut().zip(added) {
            *sum = added;
        }
    }
}

/// `output[o] = clamp(zero_point + sums[o] * multiplier[o])`, rounded twice as convolutions round
/// ([`Multiplier::apply`]). Biases are in the sums.
#[derive(Debug)]
pub struct Requantizer<'a>(Requantization<'a>);

impl<'a> Requantizer<'a> {
    /// Prepares what every pixel needs.
    pub fn new(requantization: Requantization<'a>) -> Self {
        Self(requantization)
    }

    /// Scales one pixel's sums.
    pub fn run(&mut self, sums: &[i32], output: &mut [i8]) {
        finish(sums, &self.0, output, apply);
    }
}

/// The same, in double precision as fully connected layers ([`Multiplier::apply_as_double`]); `real` is an output's
/// factor.
pub fn requantize_as_double(
    sums: &[i32],
    requantization: &Requantization,
    real: impl Fn(usize) -> f64,
    output: &mut [i8],
) {
    let mut place = 0..;
    finish(sums, requantization, output, |x, mantissa, shift| {
        let output = place.next().unwrap_or(0);
        apply_as_double(x, mantissa, shift, || real(output))
    });
}

#[inline]
fn finish(
    sums: &[i32],
    requantization: &Requantization,
    output: &mut [i8],
    mut scale: impl FnMut(i32, i32, i32) -> i32,
) {
    let zero_point = requantization.output_zero_point;
    // Clamped before the zero point is added, so that nothing overflows.
    let [low, high] = requantization.clamp.map(|bound| i32::from(bound).wrapping_sub(zero_point));
    let multipliers = requantization.mantissas.iter().zip(requantization.shifts);
    for ((y, &sum), (&mantissa, &shift)) in output.iter_mut().zip(sums).zip(multipliers) {
        let steps = scale(sum, mantissa, shift).max(low).min(high);
        // In the clamp's range, which is int8.
        *y = steps.wrapping_add(zero_point) as i8;
    }
}

/// [`Multiplier::apply`] in fewer instructions: for a mantissa that is not negative and a shift to the right by
/// `e` bits. The doubled high product rounds half up, `(p + 2^30) >> 31`: gemmlowp's nudge and truncation come to
/// the same for products of either sign. It is above -2^31 and below 2^31 - 1, so that the second rounding, half
/// away from zero, can be `(((x - (x < 0)) >> (e - 1)) + 1) >> 1` without overflow.
#[inline]
fn apply(x: i32, mantissa: i32, shift: i32) -> i32 {
    if !(-31..0).contains(&shift) {
        return Multiplier { mantissa, shift }.apply(x);
    }
    let high = ((i64::from(x) * i64::from(mantissa) + (1 << 30)) >> 31) as i32;
    let toward_zero = high.wrapping_add(high >> 31);
    // !shift is e - 1, at most 30.
    (toward_zero >> (!shift & 31)).wrapping_add(1) >> 1
}

/// [`Multiplier::apply_as_double`] in fewer instructions: the product's high word decides, unless the product lies
/// within 2^32 of a half. `|x|` is at most 2^31, so that the double product need not be asked before.
#[inline]
fn apply_as_double(x: i32, mantissa: i32, shift: i32, real: impl FnOnce() -> f64) -> i32 {
    // Bits of the high word behind the point.
    let bits = -1 - shift;
    if (1..=30).contains(&bits) {
        let high = ((i64::from(x) * i64::from(mantissa)) >> 32) as i32;
        // At most 2^30 and 2^29.
        let raised = high.wrapping_add(1 << (bits - 1));
        let mask = (1 << bits) - 1;
        if raised.wrapping_add(1) & mask > 1 {
            return raised >> bits;
        }
    }
    exactly(x, Multiplier { mantissa, shift }, real)
}

/// Apart, so that what is rarely needed takes no registers.
#[cold]
#[inline(never)]
fn exactly(x: i32, multiplier: Multiplier, real: impl FnOnce() -> f64) -> i32 {
    multiplier.apply_as_double(x, real)
}

/// `sum (x[i] + offset) * w[i]` over the shorter length, wrapping: for kernels that share no work between outputs.
#[inline]
pub fn dot(x: &[i8], offset: i32, w: &[i8]) -> i32 {
    x.iter().zip(w).fold(0i32, |sum, (&x, &w)| {
        // |x + offset| <= 255 and |w| <= 128: the product cannot overflow.
        sum.wrapping_add((i32::from(x) + offset) * i32::from(w))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Multiplier;

    /// Accumulators around every tie of a multiplier, and the ends.
    fn accumulators(multiplier: Multiplier) -> impl Iterator<Item = i32> {
        let ties = (-40i64..40).flat_map(move |n| {
            let scale = i64::from(multiplier.mantissa.max(1));
            let tie = ((2 * n + 1) << (30 - multiplier.shift).clamp(0, 61)) / scale;
            (-2..3).map(move |d| (tie + d).clamp(i32::MIN.into(), i32::MAX.into()) as i32)
        });
        let ends = [i32::MIN, i32::MIN + 1, i32::MAX, i32::MAX - 1, -1, 0, 1, 1 << 30, -(1 << 30)];
        ties.chain(ends)
    }

    #[test]
    fn short_scalings_equal_the_specified_ones() {
        let mantissas = [0, 1 << 30, (1 << 30) + 1, 0x5555_5555, 0x6000_0000, i32::MAX - 1, i32::MAX];
        for shift in -31..=30 {
            for mantissa in mantissas {
                let multiplier = Multiplier { mantissa, shift };
                for x in accumulators(multiplier) {
                    assert_eq!(apply(x, mantissa, shift), multiplier.apply(x), "{x} {multiplier:?}");
                    // The mantissa is the nearest to the factor, not the factor itself.
                    let bits = if mantissa == 0 { 0.0 } else { f64::from(mantissa) + 0.3 };
                    let real = bits * libm::exp2(f64::from(shift - 31));
                    let expected = multiplier.apply_as_double(x, || real);
                    let found = apply_as_double(x, mantissa, shift, || real);
                    assert_eq!(found, expected, "{x} {multiplier:?}");
                }
            }
        }
    }
}
