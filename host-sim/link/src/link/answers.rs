//! What a device answers, without what is borrowed.

use super::LinkError;
use flatmin::store::{Contents, SlotState};
use flatmin::wire::signed::Nonce;
use flatmin::wire::{self, Access, Response};
use flatmin::{Acceptance, Drift, Position};
use serde::Serialize;

/// What a device answers, without what is borrowed.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Who the device is.
    Identity(Identity),
    /// Done, in so many ticks.
    Done(u64),
    /// A step of training.
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
        ticks: u64,
    },
    /// Mean squared errors of one sample.
    Compared {
        /// Factory tail.
        factory: f32,
        /// f32 tail.
        tuned_f32: f32,
        /// Tuned int8 tail.
        tuned_int8: Option<f32>,
    },
    /// Classes of one sample.
    Judged {
        /// Factory tail.
        factory: u16,
        /// f32 tail.
        tuned_f32: u16,
        /// Tuned int8 tail.
        tuned_int8: Option<u16>,
        /// Cross-entropy of the f32 tail.
        loss: f32,
    },
    /// What has come out.
    Summary {
        /// CRC-32 of the f32 weights.
        weights_crc32: u32,
        /// Multiply-adds.
        macs: u64,
        /// Mean rise of a sample's loss.
        sharpness: f32,
        /// The stack's high-water mark.
        stack_bytes: u32,
    },
    /// What is in force after a commit, a roll back or a factory reset.
    InForce {
        /// Number of the record in flash; `None` is the factory tail.
        sequence: Option<u32>,
        /// CRC-32 of the f32 weights.
        weights_crc32: u32,
        /// Clock ticks.
        ticks: u64,
    },
    /// The class of a sample.
    Classified {
        /// The class.
        class: u16,
        /// Its int8 output.
        output: i8,
        /// Answers of the tuned tail.
        tuned: bool,
        /// The sample was kept with the button's label.
        kept: bool,
        /// Clock ticks.
        ticks: u64,
    },
    /// Means over the samples kept.
    Metrics(Metrics),
    /// What lies in a slot of the store.
    Slot(SlotState),
    /// Checksums of operators' outputs.
    Checksums {
        /// Operators of the network.
        operators: u16,
        /// CRC-32 of each output, from the operator on that was asked for.
        crc32s: Vec<u32>,
    },
    /// A part of a tail or a run.
    Tail {
        /// Bytes of all.
        length: u32,
        /// From the offset on; none after the end.
        bytes: Vec<u8>,
    },
    /// A slice of a step that goes on.
    Underway {
        /// Where it stands.
        position: Position,
        /// Clock ticks.
        ticks: u64,
    },
    /// Whether the tuned tail was taken.
    Accepted {
        /// What was decided, and why.
        acceptance: Acceptance,
        /// Clock ticks.
        ticks: u64,
    },
    /// A part of a row of the confusion matrix.
    Counts {
        /// Classes of the network.
        classes: u16,
        /// From the class on that was asked for.
        counts: Vec<u16>,
    },
    /// The running means of what is watched.
    Drift(Option<Drift>),
    /// A class was added.
    ClassAdded {
        /// Its label.
        label: u16,
        /// What it took.
        ticks: u64,
    },
    /// A session was asked for.
    Challenged {
        /// The device's nonce.
        nonce: Nonce,
        /// That it has the key.
        proof: [u8; 16],
    },
    /// How well a tail tells anomalies.
    Auc {
        /// Area under the ROC curve, 0 to 1.
        auc: f32,
        /// Clock ticks.
        ticks: u64,
    },
}

/// Who a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The board's name.
    pub board: String,
    /// CRC-32 of the pack.
    pub pack_crc32: u32,
    /// Bytes of the arena.
    pub arena_bytes: u32,
    /// Values that the network takes.
    pub input_length: u32,
    /// Samples that the arena holds.
    pub capacity: u16,
    /// Samples that are held.
    pub samples: u16,
    /// CRC-32 of the f32 weights.
    pub weights_crc32: u32,
    /// The tuned tail classifies.
    pub tuned: bool,
    /// Number of the record in flash that came into force last; `None` is the factory tail.
    pub sequence: Option<u32>,
    /// Slots of the store; 0 without one.
    pub slots: u8,
    /// Ticks a second of the board's clock.
    pub hertz: u32,
    /// What its tail holds beside int8: f32 weights, or those of a compact tail.
    pub contents: Contents,
    /// From whom it takes what changes it.
    pub access: Access,
}

