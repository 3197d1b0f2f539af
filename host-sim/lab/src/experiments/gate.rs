//! `gate`: of the runs that are better on the test samples, how many a device takes, and how many of those that are worse.
//! Beside what [`Tuner::accept`] decides stands a rule that asks held-out samples, the loss and the factory's agreement
//! alone. Every run of the bundled task lies in `gate.ndjson` with its answers, so that further rules can be compared on the
//! same runs.

use super::closed_form::Ground;
use super::corpus;
use super::result::{Findings, Progress, markdown};
use super::task::Task;
use super::trial::Draw;
use anyhow::{Context, Result};
use flatmin::{Evidence, Labels, Method, Pairs, Recipe, Tuner, Version};
use flatmin_sim::subject::{Labelled, Subject};
use flatmin_sim::tuning::{Start, accuracy_on, observe_all, sized, tuner_arena};
use rayon::prelude::*;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// What is run with labels at random, too.
const RANDOM: [&str; 3] = ["closed form", "sam", "sam x10"];
/// Tasks beside the bundled one; the last two have had no say in any choice.
const TASKS: [Task; 6] =
    [Task::Digits, Task::GasDrift, Task::Gestures, Task::Speakers, Task::FurtherSpeakers, Task::ImageHead];

/// A way to train that is judged.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    recipe: Recipe,
    per_class: usize,
    layers: usize,
    start: Start,
    /// Gradient steps follow.
    steps: bool,
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    wearer: usize,
    seed: u64,
    noise: u32,
    kind: &'static str,
    smoothing: f64,
    factory: f64,
    tuned: f64,
    accepted: bool,
    samples: Vec<Seen>,
}

/// One sample of the replay.
#[derive(Debug, Serialize)]
struct Seen {
    label: usize,
    held_out: bool,
    factory: Vec<i8>,
    tuned: Vec<i8>,
}

fn kinds() -> Vec<Kind> {
    let base = Recipe { held_out: 0.2, ..Recipe::DEFAULT };
    let sgd = Recipe { method: Method::Sgd, ..base };
    let asam = Recipe { method: Method::Asam, ..base };
    let plain = Recipe { label_smoothing: 0.0, learning_rate: 0.005, ..sgd };
    let kind =
        |name, recipe| Kind { name, recipe, per_class: 9, layers: 2, start: Start::Factory, steps: true };
    let from_head = Recipe { held_out: 0.2, ..Recipe::FROM_CLOSED_FORM };
    let solved = |name, method| Kind {
        layers: 7,
        start: Start::ClosedForm,
        ..kind(name, Recipe { method, ..from_head })
    };
    let head = |name| Kind {
        start: Start::ClosedForm,
        steps: false,
        ..kind(name, Recipe { label_smoothing: 0.0, ..sgd })
    };
    vec![
        head("closed form"),
        Kind { per_class: 5, ..head("closed form of 5") },
        Kind { per_class: 3, ..head("closed form of 3") },
        solved("sgd of 7 layers", Method::Sgd),
        solved("sam of 7 layers", Method::Sam),
        solved("asam of 7 layers", Method::Asam),
        kind("sgd", sgd),
        kind("sam", base),
        kind("asam", asam),
        kind("plain", plain),
        kind("sgd x10", Recipe { learning_rate: 0.02, ..sgd }),
        kind("sam x10", Recipe { learning_rate: 0.02, ..base }),
        kind("sgd x50", Recipe { learning_rate: 0.1, ..sgd }),
        kind("plain x10", Recipe { learning_rate: 0.05, ..plain }),
        kind("sam best", Recipe { keep_best: true, ..base }),
        kind("plain x10 best", Recipe { learning_rate: 0.05, keep_best: true, ..plain }),
        Kind { per_class: 5, ..kind("sam of 5", base) },
        Kind { per_class: 5, ..kind("plain x10 of 5", Recipe { learning_rate: 0.05, ..plain }) },
        Kind { per_class: 3, ..kind("sam of 3", base) },
    ]
}

