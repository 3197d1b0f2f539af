//! A tuning run, slice by slice.

use super::course::Course;
use super::{Judgement, Tuner, TunerError, load};
use crate::memory::MemoryPlan;
use crate::optim::Recipe;
use crate::step::{self, Buffers, Minibatch, Phase, Step};
use crate::tail::{Loss, Tail};
use serde::{Deserialize, Serialize};

/// What [`Tuner::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Work {
    /// A step.
    Step(Phase),
    /// A sample's loss after an epoch, for [`Recipe::sample_losses`].
    Losses,
    /// A judging sample after an epoch or at the run's start, for [`Recipe::keep_best`].
    Judge,
}

/// What a run has under way; with its buffers all there is to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub course: Course,
    pub stage: Stage,
    /// Of the last step.
    pub report: StepReport,
}

/// What the next slice belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// A step that has not begun.
    Between,
    Step(Step),
    /// The loss of the sample in this slot, after an epoch.
    Losses(usize),
    /// The judgement of the samples before this one, after so many epochs.
    Judge(u16, usize, Judgement),
}

impl Run {
    /// Whether a run of `recipe` can stand so: `stored`, whether ascents are written into the weights; `trained`, the
    /// samples that it may go through in an epoch; `judging`, those that judge; of `held` in all.
    pub fn is_sound(&self, recipe: &Recipe, stored: bool, [trained, judging, held]: [usize; 3]) -> bool {
        let count = self.step_under_way().map_or(0, Step::count);
        let stage = match &self.stage {
            Stage::Between => true,
            Stage::Step(step) => step.is_sound(recipe, stored),
            Stage::Losses(slot) => recipe.sample_losses && *slot <= held,
            Stage::Judge(_, index, sum) => {
                let judged = usize::try_from(sum.samples).is_ok_and(|samples| samples <= *index);
                recipe.keep_best && *index <= judging && judged && sum.right <= sum.samples
            }
        };
        stage && self.course.is_sound(trained, count)
    }

    fn step_under_way(&self) -> Option<&Step> {
        match &self.stage {
            Stage::Step(step) => Some(step),
            _ => None,
        }
    }
}

/// The weights of the last whole step: where a step has moved them to `w + e`, their exact backup.
pub(super) fn settled<'w>(run: Option<&Run>, weights: &'w [f32], gradient: &'w [f32]) -> &'w [f32] {
    let perturbed = run.and_then(Run::step_under_way).is_some_and(Step::is_perturbed);
    if perturbed { gradient } else { weights }
}

