//! A run's way through its epochs, of whichever tuner: what comes next, and where a step leaves it.

use super::order::Division;
use super::{Position, StepReport, Work};
use crate::optim::Recipe;
use crate::random::Random;
use serde::{Deserialize, Serialize};

/// Where a run stands between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Course {
    pub random: Random,
    pub epoch: u16,
    /// Samples of this epoch done, but for those of the step under way.
    pub position: usize,
    /// Samples in this epoch.
    pub samples: usize,
    pub step: u32,
    pub steps: u32,
}

impl Course {
    /// Before the first step of a run on `trained` samples.
    pub fn new(recipe: &Recipe, trained: usize) -> Self {
        let steps = u32::try_from(trained.div_ceil(usize::from(recipe.minibatch).max(1))).unwrap_or(u32::MAX);
        Self {
            random: Random::new(recipe.seed),
            epoch: 0,
            position: 0,
            samples: 0,
            step: 0,
            steps: steps.saturating_mul(recipe.epochs.into()),
        }
    }

    /// One that takes most bytes where it is kept, of so many samples.
    #[cfg(test)]
    pub fn longest(samples: usize) -> Self {
        let (random, epoch) = (Random::longest(), u16::MAX);
        Self { random, epoch, position: samples, samples, step: u32::MAX, steps: u32::MAX }
    }

    /// Begins a step: its learning rate, and how many samples it takes. An epoch's first step puts the samples in order:
    /// all `held` in the replay, or, where the run keeps to those that it was divided into at its start, `None`, those
    /// to train on.
    pub fn begin(&mut self, recipe: &Recipe, division: &mut Division, held: Option<usize>) -> (f32, usize) {
        if self.position == 0 {
            self.samples = division.shuffle(held, &mut self.random);
        }
        let left = self.samples.saturating_sub(self.position);
        (recipe.rate(self.step, self.steps), left.min(recipe.minibatch.into()))
    }

    /// The slots that are left of the epoch, the step's first.
    pub fn slots<'o>(&self, division: &'o Division) -> &'o [u16] {
        division.order.get(self.position..self.samples).unwrap_or(&[])
    }

    /// Ends a step on `count` samples; says what came of it.
    pub fn advance(
        &mut self,
        recipe: &Recipe,
        count: usize,
        [loss, rise, learning_rate]: [f32; 3],
    ) -> StepReport {
        self.step = self.step.saturating_add(1);
        self.position = self.position.saturating_add(count);
        let (epoch, epoch_finished) = (self.epoch, self.position >= self.samples);
        if epoch_finished {
            (self.position, self.epoch) = (0, epoch.saturating_add(1));
        }
        let finished = epoch_finished && self.epoch >= recipe.epochs;
        StepReport { epoch, loss, rise, learning_rate, epoch_finished, finished }
    }

    /// The same with what is done next, and to which sample.
    pub fn at(&self, work: Work, sample: usize) -> Position {
        Position { step: self.step, steps: self.steps, work, sample }
    }

    /// Whether a run that goes through at most `trained` samples in an epoch can stand so, in the midst of a step on
    /// `count`.
    pub fn is_sound(&self, trained: usize, count: usize) -> bool {
        self.position.checked_add(count).is_some_and(|end| end <= self.samples) && self.samples <= trained
    }
}
