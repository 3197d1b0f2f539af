//! Reads a network from TensorFlow Lite's file format, a flatbuffer (`schema.fbs`, version 3).
//!
//! Reading is total: any bytes give a [`Graph`] or a [`ReadError`], in time and memory proportional
//! to their number. Only what a network's meaning needs is read: metadata and signatures are not.

mod error;
mod field;
mod grow;
mod movement;
mod names;
mod operators;
mod patch;
#[cfg(test)]
mod tests;
mod variables;
mod view;

pub use error::ReadError;
pub use grow::grow_classifier;
pub use patch::{PatchError, check_biases, replace_layers};

use crate::graph::{Element, Graph, Operator, Quantization, Tensor};
use field::{buffer, model, operator, operator_code, quantization, subgraph, tensor};
use operators::{Record, code};
use variables::Variables;
use view::{File, Table};

/// Reads the first subgraph of a model.
///
/// Operators that flatmin does not compute are no error, but [`Kind::Unsupported`] with their name
/// in the schema (custom ones: their own name). A supported operator has one output, and the inputs
/// that its [`Kind`] lists. Every index is in range, the number of bytes of every tensor fits a
/// `usize`, constants have as many bytes as their shape and type ask for, and quantization has
/// finite positive scales, one or as many as the axis is long, with as many zero points, in range
/// for 8-bit types.
///
/// [`Kind`]: crate::graph::Kind
/// [`Kind::Unsupported`]: crate::graph::Kind::Unsupported
///
/// # Errors
///
/// When `bytes` are not a model, are damaged, break one of the promises above, or hold tensors that
/// a [`Graph`] has no place for: sparse, quantized other than affinely, or kept in another file.
pub fn read(bytes: &[u8]) -> Result<Graph, ReadError> {
    let file = File::new(bytes);
    let model = file.root(b"TFL3", "model")?;
    let version = model.scalar(model::VERSION, 0)?;
    if version != 3 {
        return Err(ReadError::Version { found: version });
    }
    let subgraphs = model.tables(model::SUBGRAPHS, "subgraph")?;
    let main = subgraphs.first().ok_or(ReadError::Missing { what: "subgraph" })?;

    let buffers = model.tables(model::BUFFERS, "buffer")?;
    let codes = model.tables(model::OPERATOR_CODES, "operator code")?;
    let source = Source { file: &file, buffers, codes, subgraphs: &subgraphs };
    let mut tensors = source.tensors(main)?;
    let mut variables = Variables::default();
    let operators = main.tables(subgraph::OPERATORS, "operator")?;
    let operators = operators.iter().enumerate();
    let operators = operators
        .map(|(index, table)| source.operator(&tensors, &mut variables, index, table))
        .collect::<Result<Vec<_>, _>>()?;

    let inputs = main.scalars(subgraph::INPUTS)?;
    let outputs = main.scalars(subgraph::OUTPUTS)?;
    let inputs = indices(&inputs, tensors.len(), || "the network's inputs".into())?;
    let outputs = indices(&outputs, tensors.len(), || "the network's outputs".into())?;
    let variables = variables.with_constants(&mut tensors);
    Ok(Graph { tensors, operators, inputs, outputs, variables })
}

/// What subgraphs are read from.
struct Source<'a> {
    file: &'a File<'a>,
    buffers: Vec<Table<'a>>,
    codes: Vec<Table<'a>>,
    subgraphs: &'a [Table<'a>],
}

/// The buffers, and the tensors of the first subgraph.
fn storage<'a>(file: &'a File<'a>) -> Result<(Vec<Table<'a>>, Vec<Table<'a>>), ReadError> {
    let root = file.root(b"TFL3", "model")?;
    let subgraphs = root.tables(model::SUBGRAPHS, "subgraph")?;
    let main = subgraphs.first().ok_or(ReadError::Missing { what: "subgraph" })?;
    Ok((root.tables(model::BUFFERS, "buffer")?, main.tables(subgraph::TENSORS, "tensor")?))
}

