//! Which tuner trains a tail, and what its steps begin with.

use crate::model::Model;
use crate::packer::{PackFile, TailPlan};
use anyhow::Result;
use flatmin::store::Contents;
use flatmin::{CompactPlan, IntegerPlan, MemoryPlan, Method, Optimizer, Recipe, Tuner};

/// Which of the crate's tuners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tail {
    /// [`Tuner`]: f32 weights.
    #[default]
    Full,
    /// [`CompactTuner`](flatmin::CompactTuner): few bytes, integers.
    Compact,
    /// [`IntegerTuner`](flatmin::IntegerTuner): integers, layers of any kind.
    Integer,
}

impl Tail {
    /// Kind of the tuner that makes tails with these contents.
    pub fn of(contents: Contents) -> Self {
        match contents {
            Contents::Int8AndCompact => Self::Compact,
            Contents::Int8AndF32 => Self::Full,
            Contents::Int8 => Self::Integer,
        }
    }

    /// The arena's bytes by purpose.
    pub fn memory(self, sizes: &flatmin::Sizes, recipe: &Recipe) -> Vec<(String, usize)> {
        let own =
            |parts: &[(&str, usize)]| parts.iter().map(|&(name, bytes)| (name.to_owned(), bytes)).collect();
        match self {
            Self::Full => own(&MemoryPlan::new(sizes, recipe).by_purpose()),
            Self::Compact => own(&CompactPlan::new(sizes, recipe).by_purpose()),
            Self::Integer => own(&IntegerPlan::new(sizes, recipe).by_purpose()),
        }
    }

    /// The arena of a run, on the boundary that the runtime wants.
    pub fn arena(self, file: &PackFile, recipe: &Recipe) -> Vec<u128> {
        vec![0; self.arena_bytes(&file.pack().sizes(), recipe).div_ceil(16)]
    }

    /// Bytes of the arena.
    pub fn arena_bytes(self, sizes: &flatmin::Sizes, recipe: &Recipe) -> usize {
        match self {
            Self::Full => sizes.train_bytes(recipe),
            Self::Compact => sizes.compact_bytes(recipe),
            Self::Integer => sizes.integer_bytes(recipe),
        }
    }
}

/// What gradient steps begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The factory's tail.
    #[default]
    Factory,
    /// The last layer solved in closed form, in front of it the factory's layers. Samples whose label it contradicts are left
    /// out. [`Tail::Integer`]'s steps begin with the factory's last layer all the same.
    ClosedForm,
}

impl Start {
    /// What steps begin with where nothing else is asked for: the closed form where more than two layers are trained and
    /// the model has statistics of samples that the factory knows.
    ///
    /// # Errors
    /// A tail that the model does not have.
    pub fn usual(model: &Model, tail: &TailPlan) -> Result<Self> {
        let deep = tail.layers > 2 && model.network.statistics.is_some();
        Ok(if deep && Tuner::can_solve(&model.pack(tail)?.pack()) { Self::ClosedForm } else { Self::Factory })
    }

    /// Usual start of [`Tail::Integer`]: the closed form wherever the last layer can be solved in the memory of the differences, as
    /// its large steps would learn wrong labels by heart.
    ///
    /// # Errors
    /// A tail that the model does not have.
    pub fn usual_in_integers(model: &Model, tail: &TailPlan) -> Result<Self> {
        let file = model.pack(tail)?;
        let solves = Tuner::can_solve(&file.pack()) && file.pack().sizes().integer_solve_bytes() == 0;
        Ok(if solves { Self::ClosedForm } else { Self::Factory })
    }

    /// The recipe that steps from here take where nothing else is asked for.
    pub fn recipe(self, method: Method, optimizer: Optimizer) -> Recipe {
        let base = match self {
            Self::Factory => Recipe::DEFAULT,
            Self::ClosedForm => Recipe::FROM_CLOSED_FORM,
        };
        let learning_rate = match optimizer {
            Optimizer::Sgd => base.learning_rate,
            Optimizer::Adam => 0.001,
        };
        Recipe { method, optimizer, learning_rate, ..base }
    }
}