impl Tuner<'_> {
    /// Starts a run from the current weights, with a velocity of zero.
    ///
    /// # Errors
    /// A bad recipe, one that needs a larger arena or replay than this tuner has, or no samples.
    pub fn start(&mut self, recipe: Recipe) -> Result<(), TunerError> {
        recipe.check()?;
        let fits = self.fitting(&recipe)?;
        let loss = self.tail.objective();
        let left_out = (0..self.replay.len()).filter(|&slot| self.is_left_out(slot)).count();
        if self.replay.len() <= left_out {
            return Err(TunerError::NoSamples);
        }
        self.abandon();
        self.recipe = fits;
        self.velocity.fill(0.0);
        self.division.keep_whole(self.replay.len());
        if recipe.held_out > 0.0 || self.leaves_out() {
            let groups = self.replay.labels().map(move |label| loss.group(label));
            // Of a squared error the last group are anomalies.
            let count = if loss == Loss::SquaredError { 1 } else { loss.groups(self.tail.classes()) };
            self.division.split(groups, count, recipe.held_out);
        }
        (self.best, self.losses_of) = (None, 0);
        self.run = Some(Run {
            course: Course::new(&recipe, self.division.trained),
            stage: if recipe.keep_best { Stage::Judge(0, 0, Judgement::NONE) } else { Stage::Between },
            report: StepReport::NONE,
        });
        crate::fmt::info!("tuning on {} samples, {} epochs", self.division.trained, recipe.epochs);
        Ok(())
    }

    /// `recipe` with what was settled when the tuner was made, if the arena has its buffers.
    pub(super) fn fitting(&self, recipe: &Recipe) -> Result<Recipe, TunerError> {
        let Recipe { replay_capacity, replay_policy, .. } = self.recipe;
        let fits = Recipe { replay_capacity, replay_policy, ..*recipe };
        let parameters = self.tail.parameters();
        let stored = step::stores_perturbation(&self.tail, recipe);
        let too_long = |wanted: bool, buffer: &[f32]| wanted && buffer.len() < parameters;
        let stateless = self.velocity.len() < recipe.velocity_floats(parameters);
        let lossless = recipe.sample_losses && self.losses.len() < self.replay.capacity();
        let gradientless = too_long(stored, self.gradient);
        if gradientless || stateless || lossless || too_long(recipe.keep_best, self.best_weights) {
            let needed = MemoryPlan::new(&self.pack.sizes(), &fits).total_bytes();
            return Err(TunerError::ArenaTooSmall { needed, found: self.arena_bytes });
        }
        Ok(fits)
    }

    /// Where the run under way stands.
    pub fn position(&self) -> Option<Position> {
        let run = self.run.as_ref()?;
        let (work, sample) = match run.stage {
            Stage::Between => (Work::Step(Phase::Prepare), 0),
            Stage::Step(step) => (Work::Step(step.phase()), step.sample()),
            Stage::Losses(slot) => (Work::Losses, slot),
            Stage::Judge(_, index, _) => (Work::Judge, index),
        };
        Some(run.course.at(work, sample))
    }

    /// One minibatch, and what follows the last one of an epoch: [`Self::poll`] until it is done.
    ///
    /// # Errors
    /// Those of [`Self::poll`].
    pub fn step(&mut self) -> Result<StepReport, TunerError> {
        loop {
            if let Progress::Stepped(report) = self.advance(true)? {
                return Ok(report);
            }
        }
    }

    /// One slice of a step: a sample's pass, forward and backward, or at most two sweeps over the parameters
    /// ([`Phase`]). A step takes about one slice a sample, two where the ascent is written into the weights; after an
    /// epoch, [`Recipe::sample_losses`] takes one more a sample, [`Recipe::keep_best`] one a judging sample. The
    /// first slice of an epoch also shuffles the order of its samples.
    ///
    /// Between any two slices every other call is possible and finds the tail as the last whole step left it:
    /// classifications, judgements, [`Self::weights`], commits. [`Self::observe`] may be called, too: a newcomer is
    /// trained on from the next epoch on (from the next run on, where this one holds samples out); where another sample
    /// gave way to it, in that sample's place, at once.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`]; [`TunerError::Step`], which ends the run.
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
        self.advance(false)
    }

    /// A slice; of several samples at once, if they may be `grouped`.
    fn advance(&mut self, grouped: bool) -> Result<Progress, TunerError> {
        let stage = self.run.as_ref().ok_or(TunerError::NotRunning)?.stage;
        let next = match stage {
            Stage::Between => {
                let step = self.begin();
                self.slice(step, grouped)
            }
            Stage::Step(step) => self.slice(step, grouped),
            Stage::Losses(slot) => Ok(self.take_loss(slot)),
            Stage::Judge(epochs, index, sum) => self.judge_for_best(epochs, index, sum),
        };
        let next = next.inspect_err(|_| self.end_run())?;
        let run = self.run.as_mut().ok_or(TunerError::NotRunning)?;
        run.stage = next;
        let report = run.report;
        if next != Stage::Between || matches!(stage, Stage::Judge(0, ..)) {
            return self.position().map(Progress::Underway).ok_or(TunerError::NotRunning);
        }
        if report.finished {
            self.end_run();
        }
        Ok(Progress::Stepped(report))
    }

    /// The next step, before its first slice.
    fn begin(&mut self) -> Step {
        let recipe = self.recipe;
        let divided = self.division.held_out > 0 || self.leaves_out();
        let held = (!divided).then_some(self.replay.len());
        let Some(run) = &mut self.run else { return Step::new(0.0, 0) };
        let (learning_rate, count) = run.course.begin(&recipe, &mut self.division, held);
        run.report.learning_rate = learning_rate;
        Step::new(learning_rate, count)
    }

    /// A slice of a step; what comes next.
    fn slice(&mut self, mut step: Step, grouped: bool) -> Result<Stage, TunerError> {
        let run = self.run.as_mut().ok_or(TunerError::NotRunning)?;
        let recipe = &self.recipe.at(run.course.step);
        let slots = run.course.slots(&self.division);
        let (pack, replay) = (&self.pack, &self.replay);
        let buffers = Buffers {
            weights: self.weights,
            velocity: self.velocity,
            gradient: self.gradient,
            workspace: self.scratch,
        };
        let batch = Minibatch::new(&self.tail, recipe, buffers, |i, features| {
            load(replay, slots.get(i).map_or(0, |&slot| slot.into()), pack, features)
        });
        let mut batch = if grouped { batch.in_groups() } else { batch };
        let Some(outcome) = step.advance(&mut batch)? else { return Ok(Stage::Step(step)) };
        self.macs = self.macs.saturating_add(batch.sample_macs().saturating_mul(step.count() as u64));
        let seen = [outcome.loss, outcome.rise, run.report.learning_rate];
        run.report = run.course.advance(recipe, step.count(), seen);
        Ok(match run.report.epoch_finished {
            true if recipe.sample_losses => Stage::Losses(0),
            true => self.after_losses(),
            false => Stage::Between,
        })
    }

    /// What follows when an epoch's losses are taken.
    pub(super) fn after_losses(&self) -> Stage {
        match &self.run {
            Some(run) if self.recipe.keep_best => Stage::Judge(run.course.epoch, 0, Judgement::NONE),
            _ => Stage::Between,
        }
    }

    /// Ends the run, if there is one, with the weights of its last whole step; where a saved one is expected, with
    /// those of the int8 tail in force.
    pub(super) fn abandon(&mut self) {
        if core::mem::take(&mut self.expects_run) {
            self.dequantize();
        }
        if let Some(Run { stage: Stage::Step(mut step), .. }) = self.run.take() {
            step.restore(self.weights, self.gradient);
        }
    }

    /// Whether the gradient's buffer is the step's that is under way.
    pub(super) fn gradient_is_lent(&self) -> bool {
        self.run.as_ref().and_then(Run::step_under_way).is_some_and(Step::holds_gradient)
    }
}
