//! The bytes of a record: format version 1, little endian throughout.
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | header | 32 | fields at the offsets in [`header`] |
//! | payload | `header::LENGTH` | see [`Contents`] |
//! | padding | to a multiple of the flash's write unit | 0xFF |
//! | trailer | 8 | CRC-32 of all bytes before it, then [`COMMIT`] |
//! | padding | to a multiple of the flash's write unit | 0xFF |
//!
//! The write unit is the larger of the flash's `WRITE_SIZE` and `READ_SIZE`. Every word is written once. The trailer
//! is the commit word: written last, after all before it was read back.
//!
//! The CRC is CRC-32C (CRC-32/ISCSI, Castagnoli 1993), not the CRC-32 of packs and messages: its polynomial is
//! `x + 1` times a primitive one of degree 31, so that any three flipped bits are found in records of up to 2^31
//! bits. CRC-32/ISO-HDLC promises that up to 11 KiB. The header has a CRC of its own, so that a damaged length never
//! decides which bytes the other covers. That one is CRC-32/ISO-HDLC: a CRC-32C after the bytes that it covers would
//! leave the same remainder for every header, and so hide the header from the record's.

#[cfg(feature = "async")]
use super::access::Awaited;
use super::access::{Access, Blocking};
use crate::pack::bytes::{u16_at, u32_at};
use crate::pack::{Sizes, crc32};
use crate::part::Part;
use embedded_storage::nor_flash::NorFlash;

/// First bytes of every record.
pub const MAGIC: [u8; 8] = *b"flattail";

/// Version of this format.
pub const VERSION: u16 = 1;

/// What stands at the end of a record that is whole.
pub const COMMIT: u32 = 0x5eed_7a11;

/// Offsets of the header's fields.
pub mod header {
    /// Size of the header.
    pub const BYTES: usize = 32;
    /// [`super::MAGIC`], 8 bytes.
    pub const MAGIC: usize = 0;
    /// u16, [`super::VERSION`].
    pub const VERSION: usize = 8;
    /// u16, [`super::Contents`].
    pub const CONTENTS: usize = 10;
    /// u32, one more than that of the record before; wraps around.
    pub const SEQUENCE: usize = 12;
    /// u32, CRC-32 of the pack that the tail belongs to: [`crate::Pack::crc32`].
    pub const PACK_CRC: usize = 16;
    /// u32, bytes of the payload.
    pub const LENGTH: usize = 20;
    /// u32, the tuner's `weights_crc32` when the record was made.
    pub const WEIGHTS_CRC: usize = 24;
    /// u32, CRC-32/ISO-HDLC of the header's bytes before it.
    pub const CRC: usize = 28;
}

/// Bytes of the trailer, without padding.
pub const TRAILER_BYTES: usize = 8;

/// The checksum of records.
pub(super) static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// What a record holds.
///
/// The payload: for every layer the output's scale (f32) and zero point (i32); for every layer biases, mantissas,
/// shifts (i32) and scales (f32), each as long as the layer's output; the layers' int8 weights; with
/// [`Self::Int8AndF32`] the f32 parameters, as [`crate::Tuner::weights`] lays them out; with [`Self::Int8AndCompact`] the
/// parameters of a [`crate::CompactTuner`], each for all layers: weights (i8), residuals (i8), biases (i32), scales (f32).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Contents {
    /// The int8 tail: classifies with the same bits. Tuning goes on from its weights, dequantized or, by an
    /// [`crate::IntegerTuner`], as they are.
    Int8,
    /// The int8 tail and the f32 weights: tuning by a [`crate::Tuner`], too, goes on with the same bits.
    Int8AndF32,
    /// The int8 tail and the 16-bit weights: tuning by a [`crate::CompactTuner`], too, goes on with the same bits.
    Int8AndCompact,
}

impl Contents {
    pub(super) const fn code(self) -> u16 {
        match self {
            Self::Int8 => 1,
            Self::Int8AndF32 => 3,
            Self::Int8AndCompact => 5,
        }
    }

