//! A network of the runtime's operators, between [`super::lower`] and the bytes of a pack.

use crate::graph::{Element, Tensor};
use flatmin::Affine;
use flatmin::Loss;
use flatmin::internals::op::Move;
use flatmin::internals::pack::Function;
use flatmin::internals::pack::format::operator as code;
use std::collections::BTreeMap;

/// An activation, or a constant that is used like one.
#[derive(Debug, Clone)]
pub struct Activations {
    /// Name in the file.
    pub name: String,
    /// Images, height, width, channels.
    pub shape: [usize; 4],
    /// Quantization.
    pub affine: Affine,
    /// Tensors with one storage are one array under several shapes.
    pub storage: usize,
    /// The elements of a constant.
    pub constant: Option<Vec<i8>>,
    /// uint8 elements: a border of the network.
    pub unsigned: bool,
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

    /// Steps from element to element along each axis.
    pub fn strides(&self) -> [isize; 4] {
        let [_, h, w, c] = self.shape.map(usize::cast_signed);
        [h * w * c, w * c, c, 1]
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
    /// `flatmin::internals::pack::format::operator` kind.
    pub kind: u16,
    /// Index into [`Network::tensors`].
    pub input: usize,
    /// Likewise; ADD, SUB, MUL and PRELU alone.
    pub second_input: Option<usize>,
    /// Index into [`Network::tensors`].
    pub output: usize,
    /// Filter, stride, dilation, padding; `[vertical, horizontal]`.
    pub window: flatmin::internals::op::Window,
    /// Outputs a channel of a depthwise convolution, groups of a grouped one.
    pub depth_multiplier: usize,
    /// Lowest and highest output.
    pub clamp: [i8; 2],
    /// What it applies to its sums in f32, or computes if it is a lookup; `None` for what cannot stand in a tail.
    pub function: Option<Function>,
    /// Weights and what belongs to them.
    pub constants: Constants,
    /// Softmax's beta, or the slope of a leaky ReLU.
    pub beta: f32,
    /// See `flatmin::internals::pack::format::operator`.
    pub parameters: Vec<i32>,
    /// A lookup's table.
    pub table: Option<Box<[u8; 256]>>,
}

impl Step {
    /// A step without window, weights and parameters.
    pub fn new(index: usize, name: &str, kind: u16, input: usize, output: usize) -> Self {
        Self {
            index,
            name: name.to_owned(),
            kind,
            input,
            second_input: None,
            output,
            window: flatmin::internals::op::Window {
                filter: [1; 2],
                stride: [1; 2],
                dilation: [1; 2],
                padding: [0; 2],
            },
            depth_multiplier: 1,
            clamp: [-128, 127],
            function: Some(Function::Identity),
            constants: Constants::default(),
            beta: 0.0,
            parameters: Vec::new(),
            table: None,
        }
    }

    /// Tensors that it reads.
    pub fn inputs(&self) -> impl Iterator<Item = usize> {
        // A fill reads nothing.
        let first = (self.kind != code::FILL).then_some(self.input);
        first.into_iter().chain(self.second_input)
    }

    /// Whether it is a layer with weights that can be trained.
    pub fn has_weights(&self) -> bool {
        [code::CONV_2D, code::DEPTHWISE_CONV_2D, code::FULLY_CONNECTED].contains(&self.kind)
    }

    /// Whether the output may take the place of an input of the same size: element by element.
    pub fn in_place(&self) -> bool {
        [code::ADD, code::SUB, code::MUL, code::PRELU, code::LOOKUP, code::SQUARED_DIFFERENCE]
            .contains(&self.kind)
    }
}

/// An input or output of the network as the file declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Border {
    /// Index into [`Network::tensors`].
    pub tensor: usize,
    /// What the file holds: int8, uint8, or float32 that is quantized with the tensor's parameters. An output may be uint8 where
    /// the tensor is int8: its zero point is then 128 higher.
    pub element: Element,
    /// The file's shape, batch included.
    pub shape: Vec<usize>,
    /// Axis `i` of the runtime's tensor is axis `order[i]` of the file's: ONNX has channels before height and
    /// width.
    pub order: Vec<usize>,
}

impl Border {
    /// A border that lies in the runtime as it does in the file.
    pub(super) fn of(lowered: usize, tensor: &Tensor) -> Self {
        let order = (0..tensor.shape.len()).collect();
        Self { tensor: lowered, element: tensor.element, shape: tensor.shape.clone(), order }
    }

    /// Values of whole samples, one after another, from the file's order to the runtime's.
    pub fn to_network<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if self.order.is_sorted() { values } else { self.layout().to_network(&values) }
    }

    /// The way back.
    pub fn to_file<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        if self.order.is_sorted() { values } else { self.layout().to_file(&values) }
    }

    fn layout(&self) -> crate::onnx::Border {
        crate::onnx::Border { shape: self.shape.clone(), order: self.order.clone() }
    }

    /// Shape of one sample: without the batch.
    pub fn sample_shape(&self) -> &[usize] {
        match self.shape.split_first() {
            Some((1, rest)) => rest,
            _ => &self.shape,
        }
    }
}

fn is_logistic(step: &Step) -> bool {
    step.kind == code::LOOKUP && step.function == Some(Function::Logistic)
}

