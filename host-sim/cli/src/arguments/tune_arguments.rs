//! The options that all commands that tune have in common, as they are given.

use super::TuneOptions;
use anyhow::Result;
use clap::{Args, ValueEnum, value_parser};
use flatmin::{Loss, Method, Optimizer, RhoUnit};
use flatmin_model::packer::Trains;
use flatmin_sim::recipe_file::{Hyperparameters, NamedMethod, RecipeFile};
use flatmin_sim::tuning::Start;
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MethodArgument {
    /// The optimizer alone
    Sgd,
    Sam,
    Asam,
    /// SAM that moves biases alone
    SamOn,
    /// The last layer solved in closed form: no rate, no epochs, done within milliseconds
    ClosedForm,
}

impl MethodArgument {
    fn method(self) -> NamedMethod {
        match self {
            Self::Sgd => NamedMethod::Steps(Method::Sgd),
            Self::Sam => NamedMethod::Steps(Method::Sam),
            Self::Asam => NamedMethod::Steps(Method::Asam),
            Self::SamOn => NamedMethod::Steps(Method::SamOn),
            Self::ClosedForm => NamedMethod::ClosedForm,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StartArgument {
    /// The factory's tail
    Factory,
    /// The last layer solved in closed form
    ClosedForm,
}

impl StartArgument {
    fn start(self) -> Start {
        match self {
            Self::Factory => Start::Factory,
            Self::ClosedForm => Start::ClosedForm,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LossArgument {
    /// Softmax cross-entropy
    CrossEntropy,
    /// Binary cross-entropy: yes-or-no outputs; labels are sets of bits
    Bce,
    /// Mean squared error
    Mse,
}

impl LossArgument {
    /// The loss that it names.
    pub fn loss(self) -> Loss {
        match self {
            Self::CrossEntropy => Loss::CrossEntropy,
            Self::Bce => Loss::BinaryCrossEntropy,
            Self::Mse => Loss::SquaredError,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimizerArgument {
    /// SGD with momentum
    Sgd,
    /// AdamW with moments in 8 bits: 2.125 bytes a parameter more
    Adam,
}

impl OptimizerArgument {
    fn optimizer(self) -> Optimizer {
        match self {
            Self::Sgd => Optimizer::Sgd,
            Self::Adam => Optimizer::Adam,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RhoUnitArgument {
    /// About the rise of a mislabelled sample's loss, in nats: one radius for all networks and methods
    Nats,
    /// Units of the weights (of ASAM relative to them): another radius for every network
    Weights,
}

impl RhoUnitArgument {
    fn unit(self) -> RhoUnit {
        match self {
            Self::Nats => RhoUnit::Nats,
            Self::Weights => RhoUnit::Weights,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct TuneArguments {
    /// Take what no option names from this file: model, layers, hyperparameters, budget. `flatmin plan` writes one
    #[arg(long, value_name = "recipe.toml")]
    recipe: Option<PathBuf>,
    /// Only this method (default: sgd, sam and asam; closed-form beside them where the model ends in a dense layer)
    #[arg(long)]
    method: Option<MethodArgument>,
    /// What gradient steps begin with (default: factory; closed-form where more than two layers are trained and samples that
    /// the factory knows are there: --calibration, or the other wearers')
    #[arg(long)]
    start: Option<StartArgument>,
    /// Base optimizer (default: sgd)
    #[arg(long)]
    optimizer: Option<OptimizerArgument>,
    /// Layers with weights to train, counted from the end (default: 2, or 1 if the network has no more)
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    layers: Option<u16>,
    /// What of each layer is trained, first to last; the rest whole
    #[arg(long, value_delimiter = ',', value_name = "WHAT,WHAT")]
    train: Vec<Trains>,
    /// What to make small (default: binary cross-entropy where the network ends in a logistic function, else
    /// cross-entropy). mse: of an autoencoder, whose samples are their own targets; labels, if given, are 0 or, of
    /// anomalies, 1
    #[arg(long)]
    loss: Option<LossArgument>,
    /// Outputs for classes that the model lacks, after its own: labels of the data may go so far. Classes with samples
    /// are added before the run (tune, export, emulate and device)
    #[arg(long, value_name = "N", conflicts_with = "compact")]
    spare_classes: Option<u16>,
    /// Radius of the ascent, 0 or more (default: 0.3)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative)]
    rho: Option<f32>,
    /// What --rho is measured in (default: nats)
    #[arg(long, value_enum)]
    rho_unit: Option<RhoUnitArgument>,
    /// Samples per SAM perturbation, m (default: 1)
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    sharpness_batch: Option<u16>,
    /// Steps from one that ascends to the next; those between are the optimizer's alone (default: 1)
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    ascent_every: Option<u16>,
    /// Learning rate (default: 0.002, from the closed form 0.005, with adam 0.001)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative)]
    learning_rate: Option<f32>,
    /// Share of the steps, 0 to 1, over which the learning rate rises to it (default: 0)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_warm_up)]
    warm_up: Option<f32>,
    /// Label smoothing, 0 to below 1 (default: 0.4, from the closed form 0.1)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_smoothing)]
    label_smoothing: Option<f32>,
    /// Weight decay (default: 0.001)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative)]
    weight_decay: Option<f32>,
    /// Epochs (default: 30)
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    /// Samples that the device keeps; all that are tuned on are to fit (default: as many as these)
    #[arg(long, value_name = "SAMPLES", value_parser = value_parser!(u16).range(1..))]
    replay_capacity: Option<u16>,
    /// Share of each class's samples to hold out, 0 to 0.5: the tuned tail is taken only if it is better on them than
    /// the factory's (default: 0)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_held_out)]
    held_out: Option<f32>,
    /// End with the best weights seen after an epoch
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    keep_best: Option<bool>,
    /// Use the low-memory integer trainer: fully connected layers and softmax alone, without Adam, SAM-ON, shared
    /// ascents and --keep-best (tune and emulate)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    compact: Option<bool>,
    /// Share of adaptation labels to flip, 0 to 1 (default: 0; without a command 0, 0.2 and 0.4)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_share)]
    label_noise: Option<f64>,
    /// Labelled windows per class to tune on (bundled task)
    #[arg(long, default_value_t = 9, value_parser = value_parser!(u16).range(1..))]
    windows_per_class: u16,
    /// Seed of the draw of windows, of flipped labels and of the order of samples (default: 1)
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Write an HTML report here (without a command: flatmin-report.html unless --json)
    #[arg(long)]
    report: Option<PathBuf>,
}

impl TuneArguments {
    /// These options, and from the recipe's file what they leave out.
    ///
    /// # Errors
    /// A file that is no recipe.
    pub fn read(self) -> Result<TuneOptions> {
        let given = self.given();
        let file = self.recipe.map_or(Ok(RecipeFile::default()), |path| RecipeFile::read(&path))?;
        Ok(TuneOptions {
            recipe_file: given.clone().or(&file),
            given,
            label_noise: self.label_noise,
            windows_per_class: self.windows_per_class,
            json: self.json,
            report: self.report,
        })
    }

    /// What the options name.
    fn given(&self) -> RecipeFile {
        RecipeFile {
            layers: self.layers,
            train: Some(self.train.clone()).filter(|train| !train.is_empty()),
            loss: self.loss.map(LossArgument::loss),
            spare_classes: self.spare_classes,
            compact: self.compact,
            start: self.start.map(StartArgument::start),
            recipe: Hyperparameters {
                method: self.method.map(MethodArgument::method),
                optimizer: self.optimizer.map(OptimizerArgument::optimizer),
                rho: self.rho,
                rho_unit: self.rho_unit.map(RhoUnitArgument::unit),
                sharpness_batch: self.sharpness_batch,
                ascent_every: self.ascent_every,
                learning_rate: self.learning_rate,
                warm_up: self.warm_up,
                label_smoothing: self.label_smoothing,
                weight_decay: self.weight_decay,
                epochs: self.epochs,
                seed: self.seed,
                replay_capacity: self.replay_capacity,
                held_out: self.held_out,
                keep_best: self.keep_best,
                ..Hyperparameters::default()
            },
            ..RecipeFile::default()
        }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to 1".into()) }
}

fn parse_warm_up(text: &str) -> Result<f32, String> {
    parse_share(text).map(|share| share as f32)
}

fn parse_smoothing(text: &str) -> Result<f32, String> {
    let share: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("must be from 0 to below 1".into()) }
}

fn parse_held_out(text: &str) -> Result<f32, String> {
    let share: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=0.5).contains(&share) { Ok(share) } else { Err("must be from 0 to 0.5".into()) }
}

fn parse_not_negative(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err("must be 0 or more, and finite".into()) }
}
