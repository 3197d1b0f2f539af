//! A recipe's file in Rust: what a firmware includes.

use super::{NamedMethod, RecipeFile};
use crate::inspect;
use crate::model::Model;
use crate::packer::{PackFile, TailPlan};
use crate::training::{Start, Tail};
use anyhow::{Context, Result, ensure};
use flatmin::{Recipe, Sizes};
use flatmin_app::{COMPACT_STACK_BYTES, RamBudget};
use std::fmt::Write as _;
use std::path::Path;

/// More RAM than the file's budget.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the budget is {budget} bytes of RAM, a firmware with this recipe takes {needed}: {parts}; {remedy}")]
pub struct OverBudget {
    budget: usize,
    needed: usize,
    parts: String,
    remedy: String,
}

/// What firmware is built around a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// The application of `boards/app`, whose link takes RAM for its frames.
    Application,
    /// One's own, which has no such link.
    Own,
}

impl RecipeFile {
    /// Opens the network that the file names, with its loss; spare classes are not yet in it.
    ///
    /// # Errors
    /// A file that names none, or one that cannot be read.
    pub fn open(&self) -> Result<Model> {
        let path = self.model.as_ref().context("no model is named: `model = \"model.tflite\"`")?;
        Ok(Model::open(path)?.with_loss(self.loss))
    }

    /// The tail that the file asks for. The closed form solves the last layer: it takes no more than that, where nothing is asked for.
    ///
    /// # Errors
    /// More layers than the network has to train.
    pub fn tail(&self, model: &Model) -> Result<TailPlan> {
        let layers = self.layers.map(usize::from).or(self.is_closed_form().then_some(1));
        model.tail_plan(layers, self.train.as_deref().unwrap_or_default())
    }

    /// A Rust file for `firmware` with this pack, which lies at `path`: the pack and its sizes, `RECIPE`, `OPERATORS`, `Tuner`,
    /// `CONTENTS`, `ARENA_BYTES`, `SOLVES`, `SOLVE_BYTES` and `STEPS`.
    ///
    /// # Errors
    /// A firmware that takes more RAM than the file's budget; a head in closed form for a tuner in integers, which solves none; a
    /// pack path without a file name.
    pub fn rust(&self, pack: &PackFile, path: &Path, firmware: Firmware) -> Result<String> {
        ensure!(
            !self.is_closed_form() || self.compact != Some(true),
            "method = \"closed-form\" is for the tuner in f32: leave out compact = true"
        );
        Ok(inspect::constants(pack, path)? + &self.constants(pack, firmware)?)
    }

    fn constants(&self, pack: &PackFile, firmware: Firmware) -> Result<String, OverBudget> {
        if self.compact == Some(true) && !self.any_layers && !pack.pack().sizes().tail_is_chain {
            return Self { any_layers: true, ..self.clone() }.constants(pack, firmware);
        }
        let start = self.start.unwrap_or_default();
        let method = self.recipe.method.map_or(Recipe::DEFAULT.method, NamedMethod::method);
        let recipe = self.recipe(method, start);
        let solves = self.is_closed_form() || start == Start::ClosedForm;
        // The application solves wherever the pack has statistics, one's own firmware where its recipe says so.
        let solver = solves || firmware == Firmware::Application && pack.pack().statistics().is_some();
        self.check_budget(&pack.pack().sizes(), &recipe, solver, firmware)?;
        let text = training_constants(self.tuner(), &recipe, solves);
        Ok(text + &order_constants(solves && self.tuner() == Tail::Full, !self.is_closed_form()))
    }

    fn check_budget(
        &self,
        sizes: &Sizes,
        recipe: &Recipe,
        solver: bool,
        firmware: Firmware,
    ) -> Result<(), OverBudget> {
        let of_application = |recipe: &Recipe| match self.tuner() {
            Tail::Compact => RamBudget::compact(sizes, recipe, COMPACT_STACK_BYTES),
            Tail::Integer => RamBudget::integer(sizes, recipe),
            Tail::Full if solver => RamBudget::new(sizes, recipe).with_solver(sizes, recipe),
            Tail::Full => RamBudget::new(sizes, recipe),
        };
        let of = |recipe: &Recipe| match firmware {
            Firmware::Application => of_application(recipe),
            Firmware::Own => of_application(recipe).without_link(),
        };
        let needed = of(recipe);
        let Some(budget) = self.budget.ram.filter(|&budget| needed.total_bytes() > budget) else {
            return Ok(());
        };
        let parts = needed.by_purpose().filter(|(_, bytes)| *bytes > 0);
        let parts: Vec<String> = parts.map(|(purpose, bytes)| format!("{purpose} {bytes}")).collect();
        let fits = |replay_capacity: u16| of(&Recipe { replay_capacity, ..*recipe }).total_bytes() <= budget;
        let remedy = match (1..recipe.replay_capacity).rev().find(|&samples| fits(samples)) {
            Some(samples) => format!(
                "keep fewer samples (replay_capacity = {samples} fits, it is {}), or train fewer layers or parts of them",
                recipe.replay_capacity
            ),
            None => "train fewer layers or parts of them: it does not fit even with one sample".into(),
        };
        Err(OverBudget { budget, needed: needed.total_bytes(), parts: parts.join(", "), remedy })
    }
}

