//! Convolutions, depthwise convolutions and fully connected layers of a tail, trained or frozen.

use super::{arrays, partial, sink};
use crate::op::ConvShape;
use crate::optim::BiasTreatment;
use crate::pack::format::{node, operator};
use crate::pack::{Pack, TailNode};
use crate::tail::kernels::{Sink, Weight, conv2d, depthwise};

pub(super) fn run<W: Weight>(
    kind: u16,
    shape: &ConvShape,
    weights: &[W],
    biases: &[f32],
    x: &[f32],
    y: &mut [f32],
) {
    match kind {
        operator::DEPTHWISE_CONV_2D => depthwise::forward(shape, weights, biases, x, y),
        _ => conv2d::forward(shape, weights, biases, x, y),
    }
}

pub(super) fn run_back<W: Weight>(
    kind: u16,
    shape: &ConvShape,
    weights: &[W],
    delta: &[f32],
    sink: Sink,
    d: &mut [f32],
) {
    match kind {
        operator::DEPTHWISE_CONV_2D => depthwise::backward_input(shape, weights, delta, sink, d),
        _ => conv2d::backward_input(shape, weights, delta, sink, d),
    }
}

/// Real value of one step of output channel `o`'s weights, as packed.
pub(super) fn scale_of(scales: &[f32], o: usize) -> f32 {
    scales.get(o).or(scales.first()).copied().unwrap_or(0.0)
}

/// `y = W x + b`, without an activation.
pub(super) fn forward(pack: &Pack, node: &TailNode, parameters: &[f32], workspace: &mut [f32]) {
    let op = &node.operator;
    let (Some(shape), Some(input)) = (pack.conv_shape(op), node.input.as_ref()) else { return };
    let Some([x, y]) = arrays(workspace, [&input.activation, &node.output.activation]) else { return };
    let layer = pack.layer_of(node);
    let own = parameters.get(node.parameters..).unwrap_or(&[]);
    let (front, own_biases) = own.split_at(layer.trained_weights().min(own.len()));
    if layer.trains_weights && layer.chosen.is_none() {
        return run(op.kind, &shape, front, own_biases.get(..layer.outputs).unwrap_or(&[]), x, y);
    }
    run(op.kind, &shape, pack.int8(op.constants.weights, layer.weights()), &[], x, y);
    let scales = pack.float32(op.constants.scales, layer.scales());
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
            let scale = scale_of(scales, o);
            let scale = if layer.trains_scales { scale * partial::gain_of(front, o) } else { scale };
            *y = *y * scale + bias(o);
        }
    }
    if let Some(chosen) = &node.chosen {
        partial::forward_chosen(pack, node, chosen, &shape, [front, own_biases], workspace);
    }
}

/// One layer's backward pass.
pub(super) struct Step<'s, 'p> {
    pub pack: &'s Pack<'p>,
    pub node: &'s TailNode,
    pub parameters: &'s [f32],
    pub scale: f32,
    pub bias: BiasTreatment,
}

impl Step<'_, '_> {
    /// Adds `scale` times the gradient of the layer's parameters; hands the gradient on to its input.
    pub fn backward(&self, workspace: &mut [f32], gradient: &mut [f32]) {
        let Self { pack, node, .. } = *self;
        let op = &node.operator;
        let layer = pack.layer_of(node);
        let (Some(shape), Some(input), Some(delta)) =
            (pack.conv_shape(op), node.input.as_ref(), node.output.delta.as_ref())
        else {
            return;
        };
        let own = gradient.get_mut(node.parameters..).unwrap_or(&mut []);
        let (d_weights, rest) = own.split_at_mut(layer.trained_weights().min(own.len()));
        let own = self.parameters.get(node.parameters..).unwrap_or(&[]);
        let (weights, biases) = own.split_at(layer.trained_weights().min(own.len()));
        if layer.trains_biases && self.bias != BiasTreatment::Frozen {
            let delta = workspace.get(delta.clone()).unwrap_or(&[]);
            let d_biases = rest.get_mut(..layer.outputs).unwrap_or(&mut []);
            conv2d::backward_biases(&shape, self.scale, delta, d_biases);
        }
        if layer.trains_scales {
            let activation = &node.output.activation;
            let Some([y, delta]) = arrays(workspace, [activation, delta]) else { return };
            partial::backward_gains(&layer, self.scale, [weights, biases], y, delta, d_weights);
        }
        if let Some(chosen) = &node.chosen {
            self.backward_chosen(chosen, &shape, [&input.activation, delta], workspace, d_weights);
        } else if layer.trains_weights {
            let Some([x, delta]) = arrays(workspace, [&input.activation, delta]) else { return };
            match op.kind {
                operator::DEPTHWISE_CONV_2D => {
                    depthwise::backward_weights(&shape, self.scale, x, delta, d_weights);
                }
                _ => conv2d::backward_weights(&shape, self.scale, x, delta, d_weights),
            }
        }
        let Some(by_input) = input.delta.as_ref().filter(|_| node.is(node::INPUT_DELTA)) else { return };
        if let Some(chosen) = &node.chosen {
            return self.backward_input_chosen(chosen, &shape, [delta, by_input], sink(node), workspace);
        }
        let Some([delta, d]) = arrays(workspace, [delta, by_input]) else { return };
        if layer.trains_weights {
            return run_back(op.kind, &shape, weights, delta, sink(node), d);
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
        run_back(op.kind, &shape, own, delta, sink(node), d);
    }
}
