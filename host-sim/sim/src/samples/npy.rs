//! Samples and labels as NumPy arrays.

use std::fs;
use std::io::{Cursor, Read as _};
use std::path::Path;

use npyz::{AutoSerialize, DType, Deserialize, NpyFile, NpyHeader, Order, WriterBuilder};

use flatmin_model::output::write_file;

use super::{Inputs, Labels, Problem, Read, error, sample_size};

/// Bytes of all arrays of an archive at most: what a machine of today may hold.
const LARGEST: u64 = 1 << 32;

/// What an array of an archive is read for.
#[derive(Clone, Copy)]
enum Role {
    Samples,
    Labels,
    Groups,
}

impl Role {
    /// Names that people give it, the likeliest first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Samples => &["x", "data", "features", "inputs", "x_train", "x_tune"],
            Self::Labels => &["y", "labels", "targets", "label", "y_train", "y_tune"],
            Self::Groups => &["groups", "group", "subjects"],
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Labels => "labels",
            Self::Groups => "groups",
        }
    }
}

/// A file, or of an archive the array for `role`.
fn fetch(path: &Path, role: Role) -> Result<Vec<u8>, Problem> {
    let bytes = fs::read(path)?;
    if !bytes.starts_with(b"PK") {
        return Ok(bytes);
    }
    let broken = |error: zip::result::ZipError| not_npy(format!("its archive is broken: {error}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let members = archive.file_names().map(|name| Ok(name?.into_owned()));
    let members: Vec<String> = members.collect::<Result<_, _>>().map_err(broken)?;
    let array = |name: &str| name.strip_suffix(".npy").unwrap_or(name).to_ascii_lowercase();
    let wanted = |name: &&&str| members.iter().any(|member| array(member) == **name);
    let Some(name) = role.names().iter().find(wanted) else {
        let names = |names: &[&str]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let arrays: Vec<String> = members.iter().map(|member| error::excerpt(&array(member))).collect();
        let arrays: Vec<&str> = arrays.iter().map(String::as_str).collect();
        return Err(Problem::Archive {
            found: if arrays.is_empty() { "no array".into() } else { names(&arrays) },
            wanted: role.title(),
            names: names(role.names()),
        });
    };
    let index = members.iter().position(|member| array(member) == **name).unwrap_or(0);
    let mut member = archive.by_index(index).map_err(broken)?;
    let mut bytes = Vec::new();
    let length = member.by_ref().take(LARGEST).read_to_end(&mut bytes)?;
    if length as u64 == LARGEST {
        return Err(not_npy(format!("its array `{name}` has more than {LARGEST} bytes")));
    }
    Ok(bytes)
}

/// Values of all samples, and how many samples they are.
pub(super) fn inputs(path: &Path, sample_shape: &[usize]) -> Result<(Inputs, usize), Problem> {
    inputs_in(&fetch(path, Role::Samples)?, sample_shape)
}

/// Reads an array in memory.
pub(super) fn inputs_in(bytes: &[u8], sample_shape: &[usize]) -> Result<(Inputs, usize), Problem> {
    let array = Array::open(bytes)?;
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
        _ => {
            array.numbers("int8 or uint8 (quantized), wider integers or floats: save x.astype(np.float32)")?
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

/// Labels, or numbers to give.
pub(super) fn labels(path: &Path, expected: &Labels) -> Result<Read, Problem> {
    labels_in(&fetch(path, Role::Labels)?, expected)
}

/// Reads an array in memory.
pub(super) fn labels_in(bytes: &[u8], expected: &Labels) -> Result<Read, Problem> {
    let array = Array::open(bytes)?;
    let shape = array.header.shape().to_vec();
    let (count, width) = match *shape.as_slice() {
        [count] => (count as usize, 1),
        [count, width] => (count as usize, width as usize),
        _ => (0, 0),
    };
    let refused = |expected: String| Err(Problem::Shape { expected, found: shape.clone() });
    let mut read = Read { count, ..Read::default() };
    match expected {
        Labels::None => {}
        &Labels::Numbers { width: wanted } => {
            if width != wanted {
                let one = if wanted == 1 { "[N] or " } else { "" };
                return refused(format!("{one}[N, {wanted}], what the model is to give for each sample"));
            }
            read.targets = array.numbers("integers or floats: save y.astype(np.float32)")?;
            if let Some(index) = read.targets.iter().position(|value| !value.is_finite()) {
                return Err(Problem::NotFinite {
                    at: format!("sample {}", index / width.max(1)),
                    position: index % width.max(1),
                    value: read.targets[index].to_string(),
                });
            }
        }
        Labels::Classes { count: classes, names, questions } => {
            let hot = if *questions > 0 { *questions } else { *classes };
            let one_hot = shape.len() == 2 && width == hot && width > 1;
            if width != 1 && !one_hot {
                return refused(format!(
                    "[N], a class index a sample, or [N, {hot}]: save np.argmax(y, axis=1)"
                ));
            }
            if array.dtype().starts_with(['U', 'S']) {
                read.labels = array
                    .names()?
                    .iter()
                    .enumerate()
                    .map(|(n, name)| named(n, name, *classes, names))
                    .collect::<Result<_, _>>()?;
                return Ok(read);
            }
            let labels = array.whole(*classes)?;
            if one_hot {
                let rows = labels.chunks(hot).enumerate();
                read.labels =
                    rows.map(|(n, row)| hot_label(n, row, *questions > 0)).collect::<Result<_, _>>()?;
                return Ok(read);
            }
            let class = |(sample, label): (usize, i128)| {
                let class = usize::try_from(label).ok().filter(|&label| label < *classes);
                class.ok_or_else(|| Problem::Label {
                    at: format!("sample {sample}"),
                    label: label.to_string(),
                    classes: *classes,
                })
            };
            read.labels = labels.into_iter().enumerate().map(class).collect::<Result<_, _>>()?;
        }
    }
    Ok(read)
}

/// The class that a row of zeros and ones stands for: the place of its one, or the set of its ones.
fn hot_label(sample: usize, row: &[i128], set: bool) -> Result<usize, Problem> {
    let ones: Vec<usize> = (0..row.len()).filter(|&place| row[place] == 1).collect();
    let clean = row.iter().all(|&value| value == 0 || value == 1);
    match ones.as_slice() {
        _ if !clean => Err(Problem::OneHot { sample, found: "other numbers".into() }),
        ones if set => Ok(ones.iter().map(|&place| 1 << place).sum()),
        &[one] => Ok(one),
        ones => Err(Problem::OneHot { sample, found: format!("{} ones", ones.len()) }),
    }
}

/// The class of a name.
fn named(sample: usize, name: &str, classes: usize, names: &[String]) -> Result<usize, Problem> {
    let at = format!("sample {sample}");
    let label = error::excerpt(name);
    match names.iter().position(|known| known == name) {
        Some(class) => Ok(class),
        None if names.is_empty() => Err(Problem::Named { found: label.clone(), at, label, classes }),
        None => Err(Problem::UnknownName { at, label, names: names.join(", ") }),
    }
}

/// One group per sample.
pub(super) fn groups(path: &Path) -> Result<Vec<String>, Problem> {
    let bytes = fetch(path, Role::Groups)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        let text = String::from_utf8(bytes).map_err(|_| not_npy("neither an array nor text"))?;
        return Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect());
    }
    let array = Array::open(&bytes)?;
    if array.dtype().starts_with(['U', 'S']) {
        return array.names();
    }
    Ok(array.whole(usize::MAX)?.iter().map(i128::to_string).collect())
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

    /// Numbers of any type, rounded to float32.
    fn numbers(self, expected: &'static str) -> Result<Vec<f32>, Problem> {
        let of = |values: Vec<i128>| values.into_iter().map(|value| value as f32).collect();
        Ok(match self.dtype().as_str() {
            "f2" => self.values::<half::f16>()?.into_iter().map(f32::from).collect(),
            "f4" => self.values::<f32>()?,
            "f8" => self.values::<f64>()?.into_iter().map(|value| value as f32).collect(),
            "i1" => of(self.integers::<i8>()?),
            "i2" => of(self.integers::<i16>()?),
            "i4" => of(self.integers::<i32>()?),
            "i8" => of(self.integers::<i64>()?),
            "u1" => of(self.integers::<u8>()?),
            "u2" => of(self.integers::<u16>()?),
            "u4" => of(self.integers::<u32>()?),
            "u8" => of(self.integers::<u64>()?),
            found => return Err(Problem::Dtype { expected, found: found.to_owned() }),
        })
    }

    /// Whole numbers of any type; `classes` for the message about another.
    fn whole(self, classes: usize) -> Result<Vec<i128>, Problem> {
        let floats = match self.dtype().as_str() {
            "b1" => return Ok(self.values::<bool>()?.into_iter().map(i128::from).collect()),
            "i1" => return self.integers::<i8>(),
            "i2" => return self.integers::<i16>(),
            "i4" => return self.integers::<i32>(),
            "i8" => return self.integers::<i64>(),
            "u1" => return self.integers::<u8>(),
            "u2" => return self.integers::<u16>(),
            "u4" => return self.integers::<u32>(),
            "u8" => return self.integers::<u64>(),
            "f2" => self.values::<half::f16>()?.into_iter().map(f64::from).collect(),
            "f4" => self.values::<f32>()?.into_iter().map(f64::from).collect(),
            "f8" => self.values::<f64>()?,
            found => {
                let expected = "whole numbers: save y.astype(np.int64)";
                return Err(Problem::Dtype { expected, found: found.to_owned() });
            }
        };
        let whole = |(sample, value): (usize, f64)| match value.fract() == 0.0 {
            true => Ok(value as i128),
            false => {
                Err(Problem::Label { at: format!("sample {sample}"), label: value.to_string(), classes })
            }
        };
        floats.into_iter().enumerate().map(whole).collect()
    }

    /// Texts: NumPy pads them with zeros.
    fn names(self) -> Result<Vec<String>, Problem> {
        let (unicode, big) = match self.header.dtype() {
            DType::Plain(plain) => {
                let text = plain.to_string();
                (text.contains('U'), text.starts_with('>'))
            }
            _ => (false, false),
        };
        let count = usize::try_from(self.header.len()).unwrap_or(0).max(1);
        let size = self.data.len() / count;
        let char = |bytes: &[u8; 4]| {
            let code = if big { u32::from_be_bytes(*bytes) } else { u32::from_le_bytes(*bytes) };
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        let text = |bytes: &[u8]| match unicode {
            true => bytes.as_chunks::<4>().0.iter().map(char).collect(),
            false => String::from_utf8_lossy(bytes).into_owned(),
        };
        let texts = self.data.chunks(size.max(1)).map(|bytes| text(bytes).trim_end_matches('\0').to_owned());
        Ok(texts.collect())
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
    elements.ok_or_else(|| not_npy(format!("its shape is ({})", error::excerpt(shape))))?;
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
