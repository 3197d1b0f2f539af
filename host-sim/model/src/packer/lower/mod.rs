//! Lowers a graph to the runtime's operators: geometry, multipliers and clamps as TensorFlow Lite prepares them.

mod borders;
mod extreme;
mod movement;
mod pairwise;
mod rearranged;
#[cfg(test)]
mod tests;
mod transposed;
mod variables;
mod weighted;

use super::network::{Activations, Network, Step, Variable};
use super::tables::{self, Side};
use super::{PackerError, Problem};
use crate::graph::{Activation, Element, Graph, Kind, Operator, Tensor, Unary};
use crate::tflite::printable;
use flatmin::internals::op::Mean;
use flatmin::internals::pack::Function;
use flatmin::internals::pack::format::operator as code;
use flatmin::{Affine, internals::Multiplier};

/// What is wrong with an operator: what was expected and what was found.
type Fault = String;

/// Lowers `graph`.
///
/// # Errors
/// See [`PackerError`]; every operator that cannot be lowered is in one list.
pub fn lower(graph: &Graph) -> Result<Network, PackerError> {
    let mut lowering = Lowering {
        graph,
        tensors: Vec::new(),
        steps: Vec::new(),
        index_of: vec![None; graph.tensors.len()],
        variables: vec![None; graph.variables.len()],
    };
    let mut problems = Vec::new();
    let inputs = lowering.inputs();
    for (index, op) in graph.operators.iter().enumerate() {
        if let Err(what) = lowering.operator(index, op) {
            problems.push(Problem { index, name: op.name.clone(), what });
            // What reads its outputs is judged on its own.
            for &output in &op.outputs {
                let _ = lowering.define(output);
            }
        }
    }
    if !problems.is_empty() {
        return Err(PackerError::Unsupported(problems));
    }
    let outputs = lowering.outputs()?;
    let network = Network {
        tensors: lowering.tensors,
        steps: lowering.steps,
        inputs: inputs?,
        outputs,
        greedy_arena_bytes: 0,
        loss: None,
        spare_classes: 0,
        statistics: None,
        energies: std::collections::BTreeMap::new(),
        variables: lowering.variables.into_iter().flatten().collect(),
    };
    Ok(network.with_canonical_dense_borders().with_assignments_in_place().with_int8_probabilities())
}

impl Network {
    /// Dense operators and the output take the tensor that was written, not a reshaped view of it.
    fn with_canonical_dense_borders(mut self) -> Self {
        let writer = |tensors: &[Activations], steps: &[Step], index: usize| {
            let storage = tensors[index].storage;
            let written = steps.iter().map(|s| s.output).find(|&t| tensors[t].storage == storage);
            written.unwrap_or(index)
        };
        for i in 0..self.steps.len() {
            if self.steps[i].kind == code::FULLY_CONNECTED {
                self.steps[i].input = writer(&self.tensors, &self.steps, self.steps[i].input);
            }
        }
        for output in &mut self.outputs {
            output.tensor = writer(&self.tensors, &self.steps, output.tensor);
        }
        self
    }

    /// A QUANTIZE to uint8 after the probabilities, which converters put at the end, is taken off: it moves the zero point
    /// alone, which the border then does.
    fn with_int8_probabilities(mut self) -> Self {
        let ([.., head, last], [output]) = (self.steps.as_slice(), self.outputs.as_mut_slice()) else {
            return self;
        };
        let storage = |tensor: usize| self.tensors[tensor].storage;
        let moves =
            last.table.as_ref().is_some_and(|t| (0..=255_u8).all(|byte| t[usize::from(byte)] == byte ^ 0x80));
        let probabilities = head.kind == code::SOFTMAX || head.function == Some(Function::Logistic);
        let follows =
            storage(last.input) == storage(head.output) && storage(last.output) == storage(output.tensor);
        if moves && probabilities && follows && self.tensors[output.tensor].unsigned {
            output.tensor = head.output;
            self.steps.pop();
        }
        self
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    tensors: Vec<Activations>,
    steps: Vec<Step>,
    /// Graph tensor to [`Network::tensors`].
    index_of: Vec<Option<usize>>,
    /// The graph's variables, those that operators have read or written so far.
    variables: Vec<Option<Variable>>,
}

impl Lowering<'_> {
    /// An activation that an operator reads: computed before, or a constant.
    fn read(&mut self, op: &Operator, place: usize) -> Result<usize, Fault> {
        let index = self.graph_input(op, place)?;
        match self.index_of[index] {
            Some(known) => Ok(known),
            None if self.graph.tensors[index].data.is_some() => self.define(index),
            None if self.graph.inputs.contains(&index) => self.define(index),
            None => {
                // Where the tensor itself is at fault, that says more.
                self.define(index)?;
                Err(format!("reads tensor {index} before anything computes it"))
            }
        }
    }

