//! The radius of a run's ascents in units of the weights: the recipe's, or, where that has it in nats, measured before the
//! first step ([`RhoUnit::Nats`]).
//!
//! A run that begins with weights that know little of its labels, drawn ones above all, goes on measuring, after 4 steps, 8, 16
//! and so on: the rise at one radius grows a hundredfold on the way from such weights to trained ones. Until the labels are
//! believed its rho is smaller, too, in proportion to what their mean probability has beyond a guess: an ascent that takes back
//! all that was learned leaves nothing to descend along, and the loss stays that of a guess.

use super::arithmetic::Arithmetic;
use super::run::Course;
use super::sample::target;
use super::{Progress, Tuner, TunerError};
use crate::label::Target;
use crate::math;
use crate::recipe::{Ascent, Recipe, RhoUnit};

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub enum Radius {
    /// All: units of the weights, for the whole run.
    Known(f32),
    /// As runs were saved when probabilities had no say: [`Self::Measured`], with labels that are believed.
    Begun { next: usize, sum: f32 },
    /// Enough for the next steps: units of the weights.
    Passing(f32),
    /// So far: training samples gone through, and the sums of their `||T g||^2` and of their labels' probabilities.
    Measured { next: usize, sum: f32, believed: f32 },
}

impl Radius {
    /// Length of the ascent whose slope is measured: a power of two, so that dividing by it rounds nothing, and short, so that
    /// no loss overflows.
    const PROBE: f32 = 1.0 / 1024.0;
    /// As far as a recipe may ask for in units of the weights.
    const MOST: f32 = 1e3;
    /// Samples at most of a measurement in the midst of a run.
    const AGAIN: usize = 64;
    /// Steps before the first of those.
    const FIRST: u32 = 4;
    /// What the labels' mean probability has beyond a guess where weights are trained, of a factory's network with three labels in
    /// five wrong, too.
    const TRAINED: f32 = 0.25;

    /// Before the first slice of a run.
    pub fn of(recipe: &Recipe) -> Self {
        match recipe.rho_unit {
            RhoUnit::Nats if recipe.ascent().is_some() => Self::NOTHING,
            _ => Self::Known(recipe.rho),
        }
    }

    /// Before a measurement.
    const NOTHING: Self = Self::Measured { next: 0, sum: 0.0, believed: 0.0 };

    /// The radius of a step, before which it is known.
    pub fn known(&self) -> f32 {
        let known = self.length();
        debug_assert!(known.is_some(), "a step before its radius is known");
        known.unwrap_or(0.0)
    }

    /// In units of the weights; `None` before it is measured.
    pub fn length(&self) -> Option<f32> {
        match self {
            Self::Known(rho) | Self::Passing(rho) => Some(*rho),
            Self::Begun { .. } | Self::Measured { .. } => None,
        }
    }

    /// Where a measurement stands: samples, and the two sums.
    pub fn measurement(&self) -> Option<(usize, [f32; 2])> {
        match *self {
            Self::Known(_) | Self::Passing(_) => None,
            Self::Begun { next, sum } => Some((next, [sum, next as f32])),
            Self::Measured { next, sum, believed } => Some((next, [sum, believed])),
        }
    }

    /// What it is before the step that comes after so many.
    fn after(self, steps: u32) -> Self {
        match self {
            Self::Passing(_) if steps >= Self::FIRST && steps.is_power_of_two() => Self::NOTHING,
            own => own,
        }
    }

    /// Samples that a measurement goes through, of so many.
    fn samples(trained: usize, course: &Course) -> usize {
        if course.step == 0 { trained } else { trained.min(course.samples).min(Self::AGAIN) }
    }

    /// Whether a run that trains on so many samples can stand so.
    pub fn is_sound(&self, course: &Course, trained: usize) -> bool {
        match self.measurement() {
            None => self.length().is_some_and(|rho| (0.0..=Self::MOST).contains(&rho)),
            Some((next, [sum, believed])) => {
                let sums = sum >= 0.0 && sum.is_finite() && (0.0..=next as f32).contains(&believed);
                next < Self::samples(trained, course).max(1) && sums
            }
        }
    }

