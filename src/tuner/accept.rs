//! Never worse than before: tails are judged on what was held out, and a tuned one has to be the better one.

use super::{Tuner, TunerError, Version, load, settled};
use crate::quant::Affine;
use crate::requant::{self, TunedTail};
use crate::tail::Tail;
use serde::{Deserialize, Serialize};

/// How a tail does on the samples that judge it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Acceptance {
    /// The tail as packed.
    pub factory: Judgement,
    /// The tail that was in force before: the last one accepted, requantized or restored, else the factory's.
    pub running: Judgement,
    /// The tail that the current weights make.
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

impl Tuner<'_> {
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
        let outputs = self.outputs(version);
        self.judge_by(|tuner, slot| {
            between();
            tuner.run_int8(slot, version)?;
            let (values, target) = (tuner.last_output(), tuner.target(slot));
            Some((outputs.loss(values, target), tuner.is_right(slot, outputs.answer(values))))
        })
    }

    /// The current f32 weights on the same samples.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn judge_weights(&mut self) -> Result<Judgement, TunerError> {
        self.judge_by(Self::judge_slot)
    }

    /// Loss of the current f32 weights on the sample in a slot, and whether they are right.
    pub(super) fn judge_slot(&mut self, slot: usize) -> Option<(f32, bool)> {
        let features = self.scratch.get_mut(..self.tail.features())?;
        let target = load(&self.replay, slot, &self.pack, features);
        let weights = settled(self.run.as_ref(), self.weights, self.gradient);
        let loss = self.tail.loss(weights, target, self.scratch);
        let answer = self.tail.objective().answer(self.tail.output(self.scratch));
        Some((loss, self.is_right(slot, answer)))
    }

    /// Puts the tail that the current weights make in force, in place of [`Version::Tuned`], if on the held-out
    /// samples it is strictly better than the tail in force ([`Judgement::is_better_than`]), and not worse than the
    /// factory's. Otherwise the tail in force stays, bit for bit, and the f32 weights go back to what it dequantizes
    /// to, so that a further run starts from it: a class that it does not know is spare again, and its samples wait.
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
        // Between runs nothing lives in the velocity, which is planned to be large enough.
        let outputs = self.tuned.back_up(bytemuck::try_cast_slice_mut(self.velocity).unwrap_or(&mut []));
        self.requantize_between(&mut between)?;
        let candidate = self.judge_between(Version::Tuned, &mut between)?;
        let acceptance = Acceptance::decide(factory, running, candidate);
        if !acceptance.accepted {
            self.tuned.put_back(bytemuck::try_cast_slice(self.velocity).unwrap_or(&[]), outputs);
            self.dequantize();
        }
        Ok(acceptance)
    }

    /// Makes the f32 weights those of the int8 tail in force.
    pub(super) fn dequantize(&mut self) {
        if self.tuned.is_empty() {
            requant::dequantize(&self.pack, self.weights);
        } else {
            self.tuned.dequantize(&self.pack, self.weights);
        }
        self.count_classes();
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
}

/// The layers' output quantization of a tail that was backed up.
pub(crate) type Outputs = heapless::Vec<Affine, { crate::tail::MAX_LAYERS }>;

impl TunedTail<'_> {
    /// Copies the tail to the front of `place`.
    pub(crate) fn back_up(&self, place: &mut [u8]) -> Outputs {
        let (words, weights) = self.parts();
        let words: &[u8] = bytemuck::try_cast_slice(words).unwrap_or(&[]);
        let weights: &[u8] = bytemuck::try_cast_slice(weights).unwrap_or(&[]);
        for (place, &byte) in place.iter_mut().zip(words.iter().chain(weights)) {
            *place = byte;
        }
        let mut outputs = Outputs::new();
        // Cannot be full: it is as long as theirs.
        self.outputs().for_each(|output| _ = outputs.push(output));
        outputs
    }

    /// The way back.
    pub(crate) fn put_back(&mut self, place: &[u8], outputs: Outputs) {
        let (own_words, own_weights) = self.parts_mut();
        let words: &mut [u8] = bytemuck::try_cast_slice_mut(own_words).unwrap_or(&mut []);
        let weights: &mut [u8] = bytemuck::try_cast_slice_mut(own_weights).unwrap_or(&mut []);
        for (own, &byte) in words.iter_mut().chain(weights).zip(place) {
            *own = byte;
        }
        self.set_outputs(outputs);
    }
}
