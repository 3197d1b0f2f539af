//! Lowers a graph to the runtime's operators: geometry, multipliers and clamps as TensorFlow Lite prepares them.

use super::PackerError;
use crate::graph::{Activation, Element, Graph, Kind, Operator, Padding, Tensor, Window};
use flatmin::pack::format::operator as code;
use flatmin::{Affine, Multiplier};

/// An int8 activation.
#[derive(Debug, Clone)]
pub struct Activations {
    /// Name in the file.
    pub name: String,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// Quantization.
    pub affine: Affine,
    /// Tensors with one storage are one array under several shapes.
    pub storage: usize,
}

impl Activations {
    /// Elements, which are bytes.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Constants of an operator with weights.
#[derive(Debug, Clone, Default)]
pub struct Constants {
    /// int8 weights as in the file.
    pub weights: Vec<i8>,
    /// One an output channel.
    pub biases: Vec<i32>,
    /// One an output channel.
    pub multipliers: Vec<(i32, i32)>,
    /// One, or one an output channel.
    pub scales: Vec<f32>,
    /// Whether `scales` has one an output channel.
    pub per_channel: bool,
}

/// One operator of the runtime.
#[derive(Debug, Clone)]
pub struct Step {
    /// Place in the file.
    pub index: usize,
    /// Schema's name.
    pub name: String,
    /// `flatmin::pack::format::operator` kind.
    pub kind: u16,
    /// Index into [`Network::tensors`].
    pub input: usize,
    /// Index into [`Network::tensors`].
    pub output: usize,
    /// Filter, stride, dilation, padding; `[vertical, horizontal]`.
    pub window: flatmin::pack::Window,
    /// Depthwise only.
    pub depth_multiplier: usize,
    /// Lowest and highest output.
    pub clamp: [i8; 2],
    /// Fused activation, for layers that can be trained.
    pub activation: Option<flatmin::Activation>,
    /// Weights and what belongs to them.
    pub constants: Constants,
    /// Softmax's beta.
    pub beta: f32,
}

/// A network of the runtime's operators.
#[derive(Debug, Clone)]
pub struct Network {
    /// Activations.
    pub tensors: Vec<Activations>,
    /// Operators in execution order.
    pub steps: Vec<Step>,
    /// Index of the input.
    pub input: usize,
    /// Index of the output.
    pub output: usize,
}

impl Network {
    /// Index of the first operator of a tail of `layers` layers.
    pub fn cut(&self, layers: usize) -> usize {
        let behind = usize::from(layers > 0 && self.ends_in_softmax());
        self.steps.len() - layers - behind
    }

    fn ends_in_softmax(&self) -> bool {
        self.steps.last().is_some_and(|s| s.kind == code::SOFTMAX)
    }

    /// How many dense layers the network ends in that the runtime can train.
    pub fn trainable_layers(&self) -> usize {
        let behind = usize::from(self.ends_in_softmax());
        let mut expected = self.output;
        let mut count = 0;
        for (place, step) in self.steps.iter().rev().enumerate() {
            let dense = step.kind == code::FULLY_CONNECTED && step.activation.is_some();
            let softmax = place == 0 && behind == 1;
            // The loss wants bare logits.
            let bare = place != behind || step.activation == Some(flatmin::Activation::None);
            if !(softmax || dense && bare) || step.output != expected {
                break;
            }
            expected = step.input;
            count += usize::from(dense);
        }
        count.min(flatmin::tail::MAX_LAYERS)
    }

    /// The last layer's place in the file, if an activation keeps it from being trained.
    pub fn last_activation(&self) -> Option<usize> {
        let last = self.steps.iter().rev().nth(usize::from(self.ends_in_softmax()))?;
        let active = last.activation != Some(flatmin::Activation::None);
        (last.kind == code::FULLY_CONNECTED && active).then_some(last.index)
    }

