//! A step as a machine that stops between any two slices. A slice is one sample's pass, forward and backward, or at
//! most two sweeps over the parameters: longer than any pass, and than those, it never gets.
//!
//! | phase | slices | work of a slice | then |
//! | --- | --- | --- | --- |
//! | [`Phase::Prepare`] | 1 | `v = mu v + lambda w`; Adam: `v = 0` | ascent, or descent where no ascent is stored |
//! | [`Phase::Ascent`] | a sample of the group | adds its gradient at `w` to `g` | perturb |
//! | [`Phase::Perturb`] | 1 a group | `norm(T g)`; `e = c T^2 g; g = w; w = w + e` | descent |
//! | [`Phase::Descent`] | a sample | adds its gradient, at `w + e` where there is an `e`, to `v` | restore; next group; update |
//! | [`Phase::Restore`] | 1 a perturbed group | `w = g` | next group; update |
//! | [`Phase::Update`] | 1 | checks `v`; `w = w - lr v`; Adam's moments and `w` | done |
//!
//! A chain's descent with `m = 1` finds its ascent in the same slice, by the rank-one identity, without a written
//! weight. A chain that has seen its only sample updates in its slice, too, and prepares there: the step is one slice.
//!
//! [`Minibatch::in_groups`] makes slices of several samples of them, with the same bits.
//!
//! Between slices nothing lives in the workspace, so that it may serve others, and [`Step`] is all that a step is
//! beside its buffers: what is copied and put back goes on with the same bits. While [`Step::is_perturbed`], `w + e`
//! lies in the weights and `w` in the gradient.
//!
//! A further ascent is a phase between ascent and descent; a further base optimizer another prepare and update.

use super::{Buffers, Outcome, StepError, stores_perturbation};
use crate::cpu::block::TOGETHER;
use crate::cpu::lanes::norm_squared;
use crate::optim::sgd::{self, Descent};
use crate::optim::{adam, sam};
use crate::part::Part;
use crate::recipe::{Ascent, Optimizer, Recipe};
use crate::tail::{Loss, Tail, Target};
use heapless::Vec;

/// What a slice of a step works on.
/// [`crate::Tuner::position`] tells where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Phase {
    /// Momentum and weight decay.
    Prepare,
    /// A sample's gradient at `w`, for an ascent that is stored.
    Ascent,
    /// The weights go to `w + e`.
    Perturb,
    /// A sample's gradient at `w + e`, or at `w` without an ascent.
    Descent,
    /// The weights go back to `w`.
    Restore,
    /// The base optimizer's step.
    Update,
}

/// Where a step stands; with its buffers all there is to it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub struct Step {
    learning_rate: f32,
    /// Samples of the minibatch.
    count: usize,
    phase: Phase,
    /// First sample of the group that shares an ascent.
    group: usize,
    /// The next sample.
    sample: usize,
    /// The weights hold `w + e`, the gradient `w`.
    perturbed: bool,
    /// Sum over the minibatch at `w`.
    loss: f32,
    /// Sums over the group, at `w` and at `w + e`.
    group_loss: f32,
    group_risen: f32,
    /// Sum over the samples that were perturbed, and how many.
    rise: f32,
    risen: u32,
}

/// What a slice needs beside the [`Step`].
pub(crate) struct Minibatch<'a, 'b, T, L> {
    tail: &'a T,
    recipe: &'a Recipe,
    buffers: Buffers<'b>,
    load: L,
    /// None of the base optimizer, nor of rho = 0, which is the same in every bit.
    ascent: Option<Ascent>,
    stored: bool,
    /// Samples of a slice at most.
    together: usize,
}

impl<'a, 'b, 't, T: Tail, L: FnMut(usize, &mut [f32]) -> Target<'t>> Minibatch<'a, 'b, T, L> {
    /// The buffers must have their lengths: shorter ones give another result, though no panic.
    pub fn new(tail: &'a T, recipe: &'a Recipe, buffers: Buffers<'b>, load: L) -> Self {
        let (ascent, stored) = (recipe.ascent(), stores_perturbation(tail, recipe));
        Self { tail, recipe, buffers, load, ascent, stored, together: 1 }
    }

    /// Where no one waits for the next slice: as many samples in a slice as the workspace holds, which share what they
    /// read.
    pub fn in_groups(self) -> Self {
        let together = self.buffers.workspace.len() / self.tail.workspace_floats().max(1);
        Self { together: together.clamp(1, self.tail.together()), ..self }
    }

    /// The ascent, if it is written into the weights.
    fn stored(&self) -> Option<Ascent> {
        self.ascent.filter(|_| self.stored)
    }

