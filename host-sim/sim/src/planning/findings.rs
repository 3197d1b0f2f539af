//! What a search found, as a table.

use super::{Budget, Candidate, DEVIATIONS, FOLDS, Space};
use anyhow::Result;
use flatmin::{Evidence, Pairs};
use flatmin_model::packer::TailPlan;
use flatmin_model::recipe_file::{NamedMethod, RecipeFile};
use flatmin_model::table::Table;
use serde::Serialize;
use std::cmp::Ordering;
use std::fmt;

/// What a candidate takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// All RAM of a firmware that tunes so.
    pub ram_bytes: usize,
    /// Multiply-adds of a sample's share of a step; 0 of a head in closed form.
    pub step_macs: u64,
    /// Parameters in f32.
    pub parameters: usize,
}

/// A trial's outcome: for each sample that judged its place, and whether the answer was right.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) right: Vec<(usize, bool)>,
    pub(super) factory_loss: f64,
    pub(super) loss: f64,
}

/// A candidate, and what it was measured to bring.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Layers with weights in the tail: `--layers`.
    pub layers: usize,
    /// What of each is trained: `--train`; none where all is.
    pub train: Vec<String>,
    /// The recipe in words.
    pub recipe: String,
    /// Parameters in f32.
    pub parameters: usize,
    /// All RAM of a firmware that tunes it.
    pub ram_bytes: usize,
    /// Multiply-adds of a sample's share of a step.
    pub step_macs: u64,
    /// Trials that it met; three judge each sample once.
    pub trials: usize,
    /// Mean loss, as the default is trained, on the samples that judge before tuning, in f32.
    pub factory_loss: f64,
    /// Mean loss on these samples after tuning.
    pub loss: f64,
    /// Share of the samples that the int8 network gets right that was not tuned on them.
    pub accuracy: f64,
    /// Share of the samples that had no say in the plan, by the tuned int8 tail; of plans on the frontier.
    pub test_accuracy: Option<f64>,
    /// How often each sample judged and how often the answer was right.
    #[serde(skip)]
    answers: Vec<(u32, u32)>,
    #[serde(skip)]
    pub(super) candidate: Candidate,
}

impl Measured {
    pub(super) fn new(candidate: Candidate, cost: Cost, samples: usize) -> Self {
        Self {
            layers: candidate.plan.layers,
            train: candidate.plan.trains.iter().map(ToString::to_string).collect(),
            recipe: candidate.to_string(),
            parameters: cost.parameters,
            ram_bytes: cost.ram_bytes,
            step_macs: cost.step_macs,
            trials: 0,
            factory_loss: 0.0,
            loss: 0.0,
            accuracy: 0.0,
            test_accuracy: None,
            answers: vec![(0, 0); samples],
            candidate,
        }
    }

    /// Takes a trial in.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let judged = |all: &[(u32, u32)]| f64::from(all.iter().map(|(judged, _)| judged).sum::<u32>());
        let before = judged(&self.answers);
        for &(place, right) in &outcome.right {
            let (times, own) = &mut self.answers[place];
            *times += 1;
            *own += u32::from(right);
        }
        let after = judged(&self.answers).max(1.0);
        self.trials += 1;
        self.factory_loss = (self.factory_loss * before + outcome.factory_loss) / after;
        self.loss = (self.loss * before + outcome.loss) / after;
        self.accuracy = f64::from(self.answers.iter().map(|(_, right)| right).sum::<u32>()) / after;
    }

    /// What is trained, and how.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Whether it takes steps in this tail.
    pub(super) fn is_usual_of(&self, plan: &TailPlan) -> bool {
        self.candidate.plan == *plan && self.candidate.method != NamedMethod::ClosedForm
    }

    /// What tuning takes off the loss.
    pub fn gain(&self) -> f64 {
        self.factory_loss - self.loss
    }

    /// The better first: what met more trials, as it got so far; then more right answers, or as many at a smaller loss.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        other
            .trials
            .cmp(&self.trials)
            .then(other.accuracy.total_cmp(&self.accuracy))
            .then(self.loss.total_cmp(&other.loss))
    }

    /// What the samples show of this candidate beside another; each counts once, however often it judged.
    pub(super) fn evidence(&self, other: &Self) -> Evidence {
        let mut pairs = Pairs::default();
        for (own, theirs) in self.answers.iter().zip(&other.answers) {
            if own.0 == 0 || theirs.0 == 0 {
                continue;
            }
            match (own.1 * theirs.0).cmp(&(theirs.1 * own.0)) {
                Ordering::Greater => pairs.gained += 1,
                Ordering::Less => pairs.lost += 1,
                Ordering::Equal => {}
            }
        }
        pairs.evidence(DEVIATIONS)
    }

    /// What the samples show of this candidate beside the factory's network.
    pub(super) fn evidence_over(&self, factory: &[bool]) -> Evidence {
        let mut pairs = Pairs::default();
        for (own, &right) in self.answers.iter().zip(factory) {
            match (2 * own.1).cmp(&own.0) {
                Ordering::Greater => pairs.add(right, true),
                Ordering::Less => pairs.add(right, false),
                Ordering::Equal => {}
            }
        }
        pairs.evidence(DEVIATIONS)
    }

    /// The options of `flatmin tune` that name the tail.
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
    /// What that brings and takes, in one trial.
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
    /// What was chosen among.
    pub space: Space,
    /// Trials that it took.
    pub trials: usize,
    /// Share of the samples without a say that the factory model gets right.
    pub factory_test_accuracy: f64,
    /// Share of the samples that judge likewise.
    pub factory_accuracy: f64,
    /// Single layers within the budget, first to last.
    pub contributions: Vec<Contribution>,
    /// Every candidate that was measured: those that were named beforehand, then the best first.
    pub measured: Vec<Measured>,
    /// Candidates that judged every sample and that nothing cheaper beats, by RAM.
    pub frontier: Vec<Measured>,
    /// The advice; none if no candidate within the budget is better than the factory's network.
    pub chosen: Option<Measured>,
    /// Whether that is the default.
    pub is_default: bool,
    /// The advice as a whole recipe.
    pub recipe: Option<RecipeFile>,
}

