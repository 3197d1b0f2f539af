//! int8 outputs: the network's, what they say, and how often they say what.

use super::arithmetic::Arithmetic;
use super::{Tuner, TunerError, Version, int8_scratch};
use crate::math;
use crate::pack::Pack;
use crate::quant::Affine;
use crate::requant::{TunedLayer, TunedTail};
use crate::tail::{Loss, Target, argmax, binary_cross_entropy, bits};
use crate::trunk;

/// What the network says about an input: [`Tuner::classify`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Answer {
    /// The label, as [`Tuner::observe`] takes it: the class with the largest output, or one bit per output, set where the
    /// output is above one half. 0 where the output is real values.
    pub label: usize,
    /// The largest output, dequantized: a probability from 0 to 1 where the network ends in a softmax or a logistic
    /// function, else a logit, or a value in the output's units.
    pub score: f32,
    /// The tail that gave it: the one in force.
    pub version: Version,
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// The network's answer to `input`, by the int8 tail in force ([`Self::in_force`]). `input` has
    /// [`Sizes::input_length`](crate::Sizes) values, quantized as `tuner.pack().input().affine` says.
    ///
    /// # Errors
    /// [`TunerError::InputLength`].
    pub fn classify(&mut self, input: &[i8]) -> Result<Answer, TunerError> {
        let version = self.in_force();
        self.infer(input, version)?;
        Ok(self.last_answer(version))
    }

    /// The answer of the tail that is asked for to a feature that [`Self::latent`] gave.
    ///
    /// # Errors
    /// [`TunerError::LatentLength`], [`TunerError::NotTuned`].
    pub fn classify_latent(&mut self, latent: &[i8], version: Version) -> Result<Answer, TunerError> {
        self.infer_latent(latent, version)?;
        Ok(self.last_answer(version))
    }

    /// What the int8 tail that ran last says, which is that of `version`.
    fn last_answer(&self, version: Version) -> Answer {
        let output = self.last_output();
        Answer { label: self.answer(output, version), score: self.reading(version).largest(output), version }
    }

    /// The tail that [`Self::classify`] answers with: the tuned one where there is one, else the factory's.
    pub fn in_force(&self) -> Version {
        if self.is_tuned() { Version::Tuned } else { Version::Factory }
    }

    /// The network's bare int8 outputs for `input`, by the tail that is asked for: int8 backbone, int8 tail.
    /// [`Self::answer`] says what they stand for, [`Self::output_affine`] how they are quantized.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::NotTuned`].
    pub fn infer(&mut self, input: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.tuned.check(version)?;
        self.latent(input)?;
        Ok(self.int8_tail(version))
    }

    /// [`Self::infer`] from a feature that [`Self::latent`] gave.
    ///
    /// # Errors
    /// [`TunerError::LatentLength`], [`TunerError::NotTuned`].
    pub fn infer_latent(&mut self, latent: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.tuned.check(version)?;
        self.check_latent(latent)?;
        Self::scatter(&self.pack, latent, int8_scratch(self.scratch));
        Ok(self.int8_tail(version))
    }

    /// Refuses a latent of another length than the features'.
    pub(super) fn check_latent(&self, latent: &[i8]) -> Result<(), TunerError> {
        let (expected, found) = (self.arithmetic.features(), latent.len());
        if expected == found { Ok(()) } else { Err(TunerError::LatentLength { expected, found }) }
    }

    /// The tuned int8 layers that [`Version::Tuned`] runs, first to last; none before [`Self::requantize`].
    #[doc(hidden)]
    pub fn tuned_layers(&self) -> impl Iterator<Item = TunedLayer<'_>> {
        self.tuned.layers(&self.pack)
    }

    fn int8_tail(&mut self, version: Version) -> &[i8] {
        let arena = int8_scratch(self.scratch);
        match version {
            Version::Factory => trunk::run_factory_tail(&self.pack, arena),
            Version::Tuned if A::INPUT_SHARES => self.tuned.run::<true>(&self.pack, arena),
            Version::Tuned => self.tuned.run::<false>(&self.pack, arena),
        }
        self.pack.output().of(arena)
    }

    /// Runs an int8 tail on a sample in the replay, for [`Self::last_output`].
    pub(super) fn run_int8(&mut self, slot: usize, version: Version) -> Option<()> {
        let (latent, _) = self.replay.get(slot)?;
        Self::scatter(&self.pack, latent, int8_scratch(self.scratch));
        self.int8_tail(version);
        Some(())
    }

    /// What the int8 tail that ran last gave.
    pub(super) fn last_output(&self) -> &[i8] {
        self.pack.output().of(bytemuck::must_cast_slice(self.scratch))
    }

    pub(super) fn reading(&self, version: Version) -> Outputs {
        Outputs::of(&self.pack, (version == Version::Tuned).then_some(&self.tuned))
    }

    /// Scale and zero point of the int8 output. A tuned tail's differ from the factory's where the last operator is a
    /// layer that was tuned.
    pub fn output_affine(&self, version: Version) -> Affine {
        self.reading(version).affine
    }

    /// The label that an int8 output stands for, as [`Self::observe`] takes it: the class with the largest output, or the
    /// bits of the outputs above one half; 0 where the output is real values.
    pub fn answer(&self, output: &[i8], version: Version) -> usize {
        if A::ANY_TAIL { self.reading(version).answer(output) } else { argmax(output) }
    }

    /// Counts the samples that judge ([`Self::judge`]) by label and class: `into[label * classes + class]` are those
    /// with this label of which this class has the largest int8 output, none counted beyond 65,535. Runs the tail on
    /// each once.
    ///
    /// # Errors
    /// [`TunerError::NotTuned`]; [`TunerError::ConfusionLength`] for a buffer that has not classes times classes.
    pub fn confusion(&mut self, version: Version, into: &mut [u16]) -> Result<(), TunerError> {
        let classes = self.classes();
        let (expected, found) = (classes.saturating_mul(classes), into.len());
        if expected != found {
            return Err(TunerError::ConfusionLength { expected, found });
        }
        let rows = into.chunks_exact_mut(classes.max(1));
        rows.enumerate().try_for_each(|(label, row)| self.confusion_row(version, label, 0, row))
    }

    /// A part of one row of the matrix: `into[i]` are the samples with `label` that are taken for class `first + i`.
    /// For a link whose messages are small.
    ///
    /// # Errors
    /// [`TunerError::NotTuned`], [`TunerError::Label`]; [`TunerError::NoClasses`], [`TunerError::WantsTarget`] of other
    /// losses than cross-entropy.
    pub fn confusion_row(
        &mut self,
        version: Version,
        label: usize,
        first: usize,
        into: &mut [u16],
    ) -> Result<(), TunerError> {
        self.tuned.check(version)?;
        let label = self.label(label)?;
        if self.pack().loss() != Loss::CrossEntropy {
            return Err(TunerError::NoClasses);
        }
        into.fill(0);
        for index in 0..self.judging() {
            let slot = self.judging_slot(index).filter(|&slot| self.replay.label(slot) == Some(label));
            if slot.and_then(|slot| self.run_int8(slot, version)).is_none() {
                continue;
            }
            let class = argmax(self.last_output());
            if let Some(count) = class.checked_sub(first).and_then(|place| into.get_mut(place)) {
                *count = count.saturating_add(1);
            }
        }
        Ok(())
    }

    /// The mean squared error of an int8 tail, as the device runs it, on one sample against `target`, quantized as for
    /// [`Self::observe_target`], or against itself: an autoencoder's anomaly score.
    ///
    /// # Errors
    /// As [`Self::observe_target`]; [`TunerError::NotTuned`].
    pub fn error(
        &mut self,
        input: &[i8],
        target: Option<&[i8]>,
        version: Version,
    ) -> Result<f32, TunerError> {
        let target = self.check_target(input, target)?;
        let outputs = self.reading(version);
        Ok(outputs.loss(self.infer(input, version)?, target))
    }
}

