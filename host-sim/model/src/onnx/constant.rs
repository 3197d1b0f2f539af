//! Numbers that a file gives: initializers, attributes, and what follows from them alone.

use super::ReadError;
use super::layout::permuted;
use super::message::{self, data_type};
use flatmin::Affine;

/// Elements a tensor may have; any product of such extents fits.
const LARGEST: usize = 1 << 31;

/// Axes a tensor may have.
const DEEPEST: usize = 8;

/// Elements of `shape`, or what is wrong with it.
pub(super) fn elements(shape: &[usize]) -> Result<usize, String> {
    if shape.len() > DEEPEST {
        return Err(format!("{} axes, {DEEPEST} at most are supported", shape.len()));
    }
    if shape.contains(&0) {
        return Err(format!("shape {shape:?} has no elements"));
    }
    let product = shape.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent));
    product.filter(|&p| p <= LARGEST).ok_or_else(|| format!("shape {shape:?} is too large"))
}

/// A tensor of known numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    pub shape: Vec<usize>,
    pub numbers: Numbers,
}

/// Its numbers, the last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Numbers {
    Floats(Vec<f32>),
    /// With the type they have in the file, as in `TensorProto.DataType`.
    Integers(i32, Vec<i64>),
    /// Of a type that has no place in an int8 network.
    Other(i32),
}

/// `values` of `shape` with axis `i` being axis `order[i]`; as many values as the shape says.
pub(super) fn rearranged<T: Copy>(values: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let mut stride = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        stride[axis - 1] = stride[axis] * shape[axis];
    }
    let mut places = vec![0];
    for &axis in order {
        let along = (0..shape[axis]).map(|i| i * stride[axis]);
        places = places.iter().flat_map(|place| along.clone().map(move |step| place + step)).collect();
    }
    places.into_iter().map(|place| values[place]).collect()
}

impl Constant {
    /// Integers of the type that shapes and axes have.
    pub fn int64s(shape: Vec<usize>, values: Vec<i64>) -> Self {
        Self { shape, numbers: Numbers::Integers(data_type::INT64, values) }
    }

    /// Reads a tensor; `what` names it.
    pub fn read(tensor: &message::Tensor, what: &str) -> Result<Self, ReadError> {
        let error = |problem: String| ReadError::Tensor { tensor: super::printable(what), problem };
        if tensor.location != 0 {
            return Err(error("its data is in another file: save the model with its data inside".into()));
        }
        let shape =
            tensor.shape.iter().map(|&extent| usize::try_from(extent).ok()).collect::<Option<Vec<_>>>();
        let shape = shape.ok_or_else(|| error(format!("shape {:?} has a negative extent", tensor.shape)))?;
        // Optional inputs may be empty vectors (Resize's roi).
        let count = if shape == [0] { 0 } else { elements(&shape).map_err(&error)? };
        let numbers = match tensor.data_type {
            data_type::FLOAT => Numbers::Floats(match &tensor.raw {
                Some(raw) => little_endian(raw, f32::from_le_bytes),
                None => tensor.floats.clone(),
            }),
            data_type::DOUBLE => Numbers::Floats(match &tensor.raw {
                Some(raw) => little_endian(raw, |bytes| f64::from_le_bytes(bytes) as f32),
                None => tensor.doubles.iter().map(|&x| x as f32).collect(),
            }),
            kind => {
                let values = match (kind, &tensor.raw) {
                    (data_type::INT64, Some(raw)) => little_endian(raw, i64::from_le_bytes),
                    (data_type::INT64, None) => tensor.int64s.clone(),
                    (data_type::INT32, Some(raw)) => little_endian(raw, |b| i32::from_le_bytes(b).into()),
                    (data_type::INT8, Some(raw)) => little_endian(raw, |b| i8::from_le_bytes(b).into()),
                    (data_type::UINT8 | data_type::BOOL, Some(raw)) => {
                        little_endian(raw, |b| u8::from_le_bytes(b).into())
                    }
                    (data_type::INT32 | data_type::INT8 | data_type::UINT8 | data_type::BOOL, None) => {
                        tensor.int32s.iter().map(|&x| x.into()).collect()
                    }
                    _ => return Ok(Self { shape, numbers: Numbers::Other(kind) }),
                };
                let range = match kind {
                    data_type::INT8 => -128..=127,
                    data_type::UINT8 => 0..=255,
                    _ => i64::MIN..=i64::MAX,
                };
                if let Some(value) = values.iter().find(|value| !range.contains(value)) {
                    return Err(error(format!("{value} is out of range for {}", data_type::name(kind))));
                }
                Numbers::Integers(kind, values)
            }
        };
        let found = match &numbers {
            Numbers::Floats(values) => values.len(),
            Numbers::Integers(_, values) => values.len(),
            Numbers::Other(_) => count,
        };
        if found != count {
            return Err(error(format!("{found} numbers, shape {shape:?} has {count}")));
        }
        Ok(Self { shape, numbers })
    }

    /// The numbers as they are, if they are integers.
    pub fn integers(&self) -> Option<&[i64]> {
        match &self.numbers {
            Numbers::Integers(_, values) => Some(values),
            _ => None,
        }
    }

