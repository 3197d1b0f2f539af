//! The search for what to train and how: layers, what of them, the method and its hyperparameters, within a budget of RAM and
//! multiply-adds, in so many trials. The same seed gives the same answer on any machine.
//!
//! A trial tunes a candidate from the factory on two thirds of the samples and judges the int8 network on the others
//! ([`Objective`]). A quarter of the trials goes to layers, each trained in one way and all others frozen (contribution
//! analysis as in MCUNetV3, arXiv 2206.15472, section 3.2) and to the last layers trained whole; an eighth to the sets of
//! layers that promise most by the sum of their gains; a quarter to recipes that are drawn for the best of them. The rest is
//! successive halving (Jamieson & Talwalkar 2016): the better candidates meet further parts of the samples.
//!
//! The default is the advice, where it fits the budget, unless the samples show another to be better: among so many candidates
//! some look better by chance.

mod drawing;
mod findings;
mod layers;
mod space;
mod trial;

pub use findings::{Contribution, Cost, Findings, Measured, SampleCounts};
pub use space::{Candidate, Space};
pub use trial::Objective;

use crate::subject::{Labelled, Subject};
use crate::tuning::Start;
use crate::wearers::SplitMix64;
use anyhow::{Context, Result, bail, ensure};
use flatmin::{Evidence, Loss, Recipe, Tuner};
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_model::recipe_file::{Limits, NamedMethod, RecipeFile};
use indicatif::ProgressBar;
use layers::Layers;
use serde::Serialize;

/// Trials where no number is asked for.
pub const TRIALS: usize = 120;
/// Parts that the samples are split into: each is judged on once a split.
const FOLDS: usize = 3;
/// Tails that recipes are drawn for.
const TAILS: usize = 4;
/// Standard deviations by which a candidate has to be shown better than the default, or worse than the factory's network: of
/// dozens the best is one better by chance.
const DEVIATIONS: u16 = 2;

/// What a plan may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Budget {
    /// All RAM of a firmware (`boards/app`) that tunes, in bytes.
    pub ram_bytes: Option<usize>,
    /// Multiply-adds of a sample's share of a step.
    pub step_macs: Option<u64>,
}

/// Which tails are searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tails {
    /// All tails of at most so many layers with weights.
    Within(usize),
    /// This one.
    Only(TailPlan),
}

/// Who looks on while trials are made, and may end the search. Trials are made by many threads.
pub trait Onlooker: Sync {
    /// After a trial.
    ///
    /// # Errors
    /// What is to end the search, which returns it.
    fn tried(&self) -> Result<()>;
}

impl Onlooker for ProgressBar {
    fn tried(&self) -> Result<()> {
        self.inc(1);
        Ok(())
    }
}

/// Searches for `subject`, with what `base` gives in place of what would be searched.
///
/// # Errors
/// A network without trainable layers, too few samples, nothing within the budget, or what the runtime refuses.
pub fn search(
    subject: &Subject,
    base: &RecipeFile,
    tails: &Tails,
    budget: Budget,
    trials: usize,
    onlooker: &dyn Onlooker,
) -> Result<Findings> {
    let network = &subject.model.network;
    if network.loss() == Loss::SquaredError {
        bail!("{}: plans are compared by their accuracy, and a squared error has none", subject.model.name);
    }
    let depth = match tails {
        Tails::Within(depth) => (*depth).min(network.trainable_layers()),
        Tails::Only(plan) => plan.layers,
    };
    flatmin_model::packer::check_layers(network, depth.max(1)).with_context(|| subject.model.name.clone())?;
    let classes = subject.classes.len();
    if (0..classes).all(|class| subject.adaptation.iter().filter(|(_, own)| *own == class).count() < 3) {
        bail!("three samples of a class at least are needed: two to tune on, one to judge by");
    }
    ensure!(
        subject.adaptation.len() >= 2 * FOLDS,
        "{}: {} samples to tune on, {} at least are needed to choose by",
        subject.name,
        subject.adaptation.len(),
        2 * FOLDS
    );
    let recipe = base.recipe(Recipe::DEFAULT.method, Start::Factory);
    let objective = Objective::new(subject, budget, &recipe)?;
    Search { subject, base, objective, space: Space::new(depth), trials, spent: 0, reserved: 0, onlooker }
        .run(tails)
}

