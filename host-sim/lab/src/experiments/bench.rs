//! Runs trials with the crate's tuner. The trunk runs once for a draw's samples and once for a subject's test
//! samples, whatever the number of trials.

use super::corpus::Corpus;
use super::soft_targets;
use super::start::{self, Pretraining, Start};
use super::task::Task;
use super::trial::{Draw, LatentUnit, Outcome, Setting, Targets, Trial};
use super::{dense, scale};
use anyhow::{Context, Result, bail};
use flatmin::internals::tail::DenseChain;
use flatmin::{Method, Optimizer, Recipe, Tuner, Version};
use flatmin_model::packer::PackFile;
use flatmin_sim::subject::{Labelled, Subject};
use flatmin_sim::tuning::{SHARPNESS_RHO, accuracy_on, tuner_arena};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What does not change from draw to draw: a subject's pack and the latents of the test samples.
struct Ground {
    file: PackFile,
    test: Vec<Labelled>,
    factory: f64,
}

/// Whose corpus, what its factory was trained with, and which of its hidden layers are not the task's own.
type Origin = (Task, usize, Option<Pretraining>, Start);

/// Subjects prepared when first asked for.
#[derive(Default)]
pub struct Bench {
    folder: PathBuf,
    corpora: Mutex<HashMap<Origin, Arc<Corpus>>>,
    grounds: Mutex<HashMap<Draw, Arc<Ground>>>,
}

/// A tuner on one draw's samples, and the test latents.
pub struct Stand<'a> {
    /// The tuner, its replay filled.
    pub tuner: Tuner<'a>,
    /// Latents of the test samples, with their labels.
    pub test: &'a [Labelled],
    /// The adaptation samples, with the labels that are tuned on.
    pub samples: &'a [Labelled],
    factory: f64,
    capacity: u16,
}

impl Bench {
    /// A bench that reads tasks which are not bundled from this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, ..Self::default() }
    }

    /// Runs `settings` on one draw, in order.
    ///
    /// # Errors
    /// What the runtime refuses, with the trial's key.
    pub fn run(&self, draw: Draw, settings: &[Setting]) -> Result<Vec<(Trial, Outcome)>> {
        let buffer = settings.iter().any(|s| s.recipe(0, 1).needs_gradient_buffer());
        self.with_stand(draw, buffer, |stand| {
            let run = |&setting| {
                let trial = Trial { draw, setting };
                Ok((trial, stand.run(&trial).with_context(|| format!("trial {}", trial.key()))?))
            };
            settings.iter().map(run).collect()
        })
    }

    /// Calls `work` with a tuner that has observed the draw's samples.
    ///
    /// # Errors
    /// Those of `work`, and what the runtime refuses.
    pub fn with_stand<R>(
        &self,
        draw: Draw,
        gradient_buffer: bool,
        work: impl FnOnce(&mut Stand) -> Result<R>,
    ) -> Result<R> {
        let ground = self.ground(draw)?;
        let samples = self.samples(draw)?;
        let capacity = u16::try_from(samples.len())?;
        let recipe = Recipe {
            replay_capacity: capacity,
            sharpness_batch: if gradient_buffer { 2 } else { 1 },
            keep_best: true,
            // Room for every optimizer and method.
            optimizer: Optimizer::Adam,
            method: Method::Asam,
            ..Recipe::DEFAULT
        };
        let mut words = tuner_arena(&ground.file, &recipe);
        let mut tuner = Tuner::new(ground.file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        for (input, label) in &samples {
            tuner.observe(input, *label)?;
        }
        let Ground { test, factory, .. } = &*ground;
        work(&mut Stand { tuner, test, samples: &samples, factory: *factory, capacity })
    }

    /// Accuracy of the int8 network before tuning.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn factory(&self, draw: Draw) -> Result<f64> {
        Ok(self.ground(draw)?.factory)
    }

    /// The draw's labelled inputs of the network in [`Ground`].
    fn samples(&self, draw: Draw) -> Result<Vec<Labelled>> {
        match (draw.task, draw.start) {
            (Task::Wearers, Start::Hidden { .. }) => {
                let factory = Draw { start: Start::Factory, layers: 2, ..draw };
                let ground = self.ground(factory)?;
                latents(&ground.file, &self.samples(factory)?)
            }
            (Task::Wearers, _) => Ok(wearer(draw)?.adaptation),
            _ => Ok(self.corpus(draw)?.adaptation(&draw)),
        }
    }

    fn corpus(&self, draw: Draw) -> Result<Arc<Corpus>> {
        let poisoned = || anyhow::anyhow!("another run has failed");
        // Held while it is read: several draws want the same.
        let mut known = self.corpora.lock().map_err(|_| poisoned())?;
        let shape = match draw.start {
            Start::Hidden { .. } => draw.start,
            _ => Start::Factory,
        };
        let key = (draw.task, draw.subject, draw.start.pretraining(), shape);
        if let Some(found) = known.get(&key) {
            return Ok(found.clone());
        }
        let corpus = Arc::new(Corpus::open(draw.task, draw.subject, draw.start, &self.folder)?);
        known.insert(key, corpus.clone());
        Ok(corpus)
    }

    fn ground(&self, draw: Draw) -> Result<Arc<Ground>> {
        // What shapes the pack; the rest is the draw's own.
        let start = match draw.start {
            Start::Hidden { .. } | Start::After(_) => draw.start,
            _ => Start::Factory,
        };
        let Draw { task, subject, layers, unit, .. } = draw;
        let key = Draw { task, subject, layers, unit, start, ..Draw::WEARERS };
        let known = || self.grounds.lock().map_err(|_| anyhow::anyhow!("another run has failed"));
        if let Some(found) = known()?.get(&key) {
            return Ok(found.clone());
        }
        let prepared = Arc::new(self.prepare(key)?);
        Ok(known()?.entry(key).or_insert(prepared).clone())
    }

    fn prepare(&self, draw: Draw) -> Result<Ground> {
        let (file, inputs) = match (draw.task, draw.start) {
            (Task::Wearers, Start::Hidden { units, layers }) => {
                // The trunk of two layers lies before all new layers.
                let factory = self.ground(Draw { start: Start::Factory, layers: 2, ..draw })?;
                let (feature, classes) = (factory.file.pack().feature(), factory.file.pack().output().len());
                let network = dense::hidden(feature.affine, feature.len(), (units, layers), classes);
                (dense::pack(&network)?, factory.test.clone())
            }
            (Task::Wearers, _) => {
                let subject = wearer(draw)?;
                (subject.model.pack(draw.layers)?, subject.test)
            }
            (task, Start::Hidden { .. }) if task != Task::Mnist1d => {
                bail!("{}: the hidden layer's width is fixed", draw.task.title())
            }
            _ => {
                let corpus = self.corpus(draw)?;
                (corpus.pack(draw.layers)?, corpus.test.clone())
            }
        };
        let file = if draw.unit == LatentUnit::Model { scale::unfolded(&file)? } else { file };
        let test = latents(&file, &inputs)?;
        let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
        let mut words = tuner_arena(&file, &recipe);
        let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        let factory = accuracy_on(&mut tuner, &test, Version::Factory)?;
        drop(tuner);
        Ok(Ground { file, test, factory })
    }

    /// A number that changes when tuning gives other bits than before, so that results of another version of
    /// the code are not taken for this one's.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn fingerprint(&self) -> Result<u32> {
        let draw = Draw { noise: 20, ..Draw::WEARERS };
        let base = Setting { epochs: 1, ..Setting::FINGERPRINT };
        self.with_stand(draw, true, |stand| {
            let mut crc = 0u32;
            for setting in [
                Setting { method: Method::Sgd, label_smoothing: 0.1, ..base },
                Setting { method: Method::Sam, sharpness_batch: 16, rho: 0.05, ..base },
                base,
            ] {
                stand.tune(&Trial { draw, setting })?;
                crc = crc.rotate_left(1) ^ stand.tuner.weights_crc32();
            }
            Ok(crc)
        })
    }
}

