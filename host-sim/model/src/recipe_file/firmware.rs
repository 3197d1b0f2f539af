//! A recipe's file in Rust: what a firmware includes beside its pack.

use super::{NamedMethod, RecipeFile};
use crate::packer::PackFile;
use crate::training::{Start, Tail};
use flatmin::{Recipe, Sizes};
use flatmin_app::{COMPACT_STACK_BYTES, RamBudget};
use std::fmt::Write as _;

/// More RAM than the file's budget.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the budget is {budget} bytes of RAM, a firmware with this recipe takes {needed}: {parts}; train fewer layers or parts of \
     them, or keep fewer samples (replay_capacity {samples})"
)]
pub struct OverBudget {
    budget: usize,
    needed: usize,
    parts: String,
    samples: u16,
}

impl RecipeFile {
    /// Constants for a firmware with this pack, to stand below those of `flatmin pack`: `RECIPE`, `OPERATORS`, `ARENA_BYTES`, and
    /// `SOLVE_BYTES` where heads are solved.
    ///
    /// # Errors
    /// A firmware that takes more RAM than the file's budget.
    pub fn constants(&self, pack: &PackFile) -> Result<String, OverBudget> {
        if self.compact == Some(true) && !self.any_layers && !pack.pack().sizes().tail_is_chain {
            return Self { any_layers: true, ..self.clone() }.constants(pack);
        }
        let start = self.start.unwrap_or_default();
        let method = self.recipe.method.map_or(Recipe::DEFAULT.method, NamedMethod::method);
        let recipe = self.recipe(method, start);
        let solves = self.is_closed_form() || start == Start::ClosedForm;
        self.check_budget(&pack.pack().sizes(), &recipe, solves || pack.pack().statistics().is_some())?;
        let (size, solver) = match self.tuner() {
            Tail::Full => ("train_bytes", if solves { ".with_solver(true)" } else { "" }),
            Tail::Compact => ("compact_bytes", ".with_solver(false)"),
            Tail::Integer => ("integer_bytes", ".with_solver(false)"),
        };
        let mut text = format!(
            "/// How it is tuned.\npub const RECIPE: flatmin::Recipe = {};\n\
             /// The operators that the pack uses: no other is linked.\n\
             pub static OPERATORS: flatmin::Operators = flatmin::Operators::of(PACK){solver};\n\
             /// Bytes of the tuner's arena.\npub const ARENA_BYTES: usize = SIZES.{size}(&RECIPE);\n",
            in_rust(&recipe)
        );
        if solves {
            text += "/// Bytes that solving the head takes beside the arena.\n\
                     pub const SOLVE_BYTES: usize = SIZES.solve_bytes(&RECIPE);\n";
        }
        Ok(text)
    }

    fn check_budget(&self, sizes: &Sizes, recipe: &Recipe, solver: bool) -> Result<(), OverBudget> {
        let needed = match self.tuner() {
            Tail::Compact => RamBudget::compact(sizes, recipe, COMPACT_STACK_BYTES),
            Tail::Integer => RamBudget::integer(sizes, recipe),
            Tail::Full if solver => RamBudget::new(sizes, recipe).with_solver(sizes, recipe),
            Tail::Full => RamBudget::new(sizes, recipe),
        };
        match self.budget.ram {
            Some(budget) if needed.total_bytes() > budget => {
                let parts = needed.by_purpose().filter(|(_, bytes)| *bytes > 0);
                let parts: Vec<String> = parts.map(|(purpose, bytes)| format!("{purpose} {bytes}")).collect();
                Err(OverBudget {
                    budget,
                    needed: needed.total_bytes(),
                    parts: parts.join(", "),
                    samples: recipe.replay_capacity,
                })
            }
            _ => Ok(()),
        }
    }
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
