//! Operators that move elements, forward and backward, in f32.

use crate::op::Move;
use crate::quant::Affine;

/// Calls `each(element of the input, element of the output)`.
fn for_each(movement: &Move, mut each: impl FnMut(usize, usize)) {
    let [n, h, w, c] = movement.extents;
    let place = |first: usize, strides: [isize; 4], steps: [usize; 4]| {
        // Wrapping: what wraps around lies outside of the slices.
        strides
            .into_iter()
            .zip(steps)
            .fold(first, |at, (stride, step)| at.wrapping_add_signed(stride.wrapping_mul(step.cast_signed())))
    };
    for i in 0..n {
        for j in 0..h {
            for k in 0..w {
                for l in 0..c {
                    let steps = [i, j, k, l];
                    each(
                        place(movement.from, movement.from_strides, steps),
                        place(movement.to, movement.to_strides, steps),
                    );
                }
            }
        }
    }
}

/// Copies the box.
pub fn forward(movement: &Move, x: &[f32], y: &mut [f32]) {
    for_each(movement, |from, to| {
        if let (Some(&x), Some(y)) = (x.get(from), y.get_mut(to)) {
            *y = x;
        }
    });
}

/// Copies the box out of constants.
pub fn forward_constant(movement: &Move, x: &[i8], affine: Affine, y: &mut [f32]) {
    for_each(movement, |from, to| {
        if let (Some(&x), Some(y)) = (x.get(from), y.get_mut(to)) {
            *y = affine.dequantize(x);
        }
    });
}

/// Adds the box's gradient to where it came from.
pub fn backward(movement: &Move, delta: &[f32], d: &mut [f32]) {
    for_each(movement, |from, to| {
        if let (Some(&delta), Some(d)) = (delta.get(to), d.get_mut(from)) {
            *d += delta;
        }
    });
}

/// Calls `each(first element of an input's pixel, first element of the output's)` for a nearest-neighbour
/// resize.
fn for_each_pixel(
    width: usize,
    channels: usize,
    rows: &[i32],
    columns: &[i32],
    mut each: impl FnMut(usize, usize),
) {
    let size = |place: i32| usize::try_from(place).unwrap_or(0);
    let mut to = 0;
    for &row in rows {
        for &column in columns {
            each((size(row) * width + size(column)) * channels, to);
            to += channels;
        }
    }
}

/// RESIZE_NEAREST_NEIGHBOR of an image of `width` pixels a row: `rows` and `columns` name the input's pixel.
pub fn resize_forward(
    width: usize,
    channels: usize,
    rows: &[i32],
    columns: &[i32],
    x: &[f32],
    y: &mut [f32],
) {
    for_each_pixel(width, channels, rows, columns, |from, to| {
        if let (Some(x), Some(y)) = (x.get(from..from + channels), y.get_mut(to..to + channels)) {
            y.copy_from_slice(x);
        }
    });
}

/// Adds every pixel's gradient to the pixel that it came from.
pub fn resize_backward(
    width: usize,
    channels: usize,
    rows: &[i32],
    columns: &[i32],
    delta: &[f32],
    d: &mut [f32],
) {
    for_each_pixel(width, channels, rows, columns, |from, to| {
        if let (Some(d), Some(delta)) = (d.get_mut(from..from + channels), delta.get(to..to + channels)) {
            d.iter_mut().zip(delta).for_each(|(d, &delta)| *d += delta);
        }
    });
}
