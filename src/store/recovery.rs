//! What lies in the slots, and which of it is in force.

use super::access::{Access, Blocking, now};
use super::record::{COMMIT, CRC, Contents, Head, Header, TRAILER_BYTES, body_bytes, header, record_bytes};
use super::{MAX_SLOTS, Store, StoreError, stream};
use crate::pack::bytes::u32_at;
use crate::part::Part;
use embedded_storage::nor_flash::NorFlash;

/// A whole record in its slot.
/// [`Store`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Record {
    /// Its slot, from 0.
    pub slot: usize,
    /// Sequence number: the newest is in force.
    pub sequence: u32,
    /// What it holds.
    pub contents: Contents,
    /// Bytes of the payload.
    pub length: u32,
    /// [`crate::Tuner::weights_crc32`] when it was made.
    pub weights_crc32: u32,
}

/// What lies in a slot; everything but [`Self::Whole`] is a reason why it is not used.
/// [`Store::recover`] finds that of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SlotState {
    /// A whole record of this pack.
    #[error("a whole record, number {}", .0.sequence)]
    Whole(Record),
    /// Erased.
    #[error("blank")]
    Blank,
    /// Bytes that are no record.
    #[error("not a record")]
    Foreign,
    /// A record of a format that this build does not read.
    #[error("a record of format version {found}, this build reads {expected}")]
    FormatVersion {
        /// The record's version.
        found: u16,
        /// The version that this build reads.
        expected: u16,
    },
    /// A record of another network or cut.
    #[error("a record of another pack, {found:#010x}, this one is {expected:#010x}")]
    OtherPack {
        /// CRC of the record's pack.
        found: u32,
        /// CRC of this pack.
        expected: u32,
    },
    /// The header does not match its CRC.
    #[error("damaged in its header")]
    HeaderDamaged,
    /// Never finished, or damaged in its commit word.
    #[error("not committed")]
    Uncommitted {
        /// Its sequence number.
        sequence: u32,
    },
    /// The bytes do not match their CRC, or do not make a tail of this pack.
    #[error("damaged")]
    Damaged {
        /// Its sequence number.
        sequence: u32,
    },
    /// The flash reported an error.
    #[error("unreadable")]
    Unreadable,
}

impl SlotState {
    /// The number of a record of this pack, whole or not.
    fn sequence(&self) -> Option<u32> {
        match *self {
            Self::Whole(Record { sequence, .. })
            | Self::Uncommitted { sequence }
            | Self::Damaged { sequence } => Some(sequence),
            _ => None,
        }
    }
}

/// What a boot found: the tail in force, and why.
/// [`Store::recover`] finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Recovery {
    states: [SlotState; MAX_SLOTS],
    slots: usize,
}

impl Recovery {
    /// What lies in each slot.
    /// [`Store::recover`] has an example.
    pub fn slots(&self) -> &[SlotState] {
        self.states.part(..self.slots)
    }

    /// The record in force: the newest that is whole; `None` if it is the factory tail.
    /// [`Store::recover`] has an example.
    pub fn in_force(&self) -> Option<Record> {
        let whole = self.slots().iter().filter_map(|state| match state {
            SlotState::Whole(record) => Some(*record),
            _ => None,
        });
        whole.reduce(|best, other| if newer(other.sequence, best.sequence) { other } else { best })
    }

    /// Puts a slot out of use: its record did not hold what it said.
    pub(crate) fn reject(&mut self, record: &Record) {
        if let Some(state) = self.states.get_mut(record.slot) {
            *state = SlotState::Damaged { sequence: record.sequence };
        }
    }

    /// The next record's number: above that of every record of this pack, whole or not, so that a damaged one that
    /// reads well again later is still the older.
    pub(super) fn next_sequence(&self) -> u32 {
        let known = self.slots().iter().filter_map(SlotState::sequence);
        known.reduce(|a, b| if newer(b, a) { b } else { a }).map_or(1, |newest| newest.wrapping_add(1))
    }

    /// The slot that a commit overwrites: one without a whole record, else the oldest. Never the one in force, nor
    /// those that `tried` says.
    pub(super) fn target(&self, tried: &[bool; MAX_SLOTS]) -> Option<usize> {
        let in_force = self.in_force();
        let candidates = self
            .slots()
            .iter()
            .zip(tried)
            .enumerate()
            .filter(|&(slot, (_, &tried))| !tried && in_force.is_none_or(|record| record.slot != slot));
        let best = candidates.max_by_key(|&(slot, (state, _))| {
            let age = match (state, in_force) {
                (SlotState::Whole(old), Some(new)) => new.sequence.wrapping_sub(old.sequence),
                _ => u32::MAX,
            };
            (age, MAX_SLOTS - slot.min(MAX_SLOTS))
        });
        best.map(|(slot, _)| slot)
    }
}

/// Serial number arithmetic (RFC 1982): right as long as the two are less than 2^31 commits apart.
fn newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

