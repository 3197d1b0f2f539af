//! The bytes before a saved run's buffers.

use super::{Run, TunerError};
use crate::pack::CRC;
use crate::pack::bytes::{u16_at, u32_at};
use crate::part::Part;
use crate::recipe::Recipe;
use crate::store::Contents;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of this format; runs of another one are refused. Before 2 a rho had no unit.
/// [`crate::Tuner::save_run`] writes it.
pub const RUN_VERSION: u16 = 2;

/// Bytes in front of a run's buffers.
/// [`crate::Tuner::expect_run`] takes them.
pub const RUN_HEAD_BYTES: usize = 256;

/// Offsets of the head's fields.
mod head {
    /// u16, [`super::RUN_VERSION`].
    pub const VERSION: usize = 0;
    /// u32, CRC-32 of the pack: [`crate::Pack::crc32`].
    pub const PACK_CRC: usize = 2;
    /// u32, CRC-32 of the samples: labels (u16), then latents and targets, slot after slot.
    pub const SAMPLES_CRC: usize = 6;
    /// u32, CRC-32 of all after the head.
    pub const BODY_CRC: usize = 10;
    /// u32, bytes after the head.
    pub const BODY_LENGTH: usize = 14;
    /// Recipe, position and sums, in postcard's encoding; zeros after it.
    pub const STATE: usize = 18;
    /// u8, the tuner: 0 with f32 weights, 1 a compact one.
    pub const TUNER: usize = CRC - 1;
    /// u32, CRC-32 of the head's bytes before it.
    pub const CRC: usize = super::RUN_HEAD_BYTES - 4;
}

/// All of a run that is not a buffer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State<Step, Kept> {
    pub recipe: Recipe,
    pub run: Run<Step>,
    /// What only this arithmetic has.
    pub kept: Kept,
    pub trained: usize,
    pub held_out: usize,
    pub macs: u64,
    /// Comes last: of runs that were saved before there was trust, a zero follows.
    pub trusts: bool,
}

pub(super) type Head = [u8; RUN_HEAD_BYTES];

/// A head's fields.
pub(super) struct Fields<Step, Kept> {
    pub pack_crc32: u32,
    pub samples_crc32: u32,
    pub body_crc32: u32,
    pub body_length: usize,
    pub state: State<Step, Kept>,
}

/// How a head says which tuner's it is.
fn code(tuner: Contents) -> u8 {
    match tuner {
        Contents::Int8AndF32 => 0,
        Contents::Int8AndCompact => 1,
        Contents::Int8 => 2,
    }
}

fn put(head: &mut Head, at: usize, field: &[u8]) {
    head.iter_mut().skip(at).zip(field).for_each(|(place, &byte)| *place = byte);
}

impl<Step: Serialize + DeserializeOwned, Kept: Serialize + DeserializeOwned> Fields<Step, Kept> {
    /// The fields of `bytes`, if the head is whole and that of a run of a tuner whose payloads are of this kind.
    pub fn read(bytes: &[u8], tuner: Contents) -> Result<Self, TunerError> {
        let bytes: &Head = bytes.first_chunk().ok_or(TunerError::RunDamaged)?;
        let covered = bytes.part(..head::CRC);
        if CRC.checksum(covered) != u32_at(bytes, head::CRC) {
            return Err(TunerError::RunDamaged);
        }
        let found = bytes.get(head::TUNER).copied().unwrap_or(0);
        for (what, expected, found) in [
            ("format version", u32::from(RUN_VERSION), u16_at(bytes, head::VERSION).into()),
            ("kind of tail", code(tuner).into(), found.into()),
        ] {
            if expected != found {
                return Err(TunerError::RunOfAnother { what, expected, found });
            }
        }
        let state = covered.part(head::STATE..head::TUNER);
        Ok(Self {
            pack_crc32: u32_at(bytes, head::PACK_CRC),
            samples_crc32: u32_at(bytes, head::SAMPLES_CRC),
            body_crc32: u32_at(bytes, head::BODY_CRC),
            body_length: usize::try_from(u32_at(bytes, head::BODY_LENGTH)).unwrap_or(usize::MAX),
            state: postcard::from_bytes(state).map_err(|_| TunerError::RunDamaged)?,
        })
    }

    /// The head.
    pub fn write(&self, tuner: Contents) -> Result<Head, TunerError> {
        let mut bytes = [0; RUN_HEAD_BYTES];
        let place = bytes.part_mut(head::STATE..head::TUNER);
        // It always fits: see the tests.
        postcard::to_slice(&self.state, place).map_err(|_| TunerError::RunDamaged)?;
        let length = u32::try_from(self.body_length).unwrap_or(u32::MAX);
        put(&mut bytes, head::VERSION, &RUN_VERSION.to_le_bytes());
        put(&mut bytes, head::PACK_CRC, &self.pack_crc32.to_le_bytes());
        put(&mut bytes, head::SAMPLES_CRC, &self.samples_crc32.to_le_bytes());
        put(&mut bytes, head::BODY_CRC, &self.body_crc32.to_le_bytes());
        put(&mut bytes, head::BODY_LENGTH, &length.to_le_bytes());
        put(&mut bytes, head::TUNER, &[code(tuner)]);
        let crc = CRC.checksum(bytes.part(..head::CRC));
        put(&mut bytes, head::CRC, &crc.to_le_bytes());
        Ok(bytes)
    }
}

/// Checks that a state whose values postcard writes longest fits, with room for what recipes may get.
#[cfg(test)]
pub(crate) fn assert_fits<Step: Serialize, Kept: Serialize>(step: Step, kept: Kept) {
    use crate::tuner::radius::Radius;
    use crate::{Method, Schedule};
    // A replay holds at most 65,535 samples.
    let most = usize::from(u16::MAX);
    let recipe = Recipe {
        method: Method::Asam,
        schedule: Schedule::Cosine,
        sharpness_batch: u16::MAX,
        ascent_every: u16::MAX,
        epochs: u16::MAX,
        minibatch: u16::MAX,
        seed: u64::MAX,
        replay_capacity: u16::MAX,
        ..Recipe::DEFAULT
    };
    let run = Run { course: crate::tuner::Course::longest(most), radius: Radius::longest(most), step };
    let state = State { recipe, run, kept, trained: most, held_out: most, macs: u64::MAX, trusts: true };
    let mut place = [0; head::TUNER - head::STATE];
    let length = postcard::to_slice(&state, &mut place).unwrap().len();
    assert!(length + 20 < place.len(), "{length} of {} bytes", place.len());
}
