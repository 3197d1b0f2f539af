//! The tuned tail as bytes, part by part: for a link whose messages are small.

use super::parts;
use super::stored::{Places, Stored};
use super::{Tuner, TunerError};
use crate::CompactTuner;
use crate::pack::CRC;
use crate::store::record::LAYER_BYTES;

/// Calls of both tuners.
macro_rules! transfer_calls {
    ($tuner:ident) => {
        impl $tuner<'_> {
            /// Bytes of the tuned tail: a payload with the weights (see [`Contents`](crate::store::Contents)).
            pub fn tail_bytes(&self) -> usize {
                self.pack().sizes().payload_bytes(Self::WHOLE)
            }

            /// Copies the tuned tail's bytes from `offset` on into `into`; returns how many there were.
            ///
            /// # Errors
            /// [`TunerError::NotTuned`] before [`Self::requantize`].
            pub fn read_tail(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
                read(self, offset, into)
            }

            /// Overwrites the tail's bytes from `offset` on, behind the description of its layers. The run under way is
            /// abandoned, and no tuned tail is in force until [`Self::adopt_tail`].
            ///
            /// # Errors
            /// [`TunerError::TailRange`].
            pub fn write_tail(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
                write(self, offset, bytes)
            }

            /// Puts the tail in force that [`Self::write_tail`] was given: `layers` is the description in front of it,
            /// `crc32` the [`crate::crc32`] of both. Where it is that of the int8 tail alone
            /// ([`Contents::Int8`](crate::store::Contents::Int8)), the weights become those that it stands for: they need
            /// not have been written.
            ///
            /// # Errors
            /// [`TunerError::TailDamaged`].
            pub fn adopt_tail(&mut self, layers: &[u8], crc32: u32) -> Result<(), TunerError> {
                adopt(self, layers, crc32)
            }
        }
    };
}

transfer_calls!(Tuner);
transfer_calls!(CompactTuner);

fn read<T: Stored>(tuner: &T, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
    if tuner.tuned().is_empty() {
        return Err(TunerError::NotTuned);
    }
    let layers = tuner.tuned().layer_bytes(tuner.pack());
    let int8 = core::iter::once(layers.as_bytes()).chain(tuner.tuned().int8_parts());
    Ok(parts::read(int8.chain(tuner.weight_parts()), offset, into))
}

fn write<T: Stored>(tuner: &mut T, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
    let sizes = tuner.pack().sizes();
    let first = sizes.tail_layers * LAYER_BYTES;
    parts::check_range(offset, bytes, first, sizes.payload_bytes(T::WHOLE))?;
    tuner.abandon();
    let Places { int8, weights } = tuner.places(T::WHOLE);
    parts::write(int8.into_iter().chain(weights), offset - first, bytes);
    Ok(())
}

fn adopt<T: Stored>(tuner: &mut T, layers: &[u8], crc32: u32) -> Result<(), TunerError> {
    tuner.abandon();
    let mut digest = CRC.digest();
    core::iter::once(layers).chain(tuner.tuned().int8_parts()).for_each(|part| digest.update(part));
    let int8_alone = digest.clone().finalize() == crc32;
    tuner.weight_parts().iter().for_each(|part| digest.update(part));
    let whole = digest.finalize() == crc32;
    let described = layers.len() == tuner.pack().sizes().tail_layers * LAYER_BYTES;
    if described && (int8_alone || whole) && tuner.adopt(layers, !int8_alone) {
        return Ok(());
    }
    tuner.reset();
    Err(TunerError::TailDamaged)
}
