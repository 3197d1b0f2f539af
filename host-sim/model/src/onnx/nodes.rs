//! From a node to what its outputs stand for.

use super::fold::Folder;
use super::layout::Layout;
use super::node::{Attributes, Domain, Node, Refusal, unsupported};
use super::value::{Activation, OPEN, Value};
use super::{ReadError, printable};
use crate::graph::{Binary, Element, Kind, Operator, Unary};

impl<'a> Folder<'a> {
    /// Folds one node: its outputs stand for something afterwards.
    pub fn node(&mut self, node: &'a Node) -> Result<(), ReadError> {
        let attributes = node.attributes()?;
        let values = match self.constant(node, &attributes) {
            Ok(Some(value)) => Ok(vec![value]),
            Ok(None) => self.evaluate(node, &attributes),
            Err(refusal) => Err(refusal),
        };
        let values = match values {
            Ok(values) => values,
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Unknown) => Vec::new(),
            Err(Refusal::Unsupported(reason)) => self.refuse(node, &reason),
        };
        for (place, name) in node.outputs.iter().enumerate() {
            let value = values.get(place).cloned().unwrap_or(Value::Unknown);
            if !name.is_empty() && self.values.insert(name, value).is_some() {
                return Err(node.problem(format!("computes `{}`, which is there already", printable(name))));
            }
        }
        Ok(())
    }

    /// Adds the node as unsupported. Its outputs are float32 of the shapes that the file declares, so that what comes
    /// behind is checked as well.
    fn refuse(&mut self, node: &Node, reason: &str) -> Vec<Value> {
        let reason = if reason.is_empty() { node.title() } else { format!("{}: {reason}", node.title()) };
        let (mut outputs, mut values) = (Vec::new(), Vec::new());
        for name in &node.outputs {
            let declared = self.declared.get(name);
            let shape = declared.map_or(&[][..], Vec::as_slice);
            let tensor = self.tensor(name, Element::F32, shape, None);
            outputs.push(tensor);
            values.push(match declared {
                Some(shape) => {
                    Value::Activation(Activation { tensor, layout: Layout::plain(shape), real: true })
                }
                None => Value::Unknown,
            });
        }
        let input = |name: &String| match self.values.get(name.as_str()) {
            Some(Value::Activation(activation)) => Some(Some(activation.tensor)),
            _ => None,
        };
        let inputs = node.inputs.iter().filter_map(input).collect();
        let (name, kind) = (node.operator.clone(), Kind::Unsupported(reason));
        self.operators.push(Operator { name, kind, inputs, outputs });
        values
    }

    fn evaluate(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Vec<Value>, Refusal> {
        if node.operator.starts_with("QLinear") || node.operator == "QGemm" {
            return unsupported(
                "this operator on integers: quantize again with quant_format=QuantFormat.QDQ",
            );
        }
        if ["ConvInteger", "MatMulInteger"].contains(&&*node.operator) {
            return unsupported("quantized anew for every input: use static quantization");
        }
        if node.domain != Domain::Standard {
            return unsupported("not of the standard operator set");
        }
        let one = |value: Value| Ok(vec![value]);
        match node.operator.as_str() {
            "QuantizeLinear" => one(self.quantize(node, attributes)?),
            "DequantizeLinear" => one(self.dequantize(node, attributes)?),
            "Conv" => one(self.convolution(node, attributes)?),
            "Gemm" => one(self.gemm(node, attributes)?),
            "MatMul" => one(self.matrix_product(node)?),
            "MaxPool" => one(self.pool(node, attributes, false, false)?),
            "AveragePool" => one(self.pool(node, attributes, true, false)?),
            "GlobalMaxPool" => one(self.pool(node, attributes, false, true)?),
            "GlobalAveragePool" => one(self.pool(node, attributes, true, true)?),
            "ReduceMean" => one(self.mean(node, attributes)?),
            "Relu" => one(self.clip(node, [0.0, OPEN[1]])?),
            "Clip" => {
                let bounds = self.clip_bounds(node, attributes)?;
                one(self.clip(node, bounds)?)
            }
            "Add" => one(self.binary(node, Binary::Add, false)?),
            "Sub" => one(self.binary(node, Binary::Sub, false)?),
            "Mul" => one(self.binary(node, Binary::Mul, false)?),
            "Div" => one(self.binary(node, Binary::Mul, true)?),
            "Sigmoid" => one(self.unary(node, Unary::Logistic)?),
            "Tanh" => one(self.unary(node, Unary::Tanh)?),
            "HardSwish" => one(self.unary(node, Unary::HardSwish)?),
            "HardSigmoid" => one(self.hard_sigmoid(node, attributes)?),
            "LeakyRelu" => {
                let alpha = attributes.float("alpha", 0.01);
                if !alpha.is_finite() {
                    return node.error(format!("alpha {alpha}"));
                }
                one(self.unary(node, Unary::LeakyRelu(alpha))?)
            }
            "Elu" => match attributes.float("alpha", 1.0) {
                1.0 => one(self.unary(node, Unary::Elu)?),
                alpha => unsupported(format!("alpha {alpha}: 1 is supported")),
            },
            "Gelu" => match &*attributes.word("approximate", "none") {
                "none" => one(self.unary(node, Unary::Gelu { approximate: false })?),
                "tanh" => one(self.unary(node, Unary::Gelu { approximate: true })?),
                other => node.error(format!("approximate {other:?}")),
            },
            "Exp" => one(self.unary(node, Unary::Exp)?),
            "Log" => one(self.unary(node, Unary::Log)?),
            "Abs" => one(self.unary(node, Unary::Abs)?),
            "PRelu" => one(self.prelu(node)?),
            "Softmax" => one(self.softmax(node, attributes)?),
            "Concat" => one(self.concatenation(node, attributes)?),
            "Split" => self.split(node, attributes),
            "Slice" => one(self.slice(node, attributes)?),
            "Pad" => one(self.pad(node, attributes)?),
            "Transpose" => one(self.transpose(node, attributes)?),
            "Reshape" => one(self.reshape(node, attributes)?),
            "Flatten" => one(self.flatten(node, attributes)?),
            "Squeeze" => one(self.squeeze(node, attributes, false)?),
            "Unsqueeze" => one(self.squeeze(node, attributes, true)?),
            "Resize" | "Upsample" => one(self.resize(node, attributes)?),
            "Identity" | "Dropout" => one(self.value(node, 0)?),
            _ => unsupported(""),
        }
    }
}