    /// The numbers, if they are floating.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.numbers {
            Numbers::Floats(values) => Some(values),
            _ => None,
        }
    }

    /// The type's name in the specification.
    pub fn type_name(&self) -> String {
        match self.numbers {
            Numbers::Floats(_) => "FLOAT".into(),
            Numbers::Integers(kind, _) | Numbers::Other(kind) => data_type::name(kind),
        }
    }

    /// With axis `i` being axis `order[i]` of this one.
    pub fn transposed(&self, order: &[usize]) -> Self {
        let numbers = match &self.numbers {
            Numbers::Floats(values) => Numbers::Floats(rearranged(values, &self.shape, order)),
            Numbers::Integers(kind, values) => {
                Numbers::Integers(*kind, rearranged(values, &self.shape, order))
            }
            Numbers::Other(kind) => Numbers::Other(*kind),
        };
        Self { shape: permuted(&self.shape, order), numbers }
    }

    /// The same numbers in another shape of as many elements.
    pub fn reshaped(&self, shape: Vec<usize>) -> Self {
        Self { shape, numbers: self.numbers.clone() }
    }
}

fn little_endian<T, const N: usize>(raw: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, rest) = raw.as_chunks();
    // A ragged end shows in the count, which is one short: the caller checks it against the shape.
    let whole = if rest.is_empty() { chunks.len() } else { chunks.len().saturating_sub(1) };
    chunks[..whole].iter().map(|&bytes| number(bytes)).collect()
}

/// Constant integers with scales: what DequantizeLinear makes of an initializer. int8 has its zero point as in the
/// file; uint8 numbers and zero points are moved by 128, so that they are int8, too.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    pub shape: Vec<usize>,
    pub numbers: Vec<i32>,
    /// Whether the numbers have 8 bits.
    pub eight_bits: bool,
    /// One, or one a slice along `axis`.
    pub scales: Vec<f32>,
    /// As many.
    pub zero_points: Vec<i32>,
    pub axis: usize,
    /// Name in the file.
    pub name: String,
}

impl Weights {
    /// How many elements in a row share a scale.
    fn run(&self) -> usize {
        self.shape.iter().skip(self.axis + 1).product()
    }

    /// Scale and zero point of the element at `place`.
    fn parameters(&self, place: usize) -> (f32, i32) {
        let slice = if self.scales.len() == 1 { 0 } else { place / self.run() % self.scales.len() };
        (self.scales[slice], self.zero_points[slice])
    }

    /// What the numbers stand for.
    pub fn real(&self) -> Vec<f32> {
        let real = |(place, &q): (usize, &i32)| {
            let (scale, zero_point) = self.parameters(place);
            (i64::from(q) - i64::from(zero_point)) as f32 * scale
        };
        self.numbers.iter().enumerate().map(real).collect()
    }

    /// The same in double precision, as numbers and the step of each.
    pub fn steps(&self) -> (Vec<f64>, Vec<f64>) {
        let parts = self.numbers.iter().enumerate().map(|(place, &q)| {
            let (scale, zero_point) = self.parameters(place);
            (f64::from(q) - f64::from(zero_point), f64::from(scale))
        });
        parts.unzip()
    }

    /// Scale and zero point, if there is one for all.
    pub fn affine(&self) -> Option<Affine> {
        match (self.scales.as_slice(), self.zero_points.as_slice()) {
            (&[scale], &[zero_point]) if self.eight_bits => Some(Affine { scale, zero_point }),
            _ => None,
        }
    }

    /// With axis `i` being axis `order[i]` of this one.
    pub fn transposed(&self, order: &[usize]) -> Self {
        let axis = order.iter().position(|&axis| axis == self.axis).unwrap_or(0);
        let numbers = rearranged(&self.numbers, &self.shape, order);
        Self { shape: permuted(&self.shape, order), numbers, axis, ..self.clone() }
    }

    /// The same numbers in another shape of as many elements; `None` if the scales' axis is lost.
    pub fn reshaped(&self, shape: Vec<usize>) -> Option<Self> {
        let mut axis = 0;
        if self.scales.len() > 1 {
            let run = self.run();
            let runs = |&axis: &usize| shape[axis + 1..].iter().product::<usize>() == run;
            axis = (0..shape.len()).find(|axis| shape[*axis] == self.scales.len() && runs(axis))?;
        }
        Some(Self { shape, axis, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_scales() {
        let weights = Weights {
            shape: vec![2, 3],
            numbers: vec![1, 2, 3, 4, 5, 6],
            eight_bits: true,
            scales: vec![1.0, 10.0],
            zero_points: vec![0, 1],
            axis: 0,
            name: String::new(),
        };
        assert_eq!(weights.real(), [1.0, 2.0, 3.0, 30.0, 40.0, 50.0]);
        assert_eq!(weights.transposed(&[1, 0]).real(), [1.0, 30.0, 2.0, 40.0, 3.0, 50.0]);
        assert_eq!(weights.reshaped(vec![2, 3, 1]).unwrap().real(), weights.real());
        assert_eq!(weights.reshaped(vec![3, 2]), None);
    }
}
