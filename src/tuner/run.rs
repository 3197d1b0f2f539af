//! A tuning run: its way through the epochs, and its calls. What a slice does is the arithmetic's
//! (`step/machine.rs`); `order.rs` has the order of samples.

use super::arithmetic::Arithmetic;
use super::order::Division;
use super::radius::Radius;
use super::{Incoming, Tuner, TunerError};
use crate::cpu;
use crate::part::Part;
use crate::random::Random;
use crate::recipe::Recipe;
use crate::step::Phase;
use crate::tail::Loss;

/// What [`Tuner::step`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct StepReport {
    /// Epoch of this step, from 0.
    pub epoch: u16,
    /// Mean loss of the minibatch before the step.
    pub loss: f32,
    /// Mean rise of the loss at the perturbed weights; 0 for SGD.
    pub rise: f32,
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// This step was the last of its epoch.
    pub epoch_finished: bool,
    /// This step was the last of the run.
    pub finished: bool,
}

impl StepReport {
    /// Of no step.
    pub(crate) const NONE: Self =
        Self { epoch: 0, loss: 0.0, rise: 0.0, learning_rate: 0.0, epoch_finished: false, finished: false };
}

/// What [`Tuner::poll`] did.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Progress {
    /// A slice of a step, which goes on here.
    Underway(Position),
    /// The last slice of a step.
    Stepped(StepReport),
}

/// Where a run stands: what its next slice works on.
/// [`crate::Tuner::position`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Position {
    /// Steps done.
    pub step: u32,
    /// Steps of the run.
    pub steps: u32,
    /// What is done.
    pub work: Work,
    /// The sample that it is done to, from 0: of the minibatch, or of those that are gone through after an epoch. Of no
    /// meaning where the work is a sweep over the parameters.
    pub sample: usize,
}

/// What a slice is for.
/// [`crate::Tuner::position`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Work {
    /// A step.
    Step(Phase),
    /// A sample's loss after an epoch, for [`Recipe::sample_losses`].
    Losses,
    /// A judging sample after an epoch or at the run's start, for [`Recipe::keep_best`].
    Judge,
    /// A training sample's gradient before a step, the first above all, for a rho in nats ([`crate::RhoUnit::Nats`]).
    Radius,
}

/// Where a run stands between two steps.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub struct Course {
    random: Random,
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
        let random = Random::new(recipe.seed);
        let mut course = Self { random, epoch: 0, position: 0, samples: 0, step: 0, steps: 0 };
        course.plan(recipe, trained);
        course
    }

    /// Plans the steps to the end, before an epoch's first: this epoch and those after it go through so many samples.
    fn plan(&mut self, recipe: &Recipe, samples: usize) {
        let steps = u32::try_from(samples.div_ceil(usize::from(recipe.minibatch).max(1))).unwrap_or(u32::MAX);
        let left = steps.saturating_mul(recipe.epochs.saturating_sub(self.epoch).into());
        self.steps = self.step.saturating_add(left);
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
    fn begin_step(&mut self, recipe: &Recipe, division: &mut Division, held: Option<usize>) -> (f32, usize) {
        if self.position == 0 {
            self.samples = division.shuffle(held, &mut self.random);
            // The replay may have grown: the learning rate would run dry before the end.
            self.plan(recipe, self.samples);
        }
        let left = self.samples.saturating_sub(self.position);
        (recipe.rate(self.step, self.steps), left.min(recipe.minibatch.into()))
    }

    /// The slots that are left of the epoch, the step's first.
    pub(crate) fn slots<'o>(&self, division: &'o Division) -> &'o [u16] {
        division.order.part(self.position..self.samples)
    }

    /// Ends a step on `count` samples; says what came of it.
    pub fn end_step(
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

    /// Where the run stands: what is done next, and to which sample.
    pub fn at(&self, work: Work, sample: usize) -> Position {
        Position { step: self.step, steps: self.steps, work, sample }
    }

    /// Whether a run of `recipe` that goes through at most `trained` samples in an epoch can stand so, in the midst of a step
    /// on `count`.
    pub fn is_sound(&self, recipe: &Recipe, trained: usize, count: usize) -> bool {
        self.epoch <= recipe.epochs
            && self.position.checked_add(count).is_some_and(|end| end <= self.samples)
            && self.samples <= trained
    }
}

