//! `closed-form`: the last layer solved, against SGD that is tuned for every task and condition.

use super::bench::{Bench, accuracy};
use super::start::put;
use super::task::Task;
use super::trial::{Draw, Setting, Targets};
use super::corpus;
use crate::packer::PackFile;
use crate::packer::statistics::statistics;
use crate::tuning::{Labelled, tuner_arena};
use anyhow::{Context, Result};
use flatmin::closed_form::{ClosedForm, Next, Settings, Statistics, scratch_words};
use flatmin::{Method, Recipe, Tuner, Version};
use rayon::prelude::*;

/// The last layer of a subject's network, with what is known of its input.
pub struct Head {
    file: PackFile,
    statistics: Option<Vec<u128>>,
    statistics_bytes: usize,
    test: Vec<Labelled>,
    /// Accuracy of the factory's int8 network.
    pub factory: f64,
}

/// Latents in steps above the zero point.
fn steps(file: &PackFile, latent: &[i8]) -> Vec<i16> {
    let zero = file.pack().feature().affine.zero_point as i16;
    latent.iter().map(|&q| i16::from(q) - zero).collect()
}

impl Head {
    /// Of a network packed with its last layer as the tail.
    pub fn new(file: PackFile, known: &[Labelled], test: &[Labelled]) -> Result<Self> {
        let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
        let mut words = tuner_arena(&file, &recipe);
        let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        let mut known_steps = Vec::new();
        for (input, label) in known {
            known_steps.push((steps(&file, tuner.latent(input)?), *label));
        }
        let test: Vec<Labelled> =
            test.iter().map(|(x, y)| Ok((tuner.latent(x)?.to_vec(), *y))).collect::<Result<_>>()?;
        let factory = accuracy(&mut tuner, &test, Version::Factory)?;
        drop(tuner);
        let bytes = statistics(&known_steps, file.pack().output().len());
        let statistics = bytes.as_ref().map(|bytes| {
            let mut words = vec![0u128; bytes.len().div_ceil(16)];
            bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
            words
        });
        Ok(Self { file, statistics, statistics_bytes: bytes.map_or(0, |b| b.len()), test, factory })
    }

    /// Accuracy in int8 and in f32 of the head solved for these samples.
    pub fn solved(&self, samples: &[Labelled], settings: Settings, with_statistics: bool) -> Result<(f64, f64)> {
        let pack = self.file.pack();
        let recipe =
            Recipe { replay_capacity: u16::try_from(samples.len())?, method: Method::Sgd, ..Recipe::DEFAULT };
        let mut words = tuner_arena(&self.file, &recipe);
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words))?;
        let mut own = Vec::new();
        for (input, label) in samples {
            tuner.observe(input, *label)?;
            own.push((steps(&self.file, tuner.latent(input)?), *label));
        }
        let (classes, features) = (pack.output().len(), pack.feature().len());
        let unit = pack.feature_unit();
        let mut head = tuner.weights().to_vec();
        head[..classes * features].iter_mut().for_each(|w| *w *= unit);
        let known = self
            .statistics
            .as_ref()
            .filter(|_| with_statistics)
            .map(|words| &bytemuck::cast_slice(words)[..self.statistics_bytes]);
        let known = known.and_then(|bytes| Statistics::new(bytes, classes, features));
        let mut scratch = vec![0; scratch_words(classes, features)];
        let mut solver =
            ClosedForm::new(settings, known, own.len(), (classes, features), &mut head, &mut scratch)
                .context("lengths")?;
        loop {
            match solver.next() {
                Next::Sample(i) => solver.add(own[i].0.iter().copied(), own[i].1),
                Next::Compute => solver.compute(),
                Next::Done => break,
            }
        }
        head[..classes * features].iter_mut().for_each(|w| *w /= unit);
        put(&mut tuner, &head)?;
        tuner.requantize()?;
        let int8 = accuracy(&mut tuner, &self.test, Version::Tuned)?;
        let mut right = 0;
        for (latent, label) in &self.test {
            right += usize::from(tuner.score_latent(latent, *label)?.class == *label);
        }
        Ok((int8, right as f64 / self.test.len().max(1) as f64))
    }
}

/// Conditions: share of flipped labels, and whether there are two labels a class alone.
pub const CONDITIONS: [(u32, bool); 4] = [(0, false), (20, false), (40, false), (0, true)];
/// Tasks that constants are chosen on.
pub const CHOSEN_ON: [Task; 5] = [Task::Wearers, Task::Digits, Task::GasDrift, Task::Gestures, Task::Speakers];
/// Tasks that have no say in any choice.
pub const NO_SAY: [Task; 2] = [Task::FurtherSpeakers, Task::ImageHead];

