//! What a plan takes, and a short run of it from the factory.

use super::{Budget, Measured};
use crate::subject::Subject;
use crate::tuning::tuner_arena;
use anyhow::{Context, Result};
use flatmin::internals::tail::{PackedTail, Tail};
use flatmin::{Criterion, Recipe, Tuner, Version, internals::step};
use flatmin_app::RamBudget;
use flatmin_model::packer::{PackFile, TailPlan};
use indicatif::ProgressBar;
use rayon::prelude::*;

/// What a plan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub ram_bytes: usize,
    pub step_macs: u64,
    pub parameters: usize,
}

/// What all trials have in common.
pub(super) struct Trials<'a> {
    pub subject: &'a Subject,
    /// Parts of the samples to tune on, and of those to judge by: every sample judges once.
    pub folds: &'a [(Vec<usize>, Vec<usize>)],
    pub recipe: Recipe,
    pub budget: Budget,
    pub bar: &'a ProgressBar,
}

impl Trials<'_> {
    fn cost_of(&self, file: &PackFile) -> Result<Cost> {
        let (pack, sizes) = (file.pack(), file.pack().sizes());
        let tail = PackedTail::of(&pack)?;
        let stored = step::stores_perturbation(&tail, &self.recipe);
        Ok(Cost {
            ram_bytes: RamBudget::new(&sizes, &self.recipe).total_bytes(),
            step_macs: tail.step_macs(self.recipe.geometry().as_ref(), stored),
            parameters: sizes.tail_parameters,
        })
    }

    /// What a plan takes; `None` if that is beyond the budget.
    pub fn cost(&self, plan: &TailPlan) -> Result<Option<Cost>> {
        let cost = self.cost_of(&self.subject.model.pack(plan)?)?;
        let macs = self.budget.step_macs.is_none_or(|most| cost.step_macs <= most);
        Ok(Some(cost).filter(|cost| macs && cost.ram_bytes <= self.budget.ram_bytes))
    }

    /// Those within the budget.
    pub fn affordable(&self, plans: impl Iterator<Item = TailPlan>) -> Result<Vec<TailPlan>> {
        let mut own = Vec::new();
        for plan in plans {
            if self.cost(&plan)?.is_some() {
                own.push(plan);
            }
        }
        Ok(own)
    }

    /// RAM of the cheapest.
    pub fn least_ram<'p>(&self, plans: impl Iterator<Item = &'p TailPlan>) -> Result<usize> {
        let mut least = usize::MAX;
        for plan in plans {
            least = least.min(self.cost_of(&self.subject.model.pack(plan)?)?.ram_bytes);
        }
        Ok(least)
    }

    /// Tunes each from the factory.
    pub fn measure(&self, plans: &[TailPlan]) -> Result<Vec<Measured>> {
        let measured = plans.par_iter().map(|plan| {
            let own = self.measure_one(plan).with_context(|| format!("training {}", plan.summary()));
            self.bar.inc(1);
            own
        });
        measured.collect()
    }

    fn measure_one(&self, plan: &TailPlan) -> Result<Measured> {
        let file = self.subject.model.pack(plan)?;
        let Cost { ram_bytes, step_macs, parameters } = self.cost_of(&file)?;
        let count = self.subject.adaptation.len();
        let (mut factory_loss, mut loss) = (0.0, 0.0);
        let mut right = vec![false; count];
        for (tuned, judges) in self.folds {
            self.tuned(&file, tuned, |tuner, is_tuned| {
                for &index in judges {
                    let (input, label) = &self.subject.adaptation[index];
                    let score = tuner.score_by(input, *label, Criterion::of(&self.recipe))?;
                    if is_tuned {
                        loss += f64::from(score.loss) / count as f64;
                        right[index] = score.class == *label;
                    } else {
                        factory_loss += f64::from(score.loss) / count as f64;
                    }
                }
                Ok(())
            })?;
        }
        let accuracy = right.iter().filter(|&&right| right).count() as f64 / count.max(1) as f64;
        Ok(Measured {
            layers: plan.layers,
            train: plan.trains.iter().map(ToString::to_string).collect(),
            parameters,
            ram_bytes,
            step_macs,
            factory_loss,
            loss,
            accuracy,
            test_accuracy: None,
            right,
            plan: plan.clone(),
        })
    }

    /// Accuracy of the tuned int8 tail on the samples that have no say.
    pub fn test(&self, plan: &TailPlan) -> Result<f64> {
        let file = self.subject.model.pack(plan)?;
        let mut accuracy = 0.0;
        let all: Vec<usize> = (0..self.subject.adaptation.len()).collect();
        self.tuned(&file, &all, |tuner, is_tuned| {
            if is_tuned {
                tuner.requantize()?;
                accuracy = self.right(tuner, Version::Tuned)?;
            }
            Ok(())
        })?;
        Ok(accuracy)
    }

    /// The factory model's.
    pub fn factory(&self) -> Result<f64> {
        let file = self.subject.model.pack(1)?;
        let mut words = tuner_arena(&file, &self.recipe);
        let mut tuner = Tuner::new(file.pack(), self.recipe, bytemuck::cast_slice_mut(&mut words))?;
        self.right(&mut tuner, Version::Factory)
    }

    /// Calls `see(tuner, is tuned)` before and after a run on these samples.
    fn tuned(
        &self,
        file: &PackFile,
        samples: &[usize],
        mut see: impl FnMut(&mut Tuner, bool) -> Result<()>,
    ) -> Result<()> {
        let mut words = tuner_arena(file, &self.recipe);
        let mut tuner = Tuner::new(file.pack(), self.recipe, bytemuck::cast_slice_mut(&mut words))?;
        for &index in samples {
            let (input, label) = &self.subject.adaptation[index];
            tuner.observe(input, *label)?;
        }
        see(&mut tuner, false)?;
        tuner.start(self.recipe)?;
        while !tuner.step()?.finished {}
        see(&mut tuner, true)
    }

    fn right(&self, tuner: &mut Tuner, version: Version) -> Result<f64> {
        let mut right = 0.0;
        for (input, label) in &self.subject.test {
            let output = tuner.infer(input, version)?.to_vec();
            right += f64::from(u8::from(tuner.answer(&output, version) == *label));
        }
        Ok(right / self.subject.test.len().max(1) as f64)
    }
}
