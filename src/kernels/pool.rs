//! AVERAGE_POOL_2D and MAX_POOL_2D.

use crate::op::{Axis, Shape, Window};
use crate::quant::saturate;

/// For every output element: `combine` from `start` over the values inside its window, then
/// `finish(state, number of values)`.
#[allow(clippy::too_many_arguments)]
fn for_each_window(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    output: &mut [i8],
    output_shape: Shape,
    start: i32,
    combine: impl Fn(i32, i32) -> i32,
    finish: impl Fn(i32, i32) -> i32,
) {
    let vertical = Axis::new(window, 0, input_shape.height, output_shape.height);
    let horizontal = Axis::new(window, 1, input_shape.width, output_shape.width);
    for (index, pixel) in output.chunks_exact_mut(output_shape.channels.max(1)).enumerate() {
        let (row, column) = (index / output_shape.width.max(1), index % output_shape.width.max(1));
        let (rows, top) = vertical.inside(row);
        let (columns, left) = horizontal.inside(column);
        let (rows, columns) = (rows.len(), columns.len());
        let taps = (rows * columns) as i32;
        for (channel, y) in pixel.iter_mut().enumerate() {
            let mut state = start;
            for i in 0..rows {
                for j in 0..columns {
                    let at = ((top + i) * input_shape.width + left + j) * input_shape.channels + channel;
                    state = combine(state, i32::from(input.get(at).copied().unwrap_or(0)));
                }
            }
            *y = saturate(finish(state, taps));
        }
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
    let mean = |sum: i32, taps: i32| {
        let half = if sum > 0 { taps / 2 } else { -taps / 2 };
        (sum.wrapping_add(half) / taps.max(1)).max(low).min(high)
    };
    for_each_window(input, input_shape, window, output, output_shape, 0, i32::wrapping_add, mean);
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
    let [low, high] = clamp.map(i32::from);
    for_each_window(input, input_shape, window, output, output_shape, -128, i32::max, |m, _| {
        m.max(low).min(high)
    });
}
