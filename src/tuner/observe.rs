//! Samples to tune on, with what they are to be compared with.

use super::{Tuner, TunerError};
use crate::pack::Pack;
use crate::quant::Affine;
use crate::tail::{Kept, Loss, Tail, Target};

impl Tuner<'_> {
    /// Runs the trunk on a labelled sample and keeps its latent; when the replay is full, a sample gives way as
    /// [`crate::Recipe::replay_policy`] has it, with [`crate::replay::Policy::Balanced`] sometimes this very one. A
    /// label is what the tail's [`Loss`] says; where a spare class is left, it may also be a spare output's: such samples
    /// wait for [`Self::add_class`].
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`]; [`TunerError::Running`] of one that would wait, since it might
    /// take the place of a sample that is trained on; [`TunerError::WantsTarget`] of [`Loss::SquaredError`].
    pub fn observe(&mut self, input: &[i8], label: usize) -> Result<(), TunerError> {
        let label = self.observed_label(label)?;
        self.keep(input, None, label)
    }

    /// The same with the values that the outputs are to have, quantized as the packed network's output is:
    /// [`Self::quantize_target`]. They are kept beside the latent. For [`Loss::SquaredError`].
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::TargetLength`]; [`TunerError::WantsLabel`] of another loss.
    pub fn observe_target(&mut self, input: &[i8], target: &[i8]) -> Result<(), TunerError> {
        self.check_target(input, Some(target))?;
        self.keep(input, Some(target), 0)
    }

    /// The same with the sample as its own target, as it is: an autoencoder's.
    ///
    /// # Errors
    /// As [`Self::observe_target`]: [`TunerError::TargetLength`] if the network's output is not as long as its input.
    pub fn observe_itself(&mut self, input: &[i8]) -> Result<(), TunerError> {
        self.check_target(input, None)?;
        self.keep(input, Some(input), Kept::ITSELF)
    }

    /// Keeps a sample that is known to be anomalous, for [`Self::auc`]: it is never trained on, and no tail is judged by
    /// it. Else as [`Self::observe_itself`].
    ///
    /// # Errors
    /// As [`Self::observe_itself`]; [`TunerError::Running`], since it might take the place of a sample that is trained on.
    pub fn observe_anomaly(&mut self, input: &[i8]) -> Result<(), TunerError> {
        self.check_target(input, None)?;
        if self.run.is_some() {
            return Err(TunerError::Running);
        }
        self.keep(input, Some(input), Kept::ITSELF | Kept::ANOMALOUS)
    }

    /// Real values as [`Self::observe_target`] takes them; what lies outside of the packed output's range saturates.
    ///
    /// # Errors
    /// [`TunerError::TargetLength`] if either is not as long as the output; [`TunerError::TargetValue`] for a value that
    /// is NaN or infinite.
    pub fn quantize_target(&self, values: &[f32], target: &mut [i8]) -> Result<(), TunerError> {
        let expected = self.pack.sizes().output_length;
        for found in [values.len(), target.len()] {
            if found != expected {
                return Err(TunerError::TargetLength { expected, found });
            }
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(TunerError::TargetValue { index });
        }
        let affine = self.pack.output().affine;
        target.iter_mut().zip(values).for_each(|(q, &value)| *q = affine.quantize(value));
        Ok(())
    }

    fn keep(&mut self, input: &[i8], target: Option<&[i8]>, label: u16) -> Result<(), TunerError> {
        self.latent(input)?;
        self.macs = self.macs.saturating_add(self.pack.trunk_macs());
        let latent = match self.tail.chain() {
            Some(_) => self.pack.feature().of(super::as_int8(self.scratch)),
            None => &*self.latent,
        };
        let slot = self.replay.push_with(latent, target.unwrap_or(&[]), label);
        self.forget_loss(slot);
        match target {
            None if usize::from(label) >= self.tail.classes()
                && self.tail.objective() == Loss::CrossEntropy => {}
            None => self.follow(usize::from(label).into()),
            Some(_) if label & Kept::ANOMALOUS != 0 => {}
            Some(values) => {
                let affine = target_affine(&self.pack, label & Kept::ITSELF != 0);
                self.follow(Target::Values { values, affine });
            }
        }
        Ok(())
    }

    /// A label as the replay keeps it.
    pub(super) fn label(&self, label: usize) -> Result<u16, TunerError> {
        let (objective, outputs) = (self.tail.objective(), self.tail.classes());
        if objective == Loss::SquaredError {
            return Err(TunerError::WantsTarget);
        }
        let last = objective.last_label(outputs);
        u16::try_from(label)
            .ok()
            .filter(|_| objective.has_label(label, outputs))
            .ok_or(TunerError::Label { label, last })
    }

    /// What `input` is compared with: `target`, or itself.
    pub(super) fn check_target<'t>(
        &self,
        input: &'t [i8],
        target: Option<&'t [i8]>,
    ) -> Result<Target<'t>, TunerError> {
        if self.tail.objective() != Loss::SquaredError {
            return Err(TunerError::WantsLabel);
        }
        let (expected, values) = (self.tail.classes(), target.unwrap_or(input));
        if values.len() != expected {
            return Err(TunerError::TargetLength { expected, found: values.len() });
        }
        Ok(Target::Values { values, affine: target_affine(&self.pack, target.is_none()) })
    }
}

/// Quantization of the targets: the input's of samples that are their own.
pub(super) fn target_affine(pack: &Pack, itself: bool) -> Affine {
    if itself { pack.input().affine } else { pack.output().affine }
}