    fn graph_input(&self, op: &Operator, place: usize) -> Result<usize, Fault> {
        op.inputs.get(place).copied().flatten().ok_or_else(|| format!("has no input {place}"))
    }

    /// A tensor that an operator writes.
    fn write(&mut self, op: &Operator, place: usize) -> Result<usize, Fault> {
        let index = *op.outputs.get(place).ok_or_else(|| format!("has no output {place}"))?;
        if self.index_of[index].is_some() {
            return Err(format!("writes tensor {index}, which is written already"));
        }
        if self.graph.tensors[index].data.is_some() {
            return Err(format!("writes tensor {index}, which is a constant"));
        }
        self.define(index)
    }

    /// The lowered form of a graph tensor.
    fn define(&mut self, index: usize) -> Result<usize, Fault> {
        if let Some(known) = self.index_of[index] {
            return Ok(known);
        }
        let tensor = &self.graph.tensors[index];
        let named = |what: String| Err(format!("tensor {index} `{}` {what}", printable(&tensor.name)));
        let unsigned = match tensor.element {
            Element::I8 => false,
            Element::U8 => true,
            Element::I16 => {
                return named(
                    "has int16 activations (16x8 quantization): flatmin runs int8 ones; convert with TFLITE_BUILTINS_INT8"
                        .into(),
                );
            }
            other => {
                return named(format!(
                    "is {other:?}, int8 is expected: export with full-integer quantization (host-sim/docs/tune.md, Your model)"
                ));
            }
        };
        let affine = match &tensor.quantization {
            // The reader keeps zero points within the element's range.
            Some(q) if q.scales.len() == 1 => {
                Affine { scale: q.scales[0], zero_point: q.zero_points[0] as i32 }
            }
            _ => return named("has no per-tensor quantization".into()),
        };
        let Some(shape) = four_axes(&tensor.shape) else {
            return named(format!(
                "has shape {:?}, at most 4 axes beside axes of 1 are expected",
                tensor.shape
            ));
        };
        let constant = tensor.data.as_ref().map(|data| data.iter().map(|b| b.cast_signed()).collect());
        let storage = self.tensors.len();
        self.tensors.push(Activations {
            name: tensor.name.clone(),
            shape,
            affine,
            storage,
            constant,
            unsigned,
        });
        self.index_of[index] = Some(storage);
        Ok(storage)
    }

