//! DEPTHWISE_CONV_2D.

use super::{Requantization, Shape, taps_inside};
use crate::pack::Window;
use crate::quant::Multiplier;

/// Output channels summed side by side.
const BLOCK: usize = 8;

/// `y[r,c,o] = requantize(bias[o] + sum_{i,j} (x[r*s+i*d-p, c*s+j*d-p, o / m] - zero_point) * w[i,j,o])` with
/// the depth multiplier m, taps outside the input left out. Input and output HWC, weights 1HWC.
#[allow(clippy::too_many_arguments)]
pub fn depthwise_conv2d(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    depth_multiplier: usize,
    weights: &[i8],
    requantization: &Requantization,
    output: &mut [i8],
    output_shape: Shape,
) {
    let offset = -requantization.input_zero_point;
    let multiplier = depth_multiplier.max(1);
    let outputs = output_shape.channels.max(1);
    for (index, pixel) in output.chunks_exact_mut(outputs).enumerate() {
        let (row, column) = (index / output_shape.width.max(1), index % output_shape.width.max(1));
        let (first_row, rows, top) = taps_inside(window, 0, row, input_shape.height);
        let (first_column, columns, left) = taps_inside(window, 1, column, input_shape.width);
        for (block, values) in pixel.chunks_mut(BLOCK).enumerate() {
            let first_output = block * BLOCK;
            let mut sums = [0i32; BLOCK];
            for i in 0..rows {
                for j in 0..columns {
                    let x_at =
                        ((top + i * window.dilation[0]) * input_shape.width + left + j * window.dilation[1])
                            * input_shape.channels;
                    let w_at =
                        ((first_row + i) * window.filter[1] + first_column + j) * outputs + first_output;
                    let w = weights.get(w_at..w_at + values.len()).unwrap_or(&[]);
                    if multiplier == 1 {
                        let x = input.get(x_at + first_output..).unwrap_or(&[]);
                        for ((sum, &w), &x) in sums.iter_mut().zip(w).zip(x) {
                            *sum = sum.wrapping_add((i32::from(x) + offset) * i32::from(w));
                        }
                    } else {
                        for (lane, (sum, &w)) in sums.iter_mut().zip(w).enumerate() {
                            let channel = (first_output + lane) / multiplier;
                            let x = input.get(x_at + channel).copied().unwrap_or(0);
                            *sum = sum.wrapping_add((i32::from(x) + offset) * i32::from(w));
                        }
                    }
                }
            }
            for (lane, (y, sum)) in values.iter_mut().zip(sums).enumerate() {
                *y = requantization.finish(first_output + lane, sum, Multiplier::apply);
            }
        }
    }
}