    /// Multiply-adds of one operator.
    pub fn macs(&self, step: &Step) -> u64 {
        let output = &self.tensors[step.output];
        step.constants.weights.len() as u64 / output.shape[2].max(1) as u64 * output.len() as u64
    }
}

/// Lowers `graph`.
///
/// # Errors
/// See [`PackerError`].
pub fn lower(graph: &Graph) -> Result<Network, PackerError> {
    let unsupported: Vec<_> = (graph.operators.iter().enumerate())
        .filter_map(|(index, op)| match &op.kind {
            Kind::Unsupported(name) => Some((index, name.clone())),
            _ => None,
        })
        .collect();
    if !unsupported.is_empty() {
        return Err(PackerError::Unsupported(unsupported));
    }
    let (&[input], &[output]) = (graph.inputs.as_slice(), graph.outputs.as_slice()) else {
        return Err(PackerError::Borders { inputs: graph.inputs.len(), outputs: graph.outputs.len() });
    };
    let mut lowering =
        Lowering { graph, tensors: Vec::new(), steps: Vec::new(), index_of: vec![None; graph.tensors.len()] };
    lowering.tensor(input)?;
    for (index, op) in graph.operators.iter().enumerate() {
        lowering.operator(index, op)?;
    }
    let produced = lowering.index_of[output].is_some();
    let output = lowering.tensor(output)?;
    if !produced {
        return Err(tensor_error(
            graph,
            graph.outputs[0],
            "is the network's output, but nothing computes it",
        ));
    }
    let input = lowering.tensor(input)?;
    // A reshape at the very end or in a tail changes no byte: name the array by its producer.
    let network = Network { tensors: lowering.tensors, steps: lowering.steps, input, output };
    Ok(network.with_canonical_dense_borders())
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
        self.output = writer(&self.tensors, &self.steps, self.output);
        self
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    tensors: Vec<Activations>,
    steps: Vec<Step>,
    /// Graph tensor to [`Network::tensors`].
    index_of: Vec<Option<usize>>,
}

fn tensor_error(graph: &Graph, index: usize, what: impl Into<String>) -> PackerError {
    PackerError::Tensor { index, name: graph.tensors[index].name.clone(), what: what.into() }
}

impl Lowering<'_> {
    /// The lowered activation of a graph tensor.
    fn tensor(&mut self, index: usize) -> Result<usize, PackerError> {
        if let Some(known) = self.index_of[index] {
            return Ok(known);
        }
        let tensor = &self.graph.tensors[index];
        let fail = |what: String| Err(tensor_error(self.graph, index, what));
        if tensor.data.is_some() {
            return fail("is a constant where an activation is expected".into());
        }
        if tensor.element != Element::I8 {
            return fail(format!(
                "is {:?}, int8 is expected: export with full-integer quantization",
                tensor.element
            ));
        }
        let affine = match &tensor.quantization {
            Some(q) if q.scales.len() == 1 => {
                Affine { scale: q.scales[0], zero_point: q.zero_points[0] as i32 }
            }
            _ => return fail("has no per-tensor quantization".into()),
        };
        let Some(shape) = hwc(&tensor.shape) else {
            return fail(format!(
                "has shape {:?}, a batch of 1 and at most 4 axes are expected",
                tensor.shape
            ));
        };
        let lowered = self.tensors.len();
        self.tensors.push(Activations { name: tensor.name.clone(), shape, affine, storage: lowered });
        self.index_of[index] = Some(lowered);
        Ok(lowered)
    }

