//! Tuned tails in NOR flash that survive a power cut.
//!
//! A [`Store`] is two slots or more, each of whole pages and large enough for a record. Every change is one of
//! three, each of which either happened or did not, wherever the power goes:
//!
//! | operation | what it does to the flash | a cut leaves |
//! | --- | --- | --- |
//! | commit | erases a slot that is not in force, writes the record, reads it back, writes the commit word | the old tail, until the commit word is there |
//! | roll back | erases the slot in force | the tail in force, until one of its bits is gone; then the one before it |
//! | factory reset | erases all slots, the one in force last | the tail in force, until one of its bits is gone; then the factory tail |
//!
//! A record is used if it is whole: magic, version, pack, length, CRC and commit word all right. The newest whole
//! one is in force, else the factory tail. [`Store::recover`] says which, and of every other slot why not; it writes
//! nothing, so that a boot can be repeated without end. A slot is always erased before it is written, however
//! blank it reads: an interrupted erase can leave bits that read as erased today only.
//!
//! A slot that the driver cannot read counts as damaged. On chips where reading a torn word raises a fault (those
//! with an error-correcting code), the driver has to turn that fault into an error.
//!
//! The bytes are specified in `src/store/record.rs`. More slots than two spread the wear, and keep more to roll back to.
//!
//! ## Why not a key-value store
//! `sequential-storage` wants an item in one page, and serialized in one RAM buffer; a tail with its f32 weights
//! takes many pages and would take its size in RAM twice. `ekv` takes large values, in chunks of an LSM tree, but its
//! files, page headers and compaction need a page buffer, pages to spare and an async runtime, and its geometry is
//! fixed for a whole build. Neither keeps the tail before the last, to roll back to, nor can it promise what a
//! single CRC over a record does: that three flipped bits, anywhere, are found.

mod access;
#[cfg(feature = "async")]
mod awaited;
pub(crate) mod record;
mod recovery;
mod stream;

pub use record::{Contents, LAYER_BYTES};
pub use recovery::{Record, Recovery, SlotState};

#[cfg(feature = "async")]
pub(crate) use access::Awaited;
pub(crate) use access::{Access, Blocking, now};
use embedded_storage::nor_flash::{NorFlash, NorFlashErrorKind};
use record::{COMMIT, CRC, Header, TRAILER_BYTES, body_bytes, header, record_bytes};
use stream::Writer;

/// Most slots that a store may have.
/// [`Store::new`] is told how many.
pub const MAX_SLOTS: usize = 16;

/// What the flash was doing.
/// [`Store::commit`] fails with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Operation {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Erasing.
    Erase,
}

/// Why a call of [`Store`] did not do what it was asked. Unless it says otherwise, the tail in force is the same as
/// before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StoreError {
    /// Too few or too many slots.
    #[error("a store has 2 to {MAX_SLOTS} slots, this one {found}")]
    Slots {
        /// Slots given.
        found: usize,
    },
    /// Start or slot size is not a multiple of the flash's pages.
    #[error("{what} of {found} bytes is not in whole pages of {page_bytes}; see `Sizes::slot_bytes`")]
    Alignment {
        /// The start, or the slot size.
        what: &'static str,
        /// Its value.
        found: u32,
        /// `ERASE_SIZE` of the flash.
        page_bytes: usize,
    },
    /// The store reaches beyond the flash's end.
    #[error("the store ends at byte {end}, the flash at {capacity}")]
    BeyondFlash {
        /// End of the last slot.
        end: u64,
        /// Bytes of the flash.
        capacity: usize,
    },
    /// The record does not fit; nothing was written.
    #[error("the record takes {needed} bytes, a slot has {found}; see `Sizes::slot_bytes`")]
    SlotTooSmall {
        /// Bytes of the record.
        needed: u64,
        /// Bytes of a slot.
        found: u32,
    },
    /// The flash driver reported an error. Recover to see what is in force; then try again.
    #[error("the flash failed at {operation:?}: {kind}; recover, then try again")]
    Flash {
        /// What it was doing.
        operation: Operation,
        /// The driver's error.
        kind: NorFlashErrorKind,
    },
    /// The slot did not take what was written, or could not be erased: its pages are worn out.
    #[error("slot {slot} does not hold what is written to it: worn out; give the store other pages")]
    WornOut {
        /// Which.
        slot: usize,
    },
    /// The factory tail is in force already.
    #[error("nothing was committed that could be rolled back")]
    NothingToRollBack,
    /// The record does not read as it did at recovery. Recover again.
    #[error("the record in slot {slot} is damaged; recover again")]
    Damaged {
        /// Which.
        slot: usize,
    },
    /// The destination is not as long as the payload.
    #[error("the payload has {expected} bytes, the destination {found}")]
    PayloadLength {
        /// Bytes of the payload.
        expected: u32,
        /// Bytes of the destination.
        found: usize,
    },
}