/// What nothing cheaper beats in loss, or in right answers, by RAM, of what has met a whole split, or of all where nothing has.
pub(super) fn frontier(measured: &[Measured]) -> Vec<Measured> {
    let whole = |own: &&Measured| own.trials >= FOLDS;
    let any = measured.iter().any(|own| whole(&own));
    let mut sorted: Vec<&Measured> = measured.iter().filter(|own| !any || whole(own)).collect();
    sorted.sort_by(|a, b| {
        a.ram_bytes.cmp(&b.ram_bytes).then(a.loss.total_cmp(&b.loss)).then(a.step_macs.cmp(&b.step_macs))
    });
    let mut frontier: Vec<Measured> = Vec::new();
    for own in sorted {
        let beats = |other: &Measured| own.loss < other.loss || own.accuracy > other.accuracy;
        if frontier.iter().all(beats) {
            frontier.push(own.clone());
        }
    }
    frontier
}

impl Findings {
    /// The measured plans over RAM, as SVG.
    ///
    /// # Errors
    /// What the drawing refuses.
    pub fn svg(&self) -> Result<String> {
        super::drawing::svg(self)
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
        let budget = self.budget.ram_bytes.map_or(String::new(), |ram| format!(" within {ram} bytes"));
        writeln!(f, "{}: {tuned} samples tuned on at a time, {held_out} judge", self.subject)?;
        if !self.contributions.is_empty() {
            writeln!(f, "every layer alone{budget}, in one trial:")?;
            let mut table = Table::new(3, ["#", "operator", "trained"].into_iter().chain(costs));
            for own in &self.contributions {
                let named = [own.operator.to_string(), own.name.clone(), own.trains.clone()];
                table.add_row(named.into_iter().chain(row(&own.measured)));
            }
            writeln!(f, "{table}")?;
        }
        let (count, trials) = (self.measured.len(), self.trials);
        writeln!(f, "the frontier, of {count} candidates in {trials} trials:")?;
        let heading = ["plan", "recipe"].into_iter().chain(costs).chain(["others, int8, %"]);
        let mut table = Table::new(2, heading);
        for own in &self.frontier {
            let test = own.test_accuracy.map_or_else(String::new, percent);
            table.add_row([own.options(), own.recipe.clone()].into_iter().chain(row(own)).chain([test]));
        }
        writeln!(
            f,
            "{table}\n{tested} samples had no say; the factory model gets {} % of them right",
            percent(self.factory_test_accuracy)
        )?;
        let Some(own) = &self.chosen else {
            return write!(f, "nothing within the budget is better than the factory model: keep it");
        };
        let closed = own.candidate.method == NamedMethod::ClosedForm;
        let of = if closed { "the last layer in closed form".to_owned() } else { own.options() };
        let why = if self.is_default { ", the default: nothing was shown to be better" } else { "" };
        write!(
            f,
            "use {of}{why}; {} % of the {tested} right",
            own.test_accuracy.map_or_else(String::new, percent)
        )
    }
}
