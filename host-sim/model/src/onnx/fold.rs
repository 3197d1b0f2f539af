//! The graph while it grows: names, tensors, and bringing a tensor into the order that an operator wants.

use super::constant::{Constant, Weights, elements};
use super::node::{Node, Refusal, unsupported};
use super::value::{Activation, Value};
use super::{ReadError, printable};
use crate::graph::{Element, Kind, Operator, Quantization, Tensor};
use flatmin::Affine;
use std::collections::HashMap;
use std::rc::Rc;

/// Visited nodes at most when the file is searched for a quantization.
const SEARCH: usize = 64;

/// Numbers at most in what describes an operator: axes, paddings, sizes.
const LIST: usize = 1024;

/// A tensor, the shape that it is transposed in, the permutation, the shape then given.
type Arrangement = (usize, Vec<usize>, Vec<usize>, Vec<usize>);

/// The state of reading one file.
pub(super) struct Folder<'a> {
    pub nodes: &'a [Node],
    /// Version of the standard operator set.
    pub version: i64,
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub values: HashMap<&'a str, Value>,
    /// Shapes that the file declares for results.
    pub declared: &'a HashMap<String, Vec<usize>>,
    consumers: HashMap<&'a str, Vec<usize>>,
    /// Tensors that were brought into another order.
    arranged: HashMap<Arrangement, usize>,
    /// Pending operators that were emitted: name of the result, scale's bits, zero point.
    pub settled: HashMap<(String, u32, i32), Activation>,
    /// Tensors in another quantization: tensor, scale's bits, zero point.
    pub requantizations: HashMap<(usize, u32, i32), usize>,
    budget: Budget,
}

/// What constants may still take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    limit: usize,
    left: usize,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self { limit, left: limit }
    }

    /// Takes `bytes` from it.
    pub fn spend(&mut self, bytes: usize) -> Result<(), ReadError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(ReadError::Unfolds { limit: self.limit })?;
        Ok(())
    }
}

impl<'a> Folder<'a> {
    pub fn new(
        nodes: &'a [Node],
        version: i64,
        declared: &'a HashMap<String, Vec<usize>>,
        budget: Budget,
    ) -> Self {
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        for node in nodes {
            for name in &node.inputs {
                consumers.entry(name).or_default().push(node.index);
            }
        }
        Self {
            nodes,
            version,
            tensors: Vec::new(),
            operators: Vec::new(),
            values: HashMap::new(),
            declared,
            consumers,
            arranged: HashMap::new(),
            settled: HashMap::new(),
            requantizations: HashMap::new(),
            budget,
        }
    }

    pub fn spend(&mut self, bytes: usize) -> Result<(), ReadError> {
        self.budget.spend(bytes)
    }

    /// Adds an activation.
    pub fn tensor(&mut self, name: &str, element: Element, shape: &[usize], affine: Option<Affine>) -> usize {
        let quantization = affine.map(|affine| Quantization {
            scales: vec![affine.scale],
            zero_points: vec![affine.zero_point.into()],
            axis: 0,
        });
        self.tensors.push(Tensor {
            name: super::beginning(name).into(),
            element,
            shape: shape.into(),
            quantization,
            data: None,
        });
        self.tensors.len() - 1
    }

    /// Adds int8 numbers.
    pub fn int8s(
        &mut self,
        name: &str,
        shape: &[usize],
        numbers: impl Iterator<Item = i32>,
        quantization: Quantization,
    ) -> Result<usize, ReadError> {
        let data: Vec<u8> = numbers.map(|q| (q.clamp(-128, 127) as i8).cast_unsigned()).collect();
        self.spend(data.len())?;
        let (name, shape) = (super::beginning(name).into(), shape.into());
        let (element, quantization, data) = (Element::I8, Some(quantization), Some(data));
        self.tensors.push(Tensor { name, element, shape, quantization, data });
        Ok(self.tensors.len() - 1)
    }

    /// Adds an operator of one output.
    pub fn emit(&mut self, node: &Node, kind: Kind, inputs: &[usize], output: usize) {
        let inputs = inputs.iter().map(|&input| Some(input)).collect();
        self.operators.push(Operator { name: node.operator.clone(), kind, inputs, outputs: vec![output] });
    }

