//! What lies in the flash, by a list that knows nothing of pages, words and records; and the flash, lent to a device.

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use flatmin::flash::{Flash, FlashError};
use std::cell::RefCell;

pub type Nor = Flash<4, 256>;

pub const SLOTS: usize = 3;

/// The flash, of which the power can be cut while the device has it.
pub struct Shared<'f>(pub &'f RefCell<Nor>);

impl ErrorType for Shared<'_> {
    type Error = FlashError;
}

impl ReadNorFlash for Shared<'_> {
    const READ_SIZE: usize = Nor::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.0.borrow_mut().read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.borrow().capacity()
    }
}

impl NorFlash for Shared<'_> {
    const WRITE_SIZE: usize = Nor::WRITE_SIZE;
    const ERASE_SIZE: usize = Nor::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.0.borrow_mut().erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.borrow_mut().write(offset, bytes)
    }
}

/// A tail that was committed.
#[derive(Debug, Clone)]
pub struct Committed {
    pub sequence: u32,
    pub bytes: Vec<u8>,
    /// A cut may have taken it.
    pub sure: bool,
}

/// What lies in the flash, the newest last.
#[derive(Debug, Default)]
pub struct Kept {
    pub tails: Vec<Committed>,
    /// The power went in a factory reset, which takes the newest last.
    pub was_reset: bool,
}

impl Kept {
    /// A device says what is in force: the newest that is there. What a cut has taken is forgotten.
    pub fn settle(&mut self, sequence: Option<u32>) {
        while let Some(newest) = self.tails.last() {
            if Some(newest.sequence) == sequence {
                // It is there now, and nothing but a further cut can take it.
                self.tails.last_mut().unwrap().sure = true;
                return;
            }
            assert!(!newest.sure, "tail {} is lost; in force is {sequence:?}", newest.sequence);
            self.tails.pop();
        }
        assert_eq!(sequence, None, "a tail in force that was never committed, or was taken back");
    }

    /// A device has started.
    pub fn boot(&mut self, sequence: Option<u32>) {
        let newest = self.tails.last().map(|kept| kept.sequence);
        if std::mem::take(&mut self.was_reset) {
            assert!(sequence.is_none() || sequence == newest, "an older tail in force after a reset");
        }
        self.settle(sequence);
    }

    pub fn commit(&mut self, sequence: u32, bytes: Vec<u8>) {
        assert!(
            self.tails.iter().all(|kept| kept.sequence < sequence),
            "number {sequence} is not the newest"
        );
        self.tails.push(Committed { sequence, bytes, sure: true });
        if self.tails.len() > SLOTS {
            self.tails.remove(0);
        }
    }

    /// The power went in a commit: the new one may be there, and the oldest gone where its slot was needed.
    pub fn cut_commit(&mut self, bytes: Vec<u8>) {
        if self.tails.len() == SLOTS {
            self.tails[0].sure = false;
        }
        let sequence = self.tails.last().map_or(1, |newest| newest.sequence + 1);
        self.tails.push(Committed { sequence, bytes, sure: false });
    }
}
