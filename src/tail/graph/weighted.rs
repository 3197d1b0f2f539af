//! Convolutions, depthwise convolutions and fully connected layers of a tail, trained or frozen.

use super::{arrays, partial};
use crate::op::ConvShape;
use crate::optim::BiasTreatment;
use crate::pack::format::{node, operator};
use crate::pack::{Function, Keeps, NodeOp, NodePass, Pack, TailNode, check};
use crate::part::Part;
use crate::sound;
use crate::tail::kernels::{Sink, conv2d, depthwise};

/// CONV_2D and FULLY_CONNECTED.
pub(super) static CONVOLUTION: NodeOp = NodeOp {
    forward: |pass, workspace| forward(pass, &CONV2D_KERNELS, workspace),
    backward: |pass, scale, bias, workspace, gradient| {
        backward(pass, &CONV2D_KERNELS, scale, bias, workspace, gradient);
    },
    keeps,
    check: check_trained,
    inputs: 1,
};

/// DEPTHWISE_CONV_2D.
pub(super) static DEPTHWISE: NodeOp = NodeOp {
    forward: |pass, workspace| forward(pass, &DEPTHWISE_KERNELS, workspace),
    backward: |pass, scale, bias, workspace, gradient| {
        backward(pass, &DEPTHWISE_KERNELS, scale, bias, workspace, gradient);
    },
    keeps,
    check: |pack, node| {
        check(node.chosen.is_none(), "channels are chosen of what has none to choose")?;
        check_trained(pack, node)
    },
    inputs: 1,
};

/// Weights, biases, x, y.
type Forward<W> = fn(&ConvShape, &[W], &[f32], &[f32], &mut [f32]);

/// Weights, gradient by the output, what becomes of the gradient by the input, that gradient.
type BackwardInput<W> = fn(&ConvShape, &[W], &[f32], Sink, &mut [f32]);

/// What layers differ in: trained weights are f32, frozen ones int8.
pub(super) struct Kernels {
    pub forward: Forward<f32>,
    pub forward_frozen: Forward<i8>,
    pub backward_input: BackwardInput<f32>,
    pub backward_input_frozen: BackwardInput<i8>,
    /// Scale, x, gradient by the output, gradient by the weights.
    pub backward_weights: fn(&ConvShape, f32, &[f32], &[f32], &mut [f32]),
}

static CONV2D_KERNELS: Kernels = Kernels {
    forward: conv2d::forward,
    forward_frozen: conv2d::forward,
    backward_input: conv2d::backward_input,
    backward_input_frozen: conv2d::backward_input,
    backward_weights: conv2d::backward_weights,
};

static DEPTHWISE_KERNELS: Kernels = Kernels {
    forward: depthwise::forward,
    forward_frozen: depthwise::forward,
    backward_input: depthwise::backward_input,
    backward_input_frozen: depthwise::backward_input,
    backward_weights: depthwise::backward_weights,
};

fn keeps(_: Function, flags: u16) -> Keeps {
    let inputs = flags & (node::TRAINS_WEIGHTS | node::CHOOSES_INPUTS) == node::TRAINS_WEIGHTS;
    Keeps { inputs, output: flags & node::TRAINS_SCALES != 0 }
}

fn check_trained(pack: &Pack, node: &TailNode) -> Result<(), &'static str> {
    check(pack.conv_shape(&node.operator).is_some(), "an extent of more than 32,767")?;
    let weights_alone = node.is(node::TRAINS_WEIGHTS) && !node.is(node::TRAINS_BIASES);
    check(!weights_alone, "weights are trained, their biases are not")?;
    let scales = node.is(node::TRAINS_SCALES);
    let scales_alone = !node.is(node::TRAINS_WEIGHTS) && node.is(node::TRAINS_BIASES);
    check(!scales || scales_alone, "scales are trained beside weights, or without biases")?;
    if !node.is(node::UNIT_INPUT) {
        return Ok(());
    }
    check(node.operator.kind == operator::FULLY_CONNECTED, "a convolution of features in units")?;
    let input = pack.tensor(node.operator.input).affine;
    let same = node.input.as_ref().is_some_and(|value| value.tensor.affine == input);
    check(same, "a feature in units has two scales")?;
    check(
        sound::weight_scale(pack.fold(true, input)),
        "feature unit is more than 2^20 times smaller than the features' scale",
    )
}

/// Real value of one step of output channel `o`'s weights, as packed.
pub(super) fn scale_of(scales: &[f32], o: usize) -> f32 {
    scales.get(o).or(scales.first()).copied().unwrap_or(0.0)
}

