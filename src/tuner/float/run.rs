//! A run in f32, slice by slice: steps, and what follows an epoch's last one.

use super::{Best, Float, Progress, Tuner, TunerError};
use crate::recipe::Recipe;
use crate::step::{Buffers, Minibatch, Step};
use crate::tail::Tail;
use crate::tuner::arithmetic::Counts;
use crate::tuner::order::Division;
use crate::tuner::run::{Run, StepReport};
use crate::tuner::sample::target;
use crate::tuner::{Criterion, Judgement, copy};

/// Where a run in f32 stands.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub struct Stages {
    pub stage: Stage,
    /// Report of the last step.
    pub report: StepReport,
}

/// What the next slice belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub enum Stage {
    /// A step that has not begun.
    Between,
    Step(Step),
    /// The loss of the sample in this slot, after an epoch.
    Losses(usize),
    /// The judgement of the samples before this one, after so many epochs.
    Judge(u16, usize, Judgement),
}

impl Stages {
    /// Before the first slice.
    pub fn new(recipe: &Recipe) -> Self {
        let stage = if recipe.keep_best { Stage::Judge(0, 0, Judgement::NONE) } else { Stage::Between };
        Self { stage, report: StepReport::NONE }
    }

    fn step_under_way(&self) -> Option<&Step> {
        match &self.stage {
            Stage::Step(step) => Some(step),
            _ => None,
        }
    }

    /// Whether the weights are at `w + e`.
    pub fn is_perturbed(&self) -> bool {
        self.step_under_way().is_some_and(Step::is_perturbed)
    }

    /// Whether the gradient's buffer is the step's that is under way.
    pub fn holds_gradient(&self) -> bool {
        self.step_under_way().is_some_and(Step::holds_gradient)
    }
}

impl Run<Stages> {
    /// Whether a run of `recipe` can stand so; `stored`, whether ascents are written into the weights.
    pub fn is_sound(&self, recipe: &Recipe, stored: bool, counts: Counts) -> bool {
        let Counts { trained, judging, held } = counts;
        let count = self.step.step_under_way().map_or(0, Step::count);
        let stage = match &self.step.stage {
            Stage::Between => self.course.epoch < recipe.epochs,
            Stage::Step(step) => self.course.epoch < recipe.epochs && step.is_sound(recipe, stored),
            Stage::Losses(slot) => recipe.sample_losses && *slot <= held,
            Stage::Judge(_, index, sum) => {
                let judged = usize::try_from(sum.samples).is_ok_and(|samples| samples <= *index);
                recipe.keep_best && *index <= judging && judged && sum.right <= sum.samples
            }
        };
        stage && self.course.is_sound(recipe, trained, count)
    }
}

/// A sample that is probably mislabelled: its loss stays high across a run.
///
/// Networks learn samples with right labels first and those with wrong ones last, if at all (Arpit et al. 2017, "A
/// Closer Look at Memorization in Deep Networks"), so that a sample's loss averaged over the epochs tells them apart
/// (Huang et al. 2019, "O2U-Net: A Simple Noisy Label Detection Approach for Deep Neural Networks", section 3).
/// [`Tuner::suspects`] has an example.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Suspect {
    /// Its slot in the replay: the number of the sample observed, as long as none gave way.
    pub slot: usize,
    /// Its label.
    pub label: u16,
    /// Its mean loss after the run's epochs, in nats.
    pub loss: f32,
}

