//! What is asked for, by options and by a recipe's file, and what commands make of it.

use anyhow::{Result, bail};
use flatmin::{Loss, Method, Optimizer, Recipe, Tuner};
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_model::recipe_file::{Hyperparameters, NamedMethod, RecipeFile};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training};
use std::path::PathBuf;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct TuneOptions {
    /// The options, and what a recipe's file says beyond them.
    pub recipe_file: RecipeFile,
    /// The options alone.
    pub given: RecipeFile,
    /// Share of adaptation labels to flip.
    pub label_noise: Option<f64>,
    /// Labelled windows per class of the bundled task.
    pub windows_per_class: u16,
    /// One JSON object in place of a table.
    pub json: bool,
    /// Where an HTML report goes.
    pub report: Option<PathBuf>,
}

impl TuneOptions {
    /// The methods to take steps by: none for the closed form.
    pub fn methods(&self) -> Vec<Method> {
        match self.recipe_file.recipe.method {
            None => vec![Method::Sgd, Method::Sam, Method::Asam],
            Some(NamedMethod::Steps(method)) => vec![method],
            Some(NamedMethod::ClosedForm) => Vec::new(),
        }
    }

    /// Seed of the draw of windows, of flipped labels and of the order of samples.
    pub fn seed(&self) -> u64 {
        self.recipe_file.recipe.seed.unwrap_or(Recipe::DEFAULT.seed)
    }

    /// Epochs of a run that takes steps.
    pub fn epochs(&self) -> u64 {
        self.recipe(Recipe::DEFAULT.method).epochs.into()
    }

    /// These options for a tail of this model: which of the integer tuners is meant depends on its layers.
    pub fn for_tail(&self, subject: &Subject, tail: &TailPlan) -> Result<Self> {
        let mut own = self.clone();
        if own.recipe_file.compact == Some(true) {
            own.recipe_file.any_layers = !subject.model.pack(tail)?.pack().sizes().tail_is_chain;
        }
        Ok(own)
    }

    /// These options with training in integers.
    pub fn in_integers(&self, subject: &Subject, tail: &TailPlan) -> Result<Self> {
        let mut own = self.clone();
        own.recipe_file.compact = Some(true);
        own.for_tail(subject, tail)
    }

    /// Whether nothing is asked for that training in integers may lack: no hyperparameter but epochs, smoothing and seed.
    pub fn is_plain(&self) -> bool {
        let own = &self.recipe_file;
        let kept = Hyperparameters {
            epochs: own.recipe.epochs,
            label_smoothing: own.recipe.label_smoothing,
            seed: own.recipe.seed,
            replay_capacity: own.recipe.replay_capacity,
            ..Hyperparameters::default()
        };
        own.recipe == kept && own.train.is_none() && own.start.is_none() && own.compact.is_none()
    }

    /// Layers in the tail, where they are asked for.
    pub fn layers(&self) -> Option<usize> {
        self.recipe_file.layers.map(usize::from)
    }

    /// What of each layer is trained.
    pub fn train(&self) -> &[Trains] {
        self.recipe_file.train.as_deref().unwrap_or_default()
    }

    /// Share of adaptation labels to flip.
    pub fn label_noise(&self) -> f64 {
        self.label_noise.unwrap_or(0.0)
    }

    /// What `tune` does to every subject.
    pub fn trainings(&self, start: Start) -> Vec<Training> {
        match self.recipe_file.recipe.method {
            Some(method) => vec![Training::of(&self.recipe_file, method, start)],
            None => self.methods().into_iter().map(|method| self.steps(method, start)).collect(),
        }
    }

    fn steps(&self, method: Method, start: Start) -> Training {
        Training::of(&self.recipe_file, NamedMethod::Steps(method), start)
    }

    /// The way of the one method that is named, or of the default recipe's.
    pub fn one_training(&self, start: Start) -> Training {
        let usual = NamedMethod::Steps(Recipe::DEFAULT.method);
        Training::of(&self.recipe_file, self.recipe_file.recipe.method.unwrap_or(usual), start)
    }

    /// What gradient steps begin with on these layers.
    pub fn start(&self, subject: &Subject, tail: &TailPlan) -> Result<Start> {
        match (self.recipe_file.start, self.tuner()) {
            (Some(start), _) => Ok(start),
            (None, Tail::Full) => Start::usual(&subject.model, tail),
            (None, Tail::Compact) => Ok(Start::Factory),
            (None, Tail::Integer) => Start::usual_in_integers(&subject.model, tail),
        }
    }

