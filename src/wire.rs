//! Messages between a desktop and a device, over any byte stream, which may lose, double and flip bytes: the desktop
//! asks, the device answers once.
//!
//! A frame is a triple: a CRC-32/ISO-HDLC, a sequence number, and the body, a message in postcard's encoding. The CRC
//! is that of the number's four bytes, little endian, and the body. The triple is encoded by postcard (u32, u32, byte
//! array), then by COBS, and ends with a zero byte. A frame of that zero alone means nothing.
//!
//! | who | what | then |
//! | --- | --- | --- |
//! | desktop | opens a session | asks [`Request::Identify`] with number [`OPENING`] |
//! | desktop | asks | takes the next number, one more than the last; after the highest comes 1 |
//! | device | gets a request with a new number | carries it out, answers with that number, keeps the answer |
//! | device | gets the number that it answered last | sends the same answer again, and does nothing else |
//! | device | gets number [`OPENING`] | carries it out whenever it comes, and forgets the answer that it kept |
//! | device | gets a damaged frame | answers [`Response::Damaged`] with number [`OPENING`] |
//! | device | gets a sound frame with a message that it does not know | answers [`Response::Refused`] with its number |
//! | desktop | gets a damaged frame or [`Response::Damaged`], or nothing in time | sends a zero and the same frame again |
//! | desktop | gets an answer with another number | waits on |
//!
//! So a message is carried out once, whatever happens to its bytes, as long as one of its frames and one of the answers
//! get through.

use crate::cobs::{self, Cobs};
use crate::optim::Recipe;
use crate::pack::{CRC, Sizes};
use crate::store::SlotState;
use crate::store::record::LAYER_BYTES;
use crate::{Acceptance, Drift, Position, RUN_HEAD_BYTES, Version, Watch};
use serde::{Deserialize, Serialize};

/// Version of these messages.
pub const VERSION: u16 = 5;

/// The number with which a session begins.
pub const OPENING: u32 = 0;

/// Bytes of the longest request that carries no input, framed.
const LONGEST_WITHOUT_INPUT: usize = 112;

/// Most bytes of a tail in one message.
pub const TAIL_PART_BYTES: usize = 64;

/// Most classes that are counted in one [`Response::Counts`].
pub const COUNTS: usize = TAIL_PART_BYTES / 2;

/// Most operators whose checksums are in one [`Response::Checksums`].
pub const CHECKSUMS: usize = 16;

/// Bytes of the longest response, framed, with a reason of up to 80 bytes in [`Response::Refused`].
pub const RESPONSE_BYTES: usize = 128;

/// Bytes of the longest request that carries `input_length` values, or a description of layers of so many bytes, framed.
/// COBS adds a byte to every 254.
///
/// ```
/// use flatmin::wire::{self, Request};
/// let input = [0x55; 600];
/// let (mut scratch, mut frame) = ([0; wire::request_bytes(600)], [0; wire::request_bytes(600)]);
/// let request = Request::Observe { label: 6, input: &input };
/// assert!(wire::encode(1, &request, &mut scratch, &mut frame).is_ok());
/// ```
pub const fn request_bytes(input_length: usize) -> usize {
    input_length.saturating_add(input_length / 254).saturating_add(LONGEST_WITHOUT_INPUT)
}

