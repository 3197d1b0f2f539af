//! The parameters of MEAN.

use crate::quant::Multiplier;

/// MEAN's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mean {
    /// Scale of the input over scale of the output, divided by the number of elements of one mean.
    pub multiplier: Multiplier,
    /// Whether each axis (N, H, W, C) is averaged over.
    pub axes: [bool; 4],
}

impl Mean {
    /// Words of [`Self::words`].
    pub const WORDS: usize = 6;

    /// Prepares the operator for means of `count` elements: the reference kernel divides the mantissa, made
    /// longer by as many bits as the division eats, rounding down.
    pub fn new(input_scale: f32, output_scale: f32, count: usize, axes: [bool; 4]) -> Self {
        let Multiplier { mantissa, shift } =
            Multiplier::from_real(f64::from(input_scale) / f64::from(output_scale));
        let count = count.max(1);
        let bits = (usize::BITS - 1 - count.leading_zeros()).min(32).min((31 + shift).max(0).cast_unsigned());
        // Below 2^31: the mantissa is, and 2^bits is at most count.
        let divided = (i64::from(mantissa) << bits) / count as i64;
        let mantissa = i32::try_from(divided).unwrap_or(i32::MAX);
        Self { multiplier: Multiplier { mantissa, shift: shift - bits.cast_signed() }, axes }
    }

    /// As a pack keeps it.
    pub fn words(&self) -> [i32; Self::WORDS] {
        let [n, h, w, c] = self.axes.map(i32::from);
        [self.multiplier.mantissa, self.multiplier.shift, n, h, w, c]
    }

    /// Reads [`Self::words`].
    pub fn read(words: &[i32]) -> Option<Self> {
        let &[mantissa, shift, n, h, w, c] = words else { return None };
        Some(Self { multiplier: Multiplier { mantissa, shift }, axes: [n, h, w, c].map(|axis| axis != 0) })
    }
}