    fn operator(&mut self, index: usize, op: &Operator) -> Result<(), PackerError> {
        let fail = |what: String| PackerError::Operator { index, name: op.name.clone(), what };
        let Some(graph_input) = op.inputs.first().copied().flatten() else {
            return Err(fail("has no input".into()));
        };
        if self.index_of[graph_input].is_none() {
            return Err(fail(format!("reads tensor {graph_input} before anything computes it")));
        }
        let input = self.tensor(graph_input)?;
        if self.index_of[op.outputs[0]].is_some() {
            return Err(fail(format!("writes tensor {}, which is written already", op.outputs[0])));
        }
        let output = self.tensor(op.outputs[0])?;
        let (from, to) = (self.tensors[input].clone(), self.tensors[output].clone());
        if let Kind::Reshape = op.kind {
            if from.len() != to.len() || from.affine != to.affine {
                return Err(fail("changes the number of elements or the quantization".into()));
            }
            self.tensors[output].storage = from.storage;
            return Ok(());
        }
        let mut step = Step {
            index,
            name: op.name.clone(),
            kind: 0,
            input,
            output,
            window: flatmin::pack::Window {
                filter: [1; 2],
                stride: [1; 2],
                dilation: [1; 2],
                padding: [0; 2],
            },
            depth_multiplier: 1,
            clamp: [-128, 127],
            activation: None,
            constants: Constants::default(),
            beta: 0.0,
        };
        match &op.kind {
            Kind::Conv2d(window, activation) => {
                let filter = self.constant(op, 1, &fail)?;
                let [outputs, height, width, channels] = four(filter, &fail)?;
                if outputs != to.shape[2] || channels != from.shape[2] {
                    let (inside, outside) = (channels, from.shape[2]);
                    return Err(fail(format!(
                        "filter takes {inside} channels, the input has {outside}: grouped convolutions are not supported"
                    )));
                }
                step.kind = code::CONV_2D;
                step.window = geometry(window, [height, width], &from, &to, &fail)?;
                step.clamp = clamp(*activation, to.affine);
                step.constants = self.constants(op, outputs, 0, &from, &to, &fail)?;
            }
            Kind::DepthwiseConv2d(window, activation, multiplier) => {
                let filter = self.constant(op, 1, &fail)?;
                let [_, height, width, outputs] = four(filter, &fail)?;
                if outputs != to.shape[2] || outputs != from.shape[2] * multiplier {
                    return Err(fail(format!("filter has {outputs} channels, {} are expected", to.shape[2])));
                }
                step.kind = code::DEPTHWISE_CONV_2D;
                step.depth_multiplier = *multiplier;
                step.window = geometry(window, [height, width], &from, &to, &fail)?;
                step.clamp = clamp(*activation, to.affine);
                step.constants = self.constants(op, outputs, 3, &from, &to, &fail)?;
            }
            Kind::FullyConnected(activation) => {
                let filter = self.constant(op, 1, &fail)?;
                let &[outputs, inputs] = filter.shape.as_slice() else {
                    return Err(fail(format!("filter has shape {:?}, two axes are expected", filter.shape)));
                };
                if inputs != from.len() || outputs != to.len() {
                    let (rows, one) = (from.len(), inputs);
                    return Err(fail(format!(
                        "takes {rows} values with a filter for {one}: several rows are not supported"
                    )));
                }
                step.kind = code::FULLY_CONNECTED;
                step.clamp = clamp(*activation, to.affine);
                step.activation = trainable(*activation);
                step.constants = self.constants(op, outputs, 0, &from, &to, &fail)?;
                self.tensors[output].shape = [1, 1, outputs];
            }
            Kind::AveragePool2d(window, activation, filter) | Kind::MaxPool2d(window, activation, filter) => {
                let average = matches!(op.kind, Kind::AveragePool2d(..));
                step.kind = if average { code::AVERAGE_POOL_2D } else { code::MAX_POOL_2D };
                same_affine(&from, &to, &fail)?;
                step.window = geometry(window, *filter, &from, &to, &fail)?;
                step.clamp = clamp(*activation, to.affine);
            }
            Kind::Mean { .. } => {
                return Err(fail("is not supported; use AVERAGE_POOL_2D over the whole image".into()));
            }
            Kind::Softmax(beta) => {
                step.kind = code::SOFTMAX;
                step.beta = *beta;
                if to.affine != (Affine { scale: 1.0 / 256.0, zero_point: -128 }) || from.shape != to.shape {
                    return Err(fail("output scale 1/256 and zero point -128 are expected".into()));
                }
            }
            Kind::Reshape | Kind::Unsupported(_) => {}
            _ => return Err(fail("is not supported yet".into())),
        }
        self.steps.push(step);
        Ok(())
    }

    fn constant(
        &self,
        op: &Operator,
        input: usize,
        fail: &impl Fn(String) -> PackerError,
    ) -> Result<&Tensor, PackerError> {
        let index = op.inputs.get(input).copied().flatten();
        let tensor = index.map(|index| &self.graph.tensors[index]);
        tensor.filter(|t| t.data.is_some()).ok_or_else(|| fail(format!("input {input} is not a constant")))
    }