/// The head, the steps, or both.
fn train(tuner: &mut Tuner, kind: &Kind, recipe: Recipe) -> Result<()> {
    if kind.start == Start::ClosedForm {
        let bytes = tuner.pack().sizes().solve_bytes(&recipe);
        tuner.solve(recipe, &mut vec![0; bytes / 4], &mut || {})?;
    }
    if kind.steps {
        tuner.start(recipe)?;
        // A run that fails ends with the weights of its last step, which are judged like others.
        while matches!(tuner.step(), Ok(report) if !report.finished) {}
    }
    Ok(())
}

/// Trains, asks the gate, and measures what it was asked about.
fn judged(kind: &Kind, subject: &Subject, seed: u64) -> Result<Run> {
    let file = subject.model.pack(kind.layers)?;
    let recipe = sized(subject, Recipe { seed, ..kind.recipe })?;
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    let mut latents = |samples: &[Labelled]| -> Result<Vec<Labelled>> {
        samples.iter().map(|(input, label)| Ok((tuner.latent(input)?.to_vec(), *label))).collect()
    };
    let (own, test) = (latents(&subject.adaptation)?, latents(&subject.test)?);
    observe_all(&mut tuner, subject, &|| ())?;
    let factory = accuracy_on(&mut tuner, &test, Version::Factory)?;
    train(&mut tuner, kind, recipe)?;
    let accepted = tuner.accept()?.accepted;
    if !accepted {
        // The same run again, taken in any case.
        train(&mut tuner, kind, recipe)?;
        tuner.requantize()?;
    }
    let tuned = accuracy_on(&mut tuner, &test, Version::Tuned)?;
    let held_out: Vec<usize> = tuner.held_out().collect();
    let seen = |(slot, (latent, label)): (usize, &Labelled)| {
        Ok(Seen {
            label: *label,
            held_out: held_out.contains(&slot),
            factory: tuner.infer_latent(latent, Version::Factory)?.to_vec(),
            tuned: tuner.infer_latent(latent, Version::Tuned)?.to_vec(),
        })
    };
    let samples = own.iter().enumerate().map(seen).collect::<Result<_>>()?;
    let smoothing = f64::from(recipe.label_smoothing);
    Ok(Run { wearer: 0, seed, noise: 0, kind: kind.name, smoothing, factory, tuned, accepted, samples })
}

/// The rule of held-out samples: not worse by pairs at one deviation; better by them, at two where labels are doubtful; else
/// a smaller loss, of credible labels.
fn held_out_rule(run: &Run) -> bool {
    let (mut pairs, [mut labels, mut judging]) = (Pairs::default(), [Labels { samples: 0, agreed: 0 }; 2]);
    let mut fall = 0.0;
    for seen in &run.samples {
        let [before, after] = [&seen.factory, &seen.tuned].map(|output| first_largest(output) == seen.label);
        labels.samples += 1;
        labels.agreed += u32::from(before);
        if seen.held_out {
            pairs.add(before, after);
            judging.samples += 1;
            judging.agreed += u32::from(after);
            fall +=
                loss(&seen.factory, seen.label, run.smoothing) - loss(&seen.tuned, seen.label, run.smoothing);
        }
    }
    match pairs.evidence(1) {
        Evidence::Worse => false,
        Evidence::Better if judging.are_credible() => true,
        _ if !labels.are_credible() => pairs.evidence(2) == Evidence::Better,
        Evidence::Better => true,
        _ => fall > 0.0,
    }
}

fn first_largest(output: &[i8]) -> usize {
    (0..output.len()).find(|&class| output.iter().all(|&q| q <= output[class])).unwrap_or(0)
}

/// Cross-entropy of a softmax's bytes with label smoothing, none taken for less than half a step.
fn loss(output: &[i8], label: usize, alpha: f64) -> f64 {
    let surprise = |q: i8| -((f64::from(q) + 128.0).max(0.5) / 256.0).ln();
    let mean = output.iter().map(|&q| surprise(q)).sum::<f64>() / output.len() as f64;
    (1.0 - alpha) * surprise(output[label]) + alpha * mean
}

