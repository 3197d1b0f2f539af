//! A layer of a tail, with what is trained of it.

use super::format::operator;
use super::{Function, OperatorRecord};
use crate::quant::Affine;

/// A layer of which something is trained, or an operator without weights whose output is quantized anew after such
/// layers: that has no outputs and no taps here, as it has nothing for each of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainedLayer {
    /// The int8 operator.
    pub operator: OperatorRecord,
    /// Index of the operator.
    pub index: u16,
    /// Output channels.
    pub outputs: usize,
    /// Products of one output.
    pub taps: usize,
    /// The weights are parameters, or those of some channels.
    pub trains_weights: bool,
    /// The biases are parameters.
    pub trains_biases: bool,
    /// The weights' scales have gains, which are parameters.
    pub trains_scales: bool,
    /// How many output channels' weights are parameters, if not all: [`crate::Pack::chosen_channels`].
    pub chosen: Option<usize>,
    /// How many input channels' weights are parameters, if not all: [`crate::Pack::chosen_inputs`].
    pub inputs: Option<usize>,
    /// Fused activation: a clamp.
    pub function: Function,
    /// First of its parameters.
    pub parameters: usize,
    /// Quantization of the input as packed.
    pub input: Affine,
    /// Quantization of the output as packed.
    pub output: Affine,
    /// The output is quantized anew on the device.
    pub refit: bool,
    /// The trained layer, in their order, whose anew quantized output it reads.
    pub source: Option<usize>,
    /// The trained layer whose anew quantized output its second input is.
    pub second_source: Option<usize>,
    /// Its input is a feature in the pack's unit, in f32, as `Pack::fold` makes it.
    pub unit_input: bool,
}

impl TrainedLayer {
    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.outputs * self.taps
    }

    /// Parameters in front of the biases: weights that are trained, or gains.
    pub fn trained_weights(&self) -> usize {
        match self.chosen {
            _ if self.trains_scales => self.scales(),
            Some(channels) => channels * self.taps,
            None => self.tuned_weights(),
        }
    }

    /// int8 weights that a tuned tail keeps: all of a layer, be it a share of its output channels that is trained; of a share
    /// of its input channels these alone.
    pub fn tuned_weights(&self) -> usize {
        match self.inputs {
            _ if !self.trains_weights => 0,
            None => self.weights(),
            Some(channels) if self.rows_are_contiguous() => self.outputs * self.area() * channels,
            Some(channels) => channels * self.taps,
        }
    }

    /// Weights that one input channel has for one output.
    pub(crate) fn area(&self) -> usize {
        match self.operator.kind {
            operator::FULLY_CONNECTED => 1,
            _ => self.operator.window.filter[0].max(1) * self.operator.window.filter[1].max(1),
        }
    }

    /// Channels that [`crate::Pack::chosen_inputs`] chooses among: the input's, of a depthwise convolution the output's.
    #[doc(hidden)]
    pub fn input_channels(&self) -> usize {
        if self.rows_are_contiguous() { self.taps / self.area().max(1) } else { self.outputs }
    }

    /// Scales that the weights were packed with.
    pub fn scales(&self) -> usize {
        if self.operator.per_channel { self.outputs } else { 1 }
    }

    /// Biases that are trained.
    pub fn trained_biases(&self) -> usize {
        if self.trains_biases { self.outputs } else { 0 }
    }

    /// Weights of one output lie one after the other, and not one after those of the other outputs.
    pub fn rows_are_contiguous(&self) -> bool {
        self.operator.kind != operator::DEPTHWISE_CONV_2D
    }
}
