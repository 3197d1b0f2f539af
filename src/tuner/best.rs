//! Early stopping: the best weights that a run has seen are kept, and it ends with them.

use super::{Judgement, Tuner, TunerError, copy};
use crate::tail::Tail;

/// The weights that a run with [`crate::Recipe::keep_best`] keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
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

    /// Keeps the current weights, after so many epochs of a run, if none were better before.
    pub(super) fn keep_if_best(&mut self, epochs: u16) -> Result<(), TunerError> {
        let judgement = self.judge_weights()?;
        let judged = if self.held_out == 0 { self.replay.len() } else { self.held_out };
        self.macs += self.tail.forward_macs() * judged as u64;
        if self.best.is_none_or(|best| judgement.is_better_than(&best.judgement)) {
            copy(self.best_weights, self.weights);
            self.best = Some(Best { epochs, judgement });
        }
        Ok(())
    }

    /// Ends the run, if there is one, with the best weights where they are kept.
    pub(super) fn end_run(&mut self) {
        if self.run.take().is_some() && self.best.is_some() {
            copy(self.weights, self.best_weights);
        }
    }
}