/// How int8 outputs are to be read.
pub(crate) struct Outputs {
    loss: Loss,
    affine: Affine,
    /// They are probabilities: a softmax's or a logistic function's.
    probabilities: bool,
    /// Outputs after these are spare classes.
    classes: usize,
}

impl Outputs {
    /// Outputs of the network as packed, or with a tuned tail.
    pub fn of(pack: &Pack, tuned: Option<&TunedTail>) -> Self {
        let last = pack.operator_count().saturating_sub(1);
        let own = tuned.and_then(|tuned| tuned.layers(pack).last()).filter(|tuned| tuned.layer.index == last);
        let affine = own.map_or(pack.output().affine, |tuned| tuned.output);
        let classes = tuned.map_or(pack.known_classes(), |tuned| tuned.classes(pack));
        Self { loss: pack.loss(), affine, probabilities: pack.head().is_some(), classes }
    }

    /// The largest of those that are no spare classes, dequantized.
    fn largest(&self, values: &[i8]) -> f32 {
        let known = values.get(..self.classes).unwrap_or(values);
        known.iter().max().map_or(f32::NAN, |&q| self.affine.dequantize(q))
    }

    pub fn answer(&self, values: &[i8]) -> usize {
        let half = if self.probabilities { 0.5 } else { 0.0 };
        match self.loss {
            Loss::CrossEntropy => argmax(values.get(..self.classes).unwrap_or(values)),
            Loss::BinaryCrossEntropy => bits(values.iter().map(|&q| self.affine.dequantize(q) > half)),
            Loss::SquaredError => 0,
        }
    }

