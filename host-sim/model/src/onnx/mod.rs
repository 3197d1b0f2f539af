//! Reads a network from ONNX, quantized by QuantizeLinear and DequantizeLinear around its operators (QDQ), as
//! ONNX Runtime's quantizer, PyTorch and tf2onnx write it, or by operators on integers (QOperator), as ONNX Runtime's
//! quantizer writes it when asked to.
//!
//! Reading is total: any bytes give a [`Network`] or a [`ReadError`], in time and memory proportional to their
//! number.
//!
//! # From float with marks to int8
//!
//! In such a file the operators are float32, and every activation passes a QuantizeLinear and a DequantizeLinear.
//! Here an operator between a DequantizeLinear and a QuantizeLinear becomes one int8 operator of the graph with the
//! scales and zero points of both; a Relu or Clip between becomes its fused activation where the graph has one.
//! uint8 activations become int8 by moving the zero point by 128, uint8 weights likewise. A bias is int32 in steps of
//! input scale times weight scale, whether the file has it as float32 or as integers. Borders that are float32 get
//! [`Kind::Quantize`] and [`Kind::Dequantize`].
//!
//! SOFTMAX has a quantization of its own, and pools whose padding does not count keep that of their input: a
//! [`Kind::Quantize`] to that of the file follows.
//!
//! # Layout
//!
//! ONNX has channels before height and width, the graph has them last. Activations, attributes and weights are
//! relabelled; a Transpose or Reshape in the file moves nothing as long as what follows can do with the order in which
//! the elements lie (a dense layer's columns are reordered to follow them). What cannot gets a [`Kind::Transpose`].
//! The network's own inputs and outputs may lie in another order than in the file, too: [`Border`] says which.
//!
//! # Differences from ONNX Runtime
//!
//! ONNX Runtime computes such files in float32 and rounds half to even, the int8 operators round as the TensorFlow Lite
//! specification says. From the same numbers an operator's result differs by at most one step of its quantization, a
//! softmax's as long as that step is above 1/512. In a network such steps pass on: a pooled feature that is off by one
//! moves a logit by its weight.

mod constant;
mod elementwise;
mod error;
mod fold;
mod layout;
mod linear;
mod message;
mod movement;
mod node;
mod nodes;
mod qoperator;
mod quantize;
mod resize;
mod settle;
mod shapes;
#[cfg(test)]
mod tests;
mod tidy;
mod value;
mod window;

pub use error::ReadError;

use crate::graph::{Element, Graph, Kind};
use bytes::Bytes;
use constant::{Constant, elements};
use flatmin::Affine;
use fold::{Budget, Folder};
use layout::{Layout, channels_last, permuted};
use message::data_type;
use node::Node;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use value::{Activation as Activations, Value};

/// How many times its own length a file may unfold to, the numbers of its constants counted with eight bytes.
const UNFOLD: usize = 40;

/// Inputs whose layout is chosen; the others lie as in the file.
const CHOSEN: usize = 4;

/// What a network's input or output is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Border {
    /// Its shape there; a batch that the file leaves open is 1.
    pub shape: Vec<usize>,
    /// Axis `i` of the graph's tensor is axis `order[i]` of the file's.
    pub order: Vec<usize>,
}

impl Border {
    /// Values of whole samples, one after another, from the file's order to the graph's.
    pub fn to_network<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let places = Layout::ordered(&self.shape, &self.order).places();
        values
            .chunks_exact(places.len())
            .flat_map(|sample| places.iter().map(|&place| sample[place]))
            .collect()
    }

    /// The way back.
    ///
    /// ```
    /// let border = flatmin_model::onnx::Border { shape: vec![1, 3, 1, 2], order: vec![0, 2, 3, 1] };
    /// let there = border.to_network(&[10, 11, 20, 21, 30, 31]);
    /// assert_eq!(there, [10, 20, 30, 11, 21, 31]);
    /// assert_eq!(border.to_file(&there), [10, 11, 20, 21, 30, 31]);
    /// ```
    pub fn to_file<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let places = Layout::ordered(&self.shape, &self.order).places();
        let mut arranged = values.to_vec();
        for (to, from) in arranged.chunks_exact_mut(places.len()).zip(values.chunks_exact(places.len())) {
            for (&place, &value) in places.iter().zip(from) {
                to[place] = value;
            }
        }
        arranged
    }
}