    /// Scale and zero point of a tensor.
    pub fn affine(&self, tensor: usize) -> Option<Affine> {
        let quantization = self.tensors[tensor].quantization.as_ref()?;
        match (quantization.scales.as_slice(), quantization.zero_points.as_slice()) {
            (&[scale], &[zero_point]) => {
                Some(Affine { scale, zero_point: i32::try_from(zero_point).unwrap_or(i32::MAX) })
            }
            _ => None,
        }
    }

    /// The shape, if it is one that a tensor can have.
    pub fn sized(&self, node: &Node, shape: Vec<usize>) -> Result<Vec<usize>, Refusal> {
        match elements(&shape) {
            Ok(_) => Ok(shape),
            Err(problem) => node.error(format!("its result: {problem}")),
        }
    }

    /// The graph's tensor whose axis `i` is axis `order[i]` of the activation, in `shape`, which has the same
    /// extents but for axes of 1; moves elements only if they lie otherwise.
    pub fn arranged(&mut self, node: &Node, x: &Activation, order: &[usize], shape: &[usize]) -> usize {
        if x.layout.lies(order) {
            return self.reshaped(node, x.tensor, shape);
        }
        let direct = x.layout.permutation(order, &self.tensors[x.tensor].shape, shape);
        let (between, permutation) = match direct {
            Some(permutation) => (self.tensors[x.tensor].shape.clone(), permutation),
            None => x.layout.movement(order),
        };
        let key = (x.tensor, between.clone(), permutation.clone(), shape.to_vec());
        if let Some(&known) = self.arranged.get(&key) {
            return known;
        }
        let from = self.reshaped(node, x.tensor, &between);
        let moved_shape = super::layout::permuted(&between, &permutation);
        let moved = self.like(from, &moved_shape, " arranged");
        self.emit(node, Kind::Transpose { permutation }, &[from], moved);
        let moved = self.reshaped(node, moved, shape);
        self.arranged.insert(key, moved);
        moved
    }

    /// The same elements in another shape.
    fn reshaped(&mut self, node: &Node, tensor: usize, shape: &[usize]) -> usize {
        if self.tensors[tensor].shape == shape {
            return tensor;
        }
        let key = (tensor, Vec::new(), Vec::new(), shape.to_vec());
        if let Some(&known) = self.arranged.get(&key) {
            return known;
        }
        let reshaped = self.like(tensor, shape, " reshaped");
        self.emit(node, Kind::Reshape, &[tensor], reshaped);
        self.arranged.insert(key, reshaped);
        reshaped
    }

    /// A new tensor with another's type and quantization.
    pub fn like(&mut self, tensor: usize, shape: &[usize], suffix: &str) -> usize {
        let model = &self.tensors[tensor];
        let (name, element) = (model.name.trim_end_matches(suffix).to_owned() + suffix, model.element);
        let affine = self.affine(tensor);
        self.tensor(&name, element, shape, affine)
    }

    /// What an input stands for; an omitted one is an error.
    pub fn value(&self, node: &Node, input: usize) -> Result<Value, Refusal> {
        let Some(name) = node.input(input) else {
            return node.error(format!("input {input} is missing"));
        };
        match self.values.get(name) {
            Some(Value::Unknown) => Err(Refusal::Unknown),
            Some(value) => Ok(value.clone()),
            None => node.error(format!("reads `{}`, which nothing computes before", printable(name))),
        }
    }

    /// Known numbers, `None` if the input is omitted.
    pub fn optional_constant(&self, node: &Node, input: usize) -> Result<Option<Rc<Constant>>, Refusal> {
        if node.input(input).is_none() {
            return Ok(None);
        }
        match self.value(node, input)? {
            Value::Constant(constant) => Ok(Some(constant)),
            Value::Weights(weights) if weights.numbers.len() <= LIST => {
                let numbers = super::constant::Numbers::Floats(weights.real());
                Ok(Some(Rc::new(Constant { shape: weights.shape.clone(), numbers })))
            }
            _ => unsupported(format!("its input {input} is not a constant")),
        }
    }

    /// Integers that a node's inputs or, in older operator sets, its attributes give.
    pub fn integers(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(constant) = self.optional_constant(node, input)? else { return Ok(None) };
        match constant.integers() {
            Some(values) if values.len() > LIST => {
                node.error(format!("input {input} has {} numbers, {LIST} at most are expected", values.len()))
            }
            Some(values) => Ok(Some(values.to_vec())),
            None => node.error(format!("input {input} is {}, integers are expected", constant.type_name())),
        }
    }

