//! Functions of one activation, of two, and clamps; Softmax and means, which work along axes.

use super::constant::{Constant, Numbers, rearranged};
use super::fold::Folder;
use super::layout::{Layout, permuted};
use super::node::{Attributes, Node, Refusal, unsupported};
use super::value::{OPEN, Pending, Value, Work};
use crate::graph::{Binary, Quantization, Unary};
use std::rc::Rc;

impl Folder<'_> {
    /// Relu and Clip: on a pending operator its clamp, otherwise one of their own.
    pub fn clip(&mut self, node: &Node, bounds: [f32; 2]) -> Result<Value, Refusal> {
        if bounds.iter().any(|bound| bound.is_nan()) {
            return node.error("a bound that is not a number");
        }
        let pending = match self.value(node, 0)? {
            Value::Pending(pending) => pending,
            _ => {
                let x = self.quantized(node, 0)?;
                let shape = self.tensors[x.tensor].shape.clone();
                Rc::new(Pending::new(node, Work::Same(x.tensor), x.layout, shape))
            }
        };
        self.spend(pending.work.bytes())?;
        let clipped = pending.clipped(node, bounds);
        clipped.map_or_else(
            || unsupported(format!("an empty range {bounds:?}")),
            |p| Ok(Value::Pending(Rc::new(p))),
        )
    }

    /// Bounds of Clip: inputs since version 11, attributes before.
    pub fn clip_bounds(&self, node: &Node, attributes: &Attributes<'_>) -> Result<[f32; 2], Refusal> {
        let mut bounds = [attributes.float("min", OPEN[0]), attributes.float("max", OPEN[1])];
        for (input, bound) in [1, 2].into_iter().zip(&mut bounds) {
            let Some(constant) = self.optional_constant(node, input)? else { continue };
            match constant.floats() {
                Some(&[value]) => *bound = value,
                _ => return node.error(format!("bound {input} is not one float32 number")),
            }
        }
        Ok(bounds)
    }

    /// A function of one activation.
    pub fn unary(&mut self, node: &Node, function: Unary) -> Result<Value, Refusal> {
        let x = self.quantized(node, 0)?;
        let shape = self.tensors[x.tensor].shape.clone();
        let work = Work::Unary(function, x.tensor);
        Ok(Value::Pending(Rc::new(Pending::new(node, work, x.layout, shape))))
    }

    /// HardSigmoid, of which a product with its own input may make a hard swish.
    pub fn hard_sigmoid(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let x = self.quantized(node, 0)?;
        let (alpha, beta) = (attributes.float("alpha", 0.2), attributes.float("beta", 0.5));
        if (alpha - 1.0 / 6.0).abs() > 1e-6 || beta != 0.5 {
            return unsupported(format!(
                "alpha {alpha}, beta {beta}: 1/6 and 1/2, those of a hard swish, are supported"
            ));
        }
        let shape = self.tensors[x.tensor].shape.clone();
        let work = Work::HardSigmoid(x.tensor);
        Ok(Value::Pending(Rc::new(Pending::new(node, work, x.layout, shape))))
    }

    /// The product of an activation and its own HardSigmoid.
    fn hard_swish(&mut self, node: &Node, factor: &Value, other: &Value) -> Option<Value> {
        let (Value::Pending(factor), Value::Activation(x)) = (factor, other) else { return None };
        let same = matches!(factor.work, Work::HardSigmoid(input) if input == x.tensor);
        if !same || !x.real || factor.layout != x.layout || factor.clamp != OPEN {
            return None;
        }
        let shape = self.tensors[x.tensor].shape.clone();
        let work = Work::Unary(Unary::HardSwish, x.tensor);
        Some(Value::Pending(Rc::new(Pending::new(node, work, x.layout.clone(), shape))))
    }

    /// Add, Sub, Mul and Div; shapes broadcast, and one side may be constant.
    pub fn binary(&mut self, node: &Node, function: Binary, reciprocal: bool) -> Result<Value, Refusal> {
        let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
        if function == Binary::Add {
            for (sum, other) in [(&a, &b), (&b, &a)] {
                if let Value::Pending(pending) = sum
                    && let Some(value) = self.added_bias(node, pending, other)?
                {
                    return Ok(value);
                }
            }
        }
        if function == Binary::Mul
            && let Some(value) = self.hard_swish(node, &a, &b).or_else(|| self.hard_swish(node, &b, &a))
        {
            return Ok(value);
        }
        let constant = |value: &Value| matches!(value, Value::Constant(_) | Value::Weights(_));
        if constant(&a) && constant(&b) {
            return unsupported("both inputs are constants");
        }
        if reciprocal && !constant(&b) {
            return unsupported("a quotient by an activation");
        }
        let sides = [0, 1].map(|input| match [&a, &b][input] {
            Value::Constant(_) | Value::Weights(_) => Ok(None),
            _ => self.quantized(node, input).map(Some),
        });
        let [left, right] = sides;
        let (left, right) = (left?, right?);
        let shape_of =
            |value: &Value, activation: &Option<super::value::Activation>| match (value, activation) {
                (_, Some(activation)) => activation.layout.shape(),
                (Value::Constant(constant), None) => constant.shape.clone(),
                (Value::Weights(weights), None) => weights.shape.clone(),
                _ => Vec::new(),
            };
        let shapes = [shape_of(&a, &left), shape_of(&b, &right)];
        let Some(shape) = broadcast(&shapes[0], &shapes[1]) else {
            return node.error(format!("shapes {:?} and {:?} do not broadcast", shapes[0], shapes[1]));
        };
        let shape = self.sized(node, shape)?;
        let rank = shape.len();
        let larger = [&left, &right].into_iter().flatten().max_by_key(|x| x.layout.len());
        let order = larger.map_or_else(Vec::new, |x| x.layout.extended(rank).axis_order());
        let mut inputs = [0; 2];
        for (side, (value, activation)) in [(&a, &left), (&b, &right)].into_iter().enumerate() {
            inputs[side] = match activation {
                Some(x) => {
                    let x = super::value::Activation { layout: x.layout.extended(rank), ..x.clone() };
                    let own = permuted(&x.layout.shape(), &order);
                    self.arranged(node, &x, &order, &own)
                }
                None => self.operand(node, value, &order, reciprocal && side == 1)?,
            };
        }
        let layout = Layout::ordered(&shape, &order);
        let graph_shape = permuted(&shape, &order);
        let work = Work::Binary(function, inputs);
        Ok(Value::Pending(Rc::new(Pending::new(node, work, layout, graph_shape))))
    }

    /// A constant as an int8 tensor of the graph with its axes in `order`: as the file quantizes it, or
    /// symmetrically if it is float32.
    fn operand(
        &mut self,
        node: &Node,
        value: &Value,
        order: &[usize],
        reciprocal: bool,
    ) -> Result<usize, Refusal> {
        let given = match value {
            Value::Weights(weights) => Some(weights),
            _ => None,
        };
        let (shape, name) = match value {
            Value::Constant(constant) => (constant.shape.clone(), node.title()),
            Value::Weights(weights) => (weights.shape.clone(), weights.name.clone()),
            _ => return node.error("an operand that is not a constant"),
        };
        let shape = [vec![1; order.len().saturating_sub(shape.len())], shape].concat();
        let physical = permuted(&shape, order);
        if let Some((weights, affine)) = given.and_then(|w| Some((w, w.affine()?))).filter(|_| !reciprocal) {
            let numbers = rearranged(&weights.numbers, &shape, order);
            let zero_points = vec![affine.zero_point.into()];
            let quantization = Quantization { scales: vec![affine.scale], zero_points, axis: 0 };
            return Ok(self.int8s(&name, &physical, numbers.into_iter(), quantization)?);
        }
        let mut real = match value {
            Value::Constant(constant) => match constant.floats() {
                Some(floats) => floats.to_vec(),
                None => return unsupported(format!("a constant of type {}", constant.type_name())),
            },
            Value::Weights(weights) => weights.real(),
            _ => Vec::new(),
        };
        if reciprocal {
            real.iter_mut().for_each(|x| *x = x.recip());
        }
        let largest = real.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        if real.iter().any(|x| !x.is_finite()) || !(largest / 127.0).is_finite() {
            return unsupported("a constant that is not finite");
        }
        let scale = if largest < f32::MIN_POSITIVE * 127.0 { 1.0 } else { largest / 127.0 };
        let numbers = rearranged(&real, &shape, order).into_iter().map(|x| (x / scale).round() as i32);
        let quantization = Quantization { scales: vec![scale], zero_points: vec![0], axis: 0 };
        Ok(self.int8s(&name, &physical, numbers, quantization)?)
    }

    /// PRelu with constant slopes.
    pub fn prelu(&mut self, node: &Node) -> Result<Value, Refusal> {
        let x = self.quantized(node, 0)?;
        let slope = self.value(node, 1)?;
        let shape = x.layout.shape();
        let slopes = match &slope {
            Value::Constant(constant) => &constant.shape,
            Value::Weights(weights) => &weights.shape,
            _ => return unsupported("its slopes are not constant"),
        };
        if broadcast(&shape, slopes).as_ref() != Some(&shape) {
            return node.error(format!("slopes of shape {slopes:?} on an input of {shape:?}"));
        }
        let order = x.layout.axis_order();
        let physical = permuted(&shape, &order);
        let input = self.arranged(node, &x, &order, &physical);
        let slopes = self.operand(node, &slope, &order, false)?;
        let layout = Layout::ordered(&shape, &order);
        let work = Work::Prelu([input, slopes]);
        Ok(Value::Pending(Rc::new(Pending::new(node, work, layout, physical))))
    }

    /// Softmax along one axis.
    pub fn softmax(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let x = self.quantized(node, 0)?;
        let shape = x.layout.shape();
        // ONNX Runtime's own softmax on integers says which version it means.
        let version = attributes.integer("opset", self.version);
        let default = if version < 13 { 1 } else { -1 };
        let axis = self.axis(node, attributes.integer("axis", default), shape.len())?;
        // Before version 13 all axes from this one on are one.
        if version < 13 && shape[axis + 1..].iter().any(|&extent| extent != 1) {
            return unsupported(format!("axes {axis} and behind of shape {shape:?} as one"));
        }
        let mut order = x.layout.axis_order();
        order.retain(|&other| other != axis);
        order.push(axis);
        let physical = permuted(&shape, &order);
        let input = self.arranged(node, &x, &order, &physical);
        let layout = Layout::ordered(&shape, &order);
        Ok(Value::Pending(Rc::new(Pending::new(node, Work::Softmax(input), layout, physical))))
    }

    /// ReduceMean.
    pub fn mean(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let x = self.quantized(node, 0)?;
        let shape = x.layout.shape();
        let axes = match self.integers(node, 1)? {
            Some(axes) => axes,
            None => attributes.integers("axes").unwrap_or_default().to_vec(),
        };
        if axes.is_empty() && attributes.integer("noop_with_empty_axes", 0) != 0 {
            return Ok(Value::Activation(x));
        }
        let mut reduced = vec![axes.is_empty(); shape.len()];
        for axis in axes {
            reduced[self.axis(node, axis, shape.len())?] = true;
        }
        let keeps = attributes.integer("keepdims", 1) != 0;
        let order = x.layout.axis_order();
        let physical = permuted(&shape, &order);
        let input = self.arranged(node, &x, &order, &physical);
        let axes = (0..order.len()).filter(|&place| reduced[order[place]]).collect();
        let kept: Vec<usize> =
            (0..shape.len()).map(|axis| if reduced[axis] { 1 } else { shape[axis] }).collect();
        let graph_shape = permuted(&kept, &order);
        let mut layout = Layout::ordered(&kept, &order);
        if !keeps {
            let left: Vec<usize> = (0..shape.len()).filter(|&axis| !reduced[axis]).collect();
            layout = layout.transposed(&left);
        }
        Ok(Value::Pending(Rc::new(Pending::new(node, Work::Mean { input, axes }, layout, graph_shape))))
    }

    /// An axis, counted from the back where negative.
    pub fn axis(&self, node: &Node, axis: i64, rank: usize) -> Result<usize, Refusal> {
        let from_front = if axis < 0 { axis.saturating_add_unsigned(rank as u64) } else { axis };
        match usize::try_from(from_front) {
            Ok(found) if found < rank => Ok(found),
            _ => node.error(format!("axis {axis} of a tensor of rank {rank}")),
        }
    }
}

