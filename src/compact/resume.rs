//! What a run of the compact tuner is made of: see [`crate::CompactTuner::save_run`].

use super::tuner::{CompactTuner, Run};
use crate::optim::Recipe;
use crate::replay::Replay;
use crate::tuner::TunerError;
use crate::tuner::order::Division;
use crate::tuner::parts::{bytes, bytes_mut};
use crate::tuner::resume::{RUN_PARTS, Resumes, State};

impl Resumes for CompactTuner<'_> {
    type Own = Run;

    fn replay(&self) -> &Replay<'_> {
        &self.replay
    }

    fn division(&self) -> &Division<'_> {
        &self.division
    }

    fn state(&self) -> Option<State<Run>> {
        Some(State {
            recipe: self.recipe,
            own: self.run.clone()?,
            trained: self.division.trained,
            held_out: self.division.held_out,
            macs: self.macs,
        })
    }

    fn ordered(own: &Run) -> usize {
        own.course.samples
    }

    fn fitting(&self, recipe: &Recipe) -> Result<Recipe, TunerError> {
        self.fitting(recipe)
    }

    fn is_sound(&self, state: &State<Run>, [trained, ..]: [usize; 3]) -> bool {
        state.own.is_sound(&state.recipe, trained)
    }

    fn run_parts(&self, _: &Recipe) -> [&[u8]; RUN_PARTS] {
        let Self { weights, velocity, division, replay, .. } = self;
        // Of a tail that has more int8 bytes it is longer.
        let velocities = velocity.weights.get(..weights.high.len()).unwrap_or(&[]);
        let [high, low, biases, scales] = weights.parts();
        let order = division.order.get(..replay.len()).unwrap_or(&[]);
        [high, low, biases, scales, bytes(velocities), bytes(velocity.biases), bytes(order)]
    }

    fn run_parts_mut(&mut self) -> [&mut [u8]; RUN_PARTS] {
        let Self { weights, velocity, division, replay, .. } = self;
        let velocities = velocity.weights.get_mut(..weights.high.len()).unwrap_or(&mut []);
        [
            bytes_mut(weights.high),
            bytes_mut(weights.low),
            bytes_mut(weights.biases),
            bytes_mut(weights.scales),
            bytes_mut(velocities),
            bytes_mut(velocity.biases),
            bytes_mut(division.order.get_mut(..replay.len()).unwrap_or(&mut [])),
        ]
    }

    fn expect(&mut self, recipe: Recipe) {
        self.recipe = recipe;
        self.division.keep_whole(self.replay.len());
        self.expects_run = true;
    }

    fn expects(&self) -> bool {
        self.expects_run
    }

    fn expected(&self) -> &Recipe {
        &self.recipe
    }

    fn go_on(&mut self, state: State<Run>) -> bool {
        if !self.weights.are_sound() {
            return false;
        }
        // Scales last as long as a run: the velocity's steps are those of its start.
        self.chain.fit_velocity(self.weights.scales);
        self.expects_run = false;
        self.macs = state.macs;
        (self.division.trained, self.division.held_out) = (state.trained, state.held_out);
        self.run = Some(state.own);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuner::resume::assert_fits;

    #[test]
    fn the_longest_state_fits() {
        assert_fits(Run::longest(usize::from(u16::MAX)));
    }
}
