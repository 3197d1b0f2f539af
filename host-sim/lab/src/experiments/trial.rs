//! One tuning run: what determines it, and what came out.

use super::task::Task;
use flatmin::{Method, Optimizer, Recipe, RhoUnit};
pub use flatmin_sim::setting::{Setting, Targets};
use serde::{Deserialize, Serialize};

/// Where the latents' unit is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum LatentUnit {
    /// 1/128 of the f32 tail's unit a quantization step, folded into the first layer, as `flatmin pack` does it.
    #[default]
    Packed,
    /// The model's own scale.
    Model,
}

/// What a tail is before it is tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Start {
    /// The pretrained weights.
    #[default]
    Factory,
    /// The last layer drawn anew, the others pretrained: new classes.
    NewHead,
    /// All layers drawn anew.
    Random,
    /// All layers drawn anew: so many hidden ones, of so many units each.
    Hidden {
        /// Units per hidden layer.
        units: u16,
        /// Hidden layers.
        layers: u8,
    },
    /// Pretrained weights of another method.
    After(Pretraining),
    /// The pretrained function with the hidden channels' scales spread over so many powers of two, which the next
    /// layer undoes.
    Rescaled(u8),
}

/// What a factory's tail was trained with, where that is done here: [`Start::Factory`] has SGD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pretraining {
    /// SAM with m = 1 and rho = 0.1.
    Sam,
    /// ASAM with m = 1 and rho = 1.
    Asam,
}

impl Pretraining {
    /// The factory's recipe with this method.
    pub fn apply(self, recipe: Recipe) -> Recipe {
        match self {
            Self::Sam => Recipe { method: Method::Sam, rho: 0.1, rho_unit: RhoUnit::Weights, ..recipe },
            Self::Asam => Recipe { method: Method::Asam, rho: 1.0, rho_unit: RhoUnit::Weights, ..recipe },
        }
    }
}

impl Start {
    /// How the factory's tail was trained, if not with SGD.
    pub fn pretraining(self) -> Option<Pretraining> {
        match self {
            Self::After(pretraining) => Some(pretraining),
            _ => None,
        }
    }
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
        if s.rho > 0.0 && s.rho_unit == RhoUnit::Nats {
            later += " nats";
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
    /// [`flatmin_sim::tuning::SHARPNESS_RHO`].
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
            Setting { rho_unit: RhoUnit::Weights, ..setting },
            Setting { ascent_every: 4, ..setting },
            Setting { warm_up: 0.1, ..setting },
            Setting { optimizer: Optimizer::Adam, ..setting },
        ] {
            assert_ne!(Trial { setting: other, ..trial }.key(), trial.key(), "{other}");
        }
    }
}
