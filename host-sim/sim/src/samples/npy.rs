//! Samples and labels as NumPy arrays.

use std::fs;
use std::path::Path;

use npyz::{AutoSerialize, DType, Deserialize, NpyFile, NpyHeader, Order, WriterBuilder};

use flatmin_model::output::write_file;

use super::{Inputs, Problem, sample_size};

/// Values of all samples, and how many samples they are.
pub(super) fn inputs(path: &Path, sample_shape: &[usize]) -> Result<(Inputs, usize), Problem> {
    let bytes = fs::read(path)?;
    let array = Array::open(&bytes)?;
    let shape = array.header.shape();
    let count = match shape.split_first() {
        Some((&count, rest)) if squeezed(rest).eq(squeezed(sample_shape)) => count as usize,
        _ => {
            return Err(Problem::Shape {
                expected: format!("N samples of {sample_shape:?}, axes of 1 optional"),
                found: shape.to_vec(),
            });
        }
    };
    if count == 0 {
        return Err(Problem::Empty);
    }
    let inputs = match array.dtype().as_str() {
        "i1" => return Ok((Inputs::I8(array.values()?), count)),
        "u1" => return Ok((Inputs::U8(array.values()?), count)),
        "f4" => array.values::<f32>()?,
        "f8" => array.values::<f64>()?.into_iter().map(|value| value as f32).collect(),
        found => {
            return Err(Problem::Dtype {
                expected: "int8 or uint8 (quantized), float32 or float64",
                found: found.to_owned(),
            });
        }
    };
    if let Some(index) = inputs.iter().position(|value| !value.is_finite()) {
        let size = sample_size(sample_shape).max(1);
        return Err(Problem::NotFinite {
            at: format!("sample {}", index / size),
            position: index % size,
            value: inputs.get(index).map_or_else(String::new, f32::to_string),
        });
    }
    Ok((Inputs::F32(inputs), count))
}

/// Labels below `classes`.
pub(super) fn labels(path: &Path, classes: usize) -> Result<Vec<usize>, Problem> {
    let bytes = fs::read(path)?;
    let array = Array::open(&bytes)?;
    if array.header.shape().len() != 1 {
        return Err(Problem::Shape {
            expected: "[N], a class index a sample".into(),
            found: array.header.shape().to_vec(),
        });
    }
    let labels = match array.dtype().as_str() {
        "i1" => array.integers::<i8>()?,
        "i2" => array.integers::<i16>()?,
        "i4" => array.integers::<i32>()?,
        "i8" => array.integers::<i64>()?,
        "u1" => array.integers::<u8>()?,
        "u2" => array.integers::<u16>()?,
        "u4" => array.integers::<u32>()?,
        "u8" => array.integers::<u64>()?,
        found => {
            return Err(Problem::Dtype { expected: "an integer type", found: found.to_owned() });
        }
    };
    let class = |(sample, label): (usize, i128)| {
        let class = usize::try_from(label).ok().filter(|&label| label < classes);
        class.ok_or_else(|| Problem::Label {
            at: format!("sample {sample}"),
            label: label.to_string(),
            classes,
        })
    };
    labels.into_iter().enumerate().map(class).collect()
}

/// Extents without those of 1.
fn squeezed<T: Copy + TryInto<u64>>(shape: &[T]) -> impl Iterator<Item = Option<u64>> {
    let extents = shape.iter().map(|&extent| extent.try_into().ok());
    extents.filter(|&extent| extent != Some(1))
}

/// A NumPy array whose header is known to be sound and its data to be whole.
struct Array<'a> {
    header: NpyHeader,
    data: &'a [u8],
}

