//! QuantizeLinear and DequantizeLinear.

use super::constant::{Constant, Numbers, Weights};
use super::fold::Folder;
use super::message::data_type;
use super::node::{Attributes, Node, Refusal, unsupported};
use super::printable;
use super::value::{Activation, Value};
use std::rc::Rc;

/// Scales, zero points and their axis.
struct Parameters {
    scales: Vec<f32>,
    zero_points: Vec<i64>,
    /// Of the zero points, in `TensorProto.DataType`; `None` if there are none.
    data_type: Option<i32>,
    axis: usize,
}

impl Folder<'_> {
    /// QuantizeLinear.
    pub fn quantize(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let (shape, real) = match self.value(node, 0)? {
            Value::Constant(constant) => match constant.floats() {
                Some(floats) => (constant.shape.clone(), floats.to_vec()),
                None => return node.error(format!("quantizes {}", constant.type_name())),
            },
            Value::Weights(weights) => (weights.shape.clone(), weights.real()),
            Value::Activation(x) => return self.quantize_activation(node, attributes, &x),
            Value::Pending(pending) => {
                let affine = self.one_affine(node, attributes)?;
                let settled = self.settle(&pending, affine, Some(node.output()))?;
                return Ok(Value::Activation(Activation { real: false, ..settled }));
            }
            Value::Unknown => return Err(Refusal::Unknown),
        };
        self.spend(8 * real.len())?;
        let parameters = self.all_parameters(node, attributes, &shape)?;
        let run: usize = shape.iter().skip(parameters.axis + 1).product();
        let kind = parameters.data_type.unwrap_or(data_type::UINT8);
        let range = match kind {
            data_type::INT8 => -128..=127,
            data_type::UINT8 => 0..=255,
            _ => return unsupported(format!("to {}: int8 and uint8 are supported", data_type::name(kind))),
        };
        let number = |(place, x): (usize, &f32)| {
            let slice = if parameters.scales.len() == 1 { 0 } else { place / run % parameters.scales.len() };
            let steps = (x / parameters.scales[slice]).round_ties_even() as i64;
            steps.saturating_add(parameters.zero_points[slice]).clamp(*range.start(), *range.end())
        };
        let numbers = Numbers::Integers(kind, real.iter().enumerate().map(number).collect());
        Ok(Value::Constant(Rc::new(Constant { shape, numbers })))
    }

    fn quantize_activation(
        &mut self,
        node: &Node,
        attributes: &Attributes<'_>,
        x: &Activation,
    ) -> Result<Value, Refusal> {
        if !x.real {
            return node.error("quantizes integers");
        }
        let affine = self.one_affine(node, attributes)?;
        if self.affine(x.tensor) == Some(affine) {
            return Ok(Value::Activation(Activation { real: false, ..x.clone() }));
        }
        let tensor = self.requantized(node, x.tensor, affine, node.output());
        Ok(Value::Activation(Activation { tensor, layout: x.layout.clone(), real: false }))
    }

    /// DequantizeLinear.
    pub fn dequantize(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        match self.value(node, 0)? {
            Value::Constant(constant) => self.dequantize_constant(node, attributes, &constant),
            Value::Activation(x) if !x.real => {
                let mut affine = self.one_affine(node, attributes)?;
                let own = self.affine(x.tensor);
                if let (None, Some(own)) = (node.input(2), own) {
                    // Without a zero point it is 0 in the type of the input, which may have been uint8.
                    affine.zero_point = if own.zero_point == -128 { -128 } else { affine.zero_point };
                }
                match own {
                    Some(own) if own != affine => unsupported(format!(
                        "{affine:?} where the QuantizeLinear before has {own:?}: both must be the same"
                    )),
                    Some(_) => Ok(Value::Activation(Activation { real: true, ..x })),
                    None => unsupported("integers that nothing quantizes"),
                }
            }
            Value::Activation(_) | Value::Pending(_) | Value::Weights(_) => node.error("dequantizes float32"),
            Value::Unknown => Err(Refusal::Unknown),
        }
    }

    fn dequantize_constant(
        &mut self,
        node: &Node,
        attributes: &Attributes<'_>,
        constant: &Constant,
    ) -> Result<Value, Refusal> {
        let name = super::beginning(node.input(0).unwrap_or_default()).to_owned();
        let (kind, values) = match &constant.numbers {
            Numbers::Integers(kind, values) => (*kind, values),
            Numbers::Floats(_) => return node.error("dequantizes float32"),
            Numbers::Other(kind) => {
                let (name, kind) = (printable(&name), data_type::name(*kind));
                return unsupported(format!("`{name}` is {kind}: int8, uint8 and int32 are supported"));
            }
        };
        if ![data_type::INT8, data_type::UINT8, data_type::INT32].contains(&kind) {
            return node.error(format!("dequantizes {}", data_type::name(kind)));
        }
        self.spend(4 * values.len())?;
        let parameters = self.all_parameters(node, attributes, &constant.shape)?;
        if parameters.data_type.is_some_and(|found| found != kind) {
            let found = parameters.data_type.map(data_type::name).unwrap_or_default();
            return node.error(format!("a zero point of {found} for {}", data_type::name(kind)));
        }
        let offset = if kind == data_type::UINT8 { 128 } else { 0 };
        let narrow = |value: &i64| i32::try_from(value - offset).ok();
        let numbers = values.iter().map(narrow).collect::<Option<Vec<_>>>();
        let zero_points = parameters.zero_points.iter().map(narrow).collect::<Option<Vec<_>>>();
        let (Some(numbers), Some(zero_points)) = (numbers, zero_points) else {
            return node.error("a number beyond 32 bits");
        };
        Ok(Value::Weights(Rc::new(Weights {
            shape: constant.shape.clone(),
            numbers,
            eight_bits: kind != data_type::INT32,
            scales: parameters.scales,
            zero_points,
            axis: parameters.axis,
            name,
        })))
    }

    /// Scale and zero point of an activation.
    fn one_affine(&self, node: &Node, attributes: &Attributes<'_>) -> Result<flatmin::Affine, Refusal> {
        if attributes.integer("block_size", 0) != 0 {
            return unsupported("blocks");
        }
        let default = attributes.integer("output_dtype", 0);
        let parameters = self.all_parameters(node, attributes, &[])?;
        let kind = parameters.data_type.map_or(default, i64::from);
        if ![0, data_type::INT8.into(), data_type::UINT8.into()].contains(&kind) {
            let kind = data_type::name(i32::try_from(kind).unwrap_or(0));
            return unsupported(format!("activations of {kind}: int8 and uint8 are supported"));
        }
        match self.parameters(node) {
            Some(affine) if parameters.data_type.is_none() && kind == i64::from(data_type::INT8) => {
                Ok(flatmin::Affine { zero_point: 0, ..affine })
            }
            Some(affine) => Ok(affine),
            None => node.error("a scale above 0 and a zero point within its type are expected"),
        }
    }

    /// Scales and zero points, one or as many as the axis of `shape` is long.
    fn all_parameters(
        &self,
        node: &Node,
        attributes: &Attributes<'_>,
        shape: &[usize],
    ) -> Result<Parameters, Refusal> {
        if attributes.integer("block_size", 0) != 0 {
            return unsupported("blocks");
        }
        let scale = match self.value(node, 1)? {
            Value::Constant(scale) => scale,
            _ => return unsupported("a scale that is not constant"),
        };
        let Some(scales) = scale.floats() else {
            return unsupported(format!("scales of {}", scale.type_name()));
        };
        if scales.len() != 1 && shape.is_empty() {
            return unsupported("an activation with several scales");
        }
        if let Some(scale) = scales.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            return node.error(format!("scale {scale}, expected a positive number"));
        }
        let (data_type, zero_points) = match node.input(2) {
            None => (None, vec![0; scales.len()]),
            Some(_) => match self.value(node, 2)? {
                Value::Constant(constant) => match &constant.numbers {
                    Numbers::Integers(_, values) if values.len() != scales.len() => {
                        return node.error(format!("{} scales, {} zero points", scales.len(), values.len()));
                    }
                    Numbers::Integers(kind, values) => (Some(*kind), values.clone()),
                    _ => {
                        let found = constant.type_name();
                        return unsupported(format!("zero points of {found}: int8 and uint8 are supported"));
                    }
                },
                _ => return unsupported("a zero point that is not constant"),
            },
        };
        let mut axis = 0;
        if scales.len() != 1 {
            axis = self.axis(node, attributes.integer("axis", 1), shape.len())?;
            if shape[axis] != scales.len() {
                return node.error(format!("{} scales along axis {axis} of shape {shape:?}", scales.len()));
            }
        }
        Ok(Parameters { scales: scales.to_vec(), zero_points, data_type, axis })
    }
}