    pub(super) const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Int8),
            3 => Some(Self::Int8AndF32),
            5 => Some(Self::Int8AndCompact),
            _ => None,
        }
    }
}

/// Bytes of a payload's description of one layer.
/// [`crate::Tuner::read_tail`] gives them.
pub const LAYER_BYTES: usize = 8;

impl Sizes {
    /// Bytes of a record's payload; see [`Contents`].
    pub const fn payload_bytes(&self, contents: Contents) -> usize {
        let layers = self.tail_layers.saturating_mul(LAYER_BYTES);
        layers.saturating_add(self.tuned_bytes()).saturating_add(self.weight_bytes(contents))
    }

    /// Bytes of it after the int8 tail.
    pub(crate) const fn weight_bytes(&self, contents: Contents) -> usize {
        match contents {
            Contents::Int8 => 0,
            Contents::Int8AndF32 => self.tail_parameters.saturating_mul(4),
            Contents::Int8AndCompact => {
                self.tail_weights.saturating_mul(2).saturating_add(self.tail_outputs.saturating_mul(8))
            }
        }
    }

    /// Bytes of flash that one slot of a [`super::Store`] takes: a record in whole pages. A constant, for
    /// the linker script and the partition table.
    ///
    /// ```
    /// use flatmin::{Sizes, store::Contents};
    /// type Flash = flatmin::flash::Flash<4, 4096>; // in a firmware the driver: words of 4 bytes, pages of 4 KiB
    /// const MODEL: Sizes = Sizes { input_length: 600, feature_length: 192, output_length: 7, arena_bytes: 3000,
    ///     tail_layers: 2, tail_weights: 192 * 64 + 64 * 7, tail_outputs: 71,
    ///     tail_parameters: 192 * 64 + 64 * 7 + 71, workspace_floats: 192 + 4 * 71, tail_is_chain: true,
    ///     loss: flatmin::Loss::CrossEntropy, last_features: 64, layer_room: [0; 4], feature_count: 1 };
    /// // 40 bytes of header and trailer, 16 of layers, 16 per output, 1 per weight, 4 per f32.
    /// const SLOT: u32 = MODEL.slot_bytes::<Flash>(Contents::Int8AndF32);
    /// assert_eq!(SLOT, (40u32 + 16 + 71 * 16 + 12_736 + (12_736 + 71) * 4).next_multiple_of(4096));
    /// assert_eq!(MODEL.slot_bytes::<Flash>(Contents::Int8), 16_384);
    /// ```
    pub const fn slot_bytes<F: NorFlash>(&self, contents: Contents) -> u32 {
        self.slot_bytes_in::<Blocking<F>>(contents)
    }

    /// [`Self::slot_bytes`] of a flash that is awaited.
    #[cfg(feature = "async")]
    pub const fn slot_bytes_async<F: embedded_storage_async::nor_flash::NorFlash>(
        &self,
        contents: Contents,
    ) -> u32 {
        self.slot_bytes_in::<Awaited<F>>(contents)
    }

    const fn slot_bytes_in<A: Access>(&self, contents: Contents) -> u32 {
        let record = record_bytes(self.payload_bytes(contents) as u64, A::UNIT);
        let page = A::PAGE as u64;
        let bytes = record.div_ceil(page) * page;
        if bytes > u32::MAX as u64 { u32::MAX } else { bytes as u32 }
    }
}

/// Bytes in front of the trailer. In 64 bits, which no u32 overflows. `unit` is [`Access::UNIT`].
pub(super) const fn body_bytes(payload: u64, unit: usize) -> u64 {
    payload.saturating_add(header::BYTES as u64).div_ceil(unit as u64) * unit as u64
}

/// Bytes of a whole record.
pub(super) const fn record_bytes(payload: u64, unit: usize) -> u64 {
    body_bytes(payload, unit) + TRAILER_BYTES.next_multiple_of(unit) as u64
}

/// A header's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub contents: Contents,
    pub sequence: u32,
    pub pack_crc32: u32,
    pub length: u32,
    pub weights_crc32: u32,
}

/// What the first bytes of a slot are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Blank,
    Foreign,
    Version(u16),
    Damaged,
    Header(Header),
}