    /// The ascent, if it is not.
    fn unstored(&self) -> Option<Ascent> {
        self.ascent.filter(|_| !self.stored)
    }

    /// Multiply-adds of a sample's share of a step.
    pub fn sample_macs(&self) -> u64 {
        self.tail.step_macs(self.ascent.map(|ascent| ascent.geometry).as_ref(), self.stored)
    }

    /// Loads a sample and runs the first pass. Returns the loss and what it was taken against.
    fn pass(&mut self, sample: usize) -> Result<(f32, Target<'t>), StepError> {
        let Buffers { weights, workspace, .. } = &mut self.buffers;
        let features = workspace.part_mut(..self.tail.features());
        let target = (self.load)(sample, features).smoothed(self.recipe.label_smoothing);
        admit(self.tail, &target, sample)?;
        let loss = self.tail.forward_loss(weights, target, workspace);
        check(loss, self.tail.gradient_is_finite(workspace), sample)?;
        Ok((loss, target))
    }

    /// First passes of the samples from `first` on that a slice takes, before `end`: how many. Adds their losses to
    /// `sum`.
    fn passes(&mut self, first: usize, end: usize, sum: &mut f32) -> Result<usize, StepError> {
        let count = self.together.min(end.saturating_sub(first));
        if TOGETHER == 1 || count <= 1 {
            *sum += self.pass(first)?.0;
            return Ok(1);
        }
        let (features, floats) = (self.tail.features(), self.tail.workspace_floats().max(1));
        let Buffers { weights, workspace, .. } = &mut self.buffers;
        let (mut targets, mut losses) = (Vec::<Target, TOGETHER>::new(), [0.0; TOGETHER]);
        let mut refused = None;
        for (own, sample) in workspace.chunks_exact_mut(floats).take(count).zip(first..) {
            let features = own.part_mut(..features);
            let target = (self.load)(sample, features).smoothed(self.recipe.label_smoothing);
            refused = admit(self.tail, &target, sample).err();
            // A sample before this one may have to be refused first.
            if refused.is_some() || targets.push(target).is_err() {
                break;
            }
        }
        self.tail.pass_many(weights, &targets, workspace, &mut losses);
        let own = workspace.chunks_exact(floats).take(targets.len());
        for ((own, loss), sample) in own.zip(losses).zip(first..) {
            check(loss, self.tail.gradient_is_finite(own), sample)?;
            *sum += loss;
        }
        refused.map_or(Ok(targets.len()), Err)
    }

    /// Backward passes of as many samples as [`Self::passes`] took, added to the gradient, or to the velocity.
    #[inline(always)]
    fn backward(&mut self, count: usize, scale: f32, into_gradient: bool) {
        let bias = self.recipe.bias;
        let Buffers { weights, velocity, gradient, workspace } = &mut self.buffers;
        let sum = if into_gradient { gradient } else { velocity };
        if TOGETHER > 1 && count > 1 {
            self.tail.accumulate_many(weights, count, scale, bias, workspace, sum);
        } else {
            self.tail.backward(weights, scale, bias, workspace, sum);
        }
    }
}

impl Step {
    /// Before the first slice of a step on `count` samples.
    pub fn new(learning_rate: f32, count: usize) -> Self {
        Self {
            learning_rate,
            count,
            phase: Phase::Prepare,
            group: 0,
            sample: 0,
            perturbed: false,
            loss: 0.0,
            group_loss: 0.0,
            group_risen: 0.0,
            rise: 0.0,
            risen: 0,
        }
    }

    /// One that takes most bytes, of minibatches of so many samples.
    #[cfg(test)]
    pub fn longest(samples: usize) -> Self {
        let (group, sample, risen) = (samples, samples, u32::MAX);
        Self { phase: Phase::Update, group, sample, perturbed: true, risen, ..Self::new(1.0, samples) }
    }

    /// Whether a step of `recipe` can stand so; `stored`, whether its ascent is written into the weights.
    pub fn is_sound(&self, recipe: &Recipe, stored: bool) -> bool {
        let ascends = matches!(self.phase, Phase::Ascent | Phase::Perturb | Phase::Restore) || self.perturbed;
        let ordered = self.group <= self.sample && self.sample <= self.count;
        ordered
            && self.count <= recipe.minibatch.into()
            && (stored || !ascends)
            && (0.0..=recipe.learning_rate).contains(&self.learning_rate)
    }

    /// Samples of the minibatch.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What the next slice works on.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The sample of the minibatch that the next slice works on, if it works on one.
    pub fn sample(&self) -> usize {
        self.sample
    }

    /// Whether the weights hold `w + e`, and the gradient `w`.
    pub fn is_perturbed(&self) -> bool {
        self.perturbed
    }

