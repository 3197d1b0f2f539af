//! What a search chooses among, as plain data, and the candidates that are drawn from it.

use crate::setting::Setting;
use crate::tuning::{CLOSED_FORM, Start, Training, method_name};
use crate::wearers::SplitMix64;
use flatmin::{Method, Recipe};
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_model::recipe_file::{Hyperparameters, Limits, NamedMethod, RecipeFile};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a search chooses among. Any sampler may draw from it: a choice is a recipe's file, which
/// [`super::Objective::evaluate`] takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Space {
    /// Most layers with weights of a tail.
    pub layers: usize,
    /// What of each layer is trained, where a share of its channels can be.
    pub train: Vec<String>,
    /// Methods, as `--method` names them.
    pub methods: Vec<String>,
    /// Learning rates, by how many times the usual one they are: that depends on method and start.
    pub learning_rate_factors: Vec<f32>,
    /// Radii likewise.
    pub rho_factors: Vec<f32>,
    /// Label smoothing.
    pub label_smoothing: Vec<f32>,
    /// Epochs.
    pub epochs: Vec<u16>,
}

/// What of a layer is trained.
pub(super) const WAYS: [Trains; 5] =
    [Trains::Biases, Trains::Scales, Trains::Percent(25), Trains::Percent(50), Trains::All];
/// Methods that take steps.
const METHODS: [Method; 3] = [Method::Sgd, Method::Sam, Method::Asam];

impl Space {
    /// The space of tails of at most so many layers.
    pub fn new(layers: usize) -> Self {
        let mut methods: Vec<String> = METHODS.iter().map(|&own| method_name(own).to_owned()).collect();
        methods.push(CLOSED_FORM.to_owned());
        Self {
            layers,
            train: WAYS.iter().map(ToString::to_string).collect(),
            methods,
            learning_rate_factors: vec![0.5, 1.0, 2.5, 5.0],
            rho_factors: vec![0.5, 1.0, 2.0, 4.0],
            label_smoothing: vec![0.1, 0.2, 0.4],
            epochs: vec![10, 30, 60],
        }
    }

    /// A recipe for this tail, what `base` gives in place of what is drawn.
    pub(super) fn draw(
        &self,
        random: &mut SplitMix64,
        base: &RecipeFile,
        plan: &TailPlan,
        start: Start,
    ) -> Candidate {
        let mut one_of = |count: usize| random.below(count);
        let drawn = METHODS[one_of(METHODS.len())];
        let [rate, rho, smoothing, epochs] = [
            self.learning_rate_factors.len(),
            self.rho_factors.len(),
            self.label_smoothing.len(),
            self.epochs.len(),
        ]
        .map(&mut one_of);
        let method = match base.recipe.method {
            Some(NamedMethod::Steps(method)) => method,
            _ => drawn,
        };
        let usual = base.recipe(method, start);
        let drawn = RecipeFile {
            recipe: Hyperparameters {
                method: Some(NamedMethod::Steps(method)),
                learning_rate: Some(short(usual.learning_rate * self.learning_rate_factors[rate])),
                rho: Some(short(usual.rho * self.rho_factors[rho])),
                label_smoothing: Some(self.label_smoothing[smoothing]),
                epochs: Some(self.epochs[epochs]),
                ..Hyperparameters::default()
            },
            ..RecipeFile::default()
        };
        let recipe = base.clone().or(&drawn).recipe(method, start);
        Candidate { plan: plan.clone(), method: NamedMethod::Steps(method), start, recipe }
    }
}

/// Rounded to three digits, as people write numbers.
fn short(value: f32) -> f32 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// What is trained, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What is trained.
    pub plan: TailPlan,
    /// The method.
    pub method: NamedMethod,
    /// What steps begin with.
    pub start: Start,
    /// Hyperparameters.
    pub recipe: Recipe,
}

impl Candidate {
    /// The usual recipe, or what `base` gives in its place.
    pub fn usual(base: &RecipeFile, plan: TailPlan, method: NamedMethod, start: Start) -> Self {
        let training = Training::of(base, method, start);
        Self { plan, method, start: training.start, recipe: training.recipe }
    }

    /// How it is trained.
    pub(super) fn training(&self) -> Training {
        let steps = self.method != NamedMethod::ClosedForm;
        Training {
            start: self.start,
            steps,
            curve: false,
            ..Training::steps(Default::default(), self.recipe)
        }
    }

    /// The whole of a recipe's file, but for the model.
    pub fn file(&self, limits: Limits, replay_capacity: u16) -> RecipeFile {
        let recipe = Recipe { replay_capacity, ..self.recipe };
        RecipeFile {
            layers: u16::try_from(self.plan.layers).ok(),
            train: Some((0..self.plan.layers).map(|layer| self.plan.trains(layer)).collect()),
            compact: Some(false),
            start: Some(self.start),
            recipe: Hyperparameters { method: Some(self.method), ..Hyperparameters::of(&recipe) },
            budget: limits,
            ..RecipeFile::default()
        }
    }
}

/// The recipe in words.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.method == NamedMethod::ClosedForm {
            return f.write_str("closed form");
        }
        if self.start == Start::ClosedForm {
            f.write_str("from the closed form ")?;
        }
        let own = &self.recipe;
        let setting = Setting {
            method: own.method,
            optimizer: own.optimizer,
            sharpness_batch: own.sharpness_batch,
            ascent_every: own.ascent_every,
            rho: if own.method == Method::Sgd { 0.0 } else { own.rho },
            rho_unit: own.rho_unit,
            label_smoothing: own.label_smoothing,
            learning_rate: own.learning_rate,
            warm_up: own.warm_up,
            weight_decay: own.weight_decay,
            epochs: own.epochs,
            held_out: own.held_out,
            ..Setting::DEFAULT
        };
        setting.fmt(f)
    }
}
