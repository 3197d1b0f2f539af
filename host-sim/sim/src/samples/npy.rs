//! Samples and labels as NumPy arrays.

mod array;

use std::fs;
use std::io::{Cursor, Read as _};
use std::path::Path;

use flatmin_model::output::write_file;

use super::{Inputs, Labels, Problem, Read, error, sample_size};
use array::{Array, not_npy};

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

/// Values of all samples, how many samples they are, and what a user should know of how they were read.
pub(super) fn inputs(path: &Path, sample_shape: &[usize]) -> Result<Found, Problem> {
    inputs_in(&fetch(path, Role::Samples)?, sample_shape)
}

/// Values, number of samples, and a note.
pub(super) type Found = (Inputs, usize, Option<String>);

/// Reads an array in memory.
pub(super) fn inputs_in(bytes: &[u8], sample_shape: &[usize]) -> Result<Found, Problem> {
    let array = Array::open(bytes)?;
    let shape = array.shape();
    let (count, note) = match shape.split_first() {
        Some((&count, rest)) if squeezed(rest).eq(squeezed(sample_shape)) => (count as usize, None),
        Some((&count, rest)) if is_regrouped(rest, sample_shape) => {
            let note =
                format!("each sample's {rest:?} values are taken as {sample_shape:?}, the last axis fastest");
            (count as usize, Some(note))
        }
        _ => {
            return Err(Problem::Shape {
                expected: format!(
                    "N samples of {sample_shape:?}, axes of 1 optional{}",
                    hint(shape, sample_shape)
                ),
                found: shape.to_vec(),
            });
        }
    };
    if count == 0 {
        return Err(Problem::Empty);
    }
    let inputs = match array.kind() {
        "i1" => return Ok((Inputs::I8(array.values(i8::from_le_bytes)), count, note)),
        "u1" => return Ok((Inputs::U8(array.values(u8::from_le_bytes)), count, note)),
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
    Ok((Inputs::F32(inputs), count, note))
}

/// See [`super::window_shape`].
pub(super) fn window_shape(path: &Path, hop: &[usize]) -> Result<Vec<usize>, Problem> {
    let bytes = fetch(path, Role::Samples)?;
    let array = Array::open(&bytes)?;
    let own = array.shape().iter().skip(1).map(|&extent| extent as usize).collect::<Vec<_>>();
    let (Some((&rows, own_rest)), Some((&hop_rows, hop_rest))) = (own.split_first(), hop.split_first())
    else {
        return Ok(hop.to_vec());
    };
    let whole = own_rest == hop_rest && rows > 0 && rows % hop_rows.max(1) == 0;
    Ok(if whole { own } else { hop.to_vec() })
}

/// Labels, or numbers to give.
pub(super) fn labels(path: &Path, expected: &Labels) -> Result<Read, Problem> {
    labels_in(&fetch(path, Role::Labels)?, expected)
}

/// Reads an array in memory.
pub(super) fn labels_in(bytes: &[u8], expected: &Labels) -> Result<Read, Problem> {
    let array = Array::open(bytes)?;
    let shape = array.shape().to_vec();
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
            if array.is_text() {
                let found = array.names();
                let class = |(sample, name): (usize, &String)| {
                    class_of(name, names).ok_or_else(|| unknown(sample, name, *classes, names, &found))
                };
                read.labels = found.iter().enumerate().map(class).collect::<Result<_, _>>()?;
                return Ok(read);
            }
            let labels = array.whole(*classes)?;
            if one_hot {
                let rows = labels.chunks(hot).enumerate();
                read.labels =
                    rows.map(|(n, row)| hot_label(n, row, *questions > 0)).collect::<Result<_, _>>()?;
                return Ok(read);
            }
            let from_one = labels.iter().all(|&label| label >= 1 && label <= *classes as i128);
            let hint = if from_one { error::COUNT_FROM_ZERO } else { "" };
            let class = |(sample, label): (usize, i128)| {
                let class = usize::try_from(label).ok().filter(|&label| label < *classes);
                class.ok_or_else(|| Problem::Label {
                    at: format!("sample {sample}"),
                    label: label.to_string(),
                    classes: *classes,
                    hint,
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
fn class_of(name: &str, names: &[String]) -> Option<usize> {
    names.iter().position(|known| known == name)
}

/// A name that is no class: where no classes have names, those of the file are told.
fn unknown(sample: usize, name: &str, classes: usize, names: &[String], found: &[String]) -> Problem {
    let (at, label) = (format!("sample {sample}"), error::excerpt(name));
    if names.is_empty() {
        let found = error::names(found.iter().map(String::as_str));
        return Problem::Named { at, label, classes, found };
    }
    Problem::UnknownName { at, label, names: names.join(", ") }
}

/// One group per sample.
pub(super) fn groups(path: &Path) -> Result<Vec<String>, Problem> {
    let bytes = fetch(path, Role::Groups)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        let text = String::from_utf8(bytes).map_err(|_| not_npy("neither an array nor text"))?;
        return Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect());
    }
    let array = Array::open(&bytes)?;
    if array.is_text() {
        return Ok(array.names());
    }
    Ok(array.whole(usize::MAX)?.iter().map(i128::to_string).collect())
}

/// Whether two shapes hold the same values in the same order, and no other reading is at hand: one of them comes from the other where
/// axes that lie side by side are made one, as `reshape(N, -1)` does.
fn is_regrouped(found: &[u64], expected: &[usize]) -> bool {
    let expected: Vec<u64> = expected.iter().map(|&extent| extent as u64).collect();
    ends(found).is_some_and(|found| {
        ends(&expected).is_some_and(|expected| {
            found.last() == expected.last()
                && (found.iter().all(|end| expected.contains(end))
                    || expected.iter().all(|end| found.contains(end)))
        })
    })
}

/// Values up to the end of each axis that has more than one; `None` where they are none, or too many to count.
fn ends(shape: &[u64]) -> Option<Vec<u64>> {
    let mut size = 1_u64;
    let extents = shape.iter().rev().filter(|&&extent| extent != 1);
    extents
        .map(|&extent| (extent > 0).then(|| size.checked_mul(extent)).flatten().inspect(|&s| size = s))
        .collect()
}

/// What would mend a shape that does not fit, after a semicolon; or nothing.
fn hint(found: &[u64], expected: &[usize]) -> String {
    let own = |shape: &[u64]| shape.iter().copied().filter(|&extent| extent != 1).collect::<Vec<_>>();
    let wanted = own(&expected.iter().map(|&extent| extent as u64).collect::<Vec<_>>());
    if own(found) == wanted && !wanted.is_empty() {
        return "; one sample is saved as x[np.newaxis]".into();
    }
    let [_, rest @ ..] = found else { return String::new() };
    let (mut sorted, mut wanted_sorted) = (own(rest), wanted.clone());
    sorted.sort_unstable();
    wanted_sorted.sort_unstable();
    if rest.is_empty() && !wanted.is_empty() {
        return "; one value a sample: are samples and labels in this order?".into();
    }
    if sorted != wanted_sorted || !rest.iter().all(|&extent| extent > 1) {
        return String::new();
    }
    let mut axes: Vec<usize> = Vec::new();
    for extent in &wanted {
        let axis = (0..rest.len()).find(|axis| !axes.contains(axis) && rest[*axis] == *extent);
        axes.extend(axis);
    }
    let axes: Vec<String> = axes.iter().map(|axis| (axis + 1).to_string()).collect();
    format!("; its axes are in another order: save x.transpose(0, {})", axes.join(", "))
}

/// Extents without those of 1.
fn squeezed<T: Copy + TryInto<u64>>(shape: &[T]) -> impl Iterator<Item = Option<u64>> {
    let extents = shape.iter().map(|&extent| extent.try_into().ok());
    extents.filter(|&extent| extent != Some(1))
}

pub(super) fn write<T: Element>(path: &Path, values: &[T], shape: &[usize]) -> Result<(), Problem> {
    let elements = shape.iter().try_fold(1, |size: usize, &extent| size.checked_mul(extent));
    if elements != Some(values.len()) {
        return Err(Problem::Values { values: values.len(), shape: shape.to_vec() });
    }
    let bytes = values.iter().flat_map(|value| value.bytes());
    Ok(write_file(path, &array::encode(T::DESCR, shape, bytes))?)
}

/// What arrays are written of.
pub(super) trait Element: Copy {
    /// NumPy's name for it.
    const DESCR: &'static str;
    /// Its bytes, the lowest first.
    fn bytes(self) -> impl IntoIterator<Item = u8>;
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
    fn bytes(self) -> impl IntoIterator<Item = u8> {
        self.to_le_bytes()
    }
}

impl Element for u8 {
    const DESCR: &'static str = "|u1";
    fn bytes(self) -> impl IntoIterator<Item = u8> {
        [self]
    }
}

impl Element for i8 {
    const DESCR: &'static str = "|i1";
    fn bytes(self) -> impl IntoIterator<Item = u8> {
        self.to_le_bytes()
    }
}
