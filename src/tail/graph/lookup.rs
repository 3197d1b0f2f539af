//! LOOKUP: the function that its table stands for, in f32.

use super::check_untrained;
use crate::optim::BiasTreatment;
use crate::pack::{Function, Keeps, NodeOp, NodePass};

pub(super) static LOOKUP: NodeOp = NodeOp { forward, backward, keeps, check: check_untrained, inputs: 1 };

fn forward(pass: &NodePass, workspace: &mut [f32]) {
    let (function, beta) = (pass.node.function, pass.node.operator.beta);
    if let Some([x, y]) = pass.activations(workspace) {
        y.iter_mut().zip(x).for_each(|(y, &mut x)| *y = function.of(x, beta));
    }
}

/// `d += delta * function'`, by the activation that is kept.
fn backward(pass: &NodePass, _: f32, _: BiasTreatment, workspace: &mut [f32], _: &mut [f32]) {
    let NodePass { node, .. } = pass;
    let kept = match keeps(node.function, 0) {
        Keeps::NOTHING => {
            let Some([delta, d]) = pass.gradients(workspace) else { return };
            return d.iter_mut().zip(delta).for_each(|(d, &mut delta)| *d += delta);
        }
        Keeps { output: true, .. } => &node.output,
        _ => match &node.input {
            Some(input) => input,
            None => return,
        },
    };
    let Some([kept, delta, d]) = pass.gradients_at(&kept.activation, workspace) else { return };
    for ((d, &mut kept), &mut delta) in d.iter_mut().zip(kept).zip(delta) {
        *d += delta * node.function.slope(kept, kept, node.operator.beta);
    }
}

fn keeps(function: Function, _: u16) -> Keeps {
    match function {
        Function::Identity => Keeps::NOTHING,
        function if function.needs_input() => Keeps::INPUTS,
        _ => Keeps::OUTPUT,
    }
}
