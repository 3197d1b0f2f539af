//! MEAN.

use crate::op::Mean;
use crate::quant::saturate;

/// `y = (mean of x over the axes - zero point) * scale ratio + zero point`, the axes of `extents` (NHWC) that are
/// averaged over having vanished from `output` or become 1.
///
/// ```
/// use flatmin::internals::{op::Mean, kernels::mean};
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
