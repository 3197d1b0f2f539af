//! Makes room in a `.tflite` for classes that were added: a flatbuffer's offsets lead forward, so that a longer vector may
//! stand at the end of the file, and the old one is left where it was.

use super::field::{buffer, quantization, tensor};
use super::view::{File, Scalar, Table};
use super::{PatchError, ReadError, read, storage};
use crate::graph::Kind;

/// On which every vector is put: TensorFlow Lite wants it of buffers.
const ALIGNMENT: usize = 16;

/// The bytes of `file` with `classes` outputs of the fully connected layer at `place`, behind which only a softmax may
/// stand. Further rows and biases are zeros, with the last row's scales.
///
/// # Errors
/// [`PatchError`]: a file that is no model, another operator, one that has more classes already, or one behind it that
/// would have to change.
pub fn grow_classifier(file: &[u8], place: usize, classes: usize) -> Result<Vec<u8>, PatchError> {
    let fail = |what: &str| PatchError::Layer { index: place, what: what.into() };
    let graph = read(file)?;
    let op = graph.operators.get(place).filter(|op| matches!(op.kind, Kind::FullyConnected(_)));
    let op = op.ok_or_else(|| fail("is no fully connected layer"))?;
    let input = |which: usize| op.inputs.get(which).copied().flatten();
    let (Some(weights), Some(biases)) = (input(1), input(2)) else {
        return Err(fail("has no bias: export the network with biases"));
    };
    let known = graph.tensors[biases].shape.iter().product::<usize>();
    if classes < known {
        return Err(fail("has more classes than that"));
    }
    let mut outputs = op.outputs.clone();
    for behind in &graph.operators[place + 1..] {
        let reads = behind.inputs.iter().flatten().any(|input| outputs.contains(input));
        if reads && !matches!(behind.kind, Kind::Softmax { .. }) {
            let what = format!("{} behind it has a shape of its own: its classes cannot grow", behind.name);
            return Err(PatchError::Layer { index: place, what });
        }
        if reads {
            outputs.extend(&behind.outputs);
        }
    }
    let growth = Growth { known, classes };
    let mut bytes = file.to_vec();
    let places = Places::read(file)?;
    for index in [weights, biases] {
        places.grow_constant(&mut bytes, index, growth)?;
    }
    for index in outputs {
        let axes = graph.tensors[index].shape.len();
        places.grow_shape(&mut bytes, index, axes.saturating_sub(1), growth)?;
    }
    Ok(bytes)
}

#[derive(Clone, Copy)]
struct Growth {
    known: usize,
    classes: usize,
}

/// Tables of the file as it was.
struct Places {
    tensors: Vec<Owned>,
}

/// A tensor's vectors: where the offset to each is stored, and its elements' bytes.
struct Owned {
    shape: Option<Vector>,
    signature: Option<Vector>,
    data: Option<Vector>,
    scales: Option<Vector>,
    zero_points: Option<Vector>,
}

#[derive(Clone)]
struct Vector {
    reference: usize,
    element: usize,
    bytes: Vec<u8>,
}

impl Vector {
    fn read(file: &[u8], table: &Table<'_>, field: usize, element: usize) -> Result<Option<Self>, ReadError> {
        let (reference, place) = (table.reference(field)?, table.place(field, element)?);
        Ok(reference.zip(place).map(|(reference, place)| Self {
            reference,
            element,
            bytes: file[place].to_vec(),
        }))
    }

    fn count(&self) -> usize {
        self.bytes.len() / self.element
    }

    /// Puts the vector to the end of `file`, where its reference then leads.
    fn append(&self, file: &mut Vec<u8>) -> Result<(), PatchError> {
        let start = (file.len() + 4).next_multiple_of(ALIGNMENT);
        let offset = u32::try_from(start - 4 - self.reference);
        let count = u32::try_from(self.count());
        let (Ok(offset), Ok(count)) = (offset, count) else {
            return Err(PatchError::TooLarge);
        };
        file.resize(start - 4, 0);
        file.extend(count.to_le_bytes());
        file.extend(&self.bytes);
        file[self.reference..self.reference + 4].copy_from_slice(&offset.to_le_bytes());
        Ok(())
    }
}

impl Places {
    fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let file = File::new(bytes);
        let (buffers, tensors) = storage(&file)?;
        let own = |table: &Table<'_>| {
            let own_buffer = buffers.get(table.scalar(tensor::BUFFER, 0_u32)? as usize);
            let quantized = table.table(tensor::QUANTIZATION, "quantization")?;
            let of = |field, element| {
                quantized
                    .as_ref()
                    .map(|q| Vector::read(bytes, q, field, element))
                    .transpose()
                    .map(Option::flatten)
            };
            Ok(Owned {
                shape: Vector::read(bytes, table, tensor::SHAPE, 4)?,
                signature: Vector::read(bytes, table, tensor::SHAPE_SIGNATURE, 4)?,
                data: own_buffer.map(|b| Vector::read(bytes, b, buffer::DATA, 1)).transpose()?.flatten(),
                scales: of(quantization::SCALE, f32::SIZE)?,
                zero_points: of(quantization::ZERO_POINT, i64::SIZE)?,
            })
        };
        Ok(Self { tensors: tensors.iter().map(own).collect::<Result<_, ReadError>>()? })
    }

    /// Extent `axis` of a tensor's shape, and of its signature.
    fn grow_shape(
        &self,
        file: &mut Vec<u8>,
        index: usize,
        axis: usize,
        growth: Growth,
    ) -> Result<(), PatchError> {
        let own = &self.tensors[index];
        for vector in [&own.shape, &own.signature].into_iter().flatten() {
            let mut grown = vector.clone();
            if let Some(extent) = grown.bytes.chunks_exact_mut(4).nth(axis) {
                let classes = i32::try_from(growth.classes).map_err(|_| PatchError::TooLarge)?;
                extent.copy_from_slice(&classes.to_le_bytes());
                grown.append(file)?;
            }
        }
        Ok(())
    }

    /// Weights or biases, one row a class.
    fn grow_constant(&self, file: &mut Vec<u8>, index: usize, growth: Growth) -> Result<(), PatchError> {
        self.grow_shape(file, index, 0, growth)?;
        let own = &self.tensors[index];
        let Growth { known, classes } = growth;
        if let Some(data) = &own.data {
            let mut grown = data.clone();
            grown.bytes.resize(data.bytes.len() / known.max(1) * classes, 0);
            grown.append(file)?;
        }
        // One for all stays one.
        let each = |vector: &&Vector| known > 1 && vector.count() == known;
        for vector in [&own.scales, &own.zero_points].into_iter().flatten().filter(each) {
            let mut grown = vector.clone();
            let last = vector.bytes[vector.bytes.len() - vector.element..].to_vec();
            grown.bytes.extend(last.repeat(classes - known));
            grown.append(file)?;
        }
        Ok(())
    }
}
