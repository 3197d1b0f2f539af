//! The link's key and the count of starts, in two pages of flash of their own.
//!
//! Each page holds a header with the key, then one word for each start since it was written. Where a word cannot be written or none
//! is left, the other page is erased and begun anew; the older one stays until then, so that a power cut costs a start's number at
//! most. A map of sequential-storage 8.0 would not do: it writes a word that a cut has torn a second time, which flash with an
//! ECC refuses, and then for ever.
//!
//! | bytes of the header | what |
//! | --- | --- |
//! | 4 | `FMK1` |
//! | 4 | generation, little endian: the higher one is in force |
//! | 4 | starts before this page, little endian |
//! | 32 | the key |
//! | 4 | CRC-32 of what stands before it, little endian |
//! | 16 | zeros |

use crate::Board;
use core::ops::Range;
use embedded_storage::nor_flash::NorFlash;
use flatmin::crc32;
use flatmin::wire::signed::{KEY_BYTES, Key};

/// The flash cannot be used, or holds what nobody wrote there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

const MAGIC: [u8; 4] = *b"FMK1";
/// Bytes of a header: whole words of any flash.
const HEADER: usize = 64;
/// Starts that a page counts: few enough to be looked through, and to lie in the smallest pages, of 1 KiB.
const STARTS: u32 = 192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    generation: u32,
    starts: u32,
    key: [u8; KEY_BYTES],
}

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let parts = [&MAGIC, &self.generation.to_le_bytes(), &self.starts.to_le_bytes(), self.key.as_slice()];
        bytes.iter_mut().zip(parts.into_iter().flatten()).for_each(|(place, byte)| *place = *byte);
        let (covered, rest) = bytes.split_at_mut(12 + KEY_BYTES);
        rest.iter_mut().zip(crc32(covered).to_le_bytes()).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// `None` where the bytes are none.
    fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let [_, generation, starts, ..] = words else { return None };
        let key = *bytes.get(12..)?.first_chunk()?;
        let header =
            Self { generation: u32::from_le_bytes(*generation), starts: u32::from_le_bytes(*starts), key };
        (header.bytes() == *bytes).then_some(header)
    }
}

/// What a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Blank,
    Whole(Header),
    /// Left by a power cut, by rot, or by somebody else.
    Torn,
}

pub(crate) struct Keys<F> {
    pages: Range<u32>,
    flash: F,
}

impl<'b> Keys<()> {
    /// Keys of a board that has pages for them.
    pub fn of<B: Board>(board: &'b mut B) -> Option<Keys<impl NorFlash + use<'b, B>>> {
        board.keys().map(|(pages, flash)| Keys { pages, flash })
    }
}

impl<F: NorFlash> Keys<F> {
    /// The key, if one was kept.
    #[inline(never)] // one copy of each
    pub fn key(&mut self) -> Result<Option<Key>, Broken> {
        Ok(self.newest()?.map(|(_, header)| Key::new(header.key)))
    }

    /// Keeps a key in place of the one before it, in both pages.
    #[inline(never)]
    pub fn keep(&mut self, key: &Key) -> Result<(), Broken> {
        let (mut page, mut header) =
            self.newest()?.unwrap_or((1, Header { generation: 0, starts: 0, key: [0; _] }));
        header.starts = self.counted(page, &header);
        header.key = *key.bytes();
        for _ in 0..2 {
            (page, header) = self.begin(page, header)?;
        }
        Ok(())
    }

    /// The number of a start that no other has had.
    #[inline(never)]
    pub fn next_start(&mut self) -> Result<u32, Broken> {
        let (page, header) = self.newest()?.ok_or(Broken)?;
        let number = self.counted(page, &header).checked_add(1).ok_or(Broken)?;
        let word = number.saturating_sub(header.starts).saturating_sub(1);
        let counted = word < STARTS && self.count(page, word).is_ok();
        if !counted || self.counted(page, &header) != number {
            self.begin(page, Header { starts: number, ..header })?;
        }
        Ok(number)
    }

    /// Writes the header, one generation on, into the page that is not `page`, and makes sure of it.
    #[inline(never)]
    fn begin(&mut self, page: u32, header: Header) -> Result<(u32, Header), Broken> {
        let other = 1 - page.min(1);
        let header = Header { generation: header.generation.checked_add(1).ok_or(Broken)?, ..header };
        let (from, to) = (self.address(other)?, self.address(other + 1)?);
        self.flash.erase(from, to).map_err(|_| Broken)?;
        self.flash.write(from, &header.bytes()).map_err(|_| Broken)?;
        if self.page(other)? == Page::Whole(header) { Ok((other, header)) } else { Err(Broken) }
    }

    /// The page in force and its header; `None` where no key was ever kept.
    fn newest(&mut self) -> Result<Option<(u32, Header)>, Broken> {
        Ok(match (self.page(0)?, self.page(1)?) {
            (Page::Whole(first), Page::Whole(second)) if first.generation > second.generation => {
                Some((0, first))
            }
            (_, Page::Whole(second)) => Some((1, second)),
            (Page::Whole(first), _) => Some((0, first)),
            // The first key's first page was cut short.
            (Page::Blank | Page::Torn, Page::Blank) => None,
            (_, Page::Torn) => return Err(Broken),
        })
    }

    fn page(&mut self, page: u32) -> Result<Page, Broken> {
        let mut bytes = [0; HEADER];
        let address = self.address(page)?;
        if self.flash.read(address, &mut bytes).is_err() {
            return Ok(Page::Torn);
        }
        Ok(match Header::read(&bytes) {
            Some(header) => Page::Whole(header),
            None if bytes == [0xFF; HEADER] => Page::Blank,
            None => Page::Torn,
        })
    }

    /// Starts up to now: those before the page, and its words up to the last that is not as erasing leaves it.
    #[inline(never)]
    fn counted(&mut self, page: u32, header: &Header) -> u32 {
        let used = (0..STARTS).rev().find(|&word| !self.is_blank(page, word));
        header.starts.saturating_add(used.map_or(0, |word| word.saturating_add(1)))
    }

    fn is_blank(&mut self, page: u32, word: u32) -> bool {
        let mut bytes = [0; HEADER];
        let place = bytes.get_mut(..F::WRITE_SIZE);
        let (Some(place), Ok(address)) = (place, self.word(page, word)) else { return false };
        self.flash.read(address, place).is_ok() && place.iter().all(|&byte| byte == 0xFF)
    }

    fn count(&mut self, page: u32, word: u32) -> Result<(), Broken> {
        let address = self.word(page, word)?;
        let bytes = [0; HEADER];
        self.flash.write(address, bytes.get(..F::WRITE_SIZE).ok_or(Broken)?).map_err(|_| Broken)
    }

    /// Address of the word of a page that counts a start.
    fn word(&self, page: u32, word: u32) -> Result<u32, Broken> {
        let within = word.saturating_mul(F::WRITE_SIZE as u32).saturating_add(HEADER as u32);
        Ok(self.address(page)?.saturating_add(within))
    }

    /// Address of a page, or of the end.
    fn address(&self, page: u32) -> Result<u32, Broken> {
        let bytes = F::ERASE_SIZE as u32;
        let fits =
            HEADER as u32 + STARTS * (F::WRITE_SIZE as u32) <= bytes && HEADER.is_multiple_of(F::WRITE_SIZE);
        let address = self.pages.start.saturating_add(page.saturating_mul(bytes));
        if fits && page <= 2 && address <= self.pages.end && self.pages.start.is_multiple_of(bytes) {
            Ok(address)
        } else {
            Err(Broken)
        }
    }
}
