//! What a candidate takes, and a trial of it: tuned from the factory on a part of the samples, judged on the others.

use super::findings::Outcome;
use super::{Budget, Candidate, Cost, Measured, Onlooker, folds};
use crate::subject::Subject;
use crate::tuning::{Start, sized, tuner_arena};
use anyhow::{Context, Result};
use flatmin::internals::tail::{PackedTail, Tail};
use flatmin::{Criterion, Recipe, Tuner, TunerError, Version, internals::step};
use flatmin_app::RamBudget;
use flatmin_model::packer::PackFile;
use rayon::prelude::*;

/// Splits of the samples.
const SPLITS: u64 = 2;

/// What candidates are compared by: right answers of the int8 network on samples that it was not tuned on, and the loss
/// likewise. The samples to test on have no say.
#[derive(Debug)]
pub struct Objective<'a> {
    subject: &'a Subject,
    budget: Budget,
    criterion: Criterion,
    /// Parts of the samples to tune on, and of those to judge by: each split's parts judge every sample once.
    folds: Vec<(Vec<usize>, Vec<usize>)>,
    /// Which samples the factory's network gets right.
    pub(super) factory: Vec<bool>,
}

impl<'a> Objective<'a> {
    /// The objective of a subject whose samples are split by `seed`.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn new(subject: &'a Subject, budget: Budget, recipe: &Recipe) -> Result<Self> {
        let (samples, classes) = (&subject.adaptation, subject.classes.len());
        let folds = (0..SPLITS).flat_map(|split| folds(samples, classes, recipe.seed + split)).collect();
        let criterion = Criterion::of(recipe);
        let mut own = Self { subject, budget, criterion, folds, factory: Vec::new() };
        own.factory = own
            .answers(&samples.iter().map(|(input, label)| (input.as_slice(), *label)).collect::<Vec<_>>())?;
        Ok(own)
    }

    /// Trials that a candidate can meet.
    pub fn folds(&self) -> usize {
        self.folds.len()
    }

    /// Samples that are tuned on in a trial.
    pub(super) fn tuned(&self) -> usize {
        self.folds.first().map_or(0, |(tuned, _)| tuned.len())
    }

    fn answers(&self, samples: &[(&[i8], usize)]) -> Result<Vec<bool>> {
        let file = self.subject.model.pack(1)?;
        let recipe = Recipe::DEFAULT;
        let mut words = tuner_arena(&file, &recipe);
        let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        samples.iter().map(|(input, label)| is_right(&mut tuner, input, *label, Version::Factory)).collect()
    }

    /// Share of the samples to test on that the factory's network gets right.
    pub(super) fn factory_test(&self) -> Result<f64> {
        let test: Vec<_> =
            self.subject.test.iter().map(|(input, label)| (input.as_slice(), *label)).collect();
        Ok(share(&self.answers(&test)?))
    }

    fn cost_of(&self, candidate: &Candidate, file: &PackFile) -> Result<Cost> {
        let (pack, sizes) = (file.pack(), file.pack().sizes());
        let recipe = sized(self.subject, candidate.recipe)?;
        let tail = PackedTail::of(&pack)?;
        let stored = step::stores_perturbation(&tail, &recipe);
        // Firmware has the solver, and memory for it, wherever its pack has statistics.
        let solves = candidate.start == Start::ClosedForm || pack.statistics().is_some();
        let budget = RamBudget::new(&sizes, &recipe);
        let budget = if solves { budget.with_solver(&sizes, &recipe) } else { budget };
        let steps = candidate.training().steps;
        Ok(Cost {
            ram_bytes: budget.total_bytes(),
            step_macs: if steps { tail.step_macs(recipe.geometry().as_ref(), stored) } else { 0 },
            parameters: sizes.tail_parameters,
        })
    }

    /// What a candidate takes, within the budget or not.
    pub(super) fn any_cost(&self, candidate: &Candidate) -> Result<Cost> {
        self.cost_of(candidate, &self.subject.model.pack(&candidate.plan)?)
    }

    /// What a candidate takes; `None` if that is beyond the budget.
    ///
    /// # Errors
    /// A tail that the model does not have.
    pub fn cost(&self, candidate: &Candidate) -> Result<Option<Cost>> {
        let (cost, Budget { ram_bytes, step_macs }) = (self.any_cost(candidate)?, self.budget);
        let fits = ram_bytes.is_none_or(|most| cost.ram_bytes <= most)
            && step_macs.is_none_or(|most| cost.step_macs <= most);
        Ok(Some(cost).filter(|_| fits))
    }

    /// A candidate's trials on all folds: what a search of one's own is to make large.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn evaluate(&self, candidate: &Candidate) -> Result<Measured> {
        let mut own =
            Measured::new(candidate.clone(), self.any_cost(candidate)?, self.subject.adaptation.len());
        for fold in 0..self.folds() {
            own.add(&self.trial(candidate, fold)?);
        }
        Ok(own)
    }

    /// One trial each, on the next fold that each has not met.
    pub(super) fn measure(&self, all: &mut [Measured], onlooker: &dyn Onlooker) -> Result<()> {
        all.par_iter_mut().try_for_each(|own| {
            let outcome = self.trial(&own.candidate, own.trials);
            onlooker.tried()?;
            own.add(&outcome.with_context(|| format!("training {}", own.candidate.plan.summary()))?);
            Ok(())
        })
    }

    fn trial(&self, candidate: &Candidate, fold: usize) -> Result<Outcome> {
        let (tuned, judges) = &self.folds[fold];
        let file = self.subject.model.pack(&candidate.plan)?;
        let recipe = sized(self.subject, candidate.recipe)?;
        let mut words = tuner_arena(&file, &recipe);
        let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        let judges: Vec<(usize, Vec<i8>, usize)> = judges
            .iter()
            .map(|&place| {
                let (input, label) = &self.subject.adaptation[place];
                Ok((place, tuner.latent(input)?.to_vec(), *label))
            })
            .collect::<Result<_>>()?;
        let loss = |tuner: &mut Tuner| -> Result<f64> {
            let mut sum = 0.0;
            for (_, latent, label) in &judges {
                sum += f64::from(tuner.score_latent_by(latent, *label, self.criterion)?.loss);
            }
            Ok(sum)
        };
        let factory_loss = loss(&mut tuner)?;
        match self.train(&mut tuner, candidate, recipe, tuned) {
            Ok(()) => {}
            // Steps too large for this network: nothing is right.
            Err(error) if matches!(error.downcast_ref(), Some(TunerError::Diverged)) => {
                let right = judges.iter().map(|(place, _, _)| (*place, false)).collect();
                return Ok(Outcome { right, factory_loss, loss: f64::INFINITY });
            }
            Err(error) => return Err(error),
        }
        let right = judges.iter().map(|(place, latent, label)| {
            let output = tuner.infer_latent(latent, Version::Tuned)?.to_vec();
            Ok((*place, tuner.answer(&output, Version::Tuned) == *label))
        });
        Ok(Outcome { right: right.collect::<Result<_>>()?, factory_loss, loss: loss(&mut tuner)? })
    }

    fn train(
        &self,
        tuner: &mut Tuner,
        candidate: &Candidate,
        recipe: Recipe,
        samples: &[usize],
    ) -> Result<()> {
        for &place in samples {
            let (input, label) = &self.subject.adaptation[place];
            tuner.observe(input, *label)?;
        }
        let training = candidate.training();
        crate::tuning::begin(training.start, tuner, recipe)?;
        if training.steps {
            tuner.start(recipe)?;
            while !tuner.step()?.finished {}
        }
        tuner.requantize()?;
        Ok(())
    }

    /// Accuracy of the tuned int8 tail on the samples that have no say.
    pub(super) fn test(&self, candidate: &Candidate) -> Result<f64> {
        let file = self.subject.model.pack(&candidate.plan)?;
        let recipe = sized(self.subject, candidate.recipe)?;
        let mut words = tuner_arena(&file, &recipe);
        let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        let all: Vec<usize> = (0..self.subject.adaptation.len()).collect();
        self.train(&mut tuner, candidate, recipe, &all)?;
        let right = self.subject.test.iter();
        let right = right.map(|(input, label)| is_right(&mut tuner, input, *label, Version::Tuned));
        Ok(share(&right.collect::<Result<Vec<_>>>()?))
    }

    /// Share of the samples that judge that the factory's network gets right.
    pub(super) fn factory_accuracy(&self) -> f64 {
        share(&self.factory)
    }

    /// What candidates may take.
    pub(super) fn budget(&self) -> Budget {
        self.budget
    }
}

fn is_right(tuner: &mut Tuner, input: &[i8], label: usize, version: Version) -> Result<bool> {
    let output = tuner.infer(input, version)?.to_vec();
    Ok(tuner.answer(&output, version) == label)
}

fn share(right: &[bool]) -> f64 {
    right.iter().filter(|&&right| right).count() as f64 / right.len().max(1) as f64
}
