//! Layers of which a part is trained: the gains of the weights' scales, or the weights of some output channels. The
//! rest of the weights stays int8, in flash.

use super::arrays;
use super::weighted::{Kernels, scale_of};
use crate::op::ConvShape;
use crate::pack::{Chosen, NodePass, TrainedLayer};
use crate::part::Part;
use crate::tail::kernels::Sink;

/// The least factor that a gain stands for. A tuned layer's weights keep their signs, and no scale comes near zero.
const LEAST_GAIN: f32 = 1.0 / 1024.0;

/// What a gain multiplies with: `max(gain, 1/1024)`.
pub(crate) fn factor(gain: f32) -> f32 {
    gain.max(LEAST_GAIN)
}

/// The gain of output `o`: one each, or one for all.
pub(super) fn gain_of(gains: &[f32], o: usize) -> f32 {
    factor(gains.get(o).or(gains.first()).copied().unwrap_or(1.0))
}

/// `d_gains[o] += scale * sum_p delta[p, o] (y[p, o] - b[o]) / gain[o]`: what a gain multiplies is recovered from the
/// output, which differs from it only where a clamp has made delta 0. Sums go pixel after pixel; a gain of all
/// outputs gets them channel after channel. No gradient below [`LEAST_GAIN`].
pub(super) fn backward_gains(
    layer: &TrainedLayer,
    scale: f32,
    [gains, biases]: [&[f32]; 2],
    y: &[f32],
    delta: &[f32],
    d_gains: &mut [f32],
) {
    let outputs = layer.outputs.max(1);
    for (o, &bias) in biases.iter().enumerate().take(outputs) {
        let place = if layer.operator.per_channel { o } else { 0 };
        let (Some(&gain), Some(d)) = (gains.get(place), d_gains.get_mut(place)) else { return };
        if gain < LEAST_GAIN {
            continue;
        }
        let own = |values| <[f32]>::iter(values).skip(o).step_by(outputs);
        let sum = own(delta).zip(own(y)).fold(0.0, |sum, (&delta, &y)| sum + delta * (y - bias));
        *d += scale * (sum / gain);
    }
}

/// The chosen channels' outputs, `W x + b` with the trained weights, over those of the packed weights in `y`.
pub(super) fn forward_chosen(
    pass: &NodePass,
    kernels: &Kernels,
    chosen: &Chosen,
    shape: &ConvShape,
    [weights, biases]: [&[f32]; 2],
    workspace: &mut [f32],
) {
    let NodePass { pack, node, .. } = *pass;
    let Some(input) = &node.input else { return };
    let ranges = [&input.activation, &node.output.activation, &chosen.outputs];
    let Some([x, y, own]) = arrays(workspace, ranges) else { return };
    (kernels.forward)(&shape.of_outputs(chosen.count), weights, &[], x, own);
    let outputs = shape.output().channels.max(1);
    for (y, own) in y.chunks_exact_mut(outputs).zip(own.chunks_exact(chosen.count.max(1))) {
        for (&o, own) in pack.channels(chosen).iter().zip(own) {
            let o = usize::from(o);
            if let Some(y) = y.get_mut(o) {
                *y = own + biases.get(o).copied().unwrap_or(0.0);
            }
        }
    }
}

/// Gathers the chosen channels' gradients, and adds `scale` times that of their weights.
pub(super) fn backward_chosen(
    pass: &NodePass,
    kernels: &Kernels,
    chosen: &Chosen,
    shape: &ConvShape,
    scale: f32,
    workspace: &mut [f32],
    d_weights: &mut [f32],
) {
    let NodePass { pack, node, .. } = *pass;
    let (Some(input), Some(delta)) = (&node.input, &node.output.delta) else { return };
    let Some([x, delta, own]) = arrays(workspace, [&input.activation, delta, &chosen.deltas]) else { return };
    let outputs = shape.output().channels.max(1);
    for (delta, own) in delta.chunks_exact(outputs).zip(own.chunks_exact_mut(chosen.count.max(1))) {
        for (&o, own) in pack.channels(chosen).iter().zip(own) {
            *own = delta.get(usize::from(o)).copied().unwrap_or(0.0);
        }
    }
    (kernels.backward_weights)(&shape.of_outputs(chosen.count), scale, x, own, d_weights);
}

/// Hands the gradient on through the packed weights of the other channels, then through the chosen ones.
pub(super) fn backward_input_chosen(
    pass: &NodePass,
    kernels: &Kernels,
    chosen: &Chosen,
    shape: &ConvShape,
    sink: Sink,
    workspace: &mut [f32],
) {
    let NodePass { pack, node, parameters } = *pass;
    let (Some(by_input), Some(delta)) = (pass.by_input(), &node.output.delta) else { return };
    let Some([delta, d, own]) = arrays(workspace, [delta, by_input, &chosen.deltas]) else { return };
    let op = &node.operator;
    let layer = pack.layer(*op, 0);
    let scales = pack.float32(op.constants.scales, layer.scales());
    for delta in delta.chunks_exact_mut(layer.outputs.max(1)) {
        delta.iter_mut().enumerate().for_each(|(o, delta)| *delta *= scale_of(scales, o));
        for &o in pack.channels(chosen) {
            if let Some(delta) = delta.get_mut(usize::from(o)) {
                *delta = 0.0;
            }
        }
    }
    let packed = pack.int8(op.constants.weights, layer.weights());
    (kernels.backward_input_frozen)(shape, packed, delta, sink, d);
    let weights = parameters.part(node.parameters..);
    let weights = weights.part(..chosen.count * layer.taps);
    (kernels.backward_input)(&shape.of_outputs(chosen.count), weights, own, Sink::Add, d);
}
