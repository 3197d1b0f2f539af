//! CONV_2D in groups: output channel o reads the input channels of its own group alone.

use super::Requantization;
use crate::cpu::int8;
use crate::op::{Axis, Shape, Window};

/// As `conv2d`, with the input's channels cut into `groups` of equal size, and the output's likewise. Weights
/// OHWI, I being the channels of one group.
#[allow(clippy::too_many_arguments)]
pub fn grouped_conv2d(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    groups: usize,
    weights: &[i8],
    requantization: &Requantization,
    output: &mut [i8],
    output_shape: Shape,
) {
    let offset = -requantization.input_zero_point;
    let channels = input_shape.channels / groups.max(1);
    let outputs = (output_shape.channels / groups.max(1)).max(1);
    let filter_size = (window.filter[0] * window.filter[1] * channels).max(1);
    let vertical = Axis::new(window, 0, input_shape.height, output_shape.height);
    let horizontal = Axis::new(window, 1, input_shape.width, output_shape.width);
    let pixels = output.chunks_exact_mut(output_shape.channels.max(1));
    for (index, pixel) in pixels.enumerate() {
        let (row, column) = (index / output_shape.width.max(1), index % output_shape.width.max(1));
        let (rows, top) = vertical.inside(row);
        let (columns, left) = horizontal.inside(column);
        let filters = weights.chunks_exact(filter_size);
        for (o, ((y, filter), &bias)) in pixel.iter_mut().zip(filters).zip(requantization.biases).enumerate()
        {
            let mut sum = bias;
            for i in 0..rows.len() {
                for j in 0..columns.len() {
                    let tap = (rows.start + i) * window.filter[1] + columns.start + j;
                    let w = filter.get(tap * channels..(tap + 1) * channels).unwrap_or(&[]);
                    let line = (top + i * window.dilation[0]) * input_shape.width;
                    let at = (line + left + j * window.dilation[1]) * input_shape.channels;
                    let x = input.get(at + o / outputs * channels..).unwrap_or(&[]);
                    sum = sum.wrapping_add(int8::dot(x, offset, w));
                }
            }
            let own = requantization.outputs(o, 1);
            int8::Requantizer::new(own).run(&[sum], core::slice::from_mut(y));
        }
    }
}