fn read_tensor(
    file: &File<'_>,
    buffers: &[Table<'_>],
    index: usize,
    table: &Table<'_>,
) -> Result<Tensor, ReadError> {
    let name = table.string(tensor::NAME)?;
    let owner = || match name.as_str() {
        "" => format!("tensor {index}"),
        name => format!("tensor {index} `{}`", printable(name)),
    };
    let error = |problem| ReadError::Tensor { tensor: owner(), problem };

    let lengths: Vec<i32> = table.scalars(tensor::SHAPE)?;
    let number = table.scalar(tensor::TYPE, 0)?;
    let (element, bits) = element(number);
    let size = byte_size(&lengths, bits.unwrap_or(8)).map_err(&error)?;
    let shape: Vec<usize> = lengths.iter().filter_map(|&extent| extent.try_into().ok()).collect();

    if table.table(tensor::SPARSITY, "sparsity")?.is_some() {
        return Err(error("sparse, expected dense".into()));
    }
    if table.scalar(tensor::EXTERNAL_BUFFER, 0_u32)? != 0 {
        return Err(error("its data is in another file".into()));
    }
    let buffer = table.scalar(tensor::BUFFER, 0_u32)?;
    let buffer = match buffers.get(buffer as usize) {
        Some(buffer) => Some(buffer),
        // A model without constants may do without buffers.
        None if buffer == 0 => None,
        None => {
            return Err(ReadError::Index {
                owner: owner(),
                what: "buffer",
                index: buffer.into(),
                count: buffers.len(),
            });
        }
    };
    let data = buffer.map(|buffer| contents(file, buffer)).transpose()?;
    let data = data.unwrap_or_default();
    if !data.is_empty() && bits.is_some() && data.len() != size {
        return Err(error(format!(
            "{} bytes of data, shape {shape:?} of {element:?} has {size}",
            data.len()
        )));
    }
    let (element, data) = match number {
        INT4 if !data.is_empty() => (Element::I8, unpacked(data, byte_size(&lengths, 8).map_err(&error)?)),
        _ => (element, data.to_vec()),
    };
    let quantization = match table.table(tensor::QUANTIZATION, "quantization")? {
        Some(table) => read_quantization(&table, &shape, element, error)?,
        None => None,
    };
    Ok(Tensor { name, element, shape, quantization, data: (!data.is_empty()).then_some(data) })
}

/// The schema's INT4.
const INT4: i8 = 17;

/// int4 values as int8 ones: two a byte, the first in the lower half.
fn unpacked(data: &[u8], count: usize) -> Vec<u8> {
    let halves = data.iter().flat_map(|&byte| [byte << 4, byte]);
    halves.take(count).map(|high| (high.cast_signed() >> 4).cast_unsigned()).collect()
}

/// Bytes of a tensor of elements of `bits`.
fn byte_size(shape: &[i32], bits: usize) -> Result<usize, String> {
    let mut elements = 1_usize;
    // As if a 0 were 1: any product of some of the extents fits, too.
    let mut bound = bits;
    for &extent in shape {
        let extent = usize::try_from(extent).map_err(|_| format!("shape {shape:?} has a negative extent"))?;
        elements = elements.wrapping_mul(extent);
        let next = bound.checked_mul(extent.max(1));
        bound = next.ok_or_else(|| format!("shape {shape:?} is too large"))?;
    }
    Ok((elements * bits).div_ceil(8))
}

/// Element type and its size in bits, if it has one.
fn element(number: i8) -> (Element, Option<usize>) {
    match number {
        0 => (Element::F32, Some(32)),
        2 => (Element::I32, Some(32)),
        3 => (Element::U8, Some(8)),
        4 => (Element::I64, Some(64)),
        7 => (Element::I16, Some(16)),
        9 => (Element::I8, Some(8)),
        // UINT4, INT4, INT2: packed.
        INT4 | 20 => (Element::Other(number), Some(4)),
        19 => (Element::Other(number), Some(2)),
        // BOOL and the 8-bit floats.
        6 | 21 | 22 => (Element::Other(number), Some(8)),
        // FLOAT16, UINT16, BFLOAT16.
        1 | 16 | 18 => (Element::Other(number), Some(16)),
        // UINT32.
        15 => (Element::Other(number), Some(32)),
        // COMPLEX64, FLOAT64, UINT64.
        8 | 10 | 12 => (Element::Other(number), Some(64)),
        // COMPLEX128.
        11 => (Element::Other(number), Some(128)),
        // STRING, RESOURCE, VARIANT, and what came later.
        _ => (Element::Other(number), None),
    }
}

/// A buffer's bytes, in the flatbuffer or, in files past 2 GB, behind it; none for activations.
fn contents<'a>(file: &File<'a>, table: &Table<'a>) -> Result<&'a [u8], ReadError> {
    let data = table.bytes(buffer::DATA)?;
    let offset = table.scalar(buffer::OFFSET, 0_u64)?;
    // The schema: "only valid if > 1".
    if !data.is_empty() || offset <= 1 {
        return Ok(data);
    }
    file.data(offset, table.scalar(buffer::SIZE, 0)?, "buffer")
}

fn read_quantization(
    table: &Table<'_>,
    shape: &[usize],
    element: Element,
    error: impl Fn(String) -> ReadError,
) -> Result<Option<Quantization>, ReadError> {
    let details = table.scalar(quantization::DETAILS_TYPE, 0_u8)?;
    if details != 0 {
        let problem = format!("quantization of type {details}, expected scales and zero points");
        return Err(error(problem));
    }
    let scales: Vec<f32> = table.scalars(quantization::SCALE)?;
    if scales.is_empty() {
        return Ok(None);
    }
    let zero_points: Vec<i64> = table.scalars(quantization::ZERO_POINT)?;
    if zero_points.len() != scales.len() {
        let (scales, points) = (scales.len(), zero_points.len());
        return Err(error(format!("{scales} scales, {points} zero points")));
    }
    let axis = match table.scalar(quantization::QUANTIZED_DIMENSION, 0_i32)? {
        // Converters of 2020 gave the biases of a depthwise convolution its filter's axis: a vector has one.
        foreign if foreign > 0 && shape.len() == 1 => 0,
        own => own,
    };
    let extent = usize::try_from(axis).ok().and_then(|axis| shape.get(axis));
    // A scalar has no axis, but may have a scale.
    if extent.is_none() && (axis != 0 || !shape.is_empty()) {
        let problem = format!("quantized along axis {axis} of shape {shape:?}");
        return Err(error(problem));
    }
    if scales.len() != 1 && Some(&scales.len()) != extent {
        let scales = scales.len();
        let problem = format!("{scales} scales along axis {axis} of shape {shape:?}");
        return Err(error(problem));
    }
    if let Some((i, scale)) = (scales.iter().enumerate()).find(|(_, s)| !(s.is_finite() && **s > 0.0)) {
        let problem = format!("scale {i} is {scale}, expected a positive number");
        return Err(error(problem));
    }
    let range = match element {
        Element::I8 => i8::MIN.into()..=i8::MAX.into(),
        Element::U8 => 0..=u8::MAX.into(),
        _ => i64::MIN..=i64::MAX,
    };
    if let Some((i, point)) = (zero_points.iter().enumerate()).find(|(_, p)| !range.contains(p)) {
        let problem = format!("zero point {i} is {point}, out of range for {element:?}");
        return Err(error(problem));
    }
    Ok(Some(Quantization { scales, zero_points, axis: axis as usize }))
}

impl Source<'_> {
    fn tensors(&self, subgraph: &Table<'_>) -> Result<Vec<Tensor>, ReadError> {
        let tables = subgraph.tables(subgraph::TENSORS, "tensor")?;
        let tables = tables.iter().enumerate();
        tables.map(|(index, table)| read_tensor(self.file, &self.buffers, index, table)).collect()
    }

    fn operator(
        &self,
        tensors: &[Tensor],
        variables: &mut Variables,
        index: usize,
        table: &Table<'_>,
    ) -> Result<Operator, ReadError> {
        let owner = || format!("operator {index}");
        let number = table.scalar(operator::OPCODE_INDEX, 0_u32)?;
        let code = self.codes.get(number as usize).ok_or_else(|| ReadError::Index {
            owner: owner(),
            what: "operator code",
            index: number.into(),
            count: self.codes.len(),
        })?;
        // The code outgrew a byte; older converters fill the old field only, newer ones both.
        let deprecated = code.scalar(operator_code::DEPRECATED_BUILTIN_CODE, 0_i8)?;
        let builtin = code.scalar(operator_code::BUILTIN_CODE, 0_i32)?.max(deprecated.into());

        let inputs: Vec<i32> = table.scalars(operator::INPUTS)?;
        let inputs = inputs.iter().map(|&input| match input {
            -1 => Ok(None),
            input => self::index(input, tensors.len(), owner).map(Some),
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let outputs = indices(&table.scalars(operator::OUTPUTS)?, tensors.len(), owner)?;
        let options = table.table(operator::BUILTIN_OPTIONS, "operator options")?;
        match (builtin, &options, outputs.as_slice()) {
            (code::VAR_HANDLE, Some(options), &[handle]) => variables.declare(options, handle)?,
            (code::CALL_ONCE, Some(options), []) => variables.begin(self, options)?,
            _ => {}
        }
        let record = Record {
            index,
            code: builtin,
            custom: &code.string(operator_code::CUSTOM_CODE)?,
            options_type: table.scalar(operator::BUILTIN_OPTIONS_TYPE, 0)?,
            options,
            inputs: &inputs,
            outputs: &outputs,
            tensors,
            variables,
        };
        let (name, kind) = (record.name(), record.kind()?);
        Ok(Operator { name, kind, inputs, outputs })
    }
}

fn indices(values: &[i32], count: usize, owner: impl Fn() -> String) -> Result<Vec<usize>, ReadError> {
    values.iter().map(|&value| index(value, count, &owner)).collect()
}

fn index(value: i32, count: usize, owner: impl Fn() -> String) -> Result<usize, ReadError> {
    let index = usize::try_from(value).ok().filter(|&index| index < count);
    index.ok_or_else(|| ReadError::Index { owner: owner(), what: "tensor", index: value.into(), count })
}

/// A name from the file, fit for a line of a terminal: converters string whole layers together.
pub(crate) fn printable(name: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}
