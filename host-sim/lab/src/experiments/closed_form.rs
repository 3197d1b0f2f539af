//! `closed-form`: the head in closed form, alone and as the start of gradient steps, by the product's own calls. Nothing
//! is chosen for a task, but for the SGD that they are measured against: that is tuned for each condition.

use super::contenders::Protocol;
use super::corpus::{self, Corpus};
use super::result::{Findings, Progress, markdown};
use super::task::Task;
use super::trial::Draw;
use anyhow::Result;
use flatmin::{Method, Optimizer, Recipe};
use flatmin_model::model::Model;
use flatmin_sim::calibration::calibrated;
use flatmin_sim::subject::{Origin, Subject};
use flatmin_sim::tuning::{Start, Tail, Training, train};
use rayon::prelude::*;
use std::path::Path;

/// Conditions: flipped labels in percent, and whether there are two labels a class alone.
const CONDITIONS: [(u32, bool); 4] = [(0, false), (20, false), (40, false), (0, true)];
/// Tasks; the last two have had a say in one choice alone: how the factory's prior is measured.
const TASKS: [Task; 7] = [
    Task::Wearers,
    Task::Digits,
    Task::GasDrift,
    Task::Gestures,
    Task::Speakers,
    Task::FurtherSpeakers,
    Task::ImageHead,
];
/// Tasks whose mean and worst condition are summed up.
const SUMMED_UP: [Task; 5] = [Task::Wearers, Task::Digits, Task::GasDrift, Task::Gestures, Task::Speakers];
/// Draws a subject and condition.
const DRAWS: u64 = 2;
/// What SGD is tuned over.
const RATES: [f32; 8] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.2];
const EPOCHS: [u16; 3] = [10, 30, 100];

/// SGD without label smoothing, with each rate and number of epochs.
fn grid() -> Vec<Recipe> {
    let plain = Recipe { method: Method::Sgd, label_smoothing: 0.0, ..Recipe::DEFAULT };
    let with = |learning_rate| EPOCHS.map(|epochs| Recipe { learning_rate, epochs, ..plain });
    RATES.into_iter().flat_map(with).collect()
}

/// Accuracy of every run with the setting that is best on average on the other subjects' runs.
fn tuned(subjects: &[usize], accuracies: &[Vec<f64>]) -> Vec<f64> {
    let of_others = |subject: usize, setting: usize| -> f64 {
        let others = subjects.iter().zip(accuracies).filter(|(other, _)| **other != subject);
        others.map(|(_, own)| own[setting]).sum()
    };
    let best = |subject: usize, count: usize| {
        (0..count).max_by(|&a, &b| of_others(subject, a).total_cmp(&of_others(subject, b))).unwrap_or(0)
    };
    subjects.iter().zip(accuracies).map(|(&subject, own)| own[best(subject, own.len())]).collect()
}

/// What is compared: a name, what is trained, and whether the factory's statistics are there.
fn ways() -> Vec<(&'static str, Training, bool)> {
    let from = |start: Start, method| {
        let recipe = start.recipe(method, Optimizer::Sgd);
        Training { start, curve: false, ..Training::steps(Tail::Full, recipe) }
    };
    vec![
        ("closed form", Training::closed_form(Recipe::DEFAULT), true),
        ("closed form, no statistics", Training::closed_form(Recipe::DEFAULT), false),
        ("SGD from the factory", from(Start::Factory, Method::Sgd), true),
        ("SAM from the factory", from(Start::Factory, Method::Sam), true),
        ("SGD from the closed form", from(Start::ClosedForm, Method::Sgd), true),
        ("SAM from the closed form", from(Start::ClosedForm, Method::Sam), true),
    ]
}

/// A subject's network as the factory has it, with and without statistics, and where its samples come from.
pub struct Ground {
    plain: Model,
    calibrated: Model,
    corpus: Option<Corpus>,
    subject: usize,
}

impl Ground {
    /// Reads a subject of a task.
    ///
    /// # Errors
    /// Data that cannot be read.
    pub fn open(task: Task, subject: usize, folder: &Path) -> Result<Self> {
        if task == Task::Wearers {
            let own = Subject::wearer(subject, 1, 0.0, 1)?;
            let plain = own.model.clone();
            return Ok(Self { plain, calibrated: own.calibrated(subject)?.model, corpus: None, subject });
        }
        let corpus = Corpus::open(task, subject, super::start::Start::Factory, folder)?;
        let plain = Model::of_network(format!("{} {subject}", task.title()), corpus.network.clone());
        let (inputs, labels): (Vec<_>, Vec<_>) = corpus.known.iter().cloned().unzip();
        let calibrated = calibrated(plain.clone(), &inputs, Some(&labels))?;
        Ok(Self { plain, calibrated, corpus: Some(corpus), subject })
    }

    /// The subject with one draw's samples.
    ///
    /// # Errors
    /// Recordings that cannot be read.
    pub fn draw(&self, draw: &Draw, statistics: bool) -> Result<Subject> {
        let model = if statistics { &self.calibrated } else { &self.plain }.clone();
        let Some(corpus) = &self.corpus else {
            let noise = f64::from(draw.noise) / 100.0;
            return Ok(Subject { model, ..Subject::wearer(self.subject, draw.per_class, noise, draw.seed)? });
        };
        Ok(Subject {
            name: model.name.clone(),
            model,
            classes: (0..corpus.classes).map(|class| class.to_string()).collect(),
            adaptation: corpus.adaptation(draw),
            test: corpus.test.clone(),
            origin: Origin::default(),
        })
    }
}