/// A network and how its borders lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The network, in the graph's layout.
    pub graph: Graph,
    /// For each of the graph's inputs.
    pub inputs: Vec<Border>,
    /// For each of the graph's outputs.
    pub outputs: Vec<Border>,
}

/// Reads a model.
///
/// What flatmin cannot compute is no error, but [`Kind::Unsupported`] with the node and the reason, all such nodes
/// of the file; nodes that depend on them are checked as far as the file declares shapes.
///
/// # Errors
///
/// When `bytes` are not a model, are damaged or contradict themselves; when the shape of an input is open but for
/// its batch.
pub fn read(bytes: &[u8]) -> Result<Network, ReadError> {
    let file = File::read(bytes)?;
    let mut lies_last = vec![false; file.inputs.len()];
    let mut best = file.fold(&lies_last)?;
    for input in 0..file.inputs.len().min(CHOSEN) {
        if !(3..=4).contains(&file.inputs[input].shape.len()) || moves(&best.graph) == 0 {
            continue;
        }
        lies_last[input] = true;
        let other = file.fold(&lies_last)?;
        if moves(&other.graph) < moves(&best.graph) {
            best = other;
        } else {
            lies_last[input] = false;
        }
    }
    Ok(best)
}

/// How many operators do nothing but move elements.
fn moves(graph: &Graph) -> usize {
    graph.operators.iter().filter(|operator| matches!(operator.kind, Kind::Transpose { .. })).count()
}

fn decode<T: prost::Message + Default>(bytes: Bytes, what: &'static str) -> Result<T, ReadError> {
    T::decode(bytes).map_err(|error| ReadError::Protobuf { what, problem: error.to_string() })
}

/// A name from the file, fit for a line of a terminal.
fn printable(name: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The beginning of a name, for tensors: many may be derived from one.
fn beginning(name: &str) -> &str {
    const LONGEST: usize = 256;
    name.char_indices().nth(LONGEST).map_or(name, |(end, _)| &name[..end])
}

/// An input or output as declared.
struct Declared {
    name: String,
    data_type: i32,
    shape: Vec<usize>,
}

/// A file, decoded.
struct File {
    version: i64,
    nodes: Vec<Node>,
    constants: Vec<(String, Rc<Constant>)>,
    inputs: Vec<Declared>,
    outputs: Vec<message::ValueInfo>,
    declared: HashMap<String, Vec<usize>>,
    budget: Budget,
}

impl File {
    fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let model: message::Model = decode(Bytes::copy_from_slice(bytes), "model")?;
        let graph = model.graph.ok_or(ReadError::Missing { what: "graph" })?;
        let graph: message::Graph = decode(graph, "graph")?;
        let mut version = None;
        for set in model.operator_sets {
            let set: message::OperatorSet = decode(set, "operator set")?;
            if ["", "ai.onnx"].contains(&set.domain.as_str()) {
                version = Some(set.version);
            }
        }
        let version = version.ok_or(ReadError::Missing { what: "version of the operator set" })?;

        let mut budget = Budget::new(bytes.len().saturating_mul(UNFOLD));
        let mut constants = Vec::new();
        for raw in graph.initializers {
            let tensor: message::Tensor = decode(raw, "initializer")?;
            let constant = Constant::read(&tensor, &tensor.name)?;
            budget.spend(8 * constant.shape.iter().product::<usize>())?;
            constants.push((tensor.name, Rc::new(constant)));
        }
        let mut nodes = Vec::new();
        for (index, raw) in graph.nodes.into_iter().enumerate() {
            nodes.push(Node::new(index, decode(raw, "node")?)?);
        }
        let nodes = qoperator::marked(nodes, &mut constants, &mut budget)?;
        let of =
            |words: &[&str]| nodes.iter().any(|own| words.iter().any(|word| own.operator.contains(word)));
        if !of(&["Quantize", "QLinear", "QGemm", "Integer"]) && of(&["Conv", "Gemm", "MatMul"]) {
            return Err(ReadError::Float);
        }
        let known: HashSet<&str> = constants.iter().map(|(name, _)| name.as_str()).collect();
        let mut inputs = Vec::new();
        for raw in graph.inputs {
            let info: message::ValueInfo = decode(raw, "input")?;
            // Old files list initializers among the inputs.
            if !known.contains(info.name.as_str()) {
                inputs.push(input(info)?);
            }
        }
        let mut declared = HashMap::new();
        let mut outputs = Vec::new();
        for raw in graph.outputs {
            let info: message::ValueInfo = decode(raw, "output")?;
            declared.extend(fixed_shape(&info).map(|shape| (info.name.clone(), shape)));
            outputs.push(info);
        }
        for raw in graph.value_infos {
            let info: message::ValueInfo = decode(raw, "value info")?;
            declared.extend(fixed_shape(&info).map(|shape| (info.name.clone(), shape)));
        }
        if outputs.is_empty() {
            return Err(ReadError::Missing { what: "output" });
        }
        Ok(Self { version, nodes, constants, inputs, outputs, declared, budget })
    }

    /// Folds it with some inputs lying with their channels last.
    fn fold(&self, lies_last: &[bool]) -> Result<Network, ReadError> {
        let mut folder = Folder::new(&self.nodes, self.version, &self.declared, self.budget);
        for (name, constant) in &self.constants {
            folder.values.insert(name, Value::Constant(constant.clone()));
        }
        let (mut inputs, mut borders) = (Vec::new(), Vec::new());
        for (declared, &last) in self.inputs.iter().zip(lies_last) {
            let rank = declared.shape.len();
            let order = if last { channels_last(rank) } else { (0..rank).collect() };
            inputs.push(folder.begin(declared, &order));
            borders.push(Border { shape: declared.shape.clone(), order });
        }
        for node in &self.nodes {
            folder.node(node)?;
        }
        let (mut outputs, mut ends) = (Vec::new(), Vec::new());
        for info in &self.outputs {
            let (tensor, border) = folder.end(info)?;
            outputs.push(tensor);
            ends.push(border);
        }
        let (tensors, operators) = (folder.tensors, folder.operators);
        let mut graph = Graph { tensors, operators, inputs, outputs, variables: Vec::new() };
        tidy::fuse_clamps(&mut graph);
        tidy::skip_requantization(&mut graph);
        tidy::restore_relu(&mut graph);
        Ok(Network { graph, inputs: borders, outputs: ends })
    }
}