impl Tuner<'_> {
    /// A slice; of several samples at once, if they may be `grouped`.
    pub(super) fn stage_slice(&mut self, grouped: bool) -> Result<Progress, TunerError> {
        let stage = self.run.as_ref().ok_or(TunerError::NotRunning)?.step.stage;
        let next = match stage {
            Stage::Between => {
                let (learning_rate, count) = self.begin_step();
                if let Some(run) = &mut self.run {
                    run.step.report.learning_rate = learning_rate;
                }
                self.step_slice(Step::new(learning_rate, count), grouped)
            }
            Stage::Step(step) => self.step_slice(step, grouped),
            Stage::Losses(slot) => Ok(self.take_loss(slot)),
            Stage::Judge(epochs, index, sum) => self.judge_for_best(epochs, index, sum),
        };
        let next = next.inspect_err(|_| self.end_run())?;
        let run = self.run.as_mut().ok_or(TunerError::NotRunning)?;
        run.step.stage = next;
        let report = run.step.report;
        if next != Stage::Between || matches!(stage, Stage::Judge(0, ..)) {
            return self.underway();
        }
        if report.finished {
            self.end_run();
        }
        Ok(Progress::Stepped(report))
    }

    /// A slice of a step; what comes next.
    fn step_slice(&mut self, mut step: Step, grouped: bool) -> Result<Stage, TunerError> {
        let run = self.run.as_mut().ok_or(TunerError::NotRunning)?;
        let recipe = &self.recipe.at(run.course.step, run.radius.known());
        let slots = run.course.slots(&self.division);
        let (pack, replay) = (&self.pack, &self.replay);
        let Float { tail, weights, velocity, gradient, .. } = &mut self.arithmetic;
        let buffers = Buffers { weights, velocity, gradient, workspace: self.scratch };
        let batch = Minibatch::new(tail, recipe, buffers, |i, features| {
            let slot = slots.get(i).map_or(0, |&slot| slot.into());
            if let Some((latent, _)) = replay.get(slot) {
                super::write_features(pack, latent, features);
            }
            target::<Float>(replay, slot, pack)
        });
        let mut batch = if grouped { batch.in_groups() } else { batch };
        let Some(outcome) = step.slice(&mut batch)? else { return Ok(Stage::Step(step)) };
        self.macs = self.macs.saturating_add(batch.sample_macs().saturating_mul(step.count() as u64));
        let Stages { report, .. } = &mut run.step;
        let seen = [outcome.loss, outcome.rise, report.learning_rate];
        *report = run.course.end_step(recipe, step.count(), seen);
        Ok(match report.epoch_finished {
            true if recipe.sample_losses => Stage::Losses(0),
            true => self.after_losses(),
            false => Stage::Between,
        })
    }

    /// What follows when an epoch's losses are taken.
    fn after_losses(&self) -> Stage {
        match &self.run {
            Some(run) if self.recipe.keep_best => Stage::Judge(run.course.epoch, 0, Judgement::NONE),
            _ => Stage::Between,
        }
    }

    /// Whether the run under way was started with a sample in this slot.
    fn began_with(&self, slot: usize) -> bool {
        let Division { order, trained, held_out, trusts } = &self.division;
        match *trusts || self.leaves_out() {
            _ if *held_out > 0 => true,
            true => order.iter().take(*trained).any(|&own| usize::from(own) == slot),
            false => slot < *trained,
        }
    }

    /// Judges one sample more, after so many epochs of a run; after the last keeps the weights, if none were better
    /// before. `sum` is the judgement of those before it.
    fn judge_for_best(&mut self, epochs: u16, index: usize, mut sum: Judgement) -> Result<Stage, TunerError> {
        // The samples of the run's start alone: those that came since would make its epochs unlike one another.
        let slot = self.judging_slot(index).filter(|&slot| self.began_with(slot));
        let criterion = self.criterion();
        sum.add(slot.map(|slot| self.judge_slot(slot, criterion)));
        self.macs = self.macs.saturating_add(self.arithmetic.tail.forward_macs());
        let next = index.saturating_add(1);
        if next < self.judging() {
            return Ok(Stage::Judge(epochs, next, sum));
        }
        let judgement = sum.mean().ok_or(TunerError::NoSamples)?;
        let Float { best, best_weights, weights, .. } = &mut self.arithmetic;
        if best.is_none_or(|best| judgement.is_better_than(&best.judgement)) {
            copy(best_weights, weights);
            *best = Some(Best { epochs, judgement });
        }
        Ok(Stage::Between)
    }

    /// Mean loss of the sample in `slot` over the epochs of the current or last run with
    /// [`crate::Recipe::sample_losses`]; `None` for a sample that came later, or without such a run.
    pub fn mean_loss(&self, slot: usize) -> Option<f32> {
        let Float { losses, losses_of, .. } = &self.arithmetic;
        let known = *losses_of > 0 && slot < self.replay.len();
        losses.get(slot).copied().filter(|loss| known && !loss.is_nan())
    }

    /// The samples whose mean loss over a run with [`crate::Recipe::sample_losses`] is above `ln K` of K classes, or
    /// `K ln 2` of K yes-or-no questions (of a squared error there are none): to
    /// their labels the tail gave less (in the geometric mean over the epochs) than a guess that knows nothing would
    /// have given, though it was trained on most of them, this very label among them. A run that is so long that it learns
    /// wrong labels by heart, or so short that it learns nothing, finds fewer of them, or finds others.
    pub fn suspects(&self) -> impl Iterator<Item = Suspect> + '_ {
        let extreme = self.objective().of_a_guess(self.classes());
        self.replay.labels().enumerate().filter_map(move |(slot, label)| {
            let loss = self.mean_loss(slot).filter(|&loss| loss > extreme)?;
            Some(Suspect { slot, label, loss })
        })
    }

    /// Takes the loss of one sample more, held out or not, into its mean after an epoch; what comes next.
    fn take_loss(&mut self, slot: usize) -> Stage {
        let epochs = self.run.as_ref().map_or(1, |run| run.course.epoch);
        // What the tail gives to the bare label: see `Self::suspects`.
        let (loss, _) = self.loss_of_slot(slot, Criterion { smoothing: 0.0 });
        let Float { tail, losses, losses_of, .. } = &mut self.arithmetic;
        if epochs <= 1 && slot == 0 {
            losses.fill(f32::NAN);
        }
        if let Some(mean) = losses.get_mut(slot) {
            // A sample that came during the run keeps its NaN.
            *mean = if epochs <= 1 { loss } else { *mean + (loss - *mean) / f32::from(epochs) };
        }
        self.macs = self.macs.saturating_add(tail.forward_macs());
        let next = slot.saturating_add(1);
        if next < self.replay.len() {
            return Stage::Losses(next);
        }
        *losses_of = epochs;
        self.after_losses()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kept;
    use super::*;
    use crate::tuner::assert_fits;

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
            let best = Some(Best { epochs: u16::MAX, judgement });
            assert_fits(Stages { stage, report }, Kept { best, losses_of: u16::MAX });
        }
    }
}
