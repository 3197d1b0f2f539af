//! The trainable layers after the cut, in f32: shape, first pass, and the pass at `w + e`.
//!
//! A tail is a chain of fully connected layers ([`DenseChain`]), whose ascent of one sample needs no written weight,
//! or a graph of any layers ([`GraphTail`]). It knows no optimizer; it reads and writes flat parameter buffers.
//! Layout of every such buffer, layer after layer: weights as in the pack (`[outputs, inputs]` row-major of a fully
//! connected layer), then biases `[outputs]`.

mod chain;
pub mod dense;
mod graph;
pub mod kernels;
mod loss;

pub(crate) use crate::label::{Kept, argmax, bits};
pub(crate) use crate::label::{Loss, Target};
use crate::optim::{BiasTreatment, Geometry, Segment};
use crate::pack::Pack;
pub(crate) use crate::pack::{MAX_CHAIN_LAYERS, MAX_LAYERS};
use crate::recipe::Ascent;
pub use chain::{Ascended, DenseChain, Workspace};
pub use graph::{GraphTail, keeps};
pub(crate) use graph::{backward_nodes, forward_nodes, gain_factor, node_op_of};
pub use loss::{binary_cross_entropy, mean_squared_error, softmax_cross_entropy};

/// Why layers do not make a tail.
/// [`crate::Tuner::start`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TailError {
    /// No layer at all: there is nothing to train.
    #[error("the tail has no layer to train; pack with --layers 1 or more")]
    Empty,
    /// More than 8 layers.
    #[error("the chain has more than {MAX_CHAIN_LAYERS} layers")]
    TooDeep,
    /// The loss is taken of bare outputs, so that nothing may stand after the last layer.
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

/// What training needs of a tail. Every buffer is flat; every workspace has [`Self::workspace_floats`].
pub trait Tail {
    /// Number of parameters.
    fn parameters(&self) -> usize;
    /// Floats of one sample's features, which begin the workspace.
    fn features(&self) -> usize;
    /// Length of the output, spare classes left out.
    fn classes(&self) -> usize;
    /// What [`Self::forward_loss`] is.
    fn objective(&self) -> Loss;
    /// Floats of the workspace.
    fn workspace_floats(&self) -> usize;
    /// What the parameters are, in order.
    fn segments(&self) -> impl Iterator<Item = Segment> + Clone;
    /// Makes so many outputs classes; those after them are spare.
    fn set_classes(&mut self, classes: usize);
    /// Multiply-adds of one forward pass.
    fn forward_macs(&self) -> u64;
    /// Multiply-adds of one backward pass.
    fn backward_macs(&self) -> u64;
    /// Multiply-adds of one sample's share of a step; `stored` where the ascent is written into the weights.
    fn step_macs(&self, geometry: Option<&Geometry>, _stored: bool) -> u64 {
        let passes = if geometry.is_some() { 2 } else { 1 };
        passes * (self.forward_macs() + self.backward_macs())
    }

