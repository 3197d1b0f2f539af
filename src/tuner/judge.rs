//! How tails do: scores of the current weights, judgements of int8 tails, and which of them is taken.

use super::arithmetic::Arithmetic;
use super::backup::Backup;
use super::beliefs::Asked;
use super::criterion::{Acceptance, Criterion, Evidence, Judgement, Labels, Pairs};
use super::sample::target;
use super::{Tuner, TunerError, Version};
use crate::optim::{BiasTreatment, Geometry};
use crate::recipe::Ascent;
use crate::requant::{self, Range};
use crate::tail::{MAX_LAYERS, Target};

/// The current weights on one sample.
/// [`Tuner::score`] has an example.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Score {
    /// Loss against the label or the target.
    pub loss: f32,
    /// The answer: the class with the largest logit, or the bits of the outputs above 0; 0 of real values.
    pub class: usize,
}

/// Means over the replay, at the current weights.
/// [`Tuner::evaluate`] has an example.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f32,
    /// Share of samples whose label is the answer; NaN of a squared error.
    pub accuracy: f32,
    /// Mean rise of a sample's loss at its own worst step of length rho (SAM's geometry, m = 1). Most of it is the gradient's:
    /// a tail that is still learning has a large one.
    pub rise: f32,
    /// What of the rise is not the gradient's: the mean of the rise less `rho ||g||`, about `rho^2 / 2` times the curvature
    /// along a sample's own gradient.
    pub sharpness: f32,
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Quantizes the current weights to int8, with the activation ranges that the replay's samples cause at
    /// them. From then on [`Version::Tuned`] answers with the result. Of an [`crate::IntegerTuner`] it takes the weights' place:
    /// the next run starts from what it stands for.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`]; [`TunerError::Running`] of an [`crate::IntegerTuner`] with a run under way.
    pub fn requantize(&mut self) -> Result<(), TunerError> {
        self.requantize_between(|| ())
    }

    /// [`Self::requantize`], with a call of `between` before every sample: there a watchdog is fed.
    ///
    /// # Errors
    /// As [`Self::requantize`].
    pub fn requantize_between(&mut self, mut between: impl FnMut()) -> Result<(), TunerError> {
        if A::ONE_COPY {
            return self.requantize_in_place(&mut between);
        }
        let ranges = self.seen_ranges(&mut between)?;
        let step = self.run.as_ref().map(|run| &run.step);
        self.arithmetic.quantize(step, &self.pack, &ranges, &mut self.tuned);
        self.settle();
        Ok(())
    }

    #[inline(never)] // The ranges are not on the stack for as long as the caller's frame.
    fn requantize_in_place(&mut self, between: &mut impl FnMut()) -> Result<(), TunerError> {
        if self.run.is_some() {
            return Err(TunerError::Running);
        }
        let ranges = self.seen_ranges(between)?;
        // What the tail has not kept of the weights is gone: they are still known by what they were.
        let weights_crc32 = self.weights_crc32();
        if self.is_tuned() {
            self.arithmetic.take_over(&self.pack, &mut self.tuned);
        }
        _ = self.arithmetic.replace(&self.pack, &ranges, &mut self.tuned);
        self.arithmetic.replaced(&self.pack, &self.tuned);
        self.in_force = weights_crc32;
        self.forget_former(false);
        Ok(())
    }

    /// [`Self::requantize_between`] between runs, of which the tail of before can be had back.
    #[inline(never)] // The ranges are not on the stack for as long as the caller's frame.
    fn replace_between(&mut self, between: &mut impl FnMut()) -> Result<Backup, TunerError> {
        let ranges = self.seen_ranges(between)?;
        Ok(self.arithmetic.replace(&self.pack, &ranges, &mut self.tuned))
    }

    /// The ranges of the trained layers' outputs, of all samples.
    fn seen_ranges(&mut self, between: &mut impl FnMut()) -> Result<[Range; MAX_LAYERS], TunerError> {
        self.check_weights()?;
        if self.replay.is_empty() {
            return Err(TunerError::NoSamples);
        }
        if self.run.is_none() {
            self.check_range()?;
        }
        let mut ranges = [Range::EMPTY; MAX_LAYERS];
        let Self { arithmetic, tuned, run, pack, replay, scratch, .. } = self;
        let step = run.as_ref().map(|run| &run.step);
        for slot in 0..replay.len() {
            between();
            if let Some((latent, _)) = replay.get(slot) {
                arithmetic.write_features(pack, latent, scratch);
            }
            arithmetic.ranges(step, tuned, scratch, &mut |layer, low, high| {
                requant::widen(&mut ranges, layer, low, high);
            });
        }
        let macs = arithmetic.forward_macs().saturating_mul(replay.len() as u64);
        self.macs = self.macs.saturating_add(macs);
        Ok(ranges)
    }

    /// The int8 trunk and the current weights' tail on a sample with its label.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`], [`TunerError::WantsTarget`].
    pub fn score(&mut self, input: &[i8], label: usize) -> Result<Score, TunerError> {
        self.score_by(input, label, Criterion { smoothing: 0.0 })
    }

    /// [`Self::score`], with the loss that a criterion compares tails by.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn score_by(
        &mut self,
        input: &[i8],
        label: usize,
        criterion: Criterion,
    ) -> Result<Score, TunerError> {
        self.label(label)?;
        self.score_against(input, criterion.target(label.into()))
    }

    /// [`Self::score`] against target values, quantized as for [`Self::observe_target`], or against the sample itself.
    ///
    /// # Errors
    /// As [`Self::observe_target`].
    pub fn score_target(&mut self, input: &[i8], target: Option<&[i8]>) -> Result<Score, TunerError> {
        let target = self.check_target(input, target)?;
        self.score_against(input, target)
    }

    fn score_against(&mut self, input: &[i8], target: Target) -> Result<Score, TunerError> {
        self.check_weights()?;
        self.latent(input)?;
        Ok(if self.latent_to_features() { self.scored(target) } else { Score { loss: f32::NAN, class: 0 } })
    }

    /// The current weights' tail on a latent with its label.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`], [`TunerError::WantsTarget`].
    pub fn score_latent(&mut self, latent: &[i8], label: usize) -> Result<Score, TunerError> {
        self.score_latent_by(latent, label, Criterion { smoothing: 0.0 })
    }

    /// [`Self::score_latent`], with the loss that a criterion compares tails by.
    ///
    /// # Errors
    /// As [`Self::score_latent`].
    pub fn score_latent_by(
        &mut self,
        latent: &[i8],
        label: usize,
        criterion: Criterion,
    ) -> Result<Score, TunerError> {
        self.label(label)?;
        self.check_latent(latent)?;
        self.check_weights()?;
        self.arithmetic.write_features(&self.pack, latent, self.scratch);
        Ok(self.scored(criterion.target(label.into())))
    }

    /// The tail on the features that are in the workspace.
    fn scored(&mut self, target: Target) -> Score {
        let Self { arithmetic, tuned, run, scratch, .. } = self;
        let (loss, class) = arithmetic.loss(run.as_ref().map(|run| &run.step), tuned, target, scratch);
        Score { loss, class }
    }

    /// Makes the latent in a slot the tail's features.
    fn load_slot(&mut self, slot: usize) {
        if let Some((latent, _)) = self.replay.get(slot) {
            self.arithmetic.write_features(&self.pack, latent, self.scratch);
        }
    }

    /// Loss, answer, and the rise of the loss at the sample's own worst step of length `rho` with what of it is the
    /// gradient's, of the sample whose features are in the workspace.
    pub(super) fn risen(&mut self, rho: f32, sample: Sample) -> (f32, usize, [f32; 2]) {
        let Self { arithmetic, tuned, run, pack, replay, scratch, latent, .. } = self;
        let (latent, target) = match sample {
            Sample::Slot(slot) => {
                (replay.get(slot).map_or(&[][..], |(latent, _)| latent), target::<A>(replay, slot, pack))
            }
            Sample::Observed(target) => (&**latent, target),
        };
        let step = run.as_ref().map(|run| &run.step);
        let geometry = Geometry { weights: true, eta: None, bias: BiasTreatment::Unit };
        let (loss, answer, risen) =
            arithmetic.risen(step, tuned, &Ascent { rho, geometry }, (pack, latent, target), scratch);
        (loss, answer, risen.map_or([0.0; 2], |[risen, slope]| [risen - loss, slope]))
    }

    /// Loss (without label smoothing), accuracy and sharpness of the current weights over the replay, anomalies and samples of
    /// classes that are not yet added left out. With a rho of 0 there is no rise, and no pass for it. That of a tail that is
    /// no chain takes a gradient buffer: it is NaN on a tuner that was made for SGD, and in the midst of a step that needs
    /// the buffer itself.
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
        self.check_weights()?;
        let mut count = 0u32;
        let mut sums = Evaluation { loss: 0.0, accuracy: 0.0, rise: 0.0, sharpness: 0.0 };
        for slot in 0..self.replay.len() {
            between();
            if self.is_left_out(slot) {
                continue;
            }
            count += 1;
            self.load_slot(slot);
            let (loss, answer, [rise, slope]) = self.risen(rho, Sample::Slot(slot));
            sums.loss += loss;
            if self.is_right(slot, answer) {
                sums.accuracy += 1.0;
            }
            sums.rise += rise;
            sums.sharpness += rise - slope;
        }
        if count == 0 {
            return Err(TunerError::NoSamples);
        }
        let mean = 1.0 / count as f32;
        Ok(Evaluation {
            loss: sums.loss * mean,
            accuracy: if self.objective().has_answers() { sums.accuracy * mean } else { f32::NAN },
            rise: sums.rise * mean,
            sharpness: sums.sharpness * mean,
        })
    }

    /// Slots of the samples that are held out since the last [`Self::start`], in no order; none where
    /// [`crate::Recipe::held_out`] is 0.
    pub fn held_out(&self) -> impl Iterator<Item = usize> + '_ {
        let slots = self.division.held_out().iter().map(|&slot| usize::from(slot));
        slots.filter(|&slot| slot < self.replay.len())
    }

    /// An int8 tail, as the device runs it, on the held-out samples, or on all in the replay where none is held out:
    /// then it says how well the samples were learnt, not how well others will be classified. May be asked at any
    /// moment. The loss is that of the output, with the recipe's label smoothing: of a softmax's probabilities, none taken
    /// for smaller than half a step, or of the logits.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`], [`TunerError::NotTuned`].
    pub fn judge(&mut self, version: Version) -> Result<Judgement, TunerError> {
        self.tuned.check(version)?;
        self.judge_by(|tuner, index| tuner.judge_int8(index, version))
    }

    /// An int8 tail on one of the samples that judge: its loss, and whether it is right.
    pub(super) fn judge_int8(&mut self, index: usize, version: Version) -> Option<(f32, bool)> {
        let slot = self.judging_slot(index)?;
        self.run_int8(slot, version)?;
        let (outputs, values) = (self.reading(version), self.last_output());
        let loss = outputs.loss(values, self.criterion().target(self.target(slot)));
        Some((Criterion::summand(loss, self.objective()), self.is_right(slot, outputs.answer(values))))
    }

    /// What tails are compared by in the current or last run.
    pub fn criterion(&self) -> Criterion {
        Criterion::of(&self.recipe)
    }

    /// The current weights on the samples that judge.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn judge_weights(&mut self) -> Result<Judgement, TunerError> {
        self.check_weights()?;
        let criterion = self.criterion();
        self.judge_by(|tuner, index| Some(tuner.judge_slot(tuner.judging_slot(index)?, criterion)))
    }

    /// What the current weights on the sample in a slot add to a judgement.
    pub(super) fn judge_slot(&mut self, slot: usize, criterion: Criterion) -> (f32, bool) {
        let (loss, right) = self.loss_of_slot(slot, criterion);
        (Criterion::summand(loss, self.objective()), right)
    }

    /// Loss of the current weights on the sample in a slot, and whether they are right.
    pub(super) fn loss_of_slot(&mut self, slot: usize, criterion: Criterion) -> (f32, bool) {
        self.load_slot(slot);
        let Self { arithmetic, tuned, run, pack, replay, scratch, .. } = self;
        let target = criterion.target(target::<A>(replay, slot, pack));
        let (loss, answer) = arithmetic.loss(run.as_ref().map(|run| &run.step), tuned, target, scratch);
        (loss, self.is_right(slot, answer))
    }

    /// Sums loss and hits of the samples that judge, in slot order where all do.
    fn judge_by(
        &mut self,
        mut of: impl FnMut(&mut Self, usize) -> Option<(f32, bool)>,
    ) -> Result<Judgement, TunerError> {
        let mut sum = Judgement::NONE;
        for index in 0..self.judging() {
            sum.add(of(self, index));
        }
        sum.mean().ok_or(TunerError::NoSamples)
    }

    /// Samples that judge.
    pub(super) fn judging(&self) -> usize {
        self.division.judging(self.replay.len())
    }

    /// The slot of one of them; `None` of one that is left out.
    pub(super) fn judging_slot(&self, index: usize) -> Option<usize> {
        self.division.judging_slot(index).filter(|&slot| !self.is_left_out(slot))
    }

    /// Whether this is the label of a sample in the replay; never where labels are no answers.
    pub(super) fn is_right(&self, slot: usize, answer: usize) -> bool {
        let own = self.replay.label(slot).is_some_and(|label| usize::from(label) == answer);
        own && self.objective().has_answers()
    }

    /// How far the factory's tail agrees with the labels that it knows.
    fn labels(&mut self, between: &mut impl FnMut()) -> Labels {
        let (mut labels, outputs) = (Labels { samples: 0, agreed: 0 }, self.reading(Version::Factory));
        let known = self.objective().last_label(self.pack.known_classes());
        for slot in 0..self.replay.len() {
            let is_known = self.replay.label(slot).is_some_and(|label| usize::from(label) <= known);
            if !self.objective().has_answers() || !is_known {
                continue;
            }
            between();
            if self.run_int8(slot, Version::Factory).is_some() {
                labels.samples += 1;
                labels.agreed += u32::from(self.is_right(slot, outputs.answer(self.last_output())));
            }
        }
        labels
    }

    /// Puts the tail that the current weights make in force, in place of [`Version::Tuned`], if it answers more samples right
    /// than the tail in force, and no fewer than the factory's. The right answer to a sample is estimated from the factory,
    /// the other samples and its label, which is weighted by the estimated share of wrong labels: memorizing wrong labels
    /// gains nothing. All samples count, held out or not; held-out samples alone decide where they show harm at one standard
    /// deviation, or a gain at two ([`Pairs::evidence`]). For a squared error the loss decides, beside both tails; for questions
    /// with two answers see [`Evidence`].
    ///
    /// Otherwise the tail in force stays, bit for bit, and the weights go back to what it dequantizes to, so that a further
    /// run starts from it: a class that it does not know is spare again, and its samples wait.
    ///
    /// The candidate of an [`crate::IntegerTuner`] has the place of a tuned tail that was in force: the answers that this tail gave when
    /// the run started are compared; samples observed since then are left out. A rejected candidate leaves the factory's tail in force,
    /// and [`Acceptance::restore`] says that the former one is to be restored.
    ///
    /// Weights that are still those of the tail in force, bit for bit, because no run moved them or the best that it kept
    /// were those it began with, are not taken: that tail stays.
    ///
    /// A run under way ends. Takes a forward pass of every sample, for the ranges of [`Self::requantize`], about fourteen of int8
    /// tails, and up to three of the held-out ones. The ranges are of all samples: no label has a say in them. `4 C (C + 3)` bytes of
    /// memory that nothing lives in between runs, for `C` classes, tell what samples say of one another; where they are not
    /// there (a compact tail or a last layer alone, with many classes), the factory alone is asked.
    ///
    /// Where new samples show that the running tail has become worse than the factory's, the answer says so;
    /// [`Self::factory_reset`] is the caller's choice.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn accept(&mut self) -> Result<Acceptance, TunerError> {
        self.accept_between(|| ())
    }

    /// [`Self::accept`], with a call of `between` before every sample of each pass: there a watchdog is fed.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn accept_between(&mut self, mut between: impl FnMut()) -> Result<Acceptance, TunerError> {
        self.check_weights()?;
        self.end_run();
        let labels = self.labels(&mut between);
        let (running_version, has_former) = (self.in_force(), self.has_former());
        // In front those that the tail in force gets right: it is gone when the candidate is asked.
        let (mut running, mut front) = (Judgement::NONE, 0);
        for index in 0..self.judging() {
            between();
            let answer = match has_former {
                true => self.judge_former(index),
                false => self.judge_int8(index, running_version),
            };
            running.add(answer);
            let right = !has_former && answer.is_some_and(|(_, right)| right);
            if right && self.division.swap_held_out(index, front) {
                front += 1;
            }
        }
        // A former tail may know none of the samples any more: then nothing speaks for the candidate.
        let unknown = Some(Judgement::NONE).filter(|_| has_former && !self.replay.is_empty());
        let running = running.mean().or(unknown).ok_or(TunerError::NoSamples)?;
        if self.weights_crc32() == self.in_force {
            // Nothing was tuned: other ranges alone are no gain.
            let factory = self.judge(Version::Factory)?;
            if has_former {
                self.load_in_force();
            }
            let acceptance = Acceptance::decide([factory, running, running], Evidence::Unmoved, labels);
            return Ok(Acceptance { restore: has_former, ..acceptance });
        }
        let taken = self.tuned.backup_bytes();
        let beliefs = self.believes().then(|| self.beliefs(taken, &mut between));
        let before = if has_former { Asked::Former } else { Asked::Int8(running_version) };
        let before = beliefs.as_ref().map(|own| {
            [Asked::Int8(Version::Factory), before].map(|asked| self.believed(own, asked, &mut between))
        });
        let outputs = self.replace_between(&mut between)?;
        let [mut factory, mut candidate] = [Judgement::NONE; 2];
        let [mut beside_running, mut beside_factory] = [Pairs::default(); 2];
        for index in 0..self.judging() {
            between();
            let right = match has_former {
                true => self.judge_former(index).map(|(_, right)| right),
                false => Some(index < front),
            };
            let Some(right) = right else { continue };
            let packed = self.judge_int8(index, Version::Factory);
            let tuned = self.judge_int8(index, Version::Tuned);
            factory.add(packed);
            candidate.add(tuned);
            if let (Some((_, before)), Some((_, after))) = (packed, tuned) {
                beside_factory.add(before, after);
                beside_running.add(right, after);
            }
        }
        let [factory, candidate] = [factory, candidate].map(|sum| sum.mean().unwrap_or(Judgement::NONE));
        let pairs = [beside_factory, beside_running];
        let judgements = [factory, running, candidate];
        let acceptance = if let (Some(own), Some(before)) = (&beliefs, before) {
            let after = self.believed(own, Asked::Int8(Version::Tuned), &mut between);
            let gain = before.map(|before| after.beyond(before));
            let held_out = self.division.held_out > 0;
            Acceptance::believed(judgements, pairs, gain, labels, held_out)
        } else if !self.objective().has_answers() {
            let evidence = match candidate.loss < running.loss && candidate.loss <= factory.loss {
                true => Evidence::Better,
                false => Evidence::Worse,
            };
            Acceptance::decide(judgements, evidence, labels)
        } else {
            let judging = Labels { samples: candidate.samples, agreed: candidate.right };
            let judging = Some(judging).filter(|_| self.division.held_out > 0);
            Acceptance::decide(judgements, Acceptance::evidence(pairs, labels, judging), labels)
        };
        if acceptance.accepted {
            self.arithmetic.replaced(&self.pack, &self.tuned);
            self.forget_former(false);
            self.settle();
            return Ok(acceptance);
        }
        match A::ONE_COPY {
            true => self.tuned.clear(),
            false => self.tuned.put_back(self.arithmetic.spare(), outputs),
        }
        self.load_in_force();
        Ok(Acceptance { restore: has_former, ..acceptance })
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
