//! `flatmin plan`: which layers to train, and what of them, within a budget of RAM and multiply-adds.
//!
//! Contribution analysis as in MCUNetV3 (arXiv 2206.15472, section 3.2): every candidate, one layer trained in one way
//! and all others frozen, is tuned from the factory on two thirds of the samples, three times, so that each sample
//! judges once; the fall of the trained loss on those ([`flatmin::Criterion`]) is its gain. Sets of candidates are
//! searched by the sum of their gains, and the promising ones measured whole: what is printed was measured, not summed.
//! The default plan is the advice, where it fits the budget, unless the samples show another to be better: among so many
//! plans some look better by chance.

mod drawing;
mod search;
mod trial;

use crate::auto::folds;
use crate::subject::Subject;
use crate::tuning::sized;
use anyhow::{Context, Result, bail};
use flatmin::{Evidence, Loss, Pairs, Recipe};
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_model::table::Table;
use indicatif::ProgressBar;
use serde::Serialize;
use std::fmt;
use trial::Trials;

/// What a plan may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// All RAM of a firmware (`boards/app`) that tunes, in bytes.
    pub ram_bytes: usize,
    /// Multiply-adds of a sample's share of a step.
    pub step_macs: Option<u64>,
}

/// A plan, and what it was measured to bring.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Layers with weights in the tail: `--layers`.
    pub layers: usize,
    /// What of each is trained: `--train`; none where all is.
    pub train: Vec<String>,
    /// Parameters in f32.
    pub parameters: usize,
    /// All RAM of a firmware that tunes it.
    pub ram_bytes: usize,
    /// Multiply-adds of a sample's share of a step.
    pub step_macs: u64,
    /// Mean loss, as it is trained, on the samples that judge before tuning, in f32.
    pub factory_loss: f64,
    /// The same after.
    pub loss: f64,
    /// Share of the samples that a tail gets right, in f32, that was not tuned on them.
    pub accuracy: f64,
    /// Share of the samples that had no say in the plan, by the tuned int8 tail; of plans on the frontier.
    pub test_accuracy: Option<f64>,
    /// Which samples those are.
    #[serde(skip)]
    right: Vec<bool>,
    #[serde(skip)]
    plan: TailPlan,
}

/// Standard deviations by which a plan has to be shown better than the default: of dozens the best is one better by chance.
const DEVIATIONS: u16 = 2;

impl Measured {
    /// What tuning takes off the loss.
    pub fn gain(&self) -> f64 {
        self.factory_loss - self.loss
    }

    /// More right answers, or as many at a smaller loss.
    fn is_better_than(&self, other: &Self) -> bool {
        (self.accuracy, -self.loss) > (other.accuracy, -other.loss)
    }

    /// What the samples show of this plan beside another.
    fn evidence(&self, other: &Self) -> Evidence {
        let mut pairs = Pairs::default();
        other.right.iter().zip(&self.right).for_each(|(&before, &after)| pairs.add(before, after));
        pairs.evidence(DEVIATIONS)
    }

    /// The options of `flatmin tune`.
    pub fn options(&self) -> String {
        let layers = format!("--layers {}", self.layers);
        if self.train.is_empty() { layers } else { format!("{layers} --train {}", self.train.join(",")) }
    }
}

/// One layer trained in one way, alone.
#[derive(Debug, Clone, Serialize)]
pub struct Contribution {
    /// The layer's place in the file.
    pub operator: usize,
    /// Its name in the schema.
    pub name: String,
    /// What of it.
    pub trains: String,
    /// What that brings and takes.
    pub measured: Measured,
}

/// Samples by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SampleCounts {
    /// Tuned on at a time.
    pub tuned: usize,
    /// To judge plans by, each held out once.
    pub held_out: usize,
    /// Without a say, to test by.
    pub tested: usize,
}

/// The search's outcome.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// The subject's name.
    pub subject: String,
    /// As asked for.
    pub budget: Budget,
    /// How many samples there were.
    pub samples: SampleCounts,
    /// Share of the samples without a say that the factory model gets right.
    pub factory_test_accuracy: f64,
    /// Single layers within the budget, first to last.
    pub contributions: Vec<Contribution>,
    /// Every set that was measured, single layers included.
    pub measured: Vec<Measured>,
    /// Those that nothing cheaper beats, by RAM.
    pub frontier: Vec<Measured>,
    /// The advice; none if no plan within the budget lowers the loss.
    pub chosen: Option<Measured>,
}

