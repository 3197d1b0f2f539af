//! The CRC-32 of results: what boards print, and what they save.

/// Bytes that are taken at once.
const PIECE: usize = 64;

/// The CRC-32 of what was before, in its own four bytes, and of at most [`PIECE`] bytes more.
fn after(before: u32, piece: &[u8]) -> u32 {
    let mut bytes = [0; 4 + PIECE];
    let (start, rest) = bytes.split_at_mut(4);
    start.copy_from_slice(&before.to_le_bytes());
    for (byte, &own) in rest.iter_mut().zip(piece) {
        *byte = own;
    }
    flatmin::crc32(bytes.get(..4 + piece.len()).unwrap_or(&bytes))
}

/// Goes on from what was before; 0 stands for nothing.
///
/// ```
/// let twice = flatmin_bench::crc32_after(flatmin_bench::crc32_after(0, &[1, 2]), &[3]);
/// assert_ne!(twice, flatmin_bench::crc32_after(0, &[1, 2]));
/// ```
pub fn crc32_after(crc: u32, values: &[i8]) -> u32 {
    values.chunks(PIECE).fold(crc, |crc, piece| {
        let mut bytes = [0; PIECE];
        bytes.iter_mut().zip(piece).for_each(|(byte, value)| *byte = value.cast_unsigned());
        after(crc, &bytes[..piece.len()])
    })
}

/// A checksum of `values`.
pub(crate) fn crc32(values: &[i8]) -> u32 {
    crc32_after(0, values)
}

/// A checksum of the bits of `values`.
pub(crate) fn crc32_floats(values: &[f32]) -> u32 {
    values.chunks(PIECE / 4).fold(0, |crc, piece| {
        let mut bytes = [0; PIECE];
        let (words, _) = bytes.as_chunks_mut::<4>();
        words.iter_mut().zip(piece).for_each(|(bytes, value)| *bytes = value.to_bits().to_le_bytes());
        after(crc, &bytes[..4 * piece.len()])
    })
}
