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
    /// Rows above and columns left of the input; what lies below and right follows from the output's extent.
    Explicit([usize; 2]),
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

/// Element-wise functions of one activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `1 / (1 + exp(-x))`.
    Logistic,
    /// The hyperbolic tangent.
    Tanh,
    /// `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// RELU, RELU6 and RELU_N1_TO_1 as operators of their own.
    Clamp(Activation),
    /// `x` above 0, else `x` times the number.
    LeakyRelu(f32),
    /// `x` above 0, else `exp(x) - 1`.
    Elu,
    /// `x / 2 (1 + erf(x / sqrt 2))` (Hendrycks & Gimpel 2016, arXiv 1606.08415), or its approximation by tanh (section 2).
    Gelu {
        /// By tanh.
        approximate: bool,
    },
    /// The exponential.
    Exp,
    /// The natural logarithm; the lowest output where `x` is not above 0.
    Log,
    /// `|x|`.
    Abs,
    /// `-x`.
    Neg,
    /// The square root; of what is below 0 the lowest output.
    Sqrt,
    /// The square root's inverse; the highest output where `x` is not above 0.
    Rsqrt,
}

/// Element-wise functions of two activations, either of which may be a constant; shapes broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `(a - b)^2`.
    SquaredDifference,
}

/// What an operator computes. What a file gives as constant inputs (axes, paddings, permutations) is resolved
/// here by the reader and checked against the ranks; the operator's `inputs` still list them.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// CONV_2D: inputs NHWC, filter OHWI (I divides the input's channels: groups), bias (optional).
    Conv2d(Window, Activation),
    /// DEPTHWISE_CONV_2D: inputs NHWC, filter 1HWC', bias (optional); the number is the depth multiplier.
    DepthwiseConv2d(Window, Activation, usize),
    /// TRANSPOSE_CONV: output shape, filter OHWI, input NHWC, bias (optional).
    TransposeConv2d(Window, Activation),
    /// FULLY_CONNECTED: input, filter `[out, in]`, bias (optional).
    FullyConnected(Activation),
    /// AVERAGE_POOL_2D with its filter `[height, width]`; padding does not count.
    AveragePool2d(Window, Activation, [usize; 2]),
    /// MAX_POOL_2D with its filter `[height, width]`.
    MaxPool2d(Window, Activation, [usize; 2]),
    /// MEAN over axes.
    Mean {
        /// Axes of the input, ascending, each once.
        axes: Vec<usize>,
    },
    /// RESHAPE, SQUEEZE, EXPAND_DIMS: the same elements in the output's shape.
    Reshape,
    /// SOFTMAX over the last axis, with its beta.
    Softmax(f32),
    /// ADD, SUB, MUL of inputs 0 and 1.
    Binary(Binary, Activation),
    /// LOGISTIC, TANH, HARD_SWISH, RELU, RELU6, RELU_N1_TO_1, LEAKY_RELU.
    Unary(Unary),
    /// PRELU: input, constant alpha that broadcasts.
    Prelu,
    /// PAD and PADV2: input 0 surrounded by a value.
    Pad {
        /// Elements in front of and behind each axis.
        amounts: Vec<[usize; 2]>,
        /// Quantized value; `None` is the output's zero point.
        value: Option<i64>,
    },
    /// TRANSPOSE: axis `i` of the output is axis `permutation[i]` of the input.
    Transpose {
        /// A permutation of the axes.
        permutation: Vec<usize>,
    },
    /// CONCATENATION of all inputs.
    Concatenation {
        /// Axis that grows.
        axis: usize,
    },
    /// SPLIT and SPLIT_V of input `input` into all outputs, whose extents along `axis` add up to its own.
    Split {
        /// Place of the activation among the inputs.
        input: usize,
        /// Axis that is cut.
        axis: usize,
    },
    /// STRIDED_SLICE and SLICE: element `begin + i * stride` along each axis of the input, as many as the
    /// output has elements (axes that the output drops have extent 1 and stride 1).
    Slice {
        /// First element along each axis of the input.
        begin: Vec<usize>,
        /// Step along each axis, never 0.
        stride: Vec<i64>,
        /// Elements along each axis of the input.
        extent: Vec<usize>,
    },
    /// RESIZE_NEAREST_NEIGHBOR of an NHWC image to the output's extent.
    ResizeNearest {
        /// Corners of input and output coincide.
        align_corners: bool,
        /// Pixel centres lie at half steps.
        half_pixel_centers: bool,
    },
    /// RESIZE_BILINEAR of an NHWC image to the output's extent.
    ResizeBilinear {
        /// Corners of input and output coincide.
        align_corners: bool,
        /// Pixel centres lie at half steps.
        half_pixel_centers: bool,
    },
    /// REDUCE_MAX and REDUCE_MIN over axes.
    ReduceExtreme {
        /// Axes of the input, ascending, each once.
        axes: Vec<usize>,
        /// The lowest in place of the highest.
        lowest: bool,
    },
    /// MAXIMUM and MINIMUM of inputs 0 and 1, either of which may be a constant; shapes broadcast.
    Extreme {
        /// The lower in place of the higher.
        lowest: bool,
    },
    /// SPACE_TO_DEPTH of an NHWC image: blocks of so many rows and columns become channels.
    SpaceToDepth {
        /// Rows and columns of a block.
        block: usize,
    },
    /// DEPTH_TO_SPACE: the inverse of SPACE_TO_DEPTH.
    DepthToSpace {
        /// Rows and columns of a block.
        block: usize,
    },
    /// PACK: all inputs, of one shape, one after the other along a new axis.
    Pack {
        /// The new axis, in the output.
        axis: usize,
    },
    /// UNPACK: the inverse of PACK.
    Unpack {
        /// The axis that goes, in the input.
        axis: usize,
    },
    /// GATHER: slices of input 0 along an axis, in an order that is known.
    Gather {
        /// Axis of the input.
        axis: usize,
        /// Which slices, each below the axis' extent.
        places: Vec<usize>,
    },
    /// TILE: input 0 again and again along each axis.
    Tile {
        /// Repetitions, one number per axis, each at least 1.
        times: Vec<usize>,
    },
    /// QUANTIZE: float32 or another quantization in, the output's quantization out.
    Quantize,
    /// DEQUANTIZE: to float32.
    Dequantize,
    /// CALL_ONCE and VAR_HANDLE: what they say is in [`Graph::variables`].
    Declaration,
    /// READ_VARIABLE.
    ReadVariable {
        /// Index into [`Graph::variables`].
        variable: usize,
    },
    /// ASSIGN_VARIABLE of input 1.
    AssignVariable {
        /// Index into [`Graph::variables`].
        variable: usize,
    },
    /// Anything else, by what is unsupported about it.
    Unsupported(String),
}

/// One operator, in execution order.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    /// Name in the file's schema, for messages.
    pub name: String,
    /// What it computes.
    pub kind: Kind,
    /// Tensor indices; `None` for an omitted optional input.
    pub inputs: Vec<Option<usize>>,
    /// Tensor indices.
    pub outputs: Vec<usize>,
}

/// What a network keeps from one inference to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Name in the file.
    pub name: String,
    /// The constant that it begins with, an index into [`Graph::tensors`]; `None` where the file gives none.
    pub initial: Option<usize>,
}

/// A whole network.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Tensors, by index.
    pub tensors: Vec<Tensor>,
    /// Operators, in execution order.
    pub operators: Vec<Operator>,
    /// Indices of the network's input tensors.
    pub inputs: Vec<usize>,
    /// Indices of the network's output tensors.
    pub outputs: Vec<usize>,
    /// What it keeps from one inference to the next.
    pub variables: Vec<Variable>,
}
