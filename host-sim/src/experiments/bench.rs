//! Runs trials with the crate's tuner. The trunk runs once for a draw's windows and once for a wearer's test
//! windows, whatever the number of trials.

use super::trial::{Draw, Outcome, Setting, Trial, WINDOWS_PER_CLASS};
use crate::model::Model;
use crate::packer::PackFile;
use crate::tuning::{Labelled, SHARPNESS_RHO, Subject};
use anyhow::{Context, Result};
use flatmin::{MemoryPlan, Method, Recipe, Tuner, Version};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What does not change from draw to draw: a wearer's pack and the latents of the test windows.
struct Wearer {
    file: PackFile,
    test: Vec<Labelled>,
    factory: f64,
}

/// Wearers by number and layers, prepared when first asked for.
#[derive(Default)]
pub struct Bench {
    wearers: Mutex<HashMap<(usize, usize), Arc<Wearer>>>,
}

/// A tuner on one draw's windows, and the test latents.
pub struct Stand<'a> {
    /// The tuner, its replay filled.
    pub tuner: Tuner<'a>,
    /// Latents of the test windows, with their labels.
    pub test: &'a [Labelled],
    /// The adaptation windows, with the labels that are tuned on.
    pub windows: &'a [Labelled],
    factory: f64,
    capacity: u16,
}

impl Bench {
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

    /// Calls `work` with a tuner that has observed the draw's windows.
    ///
    /// # Errors
    /// Those of `work`, and what the runtime refuses.
    pub fn with_stand<R>(
        &self,
        draw: Draw,
        gradient_buffer: bool,
        work: impl FnOnce(&mut Stand) -> Result<R>,
    ) -> Result<R> {
        let subject =
            Subject::wearer(draw.wearer, WINDOWS_PER_CLASS, f64::from(draw.noise) / 100.0, draw.seed)?;
        let wearer = self.wearer(draw, &subject)?;
        let capacity = u16::try_from(subject.adaptation.len())?;
        let recipe = Recipe {
            replay_capacity: capacity,
            sharpness_batch: if gradient_buffer { 2 } else { 1 },
            ..Recipe::DEFAULT
        };
        let mut words = arena(&wearer.file, &recipe);
        let mut tuner = Tuner::new(wearer.file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
        for (input, label) in &subject.adaptation {
            tuner.observe(input, *label)?;
        }
        work(&mut Stand {
            tuner,
            test: &wearer.test,
            windows: &subject.adaptation,
            factory: wearer.factory,
            capacity,
        })
    }

    fn wearer(&self, draw: Draw, subject: &Subject) -> Result<Arc<Wearer>> {
        let key = (draw.wearer, draw.layers);
        let known = || self.wearers.lock().map_err(|_| anyhow::anyhow!("another run has failed"));
        if let Some(found) = known()?.get(&key) {
            return Ok(found.clone());
        }
        let prepared = Arc::new(prepare(&subject.model, draw.layers, &subject.test)?);
        Ok(known()?.entry(key).or_insert(prepared).clone())
    }

    /// A number that changes when tuning gives other bits than before, so that results of another version of
    /// the code are not taken for this one's.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn fingerprint(&self) -> Result<u32> {
        let draw = Draw { wearer: 1, seed: 1, noise: 20, layers: 2 };
        let base = Setting { epochs: 1, ..Setting::DEFAULT };
        self.with_stand(draw, true, |stand| {
            let mut crc = 0u32;
            for setting in [
                Setting { method: Method::Sgd, label_smoothing: 0.1, ..base },
                Setting { method: Method::Sam, sharpness_batch: 16, rho: 0.05, ..base },
                Setting { method: Method::Asam, ..base },
            ] {
                stand.tune(&Trial { draw, setting })?;
                crc = crc.rotate_left(1) ^ stand.tuner.weights_crc32();
            }
            Ok(crc)
        })
    }
}

fn arena(file: &PackFile, recipe: &Recipe) -> Vec<u128> {
    let bytes = MemoryPlan::new(&file.pack().sizes(), recipe).total_bytes();
    vec![0; bytes.div_ceil(16)]
}

fn prepare(model: &Model, layers: usize, windows: &[Labelled]) -> Result<Wearer> {
    let file = model.pack(layers)?;
    let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
    let mut words = arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    let test: Vec<Labelled> = (windows.iter())
        .map(|(input, label)| Ok((tuner.latent(input)?.to_vec(), *label)))
        .collect::<Result<_>>()?;
    let factory = accuracy(&mut tuner, &test, Version::Factory)?;
    drop(tuner);
    Ok(Wearer { file, test, factory })
}

/// Share of the int8 network's right answers; the first among equal outputs answers.
pub fn accuracy(tuner: &mut Tuner, latents: &[Labelled], version: Version) -> Result<f64> {
    let mut right = 0;
    for (latent, label) in latents {
        let output = tuner.classify_latent(latent, version)?;
        let answer = (0..output.len()).rev().max_by_key(|&class| output[class]);
        right += usize::from(answer == Some(*label));
    }
    Ok(right as f64 / latents.len().max(1) as f64)
}

impl Stand<'_> {
    /// Tunes from the factory weights.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn tune(&mut self, trial: &Trial) -> Result<()> {
        self.tuner.factory_reset();
        self.tuner.start(trial.setting.recipe(trial.draw.seed, self.capacity))?;
        while !self.tuner.step()?.finished {}
        Ok(())
    }

    fn run(&mut self, trial: &Trial) -> Result<Outcome> {
        self.tune(trial)?;
        let macs = self.tuner.macs();
        self.tuner.requantize()?;
        let accuracy = accuracy(&mut self.tuner, self.test, Version::Tuned)?;
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