/// A network of the runtime's operators.
#[derive(Debug, Clone)]
pub struct Network {
    /// Activations.
    pub tensors: Vec<Activations>,
    /// Operators in execution order.
    pub steps: Vec<Step>,
    /// The network's inputs.
    pub inputs: Vec<Border>,
    /// The network's outputs.
    pub outputs: Vec<Border>,
    /// Size of the arena that a greedy planner by size gives to the file's operators in the file's order, no
    /// place shared, as TensorFlow Lite Micro's does: what the plan is compared with.
    pub greedy_arena_bytes: usize,
    /// What a tail is to be trained with, whatever the network ends in; `None`: what that says.
    pub loss: Option<Loss>,
    /// Outputs at the end that are spare: see [`Network::with_spare_classes`].
    pub spare_classes: usize,
    /// What the factory knows of the last layer's input: [`super::statistics`].
    pub statistics: Option<Vec<u8>>,
    /// Gradient energy per step and input channel (output channel of a depthwise convolution): the mean over calibration samples of
    /// its weights' squared gradients, in steps of the weights. A share of the channels is chosen by it.
    pub energies: BTreeMap<usize, Vec<f64>>,
    /// What it keeps from one inference to the next.
    pub variables: Vec<Variable>,
}

/// What a network keeps from one inference to the next: an array that lies in the arena all the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name in the file.
    pub name: String,
    /// Index into [`Network::tensors`].
    pub tensor: usize,
    /// The constant that it begins with, likewise.
    pub initial: usize,
}

impl Network {
    /// What a tail is trained with: what was asked for, else binary cross-entropy where the network ends in a logistic
    /// function, else cross-entropy.
    pub fn loss(&self) -> Loss {
        let logistic = self.steps.last().is_some_and(is_logistic);
        self.loss.unwrap_or(if logistic { Loss::BinaryCrossEntropy } else { Loss::CrossEntropy })
    }

    /// The operator at the end that belongs to the loss: a softmax or a logistic function.
    pub fn head(&self) -> Option<&Step> {
        self.steps.last().filter(|step| match self.loss() {
            Loss::CrossEntropy => step.kind == code::SOFTMAX,
            Loss::BinaryCrossEntropy => is_logistic(step),
            Loss::SquaredError => false,
        })
    }

    /// The last layer's place in the file, if an activation keeps it from being trained: the loss wants bare outputs.
    /// A squared error is taken of whatever has a backward pass.
    pub fn last_activation(&self) -> Option<usize> {
        let last = self.steps.iter().rev().nth(usize::from(self.head().is_some()))?;
        let fits = match self.loss() {
            Loss::SquaredError => last.function.is_some() && last.kind != code::SOFTMAX,
            _ => last.function == Some(Function::Identity),
        };
        (!fits).then_some(last.index)
    }

    /// Index of the first operator of a tail of `layers` layers with weights; as many as there are if there are
    /// fewer.
    pub fn cut(&self, layers: usize) -> usize {
        let weighted = self.steps.iter().enumerate().rev().filter(|(_, step)| step.has_weights());
        match layers {
            0 => self.steps.len(),
            _ => weighted.take(layers).map(|(place, _)| place).last().unwrap_or(self.steps.len()),
        }
    }

    /// Whether an array is a variable's, by its storage.
    pub fn is_variable(&self, storage: usize) -> bool {
        self.variables.iter().any(|variable| self.tensors[variable.tensor].storage == storage)
    }

    /// The operators that give the variables their first values.
    pub fn resets(&self) -> Vec<Step> {
        let reset = |variable: &Variable| {
            let (first, tensor) = (variable.initial, variable.tensor);
            let constant = &self.tensors[first];
            let values = constant.constant.as_deref().unwrap_or(&[]);
            let kind_and_words = match values {
                [value, rest @ ..] if rest.iter().all(|other| other == value) => {
                    (code::FILL, vec![(*value).into()])
                }
                _ => (code::MOVE, Move::row(values.len()).words().map_or(Vec::new(), |words| words.to_vec())),
            };
            let (kind, parameters) = kind_and_words;
            Step { parameters, ..Step::new(0, "VAR_HANDLE", kind, first, tensor) }
        };
        self.variables.iter().map(reset).collect()
    }

    /// How many layers with weights the network ends in that the runtime can train.
    pub fn trainable_layers(&self) -> usize {
        let ([_], [output]) = (self.inputs.as_slice(), self.outputs.as_slice()) else { return 0 };
        if self.tensors[output.tensor].unsigned || self.last_activation().is_some() {
            return 0;
        }
        let behind = usize::from(self.head().is_some());
        let trainable = |step: &&Step| step.function.is_some() && step.kind != code::SOFTMAX;
        let tail = self.steps.iter().rev().skip(behind).take_while(trainable);
        tail.filter(|step| step.has_weights()).count().min(flatmin::internals::pack::MAX_LAYERS)
    }

    /// How many fully connected layers, one behind the other, the network ends in.
    pub fn chain_layers(&self) -> usize {
        let head = self.head().is_some();
        let Some(output) = self.outputs.first() else { return 0 };
        let mut expected = output.tensor;
        let mut count = 0;
        for (place, step) in self.steps.iter().rev().enumerate() {
            let rows = self.tensors[step.output].len() / self.tensors[step.output].shape[3].max(1);
            let fused = [Some(Function::Identity), Some(Function::Relu), Some(Function::Relu6)];
            // The loss is taken of bare outputs.
            let fused = if place == usize::from(head) { &fused[..1] } else { &fused };
            let dense = step.kind == code::FULLY_CONNECTED && fused.contains(&step.function) && rows == 1;
            let head = place == 0 && head && rows == 1;
            if !(head || dense) || step.output != expected {
                break;
            }
            expected = step.input;
            count += usize::from(dense);
        }
        count.min(flatmin::internals::pack::MAX_CHAIN_LAYERS).min(self.trainable_layers())
    }

    /// Multiply-adds of one operator.
    pub fn macs(&self, step: &Step) -> u64 {
        let output = &self.tensors[step.output];
        step.constants.weights.len() as u64 / output.shape[3].max(1) as u64 * output.len() as u64
    }
}
