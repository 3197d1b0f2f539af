//! RESIZE_NEAREST_NEIGHBOR, forward and backward, in f32.

use super::{check_untrained, keeps_nothing};
use crate::optim::BiasTreatment;
use crate::pack::{NodeOp, NodePass};

pub(super) static RESIZE_NEAREST: NodeOp =
    NodeOp { forward, backward, keeps: keeps_nothing, check: check_untrained, inputs: 1 };

/// Calls `each(first element of an input's pixel, first element of the output's, channels)`.
fn for_each_pixel(pass: &NodePass, mut each: impl FnMut(usize, usize, usize)) {
    let [from, to] = pass.tensors();
    let places = pass.pack.parameters(&pass.node.operator).split_at_checked(to.height);
    let Some((rows, columns)) = places else { return };
    let size = |place: i32| usize::try_from(place).unwrap_or(0);
    let mut to = 0;
    for &row in rows {
        for &column in columns {
            each((size(row) * from.width + size(column)) * from.channels, to, from.channels);
            to += from.channels;
        }
    }
}

fn forward(pass: &NodePass, workspace: &mut [f32]) {
    let Some([x, y]) = pass.activations(workspace) else { return };
    for_each_pixel(pass, |from, to, channels| {
        if let (Some(x), Some(y)) = (x.get(from..from + channels), y.get_mut(to..to + channels)) {
            y.copy_from_slice(x);
        }
    });
}

/// Adds every pixel's gradient to the pixel that it came from.
fn backward(pass: &NodePass, _: f32, _: BiasTreatment, workspace: &mut [f32], _: &mut [f32]) {
    let Some([delta, d]) = pass.gradients(workspace) else { return };
    for_each_pixel(pass, |from, to, channels| {
        if let (Some(d), Some(delta)) = (d.get_mut(from..from + channels), delta.get(to..to + channels)) {
            d.iter_mut().zip(delta).for_each(|(d, &delta)| *d += delta);
        }
    });
}
