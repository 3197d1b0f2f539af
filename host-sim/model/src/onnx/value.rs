//! What a name in the file stands for while the nodes are folded.

use super::constant::{Constant, Weights};
use super::layout::Layout;
use crate::graph::{Binary, Unary, Window};
use std::rc::Rc;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// It depends on what was refused.
    Unknown,
    /// Known numbers.
    Constant(Rc<Constant>),
    /// Known numbers behind a DequantizeLinear.
    Weights(Rc<Weights>),
    /// A tensor of the graph.
    Activation(Activation),
    /// The result of an operator before it is known how it is quantized.
    Pending(Rc<Pending>),
}

/// A tensor of the graph, as the file sees it.
#[derive(Debug, Clone)]
pub(super) struct Activation {
    /// Index in the graph.
    pub tensor: usize,
    /// How its elements lie there.
    pub layout: Layout,
    /// Whether the file means real numbers: behind a DequantizeLinear, or float32.
    pub real: bool,
}

/// An operator that waits for the quantization of its result.
#[derive(Debug)]
pub(super) struct Pending {
    /// Place of its node in the file.
    pub node: usize,
    /// Name of the result.
    pub name: String,
    pub work: Work,
    /// Layout of the result.
    pub layout: Layout,
    /// Shape of the result in the graph.
    pub shape: Vec<usize>,
    /// What Relu and Clip behind it leave.
    pub clamp: [f32; 2],
}

/// No clamp.
pub(super) const OPEN: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// What a pending operator computes; numbers are tensors of the graph.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Linear(Linear),
    AveragePool {
        input: usize,
        window: Window,
        filter: [usize; 2],
        /// Whether zeros around the image count.
        padding_counts: bool,
        /// Whether the one window is the whole image.
        whole: bool,
    },
    Mean {
        input: usize,
        axes: Vec<usize>,
    },
    Binary(Binary, [usize; 2]),
    Unary(Unary, usize),
    /// The factor of a hard swish: no operator of its own.
    HardSigmoid(usize),
    /// The input itself, for clamps.
    Same(usize),
    Prelu([usize; 2]),
    Softmax(usize),
    Concatenation {
        inputs: Vec<usize>,
        axis: usize,
    },
}

impl Work {
    /// What a copy takes beside its own size.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Linear(linear) => 16 * linear.channels,
            Self::Concatenation { inputs, .. } => 8 * inputs.len(),
            _ => 0,
        }
    }
}

/// A convolution or a dense layer.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    pub input: usize,
    /// Filter in the graph's order, quantized.
    pub filter: usize,
    pub geometry: Geometry,
    pub bias: Option<Bias>,
    /// Output channels.
    pub channels: usize,
    /// Axis of the channels in the file's shape.
    pub channel_axis: usize,
}

/// Which of the linear operators.
#[derive(Debug, Clone, Copy)]
pub(super) enum Geometry {
    Convolution(Window),
    /// With its multiplier.
    Depthwise(Window, usize),
    Dense,
}

/// A bias a channel: a number of steps, and the step in real units.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bias {
    pub numbers: Vec<f64>,
    pub steps: Vec<f64>,
}
