//! The trainable layers behind the cut, in f32: shape, first pass, and the pass at `w + e`.
//!
//! A tail is a chain of fully connected layers ([`TailShape`]), whose ascent of one sample needs no written weight,
//! or a graph of any layers ([`GraphTail`]). It knows no optimizer; it reads and writes flat parameter buffers.
//! Layout of every such buffer, layer after layer: weights as in the pack (`[outputs, inputs]` row-major of a fully
//! connected layer), then biases `[outputs]`.

mod chain;
pub mod dense;
mod graph;
pub(crate) mod imprint;
pub mod kernels;
mod loss;

pub(crate) use crate::label::{Kept, argmax, bits};
pub use crate::label::{Loss, Target};
use crate::optim::{BiasTreatment, Geometry, Segment};
use crate::pack::Pack;
pub use crate::pack::{MAX_CHAIN_LAYERS, MAX_LAYERS};
pub use chain::{TailShape, Workspace};
pub use graph::GraphTail;
pub(crate) use graph::{backward_nodes, forward_nodes, gain_factor};
pub use loss::{binary_cross_entropy, mean_squared_error, softmax_cross_entropy};

/// Why layers do not make a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TailError {
    /// No layer at all: there is nothing to train.
    #[error("the tail has no layer to train; pack with --layers 1 or more")]
    Empty,
    /// More than [`MAX_CHAIN_LAYERS`].
    #[error("the chain has more than {MAX_CHAIN_LAYERS} layers")]
    TooDeep,
    /// The loss is taken of bare outputs, so that nothing may stand behind the last layer.
    #[error("the last layer has an activation; the loss wants bare outputs")]
    LastActivation,
    /// Another loss than softmax cross-entropy, which a compact tail has.
    #[error("the compact tail is trained with softmax cross-entropy alone; use `Tuner`")]
    Loss,
    /// No chain of fully connected layers, which a compact tail has to be.
    #[error(
        "the compact tail takes fully connected layers alone, all trained; pack fewer layers, or use `Tuner`"
    )]
    NoChain,
    /// Spare classes, which a compact tail cannot add.
    #[error("the compact tail cannot add classes; pack without spare ones, or use `Tuner`")]
    SpareClasses,
    /// A layer's input is not as long as the output before it.
    #[error("layer {layer} takes {found} inputs, the layer before gives {expected}")]
    Mismatch {
        /// Which layer, from 0.
        layer: usize,
        /// Outputs of the layer before.
        expected: usize,
        /// Inputs of this layer.
        found: usize,
    },
}

/// What a step of an optimizer needs of a tail. Every buffer is flat.
pub trait Tail {
    /// Number of parameters.
    fn parameters(&self) -> usize;
    /// Floats of one sample's features, which begin the workspace.
    fn features(&self) -> usize;
    /// Length of the output, spare classes left out.
    fn classes(&self) -> usize;
    /// What [`Self::loss`] is.
    fn objective(&self) -> Loss;
    /// Floats of the workspace.
    fn workspace_floats(&self) -> usize;
    /// What the parameters are, in order.
    fn segments(&self) -> impl Iterator<Item = Segment> + Clone;
    /// Forward at `parameters`, for the features in `workspace`: the loss, and in the workspace its gradient by the
    /// output.
    fn loss(&self, parameters: &[f32], target: Target, workspace: &mut [f32]) -> f32;
    /// `gradient += scale * dL/dw`, after [`Self::loss`] at the same parameters.
    fn backward(
        &self,
        parameters: &[f32],
        scale: f32,
        bias: BiasTreatment,
        workspace: &mut [f32],
        gradient: &mut [f32],
    );
    /// The output after [`Self::loss`].
    fn output<'w>(&self, workspace: &'w [f32]) -> &'w [f32];
    /// What the last layer read in [`Self::loss`].
    fn last_input<'w>(&self, workspace: &'w [f32]) -> &'w [f32];
    /// Makes so many outputs classes; those behind them are spare.
    fn set_classes(&mut self, classes: usize);
    /// Multiply-adds of one forward pass.
    fn forward_macs(&self) -> u64;
    /// Multiply-adds of one backward pass.
    fn backward_macs(&self) -> u64;
    /// The chain, if it is one: its samples can be perturbed one by one without a written weight.
    fn chain(&self) -> Option<&TailShape> {
        None
    }
    /// Multiply-adds of one sample's share of a step; `stored` where the ascent is written into the weights.
    fn step_macs(&self, geometry: Option<&Geometry>, stored: bool) -> u64 {
        let passes = if geometry.is_some() { 2 } else { 1 };
        match self.chain() {
            Some(chain) => chain.step_macs(geometry, stored),
            None => passes * (self.forward_macs() + self.backward_macs()),
        }
    }
}

