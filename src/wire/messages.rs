//! What a desktop asks, and what a device answers.

use crate::recipe::Recipe;
use crate::store::{Contents, SlotState};
use crate::{Acceptance, Drift, Position, Version, Watch};
use serde::{Deserialize, Serialize};

/// What a desktop asks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Request<'a> {
    /// Who are you?
    Identify,
    /// Keep a labelled sample; int8 values as bytes.
    Observe {
        /// Its class.
        label: u16,
        /// Its values.
        input: &'a [u8],
    },
    /// Start a run.
    Start(Recipe),
    /// One minibatch.
    Step,
    /// Quantize the tuned weights.
    Requantize,
    /// Classify a sample with the factory tail, the tuned f32 tail and, if there is one, the tuned int8 tail.
    Judge {
        /// Its class, for the loss.
        label: u16,
        /// Its values.
        input: &'a [u8],
    },
    /// What has come out.
    Summarize {
        /// Radius at which sharpness is measured.
        rho: f32,
    },
    /// Keep the tuned tail in flash.
    Commit,
    /// Take the last commit back.
    RollBack,
    /// Back to the factory tail, in flash, too, where the board has a store.
    FactoryReset,
    /// Back to the factory tail and no samples, until the next start: what is in flash stays. A run begins the same
    /// whatever came before.
    Forget,
    /// Classify a sample of which no label is known, with the tail in force; while the board's button is pressed, also
    /// keep it, with the label that [`Self::Label`] gave.
    Classify {
        /// Its values.
        input: &'a [u8],
    },
    /// What the button stands for from now on; `None`: nothing.
    Label(
        /// The class.
        Option<u16>,
    ),
    /// How are the samples kept doing?
    Measure {
        /// Radius at which sharpness is measured.
        rho: f32,
    },
    /// What lies in a slot of the store?
    Slot(
        /// Which, from 0.
        u8,
    ),
    /// Run the packed network on a sample and give the checksums of its operators' outputs.
    Trace {
        /// The first operator whose checksum is sent.
        first: u16,
        /// The sample's values.
        input: &'a [u8],
    },
    /// Send a part of the tuned tail: [`crate::Tuner::read_tail`].
    PullTail {
        /// Its first byte.
        offset: u32,
    },
    /// Take a part of a tail: [`crate::Tuner::write_tail`].
    PushTail {
        /// Its first byte.
        offset: u32,
        /// Up to [`TAIL_PART_BYTES`](super::TAIL_PART_BYTES).
        bytes: &'a [u8],
    },
    /// Put the tail that was pushed in force: [`crate::Tuner::adopt_tail`].
    AdoptTail {
        /// The description of its layers, in one piece: [`LAYER_BYTES`](crate::store::LAYER_BYTES) for each that is trained.
        layers: &'a [u8],
        /// CRC-32 of the description and all that was pushed, or of the int8 tail, where no weights were pushed.
        crc32: u32,
    },
    /// One slice of a step: [`crate::Tuner::poll`]. Other requests may come before the next.
    Poll,
    /// Take the tuned tail if it is the better one: [`crate::Tuner::accept`].
    Accept,
    /// A part of a row of the confusion matrix: [`crate::Tuner::confusion_row`].
    Confusion {
        /// The tail that is asked about.
        version: Version,
        /// The row.
        label: u16,
        /// The first class that is counted.
        first: u16,
    },
    /// Follow the samples' running loss from now on, or no longer: [`crate::Tuner::watch`].
    Watch(
        /// What from where on is drift.
        Option<Watch>,
    ),
    /// How has the running loss developed? [`crate::Tuner::drift`].
    Drift,
    /// Send a part of the run under way: [`crate::Tuner::save_run`].
    PullRun {
        /// Its first byte.
        offset: u32,
    },
    /// Make ready for a saved run: [`crate::Tuner::expect_run`].
    ExpectRun {
        /// Its first [`RUN_HEAD_BYTES`](crate::RUN_HEAD_BYTES).
        head: &'a [u8],
    },
    /// Take a part of it: [`crate::Tuner::write_run`].
    PushRun {
        /// Its first byte.
        offset: u32,
        /// Up to [`TAIL_PART_BYTES`](super::TAIL_PART_BYTES).
        bytes: &'a [u8],
    },
    /// Go on with it: [`crate::Tuner::adopt_run`].
    AdoptRun {
        /// Its head again.
        head: &'a [u8],
    },
    /// Keep a sample with a target: of a tail with [`crate::tail::Loss::SquaredError`].
    ObserveTarget {
        /// Its values, as [`crate::Tuner::observe_target`] takes them; `None`: the sample itself.
        target: Option<&'a [u8]>,
        /// Never to be trained on: [`crate::Tuner::observe_anomaly`]. The target is the sample itself.
        anomalous: bool,
        /// Its values.
        input: &'a [u8],
    },
    /// The errors of all tails on a sample, likewise.
    JudgeTarget {
        /// As above.
        target: Option<&'a [u8]>,
        /// Its values.
        input: &'a [u8],
    },
    /// Make a class of the first spare output: [`crate::Tuner::add_class`].
    AddClass,
    /// How well does a tail tell the anomalies kept from the normal samples? [`crate::Tuner::auc`].
    Auc {
        /// Which tail.
        version: Version,
    },
    /// Solve the last layer in closed form, of the samples that a run by this recipe would train on:
    /// [`crate::Tuner::solve`]. [`Self::Start`] may go on from there.
    Solve(Recipe),
    /// Keep this key: from now on only its holder changes the device. Taken while it has none, else inside of
    /// [`Self::Signed`] alone.
    #[cfg(feature = "signed")]
    Provision {
        /// The key.
        key: [u8; 32],
    },
    /// Begin a session in which requests are signed.
    #[cfg(feature = "signed")]
    Challenge {
        /// Random bytes.
        nonce: [u8; 16],
    },
    /// A request of the key's holder.
    #[cfg(feature = "signed")]
    Signed {
        /// Tag of the frame's number and the request, under the session's key.
        tag: [u8; 16],
        /// The request, in postcard's encoding.
        request: &'a [u8],
    },
}

