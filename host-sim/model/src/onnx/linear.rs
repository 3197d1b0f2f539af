//! Conv, Gemm, MatMul, and the Add of a bias behind them.

use super::constant::Weights;
use super::fold::Folder;
use super::layout::{Layout, channels_last};
use super::node::{Attributes, Node, Refusal, unsupported};
use super::value::{Activation, Bias, Geometry, Linear, Pending, Value, Work};
use super::window::{self, Image};
use crate::graph::{Padding, Quantization, Window};
use std::rc::Rc;

impl Folder<'_> {
    /// Conv of one or two spatial axes, any groups.
    pub fn convolution(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let x = self.quantized(node, 0)?;
        let weights = self.weights(node, 1)?;
        let shape = x.layout.shape();
        let image = Image::new(node, &shape)?;
        if weights.shape.len() != shape.len() {
            return node.error(format!("weights of shape {:?} on an input of {shape:?}", weights.shape));
        }
        let given = attributes.integers("kernel_shape");
        let kernel = &weights.shape[2..];
        if given.is_some_and(|given| !given.iter().copied().eq(kernel.iter().map(|&k| k as i64))) {
            return node.error(format!("kernel_shape is not that of weights of shape {:?}", weights.shape));
        }
        let window = window::spatial(node, attributes, &image, kernel)?;
        let (channels, outputs) = (image.channels, weights.shape[0]);
        let groups = usize::try_from(attributes.integer("group", 1)).unwrap_or(0);
        let whole = groups > 0 && channels.is_multiple_of(groups) && outputs.is_multiple_of(groups);
        if !whole || weights.shape[1] != channels / groups {
            let shape = &weights.shape;
            return node.error(format!("{groups} groups of {channels} channels, weights of shape {shape:?}"));
        }
        if weights.scales.len() > 1 && weights.axis != 0 {
            return unsupported(format!(
                "its weights have scales along axis {}, 0 is expected",
                weights.axis
            ));
        }
        let depthwise = groups == channels && groups > 1;
        let four = weights.reshaped([&weights.shape[..2], &window.filter].concat());
        let Some(four) = four else { return node.error("the weights' scales have no axis") };
        // O I H W to O H W I, or, I being 1, to 1 H W O.
        let order = if depthwise { [1, 2, 3, 0] } else { [0, 2, 3, 1] };
        self.spend(4 * weights.numbers.len())?;
        let filter = self.filter(&four.transposed(&order))?;
        let input = self.arranged(node, &x, &channels_last(shape.len()), &image.shape());
        let geometry = match depthwise {
            true => Geometry::Depthwise(window.window, outputs / channels),
            false => Geometry::Convolution(window.window),
        };
        let bias = self.given_bias(node, outputs, 1)?;
        let linear = Linear { input, filter, geometry, bias, channels: outputs, channel_axis: 1 };
        let result = self.sized(node, image.result(outputs, window.output))?;
        let layout = Layout::ordered(&result, &channels_last(result.len()));
        let shape = vec![1, window.output[0], window.output[1], outputs];
        Ok(Value::Pending(Rc::new(Pending::new(node, Work::Linear(linear), layout, shape))))
    }

    /// Gemm: a dense layer whose weights may be transposed.
    pub fn gemm(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let factors = [attributes.float("alpha", 1.0), attributes.float("beta", 1.0)];
        if factors != [1.0, 1.0] || attributes.integer("transA", 0) != 0 {
            return unsupported(format!(
                "alpha, beta {factors:?}, transA {}: 1, 1 and 0 are expected",
                attributes.integer("transA", 0)
            ));
        }
        let x = self.quantized(node, 0)?;
        let weights = self.weights(node, 1)?;
        if weights.shape.len() != 2 || x.layout.rank() != 2 {
            return node.error(format!(
                "{:?} times {:?}, matrices are expected",
                x.layout.shape(),
                weights.shape
            ));
        }
        let rows = attributes.integer("transB", 0) != 0;
        let bias = |folder: &Self, outputs| folder.given_bias(node, outputs, 2);
        self.dense(node, &x, &weights, rows, bias)
    }

    /// MatMul by constant weights.
    pub fn matrix_product(&mut self, node: &Node) -> Result<Value, Refusal> {
        if let (Value::Activation(_) | Value::Pending(_), Value::Activation(_) | Value::Pending(_)) =
            (self.value(node, 0)?, self.value(node, 1)?)
        {
            return unsupported("a product of two activations");
        }
        let x = self.quantized(node, 0)?;
        let weights = self.weights(node, 1)?;
        if weights.shape.len() != 2 {
            return unsupported(format!("weights of shape {:?}, two axes are expected", weights.shape));
        }
        self.dense(node, &x, &weights, false, |_, _| Ok(None))
    }

    /// Rows of weights are outputs if `rows`, columns otherwise.
    fn dense(
        &mut self,
        node: &Node,
        x: &Activation,
        weights: &Weights,
        rows: bool,
        bias: impl Fn(&Self, usize) -> Result<Option<Bias>, Refusal>,
    ) -> Result<Value, Refusal> {
        self.spend(8 * weights.numbers.len())?;
        let weights = if rows { weights.clone() } else { weights.transposed(&[1, 0]) };
        let [outputs, depth] = [weights.shape[0], weights.shape[1]];
        let shape = x.layout.shape();
        let Some((&last, front)) = shape.split_last() else {
            return node.error("the input has no axes");
        };
        if last != depth {
            return node.error(format!("input of shape {shape:?}, weights for {depth} values"));
        }
        if weights.scales.len() > 1 && weights.axis != 0 {
            return unsupported("its weights have a scale an input, one an output is expected");
        }
        let result = self.sized(node, [front, &[outputs]].concat())?;
        let bias = bias(self, outputs)?;
        let count: usize = front.iter().product();
        let channel_axis = front.len();
        let (input, filter, geometry, graph_shape);
        if count == 1 {
            // The values lie as they lie: the columns follow them.
            let places = x.layout.places();
            let rows = weights.numbers.chunks(depth);
            let numbers = rows.flat_map(|row| places.iter().map(|&place| row[place])).collect();
            filter = self.filter(&Weights { numbers, ..weights })?;
            let lying = Activation { layout: x.layout.as_lying(), ..x.clone() };
            input = self.arranged(node, &lying, &[0, 1], &[1, depth]);
            geometry = Geometry::Dense;
            graph_shape = vec![1, outputs];
        } else {
            // Several rows are the pixels of a line.
            let window = Window { padding: Padding::Valid, stride: [1, 1], dilation: [1, 1] };
            let pixels = weights.reshaped(vec![outputs, 1, 1, depth]);
            let Some(pixels) = pixels else { return node.error("the weights' scales have no axis") };
            filter = self.filter(&pixels)?;
            let order: Vec<usize> = (0..shape.len()).collect();
            input = self.arranged(node, x, &order, &[1, 1, count, depth]);
            geometry = Geometry::Convolution(window);
            graph_shape = vec![1, 1, count, outputs];
        }
        let linear = Linear { input, filter, geometry, bias, channels: outputs, channel_axis };
        let layout = Layout::plain(&result);
        Ok(Value::Pending(Rc::new(Pending::new(node, Work::Linear(linear), layout, graph_shape))))
    }

    /// Adds the filter to the graph.
    fn filter(&mut self, weights: &Weights) -> Result<usize, Refusal> {
        let zero_points = vec![0; weights.scales.len()];
        let quantization = Quantization { scales: weights.scales.clone(), zero_points, axis: weights.axis };
        Ok(self.int8s(&weights.name, &weights.shape, weights.numbers.iter().copied(), quantization)?)
    }

    /// Input 2, if there is one: `axes` at most, the last being that of the channels.
    fn given_bias(&self, node: &Node, channels: usize, axes: usize) -> Result<Option<Bias>, Refusal> {
        if node.input(2).is_none() {
            return Ok(None);
        }
        let value = self.value(node, 2)?;
        match bias(&value, channels, axes, axes - 1)? {
            Some(bias) => Ok(Some(bias)),
            None => node.error(format!("the bias is not one number for each of {channels} channels")),
        }
    }

    /// Add behind a linear operator: `None` if it is not a bias.
    pub fn added_bias(
        &mut self,
        node: &Node,
        pending: &Pending,
        other: &Value,
    ) -> Result<Option<Value>, Refusal> {
        let Work::Linear(linear) = &pending.work else { return Ok(None) };
        if pending.clamp != super::value::OPEN {
            return Ok(None);
        }
        self.spend(pending.work.bytes())?;
        let added = bias(other, linear.channels, pending.layout.rank(), linear.channel_axis)?;
        let Some(added) = added else { return Ok(None) };
        let bias = match &linear.bias {
            None => added,
            Some(first) => {
                let real = |bias: &Bias| -> Vec<f64> {
                    bias.numbers.iter().zip(&bias.steps).map(|(number, step)| number * step).collect()
                };
                let numbers = real(first).iter().zip(real(&added)).map(|(a, b)| a + b).collect();
                Bias { numbers, steps: vec![1.0; linear.channels] }
            }
        };
        let work = Work::Linear(Linear { bias: Some(bias), ..linear.clone() });
        let (layout, shape) = (pending.layout.clone(), pending.shape.clone());
        let sum = Pending {
            node: pending.node,
            name: node.output().into(),
            work,
            layout,
            shape,
            clamp: pending.clamp,
        };
        Ok(Some(Value::Pending(Rc::new(sum))))
    }
}

