//! How differences to the weights in flash are kept: a byte with fractional bits by channel, and sums of weight, difference and
//! ascent with [`SUM_BITS`].

use super::gradient::round_shift;
use crate::compact::number::Factor;
use crate::math;
use crate::pack::TrainedRow;

/// Fractional bits of a difference in the factory's tail, the most that there are.
pub(super) const MOST_BITS: i8 = 7;
/// The fewest: a difference of 127 is then 254 steps, as far as two weights can be apart.
pub(super) const LEAST_BITS: i8 = -1;
/// Fractional bits of a bias.
pub(super) const BIAS_BITS: u32 = 8;
/// Largest difference of a bias: with what is in flash it stays in 31 bits.
pub(super) const LARGEST_BIAS: i32 = 1 << 30;
/// Fractional bits of a sum of weight, difference and ascent.
pub(super) const SUM_BITS: u32 = 16;

/// `round(q + d 2^-bits + e)`, the difference's shift being [`SUM_BITS`] less its bits, `e` with as many fractional bits.
#[inline(always)]
pub(super) fn effective(q: i8, d: i8, shift: u32, e: i32) -> i8 {
    let sum = (i32::from(q) << SUM_BITS) + (i32::from(d) << shift);
    round_shift(sum.saturating_add(e), SUM_BITS).clamp(-127, 127) as i8
}

/// A bias's difference in steps of the layer's sums, as it is kept.
pub(super) fn bias_steps(moved: f64) -> i32 {
    // A float cast saturates.
    (math::round_double(moved * f64::from(1u32 << BIAS_BITS)) as i32).clamp(-LARGEST_BIAS, LARGEST_BIAS)
}

/// Factor of a ratio of scales: from steps of a tail's weight to 2^-[`SUM_BITS`] of a packed step.
pub(super) fn factor_of(ratio: f32) -> Factor {
    Factor::new(ratio * (1u32 << SUM_BITS) as f32)
}

/// Difference of a tail's weight to the packed one, with [`SUM_BITS`] fractional bits.
#[inline(always)]
pub(super) fn difference(ratio: Factor, own: i8, packed: i8) -> i64 {
    i64::from(ratio.apply(own.into())) - (i64::from(packed) << SUM_BITS)
}

/// Weights are at most 254 packed steps apart, or saturate.
#[inline(always)]
pub(super) fn within(difference: i64) -> i32 {
    difference.clamp(-(254 << SUM_BITS), 254 << SUM_BITS) as i32
}

/// Most fractional bits that a channel's differences have room for: `difference(index among the trained weights, index among
/// all)`, with [`SUM_BITS`] fractional bits.
pub(super) fn bits_for(every: TrainedRow, difference: impl Fn(usize, usize) -> i64) -> i8 {
    let largest = every.map(|(own, at)| within(difference(own, at)).unsigned_abs()).max().unwrap_or(0);
    let fits = |bits: i8| round_shift(largest.cast_signed(), drop_of(bits)) <= 127;
    (LEAST_BITS..=MOST_BITS).rev().find(|&bits| fits(bits)).unwrap_or(LEAST_BITS)
}

/// A difference, given with [`SUM_BITS`] fractional bits, as it is kept with so many.
#[inline(always)]
pub(super) fn rounded(difference: i64, bits: i8) -> i8 {
    round_shift(within(difference), drop_of(bits)).clamp(-127, 127) as i8
}

/// Bits to drop of a difference with [`SUM_BITS`] fractional bits.
pub(super) fn drop_of(bits: i8) -> u32 {
    (SUM_BITS.cast_signed() - i32::from(bits)).cast_unsigned()
}

/// `2^bits`.
pub(super) fn power(bits: i8) -> f32 {
    if bits < 0 { 0.5 } else { (1u32 << bits) as f32 }
}

/// `x 2^bits`.
pub(super) fn shifted(x: i32, bits: i8) -> i32 {
    if bits < 0 { x / 2 } else { x << bits }
}
