//! The methods that are compared, each with the same number of settings to choose among.

use crate::setting::{Setting, Targets};
use flatmin::{Method, Optimizer, RhoUnit};

/// Learning rates that every method is tuned over.
pub const LEARNING_RATES: [f32; 6] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02];
/// Likewise of tails that begin with random weights.
const RATES_FROM_SCRATCH: [f32; 6] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1];
/// Epochs, one or the other by turns: learning rate times epochs is what counts, and each is tried with every
/// strength.
const EPOCHS: [u16; 2] = [10, 30];
/// Strengths that each learning rate is tried with, by index: one in few epochs and one in many; each strength with three
/// rates, and not all of them in as many epochs.
const TRIED: [[usize; 2]; 6] = [[0, 1], [2, 3], [1, 2], [0, 3], [2, 3], [0, 1]];
/// Weight decay where it is not what is tuned.
const WEIGHT_DECAY: f32 = 1e-3;

/// A method with one regularizer to tune.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contender {
    /// Name in tables.
    pub name: &'static str,
    method: Method,
    optimizer: Optimizer,
    sharpness_batch: u16,
    ascent_every: u16,
    warm_up: f32,
    regularizer: Regularizer,
    strengths: [f32; 4],
    rho_unit: RhoUnit,
    /// Label smoothing beside the regularizer.
    smoothing: f32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Regularizer {
    WeightDecay,
    LabelSmoothing,
    Rho,
    Mixup,
    BootstrapSoft,
    BootstrapHard,
}

/// SGD, whose regularizer is weight decay.
pub const SGD: Contender = Contender {
    name: "SGD",
    method: Method::Sgd,
    optimizer: Optimizer::Sgd,
    sharpness_batch: 1,
    ascent_every: 1,
    warm_up: 0.0,
    regularizer: Regularizer::WeightDecay,
    strengths: [1e-3, 1e-2, 3e-2, 1e-1],
    rho_unit: RhoUnit::Weights,
    smoothing: 0.0,
};
/// SGD with label smoothing, the baseline to beat.
pub const SMOOTHED: Contender = Contender {
    name: "SGD, label smoothing",
    method: Method::Sgd,
    optimizer: Optimizer::Sgd,
    sharpness_batch: 1,
    ascent_every: 1,
    warm_up: 0.0,
    regularizer: Regularizer::LabelSmoothing,
    strengths: [0.05, 0.1, 0.2, 0.4],
    rho_unit: RhoUnit::Weights,
    smoothing: 0.0,
};

/// SAM with m samples to an ascent.
pub const fn sam(name: &'static str, sharpness_batch: u16) -> Contender {
    let strengths = [0.02, 0.05, 0.1, 0.2];
    Contender {
        name,
        method: Method::Sam,
        optimizer: Optimizer::Sgd,
        sharpness_batch,
        ascent_every: 1,
        warm_up: 0.0,
        regularizer: Regularizer::Rho,
        strengths,
        rho_unit: RhoUnit::Weights,
        smoothing: 0.0,
    }
}

/// ASAM likewise.
pub const fn asam(name: &'static str, sharpness_batch: u16) -> Contender {
    let strengths = [0.2, 0.5, 1.0, 2.0];
    Contender {
        name,
        method: Method::Asam,
        optimizer: Optimizer::Sgd,
        sharpness_batch,
        ascent_every: 1,
        warm_up: 0.0,
        regularizer: Regularizer::Rho,
        strengths,
        rho_unit: RhoUnit::Weights,
        smoothing: 0.0,
    }
}

/// SAM whose ascent moves biases alone, likewise.
pub const fn sam_on(name: &'static str, sharpness_batch: u16) -> Contender {
    Contender { method: Method::SamOn, ..sam(name, sharpness_batch) }
}

/// AdamW with moments in 8 bits, at a fifth of the others' learning rates.
pub const ADAM: Contender = Contender { name: "AdamW", optimizer: Optimizer::Adam, ..SGD };

impl Contender {
    /// Candidates with their radius tried in nats around the default's, which is the middle one.
    pub const fn in_nats(self) -> Self {
        Self { rho_unit: RhoUnit::Nats, strengths: [0.05, 0.1, 0.3, 1.0], ..self }
    }

    /// The same, ascending every so many steps alone (LookSAM's saving, without its buffer).
    pub const fn every(self, name: &'static str, ascent_every: u16) -> Self {
        Self { name, ascent_every, ..self }
    }

    /// The same, its learning rate rising over this share of the steps.
    pub const fn warmed(self, name: &'static str, warm_up: f32) -> Self {
        Self { name, warm_up, ..self }
    }

    /// The same around AdamW.
    pub const fn around_adam(self, name: &'static str) -> Self {
        Self { name, optimizer: Optimizer::Adam, ..self }
    }
}

/// Those of `noisy-labels`, baselines first.
pub const CONTENDERS: [Contender; 11] = [
    SGD,
    SMOOTHED,
    sam("SAM, m = 1", 1),
    sam("SAM, m = 16", 16),
    asam("ASAM, m = 1", 1),
    asam("ASAM, m = 16", 16),
    Contender { name: "SAM, m = 1, smoothing 0.2", smoothing: 0.2, ..sam("", 1) },
    Contender { name: "ASAM, m = 1, smoothing 0.2", smoothing: 0.2, ..asam("", 1) },
    MIXUP,
    Contender {
        name: "SGD, soft bootstrap",
        regularizer: Regularizer::BootstrapSoft,
        strengths: [0.95, 0.8, 0.6, 0.4],
        ..SGD
    },
    Contender {
        name: "SGD, hard bootstrap",
        regularizer: Regularizer::BootstrapHard,
        strengths: [0.9, 0.8, 0.6, 0.4],
        ..SGD
    },
];
/// SGD on latents that are mixed in pairs.
const MIXUP: Contender =
    Contender { name: "SGD, mixup", regularizer: Regularizer::Mixup, strengths: [0.1, 0.2, 0.4, 1.0], ..SGD };

