//! A tail as bytes, as it travels over a link or into a file: its parts one after the other, read and written from any
//! offset on.

use super::arithmetic::{Arithmetic, WEIGHT_PARTS};
use super::{Tuner, TunerError};
use crate::pack::{CRC, Pack};
use crate::quant::Affine;
use crate::requant::TunedTail;
use crate::store::Contents;
use crate::store::record::LAYER_BYTES;
use crate::tail::MAX_LAYERS;

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Bytes of the tuned tail: a payload with the weights (see [`Contents`](crate::store::Contents)).
    pub fn tail_bytes(&self) -> usize {
        self.pack.sizes().payload_bytes(A::CONTENTS)
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
        let int8 = core::iter::once(layers.as_bytes()).chain(self.tuned.int8_parts());
        Ok(read(int8.chain(self.weight_parts()), offset, into))
    }

    /// Overwrites the tail's bytes from `offset` on, which is past the description of its layers. The run under way is
    /// abandoned, and no tuned tail is in force until [`Self::adopt_tail`].
    ///
    /// # Errors
    /// [`TunerError::TailRange`].
    pub fn write_tail(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
        let sizes = self.pack.sizes();
        let first = sizes.tail_layers * LAYER_BYTES;
        check_range(offset, bytes, first, sizes.payload_bytes(A::CONTENTS))?;
        self.abandon();
        write(self.places(A::CONTENTS), offset - first, bytes);
        Ok(())
    }

    /// Puts the tail in force that [`Self::write_tail`] was given: `layers` is the description in front of it,
    /// `crc32` the [`crate::crc32`] of both. Where it is that of the int8 tail alone
    /// ([`Contents::Int8`](crate::store::Contents::Int8)), the weights become those that it stands for: they need
    /// not have been written.
    ///
    /// # Errors
    /// [`TunerError::TailDamaged`].
    pub fn adopt_tail(&mut self, layers: &[u8], crc32: u32) -> Result<(), TunerError> {
        self.abandon();
        let mut digest = CRC.digest();
        core::iter::once(layers).chain(self.tuned.int8_parts()).for_each(|part| digest.update(part));
        let int8_alone = digest.clone().finalize() == crc32;
        self.weight_parts().iter().for_each(|part| digest.update(part));
        let whole = digest.finalize() == crc32;
        let described = layers.len() == self.pack.sizes().tail_layers * LAYER_BYTES;
        if described && (int8_alone || whole) && self.adopt(layers, !int8_alone) {
            return Ok(());
        }
        self.factory_reset();
        Err(TunerError::TailDamaged)
    }

    /// The weights of the last whole step, as they follow the int8 parts.
    pub(super) fn weight_parts(&self) -> [&[u8]; WEIGHT_PARTS] {
        self.arithmetic.parts(self.step_under_way())
    }

    /// The places of a payload's parts after the layers, to be filled. No tail is in force then.
    pub(super) fn places(&mut self, contents: Contents) -> [&mut [u8]; 2 + WEIGHT_PARTS] {
        let [words, int8] = self.tuned.int8_parts_mut();
        let [a, b, c, d] = self.arithmetic.places(&self.pack, contents);
        [words, int8, a, b, c, d]
    }

    /// Puts what lies in the places in force, with its `weights`, or with those that the int8 tail stands for. False where
    /// it is no tail of this pack.
    pub(super) fn adopt(&mut self, layers: &[u8], weights: bool) -> bool {
        if !self.tuned.adopt_layers(&self.pack, layers) {
            return false;
        }
        if weights {
            return self.arithmetic.adopt(&self.pack);
        }
        self.arithmetic.load(&self.pack, Some(&self.tuned));
        true
    }
}

/// The layers' output quantization, as a payload begins.
pub(super) struct Layers {
    bytes: [u8; MAX_LAYERS * LAYER_BYTES],
    length: usize,
}

impl Layers {
    /// Place for those of a pack.
    pub fn empty(pack: &Pack) -> Self {
        Self { bytes: [0; MAX_LAYERS * LAYER_BYTES], length: pack.sizes().tail_layers * LAYER_BYTES }
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or(&mut [])
    }
}