/// Constants of a firmware that tunes so, to stand below those of its pack: `RECIPE`, `OPERATORS`, `Tuner`, `CONTENTS` and
/// `ARENA_BYTES`. Where it `solves` heads in closed form the solver is linked; a pack with statistics brings it in f32 anyhow.
pub fn training_constants(tuner: Tail, recipe: &Recipe, solves: bool) -> String {
    let (tuner, contents, size, solver) = match tuner {
        Tail::Full if solves => ("Tuner", "Int8AndF32", "train_bytes", ".with_solver(true)"),
        Tail::Full => ("Tuner", "Int8AndF32", "train_bytes", ""),
        Tail::Compact => ("CompactTuner", "Int8AndCompact", "compact_bytes", ".with_solver(false)"),
        Tail::Integer => ("IntegerTuner", "Int8", "integer_bytes", ".with_solver(false)"),
    };
    let mut text = String::new();
    let mut item = |comment: &str, item: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "/// {comment}\n#[allow(dead_code)]\n{item}");
    };
    item("How it is tuned.", format!("pub const RECIPE: flatmin::Recipe = {};", in_rust(recipe)));
    item("The tuner that the recipe asks for.", format!("pub type Tuner<'a> = flatmin::{tuner}<'a>;"));
    item(
        "What its store keeps of a tail.",
        format!("pub const CONTENTS: flatmin::store::Contents = flatmin::store::Contents::{contents};"),
    );
    item(
        "The operators that the pack uses: no other is linked.",
        format!("pub static OPERATORS: flatmin::Operators = flatmin::Operators::of(PACK){solver};"),
    );
    item("Bytes of the tuner's arena.", format!("pub const ARENA_BYTES: usize = SIZES.{size}(&RECIPE);"));
    text
}

/// Constants that say what one's own firmware is to call, in this order: `Tuner::solve`, and then steps.
fn order_constants(solves: bool, steps: bool) -> String {
    let solving = if solves { "SIZES.solve_bytes(&RECIPE)" } else { "0" };
    format!(
        "/// Whether the head is solved in closed form before any step (`Tuner::solve`).\n\
         #[allow(dead_code)]\n\
         pub const SOLVES: bool = {solves};\n\
         /// Bytes that this takes beside the arena.\n\
         #[allow(dead_code)]\n\
         pub const SOLVE_BYTES: usize = {solving};\n\
         /// Whether steps are taken (`Tuner::start`).\n\
         #[allow(dead_code)]\n\
         pub const STEPS: bool = {steps};\n"
    )
}

/// The recipe as a constant's value.
fn in_rust(recipe: &Recipe) -> String {
    let Recipe {
        method,
        optimizer,
        rho,
        rho_unit,
        eta,
        sharpness_batch,
        ascent_every,
        store_perturbation,
        learning_rate,
        momentum,
        weight_decay,
        label_smoothing,
        schedule,
        warm_up,
        bias,
        epochs,
        minibatch,
        seed,
        replay_capacity,
        replay_policy,
        held_out,
        keep_best,
        sample_losses,
        ..
    } = recipe;
    let mut text = String::from("flatmin::Recipe {\n");
    let mut field = |name: &str, value: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "    {name}: {value},");
    };
    field("method", format!("flatmin::Method::{method:?}"));
    field("optimizer", format!("flatmin::Optimizer::{optimizer:?}"));
    field("rho", format!("{rho:?}"));
    field("rho_unit", format!("flatmin::RhoUnit::{rho_unit:?}"));
    field("eta", format!("{eta:?}"));
    field("sharpness_batch", sharpness_batch.to_string());
    field("ascent_every", ascent_every.to_string());
    field("store_perturbation", store_perturbation.to_string());
    field("learning_rate", format!("{learning_rate:?}"));
    field("momentum", format!("{momentum:?}"));
    field("weight_decay", format!("{weight_decay:?}"));
    field("label_smoothing", format!("{label_smoothing:?}"));
    field("schedule", format!("flatmin::Schedule::{schedule:?}"));
    field("warm_up", format!("{warm_up:?}"));
    field("bias", format!("flatmin::BiasTreatment::{bias:?}"));
    field("epochs", epochs.to_string());
    field("minibatch", minibatch.to_string());
    field("seed", seed.to_string());
    field("replay_capacity", replay_capacity.to_string());
    field("replay_policy", format!("flatmin::Policy::{replay_policy:?}"));
    field("held_out", format!("{held_out:?}"));
    field("keep_best", keep_best.to_string());
    field("sample_losses", sample_losses.to_string());
    text + "    ..flatmin::Recipe::DEFAULT\n}"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of the struct is named once, with its value: what Rust's own printing of the struct has.
    #[test]
    fn a_recipe_in_rust_has_every_field() {
        let recipe = Recipe { rho: 0.25, learning_rate: 1e-4, keep_best: true, ..Recipe::DEFAULT };
        let plain = in_rust(&recipe);
        let printed = format!("{recipe:#?}");
        let fields = printed.lines().filter(|line| line.starts_with("    ")).count();
        for line in printed.lines().filter(|line| line.starts_with("    ")) {
            let (name, value) = line.trim().trim_end_matches(',').split_once(": ").unwrap();
            let own = plain.lines().find(|own| own.trim_start().starts_with(&format!("{name}: ")));
            let own = own.unwrap_or_else(|| panic!("{name} is missing")).trim_end_matches(',');
            assert!(own.ends_with(value), "{own} is not {value}");
        }
        assert_eq!(plain.lines().count(), fields + 3, "{plain}");
    }
}