fn list<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Runs it.
///
/// # Errors
/// Data that cannot be read; those of the runs.
pub fn run(protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let ways = ways();
    let (draws, tasks) = if protocol.quick { (1, &TASKS[..1]) } else { (DRAWS, &TASKS[..]) };
    let mut section = format!(
        "## The head in closed form\n\nAccuracy in int8, percent, and points over the factory, paired, ± standard error over subjects and \
         {draws} draws of each (seeds from {}). Steps are those of `Recipe::DEFAULT`, from the closed form of \
         `Recipe::FROM_CLOSED_FORM`; nothing is chosen for a task. Only \"SGD, tuned\" is: rate ({}) and epochs ({}) that are best on the \
         other subjects in the same condition. 'few' are two labels a class. The last two tasks have had a say in one \
         choice alone: how the factory's prior is measured.\n\n",
        1_000 * seed + 1,
        list(&RATES),
        list(&EPOCHS),
    );
    let grid = grid();
    // Differences to tuned SGD, a list of all conditions for each way.
    let mut differences: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    for &task in tasks {
        if let Some(path) = task.missing(folder) {
            section += &corpus::skipped(task.title(), &path);
            continue;
        }
        let subjects = if protocol.quick { 3 } else { task.subjects() };
        let grounds: Vec<Ground> =
            (1..=subjects).into_par_iter().map(|s| Ground::open(task, s, folder)).collect::<Result<_>>()?;
        let mut rows: Vec<Vec<String>> = ways.iter().map(|(name, _, _)| vec![(*name).to_owned()]).collect();
        let mut factories = vec!["factory".to_owned()];
        let mut tuned_row = vec!["SGD, tuned".to_owned()];
        for (noise, few) in CONDITIONS {
            let usual = corpus::usual(task);
            let per_class = if few { 2 } else { usual.per_class };
            let runs: Vec<(&Ground, u64)> =
                grounds.iter().flat_map(|ground| (1..=draws).map(move |draw| (ground, draw))).collect();
            let measured: Vec<(Vec<[f64; 2]>, Vec<f64>)> = runs
                .par_iter()
                .map(|(ground, own)| {
                    let draw = Draw { noise, per_class, seed: 1_000 * seed + own, ..usual };
                    let one = |(_, training, statistics): &(&str, Training, bool)| {
                        let recipe = Recipe { seed: draw.seed, ..training.recipe };
                        let subject = ground.draw(&draw, *statistics)?;
                        let run = train(&subject, draw.layers, &Training { recipe, ..*training }, || {})?;
                        Ok([run.factory_accuracy, run.accuracy_int8])
                    };
                    let subject = ground.draw(&draw, false)?;
                    let sgd = |recipe: &Recipe| {
                        let recipe = Recipe { seed: draw.seed, ..*recipe };
                        let training = Training { curve: false, ..Training::steps(Tail::Full, recipe) };
                        // One that diverges is as bad as one that always errs.
                        train(&subject, draw.layers, &training, || {}).map_or(0.0, |run| run.accuracy_int8)
                    };
                    Ok((ways.iter().map(one).collect::<Result<_>>()?, grid.iter().map(sgd).collect()))
                })
                .collect::<Result<_>>()?;
            let (measured, by_setting): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
            let subjects: Vec<usize> = runs.iter().map(|(ground, _)| ground.subject).collect();
            let tuned = tuned(&subjects, &by_setting);
            let count = measured.len() as f64;
            let tuned_mean = 100.0 * tuned.iter().sum::<f64>() / count;
            tuned_row.push(format!("{tuned_mean:.1}"));
            factories
                .push(format!("{:.1}", 100.0 * measured.iter().map(|own| own[0][0]).sum::<f64>() / count));
            for (way, row) in rows.iter_mut().enumerate() {
                let mean = |value: &dyn Fn([f64; 2]) -> f64| {
                    100.0 * measured.iter().map(|own| value(own[way])).sum::<f64>() / count
                };
                if SUMMED_UP.contains(&task) {
                    differences[way].push(mean(&|own| own[1]) - tuned_mean);
                }
                let gain = mean(&|[factory, own]| own - factory);
                let squares = mean(&|[factory, own]| 100.0 * (own - factory).powi(2)) - gain * gain;
                let error = (squares.max(0.0) / (count - 1.0).max(1.0)).sqrt();
                row.push(format!("{:.1}: {gain:+.1} ± {error:.1}", mean(&|own| own[1])));
            }
        }
        let header = ["", "clean", "20 % flipped", "40 % flipped", "few"].map(str::to_owned);
        rows.insert(0, factories);
        rows.insert(1, tuned_row);
        section += &format!("### {}\n\n{}", task.title(), markdown(&header, &rows));
    }
    let lead = |differences: &Vec<f64>| {
        let mean = differences.iter().sum::<f64>() / differences.len() as f64;
        let worst = differences.iter().copied().fold(f64::INFINITY, f64::min);
        [format!("{mean:+.1}"), format!("{worst:+.1}")]
    };
    let rows: Vec<Vec<String>> = (ways.iter().zip(&differences))
        .filter(|(_, differences)| !differences.is_empty())
        .map(|((name, _, _), differences)| [vec![(*name).to_owned()], lead(differences).into()].concat())
        .collect();
    let header = ["points over tuned SGD", "mean of all conditions", "worst condition"].map(str::to_owned);
    section += &format!(
        "### Against SGD that is tuned for each condition\n\nThe first five tasks; each condition's difference of means.\n\n{}",
        markdown(&header, &rows)
    );
    Ok(Progress::Done(Findings { name: "closed-form", rows: Vec::new(), section, figures: Vec::new() }))
}
