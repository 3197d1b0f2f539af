//! AVERAGE_POOL_2D and MAX_POOL_2D.

use crate::cpu::int8::{Pixels, add_pixels};
use crate::op::{Axis, Shape, Window};
use crate::quant::saturate;

/// Channels whose sums are kept at a time.
const BLOCK: usize = 32;

/// Calls `each(pixels inside the window, how many they are, output pixel)` for every pixel of the output.
fn for_each_window(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    output: &mut [i8],
    output_shape: Shape,
    mut each: impl FnMut(Pixels, i32, &mut [i8]),
) {
    let vertical = Axis::new(window, 0, input_shape.height, output_shape.height);
    let horizontal = Axis::new(window, 1, input_shape.width, output_shape.width);
    let channels = input_shape.channels;
    for (index, pixel) in output.chunks_exact_mut(output_shape.channels.max(1)).enumerate() {
        let (row, column) = (index / output_shape.width.max(1), index % output_shape.width.max(1));
        let (rows, top) = vertical.inside(row);
        let (columns, left) = horizontal.inside(column);
        let first = (top * input_shape.width + left) * channels;
        let counts = [rows.len(), columns.len()];
        let steps = [input_shape.width * channels, channels];
        let pixels = Pixels::new(input.get(first..).unwrap_or(&[]), counts, steps);
        each(pixels, (rows.len() * columns.len()) as i32, pixel);
    }
}

/// The mean of the values inside each window, rounded half away from zero, clamped. Input and output share
/// scale and zero point.
pub fn average_pool2d(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    clamp: [i8; 2],
    output: &mut [i8],
    output_shape: Shape,
) {
    let [low, high] = clamp.map(i32::from);
    for_each_window(input, input_shape, window, output, output_shape, |pixels, taps, y| {
        for (block, y) in y.chunks_mut(BLOCK).enumerate() {
            let mut sums = [0; BLOCK];
            let sums = sums.get_mut(..y.len()).unwrap_or(&mut []);
            add_pixels(pixels.after(block * BLOCK), sums);
            for (y, &mut sum) in y.iter_mut().zip(sums) {
                let half = if sum > 0 { taps / 2 } else { -taps / 2 };
                *y = saturate((sum.wrapping_add(half) / taps.max(1)).max(low).min(high));
            }
        }
    });
}

/// The largest of the values inside each window, clamped.
pub fn max_pool2d(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    clamp: [i8; 2],
    output: &mut [i8],
    output_shape: Shape,
) {
    let [low, high] = clamp;
    for_each_window(input, input_shape, window, output, output_shape, |pixels, _, y| {
        y.fill(i8::MIN);
        pixels.fold(y, i8::max);
        y.iter_mut().for_each(|y| *y = (*y).max(low).min(high));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Means and maxima of windows, beside sums in f64 and sorted values, with every kind of border and number of channels.
    #[test]
    fn windows_are_those_that_counting_finds() {
        let mut seed = 1u32;
        let mut draw = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as usize % below
        };
        for _ in 0..400 {
            let from = Shape { height: 1 + draw(20), width: 1 + draw(20), channels: 1 + draw(70) };
            let window = Window {
                filter: [1 + draw(from.height), 1 + draw(from.width)],
                stride: [1 + draw(3), 1 + draw(3)],
                dilation: [1; 2],
                padding: [0; 2],
            };
            let window = Window { padding: window.filter.map(&mut draw), ..window };
            let extent = |axis: usize, input: usize| {
                (input + 2 * window.padding[axis] - window.filter[axis]) / window.stride[axis] + 1
            };
            let to = Shape { height: extent(0, from.height), width: extent(1, from.width), ..from };
            let x: Vec<i8> =
                (0..from.height * from.width * from.channels).map(|_| draw(256) as u8 as i8).collect();
            let clamp = [-100, 90];
            let mut found =
                [vec![0; to.height * to.width * to.channels], vec![0; to.height * to.width * to.channels]];
            let [means, maxima] = &mut found;
            average_pool2d(&x, from, &window, clamp, means, to);
            max_pool2d(&x, from, &window, clamp, maxima, to);
            for at in 0..means.len() {
                let (pixel, channel) = (at / to.channels, at % to.channels);
                let place = [pixel / to.width, pixel % to.width];
                let inside = |axis: usize, extent: usize| {
                    (0..window.filter[axis])
                        .filter_map(move |tap| {
                            (place[axis] * window.stride[axis] + tap).checked_sub(window.padding[axis])
                        })
                        .filter(move |&at| at < extent)
                };
                let values: Vec<i8> = inside(0, from.height)
                    .flat_map(|i| {
                        inside(1, from.width).map(move |j| (i * from.width + j) * from.channels + channel)
                    })
                    .map(|at| x[at])
                    .collect();
                let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64;
                assert_eq!(
                    f64::from(means[at]),
                    mean.round().clamp(-100.0, 90.0),
                    "{from:?} {window:?} {at}"
                );
                assert_eq!(
                    maxima[at],
                    (*values.iter().max().unwrap()).clamp(-100, 90),
                    "{from:?} {window:?} {at}"
                );
            }
        }
    }
}
