//! A chain of fully connected layers: one sample's ascent is rank one a layer, and the pass at `w + e` needs no written
//! weight.

mod tail;
mod together;
mod workspace;

use super::dense::{self, DenseShape, FirstPass};
use super::{Loss, MAX_CHAIN_LAYERS, TailError, Target};
use crate::optim::sgd::Descent;
use crate::optim::{BiasTreatment, Geometry, Kind, Segment};
use crate::pack::{Activation, Pack, Sizes};
use crate::part::Part;
use heapless::Vec;
use workspace::Pass;
pub use workspace::{Ascended, Workspace};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layer {
    shape: DenseShape,
    /// First parameter in a flat buffer.
    parameters: usize,
    /// First output in a buffer of all layers' outputs.
    outputs: usize,
}

impl Layer {
    fn parameters<'a>(&self, all: &'a [f32]) -> &'a [f32] {
        all.part(self.parameters..self.parameters + self.shape.parameters())
    }

    fn parameters_mut<'a>(&self, all: &'a mut [f32]) -> &'a mut [f32] {
        all.part_mut(self.parameters..self.parameters + self.shape.parameters())
    }

    fn outputs<'a>(&self, all: &'a [f32]) -> &'a [f32] {
        all.part(self.outputs..self.outputs + self.shape.outputs)
    }

    fn outputs_mut<'a>(&self, all: &'a mut [f32]) -> &'a mut [f32] {
        all.part_mut(self.outputs..self.outputs + self.shape.outputs)
    }
}

/// The chain of dense layers that is trained.
///
/// ```
/// use flatmin::internals::{pack::Activation, tail::{DenseChain, dense::DenseShape}};
/// let tail = DenseChain::new(&[
///     DenseShape { inputs: 64, outputs: 32, activation: Activation::Relu },
///     DenseShape { inputs: 32, outputs: 10, activation: Activation::None },
/// ])?;
/// assert_eq!(tail.parameters(), 64 * 32 + 32 + 32 * 10 + 10);
/// # Ok::<(), flatmin::TailError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseChain {
    layers: Vec<Layer, MAX_CHAIN_LAYERS>,
    parameters: usize,
    outputs: usize,
    objective: Loss,
    /// Outputs of the last layer that are spare.
    spare: usize,
}

impl DenseChain {
    /// A tail of these layers, first to last, with softmax cross-entropy.
    ///
    /// # Errors
    /// See [`TailError`].
    pub fn new(shapes: &[DenseShape]) -> Result<Self, TailError> {
        let objective = Loss::CrossEntropy;
        let mut tail = Self { layers: Vec::new(), parameters: 0, outputs: 0, objective, spare: 0 };
        for (index, &shape) in shapes.iter().enumerate() {
            let before = tail.layers.last().map_or(shape.inputs, |l| l.shape.outputs);
            if before != shape.inputs {
                return Err(TailError::Mismatch { layer: index, expected: before, found: shape.inputs });
            }
            let layer = Layer { shape, parameters: tail.parameters, outputs: tail.outputs };
            tail.layers.push(layer).map_err(|_| TailError::TooDeep)?;
            tail.parameters += shape.parameters();
            tail.outputs += shape.outputs;
        }
        match shapes.last() {
            None => Err(TailError::Empty),
            Some(last) if last.activation != Activation::None => Err(TailError::LastActivation),
            Some(_) => Ok(tail),
        }
    }

    /// The same tail with another loss.
    ///
    /// ```
    /// use flatmin::{internals::{pack::Activation, tail::{DenseChain, dense::DenseShape}}, Loss};
    /// let layer = DenseShape { inputs: 8, outputs: 1, activation: Activation::None };
    /// let detector = DenseChain::new(&[layer])?.with_loss(Loss::BinaryCrossEntropy);
    /// # Ok::<(), flatmin::TailError>(())
    /// ```
    pub fn with_loss(self, objective: Loss) -> Self {
        Self { objective, ..self }
    }

    /// The tail of a pack.
    ///
    /// # Errors
    /// [`TailError::Empty`] for a pack without trainable layers.
    pub fn of(pack: &Pack) -> Result<Self, TailError> {
        let mut shapes: Vec<DenseShape, MAX_CHAIN_LAYERS> = Vec::new();
        for layer in pack.trained_layers() {
            let activation = layer.operator.fused_activation();
            let shape = DenseShape { inputs: layer.taps, outputs: layer.outputs, activation };
            shapes.push(shape).map_err(|_| TailError::TooDeep)?;
        }
        Self::new(&shapes).map(|tail| Self { spare: pack.spare_classes(), ..tail.with_loss(pack.loss()) })
    }

    /// Weights and biases of all layers.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Sum of the layers' output widths.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Length of the tail's input.
    pub fn features(&self) -> usize {
        self.layers.first().map_or(0, |l| l.shape.inputs)
    }

