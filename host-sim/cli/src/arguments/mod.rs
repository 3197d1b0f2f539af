//! Arguments that several commands share, and what they make of them.

mod adaptation;
pub mod quantity;
mod tune_arguments;
mod tune_options;

pub use adaptation::{Adaptation, calibrated_by};
pub use tune_arguments::{
    BasisArguments, CompactArguments, FurtherArguments, JudgementArguments, LossArgument, LossArguments,
    PageArguments, PartsArguments, SpareArguments, StepArguments, TuneArguments,
};
pub use tune_options::TuneOptions;

use clap::error::ErrorKind;

/// Arguments that do not go together, found once a recipe's file has been read: exit code 2, as of what clap refuses.
pub fn misused(text: String) -> anyhow::Error {
    clap::Error::raw(ErrorKind::MissingRequiredArgument, text + "\n").into()
}