#[cfg(feature = "signed")]
impl Request<'_> {
    /// Whether a device with a key answers it to anybody: what changes nothing there, and gives away neither samples nor
    /// weights. All others take the key's holder.
    ///
    /// ```
    /// use flatmin::wire::Request;
    /// assert!(Request::Identify.is_open() && !Request::Commit.is_open());
    /// ```
    pub const fn is_open(&self) -> bool {
        matches!(
            self,
            Self::Identify
                | Self::Judge { .. }
                | Self::JudgeTarget { .. }
                | Self::Summarize { .. }
                | Self::Measure { .. }
                | Self::Slot(_)
                | Self::Trace { .. }
                | Self::Confusion { .. }
                | Self::Drift
                | Self::Auc { .. }
                | Self::Challenge { .. }
        )
    }
}

/// From whom a device takes what changes it.
/// [`crate::wire::encode`] has an example of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Access {
    /// From anybody on the line: the firmware was built without the feature `signed`, or its board has no pages for a key.
    Anybody,
    /// From nobody yet: it waits for its key.
    Unclaimed,
    /// From the holder of its key.
    KeyHolder,
    /// From nobody: the flash that its key is kept in cannot be read.
    Nobody,
}

/// What a device answers. `ticks` are those of the device's clock that the work took.
/// [`crate::wire::encode`] has an example of messages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Response<'a> {
    /// To [`Request::Identify`].
    Identity {
        /// [`VERSION`](super::VERSION).
        version: u16,
        /// CRC-32 of the pack.
        pack_crc32: u32,
        /// Bytes of the arena.
        arena_bytes: u32,
        /// Values that the network takes.
        input_length: u32,
        /// Samples that the arena holds.
        capacity: u16,
        /// Samples that are held.
        samples: u16,
        /// CRC-32 of the f32 weights.
        weights_crc32: u32,
        /// [`crate::Tuner::requantize`]d, or restored: the tuned tail classifies.
        tuned: bool,
        /// Number of the record in flash that came into force last; `None` is the factory tail.
        sequence: Option<u32>,
        /// Slots of the store; 0 without one.
        slots: u8,
        /// Ticks a second of the board's clock.
        hertz: u32,
        /// The board's name, up to 32 bytes.
        board: &'a str,
        /// What [`Request::PullTail`] gives.
        contents: Contents,
        /// From whom it takes what changes it.
        access: Access,
    },
    /// Done.
    Done {
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Step`].
    Stepped {
        /// Epoch, from 0.
        epoch: u16,
        /// Mean loss of the minibatch.
        loss: f32,
        /// Last of its epoch.
        epoch_finished: bool,
        /// Last of the run.
        finished: bool,
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Judge`]; classes.
    Judged {
        /// Factory tail, int8.
        factory: u16,
        /// Current weights, f32.
        tuned_f32: u16,
        /// Tuned tail, int8.
        tuned_int8: Option<u16>,
        /// Cross-entropy of the f32 tail.
        loss: f32,
    },
    /// To [`Request::Summarize`].
    Summary {
        /// CRC-32 of the f32 weights.
        weights_crc32: u32,
        /// Multiply-adds.
        macs: u64,
        /// Mean rise of a sample's loss.
        sharpness: f32,
        /// Largest stack seen, in bytes; 0 if the board cannot tell.
        stack_bytes: u32,
    },
    /// The request was not carried out.
    Refused(
        /// Why, in words.
        &'a str,
    ),
    /// The frame was damaged on the way: send it again.
    Damaged,
    /// To [`Request::Commit`], [`Request::RollBack`] and [`Request::FactoryReset`]: what is in force now.
    InForce {
        /// Number of the record in flash; `None` is the factory tail.
        sequence: Option<u32>,
        /// CRC-32 of the f32 weights.
        weights_crc32: u32,
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Classify`].
    Classified {
        /// The class.
        class: u16,
        /// Its int8 output.
        output: i8,
        /// By the tuned tail.
        tuned: bool,
        /// The button was pressed: the sample was kept.
        kept: bool,
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Measure`]: means over the samples kept, at the current f32 weights.
    Metrics {
        /// Samples kept.
        samples: u16,
        /// Epoch of the run under way, from 0.
        epoch: Option<u16>,
        /// Cross-entropy.
        loss: f32,
        /// Share of right classes.
        accuracy: f32,
        /// Rise of a sample's loss.
        sharpness: f32,
    },
    /// To [`Request::Slot`].
    Slot(
        /// What lies there.
        SlotState,
    ),
    /// To [`Request::Trace`].
    Checksums {
        /// Operators of the network.
        operators: u16,
        /// CRC-32 of each output, four bytes each, little endian; up to [`CHECKSUMS`](super::CHECKSUMS).
        crc32s: &'a [u8],
    },
    /// To [`Request::PullTail`] and [`Request::PullRun`].
    Tail {
        /// Bytes of all.
        length: u32,
        /// Bytes from the offset on, up to [`TAIL_PART_BYTES`](super::TAIL_PART_BYTES); none after the end.
        bytes: &'a [u8],
    },
    /// To [`Request::Poll`], where the step goes on; else [`Response::Stepped`].
    Underway {
        /// Where it stands.
        position: Position,
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Accept`].
    Accepted {
        /// What was decided, and why.
        acceptance: Acceptance,
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Confusion`].
    Counts {
        /// Classes of the network.
        classes: u16,
        /// From the first class that was asked for on, two bytes each, little endian; up to [`COUNTS`](super::COUNTS).
        counts: &'a [u8],
    },
    /// To [`Request::Drift`]: `None` where nothing is watched.
    Drift(
        /// The running means.
        Option<Drift>,
    ),
    /// To [`Request::JudgeTarget`]: mean squared errors.
    Compared {
        /// Factory tail, int8.
        factory: f32,
        /// Current weights, f32.
        tuned_f32: f32,
        /// Tuned tail, int8.
        tuned_int8: Option<f32>,
    },
    /// To [`Request::AddClass`].
    ClassAdded {
        /// Its label.
        label: u16,
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Auc`].
    Auc {
        /// Area under the ROC curve, 0 to 1.
        auc: f32,
        /// Clock ticks.
        ticks: u32,
    },
    /// To [`Request::Challenge`].
    #[cfg(feature = "signed")]
    Challenged {
        /// The device's own nonce.
        nonce: [u8; 16],
        /// Its proof that it has the key.
        proof: [u8; 16],
    },
}
