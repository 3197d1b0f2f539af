//! MEAN over some axes, forward and backward, in f32.

use super::{check_untrained, for_each_element, keeps_nothing, place};
use crate::op::Mean;
use crate::optim::BiasTreatment;
use crate::pack::{NodeOp, NodePass};

pub(super) static MEAN: NodeOp =
    NodeOp { forward, backward, keeps: keeps_nothing, check: check_untrained, inputs: 1 };

/// Calls `each(element, the mean that it counts to)`.
fn for_each_mean(extents: [usize; 4], averaged: [bool; 4], mut each: impl FnMut(usize, usize)) {
    let mut means = extents;
    for (extent, averaged) in means.iter_mut().zip(averaged) {
        *extent = if averaged { 1 } else { *extent };
    }
    for_each_element(extents, |index, at| each(index, place(means, at)));
}

/// One over the number of elements of one mean.
fn share(extents: [usize; 4], averaged: [bool; 4]) -> f32 {
    let counted = extents.into_iter().zip(averaged).filter(|(_, averaged)| *averaged);
    1.0 / counted.map(|(extent, _)| extent).product::<usize>().max(1) as f32
}

/// `y = mean of x over the averaged axes`.
fn forward(pass: &NodePass, workspace: &mut [f32]) {
    let Some(Mean { axes: averaged, .. }) = Mean::read(pass.pack.parameters(&pass.node.operator)) else {
        return;
    };
    let Some([x, y]) = pass.activations(workspace) else { return };
    let [input, _] = pass.tensors();
    let extents = input.extents();
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
fn backward(pass: &NodePass, _: f32, _: BiasTreatment, workspace: &mut [f32], _: &mut [f32]) {
    let Some(Mean { axes: averaged, .. }) = Mean::read(pass.pack.parameters(&pass.node.operator)) else {
        return;
    };
    let Some([delta, d]) = pass.gradients(workspace) else { return };
    let [input, _] = pass.tensors();
    let extents = input.extents();
    let share = share(extents, averaged);
    for_each_mean(extents, averaged, |to, from| {
        if let (Some(&delta), Some(d)) = (delta.get(from), d.get_mut(to)) {
            *d += share * delta;
        }
    });
}