/// A search under way.
struct Search<'a> {
    subject: &'a Subject,
    base: &'a RecipeFile,
    objective: Objective<'a>,
    space: Space,
    trials: usize,
    spent: usize,
    /// Trials of what was named that are still to come.
    reserved: usize,
    onlooker: &'a dyn Onlooker,
}

impl Search<'_> {
    fn run(mut self, tails: &Tails) -> Result<Findings> {
        let seed = self.base.recipe(Recipe::DEFAULT.method, Start::Factory).seed;
        let mut layers = match tails {
            Tails::Within(depth) => Layers::new(&self.subject.model.network, (*depth).min(self.space.layers)),
            Tails::Only(_) => Layers::default(),
        };
        let singles = layers.singles();
        let named = self.named(tails)?;
        let mut pool = self.fitting(named.iter().cloned())?;
        let of_named = pool.len();
        let mut whole = Vec::new();
        if let Tails::Within(_) = tails {
            whole.extend((1..=self.space.layers).map(TailPlan::of));
        }
        let alone: Vec<TailPlan> = singles.iter().rev().map(|single| single.plan.clone()).collect();
        let mut plans: Vec<TailPlan> = whole;
        alone.into_iter().for_each(|plan| {
            if !plans.contains(&plan) {
                plans.push(plan);
            }
        });
        // The closed form is of the last layer: no tail is to be chosen.
        if self.base.is_closed_form() {
            plans.clear();
        }
        let usual = plans.into_iter().map(|plan| self.usual(plan)).collect::<Result<Vec<_>>>()?;
        let usual: Vec<Candidate> =
            usual.into_iter().filter(|own| !pool.iter().any(|other| other.candidate == *own)).collect();
        let mut fitting = self.fitting(usual.iter().cloned())?;
        if pool.is_empty() && fitting.is_empty() {
            let all = named.iter().chain(&usual);
            let costs =
                all.map(|own| Ok(self.objective.any_cost(own)?.ram_bytes)).collect::<Result<Vec<_>>>()?;
            let least = costs.into_iter().min().unwrap_or_default();
            bail!("no layer can be trained within the budget; the cheapest takes {least} bytes of RAM");
        }
        self.reserved = of_named * (self.objective.folds() - 1);
        let searching = self.trials.saturating_sub(of_named * self.objective.folds());
        fitting.truncate((searching / 4).max(usize::from(of_named == 0)));
        pool.extend(fitting);
        self.measure(&mut pool)?;

        let mut contributions = Vec::new();
        for single in &singles {
            let Some(own) = pool.iter().find(|own| own.is_usual_of(&single.plan)) else { continue };
            layers.record(single, own.gain());
            let step = &self.subject.model.network.steps[single.step];
            contributions.push(Contribution {
                operator: step.index,
                name: step.name.clone(),
                trains: single.trains.to_string(),
                measured: own.clone(),
            });
        }
        let sets = layers.promising(searching / 8, |plan| self.objective.cost(&self.usual(plan.clone())?))?;
        let sets = sets.into_iter().filter(|plan| !pool.iter().any(|own| own.candidate.plan == *plan));
        let sets = sets.map(|plan| self.usual(plan)).collect::<Result<Vec<_>>>()?;
        self.join(&mut pool, sets)?;

        let mut random = SplitMix64::new(seed);
        let drawn = self.drawn(searching / 4, &pool, &mut random)?;
        self.join(&mut pool, drawn)?;
        self.halve(&mut pool, of_named)?;
        self.findings(pool, (of_named, &named[0]), contributions)
    }

    /// What is measured in any case: the default first, then the head in closed form, and steps from it in all layers.
    fn named(&self, tails: &Tails) -> Result<Vec<Candidate>> {
        let (model, base) = (&self.subject.model, self.base);
        let plan = match tails {
            _ if base.is_closed_form() => TailPlan::of(1),
            Tails::Only(plan) => plan.clone(),
            Tails::Within(depth) => {
                model.tail_plan(None, &[]).map(|plan| TailPlan::of(plan.layers.min(*depth)))?
            }
        };
        let mut named = vec![self.usual(plan)?];
        let searched = matches!(tails, Tails::Within(_));
        if base.recipe.method.is_none() && base.start.is_none() && (searched || named[0].plan.layers == 1) {
            let plan = TailPlan::of(1);
            if Tuner::can_solve(&model.pack(&plan)?.pack()) {
                named.push(Candidate::usual(base, plan, NamedMethod::ClosedForm, Start::ClosedForm));
            }
        }
        let deepest = self.usual(TailPlan::of(self.space.layers))?;
        if searched && deepest.start == Start::ClosedForm && deepest != named[0] {
            named.push(deepest);
        }
        Ok(named)
    }

    /// The usual way to train a tail.
    fn usual(&self, plan: TailPlan) -> Result<Candidate> {
        let start = self.start(&plan)?;
        let method = self.base.recipe.method.unwrap_or(NamedMethod::Steps(Recipe::DEFAULT.method));
        Ok(Candidate::usual(self.base, plan, method, start))
    }

    fn start(&self, plan: &TailPlan) -> Result<Start> {
        self.base.start.map_or_else(|| Start::usual(&self.subject.model, plan), Ok)
    }

    /// Candidates within the budget.
    fn fitting(&self, all: impl Iterator<Item = Candidate>) -> Result<Vec<Measured>> {
        let mut own = Vec::new();
        for candidate in all {
            if let Some(cost) = self.objective.cost(&candidate)? {
                own.push(Measured::new(candidate, cost, self.subject.adaptation.len()));
            }
        }
        Ok(own)
    }

    /// So many recipes for the best tails so far.
    fn drawn(&self, most: usize, pool: &[Measured], random: &mut SplitMix64) -> Result<Vec<Candidate>> {
        if self.base.is_closed_form() {
            return Ok(Vec::new());
        }
        let steps = pool.iter().filter(|own| own.candidate.method != NamedMethod::ClosedForm);
        let mut best: Vec<&Measured> = steps.collect();
        best.sort_by(|a, b| a.order(b));
        let tails: Vec<&TailPlan> = best.iter().map(|own| &own.candidate.plan).take(TAILS).collect();
        let mut drawn: Vec<Candidate> = Vec::new();
        for place in 0..most {
            let Some(&plan) = tails.get(place % tails.len().max(1)) else { break };
            let own = self.space.draw(random, self.base, plan, self.start(plan)?);
            if !drawn.contains(&own) && !pool.iter().any(|other| other.candidate == own) {
                drawn.push(own);
            }
        }
        Ok(drawn)
    }

    /// Measures further candidates, as far as the trials reach.
    fn join(&mut self, pool: &mut Vec<Measured>, further: Vec<Candidate>) -> Result<()> {
        let mut further = self.fitting(further.into_iter())?;
        further.truncate(self.left());
        self.measure(&mut further)?;
        pool.extend(further);
        Ok(())
    }

    /// Trials that are left for what was not named.
    fn left(&self) -> usize {
        self.trials.saturating_sub(self.spent + self.reserved)
    }

    fn measure(&mut self, all: &mut [Measured]) -> Result<()> {
        self.spent += all.len();
        self.objective.measure(all, self.onlooker)
    }

    /// Further parts of the samples for the better candidates, and for those that were named: half of the trials that are
    /// left for the rest of the first split, the others for the second. The named ones meet all parts in any case.
    fn halve(&mut self, pool: &mut [Measured], of_named: usize) -> Result<()> {
        let (named, others) = pool.split_at_mut(of_named);
        let left = self.left();
        for (from, to, share) in [(1, FOLDS, 2), (FOLDS, self.objective.folds(), 1)] {
            others.sort_by(Measured::order);
            let parts = to - from;
            let front = (self.left().min(left / share) / parts).min(others.len());
            let met = others.iter().take_while(|own| own.trials == from).count();
            for _ in from..to {
                self.reserved = self.reserved.saturating_sub(named.len());
                self.measure(named)?;
                self.measure(&mut others[..front.min(met)])?;
            }
        }
        others.sort_by(Measured::order);
        Ok(())
    }

    fn findings(
        &self,
        pool: Vec<Measured>,
        (of_named, default): (usize, &Candidate),
        contributions: Vec<Contribution>,
    ) -> Result<Findings> {
        let default = pool[..of_named].iter().find(|own| own.candidate == *default);
        let mut chosen = choose(&pool, default, &self.objective.factory).cloned();
        let mut frontier = findings::frontier(&pool);
        for own in frontier.iter_mut() {
            own.test_accuracy = Some(self.objective.test(&own.candidate)?);
        }
        if let Some(own) = &mut chosen {
            own.test_accuracy = Some(self.objective.test(&own.candidate)?);
        }
        let Budget { ram_bytes, step_macs } = self.objective.budget();
        let limits = Limits { ram: ram_bytes, macs: step_macs };
        let capacity = u16::try_from(self.subject.adaptation.len())?;
        Ok(Findings {
            subject: self.subject.name.clone(),
            budget: self.objective.budget(),
            samples: SampleCounts {
                tuned: self.objective.tuned(),
                held_out: self.subject.adaptation.len(),
                tested: self.subject.test.len(),
            },
            space: self.space.clone(),
            trials: self.spent,
            factory_test_accuracy: self.objective.factory_test()?,
            factory_accuracy: self.objective.factory_accuracy(),
            contributions,
            recipe: chosen.as_ref().map(|own| own.candidate.file(limits, capacity)),
            is_default: chosen
                .as_ref()
                .zip(default)
                .is_some_and(|(own, other)| own.candidate == other.candidate),
            measured: pool,
            frontier,
            chosen,
        })
    }
}

