//! A tuning run's hyperparameters.

use crate::optim::{BiasTreatment, Geometry, Schedule, adam};
use crate::replay::Policy;

/// The optimizer around the base step.
/// [`crate::Recipe`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Method {
    /// SGD with momentum: the base optimizer alone.
    Sgd,
    /// Sharpness-aware minimization (Foret et al. 2020).
    Sam,
    /// Adaptive sharpness-aware minimization (Kwon et al. 2021), element-wise.
    Asam,
    /// SAM whose ascent moves biases and, where channels' scales are trained in place of weights, those: what is left of
    /// the normalization layers that SAM-ON perturbs (Mueller et al. 2023, arXiv 2306.04226, section 3) when they are
    /// folded into an int8 network.
    SamOn,
}

/// The base optimizer, which gets the gradient that the method finds.
/// [`crate::Recipe`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Optimizer {
    /// SGD with momentum.
    Sgd,
    /// AdamW (Loshchilov & Hutter 2019) with moments in 8 bits: 2.125 bytes per parameter more than SGD.
    Adam,
}

/// What [`Recipe::rho`] is measured in.
/// [`crate::Recipe`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum RhoUnit {
    /// Nats: about the rise of the loss of a sample with a wrong label at `w + e`. The radius in units of the weights is
    /// `rho / sqrt(F)`, F the mean of `||T g||^2` over the training samples, each with a label that it does not have. It is
    /// measured before a run's first step, so that one rho fits all networks, layers and geometries; again after 4 steps, 8, 16 and so
    /// on where the run began with weights that know little of its labels (random ones, a new head), and then smaller in proportion
    /// to what the mean probability of the labels has beyond a guess, from 0 to 1. Of
    /// [`Loss::SquaredError`](crate::Loss::SquaredError): a share of the sample's own loss.
    Nats,
    /// Units of the weights, or, of ASAM, relative to them: another radius for every network.
    Weights,
}

/// Hyperparameters of a tuning run. The RAM that a run takes depends on `optimizer`, `sharpness_batch`,
/// `store_perturbation`, `replay_capacity`, `replay_policy`, `keep_best` and `sample_losses`, and on the method only where the tail is no
/// chain of fully connected layers: there SGD is spared a gradient buffer.
///
/// ```
/// use flatmin::{Method, Recipe};
/// const RECIPE: Recipe = Recipe { method: Method::Asam, rho: 0.5, ..Recipe::DEFAULT };
/// assert!(RECIPE.check().is_ok());
/// assert!(Recipe { momentum: 1.0, ..RECIPE }.check().is_err());
/// ```
// Not `non_exhaustive`, nor are `Sizes`, `Watch` and `Affine`: they are written as literals (`..Recipe::DEFAULT`), which that
// forbids outside of the crate. Enums and reports are, but for `host-sim`, whose matches are to name every variant.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Recipe {
    /// What is done around the base optimizer.
    pub method: Method,
    /// The base optimizer. Adam wants learning rates about five times smaller than SGD with momentum 0.9.
    pub optimizer: Optimizer,
    /// Radius of the ascent, from 0 to 1,000, in [`Self::rho_unit`]. 0 turns SAM and ASAM into SGD.
    pub rho: f32,
    /// What `rho` is measured in.
    pub rho_unit: RhoUnit,
    /// ASAM's floor under |w|, from 0 to 1,000, in units of the weights.
    pub eta: f32,
    /// m of m-sharpness: samples that share one ascent, from 1 to the minibatch. 1 is the cheapest: its ascent
    /// needs neither a gradient buffer nor a written weight.
    pub sharpness_batch: u16,
    /// Steps from one that ascends to the next, 1 or more, the run's first among them: those between are the base
    /// optimizer's, at its price. What LookSAM (Liu et al. 2022, arXiv 2203.02714) does, without the buffer that keeps
    /// a part of the last ascent.
    pub ascent_every: u16,
    /// Write `w + e` into the weights even where `sharpness_batch = 1` could spare it; takes a gradient buffer.
    /// For comparison: the result differs by rounding.
    pub store_perturbation: bool,
    /// Step size of the descent, from 0 to 1,000, before schedule and warm-up.
    pub learning_rate: f32,
    /// Momentum mu, from 0 to below 1; of Adam's first moment, too.
    pub momentum: f32,
    /// Weight decay lambda, at most 1, in the base optimizer only. `learning_rate * weight_decay`, the share of
    /// a weight that a step takes off, is below 1: beyond, decay overshoots zero, and weights can grow without
    /// a gradient.
    pub weight_decay: f32,
    /// Label smoothing alpha, from 0 to below 1: the share of every label that is spread evenly over all classes
    /// (Szegedy et al. 2015, section 7). 0 is plain cross-entropy, in every bit.
    pub label_smoothing: f32,
    /// Learning rate over the run, after the warm-up.
    pub schedule: Schedule,
    /// Share of the run's steps, from 0 to 1, over which the learning rate rises on a straight line
    /// (Goyal et al. 2017, section 2.2). 0 is none, in every bit.
    pub warm_up: f32,
    /// What happens to biases.
    pub bias: BiasTreatment,
    /// Passes over the replay, 1 or more.
    pub epochs: u16,
    /// Samples per step, 1 or more; the last step of an epoch takes those that are left.
    pub minibatch: u16,
    /// Seed of the order of samples.
    pub seed: u64,
    /// Samples that the replay holds, 1 or more: [`crate::Sizes::feature_length`] bytes each.
    pub replay_capacity: u16,
    /// Which sample gives way when the replay is full. Settled, with the seed that [`Policy::Balanced`] draws with,
    /// when the tuner is made.
    pub replay_policy: Policy,
    /// Share of every class that is held out, from 0 to 0.5: not trained on, it judges tails
    /// ([`crate::Tuner::judge`], [`crate::Tuner::accept`]). Of a class with 3 samples or more at least one is, of a
    /// smaller class none. 0 is training on all, in every bit. Settled when a run starts; samples that are observed
    /// while a run with held-out samples is under way are trained on from the next run on.
    pub held_out: f32,
    /// Keep the best weights that the run has seen after an epoch, or had when it started, and end with them: early
    /// stopping. The held-out samples decide (where none is held out, all that the run was started with), more of them right, or as
    /// many at a smaller loss, as it is trained ([`crate::Criterion`]). Takes a buffer of all parameters ([`crate::MemoryPlan::best`]), and after every epoch
    /// a forward pass of these samples, in the step that ends it. A run that fails ends with them, too.
    pub keep_best: bool,
    /// Keep every sample's mean loss over the run, for [`crate::Tuner::suspects`]. Takes 4 bytes per sample of the
    /// capacity, and after every epoch a forward pass of all samples, in the step that ends it.
    pub sample_losses: bool,
}

