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
//! get through. [`encode`] and [`request_bytes`] have examples.

mod messages;
#[cfg(feature = "signed")]
pub mod signed;

use crate::RUN_HEAD_BYTES;
use crate::cobs::{self, Cobs};
use crate::pack::{CRC, Sizes};
use crate::store::record::LAYER_BYTES;
pub use messages::{Access, Request, Response};
use serde::{Deserialize, Serialize};

/// Version of these messages.
/// [`encode`] has an example.
pub const VERSION: u16 = 10;

/// The number with which a session begins.
/// [`encode`] has an example.
pub const OPENING: u32 = 0;

/// Bytes of the longest request that carries no input, framed.
const LONGEST_WITHOUT_INPUT: usize = 120;

/// Most bytes of a tail in one message.
/// [`encode`] has an example.
pub const TAIL_PART_BYTES: usize = 64;

/// Most classes that are counted in one [`Response::Counts`].
/// [`encode`] has an example.
pub const COUNTS: usize = TAIL_PART_BYTES / 2;

/// Most operators whose checksums are in one [`Response::Checksums`].
/// [`encode`] has an example.
pub const CHECKSUMS: usize = 16;

/// Bytes of the longest response, framed, with a reason of up to 80 bytes in [`Response::Refused`].
/// [`encode`] has an example.
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
///     loss: flatmin::Loss::CrossEntropy, last_features: 64, layer_room: [0; 4], feature_count: 1 };
/// assert_eq!(wire::longest_request_bytes(&sizes), wire::request_bytes(600));
/// let deep = Sizes { input_length: 9, tail_layers: 32, tail_is_chain: false, ..sizes };
/// assert_eq!(wire::longest_request_bytes(&deep), wire::request_bytes(flatmin::RUN_HEAD_BYTES));
/// ```
pub const fn longest_request_bytes(sizes: &Sizes) -> usize {
    let layers = sizes.tail_layers.saturating_mul(LAYER_BYTES);
    let sample = sizes.input_length.saturating_add(sizes.target_length());
    let longest = if layers > sample { layers } else { sample };
    request_bytes(if RUN_HEAD_BYTES > longest { RUN_HEAD_BYTES } else { longest })
}

/// Why bytes are not a frame.
/// [`encode`] has an example.
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
    let body = write_body(message, scratch)?;
    let triple = (checksum(sequence, body), sequence, body);
    postcard::serialize_with_flavor(&triple, Cobs::new(frame)).map_err(|_| WireError::TooLong)
}

/// Reads a frame, in place: its sequence number and its message.
///
/// # Errors
/// [`WireError::Damaged`], [`WireError::Unknown`].
/// [`encode`] has an example.
#[inline(never)] // Keeps its frame off the stack of what is done with the message.
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

/// Writes a message alone, as it lies in a signed request, into `bytes`; returns what it takes of them.
///
/// # Errors
/// [`WireError::TooLong`].
/// [`encode`] has an example of messages.
pub fn write_body<'b>(message: &impl Serialize, bytes: &'b mut [u8]) -> Result<&'b [u8], WireError> {
    Ok(postcard::to_slice(message, bytes).map_err(|_| WireError::TooLong)?)
}

/// Reads it; `None` where it is no message of this version.
/// [`signed::Key::signed`] says whether to.
#[cfg(feature = "signed")]
pub fn read_body<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
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
    use crate::step::Phase;
    use crate::store::{Contents, MAX_SLOTS, Record, SlotState};
    use crate::tail::MAX_LAYERS;
    use crate::{Acceptance, Drift, Evidence, Judgement, Labels, Position, Watch, Work};
    use crate::{BiasTreatment, Method, Recipe, Schedule};
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
            ascent_every: u16::MAX,
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
        fits(&Request::Solve(recipe), request_bytes(1));
        #[cfg(feature = "signed")]
        for (request, carried) in [
            // In the buffer of the smallest network: what lies in a run's head fits there, too.
            (Request::Start(recipe), RUN_HEAD_BYTES),
            (Request::Solve(recipe), RUN_HEAD_BYTES),
            (Request::ExpectRun { head: &[0xFF; RUN_HEAD_BYTES] }, RUN_HEAD_BYTES),
            (Request::Observe { label: u16::MAX, input: &[0xFF; 600] }, 600),
            (
                Request::ObserveTarget {
                    target: Some(&[0xFF; 9_216]),
                    anomalous: true,
                    input: &[0xFF; 9_216],
                },
                2 * 9_216,
            ),
            (Request::AdoptTail { layers: &[0xFF; 32 * LAYER_BYTES], crc32: u32::MAX }, 32 * LAYER_BYTES),
        ] {
            let mut body = vec![0; request_bytes(carried)];
            let request = write_body(&request, &mut body).unwrap();
            fits(&Request::Signed { tag: [0xFF; 16], request }, request_bytes(carried));
        }
        for length in [0, 1, 253, 254, 255, 600, 9_216, 27_648, 1 << 20] {
            let input = vec![0xFF; length];
            fits(&Request::Judge { label: u16::MAX, input: &input }, request_bytes(length));
            let both = Request::ObserveTarget { target: Some(&input), anomalous: true, input: &input };
            fits(&both, request_bytes(2 * length));
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
        let labels = Labels { samples: u32::MAX, agreed: u32::MAX };
        let (evidence, accepted) = (Evidence::Unmoved, true);
        let acceptance = Acceptance {
            factory: most,
            running: most,
            candidate: most,
            evidence,
            labels,
            accepted,
            restore: false,
        };
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
                contents: Contents::Int8AndCompact,
                access: Access::KeyHolder,
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