    /// Whether the last layer is solved in closed form.
    pub fn is_closed_form(&self) -> bool {
        self.recipe_file.is_closed_form()
    }

    /// The last layer's head in closed form, where no method is named and the model has one to solve.
    pub fn head_beside(&self, subject: &Subject) -> Result<Option<(TailPlan, Training)>> {
        let own = &self.recipe_file;
        let asked = own.recipe.method.is_none() && own.start.is_none() && self.tuner() == Tail::Full;
        let tail = subject.model.tail_plan(Some(1), &[])?;
        let solvable = asked && Tuner::can_solve(&subject.model.pack(&tail)?.pack());
        Ok(solvable.then(|| (tail, Training::of(own, NamedMethod::ClosedForm, Start::ClosedForm))))
    }

    /// Refuses what only `tune`, `export`, `emulate`, `device` and the bundled wearers do.
    pub fn without_closed_form(&self) -> Result<()> {
        const WHERE: &str = "is for `flatmin tune`, `export`, `emulate` and `device tune`";
        if self.is_closed_form() {
            bail!("--method closed-form {WHERE}; name another method");
        }
        if self.recipe_file.start == Some(Start::ClosedForm) {
            bail!("--start closed-form {WHERE}; leave it out");
        }
        Ok(())
    }

    /// What a device with the tuner `tuner` does: the methods that take steps, and after them the head in closed form where
    /// none is named and the firmware solves heads.
    pub fn trainings_on_device(
        &self,
        subject: &Subject,
        tail: &TailPlan,
        tuner: Tail,
    ) -> Result<(Start, Vec<Training>)> {
        let own = &self.recipe_file;
        if tuner == Tail::Compact {
            return Ok((Start::Factory, self.trainings(Start::Factory)));
        }
        let start = self.start(subject, tail)?;
        let mut trainings = self.trainings(start);
        let asked = tuner == Tail::Full && own.recipe.method.is_none() && own.start.is_none();
        let has_statistics = subject.model.network.statistics.is_some();
        if asked && has_statistics && Tuner::can_solve(&subject.model.pack(tail)?.pack()) {
            trainings.push(Training::of(own, NamedMethod::ClosedForm, Start::ClosedForm));
        }
        Ok((start, trainings))
    }

    /// Refuses a head in closed form of a compact tail.
    pub fn without_compact_closed_form(&self) -> Result<()> {
        let solves = self.is_closed_form() || self.recipe_file.start == Some(Start::ClosedForm);
        if solves && self.tuner() == Tail::Compact {
            bail!(
                "an integer tail of fully connected layers alone has no head in closed form: leave out --integer"
            );
        }
        Ok(())
    }

    /// The recipe for a method, from the factory's tail.
    pub fn recipe(&self, method: Method) -> Recipe {
        self.recipe_file.recipe(method, Start::Factory)
    }

    /// The one method to run, if one was named.
    pub fn one_method(&self) -> Option<Method> {
        match self.recipe_file.recipe.method {
            Some(NamedMethod::Steps(method)) => Some(method),
            _ => None,
        }
    }

    /// The tuner to train with.
    pub fn tuner(&self) -> Tail {
        self.recipe_file.tuner()
    }

    /// Refuses what only `tune`, `export`, `emulate` and `device tune` do.
    pub fn without_acceptance(&self) -> Result<()> {
        if self.is_judged() {
            bail!(
                "--held-out and --keep-best are for `flatmin tune`, `emulate` and `device tune`, and in a recipe's file for \
                 `flatmin export`; leave them out"
            );
        }
        Ok(())
    }

    /// Refuses what only `tune`, `export`, `emulate`, `device` and the bundled wearers do.
    pub fn without_compact(&self) -> Result<()> {
        if self.tuner() != Tail::Full {
            bail!("--integer is for `flatmin tune`, `emulate`, `export` and `device`; leave it out");
        }
        Ok(())
    }

    /// Refuses what only `tune`, `export`, `emulate` and `device` do.
    pub fn without_spare_classes(&self) -> Result<()> {
        if self.spare_classes() > 0 {
            bail!("--spare-classes is for `flatmin tune`, `export`, `emulate` and `device`; leave it out");
        }
        Ok(())
    }

