//! What can be wrong with the user's files.

use std::io;
use std::path::{Path, PathBuf};

/// A file of samples that can't be used, or outputs that can't be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct SamplesError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file. Samples and the values of one count from 0, lines from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system could not read or write it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not a NumPy file, or one with a broken header.
    #[error("not an .npy file: {reason}")]
    NotNpy {
        /// What is wrong with its header.
        reason: String,
    },
    /// The CSV parser gave up.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    /// The element type is of no use here.
    #[error("element type `{found}`, expected {expected}")]
    Dtype {
        /// Types that would do.
        expected: &'static str,
        /// NumPy's name for the type.
        found: String,
    },
    /// The array has another shape.
    #[error("shape {found:?}, expected {expected}")]
    Shape {
        /// The shape that would do.
        expected: String,
        /// Shape in the file.
        found: Vec<u64>,
    },
    /// The data is shorter, or longer, than the header promises.
    #[error("truncated or damaged: {found} bytes of data, its shape and type ask for {expected}")]
    Length {
        /// Bytes that shape and type ask for.
        expected: u64,
        /// Bytes after the header.
        found: usize,
    },
    /// Not one sample.
    #[error("no samples")]
    Empty,
    /// Not as many labels as samples.
    #[error("{labels} labels for the {samples} samples of {}", inputs.display())]
    Count {
        /// Number of labels.
        labels: usize,
        /// Number of samples.
        samples: usize,
        /// The file with the samples.
        inputs: PathBuf,
    },
    /// A label that is no class.
    #[error("{at}: label `{label}`, expected a whole number from 0 to {}", classes.saturating_sub(1))]
    Label {
        /// The sample or the line.
        at: String,
        /// The label as found.
        label: String,
        /// Number of classes.
        classes: usize,
    },
    /// A value that is NaN or infinite, or became so in single precision.
    #[error("{at}: value {position} is {value}, expected a finite number")]
    NotFinite {
        /// The sample or the line.
        at: String,
        /// Index of the value in its sample, axes flattened.
        position: usize,
        /// The value as found.
        value: String,
    },
    /// Something other than a number.
    #[error("line {line}: value {position} is `{found}`, expected a number")]
    Number {
        /// Line in the file.
        line: usize,
        /// Index of the value in its sample, axes flattened.
        position: usize,
        /// The text found.
        found: String,
    },
    /// A row of another length.
    #[error("line {line}: {found} columns, expected {expected}: a label and the sample's values")]
    Columns {
        /// Line in the file.
        line: usize,
        /// Columns of a sample.
        expected: usize,
        /// Columns found.
        found: usize,
    },
    /// Values to be written do not have the shape to be written.
    #[error("{values} values can't be written with shape {shape:?}")]
    Values {
        /// Number of values.
        values: usize,
        /// The shape.
        shape: Vec<usize>,
    },
}

/// Names the file that a problem is in.
pub(super) fn in_file(path: &Path) -> impl FnOnce(Problem) -> SamplesError {
    let path = path.to_owned();
    |problem| SamplesError { path, problem }
}

/// A text from a file, short enough for a message.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}
