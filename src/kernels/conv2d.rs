//! CONV_2D.

use super::dot::dot;
use super::{Requantization, Shape, taps_inside};
use crate::pack::Window;
use crate::quant::Multiplier;

/// `y[r,c,o] = requantize(bias[o] + sum_{i,j,k} (x[r*s+i*d-p, c*s+j*d-p, k] - zero_point) * w[o,i,j,k])`,
/// taps outside the input left out. Input and output HWC, weights OHWI. Rounding and clamp: the
/// specification's section "Int8 quantized operator specifications", CONV_2D.
pub fn conv2d(
    input: &[i8],
    input_shape: Shape,
    window: &Window,
    weights: &[i8],
    requantization: &Requantization,
    output: &mut [i8],
    output_shape: Shape,
) {
    let offset = -requantization.input_zero_point;
    let channels = input_shape.channels;
    let [filter_height, filter_width] = window.filter;
    let filter_row = filter_width * channels;
    let pixels = output.chunks_exact_mut(output_shape.channels.max(1));
    for (index, pixel) in pixels.enumerate() {
        let (row, column) = (index / output_shape.width.max(1), index % output_shape.width.max(1));
        let (first_row, rows, top) = taps_inside(window, 0, row, input_shape.height);
        let (first_column, columns, left) = taps_inside(window, 1, column, input_shape.width);
        let filters = weights.chunks_exact((filter_height * filter_row).max(1));
        for (o, (y, filter)) in pixel.iter_mut().zip(filters).enumerate() {
            let mut sum = 0i32;
            for i in 0..rows {
                let line = (top + i * window.dilation[0]) * input_shape.width;
                let taps = (first_row + i) * filter_row + first_column * channels;
                if window.dilation[1] == 1 {
                    // Undilated taps of one row are neighbours in memory: one long dot product.
                    let x = input.get((line + left) * channels..).unwrap_or(&[]);
                    let w = filter.get(taps..taps + columns * channels).unwrap_or(&[]);
                    sum = sum.wrapping_add(dot(x, offset, w));
                } else {
                    for j in 0..columns {
                        let x = input.get((line + left + j * window.dilation[1]) * channels..).unwrap_or(&[]);
                        let at = taps + j * channels;
                        let w = filter.get(at..at + channels).unwrap_or(&[]);
                        sum = sum.wrapping_add(dot(x, offset, w));
                    }
                }
            }
            *y = requantization.finish(o, sum, Multiplier::apply);
        }
    }
}
