//! How tails do: scores of the current weights, judgements of int8 tails, and which of them is taken.

use super::arithmetic::Arithmetic;
use super::sample::target;
use super::{Tuner, TunerError, Version};
use crate::quant::Affine;
use crate::requant::{self, Range, TunedTail};
use crate::tail::{MAX_LAYERS, Target};
use heapless::Vec;

/// The current weights on one sample.
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
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f32,
    /// Share of samples whose label is the answer; NaN of a squared error.
    pub accuracy: f32,
    /// Mean rise of a sample's loss at its own worst step of length rho (SAM's geometry, m = 1).
    pub sharpness: f32,
}

/// How a tail does on the samples that judge it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Judgement {
    /// Samples that judged.
    pub samples: u32,
    /// Of these, samples whose label is the answer ([`Tuner::answer`]): all of its bits, where it is bits. 0 of a squared
    /// error, where the loss alone judges.
    pub right: u32,
    /// Mean loss, in nats; a squared error in the output's units, squared.
    pub loss: f32,
}

impl Judgement {
    /// Of no sample.
    pub(crate) const NONE: Self = Self { samples: 0, right: 0, loss: 0.0 };

    /// Share of samples that are right.
    pub fn accuracy(&self) -> f32 {
        self.right as f32 / self.samples.max(1) as f32
    }

    /// Takes a sample's loss, and whether it is right, into a judgement that is still a sum.
    pub(crate) fn add(&mut self, sample: Option<(f32, bool)>) {
        if let Some((loss, right)) = sample {
            self.samples += 1;
            self.right += u32::from(right);
            self.loss += loss;
        }
    }

    /// Of the sum; `None` without a sample.
    pub(crate) fn mean(mut self) -> Option<Self> {
        self.loss /= self.samples as f32;
        Some(self).filter(|judgement| judgement.samples > 0)
    }

    /// Strictly better on the same samples: more of them right, or as many at a smaller loss. A loss of NaN is never
    /// better.
    ///
    /// ```
    /// use flatmin::Judgement;
    /// let before = Judgement { samples: 10, right: 8, loss: 0.5 };
    /// assert!(Judgement { right: 9, loss: 0.9, ..before }.is_better_than(&before));
    /// assert!(Judgement { loss: 0.4, ..before }.is_better_than(&before));
    /// assert!(!before.is_better_than(&before));
    /// ```
    pub fn is_better_than(&self, other: &Self) -> bool {
        self.right > other.right || self.right == other.right && self.loss < other.loss
    }
}

/// What [`Tuner::accept`] decided, and why: the int8 tails on the same samples.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Acceptance {
    /// The tail as packed.
    pub factory: Judgement,
    /// The tail that was in force before: the last one accepted, requantized or restored, else the factory's.
    pub running: Judgement,
    /// The tail that the current weights make; where they are still those of the running tail, that one.
    pub candidate: Judgement,
    /// The candidate is in force; else the running tail still is.
    pub accepted: bool,
}

