//! The options that all commands that tune have in common, and what they make of them.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum, value_parser};
use flatmin::{Loss, Method, Optimizer, Recipe, Tuner};
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training};
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum MethodArgument {
    /// The optimizer alone
    Sgd,
    Sam,
    Asam,
    /// SAM that moves biases alone
    SamOn,
    /// The last layer solved in closed form: no rate, no epochs, done within milliseconds (tune, export and the bundled wearers)
    ClosedForm,
}

impl MethodArgument {
    /// What steps are taken by; none are for the closed form.
    fn method(self) -> Option<Method> {
        match self {
            Self::Sgd => Some(Method::Sgd),
            Self::Sam => Some(Method::Sam),
            Self::Asam => Some(Method::Asam),
            Self::SamOn => Some(Method::SamOn),
            Self::ClosedForm => None,
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

#[derive(Debug, Clone, Args)]
pub struct TuneOptions {
    /// Only this method (default: sgd, sam and asam; closed-form beside them where the model ends in a dense layer)
    #[arg(long)]
    pub method: Option<MethodArgument>,
    /// What gradient steps begin with (default: factory; in `tune` and `export` closed-form where more than two layers are
    /// trained and samples that the factory knows are there: --calibration, or the other wearers'). Firmware begins with
    /// the factory's tail
    #[arg(long)]
    pub start: Option<StartArgument>,
    /// Base optimizer
    #[arg(long, default_value = "sgd")]
    pub optimizer: OptimizerArgument,
    /// Layers with weights to train, counted from the end (default: 2, or 1 if the network has no more)
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub layers: Option<u16>,
    /// What of each layer is trained, first to last; the rest whole
    #[arg(long, value_delimiter = ',', value_name = "WHAT,WHAT")]
    pub train: Vec<Trains>,
    /// What to make small (default: binary cross-entropy where the network ends in a logistic function, else
    /// cross-entropy). mse: of an autoencoder, whose samples are their own targets; labels, if given, are 0 or, of
    /// anomalies, 1
    #[arg(long)]
    pub loss: Option<LossArgument>,
    /// Outputs for classes that the model lacks, after its own: labels of the data may go so far. Classes with samples
    /// are added before the run (tune, export, emulate and device)
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "compact")]
    pub spare_classes: u16,
    /// Radius of the ascent, 0 or more (default: 0.05 for SAM and SAM-ON, 0.5 for ASAM; from the closed form 0.02 and 0.1)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative)]
    pub rho: Option<f32>,
    /// Samples per SAM perturbation (m)
    #[arg(long, default_value_t = Recipe::DEFAULT.sharpness_batch, value_parser = value_parser!(u16).range(1..))]
    pub sharpness_batch: u16,
    /// Steps from one that ascends to the next; those between are the optimizer's alone
    #[arg(long, default_value_t = Recipe::DEFAULT.ascent_every, value_parser = value_parser!(u16).range(1..))]
    pub ascent_every: u16,
    /// Learning rate (default: 0.002, from the closed form 0.005, with adam 0.001)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_not_negative)]
    pub learning_rate: Option<f32>,
    /// Share of the steps, 0 to 1, over which the learning rate rises to it
    #[arg(long, default_value_t = Recipe::DEFAULT.warm_up, allow_negative_numbers = true, value_parser = parse_warm_up)]
    pub warm_up: f32,
    /// Label smoothing, 0 to below 1 (default: 0.4, from the closed form 0.1)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_smoothing)]
    pub label_smoothing: Option<f32>,
    /// Weight decay
    #[arg(long, default_value_t = Recipe::DEFAULT.weight_decay, allow_negative_numbers = true, value_parser = parse_not_negative)]
    pub weight_decay: f32,
    /// Epochs
    #[arg(long, default_value_t = Recipe::DEFAULT.epochs, value_parser = value_parser!(u16).range(1..))]
    pub epochs: u16,
    /// Share of each class's samples to hold out, 0 to 0.5: the tuned tail is taken only if it is better on them than
    /// the factory's
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_parser = parse_held_out)]
    pub held_out: f32,
    /// End with the best weights seen after an epoch
    #[arg(long)]
    pub keep_best: bool,
    /// Use the low-memory integer trainer: fully connected layers and softmax alone, without Adam, SAM-ON, shared
    /// ascents and --keep-best (tune and emulate)
    #[arg(long)]
    pub compact: bool,
    /// Share of adaptation labels to flip, 0 to 1 (default: 0; without a command 0, 0.2 and 0.4)
    #[arg(long, allow_negative_numbers = true, value_parser = parse_share)]
    pub label_noise: Option<f64>,
    /// Labelled windows per class to tune on (bundled task)
    #[arg(long, default_value_t = 9, value_parser = value_parser!(u16).range(1..))]
    pub windows_per_class: u16,
    /// Seed of the draw of windows, of flipped labels and of the order of samples
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
    /// Write an HTML report here (without a command: flatmin-report.html unless --json)
    #[arg(long)]
    pub report: Option<PathBuf>,
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

