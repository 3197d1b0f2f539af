//! Convolutions, depthwise convolutions and fully connected layers of a tail, trained or frozen.

use super::{arrays, sink};
use crate::kernels::Shape;
use crate::optim::BiasTreatment;
use crate::pack::format::{node, operator};
use crate::pack::{OperatorRecord, Pack, TailNode, Window, dense_rows};
use crate::tail::kernels::{ConvShape, Sink, Weight, conv2d, depthwise};

/// A layer's extents. A fully connected one is a pointwise convolution over its rows.
pub(crate) fn shape(pack: &Pack, op: &OperatorRecord) -> Option<ConvShape> {
    let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
    if op.kind != operator::FULLY_CONNECTED {
        return ConvShape::new(input.shape(), output.shape(), op.window).ok();
    }
    let rows = dense_rows(&output).max(1);
    let pixels = |channels| Shape { height: 1, width: rows, channels };
    let window = Window { filter: [1; 2], stride: [1; 2], dilation: [1; 2], padding: [0; 2] };
    ConvShape::new(pixels(input.len() / rows), pixels(output.channels), window).ok()
}

fn run<W: Weight>(kind: u16, shape: &ConvShape, weights: &[W], biases: &[f32], x: &[f32], y: &mut [f32]) {
    match kind {
        operator::DEPTHWISE_CONV_2D => depthwise::forward(shape, weights, biases, x, y),
        _ => conv2d::forward(shape, weights, biases, x, y),
    }
}

fn run_back<W: Weight>(
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
fn scale_of(scales: &[f32], o: usize) -> f32 {
    scales.get(o).or(scales.first()).copied().unwrap_or(0.0)
}

fn packed_scales<'p>(pack: &Pack<'p>, op: &OperatorRecord, outputs: usize) -> &'p [f32] {
    pack.float32(op.constants.scales, if op.per_channel { outputs } else { 1 })
}

/// `y = W x + b`, without an activation.
pub(super) fn forward(pack: &Pack, node: &TailNode, parameters: &[f32], x: &[f32], y: &mut [f32]) {
    let op = &node.operator;
    let Some(shape) = shape(pack, op) else { return };
    let layer = pack.layer(*op, 0);
    let own = parameters.get(node.parameters..).unwrap_or(&[]);
    if node.is(node::TRAINS_WEIGHTS) {
        let (weights, biases) = own.split_at(layer.weights().min(own.len()));
        return run(op.kind, &shape, weights, biases.get(..layer.outputs).unwrap_or(&[]), x, y);
    }
    run(op.kind, &shape, pack.int8(op.constants.weights, layer.weights()), &[], x, y);
    let scales = packed_scales(pack, op, layer.outputs);
    let biases = pack.int32(op.constants.biases, layer.outputs);
    let bias = |o: usize| {
        if node.is(node::TRAINS_BIASES) {
            return own.get(o).copied().unwrap_or(0.0);
        }
        let quantized = biases.get(o).copied().unwrap_or(0);
        (f64::from(layer.input.scale) * f64::from(scale_of(scales, o)) * f64::from(quantized)) as f32
    };
    for y in y.chunks_exact_mut(layer.outputs.max(1)) {
        for (o, y) in y.iter_mut().enumerate() {
            *y = *y * scale_of(scales, o) + bias(o);
        }
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
        let layer = pack.layer(*op, 0);
        let (Some(shape), Some(input), Some(delta)) =
            (shape(pack, op), node.input.as_ref(), node.output.delta.as_ref())
        else {
            return;
        };
        let trains_weights = node.is(node::TRAINS_WEIGHTS);
        let own = gradient.get_mut(node.parameters..).unwrap_or(&mut []);
        let weights = if trains_weights { layer.weights() } else { 0 };
        let (d_weights, rest) = own.split_at_mut(weights.min(own.len()));
        if node.is(node::TRAINS_BIASES) && self.bias != BiasTreatment::Frozen {
            let delta = workspace.get(delta.clone()).unwrap_or(&[]);
            let d_biases = rest.get_mut(..layer.outputs).unwrap_or(&mut []);
            conv2d::backward_biases(&shape, self.scale, delta, d_biases);
        }
        if trains_weights {
            let Some([x, delta]) = arrays(workspace, [&input.activation, delta]) else { return };
            match op.kind {
                operator::DEPTHWISE_CONV_2D => {
                    depthwise::backward_weights(&shape, self.scale, x, delta, d_weights);
                }
                _ => conv2d::backward_weights(&shape, self.scale, x, delta, d_weights),
            }
        }
        let Some(by_input) = input.delta.as_ref().filter(|_| node.is(node::INPUT_DELTA)) else { return };
        let Some([delta, d]) = arrays(workspace, [delta, by_input]) else { return };
        if trains_weights {
            let own = self.parameters.get(node.parameters..).unwrap_or(&[]);
            let own = own.get(..layer.weights()).unwrap_or(&[]);
            return run_back(op.kind, &shape, own, delta, sink(node), d);
        }
        // Nobody else reads these gradients afterwards.
        let scales = packed_scales(pack, op, layer.outputs);
        for delta in delta.chunks_exact_mut(layer.outputs.max(1)) {
            delta.iter_mut().enumerate().for_each(|(o, delta)| *delta *= scale_of(scales, o));
        }
        let own = pack.int8(op.constants.weights, layer.weights());
        run_back(op.kind, &shape, own, delta, sink(node), d);
    }
}
