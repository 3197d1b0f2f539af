//! The tuned tail as bytes, part by part: for a link whose messages are small.

use super::parts::{self, bytes, bytes_mut};
use super::payload::Pushed;
use super::{Tuner, TunerError};
use crate::requant::TunedTail;
use crate::store::Contents;

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
        let layers = self.tuned.layer_bytes(&self.pack);
        Ok(parts::read(self.tail_parts(layers.as_bytes()), offset, into))
    }

    /// Overwrites the tail's bytes from `offset` on, behind the description of its layers. The run under way is
    /// abandoned, and no tuned tail is in force until [`Self::adopt_tail`].
    ///
    /// # Errors
    /// [`TunerError::TailRange`].
    pub fn write_tail(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
        let first = TunedTail::check_push(&self.pack, offset, bytes, self.tail_bytes())?;
        self.abandon();
        let [words, weights] = self.tuned.int8_parts_mut();
        parts::write([words, weights, bytes_mut(self.weights)], offset - first, bytes);
        Ok(())
    }

    /// Puts the tail in force that [`Self::write_tail`] was given: `layers` is the description in front of it,
    /// `crc32` the [`crate::crc32`] of both. Where it is that of the int8 tail alone ([`Contents::Int8`]), the f32 weights
    /// become what that dequantizes to: they need not have been written.
    ///
    /// # Errors
    /// [`TunerError::TailDamaged`].
    pub fn adopt_tail(&mut self, layers: &[u8], crc32: u32) -> Result<(), TunerError> {
        self.abandon();
        let pushed = self.tuned.pushed(&self.pack, layers, &[bytes(self.weights)], crc32);
        match pushed.filter(|_| self.tuned.adopt_layers(&self.pack, layers)) {
            Some(Pushed::Int8) => self.dequantize(),
            Some(Pushed::Whole) => {}
            None => {
                self.factory_reset();
                return Err(TunerError::TailDamaged);
            }
        }
        Ok(())
    }

    /// The payload's parts.
    fn tail_parts<'s>(&'s self, layers: &'s [u8]) -> [&'s [u8]; 4] {
        let [words, weights] = self.tuned.int8_parts();
        [layers, words, weights, bytes(self.weights())]
    }
}
