//! The options of commands that know a tail and samples, in groups: a command has those that it has a use for.

use super::{TuneOptions, misused};
use anyhow::Result;
use clap::{Args, ValueEnum, value_parser};
use flatmin::{Loss, Method, Optimizer, RhoUnit};
use flatmin_model::packer::Repeated;
use flatmin_model::recipe_file::{Hyperparameters, NamedMethod, RecipeFile};
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

const TRAINED: &str = "What is trained";
const HOW: &str = "How it is trained";
const TAKEN: &str = "Whether the tuned tail is taken";
const SAMPLES: &str = "Samples";
const OUTPUT: &str = "Output";

/// What every command takes that knows a tail and samples.
#[derive(Debug, Clone, Args)]
pub struct BasisArguments {
    /// Take what no option names from this file: model, layers, hyperparameters, budget. `flatmin plan` writes one
    #[arg(long, value_name = "recipe.toml", help_heading = TRAINED)]
    recipe: Option<PathBuf>,
    /// Layers with weights to train, counted from the end (default: 2, or 1 if the network has no more)
    #[arg(long, value_parser = value_parser!(u16).range(1..), help_heading = TRAINED)]
    layers: Option<u16>,
    /// Samples that the device keeps; all that are tuned on are to fit (default: as many as these)
    #[arg(long, value_name = "SAMPLES", value_parser = value_parser!(u16).range(1..), help_heading = SAMPLES)]
    replay_capacity: Option<u16>,
    /// Share of adaptation labels to flip, 0 to 1 (default: 0)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_share, help_heading = SAMPLES)]
    label_noise: Option<f64>,
    /// Labelled windows per class to tune on (bundled task)
    #[arg(long, default_value_t = 9, value_parser = value_parser!(u16).range(1..), help_heading = SAMPLES)]
    windows_per_class: u16,
    /// Seed of the draw of windows, of flipped labels and of the order of samples (default: 1)
    #[arg(long, help_heading = SAMPLES)]
    seed: Option<u64>,
    /// Print one JSON object instead of text
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

/// The method and its hyperparameters.
#[derive(Debug, Clone, Default, Args)]
pub struct StepArguments {
    /// Only this method (default: sgd, sam and asam; closed-form beside them where the model ends in a dense layer)
    #[arg(long, help_heading = HOW)]
    method: Option<MethodArgument>,
    /// What gradient steps begin with (default: factory; closed-form where more than two layers are trained and samples that
    /// the factory knows are there: --calibration, or the other wearers')
    #[arg(long, help_heading = HOW)]
    start: Option<StartArgument>,
    /// Base optimizer (default: sgd)
    #[arg(long, help_heading = HOW)]
    optimizer: Option<OptimizerArgument>,
    /// Radius of the ascent, 0 or more (default: 0.3)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative, help_heading = HOW)]
    rho: Option<f32>,
    /// What --rho is measured in (default: nats)
    #[arg(long, value_enum, help_heading = HOW)]
    rho_unit: Option<RhoUnitArgument>,
    /// Samples per SAM perturbation, m (default: 1)
    #[arg(long, value_parser = value_parser!(u16).range(1..), help_heading = HOW)]
    sharpness_batch: Option<u16>,
    /// Steps from one that ascends to the next; those between are the optimizer's alone (default: 1)
    #[arg(long, value_parser = value_parser!(u16).range(1..), help_heading = HOW)]
    ascent_every: Option<u16>,
    /// Learning rate (default: 0.002, from the closed form 0.005, with adam 0.001)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative, help_heading = HOW)]
    learning_rate: Option<f32>,
    /// Share of the steps, 0 to 1, over which the learning rate rises to it (default: 0)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_warm_up, help_heading = HOW)]
    warm_up: Option<f32>,
    /// Label smoothing, 0 to below 1 (default: 0.4, from the closed form 0.1)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_smoothing, help_heading = HOW)]
    label_smoothing: Option<f32>,
    /// Weight decay (default: 0.001)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative, help_heading = HOW)]
    weight_decay: Option<f32>,
    /// Epochs (default: 30)
    #[arg(long, value_parser = value_parser!(u16).range(1..), help_heading = HOW)]
    epochs: Option<u16>,
}

/// Which parts of the layers are trained.
#[derive(Debug, Clone, Default, Args)]
pub struct PartsArguments {
    /// What of each layer is trained, first to last: all, N% or channels:N of the outputs, inputs:N% with --integer, scales,
    /// biases or nothing, 3*WHAT for three layers; the rest whole
    #[arg(long, value_delimiter = ',', value_name = "WHAT,WHAT", help_heading = TRAINED)]
    train: Vec<Repeated>,
}

/// The loss, for models of one's own.
#[derive(Debug, Clone, Default, Args)]
pub struct LossArguments {
    /// What to make small (default: binary cross-entropy where the network ends in a logistic function, else
    /// cross-entropy). mse: of an autoencoder, whose samples are their own targets; labels, if given, are 0 or, of
    /// anomalies, 1
    #[arg(long, help_heading = HOW)]
    loss: Option<LossArgument>,
}

/// Classes that the model lacks.
#[derive(Debug, Clone, Default, Args)]
pub struct SpareArguments {
    /// Outputs for classes that the model lacks, after its own: labels of the data may go so far. Classes with samples
    /// are added before the run
    #[arg(long, value_name = "N", help_heading = TRAINED)]
    spare_classes: Option<u16>,
}

/// What is done with the tuned tail.
#[derive(Debug, Clone, Default, Args)]
pub struct JudgementArguments {
    /// Share of each class's samples to hold out, 0 to 0.5: the tuned tail is taken only if it is better on them than
    /// the factory's (default: 0)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_held_out, help_heading = TAKEN)]
    held_out: Option<f32>,
    /// End with the best weights seen after an epoch
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false",
        help_heading = TAKEN)]
    keep_best: Option<bool>,
}

