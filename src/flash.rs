//! NOR flash in memory, with all that goes wrong with the real one: a double for whoever tests firmware that keeps
//! something.
//!
//! Pages are erased to ones, writes clear bits, in whole words. On request a word is written once only
//! ([`Flash::write_once`]), a page wears out ([`Flash::endurance`]), bits flip ([`Flash::flip`]), and the power goes
//! in the middle of operation N ([`Flash::cut_at`]), leaving a word half written or a page half erased
//! ([`Partial`]), which then may not be readable at all, as on chips whose flash has an error-correcting code
//! ([`Flash::torn_words_unreadable`]). It is a driver of both kinds, for `embedded-storage` and `embedded-storage-async`.
//!
//! ```
//! use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};
//! use flatmin::flash::{Flash, FlashError, Partial};
//!
//! let mut flash = Flash::<4, 256>::new(2);
//! flash.write(0, &[1, 2, 3, 4, 5, 6, 7, 8])?;
//! assert_eq!(flash.operations(), 2); // words written and pages erased
//!
//! flash.cut_at(1, Partial::Clean); // the next operation still gets done, the one after it does not
//! assert_eq!(flash.write(256, &[0; 8]), Err(FlashError::PowerLost));
//! assert_eq!(flash.read(0, &mut [0; 4]), Err(FlashError::PowerLost));
//! flash.power_on();
//! let mut bytes = [0; 8];
//! flash.read(256, &mut bytes)?;
//! assert_eq!(bytes, [0, 0, 0, 0, 255, 255, 255, 255]);
//! # Ok::<(), FlashError>(())
//! ```

#[cfg(feature = "async")]
mod awaited;
#[cfg(feature = "async")]
pub use awaited::poll;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec;
use std::vec::Vec;

/// What becomes of the operation during which the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// It does not begin.
    Clean,
    /// The first so many 256ths of the bits that it would change are changed, in the order of addresses.
    Prefix(u8),
    /// Likewise the last.
    Suffix(u8),
    /// Each bit that it would change is changed with a chance, the same for all, that is drawn first, along with the
    /// bits, from this seed.
    Random(u64),
}

/// What [`Flash`] reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlashError {
    /// Not in whole words or pages.
    #[error("not in whole words or pages")]
    NotAligned,
    /// Beyond the end.
    #[error("beyond the flash's end")]
    OutOfBounds,
    /// A word that was written since its page was erased, under [`Flash::write_once`].
    #[error("word at {0:#x} was written before")]
    WrittenTwice(u32),
    /// A torn word, under [`Flash::torn_words_unreadable`].
    #[error("word at {0:#x} cannot be read")]
    Unreadable(u32),
    /// The power is off; see [`Flash::power_on`].
    #[error("the power is off")]
    PowerLost,
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

