//! What can be wrong with a model file.

/// Why bytes are not a network that can be read. The caller adds the file's name.
///
/// Positions count bytes from the file's beginning; tensors and operators are numbered as in the
/// file's first subgraph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not even room for the header.
    #[error("not a TensorFlow Lite model: {length} bytes, the header alone has 8")]
    TooShort {
        /// Length of the file.
        length: usize,
    },
    /// Another kind of file.
    #[error("not a TensorFlow Lite model: identifier `{found}` instead of `TFL3`")]
    Identifier {
        /// Bytes 4 to 7, unprintable ones escaped.
        found: String,
    },
    /// A version of the schema other than 3, the only one since 2017.
    #[error("schema version {found} instead of 3")]
    Version {
        /// Version in the file.
        found: u32,
    },
    /// Something lies past the end of the file.
    #[error("truncated: {what} at byte {position} needs {needed} bytes, the file has {length}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        position: u64,
        /// How many bytes it needs from there.
        needed: u64,
        /// Length of the file.
        length: usize,
    },
    /// A table's own description contradicts itself.
    #[error("damaged: {what} at byte {position}: {problem}")]
    Damaged {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        position: usize,
        /// What contradicts what.
        problem: String,
    },
    /// Parts of the file stand for more data than the file could hold: they overlap.
    #[error("damaged: overlapping tables or vectors unfold to more than {limit} bytes")]
    Unfolds {
        /// How much a file of this length may unfold to.
        limit: usize,
    },
    /// A part that every model has is not there.
    #[error("{what} missing")]
    Missing {
        /// The part.
        what: &'static str,
    },
    /// An index out of range.
    #[error("{owner} refers to {what} {index}, there are {count}")]
    Index {
        /// Who refers.
        owner: String,
        /// What kind of thing is referred to.
        what: &'static str,
        /// The index.
        index: i64,
        /// How many there are.
        count: usize,
    },
    /// Something wrong with one tensor.
    #[error("{tensor}: {problem}")]
    Tensor {
        /// The tensor's index and name.
        tensor: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// Something wrong with one operator.
    #[error("operator {index} ({name}): {problem}")]
    Operator {
        /// Position in execution order.
        index: usize,
        /// The operator's name in the schema.
        name: String,
        /// What was expected and what was found.
        problem: String,
    },
}
