//! The radius of a run's ascents in units of the weights: the recipe's, or, where that has it in nats, measured before the
//! first step ([`RhoUnit::Nats`]).

use super::arithmetic::Arithmetic;
use super::run::Course;
use super::sample::target;
use super::{Progress, Tuner, TunerError};
use crate::label::Target;
use crate::recipe::{Ascent, Recipe, RhoUnit};

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub enum Radius {
    /// All: units of the weights.
    Known(f32),
    /// So far: training samples gone through, and the sum of their `||T g||^2`.
    Measured { next: usize, sum: f32 },
}

impl Radius {
    /// Length of the ascent whose slope is measured: a power of two, so that dividing by it rounds nothing, and short, so that
    /// no loss overflows.
    const PROBE: f32 = 1.0 / 1024.0;
    /// As far as a recipe may ask for in units of the weights.
    const MOST: f32 = 1e3;

    /// Before the first slice of a run.
    pub fn of(recipe: &Recipe) -> Self {
        match recipe.rho_unit {
            RhoUnit::Nats if recipe.ascent().is_some() => Self::Measured { next: 0, sum: 0.0 },
            _ => Self::Known(recipe.rho),
        }
    }

    /// The radius of a step, before which it is known.
    pub fn known(&self) -> f32 {
        debug_assert!(matches!(self, Self::Known(_)), "a step before its radius is known");
        match self {
            Self::Known(rho) => *rho,
            Self::Measured { .. } => 0.0,
        }
    }

    /// Whether a run that trains on so many samples can stand so.
    pub fn is_sound(&self, course: &Course, trained: usize) -> bool {
        match self {
            Self::Known(rho) => (0.0..=Self::MOST).contains(rho),
            Self::Measured { next, sum } => {
                *next < trained && *sum >= 0.0 && sum.is_finite() && course.step == 0
            }
        }
    }

    /// One that takes most bytes where it is kept.
    #[cfg(test)]
    pub fn longest(samples: usize) -> Self {
        Self::Measured { next: samples, sum: 1.0 }
    }
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Radius of the ascents of the run under way, in units of the weights; `None` without a run, and before it is measured
    /// ([`RhoUnit::Nats`]).
    pub fn radius(&self) -> Option<f32> {
        match self.run.as_ref()?.radius {
            Radius::Known(rho) => Some(rho),
            Radius::Measured { .. } => None,
        }
    }

    /// A slice of the run under way; of several samples at once, if they may be `grouped`.
    #[inline(never)] // Called by `step` and by `poll`: once in flash.
    pub(super) fn slice(&mut self, grouped: bool) -> Result<Progress, TunerError> {
        let Some(Radius::Measured { next, sum }) = self.run.as_ref().map(|run| run.radius) else {
            return A::run_slice(self, grouped);
        };
        let sum = sum + self.wrong_slope_squared(next);
        let next = next.saturating_add(1);
        let trained = self.division.trained;
        let radius = if next < trained {
            Radius::Measured { next, sum }
        } else {
            let mean = sum / next as f32;
            let length =
                self.recipe.geometry().and_then(|geometry| geometry.step_length(self.recipe.rho, mean));
            // Where no label has a gradient there is nothing to ascend along.
            Radius::Known(length.unwrap_or(0.0).min(Radius::MOST))
        };
        if let Some(run) = &mut self.run {
            run.radius = radius;
        }
        self.underway()
    }

    /// `||T g||^2` of a training sample with a label that it does not have; of a squared error with its own target, and
    /// relative to its loss. 0 where that is not finite, which the sample's step will say.
    #[inline(never)] // Keeps its frame off the steps' stack.
    fn wrong_slope_squared(&mut self, index: usize) -> f32 {
        let divided = self.division.is_fixed() || self.leaves_out();
        let slot = if divided { self.division.ordered_slot(index) } else { index };
        let (objective, classes) = (self.objective(), self.classes());
        let Some(geometry) = self.recipe.geometry().filter(|_| !self.is_left_out(slot)) else { return 0.0 };
        let Self { arithmetic, tuned, run, pack, replay, scratch, macs, .. } = self;
        let Some((latent, _)) = replay.get(slot) else { return 0.0 };
        let target = match target::<A>(replay, slot, pack) {
            Target::Label { label, .. } => objective.wrong_label(label, index, classes).into(),
            values @ Target::Values { .. } => values,
        };
        arithmetic.write_features(pack, latent, scratch);
        let (step, ascent) = (run.as_ref().map(|run| &run.step), Ascent { rho: Radius::PROBE, geometry });
        let (loss, _, risen) = arithmetic.risen(step, tuned, &ascent, (pack, latent, target), scratch);
        // Forward, backward, and forward once more.
        *macs = macs.saturating_add(arithmetic.forward_macs().saturating_mul(3));
        let slope = risen.map_or(0.0, |[_, slope]| slope / Radius::PROBE);
        let slope = if objective.has_answers() { slope } else { slope / loss };
        let squared = slope * slope;
        if squared.is_finite() { squared } else { 0.0 }
    }
}