impl Store {
    /// Looks at every slot, reads and checks all of it. Writes nothing.
    ///
    /// # Errors
    /// [`StoreError`] for slots that do not fit the flash. What is wrong with a slot is no error,
    /// but a [`SlotState`].
    #[inline(never)] // what the future takes is the callee's
    pub fn recover<F: NorFlash>(&self, flash: &mut F, pack_crc32: u32) -> Result<Recovery, StoreError> {
        now(self.recovered(&mut Blocking(flash), pack_crc32))
    }

    pub(crate) async fn recovered(
        &self,
        flash: &mut impl Access,
        pack_crc32: u32,
    ) -> Result<Recovery, StoreError> {
        self.check(flash)?;
        let mut recovery = Recovery { states: [SlotState::Blank; MAX_SLOTS], slots: self.slots() };
        for (slot, state) in recovery.states.iter_mut().enumerate().take(self.slots()) {
            *state = self.inspect(flash, slot, pack_crc32).await;
        }
        Ok(recovery)
    }

    /// What lies in a slot.
    pub(super) async fn inspect(&self, flash: &mut impl Access, slot: usize, pack_crc32: u32) -> SlotState {
        self.inspect_or_fail(flash, slot, pack_crc32).await.unwrap_or(SlotState::Unreadable)
    }

    async fn inspect_or_fail<A: Access>(
        &self,
        flash: &mut A,
        slot: usize,
        pack_crc32: u32,
    ) -> Result<SlotState, StoreError> {
        let start = self.slot_start(slot);
        let mut head = Head::Blank;
        let head_bytes = header::BYTES.next_multiple_of(A::UNIT);
        stream::scan(flash, start, u32::try_from(head_bytes).unwrap_or(0), |bytes| {
            head = Header::read(bytes.part(..header::BYTES));
        })
        .await?;
        let header = match head {
            Head::Blank => return Ok(SlotState::Blank),
            Head::Foreign => return Ok(SlotState::Foreign),
            Head::Version(found) => {
                return Ok(SlotState::FormatVersion { found, expected: super::record::VERSION });
            }
            Head::Damaged => return Ok(SlotState::HeaderDamaged),
            Head::Header(header) if header.pack_crc32 != pack_crc32 => {
                return Ok(SlotState::OtherPack { found: header.pack_crc32, expected: pack_crc32 });
            }
            Head::Header(header) => header,
        };
        let sequence = header.sequence;
        if record_bytes(header.length.into(), A::UNIT) > u64::from(self.slot_bytes()) {
            return Ok(SlotState::Damaged { sequence });
        }
        // Fits into the slot, so into 32 bits.
        let body = u32::try_from(body_bytes(header.length.into(), A::UNIT)).unwrap_or(0);
        let mut digest = CRC.digest();
        stream::scan(flash, start, body, |bytes| digest.update(bytes)).await?;
        let (mut crc, mut commit) = (0, 0);
        let trailer_bytes = TRAILER_BYTES.next_multiple_of(A::UNIT);
        stream::scan(flash, start.saturating_add(body), u32::try_from(trailer_bytes).unwrap_or(0), |bytes| {
            (crc, commit) = (u32_at(bytes, 0), u32_at(bytes, 4));
        })
        .await?;
        Ok(if commit != COMMIT {
            SlotState::Uncommitted { sequence }
        } else if digest.finalize() != crc {
            SlotState::Damaged { sequence }
        } else {
            SlotState::Whole(Record {
                slot,
                sequence,
                contents: header.contents,
                length: header.length,
                weights_crc32: header.weights_crc32,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn whole(slot: usize, sequence: u32) -> SlotState {
        SlotState::Whole(Record { slot, sequence, contents: Contents::Int8, length: 1, weights_crc32: 0 })
    }

    fn recovery(states: &[SlotState]) -> Recovery {
        let mut all = [SlotState::Blank; MAX_SLOTS];
        all[..states.len()].copy_from_slice(states);
        Recovery { states: all, slots: states.len() }
    }

    /// The slots that commits try, one after the other.
    fn targets(recovery: &Recovery) -> Vec<usize> {
        let mut tried = [false; MAX_SLOTS];
        core::iter::from_fn(|| {
            let slot = recovery.target(&tried)?;
            tried[slot] = true;
            Some(slot)
        })
        .collect()
    }

    #[test]
    fn the_newest_is_in_force_across_the_wrap_around() {
        let found = recovery(&[whole(0, u32::MAX), whole(1, 0), whole(2, u32::MAX - 1)]);
        assert_eq!(found.in_force().map(|record| record.slot), Some(1));
        assert_eq!(found.next_sequence(), 1);
        assert_eq!(targets(&found), [2, 0]);
    }

    #[test]
    fn what_is_not_whole_gives_way_first_and_keeps_its_number() {
        let found =
            recovery(&[whole(0, 4), SlotState::Damaged { sequence: 9 }, whole(2, 3), SlotState::Blank]);
        assert_eq!(found.in_force().map(|record| record.slot), Some(0));
        assert_eq!(targets(&found), [1, 3, 2]);
        assert_eq!(found.next_sequence(), 10);
        assert_eq!(recovery(&[SlotState::Foreign; 2]).in_force(), None);
        assert_eq!(targets(&recovery(&[SlotState::Foreign; 2])), [0, 1]);
    }
}