/// The tail of a pack.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One of them, in one place.
pub enum PackedTail<'p> {
    /// Fully connected layers, one behind the other.
    Chain(TailShape),
    /// Any layers.
    Graph(GraphTail<'p>),
}

impl<'p> PackedTail<'p> {
    /// The tail of `pack`.
    ///
    /// # Errors
    /// [`TailError::Empty`] for a pack without trainable layers.
    pub fn of(pack: &Pack<'p>) -> Result<Self, TailError> {
        match GraphTail::of(pack) {
            Some(graph) => Ok(Self::Graph(graph)),
            None => TailShape::of(pack).map(Self::Chain),
        }
    }
}

/// Calls a method of whichever it is.
macro_rules! either {
    ($self:ident, $tail:ident => $call:expr) => {
        match $self {
            PackedTail::Chain($tail) => $call,
            PackedTail::Graph($tail) => $call,
        }
    };
}

impl Tail for PackedTail<'_> {
    fn parameters(&self) -> usize {
        either!(self, tail => tail.parameters())
    }

    fn features(&self) -> usize {
        either!(self, tail => tail.features())
    }

    fn classes(&self) -> usize {
        either!(self, tail => tail.classes())
    }

    fn objective(&self) -> Loss {
        either!(self, tail => tail.objective())
    }

    fn workspace_floats(&self) -> usize {
        either!(self, tail => tail.workspace_floats())
    }

    fn segments(&self) -> impl Iterator<Item = Segment> + Clone {
        let (chain, graph) = match self {
            Self::Chain(tail) => (Some(tail.segments()), None),
            Self::Graph(tail) => (None, Some(tail.segments())),
        };
        chain.into_iter().flatten().chain(graph.into_iter().flatten())
    }

    fn loss(&self, parameters: &[f32], target: Target, workspace: &mut [f32]) -> f32 {
        either!(self, tail => tail.loss(parameters, target, workspace))
    }

    fn backward(
        &self,
        parameters: &[f32],
        scale: f32,
        bias: BiasTreatment,
        workspace: &mut [f32],
        gradient: &mut [f32],
    ) {
        either!(self, tail => tail.backward(parameters, scale, bias, workspace, gradient));
    }

    fn output<'w>(&self, workspace: &'w [f32]) -> &'w [f32] {
        either!(self, tail => tail.output(workspace))
    }

    fn last_input<'w>(&self, workspace: &'w [f32]) -> &'w [f32] {
        either!(self, tail => tail.last_input(workspace))
    }

    fn set_classes(&mut self, classes: usize) {
        either!(self, tail => tail.set_classes(classes));
    }

    fn forward_macs(&self) -> u64 {
        either!(self, tail => tail.forward_macs())
    }

    fn backward_macs(&self) -> u64 {
        either!(self, tail => tail.backward_macs())
    }

    fn chain(&self) -> Option<&TailShape> {
        match self {
            Self::Chain(tail) => Some(tail),
            Self::Graph(_) => None,
        }
    }
}
