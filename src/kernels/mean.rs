//! MEAN.

use crate::cpu::int8::{Pixels, add_pixels};
use crate::op::Mean;
use crate::quant::saturate;

/// Channels whose sums are kept at a time.
const BLOCK: usize = 32;

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
    let count: usize = averaged.iter().product();
    // At most 2^26 elements of at most 255: validation bounds both.
    let bias = zero_points[0].wrapping_mul(count as i32);
    let finish = |y: &mut i8, sum: i32| {
        let scaled = mean.multiplier.apply(sum.wrapping_sub(bias));
        *y = saturate(scaled.saturating_add(zero_points[1]));
    };
    // Where the values of a mean begin, or of the means of all channels.
    let starts = positions([kept[0], kept[1], kept[2]], strides);
    for (start, y) in starts.zip(output.chunks_mut(kept[3].max(1))) {
        let images =
            positions([averaged[0], 1, 1], strides).map(|image| input.get(start + image..).unwrap_or(&[]));
        if mean.axes[3] {
            let lines = images.flat_map(|image| {
                let pixels = positions([1, averaged[1], averaged[2]], strides);
                pixels.map(move |pixel| image.get(pixel..pixel + channels).unwrap_or(&[]))
            });
            let sum = lines.flatten().fold(0i32, |sum, &x| sum.wrapping_add(x.into()));
            y.iter_mut().for_each(|y| finish(y, sum));
            continue;
        }
        for (block, y) in y.chunks_mut(BLOCK).enumerate() {
            let mut sums = [0; BLOCK];
            let sums = sums.get_mut(..y.len()).unwrap_or(&mut []);
            for image in images.clone() {
                let pixels = Pixels::new(image, [averaged[1], averaged[2]], [strides[1], strides[2]]);
                add_pixels(pixels.after(block * BLOCK), sums);
            }
            y.iter_mut().zip(sums).for_each(|(y, &mut sum)| finish(y, sum));
        }
    }
}

/// Places of all pixels of a box, in order.
fn positions([n, h, w]: [usize; 3], strides: [usize; 4]) -> impl Iterator<Item = usize> + Clone {
    let [image, row, column, _] = strides;
    (0..n).flat_map(move |i| (0..h).flat_map(move |j| (0..w).map(move |k| i * image + j * row + k * column)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Every choice of axes, beside sums in f64.
    #[test]
    fn means_are_those_of_counting() {
        for axes in 0..16 {
            let axes = [0, 1, 2, 3].map(|axis| axes >> axis & 1 == 1);
            for extents in [[1, 25, 5, 64], [2, 3, 17, 37], [3, 1, 1, 5], [1, 17, 17, 3], [1, 4, 300, 6]] {
                let length = extents.iter().product::<usize>();
                let x: Vec<i8> = (0..length).map(|i| (i * i * 31 % 255) as u8 as i8).collect();
                let part =
                    |over: bool| [0, 1, 2, 3].map(|axis| if axes[axis] == over { extents[axis] } else { 1 });
                let (count, kept) = (part(true).iter().product::<usize>(), part(false));
                let mut sums = vec![0.0; kept.iter().product()];
                for (at, &x) in x.iter().enumerate() {
                    let mut rest = at;
                    let mut own = [0; 4];
                    for axis in (0..4).rev() {
                        own[axis] = if axes[axis] { 0 } else { rest % extents[axis] };
                        rest /= extents[axis];
                    }
                    let place = own.iter().zip(kept).fold(0, |place, (own, extent)| place * extent + own);
                    sums[place] += f64::from(x);
                }
                let mut y = vec![0; sums.len()];
                let of = Mean::new(1.0, 0.5, count, axes);
                mean(&x, extents, &of, [3, -2], &mut y);
                // Rounded twice: as a product, and when it is shifted.
                let most = 0.5001 + 2f64.powi(of.multiplier.shift.min(0) - 1);
                for (y, sum) in y.into_iter().zip(sums) {
                    let exact = (sum / count as f64 - 3.0) * 2.0 - 2.0;
                    let error = f64::from(y) - exact.clamp(-128.0, 127.0);
                    assert!(error.abs() <= most, "{axes:?} {extents:?}: {y}, {exact}");
                }
            }
        }
    }
}
