//! The tuner's answers: requantization, classification, scores, and means over the replay.

use super::{Evaluation, Score, Tuner, TunerError, Version, int8, load, write_features};
use crate::optim::{BiasTreatment, Geometry};
use crate::requant::{self, Range, TunedLayer};
use crate::tail::{MAX_LAYERS, Workspace, argmax};
use crate::trunk;

impl Tuner<'_> {
    /// Quantizes the current weights to int8, with the activation ranges that the replay's samples cause at
    /// them. From then on [`Version::Tuned`] answers with the result.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn requantize(&mut self) -> Result<(), TunerError> {
        if self.replay.is_empty() {
            return Err(TunerError::NoSamples);
        }
        let (zero_point, unit) = self.feature_affine();
        let mut ranges = [Range::EMPTY; MAX_LAYERS];
        if let Some(mut workspace) = Workspace::new(&self.tail, self.scratch) {
            for slot in 0..self.replay.len() {
                load(&self.replay, slot, zero_point, unit, workspace.features);
                self.tail.forward(self.weights, &mut workspace);
                self.tail.for_each_range(&workspace, |layer, low, high| {
                    requant::widen(&mut ranges, layer, low, high);
                });
            }
        }
        self.macs += self.tail.forward_macs() * self.replay.len() as u64;
        self.tuned.quantize(&self.pack, &self.tail, self.weights, &ranges);
        Ok(())
    }

    fn feature_affine(&self) -> (i32, f32) {
        (self.pack.feature().affine.zero_point, self.pack.feature_unit())
    }

    /// The network's int8 output for `input`: int8 trunk, int8 tail.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::NotTuned`].
    pub fn classify(&mut self, input: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.check_tuned(version)?;
        self.latent(input)?;
        Ok(self.int8_tail(version))
    }

    /// The same from a latent that [`Tuner::latent`] gave.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::NotTuned`].
    pub fn classify_latent(&mut self, latent: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.check_tuned(version)?;
        self.check_latent(latent)?;
        self.pack.feature().of_mut(int8(self.scratch)).copy_from_slice(latent);
        Ok(self.int8_tail(version))
    }

    /// The tuned int8 layers that [`Version::Tuned`] runs, first to last; none before [`Self::requantize`].
    pub fn tuned_layers(&self) -> impl Iterator<Item = TunedLayer<'_>> {
        self.tuned.layers(&self.pack)
    }

    fn int8_tail(&mut self, version: Version) -> &[i8] {
        let arena = int8(self.scratch);
        match version {
            Version::Factory => trunk::run_factory_tail(&self.pack, arena),
            Version::Tuned => self.tuned.run(&self.pack, arena),
        }
        self.pack.output().of(arena)
    }

    fn check_tuned(&self, version: Version) -> Result<(), TunerError> {
        if version == Version::Tuned && self.tuned.is_empty() { Err(TunerError::NotTuned) } else { Ok(()) }
    }

    fn check_latent(&self, latent: &[i8]) -> Result<(), TunerError> {
        let (expected, found) = (self.tail.features(), latent.len());
        if expected == found { Ok(()) } else { Err(TunerError::InputLength { expected, found }) }
    }

    /// The int8 trunk and the current f32 tail on a sample with its label.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`].
    pub fn score(&mut self, input: &[i8], label: usize) -> Result<Score, TunerError> {
        self.label(label)?;
        self.latent(input)?;
        let length = self.tail.features();
        let start = self.pack.feature().arena_offset;
        let arena = int8(self.scratch);
        if start + length > arena.len() {
            return Ok(Score { loss: f32::NAN, class: 0 });
        }
        // The features take four times the latent's place: from its end at the front, none is overwritten
        // before it is read.
        arena.copy_within(start..start + length, 0);
        let (zero_point, unit) = self.feature_affine();
        for i in (0..length).rev() {
            let q = int8(self.scratch).get(i).copied().unwrap_or(0);
            if let Some(feature) = self.scratch.get_mut(i) {
                write_features(&[q], zero_point, unit, core::slice::from_mut(feature));
            }
        }
        Ok(self.scored(label))
    }

    /// The current f32 tail on a latent with its label.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`].
    pub fn score_latent(&mut self, latent: &[i8], label: usize) -> Result<Score, TunerError> {
        self.label(label)?;
        self.check_latent(latent)?;
        let (zero_point, unit) = self.feature_affine();
        write_features(latent, zero_point, unit, self.scratch.get_mut(..latent.len()).unwrap_or(&mut []));
        Ok(self.scored(label))
    }

    /// The tail on the features that are in the workspace.
    fn scored(&mut self, label: usize) -> Score {
        let Some(mut workspace) = Workspace::new(&self.tail, self.scratch) else {
            return Score { loss: f32::NAN, class: 0 };
        };
        let loss = self.tail.first_pass(self.weights, label, &mut workspace);
        Score { loss, class: argmax(workspace.logits(self.tail.classes())) }
    }

    /// Loss, accuracy and sharpness of the current f32 weights over the replay.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn evaluate(&mut self, rho: f32) -> Result<Evaluation, TunerError> {
        let count = self.replay.len();
        if count == 0 {
            return Err(TunerError::NoSamples);
        }
        let (zero_point, unit) = self.feature_affine();
        let geometry = Geometry { eta: None, bias: BiasTreatment::Unit };
        let mut sums = Evaluation { loss: 0.0, accuracy: 0.0, sharpness: 0.0 };
        let Some(mut workspace) = Workspace::new(&self.tail, self.scratch) else { return Ok(sums) };
        for slot in 0..count {
            let label = load(&self.replay, slot, zero_point, unit, workspace.features);
            let loss = self.tail.first_pass(self.weights, label, &mut workspace);
            sums.loss += loss;
            if argmax(workspace.logits(self.tail.classes())) == label {
                sums.accuracy += 1.0;
            }
            let norm = self.tail.ascent_norm_squared(self.weights, &geometry, &mut workspace);
            if let Some(c) = geometry.step_length(rho, norm) {
                sums.sharpness +=
                    self.tail.perturbed_pass(self.weights, &geometry, c, label, &mut workspace) - loss;
            }
        }
        let mean = 1.0 / count as f32;
        Ok(Evaluation {
            loss: sums.loss * mean,
            accuracy: sums.accuracy * mean,
            sharpness: sums.sharpness * mean,
        })
    }
}