impl Header {
    pub fn write(&self) -> [u8; header::BYTES] {
        let mut bytes = [0; header::BYTES];
        put(&mut bytes, header::MAGIC, &MAGIC);
        put(&mut bytes, header::VERSION, &VERSION.to_le_bytes());
        put(&mut bytes, header::CONTENTS, &self.contents.code().to_le_bytes());
        put(&mut bytes, header::SEQUENCE, &self.sequence.to_le_bytes());
        put(&mut bytes, header::PACK_CRC, &self.pack_crc32.to_le_bytes());
        put(&mut bytes, header::LENGTH, &self.length.to_le_bytes());
        put(&mut bytes, header::WEIGHTS_CRC, &self.weights_crc32.to_le_bytes());
        let crc = crc32(bytes.split_at(header::CRC).0);
        put(&mut bytes, header::CRC, &crc.to_le_bytes());
        bytes
    }

    pub fn read(bytes: &[u8]) -> Head {
        if bytes.iter().all(|&byte| byte == 0xFF) {
            return Head::Blank;
        }
        if !bytes.starts_with(&MAGIC) {
            return Head::Foreign;
        }
        let checked = bytes.part(..header::CRC);
        if crc32(checked) != u32_at(bytes, header::CRC) {
            return Head::Damaged;
        }
        let version = u16_at(bytes, header::VERSION);
        if version != VERSION {
            return Head::Version(version);
        }
        let Some(contents) = Contents::from_code(u16_at(bytes, header::CONTENTS)) else {
            return Head::Damaged;
        };
        Head::Header(Self {
            contents,
            sequence: u32_at(bytes, header::SEQUENCE),
            pack_crc32: u32_at(bytes, header::PACK_CRC),
            length: u32_at(bytes, header::LENGTH),
            weights_crc32: u32_at(bytes, header::WEIGHTS_CRC),
        })
    }
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    for (place, &byte) in bytes.iter_mut().skip(at).zip(field) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_as_written_and_refuses_every_flip_of_one_or_two_bits() {
        let header = Header {
            contents: Contents::Int8AndF32,
            sequence: u32::MAX,
            pack_crc32: 0x0123_4567,
            length: 99,
            weights_crc32: 7,
        };
        let bytes = header.write();
        assert_eq!(Header::read(&bytes), Head::Header(header));
        let bits = header::BYTES * 8;
        for first in 0..bits {
            for second in first..bits {
                let mut damaged = bytes;
                damaged[first / 8] ^= 1 << (first % 8);
                if second != first {
                    damaged[second / 8] ^= 1 << (second % 8);
                }
                assert!(matches!(Header::read(&damaged), Head::Damaged | Head::Foreign));
            }
        }
    }

    /// `x^exponent` modulo CRC-32C's polynomial.
    fn power_of_x(mut exponent: u64) -> u64 {
        const POLYNOMIAL: u64 = 1 << 32 | 0x1EDC_6F41;
        let multiply = |a: u64, b: u64| {
            (0..32).rev().fold(0, |sum: u64, bit| {
                let doubled = sum << 1;
                let reduced = if doubled >> 32 == 1 { doubled ^ POLYNOMIAL } else { doubled };
                if b >> bit & 1 == 1 { reduced ^ a } else { reduced }
            })
        };
        let (mut base, mut power) = (2, 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = multiply(power, base);
            }
            base = multiply(base, base);
            exponent >>= 1;
        }
        power
    }

    /// Why three flipped bits are always found. One and three: the polynomial has `x + 1` as a factor, being zero
    /// at 1, and every multiple of it an even number of terms. Two: the order of x is 2^31 - 1, a prime, so that no
    /// `x^i + x^j` closer than that is a multiple.
    #[test]
    fn three_flips_are_always_found() {
        assert_eq!(0x1EDC_6F41u32.count_ones() % 2, 1); // and the term x^32
        assert_eq!(power_of_x((1 << 31) - 1), 1);
        assert_ne!(power_of_x(1), 1);
        assert_eq!(CRC.algorithm.poly, 0x1EDC_6F41);
    }
}