impl<'a> Array<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Problem> {
        check_header(bytes)?;
        let file = NpyFile::new(bytes).map_err(|error| not_npy(error.to_string()))?;
        let header = file.header().clone();
        let data = file.into_inner();
        let Some(size) = header.dtype().num_bytes() else {
            return Err(Problem::Dtype { expected: "plain numbers", found: header.dtype().descr() });
        };
        let expected = header.len().saturating_mul(size as u64);
        if expected != data.len() as u64 {
            return Err(Problem::Length { expected, found: data.len() });
        }
        Ok(Self { header, data })
    }

    /// Kind and bytes of an element, without the byte order: `f4`.
    fn dtype(&self) -> String {
        match self.header.dtype() {
            DType::Plain(plain) => plain.to_string().trim_start_matches(['<', '>', '|']).into(),
            other => other.descr(),
        }
    }

    /// All values in C order.
    fn values<T: Deserialize + Copy>(self) -> Result<Vec<T>, Problem> {
        let (shape, strides) = (self.header.shape().to_vec(), self.header.strides().to_vec());
        let order = self.header.order();
        let values = NpyFile::with_header(self.header, self.data).into_vec()?;
        Ok(match order {
            Order::C => values,
            Order::Fortran => in_c_order(&values, &shape, &strides),
        })
    }

    fn integers<T: Deserialize + Copy + Into<i128>>(self) -> Result<Vec<i128>, Problem> {
        Ok(self.values::<T>()?.into_iter().map(Into::into).collect())
    }
}

fn not_npy(reason: impl Into<String>) -> Problem {
    Problem::NotNpy { reason: reason.into() }
}

/// Bounds what npyz takes on trust: that the header is as long as it says and nests little, and
/// that its extents can be multiplied.
fn check_header(bytes: &[u8]) -> Result<(), Problem> {
    let Some(rest) = bytes.strip_prefix(b"\x93NUMPY") else {
        return Err(not_npy("it does not begin with NumPy's mark"));
    };
    let header = match rest {
        [1, 0, a, b, rest @ ..] => rest.get(..u16::from_le_bytes([*a, *b]).into()),
        [2 | 3, 0, a, b, c, d, rest @ ..] => rest.get(..u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => None,
    };
    let header = header.ok_or_else(|| not_npy("its header is truncated or of a later version"))?;
    let header = str::from_utf8(header).ok().filter(|header| header.is_ascii());
    let header = header.ok_or_else(|| not_npy("its header is not text"))?;
    // A plain array has one dictionary and in it one tuple, the shape.
    if header.matches(['{', '(', '[']).count() != 2 {
        return Err(Problem::Dtype { expected: "plain numbers", found: "a compound type".into() });
    }
    let shape = header.split_once('(').and_then(|(_, shape)| shape.split_once(')'));
    let (shape, _) = shape.ok_or_else(|| not_npy("it has no shape"))?;
    let extents = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    // As if a 0 were 1: strides are products of some of the extents.
    let elements = extents.map(|extent| extent.parse().ok()).try_fold(1, |elements: u64, extent| {
        let extent: u64 = extent?;
        elements.checked_mul(extent.max(1))
    });
    elements.ok_or_else(|| not_npy(format!("its shape is ({})", super::error::excerpt(shape))))?;
    Ok(())
}

fn in_c_order<T: Copy>(values: &[T], shape: &[u64], strides: &[u64]) -> Vec<T> {
    let mut index = vec![0; shape.len()];
    let mut sorted = Vec::with_capacity(values.len());
    while sorted.len() < values.len() {
        let at: u64 = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
        // Every index is below its extent, hence `at` is below the product of all.
        sorted.push(values[at as usize]);
        for (index, &extent) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < extent {
                break;
            }
            *index = 0;
        }
    }
    sorted
}

pub(super) fn write<T: Copy + AutoSerialize>(
    path: &Path,
    values: &[T],
    shape: &[usize],
) -> Result<(), Problem> {
    let elements = shape.iter().try_fold(1, |size: usize, &extent| size.checked_mul(extent));
    if elements != Some(values.len()) {
        return Err(Problem::Values { values: values.len(), shape: shape.to_vec() });
    }
    let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
    let mut bytes = Vec::new();
    let mut npy = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd()?;
    npy.extend(values.iter().copied())?;
    npy.finish()?;
    Ok(write_file(path, &bytes)?)
}
