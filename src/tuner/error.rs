//! What a tuner refuses, and why.

use crate::optim::RecipeError;
use crate::step::StepError;
use crate::store::StoreError;
use crate::tail::TailError;

/// Why a call of [`super::Tuner`] did not do what it was asked; the tuner is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TunerError {
    /// The arena is too small for pack and recipe.
    #[error("arena has {found} bytes, this pack and recipe take {needed}")]
    ArenaTooSmall {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
    /// The arena does not start on a 16-byte boundary.
    #[error("arena is not 16-byte aligned; use `flatmin::Arena`")]
    ArenaMisaligned,
    /// The pack cannot be trained.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// A hyperparameter is out of range.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// An input of the wrong length.
    #[error("input has {found} values, the network takes {expected}")]
    InputLength {
        /// Elements of the network's input.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A label that the network has no output for.
    #[error("label {label} is out of range, the network has classes 0 to {last}")]
    Label {
        /// The label.
        label: usize,
        /// The highest label allowed.
        last: usize,
    },
    /// A label for [`crate::tail::Loss::SquaredError`], which takes target values.
    #[error("the tail's loss is a squared error: observe a target, or the sample as its own")]
    WantsTarget,
    /// Target values for a loss that takes labels.
    #[error("the tail's loss takes labels, not target values")]
    WantsLabel,
    /// A target that is not as long as the output.
    #[error("target has {found} values, the network gives {expected}")]
    TargetLength {
        /// Elements of the network's output.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A target value that is NaN or infinite.
    #[error("target value {index} is not a finite number")]
    TargetValue {
        /// Its place, from 0.
        index: usize,
    },
    /// [`super::Tuner::auc`] where normal or anomalous samples are missing, or of a loss that knows none.
    #[error(
        "normal and anomalous samples are needed, and a loss of anomalies: squared error, or one yes-or-no output"
    )]
    OneKind,
    /// What can only be asked between runs.
    #[error("a tuning run is under way; step until it is finished first")]
    Running,
    /// No sample was observed.
    #[error("there is no labelled sample to tune on; observe some first")]
    NoSamples,
    /// [`super::Tuner::step`] without [`super::Tuner::start`], or after the last step.
    #[error("no tuning run is under way; start one first")]
    NotRunning,
    /// A tuned classification before [`super::Tuner::requantize`].
    #[error("there is no tuned tail yet; requantize after tuning")]
    NotTuned,
    /// A loss or gradient was NaN or infinite; the run has ended, the weights are those of the step before.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes that lie outside of the tail.
    #[error("bytes {offset} to {end} are not inside the tail's {first} to {length}")]
    TailRange {
        /// First byte given.
        offset: usize,
        /// Behind the last.
        end: usize,
        /// First byte allowed.
        first: usize,
        /// Bytes of the tail.
        length: usize,
    },
    /// The bytes written do not match the checksum, or are no tail of this pack; the factory tail is in force.
    #[error("the bytes are not the tail that was announced; the factory tail is in force")]
    TailDamaged,
}