fn wearer(draw: Draw) -> Result<Subject> {
    Subject::wearer(draw.subject, draw.per_class, f64::from(draw.noise) / 100.0, draw.seed)
}

/// What the trunk makes of the inputs.
fn latents(file: &PackFile, inputs: &[Labelled]) -> Result<Vec<Labelled>> {
    let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
    let mut words = tuner_arena(file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    inputs.iter().map(|(input, label)| Ok((tuner.latent(input)?.to_vec(), *label))).collect()
}

impl Stand<'_> {
    /// Tunes from the draw's start.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn tune(&mut self, trial: &Trial) -> Result<()> {
        let Trial { draw, setting } = trial;
        self.tuner.factory_reset();
        draw.start.begin(&mut self.tuner, draw)?;
        let recipe = setting.recipe(draw.seed, self.capacity);
        if setting.targets != Targets::Labels {
            return self.tune_softly(&recipe, setting.targets);
        }
        self.tuner.start(recipe)?;
        while !self.tuner.step()?.finished {}
        Ok(())
    }

    /// Where the runtime has no such targets.
    fn tune_softly(&mut self, recipe: &Recipe, targets: Targets) -> Result<()> {
        let tail = DenseChain::of(self.tuner.pack())?;
        let samples = self.features()?;
        let mut weights = self.tuner.weights().to_vec();
        soft_targets::train(&tail, &mut weights, &samples, recipe, targets)?;
        start::put(&mut self.tuner, &weights)
    }

    /// The adaptation samples as the f32 tail, a chain, sees them.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn features(&mut self) -> Result<Vec<soft_targets::Sample>> {
        let samples = self.samples;
        let features = |(input, label): &Labelled| {
            let latent = self.tuner.latent(input)?.to_vec();
            Ok((self.to_f32(&latent), *label))
        };
        samples.iter().map(features).collect()
    }

    /// A latent as the f32 tail, a chain, sees it.
    pub fn to_f32(&self, latent: &[i8]) -> Vec<f32> {
        let (unit, zero) = (self.tuner.pack().feature_unit(), self.tuner.pack().feature().affine.zero_point);
        latent.iter().map(|&q| unit * (i32::from(q) - zero) as f32).collect()
    }

    fn run(&mut self, trial: &Trial) -> Result<Outcome> {
        self.tune(trial)?;
        let macs = self.tuner.macs();
        self.tuner.requantize()?;
        let accuracy = accuracy_on(&mut self.tuner, self.test, Version::Tuned)?;
        let (mut right, mut loss) = (0, 0.0);
        for (latent, label) in self.test {
            let score = self.tuner.score_latent(latent, *label)?;
            right += usize::from(score.class == *label);
            loss += f64::from(score.loss);
        }
        let count = self.test.len().max(1) as f64;
        Ok(Outcome {
            factory: self.factory,
            accuracy,
            accuracy_f32: right as f64 / count,
            loss: loss / count,
            sharpness: f64::from(self.tuner.evaluate(SHARPNESS_RHO)?.sharpness),
            macs,
        })
    }
}