/// What [`Store::commit`] writes beside the payload.
/// [`Store`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Description {
    /// CRC of the pack that the tail belongs to.
    pub pack_crc32: u32,
    /// What the payload holds.
    pub contents: Contents,
    /// CRC of the f32 weights.
    pub weights_crc32: u32,
}

/// Where the slots lie. A plain value: the flash is lent for the length of a call.
///
/// ```
/// use flatmin::store::{Store, StoreError};
/// const STORE: Store = Store::new(0x000C_0000, 2 * 4096, 3);
/// assert_eq!(STORE.end(), 0x000C_0000 + 3 * 2 * 4096);
/// ```
///
/// A tuner calls these with its own pack and payload ([`crate::Tuner::commit`]):
///
/// ```no_run
/// # use flatmin::store::{Description, Store, StoreError};
/// # fn keep<F: embedded_storage::nor_flash::NorFlash>(
/// #     store: Store, flash: &mut F, description: &Description, payload: &mut [u8], pack: u32,
/// # ) -> Result<(), StoreError> {
/// assert!(store.fits::<F>(payload.len()) && store.end() > u64::from(store.slot_bytes()) * store.slots() as u64);
/// store.commit(flash, description, &[payload])?; // `commit_async` awaits the flash, and so do the others with this ending
/// let found = store.recover(flash, pack)?; // recover_async
/// if let Some(record) = found.in_force() {
///     store.read(flash, &record, &mut [payload])?; // read_async
/// }
/// for slot in found.slots() {} // why each is used, or is not
/// store.roll_back(flash, pack)?; // roll_back_async
/// store.factory_reset(flash, pack)?; // factory_reset_async
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Store {
    start: u32,
    slot_bytes: u32,
    slots: usize,
}

impl Store {
    /// `slots` slots of `slot_bytes` (see [`crate::Sizes::slot_bytes`]) one after the other, the first at `start`.
    pub const fn new(start: u32, slot_bytes: u32, slots: usize) -> Self {
        Self { start, slot_bytes, slots }
    }

    /// Bytes of a slot.
    pub const fn slot_bytes(&self) -> u32 {
        self.slot_bytes
    }

    /// Number of slots.
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// First byte after the last slot.
    pub const fn end(&self) -> u64 {
        (self.start as u64).saturating_add((self.slot_bytes as u64).saturating_mul(self.slots as u64))
    }

    /// Whether a record with a payload of `length` bytes fits into a slot.
    pub const fn fits<F: NorFlash>(&self, length: usize) -> bool {
        self.fits_in::<Blocking<F>>(length)
    }

    pub(crate) const fn fits_in<A: Access>(&self, length: usize) -> bool {
        record_bytes(length as u64, A::UNIT) <= self.slot_bytes as u64
    }

    fn check<A: Access>(&self, flash: &A) -> Result<(), StoreError> {
        if !(2..=MAX_SLOTS).contains(&self.slots) {
            return Err(StoreError::Slots { found: self.slots });
        }
        for (what, found) in [("a start", self.start), ("a slot", self.slot_bytes)] {
            let whole = u32::try_from(A::PAGE).is_ok_and(|page| page > 0 && found.is_multiple_of(page));
            if !whole {
                return Err(StoreError::Alignment { what, found, page_bytes: A::PAGE });
            }
        }
        let (end, capacity) = (self.end(), flash.capacity());
        if end > capacity as u64 || end > u64::from(u32::MAX) {
            return Err(StoreError::BeyondFlash { end, capacity });
        }
        let needed = record_bytes(0, A::UNIT);
        if needed > u64::from(self.slot_bytes) {
            return Err(StoreError::SlotTooSmall { needed, found: self.slot_bytes });
        }
        Ok(())
    }