/// The shape that two shapes broadcast to.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let pair = |axis| match (extent(a, axis), extent(b, axis)) {
        (1, other) | (other, 1) => Some(other),
        (one, other) => (one == other).then_some(one),
    };
    (0..rank).map(pair).collect()
}

/// Arithmetic of integer constants, as exporters leave it behind for shapes.
pub(super) fn integer_arithmetic(operator: &str, a: &Constant, b: &Constant) -> Option<Constant> {
    let (Numbers::Integers(kind, left), Numbers::Integers(_, right)) = (&a.numbers, &b.numbers) else {
        return None;
    };
    let function = match operator {
        "Add" => i64::checked_add,
        "Sub" => i64::checked_sub,
        "Mul" => i64::checked_mul,
        "Div" => i64::checked_div,
        _ => return None,
    };
    let shape = if left.len() >= right.len() { &a.shape } else { &b.shape };
    let count = left.len().max(right.len());
    if ![1, count].contains(&left.len()) || ![1, count].contains(&right.len()) || count == 0 {
        return None;
    }
    let pairs = (0..count).map(|i| function(left[i % left.len()], right[i % right.len()]));
    Some(Constant { shape: shape.clone(), numbers: Numbers::Integers(*kind, pairs.collect::<Option<_>>()?) })
}
