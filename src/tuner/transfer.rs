//! The tuned tail as bytes, part by part: for a link whose messages are small.

use super::commit::as_bytes;
use super::{Tuner, TunerError};
use crate::pack::CRC;
use crate::store::Contents;
use crate::store::record::LAYER_BYTES;

impl Tuner<'_> {
    /// Bytes of the tuned tail: a payload of [`Contents::Int8AndF32`].
    pub fn tail_bytes(&self) -> usize {
        self.pack.sizes().payload_bytes(Contents::Int8AndF32)
    }

    /// Copies the tuned tail's bytes from `offset` on into `into`; returns how many there were.
    ///
    /// # Errors
    /// [`TunerError::NotTuned`] before [`Self::requantize`].
    pub fn read_tail(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
        if self.tuned.is_empty() {
            return Err(TunerError::NotTuned);
        }
        let (layers, layer_bytes) = self.layer_bytes();
        let mut places = into.iter_mut();
        let mut skip = offset;
        let (mut written, mut ended) = (0, false);
        for part in self.tail_parts(layers.get(..layer_bytes).unwrap_or(&[])) {
            let rest = part.get(skip.min(part.len())..).unwrap_or(&[]);
            skip = skip.saturating_sub(part.len());
            for &byte in rest {
                let Some(place) = places.next() else {
                    ended = true;
                    break;
                };
                *place = byte;
                written += 1;
            }
            if ended {
                break;
            }
        }
        Ok(written)
    }

    /// Overwrites the tail's bytes from `offset` on, behind the description of its layers. The run under way is
    /// abandoned, and no tuned tail is in force until [`Self::adopt_tail`].
    ///
    /// # Errors
    /// [`TunerError::TailRange`].
    pub fn write_tail(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
        let (first, length) = (self.pack.sizes().tail_layers * LAYER_BYTES, self.tail_bytes());
        let end = offset.saturating_add(bytes.len());
        if offset < first || end > length {
            return Err(TunerError::TailRange { offset, end, first, length });
        }
        self.abandon();
        self.tuned.clear();
        let (words, weights) = self.tuned.parts_mut();
        let mut start = first;
        for part in [as_bytes(words), as_bytes(weights), as_bytes(self.weights)] {
            let own = start..start.saturating_add(part.len());
            let from = offset.clamp(own.start, own.end);
            let to = end.clamp(own.start, own.end);
            let places = part.get_mut(from - own.start..).unwrap_or(&mut []);
            let given = bytes.get(from.saturating_sub(offset)..to.saturating_sub(offset)).unwrap_or(&[]);
            for (place, &byte) in places.iter_mut().zip(given) {
                *place = byte;
            }
            start = own.end;
        }
        Ok(())
    }

    /// Puts the tail in force that [`Self::write_tail`] was given: `layers` is the description in front of it,
    /// `crc32` the [`crate::crc32`] of both.
    ///
    /// # Errors
    /// [`TunerError::TailDamaged`].
    pub fn adopt_tail(&mut self, layers: &[u8], crc32: u32) -> Result<(), TunerError> {
        let mut digest = CRC.digest();
        self.tail_parts(layers).into_iter().for_each(|part| digest.update(part));
        let whole = layers.len() == self.pack.sizes().tail_layers * LAYER_BYTES && digest.finalize() == crc32;
        self.abandon();
        if whole && self.adopt_layers(layers) {
            self.count_classes();
            return Ok(());
        }
        self.factory_reset();
        Err(TunerError::TailDamaged)
    }

    /// The payload's parts. The crate builds for little-endian targets alone: memory is what the format says.
    fn tail_parts<'s>(&'s self, layers: &'s [u8]) -> [&'s [u8]; 4] {
        let (words, weights) = self.tuned.parts();
        [
            layers,
            bytemuck::try_cast_slice(words).unwrap_or(&[]),
            bytemuck::try_cast_slice(weights).unwrap_or(&[]),
            bytemuck::try_cast_slice(self.weights()).unwrap_or(&[]),
        ]
    }
}
