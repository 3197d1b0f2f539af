//! A tail as bytes, as it travels over a link or into a file: its parts one after the other, read and written from any
//! offset on.

use super::arithmetic::{Arithmetic, WEIGHT_PARTS};
use super::{Incoming, Tuner, TunerError};
use crate::pack::{CRC, Pack};
use crate::part::Part;
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
    /// [`TunerError::NotTuned`] before [`Self::requantize`]; [`TunerError::TailExpected`], [`TunerError::RunExpected`] while
    /// weights are being written.
    pub fn read_tail(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
        if self.tuned.is_empty() {
            return Err(TunerError::NotTuned);
        }
        self.check_weights()?;
        let layers = self.tuned.layer_bytes(&self.pack);
        let int8 = core::iter::once(layers.as_bytes()).chain(self.tuned.int8_parts());
        Ok(read(int8.chain(self.payload_parts()), offset, into))
    }

    /// Takes bytes of a tail from `offset` on, which is past the description of its layers. The run under way is abandoned.
    /// Until [`Self::adopt_tail`] the tail of before stays in force, and what reads the weights is refused with
    /// [`TunerError::TailExpected`]: they are overwritten. A run that is started instead begins with the weights that the
    /// tail in force stands for. Of an [`crate::IntegerTuner`] the bytes take the place of the tail of before: the factory's is
    /// in force until [`Self::adopt_tail`].
    ///
    /// # Errors
    /// [`TunerError::TailRange`]; of an [`crate::IntegerTuner`] [`TunerError::OnlyCopy`].
    pub fn write_tail(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
        let sizes = self.pack.sizes();
        let first = sizes.tail_layers * LAYER_BYTES;
        check_range(offset, bytes, first, sizes.payload_bytes(A::CONTENTS))?;
        if A::ONE_COPY && self.is_only_copy() {
            return Err(TunerError::OnlyCopy);
        }
        if self.incoming != Incoming::Tail {
            self.abandon();
            self.incoming = Incoming::Tail;
        }
        if A::ONE_COPY {
            self.clear_place();
            write(self.tuned.int8_parts_mut(), offset - first, bytes);
            return Ok(());
        }
        let [a, b, c, d] = self.arithmetic.places(&self.pack, A::CONTENTS);
        // The int8 part comes first, but its place may lie in one that is borrowed here: it follows on its own.
        let int8 = sizes.payload_bytes(Contents::Int8) - first;
        let (own, weights) = bytes.split_at(int8.saturating_sub(offset - first).min(bytes.len()));
        write([a, b, c, d], (offset - first).saturating_sub(int8), weights);
        write([front(self.arithmetic.spare(), int8)], offset - first, own);
        Ok(())
    }

    /// Puts the tail in force that [`Self::write_tail`] was given: `layers` is the description in front of it,
    /// `crc32` the [`crate::crc32`] of both. Where it is that of the int8 tail alone
    /// ([`Contents::Int8`](crate::store::Contents::Int8)), the weights become those that it stands for: they need
    /// not have been written.
    ///
    /// # Errors
    /// [`TunerError::TailDamaged`], also where nothing was written: the tail of before is in force; of an
    /// [`crate::IntegerTuner`] the factory's, and the former one is to be restored ([`Self::awaits_restore`]).
    pub fn adopt_tail(&mut self, layers: &[u8], crc32: u32) -> Result<(), TunerError> {
        if self.incoming != Incoming::Tail {
            return Err(TunerError::TailDamaged);
        }
        let described = self.pack.sizes().tail_layers * LAYER_BYTES;
        let int8 = self.pack.sizes().payload_bytes(Contents::Int8) - described;
        let mut digest = CRC.digest();
        digest.update(layers);
        match A::ONE_COPY {
            true => self.tuned.int8_parts().iter().for_each(|part| digest.update(part)),
            false => digest.update(front(self.arithmetic.spare(), int8)),
        }
        let int8_alone = digest.clone().finalize() == crc32;
        if A::CONTENTS != Contents::Int8 {
            self.arithmetic.parts(None).iter().for_each(|part| digest.update(part));
        }
        let whole = digest.finalize() == crc32;
        if layers.len() != described || !(int8_alone || whole) {
            self.abandon();
            return Err(TunerError::TailDamaged);
        }
        if A::ONE_COPY {
            return self.adopt(layers, false).then_some(()).ok_or_else(|| {
                self.abandon();
                TunerError::TailDamaged
            });
        }
        // The tail of before is kept where the new one was.
        let before = self.tuned.layer_bytes(&self.pack);
        let was_tuned = self.is_tuned();
        self.tuned.exchange(self.arithmetic.spare());
        if self.adopt(layers, !int8_alone) {
            return Ok(());
        }
        self.tuned.exchange(self.arithmetic.spare());
        if was_tuned {
            self.tuned.adopt_layers(&self.pack, before.as_bytes());
        }
        self.abandon();
        Err(TunerError::TailDamaged)
    }

    /// The weights as they stand in a payload after the int8 tail.
    pub(super) fn payload_parts(&self) -> [&[u8]; WEIGHT_PARTS] {
        if A::CONTENTS == Contents::Int8 { [&[]; WEIGHT_PARTS] } else { self.weight_parts() }
    }

    /// The weights of the last whole step, as they follow the int8 parts; none while they are being written.
    pub(super) fn weight_parts(&self) -> [&[u8]; WEIGHT_PARTS] {
        match self.incoming {
            Incoming::Nothing => self.arithmetic.parts(self.step_under_way()),
            _ => [&[]; WEIGHT_PARTS],
        }
    }

    /// The places of a payload's parts after the layers, to be filled. No tail is in force then.
    pub(super) fn places(&mut self, contents: Contents) -> [&mut [u8]; 2 + WEIGHT_PARTS] {
        self.arithmetic.lend(&mut self.tuned);
        let [words, int8] = self.tuned.int8_parts_mut();
        let [a, b, c, d] = self.arithmetic.places(&self.pack, contents);
        [words, int8, a, b, c, d]
    }

    /// Puts what lies in the places in force, with its `weights`, or with those that the int8 tail stands for. False, and
    /// nothing in force, where it is no tail of this pack, or has weights that runs cannot bear.
    pub(super) fn adopt(&mut self, layers: &[u8], weights: bool) -> bool {
        if !self.tuned.adopt_layers(&self.pack, layers) {
            return false;
        }
        // What consists of the int8 tail alone has no weights of its own.
        if weights && A::CONTENTS != Contents::Int8 {
            self.arithmetic.adopt(&self.pack);
        } else {
            self.arithmetic.load(&self.pack, Some(&self.tuned));
        }
        if !self.arithmetic.are_sound() {
            self.tuned.clear();
            return false;
        }
        self.incoming = Incoming::Nothing;
        self.forget_former(false);
        self.settle();
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
        self.bytes.part(..self.length)
    }

    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.part_mut(..self.length)
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

    /// Exchanges the int8 parts with the front of `place`.
    fn exchange(&mut self, place: &mut [u8]) {
        let parts = self.int8_parts_mut().into_iter().flatten();
        parts.zip(place).for_each(|(own, other)| core::mem::swap(own, other));
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
#[inline(never)] // its digest is not on the stack of the frame that puts a tuner together
pub(crate) fn checksum<const N: usize>(parts: &[&[u8]; N]) -> u32 {
    let mut digest = CRC.digest();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

/// Copies the bytes from `offset` on into `into`, as many as there are and fit; returns how many.
pub(super) fn read<'s>(parts: impl IntoIterator<Item = &'s [u8]>, offset: usize, into: &mut [u8]) -> usize {
    let (mut skip, mut written) = (offset, 0);
    for part in parts {
        let from = part.part(skip.min(part.len())..);
        skip = skip.saturating_sub(part.len());
        let places = into.part_mut(written..);
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
        let places = part.part_mut(skip.min(length)..);
        skip = skip.saturating_sub(length);
        let (own, behind) = bytes.split_at(places.len().min(bytes.len()));
        places.iter_mut().zip(own).for_each(|(place, &byte)| *place = byte);
        bytes = behind;
    }
}

/// Memory as bytes. The crate builds for little-endian targets alone: it is what the formats say.
pub(crate) fn bytes<T: bytemuck::NoUninit>(values: &[T]) -> &[u8] {
    bytemuck::must_cast_slice(values)
}

/// Memory as bytes, to write.
pub(crate) fn bytes_mut<T: bytemuck::Pod>(values: &mut [T]) -> &mut [u8] {
    bytemuck::must_cast_slice_mut(values)
}

/// The first `length` bytes, or as many as there are.
pub(crate) fn front(bytes: &mut [u8], length: usize) -> &mut [u8] {
    let length = length.min(bytes.len());
    bytes.part_mut(..length)
}
