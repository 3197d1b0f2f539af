//! Hyperparameters to choose among.

use crate::tuning::method_name;
use flatmin::{Method, Optimizer, Recipe, RhoUnit};
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
    /// What it is measured in.
    #[serde(default = "weights")]
    pub rho_unit: RhoUnit,
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

// What rho was measured in before there was a choice.
fn weights() -> RhoUnit {
    RhoUnit::Weights
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
        rho_unit: Recipe::DEFAULT.rho_unit,
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
        rho_unit: RhoUnit::Weights,
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
            rho_unit: self.rho_unit,
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
        let method = method_name(self.method).to_uppercase();
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
            let unit = if self.rho_unit == RhoUnit::Nats { " nats" } else { "" };
            write!(f, ", rho {}{unit}", self.rho)?;
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
