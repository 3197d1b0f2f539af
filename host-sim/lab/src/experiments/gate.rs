//! `gate`: what a device can tell of a tuned tail by the samples that it holds out, beside what the test samples say: which
//! rule takes most of the runs that help and fewest of those that harm. Every run's answers lie in `gate.ndjson`, so that
//! further rules can be compared on the same runs.

use super::result::{Findings, Progress, markdown};
use anyhow::{Context, Result};
use flatmin::{Evidence, Labels, Method, Pairs, Recipe, Tuner, Version};
use flatmin_sim::subject::{Labelled, Subject};
use flatmin_sim::tuning::{accuracy_on, tuner_arena};
use rayon::prelude::*;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Seeds from here on chose the rule.
const CHOICE: u64 = 500;

/// What is run with labels at random, too.
const RANDOM: [&str; 3] = ["sam", "plain", "sam x10"];

/// A recipe that is judged.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    recipe: Recipe,
    per_class: usize,
    layers: usize,
}

/// One run.
#[derive(Debug, Serialize)]
struct Run {
    wearer: usize,
    seed: u64,
    noise: u32,
    kind: &'static str,
    per_class: usize,
    smoothing: f64,
    test: usize,
    factory: f64,
    tuned: f64,
    best_epochs: Option<u16>,
    samples: Vec<Seen>,
}

impl Run {
    fn is_evaluation(&self) -> bool {
        self.seed % 1_000 <= CHOICE
    }
}

/// One sample of the replay, its outputs and its losses against every class.
#[derive(Debug, Serialize)]
struct Seen {
    label: usize,
    truth: usize,
    held_out: bool,
    factory: Vec<i8>,
    tuned: Vec<i8>,
    factory_losses: Vec<f32>,
    tuned_losses: Vec<f32>,
}

fn kinds() -> Vec<Kind> {
    let base = Recipe { held_out: 0.2, ..Recipe::DEFAULT };
    let sgd = Recipe { method: Method::Sgd, ..base };
    let asam = Recipe { method: Method::Asam, ..base };
    let plain = Recipe { label_smoothing: 0.0, learning_rate: 0.005, ..sgd };
    let kind = |name, recipe| Kind { name, recipe, per_class: 9, layers: 2 };
    vec![
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
        Kind { layers: 7, ..kind("sam of 7 layers", base) },
        Kind { layers: 7, ..kind("plain x2 of 7 layers", Recipe { learning_rate: 0.01, ..plain }) },
    ]
}

fn losses(tuner: &mut Tuner, latent: &[i8], classes: usize) -> Result<Vec<f32>> {
    (0..classes).map(|class| Ok(tuner.score_latent(latent, class)?.loss)).collect()
}