/// How far a step climbs before it descends, and in which geometry.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ascent {
    /// Radius in units of the weights, above 0.
    pub rho: f32,
    /// The normalization of the gradient.
    pub geometry: Geometry,
}

impl Recipe {
    /// The recipe to start from, and to ship where nobody tunes: a small step and much label smoothing, so that two wrong
    /// labels in five leave a tail about as good as its factory's, or better. SAM does no better and no worse here than SGD
    /// with the same step and smoothing, and SGD that somebody tunes for the task and its share of wrong labels is as good or
    /// better. Where a device has changed a great deal, a larger step gains more: `host-sim/EVIDENCE.md` has the figures.
    pub const DEFAULT: Self = Self {
        method: Method::Sam,
        optimizer: Optimizer::Sgd,
        rho: 0.3,
        rho_unit: RhoUnit::Nats,
        eta: 0.01,
        sharpness_batch: 1,
        ascent_every: 1,
        store_perturbation: false,
        learning_rate: 0.002,
        momentum: 0.9,
        weight_decay: 1e-3,
        label_smoothing: 0.4,
        schedule: Schedule::Cosine,
        warm_up: 0.0,
        bias: BiasTreatment::Unit,
        epochs: 30,
        minibatch: 16,
        seed: 1,
        replay_capacity: 128,
        replay_policy: Policy::Oldest,
        held_out: 0.0,
        keep_best: false,
        sample_losses: false,
    };

    /// What goes on from a head in closed form ([`crate::Tuner::solve`]) in more than two layers: a larger step
    /// and less label smoothing, as the head has seen the labels before.
    pub const FROM_CLOSED_FORM: Self = Self { learning_rate: 0.005, label_smoothing: 0.1, ..Self::DEFAULT };

    /// What an [`crate::IntegerTuner`] starts from. Its learning rate is another: that of a layer is it times `K^-0.75` int8
    /// steps of a weight, K being the weights of one output, whatever the gradient's size.
    /// [`crate::Sizes::integer_bytes`] has an example.
    pub const INTEGER: Self = Self {
        learning_rate: 2.2,
        momentum: 0.0,
        weight_decay: 0.0,
        warm_up: 0.05,
        minibatch: 1,
        label_smoothing: 0.1,
        epochs: 10,
        ..Self::DEFAULT
    };

    /// The ascent that steps take, with rho in units of the weights; `None` for SGD, and for a rho of 0, which is SGD in every
    /// bit. Rho in nats is turned into these units by a run ([`Self::at`]).
    ///
    /// ```
    /// use flatmin::{Method, Recipe};
    /// let recipe = Recipe { method: Method::Asam, rho: 0.5, eta: 0.01, ..Recipe::DEFAULT };
    /// assert_eq!(recipe.ascent().map(|ascent| (ascent.rho, ascent.geometry.eta)), Some((0.5, Some(0.01))));
    /// assert!(Recipe { rho: 0.0, ..recipe }.ascent().is_none());
    /// ```
    #[doc(hidden)]
    pub fn ascent(&self) -> Option<Ascent> {
        let geometry = self.geometry().filter(|_| self.rho > 0.0)?;
        Some(Ascent { rho: self.rho, geometry })
    }