impl Acceptance {
    /// A candidate is taken if it is strictly better than the running tail, and not worse than the factory's.
    pub(crate) fn decide(factory: Judgement, running: Judgement, candidate: Judgement) -> Self {
        let accepted = candidate.is_better_than(&running) && !factory.is_better_than(&candidate);
        Self { factory, running, candidate, accepted }
    }
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
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
        if self.run.is_none() {
            self.check_range()?;
        }
        let mut ranges = [Range::EMPTY; MAX_LAYERS];
        let Self { arithmetic, run, pack, replay, scratch, tuned, .. } = self;
        let step = run.as_ref().map(|run| &run.step);
        for slot in 0..replay.len() {
            between();
            if let Some((latent, _)) = replay.get(slot) {
                arithmetic.write_features(pack, latent, scratch);
            }
            arithmetic.ranges(step, scratch, &mut |layer, low, high| {
                requant::widen(&mut ranges, layer, low, high);
            });
        }
        let macs = arithmetic.forward_macs().saturating_mul(replay.len() as u64);
        self.macs = self.macs.saturating_add(macs);
        arithmetic.quantize(step, pack, &ranges, tuned);
        self.settle();
        Ok(())
    }

    /// The int8 trunk and the current weights' tail on a sample with its label.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`], [`TunerError::WantsTarget`].
    pub fn score(&mut self, input: &[i8], label: usize) -> Result<Score, TunerError> {
        self.label(label)?;
        self.score_against(input, label.into())
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
        self.label(label)?;
        self.check_latent(latent)?;
        self.check_weights()?;
        self.arithmetic.write_features(&self.pack, latent, self.scratch);
        Ok(self.scored(label.into()))
    }

    /// The tail on the features that are in the workspace.
    fn scored(&mut self, target: Target) -> Score {
        let Self { arithmetic, run, scratch, .. } = self;
        let (loss, class) = arithmetic.loss(run.as_ref().map(|run| &run.step), target, scratch);
        Score { loss, class }
    }

    /// Makes the latent in a slot the tail's features.
    fn load_slot(&mut self, slot: usize) {
        if let Some((latent, _)) = self.replay.get(slot) {
            self.arithmetic.write_features(&self.pack, latent, self.scratch);
        }
    }

    /// Loss, answer, and the rise of the loss at the sample's own worst step of length `rho`, of the sample whose features are
    /// in the workspace.
    pub(super) fn risen(&mut self, rho: f32, sample: Sample) -> (f32, usize, f32) {
        let Self { arithmetic, run, pack, replay, scratch, latent, .. } = self;
        let (latent, target) = match sample {
            Sample::Slot(slot) => {
                (replay.get(slot).map_or(&[][..], |(latent, _)| latent), target::<A>(replay, slot, pack))
            }
            Sample::Observed(target) => (&**latent, target),
        };
        let step = run.as_ref().map(|run| &run.step);
        let (loss, answer, risen) = arithmetic.risen(step, rho, (pack, latent, target), scratch);
        (loss, answer, risen.map_or(0.0, |risen| risen - loss))
    }

    /// Loss, accuracy and sharpness of the current weights over the replay, anomalies and samples of classes that are
    /// not yet added left out. The sharpness of a tail that is no chain takes a gradient buffer: it is NaN on a tuner that
    /// was made for SGD, and in the midst of a step that needs the buffer itself.
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
        let mut sums = Evaluation { loss: 0.0, accuracy: 0.0, sharpness: 0.0 };
        for slot in 0..self.replay.len() {
            between();
            if self.is_left_out(slot) {
                continue;
            }
            count += 1;
            self.load_slot(slot);
            let (loss, answer, rise) = self.risen(rho, Sample::Slot(slot));
            sums.loss += loss;
            if self.is_right(slot, answer) {
                sums.accuracy += 1.0;
            }
            sums.sharpness += rise;
        }
        if count == 0 {
            return Err(TunerError::NoSamples);
        }
        let mean = 1.0 / count as f32;
        Ok(Evaluation {
            loss: sums.loss * mean,
            accuracy: if self.objective().has_answers() { sums.accuracy * mean } else { f32::NAN },
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
    /// moment. The loss is that of the output: of a softmax's probabilities, none taken for smaller than half a
    /// step, or of the logits.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`], [`TunerError::NotTuned`].
    pub fn judge(&mut self, version: Version) -> Result<Judgement, TunerError> {
        self.judge_between(version, &mut || ())
    }

    fn judge_between(
        &mut self,
        version: Version,
        between: &mut impl FnMut(),
    ) -> Result<Judgement, TunerError> {
        self.tuned.check(version)?;
        let outputs = self.reading(version);
        self.judge_by(|tuner, slot| {
            between();
            tuner.run_int8(slot, version)?;
            let (values, target) = (tuner.last_output(), tuner.target(slot));
            Some((outputs.loss(values, target), tuner.is_right(slot, outputs.answer(values))))
        })
    }

    /// The current weights on the samples that judge.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn judge_weights(&mut self) -> Result<Judgement, TunerError> {
        self.check_weights()?;
        self.judge_by(|tuner, slot| Some(tuner.judge_slot(slot)))
    }

    /// Loss of the current weights on the sample in a slot, and whether they are right.
    pub(super) fn judge_slot(&mut self, slot: usize) -> (f32, bool) {
        self.load_slot(slot);
        let Self { arithmetic, run, pack, replay, scratch, .. } = self;
        let target = target::<A>(replay, slot, pack);
        let (loss, answer) = arithmetic.loss(run.as_ref().map(|run| &run.step), target, scratch);
        (loss, self.is_right(slot, answer))
    }

    /// Sums loss and hits of the samples that judge, in slot order where all do.
    fn judge_by(
        &mut self,
        mut of: impl FnMut(&mut Self, usize) -> Option<(f32, bool)>,
    ) -> Result<Judgement, TunerError> {
        let mut sum = Judgement::NONE;
        for index in 0..self.judging() {
            sum.add(self.judging_slot(index).and_then(|slot| of(self, slot)));
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
    fn is_right(&self, slot: usize, answer: usize) -> bool {
        let own = self.replay.label(slot).is_some_and(|label| usize::from(label) == answer);
        own && self.objective().has_answers()
    }

    /// Puts the tail that the current weights make in force, in place of [`Version::Tuned`], if on the held-out
    /// samples it is strictly better than the tail in force ([`Judgement::is_better_than`]), and not worse than the
    /// factory's. Otherwise the tail in force stays, bit for bit, and the weights go back to what it dequantizes
    /// to, so that a further run starts from it: a class that it does not know is spare again, and its samples wait.
    ///
    /// Weights that are still those of the tail in force, bit for bit, because no run moved them or the best that it kept
    /// were those it began with, are not taken: that tail stays.
    ///
    /// A run under way ends. Takes a forward pass of every sample, for the ranges of [`Self::requantize`], and up to
    /// three of the held-out ones. The ranges are of all samples: no label has a say in them. Without held-out
    /// samples those judge that the tail was tuned on: see [`Self::judge`].
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
        let factory = self.judge_between(Version::Factory, &mut between)?;
        let running = match self.tuned.is_empty() {
            true => factory,
            false => self.judge_between(Version::Tuned, &mut between)?,
        };
        self.end_run();
        if self.weights_crc32() == self.in_force {
            // Nothing was tuned: other ranges alone are no gain.
            return Ok(Acceptance { factory, running, candidate: running, accepted: false });
        }
        let outputs = self.tuned.back_up(self.arithmetic.spare());
        self.requantize_between(&mut between)?;
        let candidate = self.judge_between(Version::Tuned, &mut between)?;
        let acceptance = Acceptance::decide(factory, running, candidate);
        if !acceptance.accepted {
            self.tuned.put_back(self.arithmetic.spare(), outputs);
            self.load_in_force();
        }
        Ok(acceptance)
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

/// The layers' output quantization of a tail that was backed up.
type Backup = Vec<Affine, MAX_LAYERS>;

impl TunedTail<'_> {
    /// Copies the tail to the front of `place`.
    fn back_up(&self, place: &mut [u8]) -> Backup {
        let (words, weights) = self.parts();
        let words: &[u8] = bytemuck::must_cast_slice(words);
        let weights: &[u8] = bytemuck::must_cast_slice(weights);
        for (place, &byte) in place.iter_mut().zip(words.iter().chain(weights)) {
            *place = byte;
        }
        let mut outputs = Backup::new();
        // Cannot be full: it is as long as theirs.
        self.outputs().for_each(|output| _ = outputs.push(output));
        outputs
    }

    /// The way back.
    fn put_back(&mut self, place: &[u8], outputs: Backup) {
        let (own_words, own_weights) = self.parts_mut();
        let words: &mut [u8] = bytemuck::must_cast_slice_mut(own_words);
        let weights: &mut [u8] = bytemuck::must_cast_slice_mut(own_weights);
        for (own, &byte) in words.iter_mut().chain(weights).zip(place) {
            *own = byte;
        }
        self.set_outputs(outputs);
    }
}