    /// Forward at `parameters`, for the features in `workspace`: the loss, and in the workspace its gradient by the
    /// output.
    fn forward_loss(&self, parameters: &[f32], target: Target, workspace: &mut [f32]) -> f32;
    /// Forward at `parameters`, for the features in `workspace`. Calls `see(layer, lowest, highest)` with the range of every
    /// trained layer's output, spare classes left out.
    fn forward_ranges(&self, parameters: &[f32], workspace: &mut [f32], see: &mut dyn FnMut(usize, f32, f32));
    /// `gradient += scale * dL/dw`, after [`Self::forward_loss`] at the same parameters.
    fn backward(
        &self,
        parameters: &[f32],
        scale: f32,
        bias: BiasTreatment,
        workspace: &mut [f32],
        gradient: &mut [f32],
    );
    /// The output after [`Self::forward_loss`].
    fn output<'w>(&self, workspace: &'w [f32]) -> &'w [f32];
    /// What the last layer read in [`Self::forward_loss`].
    fn last_input<'w>(&self, workspace: &'w [f32]) -> &'w [f32];

    /// Whether a sample's gradient is one outer product in every layer. Its norm is then known before it is added
    /// anywhere, and the pass at its own `w + e` needs no written weight: [`Self::ascend_unstored`].
    fn ascends_unstored(&self) -> bool {
        false
    }
    /// Whether the gradient is finite after [`Self::forward_loss`]; true of a tail that does not know before it is summed.
    fn gradient_is_finite(&self, _workspace: &[f32]) -> bool {
        true
    }
    /// Pass at `w + e` after [`Self::forward_loss`], with `e` the ascent of this very sample; without an ascent, the pass that
    /// was. `None` of a tail that does not [ascend unstored](Self::ascends_unstored).
    fn ascend_unstored<'w>(
        &self,
        _parameters: &[f32],
        _ascent: Option<&Ascent>,
        _target: Target,
        _workspace: &'w mut [f32],
    ) -> Option<Ascended<'_, 'w>> {
        None
    }

    /// Samples at most that [`Self::pass_many`] and [`Self::accumulate_many`] take faster than one after the other.
    fn together(&self) -> usize {
        1
    }
    /// [`Self::forward_loss`] of a sample per target, each in a workspace of its own, one after the other in `workspaces`.
    /// Writes a loss per sample.
    fn pass_many(&self, parameters: &[f32], targets: &[Target], workspaces: &mut [f32], losses: &mut [f32]) {
        let each = workspaces.chunks_exact_mut(self.workspace_floats().max(1));
        for ((workspace, &target), loss) in each.zip(targets).zip(losses) {
            *loss = self.forward_loss(parameters, target, workspace);
        }
    }
    /// [`Self::backward`] of one sample after the other, after [`Self::pass_many`] of `count`.
    fn accumulate_many(
        &self,
        parameters: &[f32],
        count: usize,
        scale: f32,
        bias: BiasTreatment,
        workspaces: &mut [f32],
        gradient: &mut [f32],
    ) {
        for workspace in workspaces.chunks_exact_mut(self.workspace_floats().max(1)).take(count) {
            self.backward(parameters, scale, bias, workspace, gradient);
        }
    }
}

/// The tail of a pack.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One of them, in one place.
pub enum PackedTail<'p> {
    /// Fully connected layers, one after the other.
    Chain(DenseChain),
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
            None => DenseChain::of(pack).map(Self::Chain),
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

    fn set_classes(&mut self, classes: usize) {
        either!(self, tail => tail.set_classes(classes));
    }

    fn forward_macs(&self) -> u64 {
        either!(self, tail => tail.forward_macs())
    }

    fn backward_macs(&self) -> u64 {
        either!(self, tail => tail.backward_macs())
    }

    fn step_macs(&self, geometry: Option<&Geometry>, stored: bool) -> u64 {
        either!(self, tail => Tail::step_macs(tail, geometry, stored))
    }

    fn forward_loss(&self, parameters: &[f32], target: Target, workspace: &mut [f32]) -> f32 {
        either!(self, tail => tail.forward_loss(parameters, target, workspace))
    }

    fn forward_ranges(
        &self,
        parameters: &[f32],
        workspace: &mut [f32],
        see: &mut dyn FnMut(usize, f32, f32),
    ) {
        either!(self, tail => tail.forward_ranges(parameters, workspace, see));
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

    fn ascends_unstored(&self) -> bool {
        either!(self, tail => tail.ascends_unstored())
    }

    fn gradient_is_finite(&self, workspace: &[f32]) -> bool {
        either!(self, tail => tail.gradient_is_finite(workspace))
    }

    fn ascend_unstored<'w>(
        &self,
        parameters: &[f32],
        ascent: Option<&Ascent>,
        target: Target,
        workspace: &'w mut [f32],
    ) -> Option<Ascended<'_, 'w>> {
        either!(self, tail => tail.ascend_unstored(parameters, ascent, target, workspace))
    }

    fn together(&self) -> usize {
        either!(self, tail => tail.together())
    }

    fn pass_many(&self, parameters: &[f32], targets: &[Target], workspaces: &mut [f32], losses: &mut [f32]) {
        either!(self, tail => tail.pass_many(parameters, targets, workspaces, losses));
    }

    fn accumulate_many(
        &self,
        parameters: &[f32],
        count: usize,
        scale: f32,
        bias: BiasTreatment,
        workspaces: &mut [f32],
        gradient: &mut [f32],
    ) {
        either!(self, tail => tail.accumulate_many(parameters, count, scale, bias, workspaces, gradient));
    }
}
