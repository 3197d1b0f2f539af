//! The arithmetic of ADD, SUB, MUL, PRELU and SQUARED_DIFFERENCE on one pair of elements.

use crate::op::SumMultipliers;
use crate::quant::{Multiplier, saturate};

/// Places of zero and of the clamp in an element-wise operator of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZeroPoints {
    /// Zero point of the first operand.
    pub first: i32,
    /// Zero point of the second operand.
    pub second: i32,
    /// Zero point of the output.
    pub output: i32,
    /// Lowest and highest output.
    pub clamp: [i8; 2],
}

impl ZeroPoints {
    #[inline(always)]
    fn finish(&self, scaled: i32) -> i8 {
        // As `clamp`, which panics where the bounds are not ordered: the pack's validation sees to it that they are.
        let [low, high] = self.clamp;
        saturate(scaled.saturating_add(self.output)).max(low).min(high)
    }
}

/// Both operands of a sum at its common scale.
#[inline(always)]
fn scaled(a: i8, b: i8, multipliers: &SumMultipliers, zero: &ZeroPoints) -> (i32, i32) {
    const SPARE_BITS: u32 = SumMultipliers::SPARE_BITS;
    // At most 255 << 20 (383 where a zero point is out of int8, which validation excludes): no overflow.
    let a = multipliers.first.apply((i32::from(a) - zero.first) << SPARE_BITS);
    let b = multipliers.second.apply((i32::from(b) - zero.second) << SPARE_BITS);
    (a, b)
}

/// ADD.
#[inline(always)]
pub fn add(a: i8, b: i8, multipliers: &SumMultipliers, zero: &ZeroPoints) -> i8 {
    let (a, b) = scaled(a, b, multipliers, zero);
    zero.finish(multipliers.output.apply(a.wrapping_add(b)))
}

/// SUB.
#[inline(always)]
pub fn subtract(a: i8, b: i8, multipliers: &SumMultipliers, zero: &ZeroPoints) -> i8 {
    let (a, b) = scaled(a, b, multipliers, zero);
    zero.finish(multipliers.output.apply(a.wrapping_sub(b)))
}

/// MUL.
#[inline(always)]
pub fn multiply(a: i8, b: i8, multiplier: Multiplier, zero: &ZeroPoints) -> i8 {
    let product = (i32::from(a) - zero.first) * (i32::from(b) - zero.second);
    zero.finish(multiplier.apply(product))
}

/// SQUARED_DIFFERENCE.
#[inline(always)]
pub fn squared_difference(a: i8, b: i8, multipliers: &SumMultipliers, zero: &ZeroPoints) -> i8 {
    const BITS: u32 = SumMultipliers::SQUARE_BITS;
    // Half of 255 << 7 each at most: the square is below 2^30.
    let a = multipliers.first.apply((i32::from(a) - zero.first) << BITS);
    let b = multipliers.second.apply((i32::from(b) - zero.second) << BITS);
    let difference = a.wrapping_sub(b);
    zero.finish(multipliers.output.apply(difference.wrapping_mul(difference)))
}

/// PRELU: `x` where it is not negative, else `x * alpha`.
#[inline(always)]
pub fn prelu(x: i8, alpha: i8, identity: Multiplier, slope: Multiplier, zero: &ZeroPoints) -> i8 {
    let x = i32::from(x) - zero.first;
    if x >= 0 {
        zero.finish(identity.apply(x))
    } else {
        zero.finish(slope.apply(x * (i32::from(alpha) - zero.second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: ZeroPoints = ZeroPoints { first: -1, second: 2, output: 3, clamp: [-100, 100] };

    #[test]
    fn sums_by_hand() {
        // (10 + 1) * 0.5 + (7 - 2) * 0.25 = 6.75; in steps of 0.5: 13.5, away from zero 14, + 3.
        let multipliers = SumMultipliers::new(0.5, 0.25, 0.5).unwrap();
        assert_eq!(add(10, 7, &multipliers, &ZERO), 17);
        // 5.5 - 1.25 = 4.25: 8.5 steps, 9, + 3.
        assert_eq!(subtract(10, 7, &multipliers, &ZERO), 12);
        assert_eq!(add(127, 127, &multipliers, &ZERO), 100);
        assert_eq!(SumMultipliers::read(&multipliers.words()), Some(multipliers));
        assert_eq!(SumMultipliers::new(1.0, 1.0, 1e-6), None);
    }

    #[test]
    fn squares_by_hand() {
        // (11 * 0.5 - 5 * 0.25)^2 = 18.06; in steps of 0.5: 36, + 3.
        let multipliers = SumMultipliers::of_squares(0.5, 0.25, 0.5);
        assert_eq!(squared_difference(10, 7, &multipliers, &ZERO), 39);
        assert_eq!(squared_difference(127, -128, &multipliers, &ZERO), 100);
    }

    #[test]
    fn products_by_hand() {
        // 11 * 5 = 55, times 0.25: 13.75, 14, + 3.
        assert_eq!(multiply(10, 7, Multiplier::from_real(0.25), &ZERO), 17);
        assert_eq!(multiply(-128, 127, Multiplier::from_real(1.0), &ZERO), -100);
    }

    #[test]
    fn prelu_by_hand() {
        let (identity, slope) = (Multiplier::from_real(1.0), Multiplier::from_real(0.125));
        assert_eq!(prelu(4, 7, identity, slope, &ZERO), 8);
        // -10 * 5 / 8 = -6.25: -6, + 3.
        assert_eq!(prelu(-11, 7, identity, slope, &ZERO), -3);
    }
}
