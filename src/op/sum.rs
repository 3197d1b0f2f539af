//! The parameters of ADD, SUB and SQUARED_DIFFERENCE.

use crate::quant::Multiplier;

/// Multipliers of ADD and SUB: both operands are carried to twice the larger scale with 20 bits to spare,
/// summed, and carried to the output's scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumMultipliers {
    /// Multiplier of the first operand.
    pub first: Multiplier,
    /// Multiplier of the second operand.
    pub second: Multiplier,
    /// Multiplier of the sum.
    pub output: Multiplier,
}

impl SumMultipliers {
    /// Bits that a sum's operands are shifted up by before they are scaled.
    pub(crate) const SPARE_BITS: u32 = 20;

    /// Words of [`Self::words`].
    pub const WORDS: usize = 6;

    /// Prepares the operator from the scales of its operands and its output, in double precision; `None` where
    /// the reference kernels refuse them: the sum's multiplier must stay below 1.
    pub fn new(first: f32, second: f32, output: f32) -> Option<Self> {
        let [first, second, output] = [first, second, output].map(f64::from);
        let common = 2.0 * first.max(second);
        let sum = common / (f64::from(1u32 << Self::SPARE_BITS) * output);
        (sum < 1.0).then(|| Self {
            first: Multiplier::from_real(first / common),
            second: Multiplier::from_real(second / common),
            output: Multiplier::from_real(sum),
        })
    }

    /// Bits that a squared difference's operands are shifted up by before they are scaled.
    pub(crate) const SQUARE_BITS: u32 = 7;

    /// Multipliers of SQUARED_DIFFERENCE.
    pub fn of_squares(first: f32, second: f32, output: f32) -> Self {
        // Times a power of two: exact.
        let output = f64::from((1 << (2 * Self::SQUARE_BITS)) as f32 * output);
        let [first, second] = [first, second].map(f64::from);
        let common = 2.0 * first.max(second);
        Self {
            first: Multiplier::from_real(first / common),
            second: Multiplier::from_real(second / common),
            output: Multiplier::from_real(common * common / output),
        }
    }

    /// As a pack keeps it: mantissa and shift of the operands and of the sum.
    pub fn words(&self) -> [i32; Self::WORDS] {
        let [a, b, y] = [self.first, self.second, self.output];
        [a.mantissa, a.shift, b.mantissa, b.shift, y.mantissa, y.shift]
    }

    /// Reads [`Self::words`].
    pub fn read(words: &[i32]) -> Option<Self> {
        let &[first, a, second, b, output, y] = words else { return None };
        let multiplier = |mantissa, shift| Multiplier { mantissa, shift };
        Some(Self {
            first: multiplier(first, a),
            second: multiplier(second, b),
            output: multiplier(output, y),
        })
    }
}