/// What a run has under way; with its buffers all there is to it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub struct Run<Step> {
    pub course: Course,
    pub radius: Radius,
    pub step: Step,
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Starts a run from the current weights, with a velocity of zero; of an [`crate::IntegerTuner`] in the place of the tuned
    /// tail in force: the factory's tail answers from now on, until [`Self::accept`] or [`Self::requantize`] makes the next. After [`Tuner::solve`] without the samples whose label
    /// the head contradicts. Where a tail or a saved run was being written, that is
    /// given up, and the run starts from what the int8 tail in force stands for.
    ///
    /// # Errors
    /// [`TunerError::FlushesToZero`]; a bad recipe, one that needs a larger arena or replay than this tuner has, one with what a
    /// [`crate::CompactTuner`] leaves out, for such a tuner; or no samples. Of an [`crate::IntegerTuner`]
    /// [`TunerError::OnlyCopy`] where the tuned tail in force was not committed, and [`TunerError::RestoreExpected`].
    pub fn start(&mut self, recipe: Recipe) -> Result<(), TunerError> {
        self.start_between(recipe, || ())
    }

    /// [`Self::start`], with a call of `between` before every sample that a tail which gives its place up is asked about:
    /// there a watchdog is fed.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_between(&mut self, recipe: Recipe, mut between: impl FnMut()) -> Result<(), TunerError> {
        self.started(recipe, &mut between)
    }

    #[inline(never)] // Once in a firmware.
    fn started(&mut self, recipe: Recipe, between: &mut dyn FnMut()) -> Result<(), TunerError> {
        if !cpu::keeps_subnormals() {
            return Err(TunerError::FlushesToZero);
        }
        let fits = self.fitting(&recipe)?;
        if (0..self.replay.len()).all(|slot| self.is_left_out(slot)) {
            return Err(TunerError::NoSamples);
        }
        self.check_place()?;
        self.abandon();
        let keeps = self.division.trusts && self.recipe.held_out == fits.held_out;
        self.recipe = fits;
        if !keeps {
            self.divide();
        }
        self.make_way(between);
        let step = self.arithmetic.begin(&recipe);
        let course = Course::new(&recipe, self.division.trained);
        self.run = Some(Run { course, radius: Radius::of(&recipe), step });
        crate::fmt::info!("tuning on {} samples, {} epochs", self.division.trained, recipe.epochs);
        Ok(())
    }

    /// Holds out what the recipe says, and samples that are not trained on.
    pub(crate) fn divide(&mut self) {
        let loss = self.objective();
        self.division.keep_whole(self.replay.len());
        if self.recipe.held_out > 0.0 || self.leaves_out() {
            let groups = self.replay.labels().map(move |label| loss.group(label));
            // With a squared error the last group are anomalies.
            let count = if loss == Loss::SquaredError { 1 } else { loss.groups(self.arithmetic.classes()) };
            self.division.split(groups, count, self.recipe.held_out);
        }
    }

    /// `recipe` with what was settled when the tuner was made, if the arithmetic takes it and the arena has its buffers.
    pub(crate) fn fitting(&self, recipe: &Recipe) -> Result<Recipe, TunerError> {
        A::check(recipe)?;
        let Recipe { replay_capacity, replay_policy, .. } = self.recipe;
        let fits = Recipe { replay_capacity, replay_policy, ..*recipe };
        if !self.arithmetic.has_room(recipe, self.replay.capacity()) {
            let needed = A::arena_bytes(&self.pack.sizes(), &fits);
            return Err(TunerError::ArenaTooSmall { needed, found: self.arena_bytes });
        }
        Ok(fits)
    }

    /// Where the run under way stands.
    pub fn position(&self) -> Option<Position> {
        let run = self.run.as_ref()?;
        let (work, sample) = match run.radius.measurement() {
            Some((next, _)) => (Work::Radius, next),
            None => A::work(&run.step),
        };
        Some(run.course.at(work, sample))
    }

    /// One minibatch, and what follows the last one of an epoch: [`Self::poll`] until it is done.
    ///
    /// # Errors
    /// Those of [`Self::poll`].
    pub fn step(&mut self) -> Result<StepReport, TunerError> {
        loop {
            if let Progress::Stepped(report) = self.slice(true)? {
                return Ok(report);
            }
        }
    }

    /// One slice of a step: a sample's pass, forward and backward, or at most two sweeps over the parameters
    /// ([`Phase`]). A step takes about one slice per sample, two where the ascent is stored; after an
    /// epoch, [`Recipe::sample_losses`] takes one more per sample, [`Recipe::keep_best`] one per judging sample; before the first
    /// step a rho in nats takes one per training sample. The first slice of an epoch also shuffles the order of its samples.
    ///
    /// Between any two slices every other call is possible and finds the tail as the last whole step left it:
    /// classifications, judgements, [`Self::weights`], commits. [`Self::observe`] may be called, too: a newcomer is
    /// trained on from the next epoch on (from the next run on, where this one holds samples out); where another sample
    /// gave way to it, in that sample's place, at once. As the epochs grow, so does the run, and the learning rate runs
    /// its schedule to the new end.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`], also while a tail or a run is being written; [`TunerError::Step`], which ends the run.
    ///
    /// ```no_run
    /// # fn serve_radio() {}
    /// # fn tune(tuner: &mut flatmin::Tuner) -> Result<(), flatmin::TunerError> {
    /// use flatmin::Progress;
    /// loop {
    ///     match tuner.poll()? {
    ///         Progress::Stepped(report) if report.finished => return Ok(()),
    ///         _ => serve_radio(), // feed the watchdog, classify, answer
    ///     }
    /// }
    /// # }
    /// ```
    pub fn poll(&mut self) -> Result<Progress, TunerError> {
        self.slice(false)
    }

    /// A slice was not the last of its step.
    pub(crate) fn underway(&self) -> Result<Progress, TunerError> {
        self.position().map(Progress::Underway).ok_or(TunerError::NotRunning)
    }

    /// Begins a step: its learning rate, and how many samples it takes.
    pub(crate) fn begin_step(&mut self) -> (f32, usize) {
        let divided = self.division.is_fixed() || self.leaves_out();
        let held = (!divided).then_some(self.replay.len());
        let Some(run) = &mut self.run else { return (0.0, 0) };
        run.course.begin_step(&self.recipe, &mut self.division, held)
    }

    /// Ends the run, if there is one, with the weights of its last whole step; where a saved one, or a tail, was being
    /// written, with those of the int8 tail in force.
    pub(crate) fn abandon(&mut self) {
        if let Some(run) = self.run.take() {
            self.arithmetic.abandon(run.step);
        }
        if core::mem::replace(&mut self.incoming, Incoming::Nothing) != Incoming::Nothing {
            self.load_in_force();
        }
    }

    /// Ends the run, if there is one, with the best weights where they are kept.
    pub(crate) fn end_run(&mut self) {
        let was_running = self.run.is_some();
        self.abandon();
        if was_running {
            self.arithmetic.finish();
        }
    }
}
