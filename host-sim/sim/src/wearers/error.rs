//! What can be wrong with recordings, or with what is asked of them.

use super::WEARERS;

/// What can be wrong with a recordings file or a request for windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WearersError {
    /// The file does not begin with `IMUR`.
    #[error("not a recordings file: it does not begin with IMUR")]
    NotARecordingsFile,
    /// A header field has a value that this reader does not support.
    #[error("unsupported recordings file: {field} is {found}, supported is {supported}")]
    Unsupported {
        /// Name of the field.
        field: &'static str,
        /// Value in the file.
        found: usize,
        /// Supported value.
        supported: usize,
    },
    /// The file's length differs from what its header says.
    #[error("the recordings file has {found} bytes, its header says {expected}")]
    Length {
        /// Bytes in the file.
        found: usize,
        /// Bytes by the header.
        expected: usize,
    },
    /// A record names a wearer, side or exercise out of range.
    #[error("record {index} names a wearer, side or exercise out of range")]
    BadRecord {
        /// Position in the record table.
        index: usize,
    },
    /// No such wearer.
    #[error("there is no wearer {wearer}: wearers are 1 to {WEARERS}")]
    NoSuchWearer {
        /// Requested number.
        wearer: usize,
    },
    /// More windows of a class were requested than there are.
    #[error("{requested} adaptation windows of class {class} requested, {available} available")]
    TooFewWindows {
        /// The class.
        class: usize,
        /// Windows requested.
        requested: usize,
        /// Windows available.
        available: usize,
    },
}