    /// What a search begins with: of what it chooses only what options name, the rest of a recipe's file as it is.
    pub fn searched(&self) -> RecipeFile {
        let (own, given) = (&self.recipe_file, &self.given);
        let recipe = Hyperparameters {
            method: given.recipe.method,
            learning_rate: given.recipe.learning_rate,
            rho: given.recipe.rho,
            // A file's unit goes with its radius, which is searched.
            rho_unit: given.recipe.rho_unit.or(given.recipe.rho.and(own.recipe.rho_unit)),
            label_smoothing: given.recipe.label_smoothing,
            epochs: given.recipe.epochs,
            ..own.recipe
        };
        let (train, start) = (given.train.clone(), given.start);
        RecipeFile { layers: given.layers, train, start, recipe, ..own.clone() }
    }

    /// Refuses what `plan` finds out itself.
    pub fn without_choice(&self) -> Result<()> {
        self.without_compact()?;
        self.without_spare_classes()
    }

    /// Whether held-out samples or the best epoch's have a say.
    pub fn is_judged(&self) -> bool {
        let own = &self.recipe_file.recipe;
        own.held_out.is_some_and(|share| share > 0.0) || own.keep_best == Some(true)
    }

    /// Outputs for classes that the model lacks.
    pub fn spare_classes(&self) -> usize {
        self.recipe_file.spare_classes.unwrap_or(0).into()
    }

    /// Settings as the report lists them; `tail` as resolved for the model.
    pub fn settings(&self, tail: &TailPlan, start: Start) -> Vec<(String, String)> {
        let recipe = self.recipe_file.recipe(self.one_method().unwrap_or(Recipe::DEFAULT.method), start);
        let mut settings: Vec<(String, String)> = [
            ("layers tuned", tail.summary()),
            ("label noise", format!("{} %", self.label_noise() * 100.0)),
            ("windows a class", self.windows_per_class.to_string()),
            ("sharpness batch m", recipe.sharpness_batch.to_string()),
            ("learning rate", recipe.learning_rate.to_string()),
            ("label smoothing", recipe.label_smoothing.to_string()),
            ("weight decay", recipe.weight_decay.to_string()),
            ("epochs", recipe.epochs.to_string()),
            ("seed", recipe.seed.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if recipe.optimizer == Optimizer::Adam {
            settings.push(("optimizer".into(), "AdamW, moments in 8 bits".into()));
        }
        if start == Start::ClosedForm {
            settings.push(("steps begin with".into(), "the head in closed form".into()));
        }
        if recipe.ascent_every > 1 {
            settings.push(("steps an ascent".into(), recipe.ascent_every.to_string()));
        }
        if recipe.warm_up > 0.0 {
            settings.push(("warm-up".into(), format!("{} %", recipe.warm_up * 100.0)));
        }
        match self.tuner() {
            Tail::Full => {}
            Tail::Compact => {
                settings.push(("weights trained as".into(), "int8 with residual, int16 velocity".into()));
            }
            Tail::Integer => {
                settings.push(("weights trained as".into(), "int8 differences to those in flash".into()));
            }
        }
        if recipe.held_out > 0.0 {
            settings.push(("held out".into(), format!("{} %", recipe.held_out * 100.0)));
        }
        if self.spare_classes() > 0 {
            settings.push(("spare classes".into(), self.spare_classes().to_string()));
        }
        if recipe.keep_best {
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
        if self.recipe_file.loss.is_some_and(|loss| loss != Loss::CrossEntropy) {
            bail!("the bundled task has classes: --loss is for a model of your own");
        }
        if self.spare_classes() > 0 {
            bail!(
                "the bundled task has no further class: --spare-classes is for data of your own, `flatmin add-class` for a trial"
            );
        }
        Subject::wearer(wearer, self.windows_per_class.into(), self.label_noise(), self.seed())
    }

    /// What to tune of this subject's model.
    pub fn tail(&self, subject: &Subject) -> Result<TailPlan> {
        // The closed form solves the last layer; what is trained in front of it would take RAM for nothing.
        let usual = self.is_closed_form().then_some(1);
        subject.model.tail_plan(self.layers().or(usual), self.train())
    }

    /// What a device's firmware tunes: it was built before anybody named a method.
    pub fn tail_of_firmware(&self, subject: &Subject) -> Result<TailPlan> {
        subject.model.tail_plan(self.layers(), self.train())
    }
}