impl TuneOptions {
    /// The methods to take steps by: none for the closed form.
    pub fn methods(&self) -> Vec<Method> {
        let all = vec![Method::Sgd, Method::Sam, Method::Asam];
        self.method.map_or(all, |m| m.method().into_iter().collect())
    }

    fn label_smoothing(&self, start: Start) -> f32 {
        self.label_smoothing.unwrap_or(start.recipe(Recipe::DEFAULT.method, self.optimizer()).label_smoothing)
    }

    /// Share of adaptation labels to flip.
    pub fn label_noise(&self) -> f64 {
        self.label_noise.unwrap_or(0.0)
    }

    /// What `tune` does to every subject.
    pub fn trainings(&self, start: Start) -> Vec<Training> {
        if self.is_closed_form() {
            return vec![self.closed_form()];
        }
        self.methods().into_iter().map(|method| self.steps(method, start)).collect()
    }

    fn closed_form(&self) -> Training {
        Training { tuner: self.tuner(), ..Training::closed_form(self.recipe(Method::Sgd)) }
    }

    fn steps(&self, method: Method, start: Start) -> Training {
        Training { start, ..Training::steps(self.tuner(), self.recipe_from(method, start)) }
    }

    /// The way of the one method that is named, or of the default recipe's.
    pub fn one_training(&self, start: Start) -> Training {
        if self.is_closed_form() {
            return self.closed_form();
        }
        self.steps(self.one_method().unwrap_or(Recipe::DEFAULT.method), start)
    }

    /// What gradient steps begin with on these layers.
    pub fn start(&self, subject: &Subject, tail: &TailPlan) -> Result<Start> {
        match self.start {
            Some(StartArgument::ClosedForm) => Ok(Start::ClosedForm),
            None if self.tuner() == Tail::Full => Start::usual(&subject.model, tail),
            _ => Ok(Start::Factory),
        }
    }

    /// Whether the last layer is solved in closed form.
    pub fn is_closed_form(&self) -> bool {
        matches!(self.method, Some(MethodArgument::ClosedForm))
    }

    /// The last layer's head in closed form, where no method is named and the model has one to solve.
    pub fn head_beside(&self, subject: &Subject) -> Result<Option<(TailPlan, Training)>> {
        let asked = self.method.is_none() && self.start.is_none() && self.tuner() == Tail::Full;
        let tail = subject.model.tail_plan(Some(1), &[])?;
        let solvable = asked && Tuner::can_solve(&subject.model.pack(&tail)?.pack());
        Ok(solvable.then(|| (tail, self.closed_form())))
    }

    /// Refuses what only `tune` and the bundled wearers do.
    pub fn without_closed_form(&self) -> Result<()> {
        if self.is_closed_form() {
            bail!("--method closed-form is for `flatmin tune` and `export`; name another method");
        }
        if self.start == Some(StartArgument::ClosedForm) {
            bail!("--start closed-form is for `flatmin tune` and `export`; leave it out");
        }
        Ok(())
    }

    fn optimizer(&self) -> Optimizer {
        match self.optimizer {
            OptimizerArgument::Sgd => Optimizer::Sgd,
            OptimizerArgument::Adam => Optimizer::Adam,
        }
    }

    fn learning_rate(&self, start: Start) -> f32 {
        self.learning_rate.unwrap_or(start.recipe(Recipe::DEFAULT.method, self.optimizer()).learning_rate)
    }

    /// The recipe for a method, from the factory's tail.
    pub fn recipe(&self, method: Method) -> Recipe {
        self.recipe_from(method, Start::Factory)
    }

    fn recipe_from(&self, method: Method, start: Start) -> Recipe {
        let usual = start.recipe(method, self.optimizer());
        Recipe {
            rho: self.rho.unwrap_or(usual.rho),
            sharpness_batch: self.sharpness_batch,
            ascent_every: self.ascent_every,
            learning_rate: self.learning_rate(start),
            warm_up: self.warm_up,
            label_smoothing: self.label_smoothing(start),
            weight_decay: self.weight_decay,
            epochs: self.epochs,
            seed: self.seed,
            held_out: self.held_out,
            keep_best: self.keep_best,
            ..usual
        }
    }

    /// The one method to run, if one was named.
    pub fn one_method(&self) -> Option<Method> {
        self.method.and_then(MethodArgument::method)
    }