/// How the samples that a device keeps are doing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metrics {
    /// Samples kept.
    pub samples: u16,
    /// Epoch of the run under way, from 0.
    pub epoch: Option<u16>,
    /// Mean cross-entropy.
    pub loss: f32,
    /// Share of right classes.
    pub accuracy: f32,
    /// Mean rise of a sample's loss.
    pub sharpness: f32,
}

/// A response, owned; a refusal is an error.
pub(super) fn answer(response: Response) -> Result<Answer, LinkError> {
    Ok(match response {
        Response::Identity { version, .. } if version != wire::VERSION => return Err(LinkError::Version),
        Response::Identity {
            version: _,
            pack_crc32,
            arena_bytes,
            input_length,
            capacity,
            samples,
            weights_crc32,
            tuned,
            sequence,
            slots,
            hertz,
            board,
            contents,
            access,
        } => Answer::Identity(Identity {
            board: board.to_owned(),
            pack_crc32,
            arena_bytes,
            input_length,
            capacity,
            samples,
            weights_crc32,
            tuned,
            sequence,
            slots,
            hertz,
            contents,
            access,
        }),
        Response::Done { ticks } => Answer::Done(ticks.into()),
        Response::Stepped { epoch, loss, epoch_finished, finished, ticks } => {
            Answer::Stepped { epoch, loss, epoch_finished, finished, ticks: ticks.into() }
        }
        Response::Judged { factory, tuned_f32, tuned_int8, loss } => {
            Answer::Judged { factory, tuned_f32, tuned_int8, loss }
        }
        Response::Summary { weights_crc32, macs, sharpness, stack_bytes } => {
            Answer::Summary { weights_crc32, macs, sharpness, stack_bytes }
        }
        Response::InForce { sequence, weights_crc32, ticks } => {
            Answer::InForce { sequence, weights_crc32, ticks: ticks.into() }
        }
        Response::Classified { class, output, tuned, kept, ticks } => {
            Answer::Classified { class, output, tuned, kept, ticks: ticks.into() }
        }
        Response::Metrics { samples, epoch, loss, accuracy, sharpness } => {
            Answer::Metrics(Metrics { samples, epoch, loss, accuracy, sharpness })
        }
        Response::Slot(state) => Answer::Slot(state),
        Response::Checksums { operators, crc32s } => {
            let (words, _) = crc32s.as_chunks::<4>();
            Answer::Checksums { operators, crc32s: words.iter().map(|&w| u32::from_le_bytes(w)).collect() }
        }
        Response::Compared { factory, tuned_f32, tuned_int8 } => {
            Answer::Compared { factory, tuned_f32, tuned_int8 }
        }
        Response::Tail { length, bytes } => Answer::Tail { length, bytes: bytes.to_vec() },
        Response::Underway { position, ticks } => Answer::Underway { position, ticks: ticks.into() },
        Response::Accepted { acceptance, ticks } => Answer::Accepted { acceptance, ticks: ticks.into() },
        Response::Counts { classes, counts } => {
            let (counts, _) = counts.as_chunks::<2>();
            Answer::Counts { classes, counts: counts.iter().map(|&c| u16::from_le_bytes(c)).collect() }
        }
        Response::Drift(drift) => Answer::Drift(drift),
        Response::ClassAdded { label, ticks } => Answer::ClassAdded { label, ticks: ticks.into() },
        Response::Challenged { nonce, proof } => Answer::Challenged { nonce, proof },
        Response::Auc { auc, ticks } => Answer::Auc { auc, ticks: ticks.into() },
        Response::Refused(why) => return Err(LinkError::Refused(why.to_owned())),
        _ => return Err(LinkError::Version),
    })
}