    /// Whether the gradient's buffer is lent to this step.
    pub fn holds_gradient(&self) -> bool {
        matches!(self.phase, Phase::Ascent | Phase::Perturb) || self.perturbed
    }

    /// Puts the weights back from their backup, if they are perturbed.
    pub fn restore(&mut self, weights: &mut [f32], gradient: &[f32]) {
        if core::mem::take(&mut self.perturbed) {
            sam::restore(weights, gradient);
        }
    }

    /// One slice; the outcome after the last.
    ///
    /// # Errors
    /// [`StepError`], with the weights as they were before the step, which is over.
    pub(crate) fn slice<'t, T: Tail, L: FnMut(usize, &mut [f32]) -> Target<'t>>(
        &mut self,
        batch: &mut Minibatch<T, L>,
    ) -> Result<Option<Outcome>, StepError> {
        match self.phase {
            Phase::Prepare => {
                // Where the only sample's gradient is checked before it is added, one slice goes over both buffers once.
                if batch.tail.ascends_unstored()
                    && self.count == 1
                    && !batch.stored
                    && batch.recipe.weight_decay == 0.0
                    && batch.recipe.optimizer == Optimizer::Sgd
                {
                    self.unstored(true, batch)?;
                    return Ok(Some(self.outcome()));
                }
                let Recipe { momentum, weight_decay, bias, .. } = *batch.recipe;
                let Buffers { weights, velocity, .. } = &mut batch.buffers;
                let (velocity, _) = velocity.split_at_mut(velocity.len().min(weights.len()));
                match batch.recipe.optimizer {
                    Optimizer::Sgd => {
                        sgd::prepare(velocity, weights, momentum, weight_decay, bias, batch.tail.segments());
                    }
                    Optimizer::Adam => velocity.fill(0.0),
                }
                self.next_group(batch);
            }
            Phase::Ascent => self.ascent(batch)?,
            Phase::Perturb => self.perturb(batch),
            Phase::Descent if batch.unstored().is_some() => {
                self.unstored(false, batch)?;
                self.next_group(batch);
            }
            Phase::Descent => self.descent(batch)?,
            Phase::Restore => {
                let Buffers { weights, gradient, .. } = &mut batch.buffers;
                self.restore(weights, gradient);
                self.rise += self.group_risen - self.group_loss;
                let group = self.sample.saturating_sub(self.group);
                self.risen = self.risen.saturating_add(u32::try_from(group).unwrap_or(u32::MAX));
                self.next_group(batch);
            }
            Phase::Update => {
                let Recipe { momentum, weight_decay, bias, optimizer, .. } = *batch.recipe;
                let Buffers { weights, velocity, .. } = &mut batch.buffers;
                let (velocity, state) = velocity.split_at_mut(velocity.len().min(weights.len()));
                // Other gradients were checked one by one.
                if !batch.tail.ascends_unstored() && !norm_squared(velocity).is_finite() {
                    return Err(StepError::NonFinite { sample: self.count.saturating_sub(1) });
                }
                let learning_rate = self.learning_rate;
                match optimizer {
                    Optimizer::Sgd => sgd::descend(weights, velocity, learning_rate),
                    Optimizer::Adam => {
                        let descent = adam::Descent { momentum, weight_decay, bias, learning_rate };
                        adam::descend(weights, velocity, state, &descent, batch.tail.segments());
                    }
                }
                return Ok(Some(self.outcome()));
            }
        }
        Ok(None)
    }

    /// One over the minibatch.
    fn scale(&self) -> f32 {
        1.0 / self.count.max(1) as f32
    }

    fn outcome(&self) -> Outcome {
        Outcome { loss: self.loss * self.scale(), rise: self.rise / self.risen.max(1) as f32 }
    }

    /// After the last sample of the group that shares an ascent.
    fn group_end(&self, recipe: &Recipe) -> usize {
        self.group.saturating_add(recipe.sharpness_batch.max(1).into()).min(self.count)
    }

    /// What comes before the next sample.
    fn next_group<'t, T: Tail, L: FnMut(usize, &mut [f32]) -> Target<'t>>(
        &mut self,
        batch: &Minibatch<T, L>,
    ) {
        self.group = self.sample;
        self.phase = match batch.stored() {
            _ if self.sample >= self.count => Phase::Update,
            Some(_) => Phase::Ascent,
            None => Phase::Descent,
        };
    }

