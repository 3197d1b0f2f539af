//! One tuning run of the bundled task: what determines it, and what came out.

use flatmin::{Method, Recipe};
use serde::{Deserialize, Serialize};

/// Labelled windows a class that every trial tunes on: as many as every wearer has.
pub const WINDOWS_PER_CLASS: usize = 9;

/// Hyperparameters that experiments vary; the others are [`Recipe::DEFAULT`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The optimizer.
    pub method: Method,
    /// Samples that share one ascent.
    pub sharpness_batch: u16,
    /// Radius of the ascent; 0 for SGD.
    pub rho: f32,
    /// Label smoothing.
    pub label_smoothing: f32,
    /// Step size.
    pub learning_rate: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Passes over the windows.
    pub epochs: u16,
}

impl Setting {
    /// What the shipped recipe says.
    pub const DEFAULT: Self = Self {
        method: Recipe::DEFAULT.method,
        sharpness_batch: Recipe::DEFAULT.sharpness_batch,
        rho: Recipe::DEFAULT.rho,
        label_smoothing: Recipe::DEFAULT.label_smoothing,
        learning_rate: Recipe::DEFAULT.learning_rate,
        weight_decay: Recipe::DEFAULT.weight_decay,
        epochs: Recipe::DEFAULT.epochs,
    };

    /// The recipe, with this seed for the order of samples.
    pub fn recipe(&self, seed: u64, replay_capacity: u16) -> Recipe {
        Recipe {
            method: self.method,
            sharpness_batch: self.sharpness_batch,
            rho: self.rho,
            label_smoothing: self.label_smoothing,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            epochs: self.epochs,
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
        write!(f, "{method}, ")?;
        if self.method != Method::Sgd {
            write!(f, "m {}, ", self.sharpness_batch)?;
        }
        write!(f, "lr {}, {} epochs", self.learning_rate, self.epochs)?;
        if self.rho > 0.0 {
            write!(f, ", rho {}", self.rho)?;
        }
        if self.label_smoothing > 0.0 {
            write!(f, ", smoothing {}", self.label_smoothing)?;
        }
        write!(f, ", decay {}", self.weight_decay)
    }
}

/// The data of a trial: a wearer, a draw of windows, a share of flipped labels, and where the tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Draw {
    /// The held-out wearer, 1 to 10.
    pub wearer: usize,
    /// Seed of the draw of windows, of flipped labels and of the order of samples.
    pub seed: u64,
    /// Flipped labels in percent.
    pub noise: u32,
    /// Dense layers that are tuned.
    pub layers: usize,
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
        let Draw { wearer, seed, noise, layers } = self.draw;
        let s = &self.setting;
        format!(
            "{wearer} {seed} {noise} {layers} {:?} {} {} {} {} {} {}",
            s.method, s.sharpness_batch, s.rho, s.label_smoothing, s.learning_rate, s.weight_decay, s.epochs
        )
    }
}

/// What came out. Accuracies are shares of the wearer's test windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Of the factory's int8 network.
    pub factory: f64,
    /// Of the tuned and requantized network, which is what a device runs.
    pub accuracy: f64,
    /// Of the tuned tail in f32.
    pub accuracy_f32: f64,
    /// Mean cross-entropy on the test windows, f32 tail.
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
        let trial = Trial { draw: Draw { wearer: 3, seed: 1_002, noise: 20, layers: 2 }, setting };
        let back: Trial = serde_json::from_str(&serde_json::to_string(&trial).unwrap()).unwrap();
        assert_eq!(back.key(), trial.key());
        assert_ne!(Trial { setting: Setting { epochs: 7, ..setting }, ..trial }.key(), trial.key());
    }
}
