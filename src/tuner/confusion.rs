//! Which classes an int8 tail takes for which.

use super::{Tuner, TunerError, Version};
use crate::CompactTuner;
use crate::tail::{Loss, argmax};

/// Calls of both tuners.
macro_rules! confusion_calls {
    ($tuner:ident) => {
        impl $tuner<'_> {
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
                    let slot =
                        self.judging_slot(index).filter(|&slot| self.replay.label(slot) == Some(label));
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
        }
    };
}

confusion_calls!(Tuner);
confusion_calls!(CompactTuner);
