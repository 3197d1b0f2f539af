//! What a chain computes of one sample, in memory that is lent for the length of a call.

use super::DenseChain;
use crate::optim::BiasTreatment;
use crate::optim::sgd::Descent;
use crate::part::Part;

/// Activations and deltas of one pass, all layers one after the other.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub outputs: &'a mut [f32],
    pub deltas: &'a mut [f32],
}

/// One sample's features, activations and deltas: two passes' worth, lent for the length of a call.
#[derive(Debug)]
pub struct Workspace<'a> {
    /// The tail's input.
    pub features: &'a mut [f32],
    pub(super) first: Pass<'a>,
    pub(super) second: Pass<'a>,
}

impl<'a> Workspace<'a> {
    /// Divides `memory`; `None` if it is shorter than [`DenseChain::workspace_length`].
    pub fn new(tail: &DenseChain, memory: &'a mut [f32]) -> Option<Self> {
        let outputs = tail.outputs();
        let (features, rest) = memory.split_at_mut_checked(tail.features())?;
        let (y, rest) = rest.split_at_mut_checked(outputs)?;
        let (delta, rest) = rest.split_at_mut_checked(outputs)?;
        let (y2, rest) = rest.split_at_mut_checked(outputs)?;
        let (delta2, _) = rest.split_at_mut_checked(outputs)?;
        Some(Self {
            features,
            first: Pass { outputs: y, deltas: delta },
            second: Pass { outputs: y2, deltas: delta2 },
        })
    }

    /// The tail's output after [`DenseChain::forward`] or a first pass; `classes` as the tail has, which must
    /// have no spare ones.
    pub fn logits(&self, classes: usize) -> &[f32] {
        let outputs: &[f32] = self.first.outputs;
        outputs.part(outputs.len().saturating_sub(classes)..)
    }
}

/// A sample of a [`DenseChain`] at `w + e`, of which nothing is written into the weights: [`crate::tail::Tail::ascend_unstored`].
#[derive(Debug)]
pub struct Ascended<'t, 'w> {
    pub(super) chain: &'t DenseChain,
    pub(super) workspace: Workspace<'w>,
    pub(super) risen: Option<f32>,
    pub(super) slope: f32,
}

impl Ascended<'_, '_> {
    /// The loss at `w + e`; `None` where there is no `e`: the gradient is then that at `w`.
    pub fn risen(&self) -> Option<f32> {
        self.risen
    }

    /// What of the rise is the gradient's, to first order: `rho ||T g||`.
    pub fn slope(&self) -> f32 {
        self.slope
    }

    /// Whether the gradient at `w + e` is finite.
    pub fn gradient_is_finite(&self) -> bool {
        let Workspace { features, second, .. } = &self.workspace;
        self.chain.norm_squared(features, second.outputs, second.deltas).is_finite()
    }

    /// `gradient += scale * dL/dw`.
    pub fn accumulate(&self, scale: f32, bias: BiasTreatment, gradient: &mut [f32]) {
        self.chain.accumulate(scale, bias, &self.workspace, self.risen.is_some(), gradient);
    }

    /// The whole step of a minibatch of this sample: see [`DenseChain::descend_alone`].
    pub fn descend(&self, descent: &Descent, velocity: &mut [f32], weights: &mut [f32]) {
        self.chain.descend_alone(descent, &self.workspace, self.risen.is_some(), velocity, weights);
    }
}
