//! Operators on integers (QOperator): each becomes the operator on real numbers with a DequantizeLinear before each of its
//! inputs and a QuantizeLinear after it, which is what the specification says that it computes. The rest of the reader
//! knows one format.
//!
//! QLinearConv and QLinearMatMul are in the standard; the others are
//! [ONNX Runtime's](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).

use super::ReadError;
use super::constant::{Constant, Numbers};
use super::fold::Budget;
use super::message::Attribute;
use super::node::{Domain, Node};
use std::collections::HashMap;
use std::rc::Rc;

/// Named numbers of the file.
type Constants = Vec<(String, Rc<Constant>)>;

/// How a node on integers lists its inputs.
enum Form {
    /// Some activations, each with scale and zero point; then those of the result.
    Activations(usize),
    /// Scale and zero point of the result; then activations as above.
    Concatenation,
    /// An activation and weights, each with scale and zero point, a bias that may be left out, and scale and zero point of
    /// the result; the latter come last or in front of the bias.
    Product { weights_axis: i64, bias: usize, result: usize },
}

/// The operator on real numbers, and how its inputs are listed.
fn form(node: &Node) -> Result<Option<(&'static str, Form)>, ReadError> {
    let of_runtime = node.domain == Domain::Runtime;
    Ok(Some(match node.operator.as_str() {
        "QLinearConv" => ("Conv", Form::Product { weights_axis: 0, bias: 8, result: 6 }),
        "QLinearMatMul" => ("MatMul", Form::Product { weights_axis: 1, bias: 9, result: 6 }),
        "QGemm" if of_runtime => {
            let transposed = node.attributes()?.integer("transB", 0) != 0;
            ("Gemm", Form::Product { weights_axis: i64::from(!transposed), bias: 6, result: 7 })
        }
        "QLinearAdd" if of_runtime => ("Add", Form::Activations(2)),
        "QLinearMul" if of_runtime => ("Mul", Form::Activations(2)),
        "QLinearSigmoid" if of_runtime => ("Sigmoid", Form::Activations(1)),
        "QLinearLeakyRelu" if of_runtime => ("LeakyRelu", Form::Activations(1)),
        "QLinearSoftmax" if of_runtime => ("Softmax", Form::Activations(1)),
        "QLinearReduceMean" if of_runtime => ("ReduceMean", Form::Activations(1)),
        "QLinearAveragePool" if of_runtime => ("AveragePool", Form::Activations(1)),
        "QLinearGlobalAveragePool" if of_runtime => ("GlobalAveragePool", Form::Activations(1)),
        "QLinearConcat" if of_runtime => ("Concat", Form::Concatenation),
        _ => return Ok(None),
    }))
}

/// Marks operators on real numbers in the same network. Steps of biases, which such files do not have, are added
/// to the constants.
///
/// # Errors
/// When a node's attributes are damaged, or the file unfolds to too much.
pub(super) fn marked(
    nodes: Vec<Node>,
    constants: &mut Constants,
    budget: &mut Budget,
) -> Result<Vec<Node>, ReadError> {
    let mut steps = Constants::new();
    let known = constants.iter().map(|(name, constant)| (name.as_str(), constant));
    let known: HashMap<&str, &Rc<Constant>> = known.collect();
    let mut marked = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some((operator, form)) = form(&node)?.filter(|_| lies_channels_first(&node)) else {
            marked.push(node);
            continue;
        };
        let mut marks = Marks { node: &node, parts: Vec::new(), inputs: Vec::new() };
        let result = match form {
            Form::Activations(count) => {
                (0..count)
                    .for_each(|place| marks.dequantize([3 * place, 3 * place + 1, 3 * place + 2], None));
                3 * count
            }
            Form::Concatenation => {
                (2..node.inputs.len().saturating_sub(2))
                    .step_by(3)
                    .for_each(|place| marks.dequantize([place, place + 1, place + 2], None));
                0
            }
            Form::Product { weights_axis, bias, result } => {
                marks.dequantize([0, 1, 2], None);
                marks.dequantize([3, 4, 5], Some(weights_axis));
                if let Some(name) = node.input(bias) {
                    let name = name.to_owned();
                    let Some(step) = bias_step(&node, &known) else {
                        // Scales that are no constants are refused where the weights are read.
                        marked.push(node);
                        continue;
                    };
                    budget.spend(8 * step.shape.iter().product::<usize>())?;
                    let scale = marks.name("bias step");
                    steps.push((scale.clone(), Rc::new(step)));
                    marks.dequantize_named(vec![name, scale], Some(0));
                }
                result
            }
        };
        budget.spend(marks.parts.len() * size_of::<Node>())?;
        marked.extend(marks.finish(operator, result));
    }
    constants.extend(steps);
    for (index, node) in marked.iter_mut().enumerate() {
        node.index = index;
    }
    Ok(marked)
}

/// ONNX Runtime's own layout optimizer may have moved a pool's channels to the end, which the standard's pools do not know.
fn lies_channels_first(node: &Node) -> bool {
    node.attributes().is_ok_and(|own| own.integer("channels_last", 0) == 0)
}

/// Steps of an int32 bias: those of the activation times those of the weights.
fn bias_step(node: &Node, known: &HashMap<&str, &Rc<Constant>>) -> Option<Constant> {
    let scales = |input| known.get(node.input(input)?)?.floats();
    let (&[scale], weights) = (scales(1)?, scales(4)?) else { return None };
    let numbers: Vec<f32> = weights.iter().map(|own| scale * own).collect();
    Some(Constant { shape: vec![numbers.len()], numbers: Numbers::Floats(numbers) })
}

/// The nodes that stand for one.
struct Marks<'n> {
    node: &'n Node,
    parts: Vec<Node>,
    /// What the operator on real numbers reads.
    inputs: Vec<String>,
}

impl Marks<'_> {
    /// A name that no file has by accident.
    fn name(&self, what: &str) -> String {
        format!("{} \u{2190} {what}", self.node.output())
    }

    /// Reads the input at the first place with scale and zero point at the others.
    fn dequantize(&mut self, places: [usize; 3], axis: Option<i64>) {
        let names = places.map(|place| self.node.inputs.get(place).cloned().unwrap_or_default());
        self.dequantize_named(names.into(), axis);
    }

    fn dequantize_named(&mut self, names: Vec<String>, axis: Option<i64>) {
        let real = self.name(&format!("real {}", self.inputs.len()));
        let integer = |integer| Attribute { name: "axis".into(), integer, ..Attribute::default() };
        let attributes = axis.map(integer).into_iter().collect();
        self.parts.push(self.node.part("DequantizeLinear", names, real.clone(), attributes));
        self.inputs.push(real);
    }

    /// Adds the operator, and a QuantizeLinear with the node's inputs at `result` and the place after it, if there are any.
    fn finish(mut self, operator: &str, result: usize) -> Vec<Node> {
        let (node, output) = (self.node, self.node.output().to_owned());
        if node.input(result).is_none() {
            self.parts.push(node.real(operator, self.inputs, output));
            return self.parts;
        }
        let real = self.name("real");
        self.parts.push(node.real(operator, core::mem::take(&mut self.inputs), real.clone()));
        let scale = [result, result + 1].map(|place| node.inputs.get(place).cloned().unwrap_or_default());
        let inputs = core::iter::once(real).chain(scale).collect();
        self.parts.push(node.part("QuantizeLinear", inputs, output, Vec::new()));
        self.parts
    }
}
