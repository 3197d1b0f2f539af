//! `flatmin tune --auto`: picks a recipe by nested validation on the user's own samples, within a time budget.
//!
//! The samples to tune on are split into folds of equal shares of every class; a candidate is judged by its requantized
//! network on the fold that it was not tuned on. All candidates meet one split, or as many of them as half of the time
//! allows, in random order; the better quarter meets further splits for the rest of it. The samples to test on have no
//! say: what the chosen recipe makes of them is what a user may expect.

use crate::contenders::CONTENDERS;
use crate::setting::{Setting, Targets};
use crate::subject::{Labelled, Subject};
use crate::tuning::{accuracy_on, tuner_arena};
use crate::wearers::SplitMix64;
use anyhow::{Context, Result, ensure};
use flatmin::{Criterion, Method, Recipe, Tuner, Version};
use flatmin_model::packer::{PackFile, TailPlan};
use rayon::prelude::*;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Parts that the samples are split into: each is judged on once a split.
const FOLDS: usize = 3;
/// Splits that a candidate meets at most.
const SPLITS: u64 = 5;
/// What candidates are compared by.
const QUESTION: Criterion = Criterion::of(&Recipe::DEFAULT);

/// How a candidate did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Its hyperparameters; `None` is the factory's tail, untouched.
    pub setting: Option<Setting>,
    /// Splits that it met.
    pub splits: u32,
    /// Share of right answers on the folds that it was not tuned on.
    pub accuracy: f64,
    /// Mean loss likewise, f32 tail, with the label smoothing that ships ([`flatmin::Criterion`]): candidates that smooth
    /// more or less are compared by one loss.
    pub loss: f64,
}

impl Score {
    /// More right answers, or as many at a smaller loss.
    fn is_better_than(&self, other: &Self) -> bool {
        (self.accuracy, -self.loss) > (other.accuracy, -other.loss)
    }

    fn and(self, further: Self) -> Self {
        let (own, other) = (f64::from(self.splits), f64::from(further.splits));
        let mean = |a: f64, b: f64| (own * a + other * b) / (own + other);
        Self {
            splits: self.splits + further.splits,
            accuracy: mean(self.accuracy, further.accuracy),
            loss: mean(self.loss, further.loss),
            ..self
        }
    }
}

/// What a search tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Search {
    /// Candidates, the best first: those that met more splits stand before the others.
    pub tried: Vec<Score>,
    /// The factory's tail on the same folds.
    pub factory: Score,
    /// Candidates that there was no time for.
    pub left: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Search {
    /// The best candidate.
    pub fn chosen(&self) -> Option<(Setting, &Score)> {
        self.tried.first().and_then(|score| Some((score.setting?, score)))
    }
}

/// The recipes to choose among: those that the experiments compare, of `method` alone if there is one.
pub fn candidates(method: Option<Method>, seed: u64) -> Vec<Setting> {
    let all = CONTENDERS.iter().flat_map(|contender| contender.grid());
    let device = all.filter(|s| s.targets == Targets::Labels && method.is_none_or(|m| s.method == m));
    let mut candidates: Vec<Setting> = device.collect();
    SplitMix64::new(seed).shuffle(&mut candidates);
    candidates
}

/// Splits of the samples into parts to tune on and parts to judge by, with as much of every class in each.
pub(crate) fn folds(samples: &[Labelled], classes: usize, seed: u64) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut random = SplitMix64::new(seed);
    let mut part = vec![0; samples.len()];
    let mut next = 0;
    for class in 0..classes {
        let mut own: Vec<usize> = (0..samples.len()).filter(|&index| samples[index].1 == class).collect();
        random.shuffle(&mut own);
        for index in own {
            part[index] = next % FOLDS;
            next += 1;
        }
    }
    (0..FOLDS).map(|fold| (0..samples.len()).partition(|&index| part[index] != fold)).collect()
}

/// A split, its tuners ready: the trunk has run on every sample.
struct Split<'a> {
    stands: Vec<(Tuner<'a>, Vec<Labelled>)>,
}

impl<'a> Split<'a> {
    fn new(
        file: &'a PackFile,
        arenas: &'a mut [Vec<u128>],
        samples: &[Labelled],
        recipe: &Recipe,
        classes: usize,
        seed: u64,
    ) -> Result<Self> {
        let folds = folds(samples, classes, seed);
        let stand = |(words, (own, other)): (&'a mut Vec<u128>, &(Vec<usize>, Vec<usize>))| {
            let mut tuner = Tuner::new(file.pack(), *recipe, bytemuck::cast_slice_mut(words))?;
            let judged = |&index: &usize| Ok((tuner.latent(&samples[index].0)?.to_vec(), samples[index].1));
            let latents = other.iter().map(judged).collect::<Result<Vec<Labelled>>>()?;
            for &index in own {
                tuner.observe(&samples[index].0, samples[index].1)?;
            }
            Ok((tuner, latents))
        };
        Ok(Self { stands: arenas.iter_mut().zip(&folds).map(stand).collect::<Result<_>>()? })
    }

    /// Means over all folds; the fold's size counts.
    fn score(&mut self, setting: Option<Setting>, seed: u64, capacity: u16) -> Result<Score> {
        let one = |(tuner, latents): &mut (Tuner, Vec<Labelled>)| {
            tuner.factory_reset();
            let version = match setting {
                None => Version::Factory,
                Some(setting) => {
                    tuner.start(setting.recipe(seed, capacity))?;
                    while !tuner.step()?.finished {}
                    tuner.requantize()?;
                    Version::Tuned
                }
            };
            let right = accuracy_on(tuner, latents, version)? * latents.len() as f64;
            let mut loss = 0.0;
            for (latent, label) in &*latents {
                loss += f64::from(tuner.score_latent_by(latent, *label, QUESTION)?.loss);
            }
            Ok((right, loss, latents.len() as f64))
        };
        let parts: Vec<(f64, f64, f64)> = self.stands.par_iter_mut().map(one).collect::<Result<_>>()?;
        let sum = |value: &dyn Fn(&(f64, f64, f64)) -> f64| parts.iter().map(value).sum::<f64>();
        let count = sum(&|part| part.2).max(1.0);
        Ok(Score {
            setting,
            splits: 1,
            accuracy: sum(&|part| part.0) / count,
            loss: sum(&|part| part.1) / count,
        })
    }
}

