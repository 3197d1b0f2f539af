//! MEAN.

use crate::quant::{Multiplier, saturate};

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

/// `y = (mean of x over the axes - zero point) * scale ratio + zero point`, the axes of `extents` (NHWC) that are
/// averaged over having vanished from `output` or become 1.
///
/// ```
/// use flatmin::kernels::{Mean, mean};
/// // Two pixels of two channels: 5 / 2 rounds to 3, -3 / 2 to -1: ties go up.
/// let over_the_image = Mean::new(1.0, 1.0, 2, [false, true, true, false]);
/// let mut y = [0; 2];
/// mean(&[1, -3, 4, 0], [1, 1, 2, 2], &over_the_image, [0, 0], &mut y);
/// assert_eq!(y, [3, -1]);
/// ```
pub fn mean(input: &[i8], extents: [usize; 4], mean: &Mean, zero_points: [i32; 2], output: &mut [i8]) {
    let pick = |over: bool| {
        let mut picked = extents;
        for (extent, &averaged) in picked.iter_mut().zip(&mean.axes) {
            if averaged != over {
                *extent = 1;
            }
        }
        picked
    };
    let (kept, averaged) = (pick(false), pick(true));
    let [_, height, width, channels] = extents;
    let strides = [height * width * channels, width * channels, channels, 1];
    // Element `index` of the box that keeps some axes at full length, as a place in the input.
    let place = |extents: [usize; 4], mut index: usize| {
        let mut at = 0;
        for (extent, stride) in extents.into_iter().zip(strides).rev() {
            at += index % extent.max(1) * stride;
            index /= extent.max(1);
        }
        at
    };
    let count: usize = averaged.iter().product();
    // At most 2^26 elements of at most 255: validation bounds both.
    let bias = zero_points[0].wrapping_mul(count as i32);
    for (index, y) in output.iter_mut().enumerate() {
        let start = place(kept, index);
        let sum = (0..count).fold(0i32, |sum, i| {
            let x = input.get(start + place(averaged, i)).copied().unwrap_or(0);
            sum.wrapping_add(x.into())
        });
        let scaled = mean.multiplier.apply(sum.wrapping_sub(bias));
        *y = saturate(scaled.saturating_add(zero_points[1]));
    }
}
