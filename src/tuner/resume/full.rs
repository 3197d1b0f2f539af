//! What a run of the tuner with f32 weights is made of.

use super::{RUN_PARTS, Resumes, State};
use crate::optim::Recipe;
use crate::replay::Replay;
use crate::step;
use crate::tail::Tail;
use crate::tuner::order::Division;
use crate::tuner::parts::{bytes, bytes_mut};
use crate::tuner::run::Run;
use crate::tuner::{Best, Tuner, TunerError};
use serde::{Deserialize, Serialize};

/// What of its state only this tuner has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Own {
    run: Run,
    best: Option<Best>,
    losses_of: u16,
}

impl Resumes for Tuner<'_> {
    type Own = Own;

    fn replay(&self) -> &Replay<'_> {
        &self.replay
    }

    fn division(&self) -> &Division<'_> {
        &self.division
    }

    fn state(&self) -> Option<State<Own>> {
        let run = self.run.clone()?;
        Some(State {
            recipe: self.recipe,
            own: Own { run, best: self.best, losses_of: self.losses_of },
            trained: self.division.trained,
            held_out: self.division.held_out,
            macs: self.macs,
        })
    }

    fn ordered(own: &Own) -> usize {
        own.run.course.samples
    }

    fn fitting(&self, recipe: &Recipe) -> Result<Recipe, TunerError> {
        self.fitting(recipe)
    }

    fn is_sound(&self, state: &State<Own>, counts: [usize; 3]) -> bool {
        let stored = step::stores_perturbation(&self.tail, &state.recipe);
        state.own.run.is_sound(&state.recipe, stored, counts)
    }

    fn run_parts(&self, recipe: &Recipe) -> [&[u8]; RUN_PARTS] {
        let [gradient, best, losses] = self.run_has(recipe);
        let (samples, velocity) = (self.replay.len(), self.velocity_floats(recipe));
        let floats = |wanted: bool, buffer| {
            if wanted { bytes::<f32>(buffer) } else { &[] }
        };
        [
            floats(true, self.weights),
            floats(true, self.velocity.get(..velocity).unwrap_or(&[])),
            floats(gradient, self.gradient),
            floats(best, self.best_weights),
            floats(losses, self.losses.get(..samples).unwrap_or(&[])),
            bytes(self.division.order.get(..samples).unwrap_or(&[])),
            &[],
        ]
    }

    fn run_parts_mut(&mut self) -> [&mut [u8]; RUN_PARTS] {
        let [gradient, best, losses] = self.run_has(&self.recipe);
        let (samples, velocity) = (self.replay.len(), self.velocity_floats(&self.recipe));
        [
            bytes_mut(self.weights),
            bytes_mut(self.velocity.get_mut(..velocity).unwrap_or(&mut [])),
            if gradient { bytes_mut(self.gradient) } else { &mut [] },
            if best { bytes_mut(self.best_weights) } else { &mut [] },
            bytes_mut(self.losses.get_mut(..if losses { samples } else { 0 }).unwrap_or(&mut [])),
            bytes_mut(self.division.order.get_mut(..samples).unwrap_or(&mut [])),
            &mut [],
        ]
    }

    fn expect(&mut self, recipe: Recipe) {
        self.recipe = recipe;
        (self.best, self.losses_of) = (None, 0);
        self.division.keep_whole(self.replay.len());
        self.expects_run = true;
    }

    fn expects(&self) -> bool {
        self.expects_run
    }

    fn expected(&self) -> &Recipe {
        &self.recipe
    }

    fn go_on(&mut self, state: State<Own>) -> bool {
        let State { own: Own { run, best, losses_of }, trained, held_out, macs, .. } = state;
        self.expects_run = false;
        (self.best, self.losses_of, self.macs) = (best, losses_of, macs);
        (self.division.trained, self.division.held_out) = (trained, held_out);
        self.run = Some(run);
        self.count_classes();
        true
    }
}

impl Tuner<'_> {
    /// Refuses what reads the f32 weights while a saved run is expected.
    pub(in crate::tuner) fn check_weights(&self) -> Result<(), TunerError> {
        if self.expects_run { Err(TunerError::RunExpected) } else { Ok(()) }
    }

    /// Floats of the velocity that are the run's.
    fn velocity_floats(&self, recipe: &Recipe) -> usize {
        recipe.velocity_floats(self.tail.parameters()).min(self.velocity.len())
    }

    /// Which of the optional buffers the recipe's run has: gradient, best weights, losses.
    fn run_has(&self, recipe: &Recipe) -> [bool; 3] {
        [step::stores_perturbation(&self.tail, recipe), recipe.keep_best, recipe.sample_losses]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Judgement;
    use crate::step::Step;
    use crate::tuner::course::Course;
    use crate::tuner::resume::assert_fits;
    use crate::tuner::run::{Stage, StepReport};

    #[test]
    fn the_longest_state_fits() {
        let most = usize::from(u16::MAX);
        let judgement = Judgement { samples: u32::MAX, right: u32::MAX, loss: 1.0 };
        let report = StepReport {
            epoch: u16::MAX,
            loss: 1.0,
            rise: 1.0,
            learning_rate: 1.0,
            epoch_finished: true,
            finished: true,
        };
        for stage in [Stage::Step(Step::longest(most)), Stage::Judge(u16::MAX, most, judgement)] {
            let run = Run { course: Course::longest(most), stage, report };
            assert_fits(Own { run, best: Some(Best { epochs: u16::MAX, judgement }), losses_of: u16::MAX });
        }
    }
}
