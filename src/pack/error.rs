//! Why bytes are not a pack.

/// Why [`super::Pack::new`] refuses bytes. Nothing of a refused pack is ever used.
/// [`crate::Pack::new`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PackError {
    /// Fewer bytes than the header or the header's total size says.
    #[error("pack is truncated: {needed} bytes expected, {found} found")]
    Truncated {
        /// Bytes that the header asks for.
        needed: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The first eight bytes are not the magic.
    #[error("not a flatmin pack: wrong magic; make one with `flatmin pack`")]
    Magic,
    /// A format version that this build cannot read.
    #[error("pack has format version {found}, this build reads {expected}; pack the model again")]
    Version {
        /// The version in the pack.
        found: u16,
        /// The version that this build reads.
        expected: u16,
    },
    /// The bytes do not start on a 16-byte boundary.
    #[error("pack is not 16-byte aligned in memory; embed it with `flatmin::include_pack!`")]
    Misaligned,
    /// The checksum does not match: the pack was damaged.
    #[error("pack is damaged: CRC-32 {found:#010x}, header says {expected:#010x}")]
    Checksum {
        /// The header's CRC.
        expected: u32,
        /// The CRC of the bytes.
        found: u32,
    },
    /// A tensor record is inconsistent.
    #[error("tensor {index}: {what}")]
    Tensor {
        /// Which tensor.
        index: u16,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An operator record is inconsistent.
    #[error("operator {index}: {what}")]
    Operator {
        /// Which operator.
        index: u16,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The header's summary of the network contradicts its records.
    #[error("header contradicts the network: {0}")]
    Header(&'static str),
}