    /// Length of the tail's output, spare classes left out.
    pub fn classes(&self) -> usize {
        self.layers.last().map_or(0, |l| l.shape.outputs.saturating_sub(self.spare))
    }

    /// The loss of the last layer's outputs, and its gradient by them.
    #[inline(always)]
    fn loss_of(&self, last: &Layer, pass: &mut Pass, target: Target) -> f32 {
        let (outputs, deltas) = (last.outputs(pass.outputs), last.outputs_mut(pass.deltas));
        self.objective.of_classes(self.classes(), outputs, target, deltas)
    }

    /// The layers' shapes, first to last.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = DenseShape> + '_ {
        self.layers.iter().map(|l| l.shape)
    }

    /// What the flat buffers hold, in order: weights, biases, weights, biases, and so on.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + Clone + '_ {
        self.layers.iter().flat_map(|l| {
            [
                Segment { length: l.shape.weights(), kind: Kind::Weight },
                Segment { length: l.shape.outputs, kind: Kind::Bias },
            ]
        })
    }

    /// Floats that [`Workspace::new`] needs.
    pub const fn workspace_length(features: usize, outputs: usize) -> usize {
        Sizes::chain_workspace(features, outputs)
    }

    /// The network's function: outputs of all layers at `parameters`, for the features in `workspace`. The
    /// logits are then [`Workspace::logits`].
    pub fn forward(&self, parameters: &[f32], workspace: &mut Workspace) {
        let Workspace { features, first, second } = workspace;
        let mut input: &[f32] = features;
        let mut rest: &mut [f32] = first.outputs;
        for (index, layer) in self.layers.iter().enumerate() {
            let (y, behind) = core::mem::take(&mut rest).parts_mut_at(layer.shape.outputs);
            dense::forward(&layer.shape, layer.parameters(parameters), input, y);
            if index == 0 {
                // The perturbed pass starts from this layer's z: see `dense::shift_first_layer`.
                crate::cpu::lanes::copy(layer.outputs_mut(second.outputs), y);
            }
            dense::activate(layer.shape.activation, y);
            (input, rest) = (y, behind);
        }
    }

    /// Forward, loss and deltas at `parameters`. Returns the loss.
    pub fn first_pass<'t>(
        &self,
        parameters: &[f32],
        target: impl Into<Target<'t>>,
        workspace: &mut Workspace,
    ) -> f32 {
        self.forward(parameters, workspace);
        let pass = &mut workspace.first;
        let Some(last) = self.layers.last() else { return f32::NAN };
        let loss = self.loss_of(last, pass, target.into());
        self.hand_down(pass, |layer, delta, d_input| {
            dense::backward_input(&layer.shape, layer.parameters(parameters), delta, d_input);
        });
        loss
    }

    /// Hands deltas down from the last layer to the first.
    fn hand_down(&self, pass: &mut Pass, backward_input: impl Fn(&Layer, &[f32], &mut [f32])) {
        for (below, layer) in self.layers.iter().zip(self.layers.iter().skip(1)).rev() {
            let (front, back) = pass.deltas.parts_mut_at(layer.outputs);
            let delta = back.part(..layer.shape.outputs);
            let d_input = below.outputs_mut(front);
            backward_input(layer, delta, d_input);
            dense::mask(below.shape.activation, below.outputs(pass.outputs), d_input);
        }
    }

    /// `||g||^2` of one sample's gradient after a pass; infinite or NaN exactly if the gradient is not safe to
    /// add.
    fn norm_squared(&self, features: &[f32], outputs: &[f32], deltas: &[f32]) -> f32 {
        self.inputs(features, outputs).fold(0.0, |sum, (layer, a)| {
            let delta = layer.outputs(deltas);
            sum + crate::cpu::lanes::norm_squared(delta) * (crate::cpu::lanes::norm_squared(a) + 1.0)
        })
    }

    /// Each layer with its input in a pass.
    fn inputs<'s>(
        &'s self,
        features: &'s [f32],
        outputs: &'s [f32],
    ) -> impl Iterator<Item = (&'s Layer, &'s [f32])> {
        let below = self.layers.iter().map(|l| l.outputs(outputs));
        self.layers.iter().zip(core::iter::once(features).chain(below))
    }

    /// `||T g||^2` of one sample after the first pass. Leaves the energies for [`Self::perturbed_pass`].
    pub fn ascent_norm_squared(
        &self,
        parameters: &[f32],
        geometry: &Geometry,
        workspace: &mut Workspace,
    ) -> f32 {
        let Workspace { features, first, second } = workspace;
        let mut sum = 0.0;
        for (layer, a) in self.inputs(features, first.outputs) {
            let pass = FirstPass { a, delta: layer.outputs(first.deltas) };
            // The second pass's deltas are free until it gets there.
            let energies = layer.outputs_mut(second.deltas);
            if let Some(eta) = geometry.eta {
                dense::row_energies(&layer.shape, layer.parameters(parameters), eta, pass, energies);
            }
            sum += dense::sample_norm_squared(
                &layer.shape,
                layer.parameters(parameters),
                geometry,
                pass,
                energies,
            );
        }
        sum
    }

    /// Forward, loss and deltas at `w + e`, `e = c T^2 g` of this very sample, after [`Self::first_pass`] and
    /// [`Self::ascent_norm_squared`]. No parameter is written. Returns the loss at `w + e`.
    pub fn perturbed_pass<'t>(
        &self,
        parameters: &[f32],
        geometry: &Geometry,
        c: f32,
        target: impl Into<Target<'t>>,
        workspace: &mut Workspace,
    ) -> f32 {
        let Workspace { features, first, second } = workspace;
        let (mut input, mut rest): (&[f32], &mut [f32]) = (features, second.outputs);
        for (index, (layer, a)) in self.inputs(features, first.outputs).enumerate() {
            let (z, behind) = core::mem::take(&mut rest).parts_mut_at(layer.shape.outputs);
            let (own, pass) =
                (layer.parameters(parameters), FirstPass { a, delta: layer.outputs(first.deltas) });
            if index == 0 {
                dense::shift_first_layer(
                    &layer.shape,
                    own,
                    geometry,
                    c,
                    pass,
                    layer.outputs(second.deltas),
                    z,
                );
            } else {
                dense::forward_perturbed(&layer.shape, own, geometry, c, pass, input, z);
            }
            dense::activate(layer.shape.activation, z);
            (input, rest) = (z, behind);
        }
        let Some(last) = self.layers.last() else { return f32::NAN };
        let loss = self.loss_of(last, second, target.into());
        let first: &Pass = first;
        self.hand_down(second, |layer, delta, d_input| {
            let below = layer.outputs - layer.shape.inputs;
            let a = first.outputs.part(below..layer.outputs);
            let pass = FirstPass { a, delta: layer.outputs(first.deltas) };
            dense::backward_input_perturbed(
                &layer.shape,
                layer.parameters(parameters),
                geometry,
                c,
                pass,
                delta,
                d_input,
            );
        });
        loss
    }

    /// `gradient += scale * dL/dw` of the pass that ran last: the first, or with `second` the perturbed one.
    pub fn accumulate(
        &self,
        scale: f32,
        bias: BiasTreatment,
        workspace: &Workspace,
        second: bool,
        gradient: &mut [f32],
    ) {
        let pass = if second { &workspace.second } else { &workspace.first };
        for (layer, a) in self.inputs(workspace.features, pass.outputs) {
            let delta = layer.outputs(pass.deltas);
            dense::accumulate(&layer.shape, scale, bias, a, delta, layer.parameters_mut(gradient));
        }
    }

    /// A minibatch of one: [`sgd::prepare`](crate::optim::sgd::prepare), [`Self::accumulate`] and
    /// [`sgd::descend`](crate::optim::sgd::descend) in one pass, with the same bits.
    pub fn descend_alone(
        &self,
        descent: &Descent,
        workspace: &Workspace,
        second: bool,
        velocity: &mut [f32],
        weights: &mut [f32],
    ) {
        let pass = if second { &workspace.second } else { &workspace.first };
        for (layer, a) in self.inputs(workspace.features, pass.outputs) {
            let (v, w) = (layer.parameters_mut(velocity), layer.parameters_mut(weights));
            dense::descend_alone(&layer.shape, descent, a, layer.outputs(pass.deltas), v, w);
        }
    }

    /// Multiply-adds of one sample's share of a step.
    pub fn step_macs(&self, geometry: Option<&Geometry>, stored: bool) -> u64 {
        let weights: u64 = self.layers.iter().map(|l| l.shape.weights() as u64).sum();
        let behind_first = weights - self.layers.first().map_or(0, |l| l.shape.weights() as u64);
        let pass = weights + behind_first;
        match geometry {
            None => pass + weights,
            Some(_) if stored => 2 * (pass + weights),
            Some(g) if g.eta.is_some() => pass + weights + 2 * behind_first + weights + 2 * behind_first,
            Some(_) => pass + weights + 2 * behind_first,
        }
    }

    /// Multiply-adds of one forward pass.
    pub fn forward_macs(&self) -> u64 {
        self.layers.iter().map(|l| l.shape.weights() as u64).sum()
    }

    /// Calls `see(layer, lowest, highest)` with the range of every layer's output after [`Self::forward`], spare
    /// classes left out.
    pub fn for_each_range(&self, workspace: &Workspace, mut see: impl FnMut(usize, f32, f32)) {
        for (index, layer) in self.layers.iter().enumerate() {
            let outputs = layer.outputs(workspace.first.outputs);
            let spare = if index + 1 == self.layers.len() { self.spare } else { 0 };
            let outputs = outputs.part(..outputs.len().saturating_sub(spare));
            let low = outputs.iter().fold(f32::INFINITY, |m, &x| m.min(x));
            let high = outputs.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
            see(index, low, high);
        }
    }
}