impl TunedTail<'_> {
    /// The front of a payload.
    pub(super) fn layer_bytes(&self, pack: &Pack) -> Layers {
        let mut layers = Layers::empty(pack);
        let fields = layers.as_bytes_mut().as_chunks_mut::<4>().0.iter_mut();
        let words =
            self.outputs().flat_map(|output| [output.scale.to_bits(), output.zero_point.cast_unsigned()]);
        for (field, word) in fields.zip(words) {
            *field = word.to_le_bytes();
        }
        layers
    }

    /// Puts what lies in the tuned tail's buffers in force; false, and nothing in force, where it is no tail of this
    /// pack.
    pub(super) fn adopt_layers(&mut self, pack: &Pack, layers: &[u8]) -> bool {
        let outputs = layers.as_chunks::<LAYER_BYTES>().0.iter().map(|&[a, b, c, d, e, f, g, h]| Affine {
            scale: f32::from_le_bytes([a, b, c, d]),
            zero_point: i32::from_le_bytes([e, f, g, h]),
        });
        self.adopt(pack, outputs)
    }

    /// A payload's int8 parts after the layers'.
    pub(super) fn int8_parts(&self) -> [&[u8]; 2] {
        let (words, weights) = self.parts();
        [bytes(words), bytes(weights)]
    }

    /// A payload's int8 parts, to be filled.
    pub(super) fn int8_parts_mut(&mut self) -> [&mut [u8]; 2] {
        let (words, weights) = self.parts_mut();
        [bytes_mut(words), bytes_mut(weights)]
    }
}

/// Bytes of all parts.
pub(super) fn length<const N: usize>(parts: &[&[u8]; N]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// CRC-32 of all parts.
pub(super) fn checksum<const N: usize>(parts: &[&[u8]; N]) -> u32 {
    let mut digest = CRC.digest();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

/// Copies the bytes from `offset` on into `into`, as many as there are and fit; returns how many.
pub(super) fn read<'s>(parts: impl IntoIterator<Item = &'s [u8]>, offset: usize, into: &mut [u8]) -> usize {
    let (mut skip, mut written) = (offset, 0);
    for part in parts {
        let from = part.get(skip.min(part.len())..).unwrap_or(&[]);
        skip = skip.saturating_sub(part.len());
        let places = into.get_mut(written..).unwrap_or(&mut []);
        written += from.len().min(places.len());
        places.iter_mut().zip(from).for_each(|(place, &byte)| *place = byte);
    }
    written
}

/// Refuses bytes at `offset` that do not lie from `first` to `length`.
pub(super) fn check_range(
    offset: usize,
    bytes: &[u8],
    first: usize,
    length: usize,
) -> Result<(), TunerError> {
    let end = offset.saturating_add(bytes.len());
    if offset < first || end > length {
        return Err(TunerError::TailRange { offset, end, first, length });
    }
    Ok(())
}

/// Overwrites the bytes of the parts from `offset` on.
pub(super) fn write<'s>(parts: impl IntoIterator<Item = &'s mut [u8]>, offset: usize, bytes: &[u8]) {
    let (mut skip, mut bytes) = (offset, bytes);
    for part in parts {
        let length = part.len();
        let places = part.get_mut(skip.min(length)..).unwrap_or(&mut []);
        skip = skip.saturating_sub(length);
        let (own, behind) = bytes.split_at(places.len().min(bytes.len()));
        places.iter_mut().zip(own).for_each(|(place, &byte)| *place = byte);
        bytes = behind;
    }
}

/// Memory as bytes. The crate builds for little-endian targets alone: it is what the formats say.
pub(crate) fn bytes<T: bytemuck::NoUninit>(values: &[T]) -> &[u8] {
    bytemuck::try_cast_slice(values).unwrap_or(&[])
}

/// Memory as bytes, to write.
pub(crate) fn bytes_mut<T: bytemuck::Pod>(values: &mut [T]) -> &mut [u8] {
    bytemuck::try_cast_slice_mut(values).unwrap_or(&mut [])
}

/// The first `length` bytes, or as many as there are.
pub(crate) fn front(bytes: &mut [u8], length: usize) -> &mut [u8] {
    let length = length.min(bytes.len());
    bytes.get_mut(..length).unwrap_or(&mut [])
}
