//! The user's own data: samples and labels from `.npy` or CSV files, outputs to `.npy`.
//!
//! Whatever the files hold, reading gives samples that are whole, finite and labelled in range, or
//! an error that names the file and the place in it.

mod csv;
mod division;
mod error;
mod npy;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use division::Division;
pub use error::{Problem, SamplesError};

/// Values of all samples, one after the other, each in the order of [`Samples::sample_shape`]
/// (NHWC, the last axis fastest).
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// Already quantized with the scale and zero point of the network's input.
    I8(Vec<i8>),
    /// The same for a network whose input is uint8.
    U8(Vec<u8>),
    /// In the units that the network was trained on, finite; [`flatmin::Affine::quantize`] makes them its input.
    F32(Vec<f32>),
}

/// What labels are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// None: a sample is its values.
    None,
    /// One of so many classes.
    Classes {
        /// Number of classes.
        count: usize,
        /// Their names, or none.
        names: Vec<String>,
        /// Yes-or-no outputs, if a class is the set of those that say yes; else 0.
        questions: usize,
    },
    /// So many numbers: what a regression is to give.
    Numbers {
        /// Numbers a sample.
        width: usize,
    },
}

impl Labels {
    /// One of `count` classes without names.
    pub fn classes(count: usize) -> Self {
        Self::Classes { count, names: Vec::new(), questions: 0 }
    }
}

/// How a table is to be read, where it does not say so itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// What stands between columns; `None`: as found.
    pub delimiter: Option<u8>,
    /// Columns to leave out, by heading or number from 1.
    pub skipped_columns: Vec<String>,
    /// The label's column; `None`: the first that is left.
    pub label_column: Option<String>,
    /// The column of groups (a person, a recording) that are not to be split.
    pub group_column: Option<String>,
}

/// What a reader found.
#[derive(Debug, Default)]
struct Read {
    values: Vec<f32>,
    labels: Vec<usize>,
    targets: Vec<f32>,
    classes: Vec<String>,
    groups: Vec<String>,
    notes: Option<String>,
    count: usize,
}

/// Samples, with their labels if they came with any.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// `count` times the product of `sample_shape` values.
    pub inputs: Inputs,
    /// Shape of one sample as the network expects it, whatever axes of extent 1 the file left out.
    pub sample_shape: Vec<usize>,
    /// Number of samples, at least 1.
    pub count: usize,
    /// One class index a sample, below the number of classes; empty if read without labels.
    pub labels: Vec<usize>,
    /// What a regression is to give, as many numbers a sample as were asked for; else empty.
    pub targets: Vec<f32>,
    /// Names of the classes, where they are known.
    pub classes: Vec<String>,
    /// One group a sample, or none.
    pub groups: Vec<String>,
    /// How a table, or an array of another shape, was read, for the user.
    pub note: Option<String>,
}

impl Samples {
    /// Reads samples and their labels from two NumPy files, or from one `.npz` that is given twice.
    ///
    /// `x_path` is as for [`Samples::inputs_from_npy`]. `y_path` holds one label per sample, in shape `[N]` or
    /// `[N, 1]`. For classes these are indices from 0 as integers, whole floats or bools, or names as strings; or
    /// `[N, classes]` one-hot. For numbers it is `[N, width]` of any type.
    ///
    /// # Errors
    ///
    /// As [`Samples::inputs_from_npy`], for either file; and if there are not as many labels as
    /// samples, or one is out of range.
    pub fn from_npy(
        x_path: &Path,
        y_path: &Path,
        expected_sample_shape: &[usize],
        expected: &Labels,
    ) -> Result<Self, SamplesError> {
        let samples = Self::inputs_from_npy(x_path, expected_sample_shape)?;
        samples.with_labels(npy::labels(y_path, expected), expected, [x_path, y_path])
    }

    /// Samples of two arrays in memory, each as its name for messages and the bytes of an `.npy`.
    ///
    /// # Errors
    ///
    /// As [`Samples::from_npy`].
    pub fn from_npy_bytes(
        x: (&str, &[u8]),
        y: (&str, &[u8]),
        expected_sample_shape: &[usize],
        expected: &Labels,
    ) -> Result<Self, SamplesError> {
        let samples = Self::inputs_from_npy_bytes(x, expected_sample_shape)?;
        samples.with_labels(npy::labels_in(y.1, expected), expected, [x.0, y.0].map(Path::new))
    }

    fn with_labels(
        mut self,
        read: Result<Read, Problem>,
        expected: &Labels,
        [x_path, y_path]: [&Path; 2],
    ) -> Result<Self, SamplesError> {
        let as_many = |read: Read| {
            if read.count == self.count {
                return Ok(read);
            }
            Err(Problem::Count { labels: read.count, samples: self.count, inputs: x_path.to_owned() })
        };
        let read = read.and_then(as_many).map_err(error::in_file(y_path))?;
        (self.labels, self.targets) = (read.labels, read.targets);
        if let Labels::Classes { names, .. } = expected {
            self.classes.clone_from(names);
        }
        Ok(self)
    }

