//! Arguments that several commands share, and what they make of them.

mod adaptation;
pub mod quantity;
mod tune_options;

pub use adaptation::{Adaptation, calibrated_by};
pub use tune_options::{LossArgument, TuneOptions};
