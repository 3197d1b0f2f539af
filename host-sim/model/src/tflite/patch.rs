//! Puts a tuned tail back into the `.tflite` it came from: new numbers in the old places, so that everything else
//! of the file stays as it was.

use super::field::{buffer, quantization, tensor};
use super::view::{File, Table};
use super::{ReadError, read, storage};
use crate::graph::{Graph, Kind};
use flatmin::{Affine, internals::TunedLayer};
use std::borrow::Cow;
use std::ops::Range;
use thiserror::Error;

/// Why a tail cannot be put into a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The file itself.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file has no room for a number.
    #[error("operator {index}: {what}")]
    Layer {
        /// The layer's place in the file.
        index: usize,
        /// What is missing or in the way.
        what: String,
    },
    /// A flatbuffer ends there.
    #[error("with the added classes the file is larger than 4 GiB")]
    TooLarge,
}

/// The bytes of `file` with the layers at `places` replaced by `layers`, first to last; of operators without weights the
/// output's quantization alone changes.
///
/// # Errors
/// [`PatchError`]: a file that is no model, or a layer whose numbers have no place of their own in it.
pub fn replace_layers<'t>(
    file: &[u8],
    places: &[usize],
    layers: impl Iterator<Item = TunedLayer<'t>>,
) -> Result<Vec<u8>, PatchError> {
    let graph = read(file)?;
    let map = Map::read(file)?;
    let mut bytes = file.to_vec();
    for (&index, layer) in places.iter().zip(layers) {
        let fail = |what: String| PatchError::Layer { index, what };
        let is_trained = layer.layer.outputs > 0;
        let fits = |kind: &Kind| {
            let weighted =
                matches!(kind, Kind::FullyConnected(_) | Kind::Conv2d(..) | Kind::DepthwiseConv2d(..));
            weighted == is_trained
        };
        let op = graph.operators.get(index).filter(|op| fits(&op.kind));
        let op = op.ok_or_else(|| fail("is not there".into()))?;
        let refit = if layer.layer.refit { same_array(&graph, op.outputs[0]) } else { Vec::new() };
        for activation in refit {
            let Affine { scale, zero_point } = layer.output;
            let mut put = |place: Place, values: &[u8]| map.put(&mut bytes, place, values).map_err(fail);
            put(Place::Scales(activation), &scale.to_le_bytes())?;
            put(Place::ZeroPoints(activation), &i64::from(zero_point).to_le_bytes())?;
        }
        if !is_trained {
            continue;
        }
        let input = |place: usize| op.inputs.get(place).copied().flatten();
        let (Some(weights), Some(biases)) = (input(1), input(2)) else {
            return Err(fail(
                "has no bias, and a tuned layer has one: export the network with biases".into(),
            ));
        };
        let scales: Vec<f32> = match layer.per_channel {
            true => layer.scales.to_vec(),
            false => layer.scales.iter().take(1).copied().collect(),
        };
        let bias_scales: Vec<f32> = scales.iter().map(|scale| layer.input.scale * scale).collect();
        let bias_bytes: Vec<u8> = layer.biases.iter().flat_map(|b| b.to_le_bytes()).collect();
        let mut put = |place: Place, values: &[u8]| map.put(&mut bytes, place, values).map_err(fail);
        if layer.layer.trains_weights {
            let mut own = Cow::from(layer.weights);
            if layer.layer.inputs.is_some() {
                let factory = graph.tensors[weights].data.iter().flatten();
                own = factory.map(|byte| byte.cast_signed()).collect();
                layer.write_over(own.to_mut());
            }
            put(Place::Data(weights), bytemuck::cast_slice(&own))?;
        }
        if layer.layer.trains_weights || layer.layer.trains_scales {
            put(Place::Scales(weights), bytemuck::cast_slice(&scales))?;
        }
        put(Place::Data(biases), &bias_bytes)?;
        put(Place::Scales(biases), bytemuck::cast_slice(&bias_scales))?;
    }
    Ok(bytes)
}