    /// Reads samples without labels from a NumPy file.
    ///
    /// Its first axis counts the samples, the others are `expected_sample_shape`, where axes of
    /// extent 1 count for nothing: `[N, 100, 6]` fits `[1, 100, 1, 6]`. Rows that were made flat fit, too, as `[N, 600]` does, and
    /// other shapes that hold the same values in the same order; [`Samples::note`] says so. C or Fortran order, either
    /// byte order. int8 and uint8 values are taken as quantized already; wider integers and floats of 16, 32 or
    /// 64 bits, rounded to float32, are in the units that the network was trained on. Of an `.npz` the array `x`
    /// (or `X`, `data`, `features`, `x_train`) is read.
    ///
    /// # Errors
    ///
    /// If the file can't be read, is damaged, has another type or shape or no samples, or holds a
    /// value that is not finite.
    pub fn inputs_from_npy(x_path: &Path, expected_sample_shape: &[usize]) -> Result<Self, SamplesError> {
        let read = npy::inputs(x_path, expected_sample_shape);
        let (inputs, count, notes) = read.map_err(error::in_file(x_path))?;
        Ok(Self::of(inputs, expected_sample_shape, Read { count, notes, ..Read::default() }))
    }

    /// Samples of an array in memory: its name for messages, and the bytes of an `.npy`.
    ///
    /// # Errors
    ///
    /// As [`Samples::inputs_from_npy`].
    pub fn inputs_from_npy_bytes(
        (name, bytes): (&str, &[u8]),
        expected_sample_shape: &[usize],
    ) -> Result<Self, SamplesError> {
        let read = npy::inputs_in(bytes, expected_sample_shape);
        let (inputs, count, notes) = read.map_err(error::in_file(Path::new(name)))?;
        Ok(Self::of(inputs, expected_sample_shape, Read { count, notes, ..Read::default() }))
    }

    /// Reads samples and their labels from one CSV file.
    ///
    /// One sample a row: its label, a whole number from 0 to `classes - 1` or a class's name, then its values in the
    /// units that the network was trained on, in the order of `expected_sample_shape`, the last
    /// axis fastest (for a window of readings: all channels of the first reading, then of the
    /// second). Values are decimal, `1.5e-3` included, separated by commas, semicolons, tabs or bars, of which the file
    /// decides unless [`Table::delimiter`] does; beside another separator the comma is a decimal one. A first row
    /// without numbers, or with no number where the next row has its label, is a header and skipped; so are empty lines
    /// and those that begin with `#`. A heading of the labels such as `label:walk|run|sit` names the classes.
    ///
    /// # Errors
    ///
    /// If the file can't be read or has no samples, or a row has another number of columns, a label
    /// out of range, or a value that is no finite number.
    pub fn from_csv(
        path: &Path,
        expected_sample_shape: &[usize],
        expected: &Labels,
        table: &Table,
    ) -> Result<Self, SamplesError> {
        let read = csv::read(path, expected_sample_shape, expected, table);
        let mut read = read.map_err(error::in_file(path))?;
        let values = std::mem::take(&mut read.values);
        Ok(Self::of(Inputs::F32(values), expected_sample_shape, read))
    }

    fn of(inputs: Inputs, sample_shape: &[usize], read: Read) -> Self {
        let Read { labels, targets, classes, groups, notes, count, .. } = read;
        let sample_shape = sample_shape.to_owned();
        Self { inputs, sample_shape, count, labels, targets, classes, groups, note: notes }
    }
}

/// Shape of one sample of a NumPy file whose samples are windows of several hops along their first axis, or that of a hop where
/// they are not.
///
/// # Errors
///
/// If the file can't be read or is damaged.
pub fn window_shape(path: &Path, hop: &[usize]) -> Result<Vec<usize>, SamplesError> {
    npy::window_shape(path, hop).map_err(error::in_file(path))
}

/// One group per sample: integers or strings of an `.npy`, or the lines of a text.
///
/// # Errors
///
/// If the file can't be read or is an array of another kind.
pub fn groups(path: &Path) -> Result<Vec<String>, SamplesError> {
    npy::groups(path).map_err(error::in_file(path))
}

/// Writes float32 values of this shape, the last axis fastest, as a NumPy file in C order.
///
/// # Errors
///
/// As [`write_npy_i8`].
pub fn write_npy_f32(path: &Path, values: &[f32], shape: &[usize]) -> Result<(), SamplesError> {
    npy::write(path, values, shape).map_err(error::in_file(path))
}

/// Writes uint8 values of this shape, the last axis fastest, as a NumPy file in C order.
///
/// # Errors
///
/// As [`write_npy_i8`].
pub fn write_npy_u8(path: &Path, values: &[u8], shape: &[usize]) -> Result<(), SamplesError> {
    npy::write(path, values, shape).map_err(error::in_file(path))
}

/// Writes int8 values of this shape, the last axis fastest, as a NumPy file in C order.
///
/// # Errors
///
/// If `shape` does not have `values.len()` values, or the file can't be written.
pub fn write_npy_i8(path: &Path, values: &[i8], shape: &[usize]) -> Result<(), SamplesError> {
    npy::write(path, values, shape).map_err(error::in_file(path))
}

/// Number of values in one sample.
fn sample_size(shape: &[usize]) -> usize {
    shape.iter().fold(1, |size, &extent| size.saturating_mul(extent))
}
