//! AVERAGE_POOL_2D, MAX_POOL_2D and MEAN, forward and backward, in f32. Activations are HWC.

use crate::op::{Axis, Shape, Window};

/// Calls `each(first element of the pixel in the output, first elements of the pixels under the window)`.
fn for_each_window(
    window: &Window,
    input: Shape,
    output: Shape,
    mut each: impl FnMut(usize, &mut dyn Iterator<Item = usize>, usize),
) {
    let vertical = Axis::new(window, 0, input.height, output.height);
    let horizontal = Axis::new(window, 1, input.width, output.width);
    for row in 0..output.height {
        let (rows, top) = vertical.inside(row);
        let rows = rows.len();
        for column in 0..output.width {
            let (columns, left) = horizontal.inside(column);
            let columns = columns.len();
            let mut pixels = (0..rows).flat_map(|r| {
                (0..columns).map(move |c| ((top + r) * input.width + left + c) * input.channels)
            });
            each((row * output.width + column) * output.channels, &mut pixels, rows * columns);
        }
    }
}

/// `y = mean of x under the window`; padding does not count.
pub fn average_forward(window: &Window, x: &[f32], input: Shape, y: &mut [f32], output: Shape) {
    for_each_window(window, input, output, |at, pixels, count| {
        let Some(y) = y.get_mut(at..at + output.channels) else { return };
        y.fill(0.0);
        for pixel in pixels {
            let x = x.get(pixel..).unwrap_or(&[]);
            y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
        }
        let share = 1.0 / count.max(1) as f32;
        y.iter_mut().for_each(|y| *y *= share);
    });
}

/// Adds `delta / count` to every element under the window.
pub fn average_backward(window: &Window, delta: &[f32], output: Shape, d: &mut [f32], input: Shape) {
    for_each_window(window, input, output, |at, pixels, count| {
        let Some(delta) = delta.get(at..at + output.channels) else { return };
        let share = 1.0 / count.max(1) as f32;
        for pixel in pixels {
            let d = d.get_mut(pixel..).unwrap_or(&mut []);
            d.iter_mut().zip(delta).for_each(|(d, &delta)| *d += share * delta);
        }
    });
}

/// `y = largest x under the window`. NaN passes through.
pub fn max_forward(window: &Window, x: &[f32], input: Shape, y: &mut [f32], output: Shape) {
    for_each_window(window, input, output, |at, pixels, _| {
        let Some(y) = y.get_mut(at..at + output.channels) else { return };
        y.fill(f32::NEG_INFINITY);
        for pixel in pixels {
            let x = x.get(pixel..).unwrap_or(&[]);
            y.iter_mut().zip(x).for_each(|(y, &x)| {
                if x > *y || x.is_nan() {
                    *y = x;
                }
            });
        }
    });
}

/// Adds `delta` to the largest element under the window; of equals, to the first.
pub fn max_backward(window: &Window, x: &[f32], delta: &[f32], output: Shape, d: &mut [f32], input: Shape) {
    let vertical = Axis::new(window, 0, input.height, output.height);
    let horizontal = Axis::new(window, 1, input.width, output.width);
    for row in 0..output.height {
        let (rows, top) = vertical.inside(row);
        let rows = rows.len();
        for column in 0..output.width {
            let (columns, left) = horizontal.inside(column);
            let columns = columns.len();
            for channel in 0..output.channels {
                let places = (0..rows).flat_map(|r| {
                    (0..columns).map(move |c| ((top + r) * input.width + left + c) * input.channels + channel)
                });
                let (mut largest, mut at) = (f32::NEG_INFINITY, None);
                for place in places {
                    let value = x.get(place).copied().unwrap_or(f32::NEG_INFINITY);
                    if at.is_none() || value > largest {
                        (largest, at) = (value, Some(place));
                    }
                }
                let delta = delta.get((row * output.width + column) * output.channels + channel);
                if let (Some(d), Some(&delta)) = (at.and_then(|at| d.get_mut(at)), delta) {
                    *d += delta;
                }
            }
        }
    }
}

/// Element of the mean that element `[n, h, w, c]` counts to.
fn kept(extents: [usize; 4], averaged: [bool; 4], at: [usize; 4]) -> usize {
    let mut index = 0;
    for ((extent, averaged), at) in extents.into_iter().zip(averaged).zip(at) {
        if !averaged {
            index = index * extent + at;
        }
    }
    index
}

fn for_each_mean(extents: [usize; 4], averaged: [bool; 4], mut each: impl FnMut(usize, usize)) {
    let [images, height, width, channels] = extents;
    let mut index = 0;
    for n in 0..images {
        for h in 0..height {
            for w in 0..width {
                for c in 0..channels {
                    each(index, kept(extents, averaged, [n, h, w, c]));
                    index += 1;
                }
            }
        }
    }
}

/// One over the number of elements of one mean.
fn share(extents: [usize; 4], averaged: [bool; 4]) -> f32 {
    let counted = extents.into_iter().zip(averaged).filter(|(_, averaged)| *averaged);
    1.0 / counted.map(|(extent, _)| extent).product::<usize>().max(1) as f32
}

/// `y = mean of x over the averaged axes`.
pub fn mean_forward(x: &[f32], extents: [usize; 4], averaged: [bool; 4], y: &mut [f32]) {
    y.fill(0.0);
    for_each_mean(extents, averaged, |from, to| {
        if let (Some(&x), Some(y)) = (x.get(from), y.get_mut(to)) {
            *y += x;
        }
    });
    let share = share(extents, averaged);
    y.iter_mut().for_each(|y| *y *= share);
}

/// Adds `delta / count` to every element.
pub fn mean_backward(delta: &[f32], extents: [usize; 4], averaged: [bool; 4], d: &mut [f32]) {
    let share = share(extents, averaged);
    for_each_mean(extents, averaged, |to, from| {
        if let (Some(&delta), Some(d)) = (delta.get(from), d.get_mut(to)) {
            *d += share * delta;
        }
    });
}