    fn constants(
        &self,
        op: &Operator,
        outputs: usize,
        axis: usize,
        from: &Activations,
        to: &Activations,
        fail: &impl Fn(String) -> PackerError,
    ) -> Result<Constants, PackerError> {
        let filter = self.constant(op, 1, fail)?;
        if filter.element != Element::I8 {
            return Err(fail(format!("weights are {:?}, int8 is expected", filter.element)));
        }
        let Some(quantization) = &filter.quantization else {
            return Err(fail("weights are not quantized".into()));
        };
        if quantization.zero_points.iter().any(|&z| z != 0) {
            return Err(fail("weights have a zero point other than 0".into()));
        }
        let scales = quantization.scales.clone();
        let per_channel = scales.len() > 1;
        if per_channel && (quantization.axis != axis || scales.len() != outputs) {
            let (n, found) = (scales.len(), quantization.axis);
            return Err(fail(format!(
                "{n} weight scales along axis {found}, {outputs} along axis {axis} are expected"
            )));
        }
        let biases = match op.inputs.get(2).copied().flatten() {
            None => vec![0; outputs],
            Some(_) => int32(self.constant(op, 2, fail)?, fail)?,
        };
        if biases.len() != outputs {
            return Err(fail(format!("{} biases, {outputs} are expected", biases.len())));
        }
        let multipliers = (0..outputs)
            .map(|o| {
                let scale = scales[if per_channel { o } else { 0 }];
                let multiplier = Multiplier::of_scales(from.affine.scale, scale, to.affine.scale);
                (multiplier.mantissa, multiplier.shift)
            })
            .collect();
        let data = filter.data.as_deref().unwrap_or_default();
        let weights = data.iter().map(|b| b.cast_signed()).collect();
        Ok(Constants { weights, biases, multipliers, scales, per_channel })
    }
}

/// Height, width, channels of a shape with a batch of 1; lower ranks fill from the back.
fn hwc(shape: &[usize]) -> Option<[usize; 3]> {
    let (batch, rest) = match shape {
        [] => (1, shape),
        [single] => return Some([1, 1, *single]),
        [batch, rest @ ..] => (*batch, rest),
    };
    if batch != 1 || rest.len() > 3 {
        return None;
    }
    let mut hwc = [1; 3];
    hwc[3 - rest.len()..].copy_from_slice(rest);
    Some(hwc)
}

fn four(tensor: &Tensor, fail: &impl Fn(String) -> PackerError) -> Result<[usize; 4], PackerError> {
    let shape = tensor.shape.as_slice().try_into();
    shape.map_err(|_| fail(format!("filter has shape {:?}, four axes are expected", tensor.shape)))
}

fn int32(tensor: &Tensor, fail: &impl Fn(String) -> PackerError) -> Result<Vec<i32>, PackerError> {
    let data = tensor.data.as_deref().unwrap_or_default();
    if tensor.element != Element::I32 {
        return Err(fail(format!("constant `{}` is {:?}, int32 is expected", tensor.name, tensor.element)));
    }
    Ok(data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect())
}

fn same_affine(
    from: &Activations,
    to: &Activations,
    fail: &impl Fn(String) -> PackerError,
) -> Result<(), PackerError> {
    if from.affine == to.affine {
        return Ok(());
    }
    Err(fail(format!("input and output differ in quantization: {:?} and {:?}", from.affine, to.affine)))
}

/// Padding and checks of a windowed operator (TFLite's `ComputePaddingHeightWidth`).
fn geometry(
    window: &Window,
    filter: [usize; 2],
    from: &Activations,
    to: &Activations,
    fail: &impl Fn(String) -> PackerError,
) -> Result<flatmin::pack::Window, PackerError> {
    let mut padding = [0; 2];
    for axis in 0..2 {
        let (extent, stride) = (from.shape[axis], window.stride[axis]);
        let reach = (filter[axis] - 1) * window.dilation[axis] + 1;
        let expected = match window.padding {
            Padding::Same => extent.div_ceil(stride),
            Padding::Valid => (extent + stride).saturating_sub(reach) / stride,
            Padding::Explicit(_) => to.shape[axis],
        };
        if expected != to.shape[axis] || expected == 0 {
            return Err(fail(format!("output extent is {}, geometry gives {expected}", to.shape[axis])));
        }
        padding[axis] = match window.padding {
            Padding::Explicit(front) => front[axis],
            _ => ((expected - 1) * stride + reach).saturating_sub(extent) / 2,
        };
    }
    Ok(flatmin::pack::Window { filter, stride: window.stride, dilation: window.dilation, padding })
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

fn trainable(activation: Activation) -> Option<flatmin::Activation> {
    match activation {
        Activation::None => Some(flatmin::Activation::None),
        Activation::Relu => Some(flatmin::Activation::Relu),
        Activation::Relu6 => Some(flatmin::Activation::Relu6),
        Activation::ReluN1To1 => None,
    }
}