    /// The loss with the target's label smoothing, no probability taken for smaller than half a step. That of a label that
    /// the tail does not know yet is the loss at its spare output.
    pub fn loss(&self, values: &[i8], target: Target) -> f32 {
        match target {
            Target::Label { label, smoothing } if self.loss == Loss::BinaryCrossEntropy => {
                // A question has two answers, of which smoothing gives each a half.
                let spread = if smoothing == 0.0 { 0.0 } else { self.binary(values, !label) };
                let own = self.binary(values, label);
                own + 0.5 * smoothing * (spread - own)
            }
            Target::Label { label, smoothing } => {
                let own = self.cross_entropy(values, label);
                if smoothing == 0.0 {
                    return own;
                }
                let all = (0..self.classes).fold(0.0, |sum, class| sum + self.cross_entropy(values, class));
                own + smoothing * (all / self.classes.max(1) as f32 - own)
            }
            Target::Values { values: wanted, affine } => {
                let error = |(&y, &t): (&i8, &i8)| self.affine.dequantize(y) - affine.dequantize(t);
                let squares = values.iter().zip(wanted).map(error).fold(0.0, |sum, e| sum + e * e);
                squares / values.len().max(1) as f32
            }
        }
    }

    /// `-ln p`. Its argument is at least about 1, where the logarithm is good with every feature.
    fn surprise(&self, p: f32) -> f32 {
        math::ln(1.0 / p.max(0.5 * self.affine.scale))
    }

    /// `-ln p` of a class, no probability of a softmax taken for smaller than half a step.
    pub(super) fn cross_entropy(&self, values: &[i8], label: usize) -> f32 {
        let Some(&own) = values.get(label) else { return f32::NAN };
        if self.probabilities {
            return self.surprise(self.affine.dequantize(own));
        }
        let largest = values.iter().copied().max().unwrap_or(own);
        let below = |q: i8| self.affine.scale * (i32::from(q) - i32::from(largest)) as f32;
        let classes = values.get(..self.classes).unwrap_or(values);
        let sum: f32 = classes.iter().fold(0.0, |sum, &q| sum + math::exp(below(q)));
        math::ln(sum) - below(own)
    }

    fn binary(&self, values: &[i8], label: usize) -> f32 {
        let term = |(bit, &q): (usize, &i8)| {
            let (x, yes) = (self.affine.dequantize(q), label >> bit & 1);
            match self.probabilities {
                true => self.surprise(if yes == 1 { x } else { 1.0 - x }),
                false => binary_cross_entropy(&[x], yes, 0.0, &mut [0.0]),
            }
        };
        values.iter().take(Loss::MOST_QUESTIONS).enumerate().map(term).fold(0.0, |sum, loss| sum + loss)
    }
}

impl TunedTail<'_> {
    /// Refuses the tuned tail where there is none.
    pub(super) fn check(&self, version: Version) -> Result<(), TunerError> {
        if version == Version::Tuned && self.is_empty() { Err(TunerError::NotTuned) } else { Ok(()) }
    }
}
