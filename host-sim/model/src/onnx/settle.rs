//! Pending operators become operators of the graph once the quantization of their result is known.

use super::fold::Folder;
use super::node::{Node, Refusal};
use super::value::{Activation, Bias, Geometry, Linear, OPEN, Pending, Work};
use crate::graph::{Activation as Clamp, Element, Kind, Padding, Quantization, Tensor, Unary, Window};
use flatmin::Affine;

/// What SOFTMAX writes, and what holds all of LOGISTIC's results, by the TensorFlow Lite specification.
const UNIT: Affine = Affine { scale: 1.0 / 256.0, zero_point: -128 };

/// What holds all of TANH's results, by the TensorFlow Lite specification.
const SIGNED_UNIT: Affine = Affine { scale: 1.0 / 128.0, zero_point: 0 };

/// The fused activation that clamps to `bounds` in int8.
fn clamp(bounds: [f32; 2], affine: Affine) -> Result<Clamp, String> {
    let [low, high] = bounds.map(|bound| affine.quantize(bound));
    let limits = |low: f32, high: f32| [affine.quantize(low), affine.quantize(high)];
    // What the file says comes before what the range makes of it: training tells Relu from none.
    let open = |bound: f32| limits(bound, f32::INFINITY);
    if [low, high] == open(0.0) && bounds[0] == 0.0 {
        Ok(Clamp::Relu)
    } else if bounds == [0.0, 6.0] {
        Ok(Clamp::Relu6)
    } else if [low, high] == [-128, 127] {
        Ok(Clamp::None)
    } else if [low, high] == open(0.0) {
        Ok(Clamp::Relu)
    } else if [low, high] == limits(0.0, 6.0) {
        Ok(Clamp::Relu6)
    } else if [low, high] == limits(-1.0, 1.0) {
        Ok(Clamp::ReluN1To1)
    } else {
        let [low, high] = bounds;
        Err(format!("its result is clipped to {low} .. {high}; 0 .. inf, 0 .. 6 and -1 .. 1 are supported"))
    }
}