    /// The ascent's geometry; `None` for SGD.
    #[doc(hidden)]
    pub fn geometry(&self) -> Option<Geometry> {
        match self.method {
            Method::Sgd => None,
            Method::Sam => Some(Geometry { weights: true, eta: None, bias: self.bias }),
            Method::Asam => Some(Geometry { weights: true, eta: Some(self.eta), bias: self.bias }),
            Method::SamOn => Some(Geometry { weights: false, eta: None, bias: self.bias }),
        }
    }

    /// The recipe of the step `step` (from 0) of a run, with this rho in units of the weights: SGD where it does not ascend.
    #[doc(hidden)]
    pub const fn at(&self, step: u32, rho: f32) -> Self {
        let ascends = self.ascent_every <= 1 || step.is_multiple_of(self.ascent_every as u32);
        let method = if ascends { self.method } else { Method::Sgd };
        Self { method, rho, rho_unit: RhoUnit::Weights, ..*self }
    }

    /// The learning rate at `step` (from 0) of `steps`: the first W, which are [`Self::warm_up`] of them rounded down,
    /// take `1 / W, 2 / W, ..., 1` of it; [`Self::schedule`] runs over the others.
    ///
    /// ```
    /// use flatmin::{Recipe, Schedule};
    /// let recipe = Recipe { learning_rate: 0.2, warm_up: 0.2, schedule: Schedule::Constant, ..Recipe::DEFAULT };
    /// assert_eq!([0, 1, 2, 9].map(|step| recipe.rate(step, 10)), [0.1, 0.2, 0.2, 0.2]);
    /// ```
    pub fn rate(&self, step: u32, steps: u32) -> f32 {
        // Saturates, so that no warm-up is longer than the run.
        let warm = ((self.warm_up * steps as f32) as u32).min(steps);
        match step.checked_sub(warm) {
            None => self.learning_rate * ((step + 1) as f32 / warm as f32),
            Some(behind) => self.schedule.rate(self.learning_rate, behind, steps - warm),
        }
    }

    /// Floats that the base optimizer keeps for so many parameters: of Adam the gradient, then its moments.
    #[doc(hidden)]
    pub const fn velocity_floats(&self, parameters: usize) -> usize {
        match self.optimizer {
            Optimizer::Sgd => parameters,
            Optimizer::Adam => parameters.saturating_add(adam::state_floats(parameters)),
        }
    }

    /// Whether the run needs a gradient buffer beside weights and velocity. The method has no say, so that it
    /// can be changed on a running device.
    #[doc(hidden)]
    pub const fn needs_gradient_buffer(&self) -> bool {
        self.sharpness_batch > 1 || self.store_perturbation
    }

    /// Refuses values that no run makes sense with.
    ///
    /// # Errors
    /// [`RecipeError`] names the field, or the product of two, and its range.
    pub fn check(&self) -> Result<(), RecipeError> {
        let fields = [
            ("learning_rate", self.learning_rate, 0.0, 1e3),
            ("momentum", self.momentum, 0.0, 0.999_999),
            ("weight_decay", self.weight_decay, 0.0, 1.0),
            ("label_smoothing", self.label_smoothing, 0.0, 0.999_999),
            ("rho", self.rho, 0.0, 1e3),
            ("eta", self.eta, 0.0, 1e3),
            ("warm_up", self.warm_up, 0.0, 1.0),
            ("epochs", f32::from(self.epochs), 1.0, 65_535.0),
            ("minibatch", f32::from(self.minibatch), 1.0, 65_535.0),
            ("sharpness_batch", f32::from(self.sharpness_batch), 1.0, 65_535.0),
            ("ascent_every", f32::from(self.ascent_every), 1.0, 65_535.0),
            ("replay_capacity", f32::from(self.replay_capacity), 1.0, 65_535.0),
            ("held_out", self.held_out, 0.0, 0.5),
        ];
        for (field, value, lowest, highest) in fields {
            // Written so that NaN is refused.
            if !(value >= lowest && value <= highest) {
                return Err(RecipeError { field, found: value, lowest, highest });
            }
        }
        let decay = self.learning_rate * self.weight_decay;
        if decay >= 1.0 {
            return Err(RecipeError {
                field: "learning_rate * weight_decay",
                found: decay,
                lowest: 0.0,
                highest: 1.0 - f32::EPSILON / 2.0,
            });
        }
        Ok(())
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A hyperparameter is out of range.
/// [`Recipe::check`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[error("recipe: {field} is {found}, must be from {lowest} to {highest}")]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct RecipeError {
    /// The field's name.
    pub field: &'static str,
    /// Its value.
    pub found: f32,
    /// Lowest value allowed.
    pub lowest: f32,
    /// Highest value allowed.
    pub highest: f32,
}