    /// First byte of a slot; inside 32 bits after [`Self::check`].
    fn slot_start(&self, slot: usize) -> u32 {
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        self.start.saturating_add(self.slot_bytes.saturating_mul(slot))
    }

    async fn erase(&self, flash: &mut impl Access, slot: usize, bytes: u32) -> Result<(), StoreError> {
        let start = self.slot_start(slot);
        flash.erase(start, start.saturating_add(bytes)).await
    }

    /// Puts a payload, given in parts, in force. Takes a slot without a whole record, else the oldest. Should that
    /// fail, the next takes its place, but never the one in force.
    ///
    /// # Errors
    /// See [`StoreError`].
    #[inline(never)] // what the future takes is the callee's
    pub fn commit<F: NorFlash>(
        &self,
        flash: &mut F,
        description: &Description,
        payload: &[&[u8]],
    ) -> Result<Record, StoreError> {
        now(self.committed(&mut Blocking(flash), description, payload))
    }

    pub(crate) async fn committed<A: Access>(
        &self,
        flash: &mut A,
        description: &Description,
        payload: &[&[u8]],
    ) -> Result<Record, StoreError> {
        let recovery = self.recovered(flash, description.pack_crc32).await?;
        let length = payload.iter().fold(0u64, |sum, part| sum.saturating_add(part.len() as u64));
        let needed = record_bytes(length, A::UNIT);
        let too_small = StoreError::SlotTooSmall { needed, found: self.slot_bytes };
        let length = u32::try_from(length).map_err(|_| too_small)?;
        if needed > u64::from(self.slot_bytes) {
            return Err(too_small);
        }
        let mut sequence = recovery.next_sequence();
        let mut tried = [false; MAX_SLOTS];
        let mut outcome = Err(StoreError::Slots { found: self.slots });
        while let Some(slot) = recovery.target(&tried) {
            let (contents, weights_crc32) = (description.contents, description.weights_crc32);
            let record = Record { slot, sequence, contents, length, weights_crc32 };
            let written = self.write(flash, &record, description.pack_crc32, payload).await;
            outcome = written.map(|()| record);
            if outcome.is_ok() {
                break;
            }
            // A number of its own, should the failed record read well some day.
            sequence = sequence.wrapping_add(1);
            if let Some(tried) = tried.get_mut(slot) {
                *tried = true;
            }
        }
        outcome
    }

    async fn write<A: Access>(
        &self,
        flash: &mut A,
        record: &Record,
        pack_crc32: u32,
        payload: &[&[u8]],
    ) -> Result<(), StoreError> {
        let start = self.slot_start(record.slot);
        // Both fit into the slot: the caller has checked.
        let body = u32::try_from(body_bytes(record.length.into(), A::UNIT)).unwrap_or(0);
        let whole = u32::try_from(record_bytes(record.length.into(), A::UNIT)).unwrap_or(0);
        let page = u32::try_from(A::PAGE).unwrap_or(1).max(1);
        self.erase(flash, record.slot, whole.next_multiple_of(page)).await?;
        let header = Header {
            contents: record.contents,
            sequence: record.sequence,
            pack_crc32,
            length: record.length,
            weights_crc32: record.weights_crc32,
        };
        let mut writer = Writer::new(flash, start);
        writer.push(&header.write()).await?;
        for part in payload {
            writer.push(part).await?;
        }
        let crc = writer.finish().await?;
        let mut digest = CRC.digest();
        stream::scan(flash, start, body, |bytes| digest.update(bytes)).await?;
        if digest.finalize() != crc {
            return Err(StoreError::WornOut { slot: record.slot });
        }
        let mut trailer = [0; TRAILER_BYTES];
        let (first, second) = trailer.split_at_mut(TRAILER_BYTES / 2);
        first.copy_from_slice(&crc.to_le_bytes());
        second.copy_from_slice(&COMMIT.to_le_bytes());
        let mut writer = Writer::new(flash, start.saturating_add(body));
        writer.push(&trailer).await?;
        writer.finish().await?;
        match self.inspect(flash, record.slot, pack_crc32).await {
            SlotState::Whole(found) if found == *record => Ok(()),
            _ => Err(StoreError::WornOut { slot: record.slot }),
        }
    }

