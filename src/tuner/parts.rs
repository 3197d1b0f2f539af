//! A payload as it travels over a link or into a file: parts behind each other, read and written from any offset on.

use super::TunerError;
use crate::pack::CRC;

/// Bytes of all parts.
pub(crate) fn length<const N: usize>(parts: &[&[u8]; N]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// CRC-32 of all parts.
pub(crate) fn checksum<const N: usize>(parts: &[&[u8]; N]) -> u32 {
    let mut digest = CRC.digest();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

/// Copies the bytes from `offset` on into `into`, as many as there are and fit; returns how many.
pub(crate) fn read<'s>(parts: impl IntoIterator<Item = &'s [u8]>, offset: usize, into: &mut [u8]) -> usize {
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
pub(crate) fn check_range(
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
pub(crate) fn write<'s>(parts: impl IntoIterator<Item = &'s mut [u8]>, offset: usize, bytes: &[u8]) {
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

/// The same, to write.
pub(crate) fn bytes_mut<T: bytemuck::Pod>(values: &mut [T]) -> &mut [u8] {
    bytemuck::try_cast_slice_mut(values).unwrap_or(&mut [])
}