/// Searches a plan for `subject`'s network among its last `depth` layers with weights.
///
/// # Errors
/// A network without trainable layers, too few samples, nothing within the budget, or what the runtime refuses.
pub fn search(
    subject: &Subject,
    recipe: Recipe,
    budget: Budget,
    depth: usize,
    bar: &ProgressBar,
) -> Result<Findings> {
    let network = &subject.model.network;
    if network.loss() == Loss::SquaredError {
        bail!("{}: plans are compared by their accuracy, and a squared error has none", subject.model.name);
    }
    let depth = depth.min(network.trainable_layers());
    flatmin_model::packer::check_layers(network, depth.max(1)).with_context(|| subject.model.name.clone())?;
    let classes = subject.classes.len();
    if (0..classes).all(|class| subject.adaptation.iter().filter(|(_, own)| *own == class).count() < 3) {
        bail!("three samples of a class at least are needed: two to tune on, one to judge by");
    }
    let folds = folds(&subject.adaptation, classes, recipe.seed);
    let recipe = sized(subject, recipe)?;
    let trials = Trials { subject, folds: &folds, recipe, budget, bar };
    let mut space = search::Space::new(network, depth);
    let singles = space.singles();
    bar.set_length(singles.len() as u64);
    let affordable = trials.affordable(singles.iter().map(|single| single.plan.clone()))?;
    if affordable.is_empty() {
        let least = trials.least_ram(singles.iter().map(|single| &single.plan))?;
        bail!("no layer can be trained within the budget; the cheapest takes {least} bytes of RAM");
    }
    bar.set_length(affordable.len() as u64);
    let mut measured = trials.measure(&affordable)?;
    let mut contributions = Vec::new();
    for single in &singles {
        let Some(own) = measured.iter().find(|own| own.plan == single.plan) else { continue };
        space.record(single, own.gain());
        let step = &network.steps[single.step];
        contributions.push(Contribution {
            operator: step.index,
            name: step.name.clone(),
            trains: single.trains.to_string(),
            measured: own.clone(),
        });
    }
    let whole = trials.affordable((2..=depth).map(TailPlan::of))?;
    let mut sets = space.promising(|plan| trials.cost(plan))?;
    sets.extend(whole.into_iter().filter(|plan| !sets.contains(plan)).collect::<Vec<_>>());
    bar.inc_length(sets.len() as u64);
    measured.extend(trials.measure(&sets)?);
    let mut frontier = frontier(&measured);
    for own in &mut frontier {
        own.test_accuracy = Some(trials.test(&own.plan)?);
    }
    let default = subject.model.tail_plan(None, &[])?;
    let mut chosen = choose(&measured, &default).filter(|best| best.gain() > 0.0).cloned();
    if let Some(own) = &mut chosen {
        own.test_accuracy = Some(trials.test(&own.plan)?);
    }
    Ok(Findings {
        subject: subject.name.clone(),
        budget,
        samples: SampleCounts {
            tuned: folds[0].0.len(),
            held_out: subject.adaptation.len(),
            tested: subject.test.len(),
        },
        factory_test_accuracy: trials.factory()?,
        contributions,
        measured,
        frontier,
        chosen,
    })
}

/// The default plan, unless the samples show the best of the others to be better than it; where it was not measured, as it is
/// beyond the budget, the best.
fn choose<'m>(measured: &'m [Measured], default: &TailPlan) -> Option<&'m Measured> {
    let best = measured.iter().reduce(|best, own| if own.is_better_than(best) { own } else { best })?;
    match measured.iter().find(|own| own.plan == *default) {
        Some(default) if best.evidence(default) != Evidence::Better => Some(default),
        _ => Some(best),
    }
}

/// What nothing cheaper beats in loss, by RAM.
fn frontier(measured: &[Measured]) -> Vec<Measured> {
    let mut sorted: Vec<&Measured> = measured.iter().collect();
    sorted.sort_by(|a, b| {
        a.ram_bytes.cmp(&b.ram_bytes).then(a.loss.total_cmp(&b.loss)).then(a.step_macs.cmp(&b.step_macs))
    });
    let mut frontier: Vec<Measured> = Vec::new();
    for own in sorted {
        if frontier.last().is_none_or(|last| own.loss < last.loss) {
            frontier.push(own.clone());
        }
    }
    frontier
}

