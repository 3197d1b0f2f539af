//! DEPTHWISE_CONV_2D.

use super::Requantization;
use crate::cpu::int8::{self, Taps};
use crate::op::{Axis, Shape, Window};

/// Output channels summed before they are scaled.
const CHANNELS: usize = 64;

/// `y[r,c,o] = requantize(bias[o] + sum_{i,j} (x[r*s+i*d-p, c*s+j*d-p, o / m] - zero_point) * w[i,j,o])` with
/// the depth multiplier m, taps outside the input left out. Input and output HWC, weights 1HWC.
// Its buffers are on the stack: inlined, they would be there for as long as the caller's.
#[inline(never)]
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
    let multiplier = depth_multiplier.max(1);
    let (inputs, outputs) = (input_shape.channels, output_shape.channels);
    let line = input_shape.width * inputs;
    let row_stride = [window.dilation[0] * line, window.filter[1] * outputs];
    let column_stride = [window.dilation[1] * inputs, outputs];
    let offset = -requantization.input_zero_point;
    let vertical = Axis::new(window, 0, input_shape.height, output_shape.height);
    let horizontal = Axis::new(window, 1, input_shape.width, output_shape.width);
    let mut sums = [0i32; CHANNELS];
    for first in (0..outputs).step_by(CHANNELS) {
        let own = requantization.outputs(first, CHANNELS.min(outputs - first));
        let Some(sums) = sums.get_mut(..own.biases.len()) else { return };
        let mut requantizer = int8::Requantizer::new(own);
        let mut pixels = output.chunks_exact_mut(outputs);
        for row in 0..output_shape.height {
            let (rows, top) = vertical.inside(row);
            let x = input.get(top * line..).unwrap_or(&[]);
            let w = weights.get(rows.start * row_stride[1] + first..).unwrap_or(&[]);
            for column in 0..output_shape.width {
                let (columns, left) = horizontal.inside(column);
                let input = x.get(left * inputs + if multiplier == 1 { first } else { 0 }..).unwrap_or(&[]);
                let weights = w.get(columns.start * outputs..).unwrap_or(&[]);
                let taps = Taps {
                    input,
                    weights,
                    rows: rows.len(),
                    columns: columns.len(),
                    row_stride,
                    column_stride,
                };
                if multiplier == 1 {
                    int8::depthwise(taps, offset, own.biases, sums);
                } else {
                    sums.copy_from_slice(own.biases);
                    widened(taps, first, multiplier, offset, sums);
                }
                let pixel = pixels.next().and_then(|pixel| pixel.get_mut(first..first + sums.len()));
                requantizer.run(sums, pixel.unwrap_or(&mut []));
            }
        }
    }
}

/// Several outputs an input channel; output `o` of the whole reads channel `o / multiplier`.
fn widened(taps: Taps, first: usize, multiplier: usize, offset: i32, sums: &mut [i32]) {
    for row in 0..taps.rows {
        let [mut x_at, mut w_at] = taps.row_stride.map(|stride| row * stride);
        for _ in 0..taps.columns {
            let x = taps.input.get(x_at + first / multiplier..).unwrap_or(&[]);
            let mut w = taps.weights.get(w_at..).unwrap_or(&[]).iter();
            let mut sums = sums.iter_mut();
            // The first channel may have had outputs in the block before.
            let mut left = multiplier - first % multiplier;
            for &x in x {
                let x = i32::from(x) + offset;
                for (sum, &w) in sums.by_ref().take(left).zip(w.by_ref()) {
                    *sum = sum.wrapping_add(x * i32::from(w));
                }
                if sums.len() == 0 {
                    break;
                }
                left = multiplier;
            }
            x_at += taps.column_stride[0];
            w_at += taps.column_stride[1];
        }
    }
}