/// Tries `candidates` on the samples to tune on for about `budget`; at least one is tried. `tried` is called with the
/// share of the budget that is gone.
///
/// # Errors
/// Fewer samples than folds, and what the runtime refuses.
pub fn search(
    subject: &Subject,
    tail: &TailPlan,
    candidates: &[Setting],
    budget: Duration,
    seed: u64,
    tried: impl Fn(f64),
) -> Result<Search> {
    let samples = &subject.adaptation;
    ensure!(
        samples.len() >= 2 * FOLDS,
        "{}: {} samples to tune on, {} at least are needed to choose a recipe by",
        subject.name,
        samples.len(),
        2 * FOLDS
    );
    let begun = Instant::now();
    let file = subject.model.pack(tail)?;
    let capacity = u16::try_from(samples.len()).context("more than 65,535 samples to tune on")?;
    let recipe = Recipe { replay_capacity: capacity, sharpness_batch: 2, ..Recipe::DEFAULT };
    let classes = subject.classes.len();
    let mut arenas = vec![tuner_arena(&file, &recipe); FOLDS];
    let done = || begun.elapsed().as_secs_f64() / budget.as_secs_f64().max(1e-9);

    let mut split = Split::new(&file, &mut arenas, samples, &recipe, classes, seed)?;
    let mut factory = split.score(None, seed, capacity)?;
    let mut scores = Vec::new();
    for &setting in candidates {
        if !scores.is_empty() && done() > 0.5 {
            break;
        }
        scores.push(split.score(Some(setting), seed, capacity)?);
        tried(done().min(1.0));
    }
    let left = candidates.len() - scores.len();
    for further in 1..SPLITS {
        sort(&mut scores);
        if done() >= 1.0 {
            break;
        }
        let mut split = Split::new(&file, &mut arenas, samples, &recipe, classes, seed + further)?;
        factory = factory.and(split.score(None, seed + further, capacity)?);
        // Half as many each time, so that those in front have met the most.
        let front = (scores.len() >> (further + 1)).max(1).min(scores.len());
        for score in &mut scores[..front] {
            if done() >= 1.0 {
                break;
            }
            *score = score.and(split.score(score.setting, seed + further, capacity)?);
            tried(done().min(1.0));
        }
    }
    sort(&mut scores);
    Ok(Search { tried: scores, factory, left, seconds: begun.elapsed().as_secs_f64() })
}

/// The best first. A candidate that met few splits may owe its place to one of them: those with more go first.
fn sort(scores: &mut [Score]) {
    scores.sort_by(|a, b| {
        let order = b.splits.cmp(&a.splits);
        order.then(if a.is_better_than(b) {
            std::cmp::Ordering::Less
        } else if b.is_better_than(a) {
            std::cmp::Ordering::Greater
        } else {
            std::cmp::Ordering::Equal
        })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_share_no_sample_and_every_class_alike() {
        let samples: Vec<Labelled> = (0..36).map(|index| (Vec::new(), index % 4)).collect();
        let folds = folds(&samples, 4, 7);
        let mut judged = [0; 36];
        for (own, other) in &folds {
            assert_eq!((own.len(), other.len()), (24, 12));
            assert!(own.iter().all(|index| !other.contains(index)));
            other.iter().for_each(|&index| judged[index] += 1);
            for class in 0..4 {
                assert_eq!(other.iter().filter(|&&index| samples[index].1 == class).count(), 3);
            }
        }
        assert!(judged.iter().all(|&times| times == 1));
    }

    #[test]
    fn what_learns_is_chosen_before_what_wrecks_and_the_budget_is_kept() {
        let subject = Subject::wearer(3, 9, 0.0, 1).unwrap();
        let good = Setting {
            method: Method::Sgd,
            rho: 0.0,
            learning_rate: 0.002,
            epochs: 20,
            ..Setting::FINGERPRINT
        };
        let wrecked = Setting { learning_rate: 5.0, ..good };
        let tail = TailPlan::of(2);
        let search_for =
            |budget: Duration| search(&subject, &tail, &[wrecked, good, wrecked], budget, 1, |_| {}).unwrap();
        let long = search_for(Duration::from_secs(600));
        let (chosen, score) = long.chosen().unwrap();
        assert_eq!(chosen, good);
        assert!(score.accuracy > long.factory.accuracy && score.accuracy > long.tried[2].accuracy + 0.1);
        assert_eq!((score.splits, long.factory.splits, long.left), (5, 5, 0));
        // No time at all: one candidate is tried, the others are named as left.
        let short = search_for(Duration::ZERO);
        assert_eq!((short.tried.len(), short.left), (1, 2));
    }

    #[test]
    fn candidates_are_recipes_of_the_device() {
        let all = candidates(None, 1);
        assert!(all.len() >= 8 * 24 && all.iter().all(|s| s.recipe(1, 63).check().is_ok()));
        assert!(all.iter().all(|s| s.targets == Targets::Labels));
        assert!(candidates(Some(Method::Sam), 1).iter().all(|s| s.method == Method::Sam));
    }
}