    /// An activation that is int8 in the graph and real numbers in the file.
    pub fn quantized(&mut self, node: &Node, input: usize) -> Result<Activation, Refusal> {
        let x = self.moved(node, input)?;
        if !x.real {
            return node.error(format!("input {input} is integers: a DequantizeLinear is missing before it"));
        }
        if self.tensors[x.tensor].element != Element::I8 {
            let name = printable(&self.tensors[x.tensor].name);
            return unsupported(format!("its input `{name}` is float32, not quantized"));
        }
        Ok(x)
    }

    /// An activation of any type, for operators that only move elements.
    pub fn moved(&mut self, node: &Node, input: usize) -> Result<Activation, Refusal> {
        match self.value(node, input)? {
            Value::Activation(activation) => Ok(activation),
            Value::Pending(pending) => {
                let ahead = self.affine_ahead(&pending.name);
                match ahead.or_else(|| self.natural(&pending)) {
                    Some(affine) => Ok(self.settle(&pending, affine, None)?),
                    None => {
                        let from = self.nodes[pending.node].title();
                        unsupported(format!("the result of {from} is not quantized before it"))
                    }
                }
            }
            _ => unsupported(format!("its input {input} is a constant")),
        }
    }

    /// Weights of 8 bits whose zero point is 0.
    pub fn weights(&self, node: &Node, input: usize) -> Result<Rc<Weights>, Refusal> {
        match self.value(node, input)? {
            Value::Weights(weights) => {
                let name = printable(&weights.name);
                if !weights.eight_bits {
                    return unsupported(format!("its weights `{name}` are not of 8 bits"));
                }
                match weights.zero_points.iter().find(|&&z| z != 0) {
                    None => Ok(weights),
                    Some(z) => unsupported(format!(
                        "its weights `{name}` have a zero point {z} away from the middle: quantize weights \
                         symmetrically (zero point 0 for int8, 128 for uint8)"
                    )),
                }
            }
            Value::Constant(_) => unsupported("its weights are not quantized (no DequantizeLinear)"),
            _ => unsupported(format!("its input {input} is not a constant")),
        }
    }

    /// Scale and zero point of QuantizeLinear or DequantizeLinear, one for all; `None` if they are not known.
    pub fn parameters(&self, node: &Node) -> Option<Affine> {
        let constant = |input| match self.values.get(node.input(input)?)? {
            Value::Constant(constant) => Some(constant),
            _ => None,
        };
        let &[scale] = constant(1)?.floats()? else { return None };
        let zero_point = match node.input(2) {
            // Without a zero point the type is uint8.
            None if node.operator == "QuantizeLinear" => -128,
            None => 0,
            Some(_) => match (&constant(2)?.numbers, constant(2)?.integers()?) {
                (super::constant::Numbers::Integers(super::message::data_type::UINT8, _), &[z]) => z - 128,
                (_, &[z]) => z,
                _ => return None,
            },
        };
        let zero_point = i32::try_from(zero_point).ok().filter(|z| (-128..=127).contains(z))?;
        (scale.is_finite() && scale > 0.0).then_some(Affine { scale, zero_point })
    }

    /// How a value is quantized further on, through operators that keep the range.
    pub fn affine_ahead(&self, name: &str) -> Option<Affine> {
        let mut names = vec![name];
        for _ in 0..SEARCH {
            let name = names.pop()?;
            for &consumer in self.consumers.get(name).into_iter().flatten().take(SEARCH) {
                let node = &self.nodes[consumer];
                let first = node.input(0) == Some(name);
                match node.operator.as_str() {
                    "QuantizeLinear" | "DequantizeLinear" if first => return self.parameters(node),
                    "MaxPool" | "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze"
                    | "Identity" | "Dropout" | "Relu" | "Clip" | "Split" | "Slice" | "Resize" | "Pad"
                    | "GlobalMaxPool"
                        if first =>
                    {
                        names.push(node.output());
                    }
                    "Concat" => names.push(node.output()),
                    _ => {}
                }
            }
        }
        None
    }
}