    /// One that takes most bytes where it is kept.
    #[cfg(test)]
    pub fn longest(samples: usize) -> Self {
        Self::Measured { next: samples, sum: 1.0, believed: 1.0 }
    }
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Radius of the ascents of the run under way, in units of the weights; `None` without a run, and before it is measured
    /// ([`RhoUnit::Nats`]).
    pub fn radius(&self) -> Option<f32> {
        self.run.as_ref()?.radius.length()
    }

    /// A slice of the run under way; of several samples at once, if they may be `grouped`.
    #[inline(never)] // Called by `step` and by `poll`: once in flash.
    pub(super) fn slice(&mut self, grouped: bool) -> Result<Progress, TunerError> {
        let Some(run) = &self.run else { return Err(TunerError::NotRunning) };
        let Some((next, [sum, believed])) = run.radius.measurement() else {
            let progress = A::run_slice(self, grouped)?;
            if let (Progress::Stepped(_), Some(run)) = (&progress, &mut self.run) {
                run.radius = run.radius.after(run.course.step);
            }
            return Ok(progress);
        };
        let (first, samples) = (run.course.step == 0, Radius::samples(self.division.trained, &run.course));
        let (squared, probability) = self.wrong_slope_squared(next, first);
        let (sum, believed) = (sum + squared, believed + probability);
        let next = next.saturating_add(1);
        let radius = if next < samples {
            Radius::Measured { next, sum, believed }
        } else {
            self.measured(first, [sum, believed].map(|sum| sum / next as f32))
        };
        if let Some(run) = &mut self.run {
            run.radius = radius;
        }
        self.underway()
    }

    /// The radius by a measurement's means.
    fn measured(&self, first: bool, [squared, believed]: [f32; 2]) -> Radius {
        let learned = self.objective().beyond_a_guess(believed, self.classes());
        let length = |rho| {
            let length = self.recipe.geometry().and_then(|own| own.step_length(rho, squared));
            // Where no label has a gradient there is nothing to ascend along.
            length.unwrap_or(0.0).min(Radius::MOST)
        };
        match first && learned >= Radius::TRAINED {
            true => Radius::Known(length(self.recipe.rho)),
            false => Radius::Passing(length(self.recipe.rho * learned)),
        }
    }

    /// `||T g||^2` of a training sample with a label that it does not have; of a squared error with its own target, and
    /// relative to its loss. 0 where that is not finite, which the sample's step will say. And the probability of its own label, 0
    /// of a squared error.
    #[inline(never)] // Keeps its frame off the steps' stack.
    fn wrong_slope_squared(&mut self, index: usize, first: bool) -> (f32, f32) {
        // In a run's midst the order is an epoch's.
        let divided = !first || self.division.is_fixed() || self.leaves_out();
        let slot = if divided { self.division.ordered_slot(index) } else { index };
        let (objective, classes) = (self.objective(), self.classes());
        let Some(geometry) = self.recipe.geometry().filter(|_| !self.is_left_out(slot)) else {
            return (0.0, 0.0);
        };
        let Self { arithmetic, tuned, run, pack, replay, scratch, macs, .. } = self;
        let Some((latent, _)) = replay.get(slot) else { return (0.0, 0.0) };
        let (step, ascent) = (run.as_ref().map(|run| &run.step), Ascent { rho: Radius::PROBE, geometry });
        let (target, probability) = match target::<A>(replay, slot, pack) {
            own @ Target::Label { label, .. } => {
                arithmetic.write_features(pack, latent, scratch);
                let (loss, _) = arithmetic.loss(step, tuned, own, scratch);
                (objective.wrong_label(label, index, classes).into(), math::exp(-loss).min(1.0))
            }
            values @ Target::Values { .. } => (values, 0.0),
        };
        arithmetic.write_features(pack, latent, scratch);
        let (loss, _, risen) = arithmetic.risen(step, tuned, &ascent, (pack, latent, target), scratch);
        // Forward for its own label; forward, backward, and forward once more.
        let passes = if objective.has_answers() { 4 } else { 3 };
        *macs = macs.saturating_add(arithmetic.forward_macs().saturating_mul(passes));
        let slope = risen.map_or(0.0, |[_, slope]| slope / Radius::PROBE);
        let slope = if objective.has_answers() { slope } else { slope / loss };
        let squared = slope * slope;
        let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
        (finite(squared), finite(probability))
    }
}