fn input(info: message::ValueInfo) -> Result<Declared, ReadError> {
    let message::ValueInfo { name, value_type } = info;
    let error = |problem: String| ReadError::Tensor { tensor: printable(&name), problem };
    let tensor =
        value_type.and_then(|t| t.tensor).ok_or_else(|| error("an input that is no tensor".into()))?;
    if ![data_type::FLOAT, data_type::INT8, data_type::UINT8].contains(&tensor.data_type) {
        let found = data_type::name(tensor.data_type);
        return Err(error(format!("an input of {found}: FLOAT, INT8 and UINT8 are supported")));
    }
    let extents = tensor.shape.ok_or_else(|| error("an input without a shape".into()))?.extents;
    let mut shape = Vec::new();
    for (axis, extent) in extents.into_iter().enumerate() {
        shape.push(match extent.value.map(usize::try_from) {
            Some(Ok(fixed)) if fixed > 0 => fixed,
            _ if axis == 0 => 1,
            _ => {
                let open = printable(&extent.parameter);
                return Err(error(format!(
                    "extent `{open}` of axis {axis} is open: export with fixed extents"
                )));
            }
        });
    }
    elements(&shape).map_err(error)?;
    Ok(Declared { name, data_type: tensor.data_type, shape })
}

/// The declared shape, if it is open in its batch alone.
fn fixed_shape(info: &message::ValueInfo) -> Option<Vec<usize>> {
    let extents = &info.value_type.as_ref()?.tensor.as_ref()?.shape.as_ref()?.extents;
    let extent = |(axis, extent): (usize, &message::Extent)| {
        let fixed = extent.value.and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0);
        fixed.or((axis == 0).then_some(1))
    };
    let shape = extents.iter().enumerate().map(extent).collect::<Option<Vec<_>>>()?;
    elements(&shape).is_ok().then_some(shape)
}

