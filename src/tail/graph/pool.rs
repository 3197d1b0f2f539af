//! AVERAGE_POOL_2D and MAX_POOL_2D, forward and backward, in f32. Activations are HWC.

use super::{check_untrained, keeps_nothing};
use crate::op::{Axis, Shape, Window};
use crate::optim::BiasTreatment;
use crate::pack::{Keeps, NodeOp, NodePass};
use crate::part::Part;

pub(super) static AVERAGE: NodeOp = NodeOp {
    forward: average_forward,
    backward: average_backward,
    keeps: keeps_nothing,
    check: check_untrained,
    inputs: 1,
};

pub(super) static MAX: NodeOp = NodeOp {
    forward: max_forward,
    backward: max_backward,
    keeps: |_, _| Keeps::INPUTS,
    check: check_untrained,
    inputs: 1,
};

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
fn average_forward(pass: &NodePass, workspace: &mut [f32]) {
    let Some([x, y]) = pass.activations(workspace) else { return };
    let [input, output] = pass.tensors().map(|tensor| tensor.shape());
    let window = &pass.node.operator.window;
    for_each_window(window, input, output, |at, pixels, count| {
        let Some(y) = y.get_mut(at..at + output.channels) else { return };
        y.fill(0.0);
        for pixel in pixels {
            let x = x.part(pixel..);
            y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
        }
        let share = 1.0 / count.max(1) as f32;
        y.iter_mut().for_each(|y| *y *= share);
    });
}

/// Adds `delta / count` to every element under the window.
fn average_backward(pass: &NodePass, _: f32, _: BiasTreatment, workspace: &mut [f32], _: &mut [f32]) {
    let Some([delta, d]) = pass.gradients(workspace) else { return };
    let [input, output] = pass.tensors().map(|tensor| tensor.shape());
    let window = &pass.node.operator.window;
    for_each_window(window, input, output, |at, pixels, count| {
        let Some(delta) = delta.get(at..at + output.channels) else { return };
        let share = 1.0 / count.max(1) as f32;
        for pixel in pixels {
            let d = d.part_mut(pixel..);
            d.iter_mut().zip(delta).for_each(|(d, &delta)| *d += share * delta);
        }
    });
}

/// `y = largest x under the window`. NaN passes through.
fn max_forward(pass: &NodePass, workspace: &mut [f32]) {
    let Some([x, y]) = pass.activations(workspace) else { return };
    let [input, output] = pass.tensors().map(|tensor| tensor.shape());
    let window = &pass.node.operator.window;
    for_each_window(window, input, output, |at, pixels, _| {
        let Some(y) = y.get_mut(at..at + output.channels) else { return };
        y.fill(f32::NEG_INFINITY);
        for pixel in pixels {
            let x = x.part(pixel..);
            // No branch: which one is larger cannot be foretold.
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = if x > *y || x.is_nan() { x } else { *y });
        }
    });
}

/// Adds `delta` to the largest element under the window; of equals, to the first.
fn max_backward(pass: &NodePass, _: f32, _: BiasTreatment, workspace: &mut [f32], _: &mut [f32]) {
    let Some(x) = &pass.node.input else { return };
    let Some([x, delta, d]) = pass.gradients_at(&x.activation, workspace) else { return };
    let [input, output] = pass.tensors().map(|tensor| tensor.shape());
    let window = &pass.node.operator.window;
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
