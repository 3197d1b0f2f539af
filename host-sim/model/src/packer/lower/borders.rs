//! The network's inputs and outputs. float32 borders, which converters put around an int8 network, are taken
//! off: the runtime's border is the int8 tensor behind QUANTIZE and in front of DEQUANTIZE.

use super::super::PackerError;
use super::super::network::Border;
use super::{Fault, Lowering};
use crate::graph::{Element, Kind, Operator};

impl Lowering<'_> {
    /// The inputs, each defined so that operators can read it.
    ///
    /// # Errors
    /// No input, or one that the runtime cannot take.
    pub(super) fn inputs(&mut self) -> Result<Vec<Border>, PackerError> {
        let graph = self.graph;
        let mut borders = Vec::new();
        for &index in &graph.inputs {
            let tensor = &graph.tensors[index];
            let quantize = graph
                .operators
                .iter()
                .position(|op| op.kind == Kind::Quantize && op.inputs.first() == Some(&Some(index)));
            let inside = match (tensor.element, quantize) {
                (Element::F32, Some(op)) => graph.operators[op].outputs[0],
                _ => index,
            };
            match self.define(inside) {
                Ok(lowered) => {
                    borders.push(Border::of(lowered, tensor));
                }
                Err(what) => return Err(PackerError::Border(what)),
            }
        }
        if borders.is_empty() {
            return Err(PackerError::Border("the network has no input".into()));
        }
        Ok(borders)
    }

    /// Takes QUANTIZE behind a float32 input and DEQUANTIZE in front of a float32 output off; false for any
    /// other operator.
    pub(super) fn border_operator(&mut self, op: &Operator) -> Result<bool, Fault> {
        let graph = self.graph;
        match op.kind {
            Kind::Quantize => {
                let input = self.graph_input(op, 0)?;
                if graph.tensors[input].element != Element::F32 {
                    return Ok(false);
                }
                if !graph.inputs.contains(&input) {
                    return Err("quantizes a float32 tensor inside of the network".into());
                }
                if self.index_of[op.outputs[0]].is_none() {
                    return Err("quantizes an input that is quantized in another way already".into());
                }
                Ok(true)
            }
            Kind::Dequantize => {
                let output = op.outputs[0];
                let read_again = graph.operators.iter().any(|other| other.inputs.contains(&Some(output)));
                if !graph.outputs.contains(&output) || read_again {
                    return Err("its float32 output is used inside of the network".into());
                }
                let input = self.read(op, 0)?;
                self.index_of[output] = Some(input);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn outputs(&self) -> Result<Vec<Border>, PackerError> {
        let graph = self.graph;
        let border = |&index: &usize| {
            let tensor = &graph.tensors[index];
            let Some(lowered) = self.index_of[index] else {
                let name = &tensor.name;
                return Err(PackerError::Border(format!(
                    "tensor {index} `{name}` is the network's output, but nothing computes it"
                )));
            };
            Ok(Border::of(lowered, tensor))
        };
        let outputs = graph.outputs.iter().map(border).collect::<Result<Vec<_>, _>>()?;
        if outputs.is_empty() {
            return Err(PackerError::Border("the network has no output".into()));
        }
        Ok(outputs)
    }
}