/// Whether all layers at `places` have what [`replace_layers`] writes to: known before they are tuned.
///
/// # Errors
/// A file that is no model, or a layer without a bias.
pub fn check_biases(file: &[u8], places: &[usize]) -> Result<(), PatchError> {
    let graph = read(file)?;
    let bias = |index: usize| graph.operators.get(index).and_then(|op| op.inputs.get(2).copied().flatten());
    match places.iter().find(|&&index| bias(index).is_none()) {
        None => Ok(()),
        Some(&index) => Err(PatchError::Layer {
            index,
            what:
                "has no bias, and a tuned layer has one: export the network with biases, or tune fewer layers"
                    .into(),
        }),
    }
}

/// A tensor and the tensors that reshapes make of it: they share scale and zero point.
fn same_array(graph: &Graph, tensor: usize) -> Vec<usize> {
    let mut all = vec![tensor];
    for op in graph.operators.iter().filter(|op| op.kind == Kind::Reshape) {
        if op.inputs.first().is_some_and(|&input| input.is_some_and(|input| all.contains(&input))) {
            all.extend(&op.outputs);
        }
    }
    all
}

/// A vector of numbers in the file, of a tensor.
#[derive(Debug, Clone, Copy)]
enum Place {
    Data(usize),
    Scales(usize),
    ZeroPoints(usize),
}

/// Where a tensor's numbers lie.
struct Own {
    buffer: usize,
    data: Option<Range<usize>>,
    scales: Option<Range<usize>>,
    zero_points: Option<Range<usize>>,
}

struct Map {
    tensors: Vec<Own>,
}

impl Map {
    fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let file = File::new(bytes);
        let (buffers, tensors) = storage(&file)?;
        let own = |table: &Table<'_>| {
            let buffer = table.scalar(tensor::BUFFER, 0_u32)? as usize;
            let data = buffers.get(buffer).map(|b| b.place(buffer::DATA, 1)).transpose()?.flatten();
            let quantization = table.table(tensor::QUANTIZATION, "quantization")?;
            let vector = |field, size| {
                quantization.as_ref().map(|q| q.place(field, size)).transpose().map(Option::flatten)
            };
            let scales = vector(quantization::SCALE, 4)?;
            Ok(Own { buffer, data, scales, zero_points: vector(quantization::ZERO_POINT, 8)? })
        };
        Ok(Self { tensors: tensors.iter().map(own).collect::<Result<_, ReadError>>()? })
    }

    /// Overwrites a vector of the same size that no other tensor uses.
    fn put(&self, bytes: &mut [u8], place: Place, values: &[u8]) -> Result<(), String> {
        let (tensor, what) = match place {
            Place::Data(tensor) => (tensor, "data"),
            Place::Scales(tensor) => (tensor, "scales"),
            Place::ZeroPoints(tensor) => (tensor, "zero point"),
        };
        let vector = |own: &Own| match place {
            Place::Data(_) => own.data.clone(),
            Place::Scales(_) => own.scales.clone(),
            Place::ZeroPoints(_) => own.zero_points.clone(),
        };
        let range = vector(&self.tensors[tensor]).unwrap_or_default();
        if matches!(place, Place::Data(_)) && range.len() == values.len().div_ceil(2) && values.len() > 1 {
            return Err(format!(
                "tensor {tensor} has int4 weights, tuned ones are int8: export the network with int8 weights"
            ));
        }
        if range.len() != values.len() {
            let (found, needed) = (range.len(), values.len());
            return Err(format!("the {what} of tensor {tensor} take {needed} bytes, the file has {found}"));
        }
        let shared = self.tensors.iter().enumerate().find(|(other, own)| {
            let same_buffer = matches!(place, Place::Data(_)) && own.buffer == self.tensors[tensor].buffer;
            *other != tensor && (same_buffer || vector(own).is_some_and(|r| r == range))
        });
        if let Some((other, _)) = shared {
            return Err(format!("tensors {tensor} and {other} share their {what}: neither can change alone"));
        }
        bytes[range].copy_from_slice(values);
        Ok(())
    }
}
