//! Samples of a subject, and the factory network that never saw it.

mod gas;
mod gestures;
mod images;
mod keywords;
mod mnist1d;
mod speech;

use super::dense;
use super::start::{Pretraining, Start};
use super::task::Task;
use super::trial::{Draw, LatentUnit};
use anyhow::{Context, Result, bail};
use flatmin::{Affine, Method, Recipe, Tuner};
use flatmin_model::model::Model;
use flatmin_model::packer::{Network, PackFile, TailPlan, pack_tail};
use flatmin_sim::subject::{Labelled, add_noise};
use flatmin_sim::wearers::SplitMix64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Samples of a subject, and the factory network that never saw it.
#[derive(Debug)]
pub struct Corpus {
    /// The network; what the tail begins with is the experiment's.
    pub network: Network,
    /// What the factory knows, to take the statistics of features of: no sample is the subject's.
    pub known: Vec<Labelled>,
    /// Samples to tune on are drawn from these.
    pub pool: Vec<Labelled>,
    /// Samples to test on.
    pub test: Vec<Labelled>,
    /// Number of classes.
    pub classes: usize,
}

impl Corpus {
    /// Reads a task's data for one subject.
    ///
    /// # Errors
    /// Files that are missing or not what they should be, by name.
    pub fn open(task: Task, subject: usize, start: Start, folder: &Path) -> Result<Self> {
        let pretraining = start.pretraining();
        match task {
            Task::Wearers => bail!("the bundled task has no folder"),
            Task::Digits => speech::new_speaker(folder, subject, pretraining),
            Task::Keywords => speech::new_keywords(folder, subject),
            Task::GasDrift => gas::later_batch(folder, subject, pretraining),
            Task::Gestures => gestures::new_user(folder, subject, pretraining),
            Task::Images => images::compressed(folder, subject),
            Task::Mnist1d => mnist1d::part(folder, subject, start),
            Task::ImageHead => images::last_layer(folder, subject),
            Task::Speakers => keywords::new_speaker(folder, subject - 1),
            Task::FurtherSpeakers => keywords::new_speaker(folder, Task::Speakers.subjects() + subject - 1),
        }
        .with_context(|| format!("{}, subject {subject}", task.title()))
    }

    /// Packs the tail.
    ///
    /// # Errors
    /// More layers than there are.
    pub fn pack(&self, layers: usize) -> Result<PackFile> {
        Ok(pack_tail(&self.network, 0, &TailPlan::of(layers))?)
    }

    /// The draw's samples: of each class as many as asked for, or as there are, one class after the other by turns;
    /// labels flipped.
    pub fn adaptation(&self, draw: &Draw) -> Vec<Labelled> {
        let mut random = SplitMix64::new(draw.seed);
        let mut classes: Vec<Vec<&Labelled>> = vec![Vec::new(); self.classes];
        self.pool.iter().for_each(|sample| classes[sample.1].push(sample));
        classes.iter_mut().for_each(|own| random.shuffle(own));
        let rounds =
            (0..draw.per_class).flat_map(|round| classes.iter().filter_map(move |own| own.get(round)));
        let mut drawn: Vec<Labelled> = rounds.map(|sample| (*sample).clone()).collect();
        add_noise(&mut drawn, self.classes, f64::from(draw.noise) / 100.0, draw.seed);
        drawn
    }
}

/// A factory network of fully connected layers, trained on `samples`, with SGD where nothing else is asked for.
fn factory(
    input: Affine,
    widths: &[usize],
    samples: &[Labelled],
    epochs: u16,
    pretraining: Option<Pretraining>,
) -> Result<Network> {
    let recipe =
        Recipe { method: Method::Sgd, learning_rate: 0.02, epochs, label_smoothing: 0.1, ..Recipe::DEFAULT };
    let recipe = pretraining.map_or(recipe, |pretraining| pretraining.apply(recipe));
    dense::pretrained(&dense::network(input, widths), samples, recipe)
}

