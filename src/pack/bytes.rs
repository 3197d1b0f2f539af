//! Little-endian reads that cannot fail: what lies past the end reads as zero. The validation in
//! [`super::Pack::new`] is what makes sure that no accessor ever gets there.

/// One byte.
pub(crate) const fn u8_at(bytes: &[u8], at: usize) -> u8 {
    if at < bytes.len() { bytes[at] } else { 0 }
}

/// A u16; `at + 1` must not overflow, which offsets derived from u32 fields cannot.
pub(crate) const fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([u8_at(bytes, at), u8_at(bytes, at.saturating_add(1))])
}

/// A u32.
pub(crate) const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let (low, high) = (u16_at(bytes, at), u16_at(bytes, at.saturating_add(2)));
    low as u32 | (high as u32) << 16
}

/// A u32 as a size. Every supported target has at least 32-bit addresses.
pub(crate) const fn size_at(bytes: &[u8], at: usize) -> usize {
    u32_at(bytes, at) as usize
}

/// An i32.
pub(crate) const fn i32_at(bytes: &[u8], at: usize) -> i32 {
    u32_at(bytes, at).cast_signed()
}

/// An f32.
pub(crate) const fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_little_endian_and_zero_past_the_end() {
        let bytes = [1, 2, 3, 0x80];
        assert_eq!(u16_at(&bytes, 1), 0x0302);
        assert_eq!(i32_at(&bytes, 0), i32::from_le_bytes(bytes));
        assert_eq!(u32_at(&bytes, 3), 0x80);
        assert_eq!(u32_at(&bytes, usize::MAX), 0);
    }
}
