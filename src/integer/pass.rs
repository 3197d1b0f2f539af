//! A sample's way through the tail and back, and the scratch memory that it takes.

use super::layer_weights::{Ascent, LayerWeights};
use super::weights::{Parameters, Place, places};
use crate::compact::number::Dither;
use crate::compact::softmax::{Losses, SmoothLabel, softmax_cross_entropy};
use crate::label::argmax;
use crate::pack::{Pack, Sizes, TailNode, TrainedLayer};
use crate::part::Part;

/// Most arrays that a tail may have: each has the unit of its gradient on the stack.
pub(super) const MOST_VALUES: usize = 128;

/// The scratch memory, divided.
#[derive(Debug)]
pub(super) struct Scratch<'s> {
    /// Activations and their gradients, where the pack's plan has them: a byte for each of its floats.
    pub workspace: &'s mut [i8],
    /// Weights of a layer, or of some of its rows.
    pub weights: &'s mut [i8],
    /// Sums of one row of weights, or of one pixel.
    pub sums: &'s mut [i32],
    /// Biases of a layer.
    pub biases: &'s mut [i32],
    /// Its scales, relative to the largest.
    pub multipliers: &'s mut [i32],
    /// In 2^-20 nats.
    pub logits: &'s mut [i32],
    /// What the softmax keeps.
    pub powers: &'s mut [i32],
    /// Gradient by the logits.
    pub top: &'s mut [i16],
}

impl Sizes {
    /// Words of the integer tail's scratch memory.
    pub(crate) const fn integer_words(&self) -> usize {
        let [weights, row, outputs, _] = self.layer_room;
        let workspace = self.workspace_floats.saturating_add(weights).saturating_add(3) / 4;
        let words = workspace.saturating_add(row).saturating_add(outputs.saturating_mul(2));
        words.saturating_add(self.output_length.saturating_mul(3))
    }
}

impl<'s> Scratch<'s> {
    /// Divides `words`, of [`Sizes::integer_words`] or more; `None` if there are fewer.
    pub fn new(sizes: &Sizes, words: &'s mut [i32]) -> Option<Self> {
        let [weights, row, outputs, _] = sizes.layer_room;
        let bytes = sizes.workspace_floats.saturating_add(weights).div_ceil(4);
        let (bytes, rest) = words.split_at_mut_checked(bytes)?;
        let (sums, rest) = rest.split_at_mut_checked(row)?;
        let (biases, rest) = rest.split_at_mut_checked(outputs)?;
        let (multipliers, rest) = rest.split_at_mut_checked(outputs)?;
        let (logits, rest) = rest.split_at_mut_checked(sizes.output_length)?;
        let (powers, rest) = rest.split_at_mut_checked(sizes.output_length)?;
        let top: &mut [i16] = bytemuck::must_cast_slice_mut(rest);
        let bytes: &mut [i8] = bytemuck::must_cast_slice_mut(bytes);
        let (workspace, bytes) = bytes.split_at_mut_checked(sizes.workspace_floats)?;
        let (weights, top) = (bytes.get_mut(..weights)?, top.get_mut(..sizes.output_length)?);
        Some(Self { workspace, weights, sums, biases, multipliers, logits, powers, top })
    }
}

/// The tail with its parameters, to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network<'n, 'p> {
    pub pack: &'n Pack<'p>,
    pub parameters: &'n Parameters<'n>,
    pub ascent: Ascent<'n>,
    /// The layers in flash are meant, and no parameter is read.
    pub factory: bool,
}

impl<'n> Network<'n, '_> {
    /// What of a node is trained, and where that lies.
    pub fn trained(&self, node: &TailNode) -> Option<(TrainedLayer, Place)> {
        if self.factory {
            return None;
        }
        let index = self.pack.trunk_operators().saturating_add(node.index);
        places(self.pack).find(|(layer, _)| layer.index == index)
    }

    /// A layer's weights.
    pub fn weights_of<'l>(&'l self, layer: &'l TrainedLayer, place: Place) -> LayerWeights<'l> {
        let (weights, outputs) = (
            place.weights..place.weights + layer.tuned_weights(),
            place.outputs..place.outputs + layer.outputs,
        );
        let ascent = match self.ascent.elements.is_empty() {
            true => Ascent::NONE,
            false => Ascent {
                elements: self.ascent.elements.part(weights),
                units: self.ascent.units.part(outputs.clone()),
                biases: self.ascent.biases.part(outputs),
            },
        };
        self.parameters.of(self.pack, layer, place, ascent)
    }

    /// Forward pass of the features in the workspace: the loss, and the class that the logits say. The gradient by the logits
    /// is left in the scratch memory; its unit comes last.
    pub fn loss(&self, label: SmoothLabel, scratch: &mut Scratch) -> (Losses, usize, f32) {
        self.forward(scratch);
        if self.write_logits(scratch).is_none() {
            debug_assert!(false, "a tail without an end");
        }
        let Scratch { logits, powers, top, .. } = scratch;
        let (loss, unit) = softmax_cross_entropy(logits, label, powers, top);
        (loss, argmax(logits), unit)
    }
}

/// What a backward pass does with a layer's gradient, one output channel at a time: layer, place, output channel, sums of its
/// weights' gradient and of its bias's, and the real value of their step.
pub(super) type Sink<'k> = &'k mut dyn FnMut(&mut Parameters, Channel, &mut [i32], i32, f32);

/// An output channel of a trained layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel<'c> {
    pub layer: &'c TrainedLayer,
    pub place: Place,
    pub output: usize,
}

/// A seed's dither of one channel.
pub(super) fn dither(seed: u32, place: Place, output: usize) -> Dither {
    Dither::new(seed, (place.outputs + output) as u32)
}