/// The default, unless the samples show the best of the others to be better than it; where it is beyond the budget, the best.
/// None that the samples show to be worse than the factory's network, or that takes nothing off the loss without being shown to be
/// better: a head in closed form may be right more often and surer than it should be.
fn choose<'m>(pool: &'m [Measured], default: Option<&'m Measured>, factory: &[bool]) -> Option<&'m Measured> {
    let helps = |own: &&Measured| match own.evidence_over(factory) {
        Evidence::Better => true,
        Evidence::Worse => false,
        _ => own.gain() > 0.0,
    };
    // What has met a whole split has an answer to each sample.
    let judged = pool.iter().filter(|own| own.trials >= FOLDS);
    let shown = |own: &&Measured| default.is_none_or(|default| own.evidence(default) == Evidence::Better);
    let best = judged.filter(shown).filter(helps).min_by(|a, b| a.order(b));
    best.or(default.filter(helps))
}

/// Splits of the samples into parts to tune on and parts to judge by, with as much of every class in each.
fn folds(samples: &[Labelled], classes: usize, seed: u64) -> Vec<(Vec<usize>, Vec<usize>)> {
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

/// A plan of the last layers, by what each of `trains` (the deepest first) is.
fn plan_of(trains: &[Trains]) -> TailPlan {
    let frozen = trains.iter().take_while(|trains| **trains == Trains::Nothing).count();
    let own = &trains[frozen..];
    let whole = own.iter().all(|trains| *trains == Trains::All);
    TailPlan { layers: own.len(), trains: if whole { Vec::new() } else { own.to_vec() } }
}

#[cfg(test)]
mod tests;
