//! One layer of a tuned tail: its weights, be they all or those of a share of the input channels.

use crate::pack::{Pack, TrainedLayer};
use crate::part::Part;
use crate::quant::Affine;

/// One layer of a tuned tail, quantized as TensorFlow Lite's specification wants it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TunedLayer<'t> {
    /// The layer as packed, and what of it was trained.
    pub layer: TrainedLayer,
    /// As the operator has them in the pack (fully connected: `[outputs, inputs]`), symmetric; where a share of the input
    /// channels is trained theirs alone, and all are [`Self::write`]'s.
    pub weights: &'t [i8],
    /// The input channels that are trained, if not all of them are.
    pub inputs: &'t [u16],
    /// One per output, at the scale of input times weight.
    pub biases: &'t [i32],
    /// One per output; all alike where the layer has one scale in all.
    pub scales: &'t [f32],
    /// The layer was packed with one scale per output.
    pub per_channel: bool,
    /// Scale and zero point of its input.
    pub input: Affine,
    /// Scale and zero point of its output.
    pub output: Affine,
}

impl TunedLayer<'_> {
    /// Writes its weights over the layer's, of which those that are not trained stay.
    pub fn write_over(&self, all: &mut [i8]) {
        for (own, at) in (0..self.layer.outputs).flat_map(|o| self.layer.trained_row(o, self.inputs)) {
            if let (Some(place), Some(&q)) = (all.get_mut(at), self.weights.get(own)) {
                *place = q;
            }
        }
    }

    /// Writes the weights of output channels `first` on, as many as `rows` says, in the layer's order: of a depthwise convolution
    /// all of them.
    pub fn write(&self, pack: &Pack, first: usize, rows: usize, to: &mut [i8]) {
        let layer = &self.layer;
        let start = if layer.rows_are_contiguous() { first * layer.taps } else { 0 };
        let base = if layer.inputs.is_some() {
            pack.int8(layer.operator.constants.weights, layer.weights())
        } else {
            self.weights
        };
        to.iter_mut().zip(base.part(start..start + rows * layer.taps)).for_each(|(to, &q)| *to = q);
        if layer.inputs.is_none() {
            return;
        }
        for (own, at) in (first..first + rows).flat_map(|o| layer.trained_row(o, self.inputs)) {
            if let (Some(to), Some(&q)) = (to.get_mut(at - start), self.weights.get(own)) {
                *to = q;
            }
        }
    }
}
