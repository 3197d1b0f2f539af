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
    #[error("{at}: label `{label}`, expected a whole number from 0 to {}{hint}", classes.saturating_sub(1))]
    Label {
        /// The sample or the line.
        at: String,
        /// The label as found.
        label: String,
        /// Number of classes.
        classes: usize,
        /// What would mend it, after a semicolon; or nothing.
        hint: &'static str,
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
    #[error("line {line}: {}", columns(*expected, *found, separated, *label, time))]
    Columns {
        /// Line in the file.
        line: usize,
        /// Columns of a sample.
        expected: usize,
        /// Columns found.
        found: usize,
        /// How the columns are separated, as a phrase.
        separated: String,
        /// Whether a label goes first.
        label: bool,
        /// A heading that speaks of time.
        time: Option<String>,
    },
    /// A column that is not there.
    #[error("no column `{name}`; there are {found}")]
    NoColumn {
        /// As asked for.
        name: String,
        /// The columns.
        found: String,
    },
    /// A label that is a name, where no names are known.
    #[error(
        "{at}: label `{label}` is a name. Write the {classes} classes in the order of the model's outputs, one per line, \
         and give the file with --classes; the names found here are: {found}"
    )]
    Named {
        /// The sample or the line.
        at: String,
        /// The label as found.
        label: String,
        /// Number of classes.
        classes: usize,
        /// Names in the file.
        found: String,
    },
    /// A name that is none of the classes'.
    #[error("{at}: label `{label}` is none of the classes: {names}")]
    UnknownName {
        /// The sample or the line.
        at: String,
        /// The label as found.
        label: String,
        /// The names.
        names: String,
    },
    /// Not as many names as classes.
    #[error("{found} names of classes, the model has {expected} outputs")]
    Names {
        /// Classes of the model.
        expected: usize,
        /// Names found.
        found: usize,
    },
    /// A row of labels that is no class.
    #[error(
        "sample {sample}: its row of labels has {found}, expected one 1 and zeros (or np.argmax(y, axis=1))"
    )]
    OneHot {
        /// The sample.
        sample: usize,
        /// What it has.
        found: String,
    },
    /// An archive without the arrays that are looked for.
    #[error("holds {found}; the {wanted} are looked for as {names}")]
    Archive {
        /// Arrays in the archive.
        found: String,
        /// Samples or labels.
        wanted: &'static str,
        /// Names that would do.
        names: String,
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

/// What is said of labels that count from 1.
pub(super) const COUNT_FROM_ZERO: &str = "; here they count from 1: subtract 1";

/// Names that stand in the place of labels, each once, as many as a message has room for.
pub(super) fn names<'n>(all: impl Iterator<Item = &'n str>) -> String {
    const SHOWN: usize = 12;
    let mut found: Vec<&str> = all.collect();
    found.sort_unstable();
    found.dedup();
    let more = found.len().saturating_sub(SHOWN);
    let names: Vec<String> = found.into_iter().take(SHOWN).map(excerpt).collect();
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

/// What is wrong with the number of a row's columns.
fn columns(expected: usize, found: usize, separated: &str, label: bool, time: &Option<String>) -> String {
    let what = if label { "a label and the sample's values" } else { "the sample's values" };
    let mut text = if found == 1 {
        format!("1 column ({separated}), expected {expected}: {what}")
    } else {
        format!("{found} {separated}, expected {expected}: {what}")
    };
    match time {
        Some(time) if found > expected => text += &format!("; leave a column out with --skip-column {time}"),
        _ if found == expected + 1 => {
            text += "; name the label's column with --label-column, and leave one out with --skip-column NAME or its number"
        }
        _ if found == 1 => text += "; name another separator with --delimiter",
        _ => {}
    }
    text
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
