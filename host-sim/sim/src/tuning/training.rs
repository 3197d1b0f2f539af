//! What is asked of a run: which tuner, what it begins with, and by which recipe.

use super::{CLOSED_FORM, method_name, with_replay};
use crate::subject::Subject;
use anyhow::Result;
use flatmin::{Arithmetic, Method, Recipe, Tuner};
use flatmin_model::recipe_file::{NamedMethod, RecipeFile};
pub use flatmin_model::training::{Start, Tail};

/// Solves the head of a tuner that has its samples, where steps begin with the closed form.
pub(crate) fn begin<'p, A: Arithmetic<'p>>(
    start: Start,
    tuner: &mut Tuner<'p, A>,
    recipe: Recipe,
) -> Result<()> {
    if start == Start::ClosedForm {
        // The larger of what the tuners want beside their arenas.
        let sizes = tuner.pack().sizes();
        let bytes = sizes.solve_bytes(&recipe).max(sizes.integer_solve_bytes());
        tuner.solve(recipe, &mut vec![0; bytes / 4], &mut || {})?;
    }
    Ok(())
}

/// How a subject is trained.
#[derive(Debug, Clone, Copy)]
pub struct Training {
    /// Which tuner.
    pub tuner: Tail,
    /// What comes first.
    pub start: Start,
    /// Gradient steps follow by this recipe; else of it only the share that is held out counts.
    pub steps: bool,
    /// Hyperparameters.
    pub recipe: Recipe,
    /// The test samples are gone through after every epoch, for [`TuningRun::curve`](crate::report::TuningRun::curve).
    pub curve: bool,
    /// [`TuningRun::lambda_max`](crate::report::TuningRun::lambda_max) is measured, of weights in f32 alone.
    pub curvature: bool,
    /// Samples that the replay holds; `None` is as many as the subject has.
    pub replay_capacity: Option<u16>,
}

impl Training {
    /// Gradient steps from the factory's tail.
    pub fn steps(tuner: Tail, recipe: Recipe) -> Self {
        let (start, steps) = (Start::Factory, true);
        Self { tuner, start, steps, recipe, curve: true, curvature: false, replay_capacity: None }
    }

    /// The head in closed form alone. Its scale is that of right labels.
    pub fn closed_form(recipe: Recipe) -> Self {
        let recipe = Recipe { method: Method::Sgd, label_smoothing: 0.0, ..recipe };
        Self { start: Start::ClosedForm, steps: false, ..Self::steps(Tail::Full, recipe) }
    }

    /// Training by one method, from this start, with what a recipe's file says.
    pub fn of(file: &RecipeFile, method: NamedMethod, start: Start) -> Self {
        let (tuner, replay_capacity) = (file.tuner(), file.recipe.replay_capacity);
        let own = match method {
            NamedMethod::ClosedForm => Self::closed_form(file.recipe(Method::Sgd, Start::Factory)),
            NamedMethod::Steps(method) => Self { start, ..Self::steps(tuner, file.recipe(method, start)) },
        };
        Self { tuner, replay_capacity, ..own }
    }

    /// The recipe with this replay.
    ///
    /// # Errors
    /// A replay that does not hold the subject's samples.
    pub fn sized(&self, subject: &Subject) -> Result<Recipe> {
        with_replay(subject, self.recipe, self.replay_capacity)
    }

    /// The method's name in tables and JSON.
    pub fn name(&self) -> &'static str {
        if self.steps { method_name(self.recipe.method) } else { CLOSED_FORM }
    }
}