/// The tuner in integers.
#[derive(Debug, Clone, Default, Args)]
pub struct CompactArguments {
    /// Train in integers, in a fraction of the RAM: layers of any kind before a softmax, without Adam, SAM-ON, shared
    /// ascents and --keep-best. --compact is the same
    #[arg(long = "integer", visible_alias = "compact", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false",
        help_heading = HOW)]
    compact: Option<bool>,
}

/// The page.
#[derive(Debug, Clone, Default, Args)]
pub struct PageArguments {
    /// Write an HTML report here
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    report: Option<PathBuf>,
}

/// What a command takes beyond [`BasisArguments`]; what it does not take is left out.
#[derive(Debug, Clone, Default)]
pub struct FurtherArguments {
    pub steps: StepArguments,
    pub parts: PartsArguments,
    pub loss: LossArguments,
    pub spare: SpareArguments,
    pub judgement: JudgementArguments,
    pub compact: CompactArguments,
    pub page: PageArguments,
}

/// All that there is: of the commands that tune.
#[derive(Debug, Clone, Args)]
pub struct TuneArguments {
    #[command(flatten)]
    basis: BasisArguments,
    #[command(flatten)]
    parts: PartsArguments,
    #[command(flatten)]
    spare: SpareArguments,
    #[command(flatten)]
    steps: StepArguments,
    #[command(flatten)]
    loss: LossArguments,
    #[command(flatten)]
    compact: CompactArguments,
    #[command(flatten)]
    judgement: JudgementArguments,
    #[command(flatten)]
    page: PageArguments,
}

impl TuneArguments {
    /// These options, and from the recipe's file what they leave out.
    ///
    /// # Errors
    /// A file that is no recipe.
    pub fn read(self) -> Result<TuneOptions> {
        let Self { basis, steps, parts, loss, spare, judgement, compact, page } = self;
        basis.read(FurtherArguments { steps, parts, loss, spare, judgement, compact, page })
    }
}

impl BasisArguments {
    /// These options, and from the recipe's file what they leave out.
    ///
    /// # Errors
    /// A file that is no recipe; options that do not go together.
    pub fn read(self, further: FurtherArguments) -> Result<TuneOptions> {
        let given = self.given(&further);
        if given.spare_classes.is_some() && given.compact == Some(true) {
            return Err(misused("the argument '--spare-classes <N>' cannot be used with '--integer'".into()));
        }
        let file = self.recipe.map_or(Ok(RecipeFile::default()), |path| RecipeFile::read(&path))?;
        Ok(TuneOptions {
            recipe_file: given.clone().or(&file),
            given,
            label_noise: self.label_noise,
            windows_per_class: self.windows_per_class,
            json: self.json,
            report: further.page.report,
        })
    }

    /// What the options name.
    fn given(&self, further: &FurtherArguments) -> RecipeFile {
        let FurtherArguments { steps, parts, loss, spare, judgement, compact, .. } = further;
        RecipeFile {
            layers: self.layers,
            train: Some(Repeated::all(&parts.train)).filter(|train| !train.is_empty()),
            loss: loss.loss.map(LossArgument::loss),
            spare_classes: spare.spare_classes,
            compact: compact.compact,
            start: steps.start.map(StartArgument::start),
            recipe: Hyperparameters {
                method: steps.method.map(MethodArgument::method),
                optimizer: steps.optimizer.map(OptimizerArgument::optimizer),
                rho: steps.rho,
                rho_unit: steps.rho_unit.map(RhoUnitArgument::unit),
                sharpness_batch: steps.sharpness_batch,
                ascent_every: steps.ascent_every,
                learning_rate: steps.learning_rate,
                warm_up: steps.warm_up,
                label_smoothing: steps.label_smoothing,
                weight_decay: steps.weight_decay,
                epochs: steps.epochs,
                seed: self.seed,
                replay_capacity: self.replay_capacity,
                held_out: judgement.held_out,
                keep_best: judgement.keep_best,
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