/// A constant as one number a channel, where channels lie along `axis` of `rank` axes; a single number is one for
/// all. `None` if it varies along other axes.
fn bias(value: &Value, channels: usize, rank: usize, axis: usize) -> Result<Option<Bias>, Refusal> {
    let count = match value {
        Value::Constant(constant) => constant.shape.iter().product(),
        Value::Weights(weights) => weights.numbers.len(),
        _ => 0,
    };
    if count != 1 && count != channels {
        return Ok(None);
    }
    let (shape, numbers, steps) = match value {
        Value::Constant(constant) => {
            let Some(floats) = constant.floats() else { return Ok(None) };
            let numbers = floats.iter().map(|&x| f64::from(x)).collect();
            (&constant.shape, numbers, vec![1.0; floats.len()])
        }
        Value::Weights(weights) => {
            let (numbers, steps) = weights.steps();
            (&weights.shape, numbers, steps)
        }
        _ => return Ok(None),
    };
    if numbers.iter().any(|x| !x.is_finite()) {
        return unsupported("a bias that is not finite");
    }
    if numbers.len() == 1 && shape.len() <= rank {
        return Ok(Some(Bias { numbers: vec![numbers[0]; channels], steps: vec![steps[0]; channels] }));
    }
    // Aligned at the last axis, as broadcasting is.
    let Some(missing) = rank.checked_sub(shape.len()) else { return Ok(None) };
    let along = shape
        .iter()
        .enumerate()
        .all(|(i, &extent)| if i + missing == axis { extent == channels } else { extent == 1 });
    Ok((along && numbers.len() == channels).then_some(Bias { numbers, steps }))
}
