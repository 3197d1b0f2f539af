//! How well a tail tells anomalies from what is normal.

use super::arithmetic::Arithmetic;
use super::{Tuner, TunerError, Version};
use crate::metrics;
use crate::part::Part;
use crate::tail::{Kept, Loss};

/// For [`crate::Operators`]: a firmware around a pack that knows no anomalies does without.
pub(super) fn auc(tuner: &mut Tuner, version: Version, between: &mut dyn FnMut()) -> Result<f32, TunerError> {
    tuner.area(version, between)
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Area under the ROC curve, from 0 to 1, of an int8 tail, as the device runs it. With [`Loss::SquaredError`] a
    /// sample's score is its error: samples of [`Self::observe_anomaly`] should have higher ones than the others. With
    /// [`Loss::BinaryCrossEntropy`] and one output it is the output: label 1 should have the higher one. The samples are all
    /// in the replay; where some are held out, those, and all anomalies. Between runs; scores take the velocity's place,
    /// which is planned for them.
    ///
    /// # Errors
    /// [`TunerError::Running`], [`TunerError::RunExpected`], [`TunerError::NotTuned`], [`TunerError::OneKind`] where only
    /// normal or only anomalous samples are held, or the loss knows no anomalies.
    pub fn auc(&mut self, version: Version) -> Result<f32, TunerError> {
        self.auc_between(version, || ())
    }

    /// [`Self::auc`], with a call of `between` before every sample: there a watchdog is fed.
    ///
    /// # Errors
    /// As [`Self::auc`].
    pub fn auc_between(&mut self, version: Version, mut between: impl FnMut()) -> Result<f32, TunerError> {
        A::auc(self, version, &mut between)
    }
}

impl Tuner<'_> {
    fn area(&mut self, version: Version, between: &mut dyn FnMut()) -> Result<f32, TunerError> {
        self.check_weights()?;
        self.tuned.check(version)?;
        if self.run.is_some() {
            return Err(TunerError::Running);
        }
        let objective = self.objective();
        let detects =
            objective == Loss::SquaredError || objective == Loss::BinaryCrossEntropy && self.classes() == 1;
        if !detects {
            return Err(TunerError::OneKind);
        }
        let outputs = self.reading(version);
        let (mut normal, mut anomalous) = (0, 0);
        let judging = self.judging();
        // Anomalies are on neither side of a division.
        let apart = if self.division.held_out > 0 { self.replay.len() } else { 0 };
        for index in 0..judging.saturating_add(apart) {
            let slot = match index.checked_sub(judging) {
                None => self.division.judging_slot(index),
                Some(slot) => Some(slot).filter(|&slot| self.is_left_out(slot)),
            };
            let Some(slot) = slot else { continue };
            let Some(label) = self.replay.label(slot) else { continue };
            let positive = label & Kept::ANOMALOUS != 0;
            between();
            if self.run_int8(slot, version).is_none() {
                continue;
            }
            let values = self.last_output();
            let score = match objective {
                Loss::SquaredError => outputs.loss(values, self.target(slot)),
                _ => values.first().map_or(f32::NAN, |&q| f32::from(q)),
            };
            // Normal ones from the front, the others from the back.
            let count = if positive { &mut anomalous } else { &mut normal };
            *count += 1;
            let place =
                if positive { self.arithmetic.velocity.len().checked_sub(*count) } else { Some(*count - 1) };
            if let Some(place) = place.and_then(|place| self.arithmetic.velocity.get_mut(place)) {
                *place = score;
            }
        }
        let front = self.arithmetic.velocity.part(..normal);
        let back = self
            .arithmetic
            .velocity
            .len()
            .checked_sub(anomalous)
            .and_then(|start| self.arithmetic.velocity.get(start..));
        metrics::auc(back.unwrap_or(&[]), front).ok_or(TunerError::OneKind)
    }
}