/// Bytes of the longest request to a device with such a network, framed: the size of its buffer for incoming frames.
///
/// ```
/// use flatmin::{Sizes, wire};
/// let sizes = Sizes { input_length: 600, feature_length: 192, output_length: 7, arena_bytes: 3000,
///     tail_layers: 2, tail_weights: 192 * 64 + 64 * 7, tail_outputs: 71,
///     tail_parameters: 192 * 64 + 64 * 7 + 71, workspace_floats: 192 + 4 * 71, tail_is_chain: true,
///     loss: flatmin::tail::Loss::CrossEntropy };
/// assert_eq!(wire::longest_request_bytes(&sizes), wire::request_bytes(600));
/// let deep = Sizes { input_length: 9, tail_layers: 32, tail_is_chain: false, ..sizes };
/// assert_eq!(wire::longest_request_bytes(&deep), wire::request_bytes(flatmin::RUN_HEAD_BYTES));
/// ```
pub const fn longest_request_bytes(sizes: &Sizes) -> usize {
    let layers = sizes.tail_layers.saturating_mul(LAYER_BYTES);
    let longest = if layers > sizes.input_length { layers } else { sizes.input_length };
    request_bytes(if RUN_HEAD_BYTES > longest { RUN_HEAD_BYTES } else { longest })
}

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
        /// Up to [`TAIL_PART_BYTES`].
        bytes: &'a [u8],
    },
    /// Put the tail that was pushed in force: [`crate::Tuner::adopt_tail`].
    AdoptTail {
        /// The description of its layers, in one piece: [`LAYER_BYTES`] for each that is trained.
        layers: &'a [u8],
        /// CRC-32 of the description and all that was pushed.
        crc32: u32,
    },
    /// One slice of a step: [`crate::Tuner::poll`]. Other requests may come before the next.
    Poll,
    /// Take the tuned tail if it is the better one: [`crate::Tuner::accept`].
    Accept,
    /// A part of a row of the confusion matrix: [`crate::Tuner::confusion_row`].
    Confusion {
        /// Of which tail.
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
        /// Its first [`RUN_HEAD_BYTES`].
        head: &'a [u8],
    },
    /// Take a part of it: [`crate::Tuner::write_run`].
    PushRun {
        /// Its first byte.
        offset: u32,
        /// Up to [`TAIL_PART_BYTES`].
        bytes: &'a [u8],
    },
    /// Go on with it: [`crate::Tuner::adopt_run`].
    AdoptRun {
        /// Its head again.
        head: &'a [u8],
    },
}

/// What a device answers. `ticks` are those of the device's clock that the work took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Response<'a> {
    /// To [`Request::Identify`].
    Identity {
        /// [`VERSION`].
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
        /// CRC-32 of each output, four bytes each, little endian; up to [`CHECKSUMS`].
        crc32s: &'a [u8],
    },
    /// To [`Request::PullTail`] and [`Request::PullRun`].
    Tail {
        /// Bytes of all.
        length: u32,
        /// Bytes from the offset on, up to [`TAIL_PART_BYTES`]; none behind the end.
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
        /// From the first class that was asked for on, two bytes each, little endian; up to [`COUNTS`].
        counts: &'a [u8],
    },
    /// To [`Request::Drift`]: `None` where nothing is watched.
    Drift(
        /// The running means.
        Option<Drift>,
    ),
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum WireError {
    /// Damaged on the way.
    #[error("damaged on the way")]
    Damaged,
    /// A sound frame with a message of another version.
    #[error("unknown message, number {sequence}")]
    Unknown {
        /// Its sequence number.
        sequence: u32,
    },
    /// The message does not fit into the buffer.
    #[error("message is longer than the buffer")]
    TooLong,
}

/// Writes a frame into `frame`, using `scratch` of the same size; returns its bytes.
///
/// # Errors
/// [`WireError::TooLong`].
///
/// ```
/// use flatmin::wire::{self, Request};
/// let (mut scratch, mut frame) = ([0; 64], [0; 64]);
/// let request = Request::Observe { label: 3, input: &[1, 0, 2] };
/// let bytes = wire::encode(17, &request, &mut scratch, &mut frame)?;
/// assert_eq!(wire::decode::<Request>(bytes)?, (17, request));
/// # Ok::<(), wire::WireError>(())
/// ```
pub fn encode<'b>(
    sequence: u32,
    message: &impl Serialize,
    scratch: &mut [u8],
    frame: &'b mut [u8],
) -> Result<&'b mut [u8], WireError> {
    let body: &[u8] = postcard::to_slice(message, scratch).map_err(|_| WireError::TooLong)?;
    let triple = (checksum(sequence, body), sequence, body);
    postcard::serialize_with_flavor(&triple, Cobs::new(frame)).map_err(|_| WireError::TooLong)
}

/// Reads a frame, in place: its sequence number and its message.
///
/// # Errors
/// [`WireError::Damaged`], [`WireError::Unknown`].
pub fn decode<'b, T: Deserialize<'b>>(frame: &'b mut [u8]) -> Result<(u32, T), WireError> {
    let triple = cobs::decode(frame).ok_or(WireError::Damaged)?;
    let (crc, sequence, body): (u32, u32, &[u8]) =
        postcard::from_bytes(triple).map_err(|_| WireError::Damaged)?;
    if checksum(sequence, body) != crc {
        return Err(WireError::Damaged);
    }
    let message = postcard::from_bytes(body).map_err(|_| WireError::Unknown { sequence })?;
    Ok((sequence, message))
}

