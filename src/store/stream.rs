//! Bytes to and from flash through one small buffer, in whole words.

use super::StoreError;
use super::access::{Access, CHUNK, usable};
use super::record::CRC;
use crate::part::Part;

/// Writes a stream of bytes one after the other; keeps their CRC.
pub(super) struct Writer<'f, A> {
    flash: &'f mut A,
    at: u32,
    buffer: [u8; CHUNK],
    filled: usize,
    digest: crc::Digest<'static, u32>,
}

impl<'f, A: Access> Writer<'f, A> {
    pub fn new(flash: &'f mut A, at: u32) -> Self {
        const { assert!(usable::<A>(), "words must divide 128 bytes and a page") };
        Self { flash, at, buffer: [0xFF; CHUNK], filled: 0, digest: CRC.digest() }
    }

    pub async fn push(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let free = self.buffer.part_mut(self.filled..);
            let (now, later) = bytes.split_at(bytes.len().min(free.len()));
            for (place, &byte) in free.iter_mut().zip(now) {
                *place = byte;
            }
            self.filled += now.len();
            bytes = later;
            if self.filled >= CHUNK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Pads to whole words and writes what is left; returns the CRC of all that was written.
    pub async fn finish(mut self) -> Result<u32, StoreError> {
        self.flush().await?;
        Ok(self.digest.finalize())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        // The buffer is full of 0xFF after what was put into it: padding.
        let words = self.buffer.part(..self.filled.next_multiple_of(A::UNIT));
        if !words.is_empty() {
            self.flash.write(self.at, words).await?;
        }
        self.digest.update(words);
        self.at = self.at.saturating_add(u32::try_from(words.len()).unwrap_or(u32::MAX));
        (self.buffer, self.filled) = ([0xFF; CHUNK], 0);
        Ok(())
    }
}

/// Reads `length` bytes, a multiple of the unit, chunk by chunk.
pub(super) async fn scan<A: Access>(
    flash: &mut A,
    mut at: u32,
    length: u32,
    mut see: impl FnMut(&[u8]),
) -> Result<(), StoreError> {
    const { assert!(usable::<A>(), "words must divide 128 bytes and a page") };
    let mut buffer = [0; CHUNK];
    let mut rest = length;
    while rest > 0 {
        let now = rest.min(CHUNK as u32);
        let chunk = buffer.part_mut(..now as usize);
        flash.read(at, chunk).await?;
        see(chunk);
        at = at.saturating_add(now);
        rest -= now;
    }
    Ok(())
}
