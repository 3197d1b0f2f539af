//! One tuning run: what determines it, and what came out.

use super::start::Start;
use super::task::Task;
use flatmin::{Method, Optimizer, Recipe};
use serde::{Deserialize, Serialize};

/// What a sample is drawn to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub enum Targets {
    /// Its label, with the setting's label smoothing.
    #[default]
    Labels,
    /// Latents and labels mixed with another sample's of the minibatch, by a share from Beta(alpha, alpha)
    /// (Zhang et al. 2017, at the cut as Verma et al. 2018).
    Mixup(f32),
    /// `-sum (beta y + (1 - beta) p) ln p` (Reed et al. 2014, equation 2).
    BootstrapSoft(f32),
    /// The same with the likeliest class in place of `p` (equation 3).
    BootstrapHard(f32),
}

/// Hyperparameters that experiments vary; the others are [`Recipe::DEFAULT`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// What is done around the base optimizer.
    pub method: Method,
    /// The base optimizer.
    #[serde(default = "sgd")]
    pub optimizer: Optimizer,
    /// Samples that share one ascent.
    pub sharpness_batch: u16,
    /// Steps from one that ascends to the next.
    #[serde(default = "every_step")]
    pub ascent_every: u16,
    /// Radius of the ascent; 0 for SGD.
    pub rho: f32,
    /// Label smoothing.
    pub label_smoothing: f32,
    /// Step size.
    pub learning_rate: f32,
    /// Share of the steps over which it rises.
    #[serde(default)]
    pub warm_up: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Passes over the windows.
    pub epochs: u16,
    /// What samples are drawn to.
    #[serde(default)]
    pub targets: Targets,
    /// Share of the samples that is held out to stop early by; 0 ends with the last epoch's weights.
    #[serde(default)]
    pub held_out: f32,
}

fn sgd() -> Optimizer {
    Optimizer::Sgd
}

fn every_step() -> u16 {
    1
}

impl Setting {
    /// What the shipped recipe says.
    pub const DEFAULT: Self = Self {
        method: Recipe::DEFAULT.method,
        optimizer: Recipe::DEFAULT.optimizer,
        sharpness_batch: Recipe::DEFAULT.sharpness_batch,
        ascent_every: Recipe::DEFAULT.ascent_every,
        rho: Recipe::DEFAULT.rho,
        label_smoothing: Recipe::DEFAULT.label_smoothing,
        learning_rate: Recipe::DEFAULT.learning_rate,
        warm_up: Recipe::DEFAULT.warm_up,
        weight_decay: Recipe::DEFAULT.weight_decay,
        epochs: Recipe::DEFAULT.epochs,
        targets: Targets::Labels,
        held_out: Recipe::DEFAULT.held_out,
    };

    /// What the code's fingerprint is taken of, whatever recipe ships.
    pub const FINGERPRINT: Self = Self {
        method: Method::Asam,
        optimizer: Optimizer::Sgd,
        sharpness_batch: 1,
        ascent_every: 1,
        rho: 0.5,
        label_smoothing: 0.0,
        learning_rate: 0.005,
        warm_up: 0.0,
        weight_decay: 1e-3,
        epochs: 30,
        targets: Targets::Labels,
        held_out: 0.0,
    };

    /// The recipe, with this seed for the order of samples.
    pub fn recipe(&self, seed: u64, replay_capacity: u16) -> Recipe {
        Recipe {
            method: self.method,
            optimizer: self.optimizer,
            sharpness_batch: self.sharpness_batch,
            ascent_every: self.ascent_every,
            rho: self.rho,
            label_smoothing: self.label_smoothing,
            learning_rate: self.learning_rate,
            warm_up: self.warm_up,
            weight_decay: self.weight_decay,
            epochs: self.epochs,
            held_out: self.held_out,
            keep_best: self.held_out > 0.0,
            seed,
            replay_capacity,
            ..Recipe::DEFAULT
        }
    }
}

/// In words.
impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let method = crate::tuning::method_name(self.method).to_uppercase();
        match (self.optimizer, self.method) {
            (Optimizer::Sgd, _) => write!(f, "{method}, ")?,
            (Optimizer::Adam, Method::Sgd) => write!(f, "ADAM, ")?,
            (Optimizer::Adam, _) => write!(f, "ADAM, {method}, ")?,
        }
        if self.method != Method::Sgd {
            write!(f, "m {}, ", self.sharpness_batch)?;
        }
        if self.ascent_every > 1 {
            write!(f, "ascent every {} steps, ", self.ascent_every)?;
        }
        write!(f, "lr {}, {} epochs", self.learning_rate, self.epochs)?;
        if self.warm_up > 0.0 {
            write!(f, ", warm-up {} %", 100.0 * self.warm_up)?;
        }
        if self.rho > 0.0 {
            write!(f, ", rho {}", self.rho)?;
        }
        if self.label_smoothing > 0.0 {
            write!(f, ", smoothing {}", self.label_smoothing)?;
        }
        match self.targets {
            Targets::Labels => {}
            Targets::Mixup(alpha) => write!(f, ", mixup {alpha}")?,
            Targets::BootstrapSoft(beta) => write!(f, ", soft bootstrap {beta}")?,
            Targets::BootstrapHard(beta) => write!(f, ", hard bootstrap {beta}")?,
        }
        if self.held_out > 0.0 {
            write!(f, ", best epoch by {} % held out", 100.0 * self.held_out)?;
        }
        write!(f, ", decay {}", self.weight_decay)
    }
}