/// `y = W x + b`, without an activation.
fn forward(pass: &NodePass, kernels: &Kernels, workspace: &mut [f32]) {
    let NodePass { pack, node, parameters } = *pass;
    let op = &node.operator;
    let Some(shape) = pack.conv_shape(op) else { return };
    let Some([x, y]) = pass.activations(workspace) else { return };
    // Kernels take slices of any length.
    debug_assert!(x.len() == shape.input_length() && y.len() == shape.output_length());
    let layer = pack.layer_of(node);
    let own = parameters.part(node.parameters..);
    let (front, own_biases) = (own.part(..layer.trained_weights()), own.part(layer.trained_weights()..));
    if layer.trains_weights && layer.chosen.is_none() {
        let biases = own_biases.part(..layer.outputs);
        return (kernels.forward)(&shape, front, biases, x, y);
    }
    (kernels.forward_frozen)(&shape, pack.int8(op.constants.weights, layer.weights()), &[], x, y);
    let scales = pack.float32(op.constants.scales, layer.scales());
    let fold = pack.fold(layer.unit_input, layer.input);
    let biases = pack.int32(op.constants.biases, layer.outputs);
    let bias = |o: usize| {
        if layer.trains_biases {
            return own_biases.get(o).copied().unwrap_or(0.0);
        }
        let quantized = biases.get(o).copied().unwrap_or(0);
        (f64::from(layer.input.scale) * f64::from(scale_of(scales, o)) * f64::from(quantized)) as f32
    };
    for y in y.chunks_exact_mut(layer.outputs.max(1)) {
        for (o, y) in y.iter_mut().enumerate() {
            let scale = scale_of(scales, o) * fold;
            let scale = if layer.trains_scales { scale * partial::gain_of(front, o) } else { scale };
            *y = *y * scale + bias(o);
        }
    }
    if let Some(chosen) = &node.chosen {
        partial::forward_chosen(pass, kernels, chosen, &shape, [front, own_biases], workspace);
    }
}

/// Adds `scale` times the gradient of the layer's parameters; hands the gradient on to its input.
fn backward(
    pass: &NodePass,
    kernels: &Kernels,
    scale: f32,
    bias: BiasTreatment,
    workspace: &mut [f32],
    gradient: &mut [f32],
) {
    let NodePass { pack, node, parameters } = *pass;
    let op = &node.operator;
    let layer = pack.layer_of(node);
    let (Some(shape), Some(input), Some(delta)) =
        (pack.conv_shape(op), node.input.as_ref(), node.output.delta.as_ref())
    else {
        return;
    };
    let own = gradient.part_mut(node.parameters..);
    let (d_weights, rest) = own.parts_mut_at(layer.trained_weights());
    let own = parameters.part(node.parameters..);
    let (weights, biases) = (own.part(..layer.trained_weights()), own.part(layer.trained_weights()..));
    if layer.trains_biases && bias != BiasTreatment::Frozen {
        let delta = workspace.part(delta.clone());
        let d_biases = rest.part_mut(..layer.outputs);
        conv2d::backward_biases(&shape, scale, delta, d_biases);
    }
    if layer.trains_scales {
        let activation = &node.output.activation;
        let Some([y, delta]) = arrays(workspace, [activation, delta]) else { return };
        partial::backward_gains(&layer, scale, [weights, biases], y, delta, d_weights);
    }
    if let Some(chosen) = &node.chosen {
        partial::backward_chosen(pass, kernels, chosen, &shape, scale, workspace, d_weights);
    } else if layer.trains_weights {
        let Some([x, delta]) = arrays(workspace, [&input.activation, delta]) else { return };
        (kernels.backward_weights)(&shape, scale, x, delta, d_weights);
    }
    let Some(by_input) = pass.by_input() else { return };
    // It overwrites what it finds.
    let sink = if node.is(node::INPUT_FIRST) { Sink::Overwrite } else { Sink::Add };
    if let Some(chosen) = &node.chosen {
        return partial::backward_input_chosen(pass, kernels, chosen, &shape, sink, workspace);
    }
    let Some([delta, d]) = arrays(workspace, [delta, by_input]) else { return };
    if layer.trains_weights {
        return (kernels.backward_input)(&shape, weights, delta, sink, d);
    }
    // Nobody else reads these gradients afterwards.
    let scales = pack.float32(op.constants.scales, layer.scales());
    for delta in delta.chunks_exact_mut(layer.outputs.max(1)) {
        for (o, delta) in delta.iter_mut().enumerate() {
            let scale = scale_of(scales, o);
            let scale = if layer.trains_scales { scale * partial::gain_of(weights, o) } else { scale };
            *delta *= scale;
        }
    }
    let own = pack.int8(op.constants.weights, layer.weights());
    (kernels.backward_input_frozen)(&shape, own, delta, sink, d);
}
