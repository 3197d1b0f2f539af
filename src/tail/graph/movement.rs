//! MOVE, which copies a box of elements, and FILL, forward and backward, in f32.

use super::{check_untrained, keeps_nothing};
use crate::op::Move;
use crate::optim::BiasTreatment;
use crate::pack::{NodeOp, NodePass};

pub(super) static MOVE: NodeOp =
    NodeOp { forward, backward, keeps: keeps_nothing, check: check_untrained, inputs: 1 };

pub(super) static FILL: NodeOp = NodeOp {
    forward: fill,
    backward: |_, _, _, _, _| {},
    keeps: keeps_nothing,
    check: check_untrained,
    inputs: 0,
};

/// Copies the box, out of constants perhaps.
fn forward(pass: &NodePass, workspace: &mut [f32]) {
    let Some(movement) = Move::read(pass.pack.parameters(&pass.node.operator)) else { return };
    let [from, _] = pass.tensors();
    if from.constant {
        let x = pass.pack.int8(from.arena_offset, from.len());
        return copy(&movement, x, |&x| from.affine.dequantize(x), pass.output(workspace));
    }
    if let Some([x, y]) = pass.activations(workspace) {
        copy(&movement, x, |&x| x, y);
    }
}

/// Adds the box's gradient to where it came from.
fn backward(pass: &NodePass, _: f32, _: BiasTreatment, workspace: &mut [f32], _: &mut [f32]) {
    let Some(movement) = Move::read(pass.pack.parameters(&pass.node.operator)) else { return };
    let Some([delta, d]) = pass.gradients(workspace) else { return };
    movement.for_each(|from, to| {
        if let (Some(&delta), Some(d)) = (delta.get(to), d.get_mut(from)) {
            *d += delta;
        }
    });
}

fn copy<T>(movement: &Move, x: &[T], value: impl Fn(&T) -> f32, y: &mut [f32]) {
    movement.for_each(|from, to| {
        if let (Some(x), Some(y)) = (x.get(from), y.get_mut(to)) {
            *y = value(x);
        }
    });
}

fn fill(pass: &NodePass, workspace: &mut [f32]) {
    let [_, to] = pass.tensors();
    let value = pass.pack.parameters(&pass.node.operator).first().copied().unwrap_or(0);
    pass.output(workspace).fill(to.affine.dequantize(crate::quant::saturate(value)));
}