    /// The tuner to train with.
    pub fn tuner(&self) -> Tail {
        if self.compact { Tail::Compact } else { Tail::Full }
    }

    /// Refuses what only `tune`, `emulate` and `device tune` do.
    pub fn without_acceptance(&self) -> Result<()> {
        if self.held_out > 0.0 || self.keep_best {
            bail!(
                "--held-out and --keep-best are for `flatmin tune`, `emulate` and `device tune`; leave them out"
            );
        }
        Ok(())
    }

    /// Refuses what only `tune`, `emulate` and the bundled wearers do.
    pub fn without_compact(&self) -> Result<()> {
        if self.compact {
            bail!("--compact is for `flatmin tune` and `emulate`; leave it out");
        }
        Ok(())
    }

    /// Refuses what only `tune`, `export`, `emulate` and `device` do.
    pub fn without_spare_classes(&self) -> Result<()> {
        if self.spare_classes > 0 {
            bail!("--spare-classes is for `flatmin tune`, `export`, `emulate` and `device`; leave it out");
        }
        Ok(())
    }

    /// Refuses what the search of `tune --auto` chooses itself.
    pub fn without_recipe(&self) -> Result<()> {
        let usual = Recipe { ..Recipe::DEFAULT };
        let asked = Recipe { method: usual.method, seed: usual.seed, ..self.recipe(usual.method) };
        if asked != usual {
            bail!(
                "--auto chooses the recipe: leave out its options but --method, --layers, --train and --seed"
            );
        }
        self.without_closed_form()?;
        self.without_compact()?;
        self.without_spare_classes()
    }

    /// Refuses what `plan` finds out itself.
    pub fn without_choice(&self) -> Result<()> {
        if !self.train.is_empty() {
            bail!("--train is what `flatmin plan` searches; leave it out");
        }
        self.without_closed_form()?;
        self.without_compact()?;
        self.without_spare_classes()?;
        self.without_acceptance()
    }

    /// Settings as the report lists them; `tail` as resolved for the model.
    pub fn settings(&self, tail: &TailPlan, start: Start) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = [
            ("layers tuned", tail.summary()),
            ("label noise", format!("{} %", self.label_noise() * 100.0)),
            ("windows a class", self.windows_per_class.to_string()),
            ("sharpness batch m", self.sharpness_batch.to_string()),
            ("learning rate", self.learning_rate(start).to_string()),
            ("label smoothing", self.label_smoothing(start).to_string()),
            ("weight decay", self.weight_decay.to_string()),
            ("epochs", self.epochs.to_string()),
            ("seed", self.seed.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if self.optimizer == OptimizerArgument::Adam {
            settings.push(("optimizer".into(), "AdamW, moments in 8 bits".into()));
        }
        if start == Start::ClosedForm {
            settings.push(("steps begin with".into(), "the head in closed form".into()));
        }
        if self.ascent_every > 1 {
            settings.push(("steps an ascent".into(), self.ascent_every.to_string()));
        }
        if self.warm_up > 0.0 {
            settings.push(("warm-up".into(), format!("{} %", self.warm_up * 100.0)));
        }
        if self.compact {
            settings.push(("weights trained as".into(), "int8 with residual, int16 velocity".into()));
        }
        if self.held_out > 0.0 {
            settings.push(("held out".into(), format!("{} %", self.held_out * 100.0)));
        }
        if self.spare_classes > 0 {
            settings.push(("spare classes".into(), self.spare_classes.to_string()));
        }
        if self.keep_best {
            settings.push(("ends with".into(), "the best epoch's weights".into()));
        }
        if self.is_closed_form() {
            // No steps are taken: their hyperparameters would mislead.
            let kept = ["label noise", "windows a class", "seed", "held out", "spare classes"];
            settings.retain(|(name, _)| kept.contains(&name.as_str()));
        }
        settings
    }

    /// A held-out wearer's model and windows.
    pub fn wearer(&self, wearer: usize) -> Result<Subject> {
        if self.loss.is_some_and(|loss| loss.loss() != Loss::CrossEntropy) {
            bail!("the bundled task has classes: --loss is for a model of your own");
        }
        if self.spare_classes > 0 {
            bail!(
                "the bundled task has no further class: --spare-classes is for data of your own, `flatmin add-class` for a trial"
            );
        }
        Subject::wearer(wearer, self.windows_per_class.into(), self.label_noise(), self.seed)
    }

    /// What to tune of this subject's model.
    pub fn tail(&self, subject: &Subject) -> Result<TailPlan> {
        // The closed form solves the last layer; what is trained in front of it would take RAM for nothing.
        let usual = self.is_closed_form().then_some(1);
        subject.model.tail_plan(self.layers.map(usize::from).or(usual), &self.train)
    }
}