    /// Reads a record's payload into parts, and checks it once more on the way.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], with anything in the parts; [`StoreError::PayloadLength`].
    #[inline(never)] // what the future takes is the callee's
    pub fn read<F: NorFlash>(
        &self,
        flash: &mut F,
        record: &Record,
        parts: &mut [&mut [u8]],
    ) -> Result<(), StoreError> {
        now(self.read_into(&mut Blocking(flash), record, parts))
    }

    pub(crate) async fn read_into<A: Access>(
        &self,
        flash: &mut A,
        record: &Record,
        parts: &mut [&mut [u8]],
    ) -> Result<(), StoreError> {
        self.check(flash)?;
        let found = parts.iter().map(|part| part.len()).sum();
        if u32::try_from(found) != Ok(record.length) {
            return Err(StoreError::PayloadLength { expected: record.length, found });
        }
        let whole = record_bytes(record.length.into(), A::UNIT);
        if whole > u64::from(self.slot_bytes) || record.slot >= self.slots {
            return Err(StoreError::Damaged { slot: record.slot });
        }
        let start = self.slot_start(record.slot);
        // Both fit into the slot, so into 32 bits.
        let body = usize::try_from(body_bytes(record.length.into(), A::UNIT)).unwrap_or(0);
        let mut digest = CRC.digest();
        let mut places = parts.iter_mut().flat_map(|part| part.iter_mut());
        let mut at = 0;
        let mut trailer = [0; TRAILER_BYTES];
        stream::scan(flash, start, u32::try_from(whole).unwrap_or(0), |bytes| {
            for &byte in bytes {
                let place = match at {
                    ..header::BYTES => None,
                    _ if at >= body => trailer.get_mut(at - body),
                    _ => places.next(),
                };
                if let Some(place) = place {
                    *place = byte;
                }
                at += 1;
            }
            let checked = body.saturating_sub(at - bytes.len());
            digest.update(bytes.get(..checked).unwrap_or(bytes));
        })
        .await?;
        let crc = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
        let commit = u32::from_le_bytes([trailer[4], trailer[5], trailer[6], trailer[7]]);
        if digest.finalize() == crc && commit == COMMIT {
            Ok(())
        } else {
            Err(StoreError::Damaged { slot: record.slot })
        }
    }

    /// Takes the tail in force back: the one committed before it, if it is still there, comes into force, else
    /// the factory tail. Can be repeated.
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`] if the factory tail is in force.
    #[inline(never)] // what the future takes is the callee's
    pub fn roll_back<F: NorFlash>(&self, flash: &mut F, pack_crc32: u32) -> Result<Recovery, StoreError> {
        now(self.rolled_back(&mut Blocking(flash), pack_crc32))
    }

    pub(crate) async fn rolled_back(
        &self,
        flash: &mut impl Access,
        pack_crc32: u32,
    ) -> Result<Recovery, StoreError> {
        let found = self.recovered(flash, pack_crc32).await?;
        let in_force = found.in_force().ok_or(StoreError::NothingToRollBack)?;
        self.erase(flash, in_force.slot, self.slot_bytes).await?;
        let recovery = self.recovered(flash, pack_crc32).await?;
        if recovery.in_force().is_some_and(|record| record.slot == in_force.slot) {
            return Err(StoreError::WornOut { slot: in_force.slot });
        }
        Ok(recovery)
    }

    /// Erases every slot: the factory tail is in force, and nothing is left to roll back to.
    ///
    /// # Errors
    /// See [`StoreError`].
    #[inline(never)] // what the future takes is the callee's
    pub fn factory_reset<F: NorFlash>(&self, flash: &mut F, pack_crc32: u32) -> Result<(), StoreError> {
        now(self.reset(&mut Blocking(flash), pack_crc32))
    }

    pub(crate) async fn reset(&self, flash: &mut impl Access, pack_crc32: u32) -> Result<(), StoreError> {
        let in_force = self.recovered(flash, pack_crc32).await?.in_force().map(|record| record.slot);
        for slot in (0..self.slots).filter(|&slot| Some(slot) != in_force).chain(in_force) {
            self.erase(flash, slot, self.slot_bytes).await?;
        }
        match self.recovered(flash, pack_crc32).await?.in_force() {
            Some(record) => Err(StoreError::WornOut { slot: record.slot }),
            None => Ok(()),
        }
    }
}