    fn operator(&mut self, index: usize, op: &Operator) -> Result<(), Fault> {
        if let Kind::Unsupported(what) = &op.kind {
            return Err(refusal(what.strip_prefix(&op.name).unwrap_or(what).trim()));
        }
        if self.border_operator(op)? {
            return Ok(());
        }
        let start = |kind, input, output| Step::new(index, &op.name, kind, input, output);
        match &op.kind {
            Kind::Declaration => Ok(()),
            Kind::ReadVariable { variable } => self.read_variable(index, op, *variable),
            Kind::AssignVariable { variable } => self.assign_variable(index, op, *variable),
            Kind::Split { input, axis } => self.split(index, op, *input, *axis),
            Kind::Concatenation { axis } => self.concatenation(index, op, *axis),
            Kind::Pad { amounts, value } => self.pad(index, op, amounts, *value),
            Kind::Transpose { permutation } => self.transpose(index, op, permutation),
            Kind::Slice { begin, stride, extent } => self.slice(index, op, begin, stride, extent),
            Kind::TransposeConv2d(window, activation) => self.transposed(index, op, window, *activation),
            Kind::SpaceToDepth { block } => self.depth(index, op, *block, false),
            Kind::DepthToSpace { block } => self.depth(index, op, *block, true),
            Kind::Pack { axis } => self.pack(index, op, *axis),
            Kind::Unpack { axis } => self.unpack(index, op, *axis),
            Kind::Gather { axis, places } => self.gather(index, op, *axis, places),
            Kind::Tile { times } => self.tile(index, op, times),
            Kind::ReduceExtreme { axes, lowest } => self.reduce_extreme(index, op, axes, *lowest),
            Kind::Extreme { lowest } => self.extreme(index, op, *lowest),
            Kind::Binary(function, activation) => self.binary(index, op, *function, *activation),
            Kind::Prelu => self.prelu(index, op),
            Kind::Conv2d(..) | Kind::DepthwiseConv2d(..) | Kind::FullyConnected(_) => {
                self.weighted(index, op)
            }
            _ => {
                let input = self.read(op, 0)?;
                let output = self.write(op, 0)?;
                let (from, to) = (self.tensors[input].clone(), self.tensors[output].clone());
                let (source, target) = (side(&from), side(&to));
                let looked_up =
                    |table| Step { table: Some(Box::new(table)), ..start(code::LOOKUP, input, output) };
                let same_size = || match from.len() == to.len() {
                    true => Ok(()),
                    false => Err(format!("has {} elements in and {} out", from.len(), to.len())),
                };
                let step = match &op.kind {
                    Kind::Reshape => {
                        same_size()?;
                        if from.constant.is_some() {
                            return Err("reshapes a constant".into());
                        }
                        self.tensors[output].storage = from.storage;
                        return Ok(());
                    }
                    Kind::AveragePool2d(window, activation, filter)
                    | Kind::MaxPool2d(window, activation, filter) => {
                        let average = matches!(op.kind, Kind::AveragePool2d(..));
                        let kind = if average { code::AVERAGE_POOL_2D } else { code::MAX_POOL_2D };
                        Step {
                            window: weighted::geometry(window, *filter, &from, &to)?,
                            clamp: clamp(*activation, to.affine),
                            function: Some(function(*activation)),
                            ..start(kind, input, output)
                        }
                    }
                    Kind::Mean { axes } => self.mean(start(code::MEAN, input, output), op, axes)?,
                    Kind::Softmax(beta) => {
                        if to.affine != (Affine { scale: 1.0 / 256.0, zero_point: -128 })
                            || from.shape != to.shape
                        {
                            return Err("output scale 1/256 and zero point -128 are expected".into());
                        }
                        Step { beta: *beta, ..start(code::SOFTMAX, input, output) }
                    }
                    Kind::Unary(unary) => {
                        same_size()?;
                        let table = table(*unary, source, target)?;
                        let (function, beta) = meaning(*unary).unzip();
                        Step { function, beta: beta.unwrap_or(0.0), ..looked_up(table) }
                    }
                    Kind::Quantize => {
                        same_size()?;
                        looked_up(tables::requantize(source, target))
                    }
                    Kind::ResizeNearest { align_corners, half_pixel_centers } => {
                        let places = movement::nearest(&from, &to, *align_corners, *half_pixel_centers)?;
                        Step { parameters: places, ..start(code::RESIZE_NEAREST, input, output) }
                    }
                    Kind::ResizeBilinear { align_corners, half_pixel_centers } => {
                        let places = movement::bilinear(&from, &to, *align_corners, *half_pixel_centers)?;
                        let step = start(code::RESIZE_BILINEAR, input, output);
                        Step { parameters: places, function: None, ..step }
                    }
                    _ => return Err("is not supported here".into()),
                };
                self.steps.push(step);
                Ok(())
            }
        }
    }

    fn mean(&self, step: Step, op: &Operator, axes: &[usize]) -> Result<Step, Fault> {
        let rank = self.graph.tensors[self.graph_input(op, 0)?].shape.len();
        let (from, to) = (&self.tensors[step.input], &self.tensors[step.output]);
        let mut over = [false; 4];
        for &axis in axes {
            // Axes that fell away had an extent of 1.
            if let Some(place) = (axis + 4).checked_sub(rank) {
                over[place] = true;
            }
        }
        let count: usize = (0..4).filter(|&axis| over[axis]).map(|axis| from.shape[axis]).product();
        if to.len() * count != from.len() {
            return Err(format!("has {} outputs, {} are expected", to.len(), from.len() / count.max(1)));
        }
        let mean = Mean::new(from.affine.scale, to.affine.scale, count, over);
        Ok(Step { parameters: mean.words().to_vec(), ..step })
    }

