//! A chain of fully connected layers in integers: what each is, and where its parts lie.

use super::softmax::LOGIT_BITS;
use crate::pack::{Activation, Pack};
use crate::part::Part;
use crate::tail::{DenseChain, MAX_CHAIN_LAYERS, TailError};
use heapless::Vec;

/// Fractional bits of a hidden activation below its int8 step: the packed range takes 13 of 16 bits.
pub(super) const ACTIVATION_BITS: u32 = 5;
/// Bits of a sum below an activation.
pub(super) const SUM_BITS: u32 = 8;
/// What a velocity is sure to hold, in multiples of the largest gradient of a sample.
const HEADROOM: f32 = 8.0;

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    pub activation: Activation,
    /// Real value of a step of its input.
    pub input_unit: f32,
    /// Largest magnitude of its input that is expected, in steps.
    pub input_range: f32,
    /// Real value of a step of its sums and biases.
    pub unit: f32,
    /// Real value of a step of its weights' velocity.
    pub velocity_unit: f32,
    /// Highest output: of ReLU6 6, in steps.
    ceiling: i16,
    first_weight: usize,
    first_output: usize,
    /// Rows of weights and of biases in front of it.
    first_row: usize,
}

impl Layer {
    /// The layer's own among all outputs'.
    pub fn of<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        all.part(self.first_output..self.first_output + self.outputs)
    }

    /// The same, to write.
    pub fn of_mut<'a, T>(&self, all: &'a mut [T]) -> &'a mut [T] {
        all.part_mut(self.first_output..self.first_output + self.outputs)
    }

    /// Outputs of all layers in front of it.
    pub fn first_output(&self) -> usize {
        self.first_output
    }

    /// The weights, or whatever else there is one a weight, of output `o`.
    pub fn row<'a, T>(&self, all: &'a [T], o: usize) -> &'a [T] {
        let start = self.first_weight + o * self.inputs;
        all.part(start..start + self.inputs)
    }

    /// The same, to write.
    pub fn row_mut<'a, T>(&self, all: &'a mut [T], o: usize) -> &'a mut [T] {
        let start = self.first_weight + o * self.inputs;
        all.part_mut(start..start + self.inputs)
    }

    /// Every output's row.
    pub fn rows<'a, T>(&self, all: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
        let own = all.part(self.first_weight..self.first_weight + self.inputs * self.outputs);
        own.chunks_exact(self.inputs.max(1))
    }

    /// A number of output `o`, or with [`Self::outputs`] of the biases, that no other layer has.
    pub fn purpose(&self, o: usize) -> u32 {
        // Only to tell rows apart.
        (self.first_row + o) as u32
    }

    /// Its output's place among those of the layer's sums: the activation, clamped, of 16 bits.
    pub fn activate(&self, sum: i32) -> i16 {
        let steps = (sum >> SUM_BITS).saturating_add((sum >> (SUM_BITS - 1)) & 1);
        let floor = if self.activation == Activation::None { i16::MIN } else { 0 };
        steps.max(floor.into()).min(self.ceiling.into()) as i16
    }

    /// The real output of a sum.
    pub fn real_output(&self, sum: i32) -> f32 {
        match self.activation {
            Activation::None => self.unit * sum as f32,
            _ => self.unit * (1u32 << SUM_BITS) as f32 * f32::from(self.activate(sum)),
        }
    }

    /// Whether the activation is flat at this sum, whose output this is.
    pub fn is_flat(&self, sum: i32, output: i16) -> bool {
        match self.activation {
            Activation::None => false,
            Activation::Relu => sum <= 0,
            Activation::Relu6 => sum <= 0 || output >= self.ceiling,
        }
    }
}

/// The layers, first to last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chain {
    layers: Vec<Layer, MAX_CHAIN_LAYERS>,
    pub shape: DenseChain,
}

impl Chain {
    /// The tail of a pack.
    #[inline(never)] // what it has on the stack does not last as long as the caller
    pub fn of(pack: &Pack) -> Result<Self, TailError> {
        if !pack.tail_is_chain() {
            return Err(TailError::NoChain);
        }
        if pack.spare_classes() > 0 {
            return Err(TailError::SpareClasses);
        }
        let scales = pack.trained_layers().map(|layer| layer.output.scale);
        Ok(Self::new(DenseChain::of(pack)?, pack.feature_unit(), scales))
    }

    /// A chain with features of this unit, whose outputs were quantized with these scales.
    pub fn new(shape: DenseChain, feature_unit: f32, scales: impl Iterator<Item = f32>) -> Self {
        let mut chain = Self { layers: Vec::new(), shape };
        let count = chain.shape.layers().len();
        let (mut input_unit, mut input_range) = (feature_unit, 255.0);
        let (mut first_weight, mut first_output) = (0, 0);
        for (place, (shape, scale)) in chain.shape.layers().zip(scales).enumerate() {
            let activation_unit = scale / (1u32 << ACTIVATION_BITS) as f32;
            let unit = if place + 1 == count {
                1.0 / (1u32 << LOGIT_BITS) as f32
            } else {
                activation_unit / (1u32 << SUM_BITS) as f32
            };
            let ceiling = match shape.activation {
                // A float cast saturates.
                Activation::Relu6 => crate::math::round(6.0 / (unit * (1u32 << SUM_BITS) as f32)) as i16,
                _ => i16::MAX,
            };
            // There are no more of them than the shape has.
            let _ = chain.layers.push(Layer {
                inputs: shape.inputs,
                outputs: shape.outputs,
                activation: shape.activation,
                input_unit,
                input_range,
                unit,
                velocity_unit: 1.0,
                ceiling,
                first_weight,
                first_output,
                first_row: first_output + place,
            });
            (input_unit, input_range) = (activation_unit, 255.0 * (1u32 << ACTIVATION_BITS) as f32);
            first_weight += shape.inputs * shape.outputs;
            first_output += shape.outputs;
        }
        chain
    }

    pub fn layers(&self) -> impl DoubleEndedIterator<Item = &Layer> + ExactSizeIterator {
        self.layers.iter()
    }

    /// Sets the steps of the velocities by the largest gradients that weights of these scales can have: to be called
    /// when the velocity is zero.
    pub fn fit_velocity(&mut self, scales: &[f32]) {
        // The sum of a sample's deltas by the logits is at most 2, one of them at most 1.
        let (mut one, mut all) = (1.0, 2.0f32);
        for layer in self.layers.iter_mut().rev() {
            let largest = one * layer.input_unit * layer.input_range;
            let unit = largest * (HEADROOM / 32_768.0);
            layer.velocity_unit = if unit.is_normal() { unit } else { 1.0 };
            // Rows are loaded up to 64 steps.
            let weight = layer.of(scales).iter().fold(0.0f32, |most, scale| most.max(scale.abs())) * 64.0;
            one = weight * all;
            all = one * layer.inputs as f32;
        }
    }
}
