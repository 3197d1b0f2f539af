//! The network as read from a file, before it is packed: tensors, operators in execution order, borders.
//!
//! Readers ([`crate::tflite`]) produce a [`Graph`]; the packer and `inspect` consume it. It is plain data:
//! indices are checked by the reader, so that every index in a `Graph` is in range.

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// IEEE single precision.
    F32,
    /// Any other type, by its number in the file's schema.
    Other(i8),
}

/// Affine quantization: `real = scale * (q - zero_point)`, one entry a tensor or one a slice along `axis`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    /// Scales: length 1 (per tensor) or the extent of `axis` (per channel).
    pub scales: Vec<f32>,
    /// Zero points, as many as scales.
    pub zero_points: Vec<i64>,
    /// The axis that per-channel entries run along.
    pub axis: usize,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Name in the file, possibly empty.
    pub name: String,
    /// Element type.
    pub element: Element,
    /// Shape; activations have their batch axis first and equal to 1.
    pub shape: Vec<usize>,
    /// Quantization parameters, if the file gives any.
    pub quantization: Option<Quantization>,
    /// Little-endian contents of a constant; `None` for activations.
    pub data: Option<Vec<u8>>,
}

/// Fused activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// No clamp beyond the output type's range.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `min(max(x, -1), 1)`.
    ReluN1To1,
}

/// Padding scheme of a windowed operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Output extent `ceil(input / stride)`, zeros around.
    Same,
    /// No padding.
    Valid,
}

/// Geometry shared by the windowed operators; `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Padding scheme.
    pub padding: Padding,
    /// Strides, at least 1.
    pub stride: [usize; 2],
    /// Dilations, at least 1 (pools: 1).
    pub dilation: [usize; 2],
}

/// What an operator computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// CONV_2D: inputs NHWC, filter OHWI, bias (optional).
    Conv2d(Window, Activation),
    /// DEPTHWISE_CONV_2D: inputs NHWC, filter 1HWC', bias (optional); the number is the depth multiplier.
    DepthwiseConv2d(Window, Activation, usize),
    /// FULLY_CONNECTED: input, filter `[out, in]`, bias (optional).
    FullyConnected(Activation),
    /// AVERAGE_POOL_2D with its filter `[height, width]`.
    AveragePool2d(Window, Activation, [usize; 2]),
    /// MAX_POOL_2D with its filter `[height, width]`.
    MaxPool2d(Window, Activation, [usize; 2]),
    /// MEAN: input, axes (constant i32).
    Mean {
        /// Whether reduced axes stay as extent 1.
        keep_dims: bool,
    },
    /// RESHAPE: input, new shape (optional constant i32).
    Reshape,
    /// SOFTMAX with its beta.
    Softmax(f32),
    /// Anything else, by its name in the schema.
    Unsupported(String),
}

/// One operator, in execution order.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    /// What it computes.
    pub kind: Kind,
    /// Tensor indices; `None` for an omitted optional input.
    pub inputs: Vec<Option<usize>>,
    /// Tensor indices.
    pub outputs: Vec<usize>,
}

/// A whole network.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Tensors, by index.
    pub tensors: Vec<Tensor>,
    /// Operators, in execution order.
    pub operators: Vec<Operator>,
    /// Indices of the network's input tensors.
    pub inputs: Vec<usize>,
    /// Indices of the network's output tensors.
    pub outputs: Vec<usize>,
}