/// Where the latents' unit is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum LatentUnit {
    /// 1/128 of the f32 tail's unit a quantization step, folded into the first layer, as `flatmin pack` does it.
    #[default]
    Packed,
    /// The model's own scale.
    Model,
}

/// The data of a trial: whose, which samples of them, how many labels are flipped, and where the tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Draw {
    /// Which data.
    #[serde(default)]
    pub task: Task,
    /// The held-out wearer, speaker, user or month, from 1.
    #[serde(alias = "wearer")]
    pub subject: usize,
    /// Seed of the draw of samples, of flipped labels, of random weights and of the order of samples.
    pub seed: u64,
    /// Flipped labels in percent.
    pub noise: u32,
    /// Layers that are tuned.
    pub layers: usize,
    /// What the tail is before tuning.
    #[serde(default)]
    pub start: Start,
    /// Labelled samples a class, where there are as many.
    #[serde(default = "usual")]
    pub per_class: usize,
    /// Scale of the tail's input.
    #[serde(default)]
    pub unit: LatentUnit,
}

fn usual() -> usize {
    Draw::WEARERS.per_class
}

impl Draw {
    /// The bundled task: the last two layers, 9 windows a class, as many as every wearer has.
    pub const WEARERS: Self = Self {
        task: Task::Wearers,
        subject: 1,
        seed: 1,
        noise: 0,
        layers: 2,
        start: Start::Factory,
        per_class: 9,
        unit: LatentUnit::Packed,
    };
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its data.
    pub draw: Draw,
    /// Its hyperparameters.
    pub setting: Setting,
}

impl Trial {
    /// Names the trial in files and maps.
    pub fn key(&self) -> String {
        let Draw { task, subject, seed, noise, layers, start, per_class, unit } = self.draw;
        let s = &self.setting;
        // What came later is named where it is used alone: older results keep their keys.
        let mut later = String::new();
        if s.optimizer != Optimizer::Sgd {
            later += " Adam";
        }
        if s.ascent_every != 1 {
            later += &format!(" every {}", s.ascent_every);
        }
        if s.warm_up != 0.0 {
            later += &format!(" warm {}", s.warm_up);
        }
        format!(
            "{task:?} {subject} {seed} {noise} {layers} {start:?} {per_class} {unit:?} {:?} {} {} {} {} {} {} {:?} {}{later}",
            s.method,
            s.sharpness_batch,
            s.rho,
            s.label_smoothing,
            s.learning_rate,
            s.weight_decay,
            s.epochs,
            s.targets,
            s.held_out
        )
    }
}

/// What came out. Accuracies are shares of the subject's test samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Of the factory's int8 network.
    pub factory: f64,
    /// Of the tuned and requantized network, which is what a device runs.
    pub accuracy: f64,
    /// Of the tuned tail in f32.
    pub accuracy_f32: f64,
    /// Mean cross-entropy on the test samples, f32 tail.
    pub loss: f64,
    /// Mean rise of an adaptation sample's loss at its own worst step of
    /// [`crate::tuning::SHARPNESS_RHO`].
    pub sharpness: f64,
    /// Multiply-adds of the tuning steps alone.
    pub macs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_json() {
        let setting = Setting { learning_rate: 0.0005, rho: 0.3, ..Setting::DEFAULT };
        let trial = Trial { draw: Draw { subject: 3, seed: 1_002, noise: 20, ..Draw::WEARERS }, setting };
        let back: Trial = serde_json::from_str(&serde_json::to_string(&trial).unwrap()).unwrap();
        assert_eq!(back.key(), trial.key());
        let old = r#"{"wearer":3,"seed":1002,"noise":20,"layers":2}"#;
        assert_eq!(serde_json::from_str::<Draw>(old).unwrap(), trial.draw);
        for other in [
            Setting { epochs: 7, ..setting },
            Setting { ascent_every: 4, ..setting },
            Setting { warm_up: 0.1, ..setting },
            Setting { optimizer: Optimizer::Adam, ..setting },
        ] {
            assert_ne!(Trial { setting: other, ..trial }.key(), trial.key(), "{other}");
        }
    }
}