impl Contender {
    /// The trials that the choice is made among: those of [`Self::grid`] that `TRIED` names.
    pub fn settings(&self, quick: bool) -> Vec<Setting> {
        self.settings_among(LEARNING_RATES, EPOCHS, Self::tried(quick))
    }

    /// The same, for tails that have a longer way to go.
    pub fn settings_from_scratch(&self, quick: bool) -> Vec<Setting> {
        self.settings_among(RATES_FROM_SCRATCH, EPOCHS.map(|epochs| 2 * epochs), Self::tried(quick))
    }

    /// Every learning rate with every strength, in few epochs or in many by turns.
    pub fn grid(&self) -> Vec<Setting> {
        self.settings_among(LEARNING_RATES, EPOCHS, |_, _| true)
    }

    /// Whether a learning rate and a strength are tried together.
    fn tried(quick: bool) -> impl Fn(usize, usize) -> bool {
        move |rate, strength| match quick {
            true => strength == 2 && rate % 2 == 1,
            false => TRIED[rate].contains(&strength),
        }
    }

    fn settings_among(
        &self,
        rates: [f32; 6],
        epochs: [u16; 2],
        tried: impl Fn(usize, usize) -> bool,
    ) -> Vec<Setting> {
        let mut settings = Vec::new();
        for (i, learning_rate) in rates.into_iter().enumerate() {
            for (j, strength) in self.strengths.into_iter().enumerate() {
                if tried(i, j) {
                    let learning_rate = self.rate(learning_rate);
                    let plain = Setting { learning_rate, epochs: epochs[(i + j) % 2], ..self.plain() };
                    settings.push(self.with_strength(plain, strength));
                }
            }
        }
        settings
    }

    fn with_strength(&self, plain: Setting, strength: f32) -> Setting {
        match self.regularizer {
            Regularizer::WeightDecay => Setting { weight_decay: strength, ..plain },
            Regularizer::LabelSmoothing => Setting { label_smoothing: strength, ..plain },
            Regularizer::Rho => Setting { rho: strength, ..plain },
            Regularizer::Mixup => Setting { targets: Targets::Mixup(strength), ..plain },
            Regularizer::BootstrapSoft => Setting { targets: Targets::BootstrapSoft(strength), ..plain },
            Regularizer::BootstrapHard => Setting { targets: Targets::BootstrapHard(strength), ..plain },
        }
    }

    /// With a middle strength, by which nothing is tuned: smoothing 0.2, rho 0.1 (SAM), 1 (ASAM) or 0.3 nats; of SGD the
    /// weight decay that the others have.
    pub fn middle(&self, learning_rate: f32, epochs: u16) -> Setting {
        let plain = Setting { learning_rate: self.rate(learning_rate), epochs, ..self.plain() };
        match self.regularizer {
            Regularizer::WeightDecay => plain,
            _ => self.with_strength(plain, self.strengths[2]),
        }
    }

    /// With the strength of this index, from 0 to 3.
    pub fn at(&self, learning_rate: f32, epochs: u16, strength: usize) -> Setting {
        let plain = Setting { learning_rate: self.rate(learning_rate), epochs, ..self.plain() };
        self.with_strength(plain, self.strengths[strength])
    }

    /// Trials with this number of epochs: every learning rate with the middle strength.
    pub fn settings_for(&self, epochs: u16, quick: bool) -> Vec<Setting> {
        let rates = if quick { &LEARNING_RATES[1..3] } else { &LEARNING_RATES[..] };
        rates.iter().map(|&rate| self.middle(rate, epochs)).collect()
    }

    /// The learning rate where SGD with momentum has this one.
    fn rate(&self, learning_rate: f32) -> f32 {
        if self.optimizer == Optimizer::Adam { learning_rate / 5.0 } else { learning_rate }
    }

    /// Without a regularizer.
    fn plain(&self) -> Setting {
        Setting {
            method: self.method,
            optimizer: self.optimizer,
            sharpness_batch: self.sharpness_batch,
            ascent_every: self.ascent_every,
            warm_up: self.warm_up,
            rho: 0.0,
            rho_unit: self.rho_unit,
            label_smoothing: self.smoothing,
            weight_decay: WEIGHT_DECAY,
            ..Setting::DEFAULT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_and_every_strength_is_tried_in_few_epochs_and_in_many() {
        let settings = SMOOTHED.settings(false);
        let epochs = |chosen: &dyn Fn(&Setting) -> bool| {
            let mut all: Vec<u16> = settings.iter().filter(|s| chosen(s)).map(|s| s.epochs).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        for rate in LEARNING_RATES {
            assert_eq!(epochs(&|s| s.learning_rate == rate), EPOCHS, "{rate}");
        }
        for strength in SMOOTHED.strengths {
            assert_eq!(epochs(&|s| s.label_smoothing == strength), EPOCHS, "{strength}");
            assert_eq!(settings.iter().filter(|s| s.label_smoothing == strength).count(), 3, "{strength}");
        }
    }

    #[test]
    fn every_contender_gets_as_many_trials() {
        for contender in CONTENDERS {
            assert_eq!(contender.grid().len(), 24, "{}", contender.name);
            assert_eq!(contender.settings(false).len(), 12, "{}", contender.name);
            assert_eq!(contender.settings(true).len(), 3, "{}", contender.name);
            for setting in contender.grid() {
                assert!(setting.recipe(1, 63).check().is_ok(), "{setting}");
            }
        }
    }
}
