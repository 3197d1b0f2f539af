//! The choice among the methods that are compared, on other wearers and other seeds than they are judged by.

use super::ledger::Ledger;
use super::task::Task;
use super::trial::{Draw, Setting};
use anyhow::{Context, Result};
pub use flatmin_sim::contenders::{
    ADAM, CONTENDERS, Contender, LEARNING_RATES, SGD, SMOOTHED, asam, sam, sam_on,
};

/// Which wearers and seeds choose, and which judge. They share no seed, and no wearer judges what it chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Protocol {
    /// Wearers, speakers, users or months, from 1.
    pub subjects: Vec<usize>,
    /// Seeds that hyperparameters are chosen on.
    pub selection: Vec<u64>,
    /// Seeds that results are reported of.
    pub evaluation: Vec<u64>,
    /// Few of everything: for directions, not for digits.
    pub quick: bool,
    /// The draws' task, layers and start; subject, seed and share of flipped labels are put in.
    pub base: Draw,
}

impl Protocol {
    /// Of the bundled task. Everything derives from `seed`.
    pub fn new(seed: u64, quick: bool) -> Self {
        Self::of(Draw::WEARERS, seed, quick)
    }

    /// Of another task, or of another tail: 100 evaluation draws of the bundled task, 60 of the others.
    pub fn of(base: Draw, seed: u64, quick: bool) -> Self {
        let first = seed.saturating_mul(1_000);
        let all = base.task.subjects();
        let (subjects, selection, evaluation) = match quick {
            true => (all.min(3), 1, 2),
            false if base.task == Task::Wearers => (all, 2, 10),
            false => (all, 2, 60 / all as u64),
        };
        Self {
            subjects: (1..=subjects).collect(),
            selection: (first + 501..=first + 500 + selection).collect(),
            evaluation: (first + 1..=first + evaluation).collect(),
            quick,
            base,
        }
    }

    /// Mean accuracy of the factory's int8 networks over the subjects.
    ///
    /// # Errors
    /// No run is known.
    pub fn factory(&self, ledger: &Ledger, noise: u32) -> Result<f64> {
        let seed = self.evaluation.first().copied().unwrap_or(1);
        let mut sum = 0.0;
        for &subject in &self.subjects {
            sum += ledger.factory(Draw { subject, seed, noise, ..self.base })?;
        }
        Ok(sum / self.subjects.len().max(1) as f64)
    }

    /// Half of the evaluation draws: for sweeps, whose lines are read as a whole.
    pub fn sweep(&self) -> Self {
        let half = self.evaluation.len().div_ceil(2);
        Self { evaluation: self.evaluation[..half].to_vec(), ..self.clone() }
    }

    /// Draws of the seeds that choose, or of those that judge.
    pub fn draws(&self, seeds: &[u64], noise: u32) -> Vec<Draw> {
        let draw = |&subject: &usize, &seed: &u64| Draw { subject, seed, noise, ..self.base };
        self.subjects.iter().flat_map(|own| seeds.iter().map(move |seed| draw(own, seed))).collect()
    }

    /// The setting of the highest mean accuracy of the requantized network over `noises` and the selection seeds
    /// of all subjects but `without`. The first among equals, which has the smallest learning rate.
    ///
    /// # Errors
    /// The selection trials were not run.
    pub fn choose(
        &self,
        ledger: &Ledger,
        settings: &[Setting],
        noises: &[u32],
        without: Option<usize>,
    ) -> Result<Setting> {
        let mut best: Option<(f64, Setting)> = None;
        for &setting in settings {
            let mean = self.selection_mean(ledger, setting, noises, without)?;
            if best.is_none_or(|(highest, _)| mean > highest) {
                best = Some((mean, setting));
            }
        }
        Ok(best.context("no trial to choose among")?.1)
    }

    /// What [`Self::choose`] compares.
    ///
    /// # Errors
    /// The selection trials were not run.
    pub fn selection_mean(
        &self,
        ledger: &Ledger,
        setting: Setting,
        noises: &[u32],
        without: Option<usize>,
    ) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for &noise in noises {
            for draw in self.draws(&self.selection, noise) {
                if Some(draw.subject) != without {
                    sum += ledger.outcome(draw, setting)?.accuracy;
                    count += 1.0;
                }
            }
        }
        Ok(sum / f64::max(count, 1.0))
    }

    /// A value of every evaluation draw, `[subject][draw]`.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn per_draw(&self, noise: u32, mut value: impl FnMut(Draw) -> Result<f64>) -> Result<Vec<Vec<f64>>> {
        let draw = |subject, seed| Draw { subject, seed, noise, ..self.base };
        (self.subjects.iter())
            .map(|&subject| self.evaluation.iter().map(|&seed| value(draw(subject, seed))).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_seed_both_chooses_and_judges() {
        for seed in [0, 1, 7] {
            let protocol = Protocol::new(seed, false);
            assert!(protocol.evaluation.iter().all(|seed| !protocol.selection.contains(seed)));
            assert_eq!(protocol.draws(&protocol.evaluation, 20).len(), 100);
        }
    }
}
