//! Samples whose loss stays high across a run: probably mislabelled.
//!
//! Networks learn samples with right labels first and those with wrong ones last, if at all (Arpit et al. 2017, "A
//! Closer Look at Memorization in Deep Networks"), so that a sample's loss averaged over the epochs tells them apart
//! (Huang et al. 2019, "O2U-Net: A Simple Noisy Label Detection Approach for Deep Neural Networks", section 3).

use super::Tuner;
use super::run::Stage;
use crate::tail::Tail;

/// A sample that is probably mislabelled.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Suspect {
    /// Its slot in the replay: the number of the sample observed, as long as none gave way.
    pub slot: usize,
    /// Its label.
    pub label: u16,
    /// Its mean loss after the run's epochs, in nats.
    pub loss: f32,
}

impl Tuner<'_> {
    /// Mean loss of the sample in `slot` over the epochs of the current or last run with
    /// [`crate::Recipe::sample_losses`]; `None` for a sample that came later, or without such a run.
    pub fn mean_loss(&self, slot: usize) -> Option<f32> {
        let known = self.losses_of > 0 && slot < self.replay.len();
        self.losses.get(slot).copied().filter(|loss| known && !loss.is_nan())
    }

    /// The samples whose mean loss over a run with [`crate::Recipe::sample_losses`] is above `ln K` of K classes, or
    /// `K ln 2` of K yes-or-no questions (of a squared error there are none): to
    /// their labels the tail gave less (in the geometric mean over the epochs) than a guess that knows nothing would
    /// have given, though it was trained on most of them, this very label among them. A run that is so long that it learns
    /// wrong labels by heart, or so short that it learns nothing, finds fewer of them, or finds others.
    pub fn suspects(&self) -> impl Iterator<Item = Suspect> + '_ {
        let extreme = self.tail.objective().of_a_guess(self.tail.classes());
        self.replay.labels().enumerate().filter_map(move |(slot, label)| {
            let loss = self.mean_loss(slot).filter(|&loss| loss > extreme)?;
            Some(Suspect { slot, label, loss })
        })
    }

    /// Takes the loss of one sample more, held out or not, into its mean after an epoch; what comes next.
    pub(super) fn take_loss(&mut self, slot: usize) -> Stage {
        let epochs = self.run.as_ref().map_or(1, |run| run.course.epoch);
        if epochs <= 1 && slot == 0 {
            self.losses.fill(f32::NAN);
        }
        let loss = self.judge_slot(slot).map(|(loss, _)| loss);
        if let (Some(mean), Some(loss)) = (self.losses.get_mut(slot), loss) {
            // A sample that came during the run keeps its NaN.
            *mean = if epochs <= 1 { loss } else { *mean + (loss - *mean) / f32::from(epochs) };
        }
        self.macs = self.macs.saturating_add(self.tail.forward_macs());
        let next = slot.saturating_add(1);
        if next < self.replay.len() {
            return Stage::Losses(next);
        }
        self.losses_of = epochs;
        self.after_losses()
    }

    /// Forgets a slot's loss, whose sample has given way.
    pub(super) fn forget_loss(&mut self, slot: Option<usize>) {
        if let Some(loss) = slot.and_then(|slot| self.losses.get_mut(slot)) {
            *loss = f32::NAN;
        }
    }
}