impl Folder<'_> {
    /// The quantization that keeps a pending result's range without the file saying so.
    pub fn natural(&self, pending: &Pending) -> Option<Affine> {
        match &pending.work {
            Work::Softmax(_) | Work::Unary(Unary::Logistic, _) => Some(UNIT),
            Work::Unary(Unary::Tanh, _) => Some(SIGNED_UNIT),
            Work::Same(input) | Work::AveragePool { input, .. } | Work::Mean { input, .. } => {
                self.affine(*input)
            }
            Work::Unary(Unary::LeakyRelu(alpha), input) if (0.0..=1.0).contains(alpha) => self.affine(*input),
            Work::Concatenation { inputs, .. } => {
                let affine = self.affine(*inputs.first()?)?;
                inputs.iter().all(|&input| self.affine(input) == Some(affine)).then_some(affine)
            }
            _ => None,
        }
    }

    /// Emits a pending operator with its result quantized, named `name` or as in the file. What the graph has no
    /// kind for becomes [`Kind::Unsupported`] with a result all the same.
    pub fn settle(
        &mut self,
        pending: &Pending,
        affine: Affine,
        name: Option<&str>,
    ) -> Result<Activation, Refusal> {
        let node = &self.nodes[pending.node];
        let name = name.unwrap_or(&pending.name);
        let key = (pending.name.clone(), affine.scale.to_bits(), affine.zero_point);
        if let Some(known) = self.settled.get(&key) {
            return Ok(known.clone());
        }
        let result = self.compute(node, pending, affine, name);
        let tensor = match result {
            Err(Refusal::Unsupported(reason)) => {
                let output = self.tensor(name, Element::I8, &pending.shape, Some(affine));
                self.emit(node, Kind::Unsupported(format!("{}: {reason}", node.title())), &[], output);
                output
            }
            other => other?,
        };
        let settled = Activation { tensor, layout: pending.layout.clone(), real: true };
        self.settled.insert(key, settled.clone());
        Ok(settled)
    }

    fn compute(
        &mut self,
        node: &Node,
        pending: &Pending,
        affine: Affine,
        name: &str,
    ) -> Result<usize, Refusal> {
        let shape = &pending.shape;
        let activation = clamp(pending.clamp, affine).map_err(Refusal::Unsupported)?;
        let result = |folder: &mut Self, affine| folder.tensor(name, Element::I8, shape, Some(affine));
        // Where an operator writes a quantization of its own, a step to that of the file follows.
        let mut left = activation;
        let tensor = match &pending.work {
            Work::Linear(linear) => {
                let inputs = self.linear_inputs(linear)?;
                let kind = match linear.geometry {
                    Geometry::Convolution(window) => Kind::Conv2d(window, activation),
                    Geometry::Depthwise(window, multiplier) => {
                        Kind::DepthwiseConv2d(window, activation, multiplier)
                    }
                    Geometry::Dense => Kind::FullyConnected(activation),
                };
                left = Clamp::None;
                let output = result(self, affine);
                self.emit(node, kind, &inputs, output);
                output
            }
            &Work::AveragePool { input, window, filter, padding_counts, whole } => {
                let inside = window.padding == Padding::Valid;
                if whole && self.affine(input) != Some(affine) {
                    let output = result(self, affine);
                    self.emit(node, Kind::Mean { axes: vec![1, 2] }, &[input], output);
                    output
                } else if padding_counts || inside && self.affine(input) != Some(affine) {
                    left = Clamp::None;
                    let output = result(self, affine);
                    self.average_as_convolution(node, [input, output], window, filter, activation)?
                } else {
                    let written = self.affine(input).unwrap_or(affine);
                    if written.scale >= 2.0 * affine.scale {
                        return super::node::unsupported(format!(
                            "its result has steps of {}, its input of {}: where padding does not count, the pool \
                             keeps its input's steps, which are too coarse for that",
                            affine.scale, written.scale
                        ));
                    }
                    let fused = if written == affine {
                        std::mem::replace(&mut left, Clamp::None)
                    } else {
                        Clamp::None
                    };
                    let output = result(self, written);
                    self.emit(node, Kind::AveragePool2d(window, fused, filter), &[input], output);
                    output
                }
            }
            Work::Mean { input, axes } => {
                let output = result(self, affine);
                self.emit(node, Kind::Mean { axes: axes.clone() }, &[*input], output);
                output
            }
            &Work::Binary(function, inputs) => {
                left = Clamp::None;
                let output = result(self, affine);
                self.emit(node, Kind::Binary(function, activation), &inputs, output);
                output
            }
            &Work::Unary(function, input) => {
                let output = result(self, affine);
                self.emit(node, Kind::Unary(function), &[input], output);
                output
            }
            Work::HardSigmoid(_) => {
                return super::node::unsupported(
                    "supported as the factor of its own input alone, a hard swish",
                );
            }
            &Work::Same(input) => {
                let kind = match std::mem::replace(&mut left, Clamp::None) {
                    Clamp::None => Kind::Quantize,
                    clamp => Kind::Unary(Unary::Clamp(clamp)),
                };
                let output = result(self, affine);
                self.emit(node, kind, &[input], output);
                output
            }
            &Work::Prelu(inputs) => {
                let output = result(self, affine);
                self.emit(node, Kind::Prelu, &inputs, output);
                output
            }
            &Work::Softmax(input) => {
                let output = result(self, UNIT);
                self.emit(node, Kind::Softmax(1.0), &[input], output);
                output
            }
            Work::Concatenation { inputs, axis } => {
                let inputs: Vec<usize> =
                    inputs.iter().map(|&input| self.requantized(node, input, affine, name)).collect();
                let output = result(self, affine);
                self.emit(node, Kind::Concatenation { axis: *axis }, &inputs, output);
                output
            }
        };
        match left {
            Clamp::None => Ok(self.requantized(node, tensor, affine, name)),
            clamp => {
                let output = result(self, affine);
                self.emit(node, Kind::Unary(Unary::Clamp(clamp)), &[tensor], output);
                Ok(output)
            }
        }
    }

    /// The tensor in another quantization, the same one whenever it is asked for again.
    pub fn requantized(&mut self, node: &Node, tensor: usize, affine: Affine, name: &str) -> usize {
        if self.affine(tensor) == Some(affine) {
            return tensor;
        }
        let key = (tensor, affine.scale.to_bits(), affine.zero_point);
        if let Some(&known) = self.requantizations.get(&key) {
            return known;
        }
        let shape = self.tensors[tensor].shape.clone();
        let output = self.tensor(name, Element::I8, &shape, Some(affine));
        self.emit(node, Kind::Quantize, &[tensor], output);
        self.requantizations.insert(key, output);
        output
    }

    fn linear_inputs(&mut self, linear: &Linear) -> Result<Vec<usize>, Refusal> {
        let mut inputs = vec![linear.input, linear.filter];
        if let Some(bias) = &linear.bias {
            inputs.push(self.bias(linear, bias)?);
        }
        Ok(inputs)
    }

    /// The bias in int32 steps of input scale times weight scale.
    fn bias(&mut self, linear: &Linear, bias: &Bias) -> Result<usize, Refusal> {
        let scale = self.affine(linear.input).map_or(1.0, |affine| affine.scale);
        let filter = &self.tensors[linear.filter];
        let scales = filter.quantization.as_ref().map_or(&[1.0][..], |q| &q.scales);
        let (mut data, mut steps) = (Vec::new(), Vec::new());
        for channel in 0..linear.channels {
            let one = if scales.len() == 1 { 0 } else { channel };
            let step = f64::from(scale) * f64::from(scales[one]);
            let ratio = bias.steps[channel] / step;
            // A file gives the product rounded to single precision: the numbers are meant as they are.
            let ratio = if (ratio - 1.0).abs() < 1e-6 { 1.0 } else { ratio };
            let steps_of_it = (bias.numbers[channel] * ratio).round();
            if !(f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&steps_of_it) {
                return super::node::unsupported(format!(
                    "the bias of channel {channel} is {steps_of_it:.1e} steps of input scale times weight scale, more \
                     than 32 bits hold: quantize the weights with a larger scale"
                ));
            }
            data.extend((steps_of_it as i32).to_le_bytes());
            steps.push(step as f32);
        }
        if scales.len() == 1 {
            steps.truncate(1);
        }
        let quantization = Quantization { zero_points: vec![0; steps.len()], scales: steps, axis: 0 };
        let name = format!("{} bias", filter.name);
        self.spend(data.len())?;
        self.tensors.push(Tensor {
            name,
            element: Element::I32,
            shape: vec![linear.channels],
            quantization: Some(quantization),
            data: Some(data),
        });
        Ok(self.tensors.len() - 1)
    }

    /// A mean over windows as the depthwise convolution with equal weights that add up to 1: it requantizes, and zeros around
    /// the image count.
    fn average_as_convolution(
        &mut self,
        node: &Node,
        [input, output]: [usize; 2],
        window: Window,
        filter: [usize; 2],
        activation: Clamp,
    ) -> Result<usize, Refusal> {
        let channels = self.tensors[input].shape.last().copied().unwrap_or(1);
        let shape = [1, filter[0], filter[1], channels];
        let count = super::constant::elements(&shape).map_err(Refusal::Unsupported)?;
        // Small sums would be rounded twice at nearly the same place (the specification's two roundings).
        const WEIGHT: i32 = 64;
        let scale = 1.0 / (filter[0] * filter[1] * WEIGHT as usize) as f32;
        let quantization = Quantization { scales: vec![scale], zero_points: vec![0], axis: 0 };
        self.spend(count)?;
        let ones = self.int8s("window", &shape, std::iter::repeat_n(WEIGHT, count), quantization)?;
        self.emit(node, Kind::DepthwiseConv2d(window, activation, 1), &[input, ones], output);
        Ok(output)
    }
}

impl Pending {
    /// With its result clipped to `bounds`, too, by `clip`; `None` if nothing is between them.
    pub fn clipped(&self, clip: &Node, [low, high]: [f32; 2]) -> Option<Self> {
        let clamp = [self.clamp[0].max(low), self.clamp[1].min(high)];
        let ordered = clamp[0] <= clamp[1];
        let (work, layout, shape) = (self.work.clone(), self.layout.clone(), self.shape.clone());
        ordered.then(|| Self { node: self.node, name: clip.output().into(), work, layout, shape, clamp })
    }

    /// A pending operator whose result is not clipped.
    pub fn new(node: &Node, work: Work, layout: super::layout::Layout, shape: Vec<usize>) -> Self {
        Self { node: node.index, name: node.output().into(), work, layout, shape, clamp: OPEN }
    }
}