/// A rule's name, and whether it takes the tail.
type Rule = (&'static str, fn(&Run) -> bool);

const RULES: [Rule; 3] = [
    ("every tail", |_| true),
    ("by held-out samples, the loss and the factory's agreement", held_out_rule),
    ("`Tuner::accept`", |run| run.accepted),
];

/// Runs that are read together.
const GROUPS: [(&str, &[&str]); 6] = [
    ("closed form", &["closed form"]),
    ("all 7 layers from it", &["sgd of 7 layers", "sam of 7 layers", "asam of 7 layers"]),
    ("2 layers (SGD, SAM, ASAM)", &["sgd", "sam", "asam"]),
    ("steps too large", &["sgd x10", "sam x10", "sgd x50", "plain x10"]),
    ("best epoch", &["sam best", "plain x10 best"]),
    (
        "3 or 5 samples a class",
        &["closed form of 5", "closed form of 3", "sam of 5", "plain x10 of 5", "sam of 3"],
    ),
];

/// Table of the rules: the share of helpful runs (by two points or more) that each takes, the share of harmful ones, and the
/// mean gain of what is then in force.
fn table(runs: &[Run]) -> String {
    let mut header = vec!["takes a tail if".to_owned()];
    header.extend(GROUPS.map(|(name, _)| name.to_owned()));
    header.push("all".to_owned());
    let row = |&(name, takes): &Rule| {
        let cell = |asked: &dyn Fn(&Run) -> bool| {
            let own: Vec<(f64, bool)> = (runs.iter())
                .filter(|run| run.noise < 100 && asked(run))
                .map(|run| (100.0 * (run.tuned - run.factory), takes(run)))
                .collect();
            let share = |of: &dyn Fn(f64) -> bool| {
                let all: Vec<bool> = own.iter().filter(|(gain, _)| of(*gain)).map(|run| run.1).collect();
                let taken = all.iter().filter(|&&taken| taken).count();
                format!("{:.0} % of {}", 100.0 * taken as f64 / all.len().max(1) as f64, all.len())
            };
            let mean = own.iter().filter(|run| run.1).map(|run| run.0).sum::<f64>() / own.len().max(1) as f64;
            format!("{}, {}, {mean:+.2}", share(&|gain| gain >= 2.0), share(&|gain| gain <= -2.0))
        };
        let mut row = vec![name.to_owned()];
        row.extend(GROUPS.map(|(_, kinds)| cell(&|run| kinds.contains(&run.kind))));
        row.push(cell(&|_| true));
        row
    };
    markdown(&header, &RULES.iter().map(row).collect::<Vec<_>>())
}

/// Accuracies without the gate and with it, on other data.
fn other_tasks(seed: u64, folder: &Path) -> Result<String> {
    let mut section = "Accuracy in int8, percent, of all tails, and of what is in force where each is asked about; in brackets the \
        share that is taken. With a fifth of the samples held out, and with none.\n\n"
        .to_owned();
    let mut rows = Vec::new();
    for task in TASKS {
        if let Some(path) = task.missing(folder) {
            section += &corpus::skipped(task.title(), &path);
            continue;
        }
        let grounds: Vec<Ground> = (1..=task.subjects())
            .into_par_iter()
            .map(|own| Ground::open(task, own, folder))
            .collect::<Result<_>>()?;
        for noise in [0, 20, 40] {
            let usual = corpus::usual(task);
            let mut row = vec![task.title().to_owned(), format!("{noise} %"), String::new()];
            for (name, held_out) in [("closed form", 0.2), ("closed form", 0.0), ("sam", 0.2), ("sam", 0.0)] {
                let kind = kinds().into_iter().find(|kind| kind.name == name).context("no such way")?;
                let recipe = Recipe { held_out, ..kind.recipe };
                let kind = Kind { recipe, layers: usual.layers, ..kind };
                let work: Vec<(&Ground, u64)> = grounds
                    .iter()
                    .flat_map(|ground| [1, 2].map(|own| (ground, 1_000 * seed + own)))
                    .collect();
                let runs: Vec<Run> = (work.par_iter())
                    .map(|(ground, seed)| {
                        let subject = ground.draw(&Draw { noise, seed: *seed, ..usual }, true)?;
                        judged(&kind, &subject, *seed)
                    })
                    .collect::<Result<_>>()?;
                let mean =
                    |of: &dyn Fn(&Run) -> f64| 100.0 * runs.iter().map(of).sum::<f64>() / runs.len() as f64;
                row[2] = format!("{:.1}", mean(&|run| run.factory));
                row.push(format!(
                    "{:.1} / {:.1} ({:.0} %)",
                    mean(&|run| run.tuned),
                    mean(&|run| if run.accepted { run.tuned } else { run.factory }),
                    mean(&|run| f64::from(u8::from(run.accepted)))
                ));
            }
            rows.push(row);
        }
    }
    let header =
        ["", "flipped", "factory", "closed form", "closed form, none held out", "SAM", "SAM, none held out"];
    section += &markdown(&header.map(str::to_owned), &rows);
    Ok(section)
}

/// Runs it.
///
/// # Errors
/// A run that fails; a file that cannot be written.
pub fn run(seed: u64, quick: bool, folder: &Path, data: &Path) -> Result<Progress> {
    let (wearers, draws) = if quick { (4, 1) } else { (10, 10) };
    let models: Vec<_> = (1..=wearers)
        .into_par_iter()
        .map(|wearer| Ok(Subject::wearer(wearer, 1, 0.0, 1)?.calibrated(wearer)?.model))
        .collect::<Result<_>>()?;
    let mut work = Vec::new();
    for draw in 1..=draws {
        for wearer in 1..=wearers {
            for noise in [0, 20, 40, 100] {
                work.push((wearer, seed * 1_000 + draw, noise));
            }
        }
    }
    let kinds = kinds();
    let runs: Vec<Vec<Run>> = (work.par_iter())
        .map(|&(wearer, seed, noise)| {
            // Steps in all layers take minutes: on three draws of a wearer.
            let asked = kinds.iter().filter(|kind| {
                (noise != 100 || RANDOM.contains(&kind.name)) && (kind.layers == 2 || seed % 1_000 <= 3)
            });
            let one = |kind: &Kind| {
                // 100 are labels at random.
                let share = if noise == 100 { 6.0 / 7.0 } else { f64::from(noise) / 100.0 };
                let subject = Subject::wearer(wearer, kind.per_class, share, seed)?;
                let subject = Subject { model: models[wearer - 1].clone(), ..subject };
                Ok(Run { wearer, noise, ..judged(kind, &subject, seed)? })
            };
            asked.map(one).collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    let runs: Vec<Run> = runs.into_iter().flatten().collect();
    let path = folder.join("gate.ndjson");
    let context = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create(&path).with_context(context)?);
    for run in &runs {
        serde_json::to_writer(&mut file, run)?;
        file.write_all(b"\n").with_context(context)?;
    }
    let random: Vec<bool> = runs.iter().filter(|run| run.noise == 100).map(|run| run.accepted).collect();
    // Wearers whom the factory knows best have the most to lose.
    let best = runs.iter().map(|run| run.factory).fold(0.0, f64::max);
    let count = runs.len();
    let (known, others): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.factory > best - 0.02);
    let (known, runs) = (known.len(), [known, others].into_iter().flatten().collect::<Vec<_>>());
    let mut section = format!(
        "## The gate\n\nA fifth of the samples held out, {count} runs (seeds from {}): of those that are better on the test \
         samples by two points or more the share that each rule takes, of those that are worse by two or more likewise, and \
         the mean gain of what is then in force. None, 20 and 40 % of the labels flipped, those of the samples held out with \
         the others.\n\n{}Of these, the wearers whom the factory knows best ({:.1} %):\n\n{}With labels at random \
         {} of {} tails are taken.\n\n",
        1_000 * seed + 1,
        table(&runs),
        100.0 * best,
        table(&runs[..known]),
        random.iter().filter(|&&taken| taken).count(),
        random.len()
    );
    if !quick {
        section += &other_tasks(seed, data)?;
    }
    Ok(Progress::Done(Findings { name: "gate", rows: Vec::new(), section, figures: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four classes at one quarter each: ln 4 whatever the smoothing; a sure answer costs half a step's surprise elsewhere.
    #[test]
    fn losses_of_bytes_are_those_of_their_probabilities() {
        assert!((loss(&[-64; 4], 1, 0.4) - 4f64.ln()).abs() < 1e-12);
        let sure = [127, -128];
        let expected = 0.8 * -(255.0f64 / 256.0).ln() + 0.2 * 512f64.ln();
        assert!((loss(&sure, 0, 0.4) - expected).abs() < 1e-12);
        assert_eq!((first_largest(&[3, 5, 5]), first_largest(&[5])), (1, 0));
    }
}
