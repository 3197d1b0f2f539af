//! What a tuner refuses, and why.

use crate::recipe::RecipeError;
use crate::step::StepError;
use crate::store::StoreError;
use crate::tail::TailError;

/// Why a call of [`super::Tuner`] did not do what it was asked; the tuner is as it was before, but where it says otherwise.
/// [`crate::Tuner`] has examples.
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
    /// A latent of the wrong length.
    #[error("latent has {found} values, the tail takes {expected}")]
    LatentLength {
        /// Elements of the features.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A recipe with what the tuner's arithmetic leaves out: see [`crate::CompactTuner`].
    #[error("a compact tail has no {what}: leave it out of the recipe, or tune in f32")]
    LeftOut {
        /// What the recipe asks for.
        what: &'static str,
    },
    /// The processor takes numbers below 2^-126 for 0, so that a run would end in other bits than elsewhere.
    #[error(
        "the processor flushes subnormal numbers to zero, and a run would end in other bits: clear FPSCR.FZ (x86: MXCSR.FTZ and DAZ)"
    )]
    FlushesToZero,
    /// Weights that have left the range in which a run stays within f32: it has diverged.
    #[error(
        "the weights have grown beyond 2^72: the run has diverged; reset, and tune with a smaller learning rate"
    )]
    Diverged,
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
    /// [`super::Tuner::solve`] of a tail that does not end in a fully connected layer, trained whole, whose outputs are
    /// classes.
    #[error(
        "the head cannot be solved: the tail does not end in a fully connected layer of classes, trained whole"
    )]
    NoHead,
    /// [`super::Tuner::solve`] in a build, or of an arithmetic, that has no solver.
    #[error(
        "there is no solver of heads: the firmware's pack has no statistics (`flatmin pack --calibration`), or the tail is compact"
    )]
    NoSolver,
    /// Scratch memory of [`super::Tuner::solve`] that is too small, or more samples than its sums hold.
    #[error(
        "solving the head takes {needed} words of scratch memory and at most 33,025 samples; there are {found} words and {samples} samples"
    )]
    SolveRoom {
        /// [`crate::Sizes::solve_bytes`] / 4.
        needed: usize,
        /// Words given.
        found: usize,
        /// Samples to solve it of.
        samples: usize,
    },
    /// A tuned classification before [`super::Tuner::requantize`].
    #[error("there is no tuned tail yet; requantize after tuning")]
    NotTuned,
    /// A run of an [`crate::IntegerTuner`] takes the place of the tail in force, of which there is no other copy.
    #[error(
        "the tuned tail in force has no other copy, and a run takes its place: commit it first, or reset to the factory's tail"
    )]
    OnlyCopy,
    /// The tail that was in force gave its place to what has come to nothing ([`super::Tuner::awaits_restore`]).
    #[error("the tail of before has given its place up: restore it first, or reset to the factory's tail")]
    RestoreExpected,
    /// A loss or gradient was NaN or infinite; the run has ended, the weights are those of the step before.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Bytes that lie outside of the tail, or of a saved run.
    #[error("bytes {offset} to {end} are not inside {first} to {length}, where they belong")]
    TailRange {
        /// First byte given.
        offset: usize,
        /// One past the last byte given.
        end: usize,
        /// First byte allowed.
        first: usize,
        /// Bytes of the tail.
        length: usize,
    },
    /// A saved run is expected, and not yet adopted: the weights are neither here nor there.
    #[error("a saved run is expected; write and adopt it, or start another")]
    RunExpected,
    /// A tail was written in part, and is not yet adopted: the weights are neither here nor there. The int8 tail of before
    /// is in force.
    #[error("a tail is being written; write the rest and adopt it, or start a run from the tail in force")]
    TailExpected,
    /// The bytes are no saved run, or not all of one. Where one was expected and written, it no longer is, and the weights
    /// are those of the int8 tail in force.
    #[error("the bytes are not a whole saved run; save it again, or start one")]
    RunDamaged,
    /// A saved run of another length than its recipe and the samples here give.
    #[error("the run has {found} bytes past its head, its recipe and the samples here make {expected}")]
    RunLength {
        /// Bytes that its recipe and the samples here make.
        expected: usize,
        /// Bytes announced.
        found: usize,
    },
    /// A run that was saved with something else.
    #[error("the run was saved with another {what}: {found:#010x}, here it is {expected:#010x}")]
    RunOfAnother {
        /// What differs: pack and samples by their CRC-32, or the format's version.
        what: &'static str,
        /// Here.
        expected: u32,
        /// What the saved run says.
        found: u32,
    },
    /// Classes of a tail whose labels are none.
    #[error("the tail's loss is not cross-entropy: its labels are no classes")]
    NoClasses,
    /// [`super::Tuner::add_class`] of a pack whose spare classes are all added, or that has none.
    #[error("no spare class is left of {spare}; pack with more: `flatmin pack --spare-classes`")]
    NoSpareClass {
        /// Spare classes of the pack.
        spare: usize,
    },
    /// [`super::Tuner::add_class`] without samples of the class.
    #[error("no sample is labelled {label}, the class to add; observe some first")]
    NoSamplesOfClass {
        /// The label that the class is to have.
        label: usize,
    },
    /// [`super::Tuner::add_class`] of samples whose mean feature gives no direction: not finite, or that of the others.
    #[error("the mean feature of the samples labelled {label} is no number, or that of all other samples")]
    ClassFeatures {
        /// The label that the class was to have.
        label: usize,
    },
    /// A buffer for counts of classes that is not as long as it must be.
    #[error("the confusion matrix has {found} places, {expected} are needed")]
    ConfusionLength {
        /// Classes times classes.
        expected: usize,
        /// Places given.
        found: usize,
    },
    /// The bytes written do not match the checksum, or are no tail of this pack. The tail of before is in force, and the
    /// weights are those that it stands for.
    #[error("the bytes are not the tail that was announced; the tail of before is in force")]
    TailDamaged,
}
