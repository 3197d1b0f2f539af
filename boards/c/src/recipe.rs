//! Hyperparameters as C has them.

use crate::flatmin_status;
use flatmin::{Method, Policy, Recipe, RhoUnit};

/// SGD with momentum.
pub const FLATMIN_SGD: u32 = 0;
/// Sharpness-aware minimization (Foret et al. 2020).
pub const FLATMIN_SAM: u32 = 1;
/// Adaptive sharpness-aware minimization (Kwon et al. 2021).
pub const FLATMIN_ASAM: u32 = 2;

/// Hyperparameters of a tuning run: those of flatmin::Recipe that a firmware changes. Begin with `flatmin_recipe_default`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flatmin_recipe {
    /// FLATMIN_SGD, FLATMIN_SAM or FLATMIN_ASAM.
    pub method: u32,
    /// Radius of the ascent in nats, from 0 to 1,000: about the rise of a mislabelled sample's loss.
    pub rho: f32,
    /// Step size of the descent, from 0 to 1,000.
    pub learning_rate: f32,
    /// Momentum, from 0 to below 1.
    pub momentum: f32,
    /// Weight decay, from 0 to 1.
    pub weight_decay: f32,
    /// Share of each label that is spread over all classes, from 0 to below 1.
    pub label_smoothing: f32,
    /// Share of each class that is held out and judges the tuned tail, from 0 to 0.5.
    pub held_out: f32,
    /// Passes over the samples, 1 to 65,535.
    pub epochs: u16,
    /// Samples per step, 1 to 65,535.
    pub minibatch: u16,
    /// Samples that are kept, 1 to 65,535; memory grows with it.
    pub replay_capacity: u16,
    /// When the replay is full, the class with most samples gives way in place of the oldest sample.
    pub balanced: bool,
    /// End with the best weights that the run has seen; takes memory for all parameters once more.
    pub keep_best: bool,
    /// Seed of the samples' order.
    pub seed: u64,
}

impl flatmin_recipe {
    fn of(recipe: &Recipe) -> Self {
        Self {
            method: match recipe.method {
                Method::Sgd => FLATMIN_SGD,
                Method::Asam => FLATMIN_ASAM,
                _ => FLATMIN_SAM,
            },
            rho: recipe.rho,
            learning_rate: recipe.learning_rate,
            momentum: recipe.momentum,
            weight_decay: recipe.weight_decay,
            label_smoothing: recipe.label_smoothing,
            held_out: recipe.held_out,
            epochs: recipe.epochs,
            minibatch: recipe.minibatch,
            replay_capacity: recipe.replay_capacity,
            balanced: !matches!(recipe.replay_policy, Policy::Oldest),
            keep_best: recipe.keep_best,
            seed: recipe.seed,
        }
    }

    /// The recipe, in range.
    pub(crate) fn read(&self) -> Result<Recipe, flatmin_status> {
        let recipe = Recipe {
            method: match self.method {
                FLATMIN_SGD => Method::Sgd,
                FLATMIN_SAM => Method::Sam,
                FLATMIN_ASAM => Method::Asam,
                _ => return Err(flatmin_status::FLATMIN_RECIPE),
            },
            rho: self.rho,
            rho_unit: RhoUnit::Nats,
            learning_rate: self.learning_rate,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            label_smoothing: self.label_smoothing,
            held_out: self.held_out,
            epochs: self.epochs,
            minibatch: self.minibatch,
            replay_capacity: self.replay_capacity,
            replay_policy: if self.balanced { Policy::Balanced } else { Policy::Oldest },
            keep_best: self.keep_best,
            seed: self.seed,
            ..Recipe::DEFAULT
        };
        recipe.check()?;
        Ok(recipe)
    }
}

/// The recipe to start from.
#[unsafe(no_mangle)]
pub extern "C" fn flatmin_recipe_default() -> flatmin_recipe {
    flatmin_recipe::of(&Recipe::DEFAULT)
}

/// The recipe of a run that goes on from `flatmin_solve` in more than two layers.
#[unsafe(no_mangle)]
pub extern "C" fn flatmin_recipe_from_closed_form() -> flatmin_recipe {
    flatmin_recipe::of(&Recipe::FROM_CLOSED_FORM)
}