/// What the trunk in front of a model's last layer makes of `inputs`, and its quantization.
fn latents(model: &Model, inputs: &[&[i8]]) -> Result<(Affine, Vec<Vec<i8>>)> {
    use rayon::prelude::*;
    let file = model.pack(1)?;
    let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
    let parts: Vec<Vec<Vec<i8>>> = (inputs.par_chunks(250))
        .map(|part| {
            let mut words = flatmin_sim::tuning::tuner_arena(&file, &recipe);
            let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
            part.iter().map(|input| Ok(tuner.latent(input)?.to_vec())).collect::<Result<_>>()
        })
        .collect::<Result<_>>()?;
    Ok((file.pack().feature().affine, parts.concat()))
}

/// A network of a model's last fully connected layer alone, and how many classes it knows.
fn head_of(model: &Model) -> Result<(Network, usize)> {
    let source = &model.network;
    let step = source
        .steps
        .iter()
        .rfind(|step| !step.constants.weights.is_empty())
        .context("no layer has weights")?;
    let tensor = |index: usize| &source.tensors[index];
    let widths = [step.input, step.output].map(|index| tensor(index).shape.iter().product::<usize>());
    let mut network = dense::network(tensor(step.input).affine, &widths);
    network.tensors[1].affine = tensor(step.output).affine;
    network.steps[0].constants = step.constants.clone();
    network.steps[0].clamp = step.clamp;
    Ok((network, widths[1]))
}

/// Features as int8: mean 0 and four standard deviations at the end of the range, by the statistics of `reference`.
struct Standard {
    means: Vec<f64>,
    deviations: Vec<f64>,
}

impl Standard {
    const AFFINE: Affine = Affine { scale: 1.0 / 32.0, zero_point: 0 };

    fn of(reference: &[Vec<f64>]) -> Result<Self> {
        let length = reference.first().context("no samples")?.len();
        let count = reference.len() as f64;
        let mean = |value: &dyn Fn(&Vec<f64>) -> f64| reference.iter().map(value).sum::<f64>() / count;
        let means: Vec<f64> = (0..length).map(|i| mean(&|x| x[i])).collect();
        let deviations = (0..length).map(|i| mean(&|x| (x[i] - means[i]).powi(2)).sqrt().max(1e-9)).collect();
        Ok(Self { means, deviations })
    }

    fn int8(&self, features: &[f64]) -> Vec<i8> {
        let places = features.iter().zip(self.means.iter().zip(&self.deviations));
        places.map(|(x, (mean, deviation))| Self::AFFINE.quantize(((x - mean) / deviation) as f32)).collect()
    }
}

/// Layers that experiments tune, and samples a class, where a task says nothing else.
pub fn usual(task: Task) -> Draw {
    let ten = Draw { task, per_class: 10, ..Draw::WEARERS };
    match task {
        Task::Wearers => Draw::WEARERS,
        Task::Digits | Task::GasDrift | Task::Gestures => ten,
        // Means over 125 places are small: random weights barely see them in steps of 1/128.
        Task::Keywords => Draw { start: Start::Random, unit: LatentUnit::Model, ..ten },
        Task::Mnist1d => Draw { layers: 4, start: Start::Random, per_class: 20, ..ten },
        Task::Images => Draw { layers: 3, ..ten },
        Task::Speakers | Task::FurtherSpeakers | Task::ImageHead => Draw { layers: 1, ..ten },
    }
}

/// What the page says of data that are not there.
pub fn skipped(name: &str, missing: &Path) -> String {
    let file = missing.file_name().unwrap_or_default().to_string_lossy();
    format!("> **SKIPPED: {name}**: the data folder has no `{file}`. Nothing on this page speaks of it.\n\n")
}

/// What was read of a folder: a first reading takes seconds, as the front layers run over every clip.
struct ReadOnce<T>(Mutex<Option<(PathBuf, Arc<T>)>>);

impl<T> ReadOnce<T> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// What `read` makes of the folder, or made of it the last time.
    fn get(&self, folder: &Path, read: impl FnOnce(&Path) -> Result<T>) -> Result<Arc<T>> {
        let mut last = self.0.lock().map_err(|_| anyhow::anyhow!("another run has failed"))?;
        if let Some((from, known)) = last.as_ref()
            && from == folder
        {
            return Ok(known.clone());
        }
        let found = Arc::new(read(folder)?);
        *last = Some((folder.to_owned(), found.clone()));
        Ok(found)
    }
}