fn run_one(kind: &Kind, wearer: usize, seed: u64, noise: u32) -> Result<Run> {
    // 100 are labels at random.
    let share = if noise == 100 { 6.0 / 7.0 } else { f64::from(noise) / 100.0 };
    let subject = Subject::wearer(wearer, kind.per_class, share, seed)?;
    let truth = Subject::wearer(wearer, kind.per_class, 0.0, seed)?;
    let classes = subject.classes.len();
    let file = subject.model.pack(kind.layers)?;
    let recipe = Recipe { seed, replay_capacity: u16::try_from(subject.adaptation.len())?, ..kind.recipe };
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    let mut latents = |samples: &[Labelled]| -> Result<Vec<Labelled>> {
        samples.iter().map(|(input, label)| Ok((tuner.latent(input)?.to_vec(), *label))).collect()
    };
    let (own, test) = (latents(&subject.adaptation)?, latents(&subject.test)?);
    for (input, label) in &subject.adaptation {
        tuner.observe(input, *label)?;
    }
    let mut samples = Vec::new();
    for ((latent, label), (_, truth)) in own.iter().zip(&truth.adaptation) {
        samples.push(Seen {
            label: *label,
            truth: *truth,
            held_out: false,
            factory: tuner.infer_latent(latent, Version::Factory)?.to_vec(),
            tuned: Vec::new(),
            factory_losses: losses(&mut tuner, latent, classes)?,
            tuned_losses: Vec::new(),
        });
    }
    let factory = accuracy_on(&mut tuner, &test, Version::Factory)?;
    tuner.start(recipe)?;
    // A run that fails ends with the weights of its last step, which are judged like others.
    while matches!(tuner.step(), Ok(report) if !report.finished) {}
    for slot in tuner.held_out() {
        samples[slot].held_out = true;
    }
    let best_epochs = tuner.best().map(|best| best.epochs);
    tuner.requantize()?;
    for ((latent, _), seen) in own.iter().zip(&mut samples) {
        seen.tuned = tuner.infer_latent(latent, Version::Tuned)?.to_vec();
        seen.tuned_losses = losses(&mut tuner, latent, classes)?;
    }
    let tuned = accuracy_on(&mut tuner, &test, Version::Tuned)?;
    Ok(Run {
        wearer,
        seed,
        noise,
        kind: kind.name,
        per_class: kind.per_class,
        smoothing: f64::from(recipe.label_smoothing),
        test: test.len(),
        factory,
        tuned,
        best_epochs,
        samples,
    })
}

/// What a rule may look at: pairs of answers, labels, and how much smaller losses are, all of the samples held out.
struct Facts {
    pairs: Pairs,
    labels: Labels,
    /// Held-out labels, and those of them that the tuned tail gives.
    judging: Labels,
    trained: f64,
    plain: f64,
}

impl Facts {
    fn of(run: &Run) -> Self {
        let (mut pairs, [mut labels, mut judging]) =
            (Pairs::default(), [Labels { samples: 0, agreed: 0 }; 2]);
        let (mut trained, mut plain) = (0.0, 0.0);
        for seen in &run.samples {
            let [before, after] =
                [&seen.factory, &seen.tuned].map(|output| first_largest(output) == seen.label);
            labels.samples += 1;
            labels.agreed += u32::from(before);
            if seen.held_out {
                pairs.add(before, after);
                judging.samples += 1;
                judging.agreed += u32::from(after);
                let fall =
                    |alpha| loss(&seen.factory, seen.label, alpha) - loss(&seen.tuned, seen.label, alpha);
                trained += fall(run.smoothing);
                plain += fall(0.0);
            }
        }
        Self { pairs, labels, judging, trained, plain }
    }

    fn more(&self) -> i64 {
        i64::from(self.pairs.gained) - i64::from(self.pairs.lost)
    }