impl Findings {
    /// The measured plans over RAM, as SVG.
    ///
    /// # Errors
    /// Those of the drawing.
    pub fn svg(&self) -> Result<String> {
        drawing::svg(self)
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SampleCounts { tuned, held_out, tested } = self.samples;
        let row = |own: &Measured| {
            let numbers = [own.parameters.to_string(), own.ram_bytes.to_string(), own.step_macs.to_string()];
            numbers.into_iter().chain([
                format!("{:.3}", own.factory_loss),
                format!("{:.3}", own.loss),
                percent(own.accuracy),
            ])
        };
        let costs = ["parameters", "firmware RAM", "step MACs", "loss before", "loss after", "right, %"];
        writeln!(
            f,
            "{}: {tuned} samples tuned on at a time, {held_out} judge; every layer alone within {} bytes:",
            self.subject, self.budget.ram_bytes
        )?;
        let mut table = Table::new(3, ["#", "operator", "trained"].into_iter().chain(costs));
        for own in &self.contributions {
            let named = [own.operator.to_string(), own.name.clone(), own.trains.clone()];
            table.add_row(named.into_iter().chain(row(&own.measured)));
        }
        writeln!(f, "{table}\nthe frontier, of {} plans measured:", self.measured.len())?;
        let heading = ["plan"].into_iter().chain(costs).chain(["others, int8, %"]);
        let mut table = Table::new(1, heading);
        for own in &self.frontier {
            let test = own.test_accuracy.map_or_else(String::new, percent);
            table.add_row([own.options()].into_iter().chain(row(own)).chain([test]));
        }
        writeln!(
            f,
            "{table}\n{tested} samples had no say; the factory model gets {} % of them right",
            percent(self.factory_test_accuracy)
        )?;
        match &self.chosen {
            Some(own) => write!(f, "use {}", own.options()),
            None => write!(f, "no plan within the budget lowers the loss: keep the factory model"),
        }
    }
}

/// A plan of the last layers, by what each of `trains` (the deepest first) is.
fn plan_of(trains: &[Trains]) -> TailPlan {
    let frozen = trains.iter().take_while(|trains| **trains == Trains::Nothing).count();
    let own = &trains[frozen..];
    let whole = own.iter().all(|trains| *trains == Trains::All);
    TailPlan { layers: own.len(), trains: if whole { Vec::new() } else { own.to_vec() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ram_bytes: usize, loss: f64) -> Measured {
        Measured {
            layers: 1,
            train: Vec::new(),
            parameters: 1,
            ram_bytes,
            step_macs: 1,
            factory_loss: 1.0,
            loss,
            accuracy: 0.5,
            test_accuracy: None,
            right: Vec::new(),
            plan: TailPlan::of(1),
        }
    }

    #[test]
    fn the_frontier_holds_what_nothing_cheaper_beats() {
        let all = [(300, 0.2), (100, 0.5), (200, 0.6), (150, 0.4), (400, 0.2), (150, 0.3)];
        let found = frontier(&all.map(|(ram, loss)| measured(ram, loss)));
        let found: Vec<_> = found.iter().map(|own| (own.ram_bytes, own.loss)).collect();
        assert_eq!(found, [(100, 0.5), (150, 0.3), (300, 0.2)]);
    }

    #[test]
    fn frozen_layers_in_front_shorten_the_tail() {
        let [all, none] = [Trains::All, Trains::Nothing];
        assert_eq!(plan_of(&[none, all, all]), TailPlan::of(2));
        let sparse = plan_of(&[none, Trains::Scales, none, all]);
        assert_eq!(sparse, TailPlan { layers: 3, trains: vec![Trains::Scales, none, all] });
    }

    #[test]
    fn the_default_gives_way_to_what_is_shown_to_be_better_alone() {
        let own = |layers: usize, right: usize| Measured {
            plan: TailPlan::of(layers),
            accuracy: right as f64 / 20.0,
            right: (0..20).map(|sample| sample < right).collect(),
            ..measured(100, 0.5)
        };
        // Two standard deviations of four samples are four, of five they are 4.5.
        let [default, four_more, five_more] = [own(2, 10), own(3, 14), own(4, 15)];
        let chosen = |all: &[Measured]| choose(all, &TailPlan::of(2)).unwrap().plan.layers;
        assert_eq!(chosen(&[default.clone(), four_more.clone()]), 2);
        assert_eq!(chosen(&[default, four_more.clone(), five_more.clone()]), 4);
        assert_eq!(chosen(&[five_more, four_more]), 4, "the default is beyond the budget");
        assert!(choose(&[], &TailPlan::of(2)).is_none());
    }
}