    fn ascent<'t, T: Tail, L: FnMut(usize, &mut [f32]) -> Target<'t>>(
        &mut self,
        batch: &mut Minibatch<T, L>,
    ) -> Result<(), StepError> {
        let end = self.group_end(batch.recipe);
        if self.sample == self.group {
            batch.buffers.gradient.fill(0.0);
            self.group_loss = 0.0;
        }
        let passed = batch.passes(self.sample, end, &mut self.group_loss)?;
        let mean = 1.0 / end.saturating_sub(self.group).max(1) as f32;
        batch.backward(passed, mean, true);
        self.sample = self.sample.saturating_add(passed);
        if self.sample >= end {
            self.loss += self.group_loss;
            self.phase = Phase::Perturb;
        }
        Ok(())
    }

    fn perturb<'t, T: Tail, L: FnMut(usize, &mut [f32]) -> Target<'t>>(
        &mut self,
        batch: &mut Minibatch<T, L>,
    ) {
        let Buffers { weights, gradient, .. } = &mut batch.buffers;
        if let Some(Ascent { rho, geometry }) = &batch.ascent {
            let norm = sam::ascent_norm_squared(weights, gradient, geometry, batch.tail.segments());
            if let Some(c) = geometry.step_length(*rho, norm) {
                sam::perturb(weights, gradient, c, geometry, batch.tail.segments());
                self.perturbed = true;
            }
        }
        (self.sample, self.group_risen, self.phase) = (self.group, 0.0, Phase::Descent);
    }

    /// Gradients of a slice's samples at the weights as they lie there.
    fn descent<'t, T: Tail, L: FnMut(usize, &mut [f32]) -> Target<'t>>(
        &mut self,
        batch: &mut Minibatch<T, L>,
    ) -> Result<(), StepError> {
        let stored = batch.stored().is_some();
        let (end, loss) = match stored {
            true => (self.group_end(batch.recipe), &mut self.group_risen),
            false => (self.count, &mut self.loss),
        };
        let passed = batch.passes(self.sample, end, loss);
        let passed = passed.inspect_err(|_| self.restore(batch.buffers.weights, batch.buffers.gradient))?;
        batch.backward(passed, self.scale(), false);
        self.sample = self.sample.saturating_add(passed);
        if !stored {
            self.next_group(batch);
            return Ok(());
        }
        if self.sample >= self.group_end(batch.recipe) {
            if self.perturbed {
                self.phase = Phase::Restore;
            } else {
                self.next_group(batch);
            }
        }
        Ok(())
    }

    /// One sample without a written weight: SGD, or an ascent of its own by the rank-one identity. `alone`, the only
    /// sample, with the rest of the step.
    fn unstored<'t, T: Tail, L: FnMut(usize, &mut [f32]) -> Target<'t>>(
        &mut self,
        alone: bool,
        batch: &mut Minibatch<T, L>,
    ) -> Result<(), StepError> {
        let sample = self.sample;
        let (loss, target) = batch.pass(sample)?;
        self.loss += loss;
        self.sample = self.sample.saturating_add(1);
        let Recipe { momentum, bias, .. } = *batch.recipe;
        let Buffers { weights, velocity, workspace, .. } = &mut batch.buffers;
        let ascended = batch.tail.ascend_unstored(weights, batch.ascent.as_ref(), target, workspace);
        debug_assert!(ascended.is_some(), "a tail whose ascent is stored");
        let Some(ascended) = ascended else { return Ok(()) };
        if let Some(risen) = ascended.risen() {
            check(risen, ascended.gradient_is_finite(), sample)?;
            self.rise += risen - loss;
            self.risen = self.risen.saturating_add(1);
        }
        let scale = self.scale();
        if alone {
            let descent = Descent { momentum, scale, bias, learning_rate: self.learning_rate };
            ascended.descend(&descent, velocity, weights);
        } else {
            ascended.accumulate(scale, bias, velocity);
        }
        Ok(())
    }
}

/// Refuses a target that the loss cannot be taken against.
fn admit(tail: &impl Tail, target: &Target, sample: usize) -> Result<(), StepError> {
    let (objective, classes) = (tail.objective(), tail.classes());
    let expected = objective.target_length(classes);
    match *target {
        Target::Label { label, .. } if objective != Loss::SquaredError => {
            let known = objective.has_label(label, classes);
            if known { Ok(()) } else { Err(StepError::Label { sample, label, classes }) }
        }
        Target::Values { values, .. } if values.len() == expected && expected > 0 => Ok(()),
        Target::Values { values, .. } => Err(StepError::Target { sample, expected, found: values.len() }),
        Target::Label { .. } => Err(StepError::Target { sample, expected, found: 0 }),
    }
}

/// Whether a loss, and the gradient where it is known, are safe to go on with.
fn check(loss: f32, gradient_is_finite: bool, sample: usize) -> Result<(), StepError> {
    if loss.is_finite() && gradient_is_finite { Ok(()) } else { Err(StepError::NonFinite { sample }) }
}