    fn shown(&self, deviations: u16) -> Evidence {
        self.pairs.evidence(deviations)
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
type Rule = (&'static str, fn(&Facts) -> bool);

const RULES: [Rule; 9] = [
    ("every tail", |_| true),
    ("more right, then plain cross-entropy", |f| f.more() > 0 || f.more() == 0 && f.plain > 0.0),
    ("more right, then the trained loss", |f| f.more() > 0 || f.more() == 0 && f.trained > 0.0),
    ("pairs show it to be better", |f| f.shown(1) == Evidence::Better),
    ("pairs do not show it to be worse", |f| f.shown(1) != Evidence::Worse),
    ("and the trained loss is smaller", |f| f.shown(1) != Evidence::Worse && f.trained > 0.0),
    ("and the labels are credible", |f| f.shown(1) != Evidence::Worse && f.labels.are_credible()),
    ("both (without pairs at two deviations)", |f| {
        f.shown(1) != Evidence::Worse && f.labels.are_credible() && f.trained > 0.0
    }),
    ("as `Tuner::accept` decides", |f| match f.shown(1) {
        Evidence::Worse => false,
        Evidence::Better if f.judging.are_credible() => true,
        _ if !f.labels.are_credible() => f.shown(2) == Evidence::Better,
        Evidence::Better => true,
        _ => f.trained > 0.0,
    }),
];

/// Runs that are read together.
const GROUPS: [(&str, &[&str]); 4] = [
    ("default recipe (SGD, SAM, ASAM)", &["sgd", "sam", "asam"]),
    ("steps too large", &["sgd x10", "sam x10", "sgd x50", "plain x10"]),
    ("best epoch", &["sam best", "plain x10 best"]),
    ("3 or 5 samples a class", &["sam of 5", "plain x10 of 5", "sam of 3"]),
];

/// Table of the rules: the share of helpful runs (by two points or more) that each takes, the share of harmful ones, and the
/// mean gain of what is then in force.
fn table(runs: &[Run], evaluation: bool) -> String {
    let mut header = vec!["takes a tail if".to_owned()];
    header.extend(GROUPS.map(|(name, _)| name.to_owned()));
    let row = |&(name, takes): &Rule| {
        let cell = |kinds: &[&str]| {
            let own: Vec<(f64, bool)> = (runs.iter())
                .filter(|run| {
                    run.is_evaluation() == evaluation && run.noise < 100 && kinds.contains(&run.kind)
                })
                .map(|run| (100.0 * (run.tuned - run.factory), takes(&Facts::of(run))))
                .collect();
            let share = |of: &dyn Fn(f64) -> bool| {
                let all: Vec<bool> = own.iter().filter(|(gain, _)| of(*gain)).map(|run| run.1).collect();
                let taken = all.iter().filter(|&&taken| taken).count();
                format!("{:.0} % of {}", 100.0 * taken as f64 / all.len().max(1) as f64, all.len())
            };
            let mean = own.iter().filter(|run| run.1).map(|run| run.0).sum::<f64>() / own.len().max(1) as f64;
            format!("{}, {}, {mean:+.2}", share(&|gain| gain >= 2.0), share(&|gain| gain <= -2.0))
        };
        std::iter::once(name.to_owned()).chain(GROUPS.map(|(_, kinds)| cell(kinds))).collect()
    };
    markdown(&header, &RULES.iter().map(row).collect::<Vec<_>>())
}

/// Runs it.
///
/// # Errors
/// A run that fails; a file that cannot be written.
pub fn run(seed: u64, quick: bool, folder: &Path) -> Result<Progress> {
    let (wearers, draws) = if quick { (4, 1) } else { (10, 10) };
    let mut work = Vec::new();
    for first in [0, CHOICE] {
        for draw in 1..=draws {
            for wearer in 1..=wearers {
                for noise in [0, 20, 40, 100] {
                    work.push((wearer, seed * 1_000 + first + draw, noise));
                }
            }
        }
    }
    let kinds = kinds();
    let runs: Vec<Vec<Run>> = (work.par_iter())
        .map(|&(wearer, seed, noise)| {
            let asked = kinds.iter().filter(|kind| noise != 100 || RANDOM.contains(&kind.name));
            asked.map(|kind| run_one(kind, wearer, seed, noise)).collect::<Result<_>>()
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
    let random: Vec<bool> = (runs.iter().filter(|run| run.noise == 100))
        .map(|run| RULES.last().is_some_and(|(_, takes)| takes(&Facts::of(run))))
        .collect();
    let section = format!(
        "## The gate\n\nA fifth of the samples held out, {} runs: of those that are better on the test samples by two points or more the \
         share that each rule takes, of those that are worse by two or more likewise, and the mean gain of what is then \
         in force. None, 20 and 40 % of the labels flipped, those of the samples held out with the others.\n\nDraws that \
         the rule was chosen by:\n\n{}Fresh draws:\n\n{}With labels at random the last rule takes {} of {} tails.\n",
        runs.len(),
        table(&runs, false),
        table(&runs, true),
        random.iter().filter(|&&taken| taken).count(),
        random.len()
    );
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