fn checksum(sequence: u32, body: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&sequence.to_le_bytes());
    digest.update(body);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{BiasTreatment, Method, Schedule};
    use crate::step::Phase;
    use crate::store::{Contents, MAX_SLOTS, Record};
    use crate::tail::MAX_LAYERS;
    use crate::{Judgement, Work};
    use std::{string::String, vec};

    fn fits(message: &impl Serialize, bytes: usize) {
        let (mut scratch, mut frame) = (vec![0; bytes], vec![0; bytes]);
        assert!(encode(u32::MAX, message, &mut scratch, &mut frame).is_ok(), "{bytes} bytes");
    }

    /// Values that postcard writes longest, bytes without a zero, which COBS writes longest.
    #[test]
    fn the_longest_messages_fit() {
        let recipe = Recipe {
            method: Method::Asam,
            sharpness_batch: u16::MAX,
            store_perturbation: true,
            schedule: Schedule::Cosine,
            bias: BiasTreatment::Frozen,
            epochs: u16::MAX,
            minibatch: u16::MAX,
            seed: u64::MAX,
            replay_capacity: u16::MAX,
            replay_policy: crate::replay::Policy::Balanced,
            held_out: 0.3,
            keep_best: true,
            sample_losses: true,
            ..Recipe::DEFAULT
        };
        fits(&Request::Start(recipe), request_bytes(1));
        for length in [0, 1, 253, 254, 255, 600, 9_216, 27_648, 1 << 20] {
            let input = vec![0xFF; length];
            fits(&Request::Judge { label: u16::MAX, input: &input }, request_bytes(length));
        }
        let why: String = core::iter::repeat_n('x', 80).collect();
        fits(&Response::Refused(&why), RESPONSE_BYTES);
        let part = [0xFF; TAIL_PART_BYTES];
        fits(&Request::PushTail { offset: u32::MAX, bytes: &part }, request_bytes(1));
        for count in 1..=MAX_LAYERS {
            let layers = vec![0xFF; count * LAYER_BYTES];
            fits(&Request::AdoptTail { layers: &layers, crc32: u32::MAX }, request_bytes(layers.len()));
        }
        let head = [0xFF; RUN_HEAD_BYTES];
        fits(&Request::ExpectRun { head: &head }, request_bytes(RUN_HEAD_BYTES));
        fits(&Request::PushRun { offset: u32::MAX, bytes: &part }, request_bytes(1));
        let watch = Watch { samples: u16::MAX, rho: 1.0, loss: 1.0, rise: 1.0 };
        fits(&Request::Watch(Some(watch)), request_bytes(1));
        let work = Work::Step(Phase::Update);
        let position = Position { step: u32::MAX, steps: u32::MAX, work, sample: 65_535 };
        fits(&Response::Underway { position, ticks: u32::MAX }, RESPONSE_BYTES);
        let most = Judgement { samples: u32::MAX, right: u32::MAX, loss: 1.0 };
        let acceptance = Acceptance { factory: most, running: most, candidate: most, accepted: true };
        fits(&Response::Accepted { acceptance, ticks: u32::MAX }, RESPONSE_BYTES);
        fits(&Response::Counts { classes: u16::MAX, counts: &part }, RESPONSE_BYTES);
        let drift = Drift { samples: u32::MAX, loss: 1.0, rise: 1.0, drifted: true };
        fits(&Response::Drift(Some(drift)), RESPONSE_BYTES);
        fits(&Response::Tail { length: u32::MAX, bytes: &part }, RESPONSE_BYTES);
        let crc32s = [0xFF; 4 * CHECKSUMS];
        fits(&Response::Checksums { operators: u16::MAX, crc32s: &crc32s }, RESPONSE_BYTES);
        let record = Record {
            slot: MAX_SLOTS,
            sequence: u32::MAX,
            contents: Contents::Int8AndF32,
            length: u32::MAX,
            weights_crc32: u32::MAX,
        };
        fits(&Response::Slot(SlotState::Whole(record)), RESPONSE_BYTES);
        fits(
            &Response::Identity {
                version: u16::MAX,
                pack_crc32: u32::MAX,
                arena_bytes: u32::MAX,
                input_length: u32::MAX,
                capacity: u16::MAX,
                samples: u16::MAX,
                weights_crc32: u32::MAX,
                tuned: true,
                sequence: Some(u32::MAX),
                slots: u8::MAX,
                hertz: u32::MAX,
                board: why.get(..32).unwrap_or(""),
            },
            RESPONSE_BYTES,
        );
        fits(
            &Response::Summary {
                weights_crc32: u32::MAX,
                macs: u64::MAX,
                sharpness: f32::MAX,
                stack_bytes: u32::MAX,
            },
            RESPONSE_BYTES,
        );
    }
}
