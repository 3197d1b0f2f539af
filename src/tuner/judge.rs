//! The tuner's answers: requantization, classification, scores, and means over the replay.

use super::features::target;
use super::int8::check_latent;
use super::{Evaluation, Score, Tuner, TunerError, Version, as_int8, load, settled, write_features};
use crate::optim::{BiasTreatment, Geometry, sam};
use crate::requant::{self, Range, TunedLayer};
use crate::tail::{Kept, Loss, MAX_LAYERS, PackedTail, Tail, Target, Workspace};

impl Tuner<'_> {
    /// Quantizes the current weights to int8, with the activation ranges that the replay's samples cause at
    /// them. From then on [`Version::Tuned`] answers with the result.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn requantize(&mut self) -> Result<(), TunerError> {
        self.requantize_between(|| ())
    }

    /// [`Self::requantize`], with a call of `between` before every sample: there a watchdog is fed.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn requantize_between(&mut self, mut between: impl FnMut()) -> Result<(), TunerError> {
        self.check_weights()?;
        if self.replay.is_empty() {
            return Err(TunerError::NoSamples);
        }
        let mut ranges = [Range::EMPTY; MAX_LAYERS];
        let weights = settled(self.run.as_ref(), self.weights, self.gradient);
        let mut see = |layer, low, high| requant::widen(&mut ranges, layer, low, high);
        for slot in 0..self.replay.len() {
            between();
            load(&self.replay, slot, &self.pack, features(&self.tail, self.scratch));
            match &self.tail {
                PackedTail::Chain(chain) => {
                    if let Some(mut workspace) = Workspace::new(chain, self.scratch) {
                        chain.forward(weights, &mut workspace);
                        chain.for_each_range(&workspace, &mut see);
                    }
                }
                PackedTail::Graph(graph) => graph.forward(weights, self.scratch, &mut see),
            }
        }
        let macs = self.tail.forward_macs().saturating_mul(self.replay.len() as u64);
        self.macs = self.macs.saturating_add(macs);
        self.tuned.quantize(&self.pack, weights, &ranges);
        Ok(())
    }

    /// The network's int8 output for `input`: int8 trunk, int8 tail.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::NotTuned`].
    pub fn classify(&mut self, input: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.tuned.check(version)?;
        self.latent(input)?;
        Ok(self.int8_tail(version))
    }

    /// The same from a latent that [`Tuner::latent`] gave.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::NotTuned`].
    pub fn classify_latent(&mut self, latent: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.tuned.check(version)?;
        check_latent(self.tail.features(), latent)?;
        Self::scatter(&self.pack, latent, as_int8(self.scratch));
        Ok(self.int8_tail(version))
    }

    /// The tuned int8 layers that [`Version::Tuned`] runs, first to last; none before [`Self::requantize`].
    pub fn tuned_layers(&self) -> impl Iterator<Item = TunedLayer<'_>> {
        self.tuned.layers(&self.pack)
    }

    pub(super) fn int8_tail(&mut self, version: Version) -> &[i8] {
        self.tuned.answer(&self.pack, as_int8(self.scratch), version)
    }

    /// Runs an int8 tail on a sample in the replay, for [`Self::last_output`].
    pub(super) fn run_int8(&mut self, slot: usize, version: Version) -> Option<()> {
        let (latent, _) = self.replay.get(slot)?;
        Self::scatter(&self.pack, latent, as_int8(self.scratch));
        self.int8_tail(version);
        Some(())
    }

    /// What the int8 tail that ran last gave.
    pub(super) fn last_output(&self) -> &[i8] {
        self.pack.output().of(bytemuck::try_cast_slice(self.scratch).unwrap_or(&[]))
    }

    /// The int8 trunk and the current f32 tail on a sample with its label.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`], [`TunerError::WantsTarget`].
    pub fn score(&mut self, input: &[i8], label: usize) -> Result<Score, TunerError> {
        self.label(label)?;
        self.score_against(input, label.into())
    }

    /// The same against target values, quantized as for [`Self::observe_target`], or against the sample itself.
    ///
    /// # Errors
    /// As [`Self::observe_target`].
    pub fn score_target(&mut self, input: &[i8], target: Option<&[i8]>) -> Result<Score, TunerError> {
        let target = self.check_target(input, target)?;
        self.score_against(input, target)
    }

    fn score_against(&mut self, input: &[i8], target: Target) -> Result<Score, TunerError> {
        self.latent(input)?;
        Ok(if self.latent_to_features() { self.scored(target) } else { Score { loss: f32::NAN, class: 0 } })
    }

    /// Makes the features of the latent that the trunk gave last, in place of a chain's latent; false where that has no
    /// room, which a pack excludes.
    pub(super) fn latent_to_features(&mut self) -> bool {
        if self.tail.chain().is_none() {
            write_features(&self.pack, self.latent, features(&self.tail, self.scratch));
            return true;
        }
        let length = self.tail.features();
        let feature = self.pack.feature();
        let start = feature.arena_offset;
        let arena = as_int8(self.scratch);
        if start + length > arena.len() {
            return false;
        }
        // The features take four times the latent's place: from its end at the front, none is overwritten
        // before it is read.
        for i in 0..length {
            let q = arena.get(start + i).copied().unwrap_or(0);
            if let Some(place) = arena.get_mut(i) {
                *place = q;
            }
        }
        for i in (0..length).rev() {
            let q = as_int8(self.scratch).get(i).copied().unwrap_or(0);
            if let Some(value) = self.scratch.get_mut(i) {
                *value = self.pack.feature_unit() * (i32::from(q) - feature.affine.zero_point) as f32;
            }
        }
        true
    }

    /// The current f32 tail on a latent with its label.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`], [`TunerError::WantsTarget`].
    pub fn score_latent(&mut self, latent: &[i8], label: usize) -> Result<Score, TunerError> {
        self.label(label)?;
        check_latent(self.tail.features(), latent)?;
        write_features(&self.pack, latent, features(&self.tail, self.scratch));
        Ok(self.scored(label.into()))
    }

    /// The tail on the features that are in the workspace.
    pub(super) fn scored(&mut self, target: Target) -> Score {
        let weights = settled(self.run.as_ref(), self.weights, self.gradient);
        let loss = self.tail.loss(weights, target, self.scratch);
        Score { loss, class: self.tail.objective().answer(self.tail.output(self.scratch)) }
    }

    /// What the output of a sample in the replay is compared with.
    pub(super) fn target(&self, slot: usize) -> Target<'_> {
        target(&self.replay, slot, &self.pack)
    }

    /// Whether this is the label of a sample in the replay; never where labels are no answers.
    pub(super) fn is_right(&self, slot: usize, answer: usize) -> bool {
        let own = self.replay.label(slot).is_some_and(|label| usize::from(label) == answer);
        own && self.tail.objective().has_answers()
    }

    /// Whether a sample in the replay is an anomaly, or waits for its class to be added: it trains and judges nothing.
    pub(super) fn is_left_out(&self, slot: usize) -> bool {
        self.replay.label(slot).is_some_and(|label| match self.tail.objective() {
            Loss::SquaredError => label & Kept::ANOMALOUS != 0,
            Loss::CrossEntropy => usize::from(label) >= self.tail.classes(),
            Loss::BinaryCrossEntropy => false,
        })
    }

    /// Loss, accuracy and sharpness of the current f32 weights over the replay, anomalies and samples of classes that are
    /// not yet added left out. The sharpness of a tail that is no chain takes a gradient buffer: it is NaN on a tuner that was
    /// made for SGD, and in the midst of a step that needs the buffer itself.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn evaluate(&mut self, rho: f32) -> Result<Evaluation, TunerError> {
        self.evaluate_between(rho, || ())
    }

    /// [`Self::evaluate`], with a call of `between` before every sample: there a watchdog is fed.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn evaluate_between(
        &mut self,
        rho: f32,
        mut between: impl FnMut(),
    ) -> Result<Evaluation, TunerError> {
        let mut count = 0u32;
        let mut sums = Evaluation { loss: 0.0, accuracy: 0.0, sharpness: 0.0 };
        let objective = self.tail.objective();
        for slot in 0..self.replay.len() {
            between();
            if self.is_left_out(slot) {
                continue;
            }
            count += 1;
            let target = load(&self.replay, slot, &self.pack, features(&self.tail, self.scratch));
            let weights = settled(self.run.as_ref(), self.weights, self.gradient);
            let loss = self.tail.loss(weights, target, self.scratch);
            sums.loss += loss;
            let answer = objective.answer(self.tail.output(self.scratch));
            if self.is_right(slot, answer) {
                sums.accuracy += 1.0;
            }
            sums.sharpness += self.rise(rho, Sample::Slot(slot)).map_or(0.0, |risen| risen - loss);
        }
        if count == 0 {
            return Err(TunerError::NoSamples);
        }
        let mean = 1.0 / count as f32;
        Ok(Evaluation {
            loss: sums.loss * mean,
            accuracy: if objective.has_answers() { sums.accuracy * mean } else { f32::NAN },
            sharpness: sums.sharpness * mean,
        })
    }

    /// After the loss of the sample in the workspace: its loss at its own worst step of length `rho`.
    pub(super) fn rise(&mut self, rho: f32, sample: Sample) -> Option<f32> {
        let geometry = Geometry { weights: true, eta: None, bias: BiasTreatment::Unit };
        if let Some(chain) = self.tail.chain() {
            let mut workspace = Workspace::new(chain, self.scratch)?;
            let weights = settled(self.run.as_ref(), self.weights, self.gradient);
            let norm = chain.ascent_norm_squared(weights, &geometry, &mut workspace);
            let c = geometry.step_length(rho, norm)?;
            let target = match sample {
                Sample::Slot(slot) => target(&self.replay, slot, &self.pack),
                Sample::Observed(target) => target,
            };
            return Some(chain.perturbed_pass(weights, &geometry, c, target, &mut workspace));
        }
        if self.gradient.len() < self.tail.parameters() || self.gradient_is_lent() {
            return Some(f32::NAN);
        }
        self.gradient.fill(0.0);
        self.tail.backward(self.weights, 1.0, geometry.bias, self.scratch, self.gradient);
        let norm = sam::ascent_norm_squared(self.weights, self.gradient, &geometry, self.tail.segments());
        let c = geometry.step_length(rho, norm)?;
        sam::perturb(self.weights, self.gradient, c, &geometry, self.tail.segments());
        // The backward pass may have used the features' place.
        let features = features(&self.tail, self.scratch);
        let target = match sample {
            Sample::Slot(slot) => load(&self.replay, slot, &self.pack, features),
            Sample::Observed(target) => {
                write_features(&self.pack, self.latent, features);
                target
            }
        };
        let risen = self.tail.loss(self.weights, target, self.scratch);
        sam::restore(self.weights, self.gradient);
        Some(risen)
    }
}

/// A sample that is looked at twice.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sample<'t> {
    /// One in the replay.
    Slot(usize),
    /// The last that the trunk saw, and what it is compared with.
    Observed(Target<'t>),
}

/// Where a sample's features go.
fn features<'w>(tail: &impl Tail, workspace: &'w mut [f32]) -> &'w mut [f32] {
    workspace.get_mut(..tail.features()).unwrap_or(&mut [])
}