impl From<NorFlashErrorKind> for FlashError {
    fn from(kind: NorFlashErrorKind) -> Self {
        match kind {
            NorFlashErrorKind::NotAligned => Self::NotAligned,
            _ => Self::OutOfBounds,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Erased,
    Written,
    Torn,
}

/// Flash of `WRITE`-byte words and `ERASE`-byte pages, read in units of `READ` bytes.
#[derive(Debug, Clone)]
pub struct Flash<const WRITE: usize, const ERASE: usize, const READ: usize = 1> {
    bytes: Vec<u8>,
    words: Vec<Word>,
    erases: Vec<u32>,
    write_once: bool,
    torn_words_unreadable: bool,
    endurance: u32,
    operations: u64,
    cut: Option<(u64, Partial)>,
    powered: bool,
}

impl<const WRITE: usize, const ERASE: usize, const READ: usize> Flash<WRITE, ERASE, READ> {
    /// Erased flash of `pages` pages, without limits: words may be written again, pages do not wear out.
    pub fn new(pages: usize) -> Self {
        const { assert!(WRITE > 0 && READ > 0 && ERASE.is_multiple_of(WRITE)) };
        Self {
            bytes: vec![0xFF; pages * ERASE],
            words: vec![Word::Erased; pages * ERASE / WRITE],
            erases: vec![0; pages],
            write_once: false,
            torn_words_unreadable: false,
            endurance: u32::MAX,
            operations: 0,
            cut: None,
            powered: true,
        }
    }

    /// Refuses a second write to a word, whatever the bits; a write that the power cut short counts.
    pub fn write_once(mut self) -> Self {
        self.write_once = true;
        self
    }

    /// Reading a word that a cut left half written or half erased fails until the page is erased.
    pub fn torn_words_unreadable(mut self) -> Self {
        self.torn_words_unreadable = true;
        self
    }

    /// A page that was erased more often than this comes out of it with a bit that stays 0, without an error.
    pub fn endurance(mut self, erases: u32) -> Self {
        self.endurance = erases;
        self
    }

    /// Words written and pages erased so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// How often each page was erased.
    pub fn erases(&self) -> &[u32] {
        &self.erases
    }

    /// The flash's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to be set to what another program left there; every word counts as written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.words.fill(Word::Written);
        &mut self.bytes
    }

    /// Flips a bit: rot. Bit 0 is the lowest of the first byte.
    pub fn flip(&mut self, bit: usize) {
        self.bytes[bit / 8] ^= 1 << (bit % 8);
    }

    /// The power goes at the operation that comes after `operations` more.
    pub fn cut_at(&mut self, operations: u64, partial: Partial) {
        self.cut = Some((self.operations + operations, partial));
    }

    /// The power is back, and no cut is planned any more. False if it had never gone.
    pub fn power_on(&mut self) -> bool {
        self.cut = None;
        !std::mem::replace(&mut self.powered, true)
    }

    fn check_power(&self) -> Result<(), FlashError> {
        if self.powered { Ok(()) } else { Err(FlashError::PowerLost) }
    }

    /// Turns the bytes from `at` into `goal`; if the power goes, in part.
    fn operate(&mut self, at: usize, goal: &[u8], becomes: Word) -> Result<(), FlashError> {
        let words = at / WRITE..(at + goal.len()) / WRITE;
        let bytes = &mut self.bytes[at..at + goal.len()];
        let Some((_, partial)) = self.cut.filter(|&(operation, _)| operation == self.operations) else {
            bytes.copy_from_slice(goal);
            self.words[words].fill(becomes);
            self.operations += 1;
            return Ok(());
        };
        self.powered = false;
        if partial != Partial::Clean {
            self.words[words].fill(Word::Torn);
        }
        let changes: u32 = bytes.iter().zip(goal).map(|(byte, goal)| (byte ^ goal).count_ones()).sum();
        let share = |share: u8| u64::from(changes) * u64::from(share) / 256;
        let mut random = Pcg32::seed_from_u64(match partial {
            Partial::Random(seed) => seed,
            _ => 0,
        });
        let chance = random.next_u32();
        let mut change = 0;
        for (byte, goal) in bytes.iter_mut().zip(goal) {
            for bit in (0..8).filter(|bit| (*byte ^ goal) >> bit & 1 == 1).collect::<Vec<_>>() {
                let changed = match partial {
                    Partial::Clean => false,
                    Partial::Prefix(part) => change < share(part),
                    Partial::Suffix(part) => change >= u64::from(changes) - share(part),
                    Partial::Random(_) => random.next_u32() < chance,
                };
                *byte ^= u8::from(changed) << bit;
                change += 1;
            }
        }
        Err(FlashError::PowerLost)
    }
}

impl<const WRITE: usize, const ERASE: usize, const READ: usize> ErrorType for Flash<WRITE, ERASE, READ> {
    type Error = FlashError;
}

impl<const WRITE: usize, const ERASE: usize, const READ: usize> ReadNorFlash for Flash<WRITE, ERASE, READ> {
    const READ_SIZE: usize = READ;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.check_power()?;
        check_read(self, offset, bytes.len())?;
        let start = offset as usize;
        let end = start + bytes.len();
        if self.torn_words_unreadable {
            let words = start / WRITE..end.div_ceil(WRITE);
            if let Some(torn) = words.clone().find(|&word| self.words[word] == Word::Torn) {
                return Err(FlashError::Unreadable((torn * WRITE) as u32));
            }
        }
        bytes.copy_from_slice(&self.bytes[start..end]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WRITE: usize, const ERASE: usize, const READ: usize> NorFlash for Flash<WRITE, ERASE, READ> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.check_power()?;
        check_erase(self, from, to)?;
        for page in from as usize / ERASE..to as usize / ERASE {
            let mut erased = [0xFF; ERASE];
            if self.erases[page] >= self.endurance {
                // Which bit gives way first is the page's own.
                erased[page * 37 % ERASE.min(64)] &= !(1 << (page % 8));
            }
            self.operate(page * ERASE, &erased, Word::Erased)?;
            self.erases[page] += 1;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.check_power()?;
        check_write(self, offset, bytes.len())?;
        for (at, word) in (offset as usize..).step_by(WRITE).zip(bytes.chunks_exact(WRITE)) {
            if self.write_once && self.words[at / WRITE] != Word::Erased {
                return Err(FlashError::WrittenTwice(at as u32));
            }
            let mut goal = [0; WRITE];
            for ((goal, &new), &old) in goal.iter_mut().zip(word).zip(&self.bytes[at..]) {
                *goal = new & old;
            }
            self.operate(at, &goal, Word::Written)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_fall_by_writing_and_rise_by_erasing() {
        let mut flash = Flash::<2, 16>::new(2);
        flash.write(4, &[0b1010_1010, 0xFF]).unwrap();
        flash.write(4, &[0b1100_1100, 0xF0]).unwrap();
        assert_eq!(flash.bytes()[4..6], [0b1000_1000, 0xF0]);
        flash.erase(16, 32).unwrap();
        assert_eq!(flash.bytes()[4], 0b1000_1000);
        flash.erase(0, 16).unwrap();
        assert!(flash.bytes().iter().all(|&byte| byte == 0xFF));
        assert_eq!((flash.operations(), flash.erases()), (4, [1, 1].as_slice()));
    }

    #[test]
    fn what_the_trait_forbids_is_refused() {
        let mut flash = Flash::<4, 16, 2>::new(2).write_once();
        assert_eq!(flash.write(2, &[0; 4]), Err(FlashError::NotAligned));
        assert_eq!(flash.write(0, &[0; 3]), Err(FlashError::NotAligned));
        assert_eq!(flash.read(1, &mut [0; 2]), Err(FlashError::NotAligned));
        assert_eq!(flash.erase(0, 20), Err(FlashError::NotAligned));
        assert_eq!(flash.erase(0, 48), Err(FlashError::OutOfBounds));
        assert_eq!(flash.write(32, &[0; 4]), Err(FlashError::OutOfBounds));
        // The same bits again: still a second write.
        flash.write(8, &[0xFF; 4]).unwrap();
        assert_eq!(flash.write(8, &[0xFF; 4]), Err(FlashError::WrittenTwice(8)));
        flash.erase(0, 16).unwrap();
        assert_eq!(flash.write(8, &[0; 4]), Ok(()));
    }

    #[test]
    fn a_cut_leaves_a_part() {
        for (partial, expected) in [
            (Partial::Clean, [0xFF, 0xFF]),
            (Partial::Prefix(128), [0x00, 0xFF]),
            (Partial::Suffix(64), [0xFF, 0x0F]),
        ] {
            let mut flash = Flash::<2, 16>::new(1).torn_words_unreadable();
            flash.cut_at(0, partial);
            assert_eq!(flash.write(0, &[0, 0]), Err(FlashError::PowerLost));
            assert_eq!(flash.erase(0, 16), Err(FlashError::PowerLost));
            assert!(flash.power_on());
            assert_eq!(flash.bytes()[..2], expected, "{partial:?}");
            let readable = partial == Partial::Clean;
            assert_eq!(flash.read(0, &mut [0]).is_ok(), readable, "{partial:?}");
            flash.erase(0, 16).unwrap();
            assert!(flash.read(0, &mut [0]).is_ok() && !flash.power_on());
        }
    }

    /// Bits that rise and bits that stay, over many seeds, and only in the direction of the operation.
    #[test]
    fn a_random_cut_leaves_any_part() {
        let left: std::collections::HashSet<u8> = (0..2_000)
            .map(|seed| {
                let mut flash = Flash::<1, 4>::new(1);
                flash.write(0, &[0b0101_1010]).unwrap();
                flash.cut_at(0, Partial::Random(seed));
                assert_eq!(flash.erase(0, 4), Err(FlashError::PowerLost));
                flash.bytes()[0]
            })
            .collect();
        assert_eq!(left.len(), 16, "every subset of the four zeros");
        assert!(left.iter().all(|byte| byte & 0b0101_1010 == 0b0101_1010));
    }

    #[test]
    fn a_page_wears_out() {
        let mut flash = Flash::<1, 16>::new(2).endurance(3);
        for _ in 0..3 {
            flash.erase(0, 16).unwrap();
            assert!(flash.bytes().iter().all(|&byte| byte == 0xFF));
        }
        flash.erase(0, 16).unwrap();
        assert_eq!(flash.bytes().iter().map(|byte| byte.count_zeros()).sum::<u32>(), 1);
    }
}
