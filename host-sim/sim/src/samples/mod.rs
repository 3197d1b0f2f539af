//! The user's own data: samples and labels from `.npy` or CSV files, outputs to `.npy`.
//!
//! Whatever the files hold, reading gives samples that are whole, finite and labelled in range, or
//! an error that names the file and the place in it.

mod csv;
mod error;
mod npy;
#[cfg(test)]
mod tests;

use std::path::Path;

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
}

impl Samples {
    /// Reads samples and their labels from two NumPy files.
    ///
    /// `x_path` is as for [`Samples::inputs_from_npy`]. `y_path` holds a class index from 0 to
    /// `classes - 1` a sample: one axis, any integer type.
    ///
    /// # Errors
    ///
    /// As [`Samples::inputs_from_npy`], for either file; and if there are not as many labels as
    /// samples, or one is out of range.
    pub fn from_npy(
        x_path: &Path,
        y_path: &Path,
        expected_sample_shape: &[usize],
        classes: usize,
    ) -> Result<Self, SamplesError> {
        let mut samples = Self::inputs_from_npy(x_path, expected_sample_shape)?;
        let labels = || {
            let labels = npy::labels(y_path, classes)?;
            if labels.len() == samples.count {
                return Ok(labels);
            }
            Err(Problem::Count { labels: labels.len(), samples: samples.count, inputs: x_path.to_owned() })
        };
        samples.labels = labels().map_err(error::in_file(y_path))?;
        Ok(samples)
    }

    /// Reads samples without labels from a NumPy file.
    ///
    /// Its first axis counts the samples, the others are `expected_sample_shape`, where axes of
    /// extent 1 count for nothing: `[N, 100, 6]` fits `[1, 100, 1, 6]`. C or Fortran order, either
    /// byte order. int8 values are taken as quantized already; float32 ones, and float64 ones
    /// rounded to float32, are in the units that the network was trained on.
    ///
    /// # Errors
    ///
    /// If the file can't be read, is damaged, has another type or shape or no samples, or holds a
    /// value that is not finite.
    pub fn inputs_from_npy(x_path: &Path, expected_sample_shape: &[usize]) -> Result<Self, SamplesError> {
        let read = npy::inputs(x_path, expected_sample_shape);
        let (inputs, count) = read.map_err(error::in_file(x_path))?;
        Ok(Self { inputs, sample_shape: expected_sample_shape.to_owned(), count, labels: Vec::new() })
    }

    /// Reads samples and their labels from one CSV file.
    ///
    /// One sample a row: its label, a whole number from 0 to `classes - 1`, then its values in the
    /// units that the network was trained on, in the order of `expected_sample_shape`, the last
    /// axis fastest (for a window of readings: all channels of the first reading, then of the
    /// second). Values are decimal, `1.5e-3` included, separated by commas. A first row that begins
    /// with anything but a number is a header (of as many columns) and skipped; so are empty lines.
    ///
    /// # Errors
    ///
    /// If the file can't be read or has no samples, or a row has another number of columns, a label
    /// out of range, or a value that is no finite number.
    pub fn from_csv(
        path: &Path,
        expected_sample_shape: &[usize],
        classes: usize,
    ) -> Result<Self, SamplesError> {
        let read = csv::read(path, expected_sample_shape, classes);
        let (values, labels) = read.map_err(error::in_file(path))?;
        Ok(Self {
            inputs: Inputs::F32(values),
            sample_shape: expected_sample_shape.to_owned(),
            count: labels.len(),
            labels,
        })
    }
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