impl<'a> Folder<'a> {
    /// Adds an input that lies in `order`; uint8 becomes int8 at once.
    fn begin(&mut self, declared: &'a Declared, order: &[usize]) -> usize {
        let physical = permuted(&declared.shape, order);
        let real = declared.data_type == data_type::FLOAT;
        let affine = if real { None } else { self.affine_ahead(&declared.name) };
        let element = match declared.data_type {
            data_type::FLOAT => Element::F32,
            data_type::UINT8 => Element::U8,
            _ => Element::I8,
        };
        let moved = |affine: Affine| Affine { zero_point: affine.zero_point + 128, ..affine };
        let own = if element == Element::U8 { affine.map(moved) } else { affine };
        let input = self.tensor(&declared.name, element, &physical, own);
        let mut tensor = input;
        if let (Element::U8, Some(affine)) = (element, affine) {
            tensor = self.tensor(&format!("{} int8", declared.name), Element::I8, &physical, Some(affine));
            self.border_operator("QuantizeLinear", Kind::Quantize, input, tensor);
        }
        let layout = Layout::ordered(&declared.shape, order);
        self.values.insert(&declared.name, Value::Activation(Activations { tensor, layout, real }));
        input
    }

    fn border_operator(&mut self, name: &str, kind: Kind, input: usize, output: usize) {
        let operator = crate::graph::Operator {
            name: name.into(),
            kind,
            inputs: vec![Some(input)],
            outputs: vec![output],
        };
        self.operators.push(operator);
    }

    /// The tensor of an output, and how it lies.
    fn end(&mut self, info: &message::ValueInfo) -> Result<(usize, Border), ReadError> {
        let error =
            |problem: &str| ReadError::Tensor { tensor: printable(&info.name), problem: problem.into() };
        let activation = match self.values.get(info.name.as_str()).cloned() {
            None => return Err(error("is an output of the network, but nothing computes it")),
            Some(Value::Constant(_) | Value::Weights(_)) => {
                return Err(error("is an output of the network, but a constant"));
            }
            Some(Value::Activation(activation)) => activation,
            Some(Value::Pending(pending)) => match self.natural(&pending) {
                Some(affine) => match self.settle(&pending, affine, None) {
                    Ok(activation) => activation,
                    Err(node::Refusal::Error(error)) => return Err(error),
                    Err(_) => return Err(error("is an output of the network that is not supported")),
                },
                None => {
                    let node = &self.nodes[pending.node];
                    let reason =
                        "its result leaves the network, but no QuantizeLinear says how to quantize it";
                    let reason = format!("{}: {reason}", node.title());
                    let tensor = self.tensor(&info.name, Element::F32, &pending.shape, None);
                    self.emit(node, Kind::Unsupported(reason), &[], tensor);
                    Activations { tensor, layout: pending.layout.clone(), real: true }
                }
            },
            Some(Value::Unknown) => {
                let shape = self.declared.get(&info.name).cloned().unwrap_or_default();
                let tensor = self.tensor(&info.name, Element::F32, &shape, None);
                Activations { tensor, layout: Layout::plain(&shape), real: true }
            }
        };
        let (shape, mut order) = (activation.layout.shape(), activation.layout.axis_order());
        if !activation.layout.lies(&order) {
            order = (0..shape.len()).collect();
        }
        // Rows, columns and channels alike are in the file's order if that costs nothing.
        let plain: Vec<usize> = (0..shape.len()).collect();
        if activation.layout.lies(&plain) {
            order = plain;
        }
        let last = self.nodes.last();
        let physical = permuted(&shape, &order);
        let mut tensor = match last {
            Some(node) => self.arranged(node, &activation, &order, &physical),
            None => activation.tensor,
        };
        let unsigned = info.value_type.as_ref().and_then(|t| t.tensor.as_ref()).map(|t| t.data_type);
        let affine = self.affine(tensor);
        if activation.real && self.tensors[tensor].element == Element::I8 {
            let output = self.tensor(&info.name, Element::F32, &physical, None);
            self.border_operator("DequantizeLinear", Kind::Dequantize, tensor, output);
            tensor = output;
        } else if let (Some(data_type::UINT8), false, Some(affine)) = (unsigned, activation.real, affine) {
            let affine = Affine { zero_point: affine.zero_point + 128, ..affine };
            let output = self.tensor(&info.name, Element::U8, &physical, Some(affine));
            self.border_operator("QuantizeLinear", Kind::Quantize, tensor, output);
            tensor = output;
        }
        Ok((tensor, Border { shape, order }))
    }
}
