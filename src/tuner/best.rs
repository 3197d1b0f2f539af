//! Early stopping: the best weights that a run has seen are kept, and it ends with them.

use super::run::Stage;
use super::{Judgement, Tuner, TunerError, copy};
use crate::tail::Tail;
use serde::{Deserialize, Serialize};

/// The weights that a run with [`crate::Recipe::keep_best`] keeps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Best {
    /// Epochs after which they were seen; 0 are the weights that the run began with.
    pub epochs: u16,
    /// How they do, in f32: [`Tuner::judge_weights`].
    pub judgement: Judgement,
}

impl Tuner<'_> {
    /// The best weights of the current or last run; `None` where it does not keep them.
    pub fn best(&self) -> Option<Best> {
        self.best
    }

    /// Judges one sample more, after so many epochs of a run; after the last keeps the weights, if none were better
    /// before. `sum` is the judgement of those before it.
    pub(super) fn judge_for_best(
        &mut self,
        epochs: u16,
        index: usize,
        mut sum: Judgement,
    ) -> Result<Stage, TunerError> {
        sum.add(self.judging_slot(index).and_then(|slot| self.judge_slot(slot)));
        self.macs = self.macs.saturating_add(self.tail.forward_macs());
        let next = index.saturating_add(1);
        if next < self.judging() {
            return Ok(Stage::Judge(epochs, next, sum));
        }
        let judgement = sum.mean().ok_or(TunerError::NoSamples)?;
        if self.best.is_none_or(|best| judgement.is_better_than(&best.judgement)) {
            copy(self.best_weights, self.weights);
            self.best = Some(Best { epochs, judgement });
        }
        Ok(Stage::Between)
    }

    /// Ends the run, if there is one, with the best weights where they are kept.
    pub(super) fn end_run(&mut self) {
        let was_running = self.run.is_some();
        self.abandon();
        if was_running && self.best.is_some() {
            copy(self.weights, self.best_weights);
        }
    }
}
