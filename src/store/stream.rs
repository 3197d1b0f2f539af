//! Bytes to and from flash through one small buffer, in whole words.

use super::record::{CRC, unit};
use super::{Operation, StoreError};
use embedded_storage::nor_flash::{NorFlash, NorFlashError};

/// Bytes of the buffer on the stack: a multiple of every word size up to itself.
pub(super) const CHUNK: usize = 128;

/// Holds at compile time for a flash that the store can use.
const fn usable<F: NorFlash>() -> bool {
    unit::<F>() > 0 && CHUNK.is_multiple_of(unit::<F>()) && F::ERASE_SIZE.is_multiple_of(unit::<F>())
}

pub(super) fn failed(operation: Operation, error: impl NorFlashError) -> StoreError {
    StoreError::Flash { operation, kind: error.kind() }
}

/// Writes a stream of bytes behind each other; keeps their CRC.
pub(super) struct Writer<'f, F> {
    flash: &'f mut F,
    at: u32,
    buffer: [u8; CHUNK],
    filled: usize,
    digest: crc::Digest<'static, u32>,
}

impl<'f, F: NorFlash> Writer<'f, F> {
    pub fn new(flash: &'f mut F, at: u32) -> Self {
        const { assert!(usable::<F>(), "words must divide 128 bytes and a page") };
        Self { flash, at, buffer: [0xFF; CHUNK], filled: 0, digest: CRC.digest() }
    }

    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let free = self.buffer.get_mut(self.filled..).unwrap_or(&mut []);
            let (now, later) = bytes.split_at(bytes.len().min(free.len()));
            for (place, &byte) in free.iter_mut().zip(now) {
                *place = byte;
            }
            self.filled += now.len();
            bytes = later;
            if self.filled >= CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Pads to whole words and writes what is left; returns the CRC of all that was written.
    pub fn finish(mut self) -> Result<u32, StoreError> {
        self.flush()?;
        Ok(self.digest.finalize())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        // The buffer is full of 0xFF behind what was put into it: padding.
        let words = self.buffer.get(..self.filled.next_multiple_of(unit::<F>())).unwrap_or(&[]);
        if !words.is_empty() {
            self.flash.write(self.at, words).map_err(|error| failed(Operation::Write, error))?;
        }
        self.digest.update(words);
        self.at = self.at.saturating_add(u32::try_from(words.len()).unwrap_or(u32::MAX));
        (self.buffer, self.filled) = ([0xFF; CHUNK], 0);
        Ok(())
    }
}

/// Reads `length` bytes, a multiple of the unit, chunk by chunk.
pub(super) fn scan<F: NorFlash>(
    flash: &mut F,
    mut at: u32,
    length: u32,
    mut see: impl FnMut(&[u8]),
) -> Result<(), StoreError> {
    const { assert!(usable::<F>(), "words must divide 128 bytes and a page") };
    let mut buffer = [0; CHUNK];
    let mut rest = length;
    while rest > 0 {
        let now = rest.min(CHUNK as u32);
        let chunk = buffer.get_mut(..now as usize).unwrap_or(&mut []);
        flash.read(at, chunk).map_err(|error| failed(Operation::Read, error))?;
        see(chunk);
        at = at.saturating_add(now);
        rest -= now;
    }
    Ok(())
}