fn draw(task: Task, (noise, few): (u32, bool), subject: usize, seed: u64) -> Draw {
    let usual = corpus::usual(task);
    let per_class = if few { 2 } else { usual.per_class };
    Draw { subject, seed, noise, per_class, ..usual }
}

/// Explores.
pub fn explore(folder: &std::path::Path, tasks: &[Task], variants: &[(&str, Settings, bool)], seeds: u64, first: u64) -> Result<()> {
    let bench = Bench::new(folder.to_owned());
    for &task in tasks {
        let heads: Vec<Head> =
            (1..=task.subjects()).into_par_iter().map(|s| bench.head(draw(task, (0, false), s, 1))).collect::<Result<_>>()?;
        let factory = heads.iter().map(|h| h.factory).sum::<f64>() / heads.len() as f64;
        println!("{task:?}: factory {:.1}", 100.0 * factory);
        for (name, settings, with) in variants {
            let mut line = format!("  {name:28}");
            for condition in CONDITIONS {
                let runs: Vec<(usize, u64)> =
                    (1..=task.subjects()).flat_map(|s| (0..seeds).map(move |d| (s, first + d))).collect();
                let all: Vec<(f64, f64)> = runs
                    .par_iter()
                    .map(|&(s, seed)| {
                        heads[s - 1].solved(&bench.samples(draw(task, condition, s, seed))?, *settings, *with)
                    })
                    .collect::<Result<_>>()?;
                let n = all.len() as f64;
                let mean = |f: &dyn Fn(&(f64, f64)) -> f64| 100.0 * all.iter().map(f).sum::<f64>() / n;
                line += &format!("  {:5.1} ({:5.1})", mean(&|a| a.0), mean(&|a| a.1));
            }
            println!("{line}");
        }
    }
    Ok(())
}

/// Rates of the wide grid.
pub const RATES: [f32; 8] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.1, 0.2];
/// Its epochs.
pub const EPOCHS: [u16; 3] = [10, 30, 100];

/// SGD with every rate and number of epochs; the accuracies of the setting that is best on the other subjects.
pub fn tuned_sgd(folder: &std::path::Path, tasks: &[Task], seeds: u64, first: u64) -> Result<()> {
    let bench = Bench::new(folder.to_owned());
    let settings: Vec<Setting> = RATES
        .iter()
        .flat_map(|&learning_rate| {
            EPOCHS.map(|epochs| Setting {
                method: Method::Sgd,
                learning_rate,
                epochs,
                label_smoothing: 0.0,
                targets: Targets::Labels,
                ..Setting::FINGERPRINT
            })
        })
        .chain([Setting::DEFAULT])
        .collect();
    for &task in tasks {
        let mut line = format!("{task:?}: tuned SGD (default):");
        for condition in CONDITIONS {
            let runs: Vec<(usize, u64)> =
                (1..=task.subjects()).flat_map(|s| (0..seeds).map(move |d| (s, first + d))).collect();
            let all: Vec<(usize, Vec<f64>)> = runs
                .par_iter()
                .map(|&(s, seed)| {
                    let outcomes = bench.run(draw(task, condition, s, seed), &settings)?;
                    Ok((s, outcomes.into_iter().map(|(_, o)| o.accuracy).collect()))
                })
                .collect::<Result<_>>()?;
            let last = settings.len() - 1;
            let mut sum = 0.0;
            let mut chosen = Vec::new();
            for subject in 1..=task.subjects() {
                let score = |index: usize| {
                    all.iter().filter(|(s, _)| *s != subject).map(|(_, own)| own[index]).sum::<f64>()
                };
                let best = (0..last).max_by(|&a, &b| score(a).total_cmp(&score(b))).context("a grid")?;
                chosen.push(best);
                sum += all.iter().filter(|(s, _)| *s == subject).map(|(_, own)| own[best]).sum::<f64>();
            }
            chosen.sort_unstable();
            let middle = &settings[chosen[chosen.len() / 2]];
            let n = all.len() as f64;
            let default = all.iter().map(|(_, own)| own[last]).sum::<f64>() / n;
            line += &format!(
                "  {:5.1} ({:5.1}; lr {} x {})",
                100.0 * sum / n,
                100.0 * default,
                middle.learning_rate,
                middle.epochs
            );
        }
        println!("{line}");
    }
    Ok(())
}
