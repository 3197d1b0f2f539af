//! `closed-form`: the head in closed form, alone and as the start of gradient steps, by the product's own calls. Nothing
//! is chosen for a task.

use super::contenders::Protocol;
use super::corpus::{self, Corpus};
use super::result::{Findings, Progress, markdown};
use super::task::Task;
use super::trial::Draw;
use anyhow::Result;
use flatmin::{Method, Recipe};
use flatmin_model::model::Model;
use flatmin_sim::calibration::calibrated;
use flatmin_sim::subject::{Origin, Subject};
use flatmin_sim::tuning::{Start, Tail, Training, train};
use rayon::prelude::*;
use std::path::Path;

/// Conditions: flipped labels in percent, and whether there are two labels a class alone.
const CONDITIONS: [(u32, bool); 4] = [(0, false), (20, false), (40, false), (0, true)];
/// Tasks; the last two have had no say in any choice.
const TASKS: [Task; 7] = [
    Task::Wearers,
    Task::Digits,
    Task::GasDrift,
    Task::Gestures,
    Task::Speakers,
    Task::FurtherSpeakers,
    Task::ImageHead,
];
/// Draws a subject and condition.
const DRAWS: u64 = 3;

/// What is compared: a name, what is trained, and whether the factory's statistics are there.
fn ways() -> Vec<(&'static str, Training, bool)> {
    let recipe = |method| Recipe { method, ..Recipe::DEFAULT };
    let from =
        |start, method| Training { start, curve: false, ..Training::steps(Tail::Full, recipe(method)) };
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
struct Ground {
    plain: Model,
    calibrated: Model,
    corpus: Option<Corpus>,
    subject: usize,
}

impl Ground {
    fn open(task: Task, subject: usize, folder: &Path) -> Result<Self> {
        if task == Task::Wearers {
            let own = Subject::wearer(subject, 1, 0.0, 1)?;
            let plain = own.model.clone();
            return Ok(Self { plain, calibrated: own.calibrated(subject)?.model, corpus: None, subject });
        }
        let corpus = Corpus::open(task, subject, None, folder)?;
        let plain = Model::of_network(format!("{} {subject}", task.title()), corpus.network.clone());
        let (inputs, labels): (Vec<_>, Vec<_>) = corpus.known.iter().cloned().unzip();
        let calibrated = calibrated(plain.clone(), &inputs, Some(&labels))?;
        Ok(Self { plain, calibrated, corpus: Some(corpus), subject })
    }

    fn draw(&self, draw: &Draw, statistics: bool) -> Result<Subject> {
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

/// Runs it.
///
/// # Errors
/// Data that cannot be read; those of the runs.
pub fn run(protocol: &Protocol, seed: u64, folder: &Path) -> Result<Progress> {
    let ways = ways();
    let (draws, tasks) = if protocol.quick { (1, &TASKS[..1]) } else { (DRAWS, &TASKS[..]) };
    let mut section = format!(
        "## The head in closed form\n\nAccuracy in int8, percent, and points over the factory, paired, ± standard error over subjects and \
         {draws} draws of each (seeds from {}). Gradient steps are those of `Recipe::DEFAULT`; nothing is chosen for a task. 'few' are two \
         labels a class. The last two tasks have had no say in any choice.\n\n",
        1_000 * seed + 1
    );
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
        for (noise, few) in CONDITIONS {
            let usual = corpus::usual(task);
            let per_class = if few { 2 } else { usual.per_class };
            let runs: Vec<(&Ground, u64)> =
                grounds.iter().flat_map(|ground| (1..=draws).map(move |draw| (ground, draw))).collect();
            let measured: Vec<Vec<[f64; 2]>> = runs
                .par_iter()
                .map(|(ground, own)| {
                    let draw = Draw { noise, per_class, seed: 1_000 * seed + own, ..usual };
                    let one = |(_, training, statistics): &(&str, Training, bool)| {
                        let recipe = Recipe { seed: draw.seed, ..training.recipe };
                        let subject = ground.draw(&draw, *statistics)?;
                        let run = train(&subject, draw.layers, &Training { recipe, ..*training }, || {})?;
                        Ok([run.factory_accuracy, run.accuracy_int8])
                    };
                    ways.iter().map(one).collect::<Result<_>>()
                })
                .collect::<Result<_>>()?;
            let count = measured.len() as f64;
            factories
                .push(format!("{:.1}", 100.0 * measured.iter().map(|own| own[0][0]).sum::<f64>() / count));
            for (way, row) in rows.iter_mut().enumerate() {
                let mean = |value: &dyn Fn([f64; 2]) -> f64| {
                    100.0 * measured.iter().map(|own| value(own[way])).sum::<f64>() / count
                };
                let gain = mean(&|[factory, own]| own - factory);
                let squares = mean(&|[factory, own]| 100.0 * (own - factory).powi(2)) - gain * gain;
                let error = (squares.max(0.0) / (count - 1.0).max(1.0)).sqrt();
                row.push(format!("{:.1}: {gain:+.1} ± {error:.1}", mean(&|own| own[1])));
            }
        }
        let header = ["", "clean", "20 % flipped", "40 % flipped", "few"].map(str::to_owned);
        rows.insert(0, factories);
        section += &format!("### {}\n\n{}", task.title(), markdown(&header, &rows));
    }
    Ok(Progress::Done(Findings { name: "closed-form", rows: Vec::new(), section, figures: Vec::new() }))
}