    fn constant(&self, op: &Operator, input: usize) -> Result<&Tensor, Fault> {
        let index = op.inputs.get(input).copied().flatten();
        let tensor = index.map(|index| &self.graph.tensors[index]);
        tensor.filter(|t| t.data.is_some()).ok_or_else(|| format!("input {input} is not a constant"))
    }
}

/// What a reader said of an operator after its name: nothing, what it has that is unknown, or, after a colon, a reason.
fn refusal(detail: &str) -> Fault {
    match detail.split_once(": ") {
        None if detail.is_empty() => "is not supported".into(),
        None => format!("{detail} is not supported"),
        Some(("", reason)) => format!("not supported: {reason}"),
        Some((name, reason)) if name.starts_with('`') => format!("{name} is not supported: {reason}"),
        Some(_) => format!("not supported: {detail}"),
    }
}

/// What a function is in f32, and its parameter; `None` for functions that are not tuned.
fn meaning(unary: Unary) -> Option<(Function, f32)> {
    match unary {
        Unary::Logistic => Some((Function::Logistic, 0.0)),
        Unary::Tanh => Some((Function::Tanh, 0.0)),
        Unary::HardSwish => Some((Function::HardSwish, 0.0)),
        Unary::Clamp(activation) => Some((function(activation), 0.0)),
        Unary::LeakyRelu(alpha) => Some((Function::LeakyRelu, alpha)),
        Unary::Elu | Unary::Gelu { .. } | Unary::Exp | Unary::Log => None,
        Unary::Abs | Unary::Neg | Unary::Sqrt | Unary::Rsqrt => None,
    }
}

/// A fused activation in f32.
fn function(activation: Activation) -> Function {
    match activation {
        Activation::None => Function::Identity,
        Activation::Relu => Function::Relu,
        Activation::Relu6 => Function::Relu6,
        Activation::ReluN1To1 => Function::ReluN1To1,
    }
}

fn table(function: Unary, source: Side, target: Side) -> Result<tables::Table, Fault> {
    Ok(match function {
        Unary::Logistic => tables::logistic(source, target),
        Unary::Tanh => tables::tanh(source, target),
        Unary::HardSwish => {
            if source.affine.scale / 128.0 >= target.affine.scale {
                return Err("input scale is 128 times the output's or more".into());
            }
            tables::hard_swish(source, target)
        }
        Unary::Clamp(activation) => tables::clamped(source, target, clamp(activation, target.affine)),
        Unary::LeakyRelu(alpha) => tables::leaky_relu(source, target, alpha),
        Unary::Elu => tables::elu(source, target),
        Unary::Gelu { approximate } => tables::gelu(source, target, approximate),
        Unary::Exp => tables::exp(source, target),
        Unary::Log => tables::log(source, target),
        Unary::Abs => tables::abs(source, target),
        Unary::Neg => tables::neg(),
        Unary::Sqrt => tables::sqrt(source, target),
        Unary::Rsqrt => tables::rsqrt(source, target),
    })
}

fn side(tensor: &Activations) -> Side {
    Side { affine: tensor.affine, unsigned: tensor.unsigned }
}

/// A shape as NHWC: lower ranks are filled with ones in front, higher ones lose ones in front.
fn four_axes(shape: &[usize]) -> Option<[usize; 4]> {
    let surplus = shape.len().saturating_sub(4);
    let (front, rest) = shape.split_at(surplus);
    if front.iter().any(|&extent| extent != 1) {
        return None;
    }
    let mut axes = [1; 4];
    axes[4 - rest.len()..].copy_from_slice(rest);
    Some(axes)
}

/// Output range of a fused activation (TFLite's `CalculateActivationRangeQuantized`).
fn clamp(activation: Activation, affine: Affine) -> [i8; 2] {
    match activation {
        Activation::None => [-128, 127],
        Activation::Relu => [affine.quantize(0.0), 127],
        Activation::Relu6 => [affine.quantize(0.0), affine.quantize(6.0)],
        Activation::ReluN1To1 => [affine.quantize(-1.0), affine.quantize(1.0)],
    }
}

/// Mantissa and shift of a factor.
fn words(multiplier: Multiplier) -> [i32; 2] {
    [multiplier.mantissa, multiplier.shift]
}
