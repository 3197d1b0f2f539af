//! The bytes of a pack: format versions 4 to 7, little endian throughout.
//!
//! | part | where | what |
//! | --- | --- | --- |
//! | header | 0 | [`header::BYTES`] bytes, fields at the offsets in [`header`] |
//! | tensors | `header::TENSORS` | one record of [`tensor::BYTES`] for every activation, and for every constant that is used like one |
//! | operators | `header::OPERATORS` | one record of [`operator::BYTES`] each, in execution order; then those that give variables their first values |
//! | constants | anywhere after | weights (int8), biases, mantissas, shifts (int32), scales (float32), parameters (int32), chosen channels (u16), each array 16-byte aligned from the pack's start |
//! | borders | `header::BORDERS` | u16 tensor indices: the inputs, then the outputs |
//! | tail's values | `header::VALUES` | one record of [`value::BYTES`] for every f32 array of the tail, the features first |
//! | tail's nodes | `header::NODES` | one record of [`node::BYTES`] for every operator of the tail but a softmax or a logistic function at the end that belongs to the loss |
//!
//! The first `TRUNK_OPERATORS` operators are frozen; the rest is the tail, with at its end at most one operator that
//! belongs to the loss: a softmax of cross-entropy, a lookup of binary cross-entropy.
//! A tail without values and nodes is a chain: fully connected operators, one after the other, all of them
//! trained. Convolution weights are OHWI, depthwise 1HWC, dense
//! `[out, in]`, as in the `.tflite`. Constants are used where they lie: a pack in flash costs no RAM.
//!
//! A later version that changes any byte's meaning raises [`VERSION`]; readers refuse versions they don't know.

/// First bytes of every pack.
pub const MAGIC: [u8; 8] = *b"flatmin\0";

/// Version of this format.
pub const VERSION: u16 = 4;

/// Version of packs with [`node::UNIT_INPUT`], which readers of version 4 would take for packs with other f32 weights; all else
/// is as in [`VERSION`].
pub const UNIT_VERSION: u16 = 5;

/// Version of packs with [`header::RESET_OPERATORS`], whose network keeps variables from one inference to the next: earlier
/// readers would start them at anything. All else is as in [`UNIT_VERSION`].
pub const STATE_VERSION: u16 = 6;

/// Version of packs with [`node::CHOOSES_INPUTS`] or [`node::KEEPS_MASK`], which are for integer tails alone: earlier readers
/// would train other weights. All else is as in [`STATE_VERSION`].
pub const INPUTS_VERSION: u16 = 7;

/// Whether readers of this format know `version`.
pub(crate) const fn is_known(version: u16) -> bool {
    matches!(version, VERSION | UNIT_VERSION | STATE_VERSION | INPUTS_VERSION)
}

/// The alignment that a pack must have in memory, in bytes.
pub const ALIGNMENT: usize = 16;

/// Offsets of the header's fields.
pub mod header {
    /// Size of the header.
    pub const BYTES: usize = 112;
    /// [`super::MAGIC`], 8 bytes.
    pub const MAGIC: usize = 0;
    /// u16, [`super::VERSION`], [`super::UNIT_VERSION`], [`super::STATE_VERSION`] or [`super::INPUTS_VERSION`].
    pub const VERSION: usize = 8;
    /// u16, number of layers that are trained, and of other operators with [`super::node::REFIT`].
    pub const TAIL_LAYERS: usize = 10;
    /// u32, size of the whole pack in bytes.
    pub const TOTAL_BYTES: usize = 12;
    /// u32, CRC-32 (ISO-HDLC) of all bytes from offset [`CHECKED_FROM`].
    pub const CRC: usize = 16;
    /// First byte under the CRC.
    pub const CHECKED_FROM: usize = 20;
    /// u32, CRC-32 of the model file the pack was made from.
    pub const MODEL_CRC: usize = 20;
    /// u16, number of tensor records.
    pub const TENSOR_COUNT: usize = 24;
    /// u16, number of operator records.
    pub const OPERATOR_COUNT: usize = 26;
    /// u16, number of leading operators that are frozen.
    pub const TRUNK_OPERATORS: usize = 28;
    /// u16, index of the network's first input tensor.
    pub const INPUT_TENSOR: usize = 30;
    /// u16, index of the tensor at the cut: the tail's first input.
    pub const FEATURE_TENSOR: usize = 32;
    /// u16, index of the network's first output tensor.
    pub const OUTPUT_TENSOR: usize = 34;
    /// u32, bytes of the planned int8 activation arena.
    pub const ARENA_BYTES: usize = 36;
    /// u32, elements of the input.
    pub const INPUT_LENGTH: usize = 40;
    /// u32, elements at the cut: of all features together.
    pub const FEATURE_LENGTH: usize = 44;
    /// u32, elements of the output.
    pub const OUTPUT_LENGTH: usize = 48;
    /// u32, weights of the layers whose weights are trained, wholly or in part: what a tuned tail keeps in int8.
    pub const TAIL_WEIGHTS: usize = 52;
    /// u32, sum of the trained layers' output channels.
    pub const TAIL_OUTPUTS: usize = 56;
    /// f32, real value of one quantization step at the cut as the f32 tail sees it: the latents' scale is
    /// folded into the first layer's weights, so that rho means the same for every network.
    pub const FEATURE_UNIT: usize = 60;
    /// u32, offset of the tensor records.
    pub const TENSORS: usize = 64;
    /// u32, offset of the operator records.
    pub const OPERATORS: usize = 68;
    /// u16, number of the network's inputs.
    pub const INPUT_COUNT: usize = 72;
    /// u16, number of the network's outputs.
    pub const OUTPUT_COUNT: usize = 74;
    /// u32, offset of the list of inputs and outputs.
    pub const BORDERS: usize = 76;
    /// u32, f32 parameters that are trained.
    pub const TAIL_PARAMETERS: usize = 80;
    /// u32, floats of the tail's workspace.
    pub const WORKSPACE_FLOATS: usize = 84;
    /// u32, offset of the tail's values.
    pub const VALUES: usize = 88;
    /// u32, offset of the tail's nodes.
    pub const NODES: usize = 92;
    /// u16, number of values.
    pub const VALUE_COUNT: usize = 96;
    /// u16, number of nodes; 0 for a chain.
    pub const NODE_COUNT: usize = 98;
    /// u16, number of leading values that are features.
    pub const FEATURE_COUNT: usize = 100;
    /// u16, code of the tail's `Loss`: 0 cross-entropy, 1 binary cross-entropy, 2 mean squared error.
    pub const LOSS: usize = 102;
    /// u16, how many of the last layer's outputs, at its end, are spare: rows of zeros that are no class before one is
    /// added on the device. 0 for most packs.
    pub const SPARE_CLASSES: usize = 104;
    /// u16, number of operators after the last that give the network's variables their first values: FILL, and MOVE of
    /// constants. What they write lies apart from all else in the arena, and keeps its bytes between inferences. 0 for
    /// networks without variables.
    pub const RESET_OPERATORS: usize = 106;
    /// u32, offset of the factory's statistics of what the last layer reads, as `closed_form::Statistics` has them: for
    /// as many classes as the network knows. 0 for packs without any, as all were before there were any.
    pub const STATISTICS: usize = 108;
}

/// Offsets of a tensor record's fields.
pub mod tensor {
    /// Size of a record.
    pub const BYTES: usize = 32;
    /// 4 x u32: N, H, W, C; lower ranks are padded with ones in front.
    pub const SHAPE: usize = 0;
    /// f32.
    pub const SCALE: usize = 16;
    /// i32, in -128..=127, or in 0..=255 where the elements are unsigned.
    pub const ZERO_POINT: usize = 20;
    /// u32, place in the activation arena, or of a constant in the pack.
    pub const OFFSET: usize = 24;
    /// u32, bits of the values below.
    pub const FLAGS: usize = 28;
    /// [`FLAGS`]: the elements lie in the pack.
    pub const CONSTANT: u32 = 1;
    /// [`FLAGS`]: the elements are uint8.
    pub const UNSIGNED: u32 = 2;
}

/// Offsets of an operator record's fields.
pub mod operator {
    /// Size of a record.
    pub const BYTES: usize = 64;
    /// u16, see the constants `CONV_2D` and so on.
    pub const KIND: usize = 0;
    /// u16, tensor index.
    pub const INPUT: usize = 2;
    /// u16, tensor index.
    pub const OUTPUT: usize = 4;
    /// u16, 1 if the weights have one scale per output channel, 0 if one in all.
    pub const PER_CHANNEL: usize = 6;
    /// i8, lowest output.
    pub const CLAMP_LOW: usize = 8;
    /// i8, highest output.
    pub const CLAMP_HIGH: usize = 9;
    /// u8, fused activation: 0 none, 1 ReLU, 2 ReLU6.
    pub const ACTIVATION: usize = 10;
    /// 2 x u16, height and width of the filter.
    pub const FILTER: usize = 12;
    /// 2 x u16.
    pub const STRIDE: usize = 16;
    /// 2 x u16.
    pub const DILATION: usize = 20;
    /// 2 x u16, rows above and columns left of the input.
    pub const PADDING: usize = 24;
    /// u16, outputs a channel of a depthwise convolution, groups of a grouped one.
    pub const DEPTH_MULTIPLIER: usize = 28;
    /// u16, tensor index of the second operand of ADD, SUB and MUL.
    pub const SECOND_INPUT: usize = 30;
    /// u32, offset of the int8 weights.
    pub const WEIGHTS: usize = 32;
    /// u32, offset of the int32 biases, one per output channel.
    pub const BIASES: usize = 36;
    /// u32, offset of the Q31 mantissas, one per output channel.
    pub const MANTISSAS: usize = 40;
    /// u32, offset of the shifts, one per output channel.
    pub const SHIFTS: usize = 44;
    /// u32, offset of the weights' scales: one, or one per output channel.
    pub const SCALES: usize = 48;
    /// f32, softmax's beta.
    pub const BETA: usize = 52;

    /// u32, offset of int32 parameters, or of a lookup table's 256 bytes.
    pub const PARAMETERS: usize = 56;
    /// u16, number of parameters.
    pub const PARAMETER_COUNT: usize = 60;

    /// [`KIND`]: CONV_2D.
    pub const CONV_2D: u16 = 1;
    /// [`KIND`]: DEPTHWISE_CONV_2D.
    pub const DEPTHWISE_CONV_2D: u16 = 2;
    /// [`KIND`]: FULLY_CONNECTED, of as many rows as the input holds.
    pub const FULLY_CONNECTED: u16 = 3;
    /// [`KIND`]: AVERAGE_POOL_2D.
    pub const AVERAGE_POOL_2D: u16 = 4;
    /// [`KIND`]: MAX_POOL_2D.
    pub const MAX_POOL_2D: u16 = 5;
    /// [`KIND`]: MEAN. Parameters: mantissa, shift, 4 x 1 where the axis is averaged over.
    pub const MEAN: u16 = 6;
    /// [`KIND`]: SOFTMAX over the last axis.
    pub const SOFTMAX: u16 = 7;
    /// [`KIND`]: ADD of two broadcast operands. Parameters: see `op::SumMultipliers`.
    pub const ADD: u16 = 8;
    /// [`KIND`]: SUB, likewise.
    pub const SUB: u16 = 9;
    /// [`KIND`]: MUL of two broadcast operands. Parameters: mantissa, shift.
    pub const MUL: u16 = 10;
    /// [`KIND`]: every element by a table of 256 bytes, indexed by the element's byte: LOGISTIC, TANH,
    /// HARD_SWISH, RELU and its kin, LEAKY_RELU, QUANTIZE.
    pub const LOOKUP: u16 = 11;
    /// [`KIND`]: PRELU; the second operand is alpha. Parameters: mantissa and shift where x >= 0, mantissa and
    /// shift of the products below.
    pub const PRELU: u16 = 12;
    /// [`KIND`]: elements move from one strided box to another: TRANSPOSE, CONCATENATION, SPLIT, slices, the
    /// inside of PAD. Parameters: 4 extents, first element of the input, its 4 strides, first element of the
    /// output, its 4 strides.
    pub const MOVE: u16 = 13;
    /// [`KIND`]: every element of the output becomes the parameter.
    pub const FILL: u16 = 14;
    /// [`KIND`]: RESIZE_NEAREST_NEIGHBOR. Parameters: the input's row of every output row, then its columns.
    pub const RESIZE_NEAREST: u16 = 15;
    /// [`KIND`]: CONV_2D in groups of channels.
    pub const GROUPED_CONV_2D: u16 = 16;
    /// [`KIND`]: SQUARED_DIFFERENCE of two broadcast operands. Parameters: as of ADD.
    pub const SQUARED_DIFFERENCE: u16 = 17;
    /// [`KIND`]: RESIZE_BILINEAR. Parameters: for every output row, then column, the input's place before it, the one after
    /// it, and 1024ths of the way from the one to the other.
    pub const RESIZE_BILINEAR: u16 = 18;
    /// One above the highest kind.
    pub const KINDS: usize = 19;
}

/// Offsets of the fields of a tail value's record: an f32 array in the tail's workspace.
pub mod value {
    /// Size of a record.
    pub const BYTES: usize = 12;
    /// u16, tensor whose shape and quantization it has.
    pub const TENSOR: usize = 0;
    /// u32, first float of the activation.
    pub const ACTIVATION: usize = 4;
    /// u32, first float of the loss's gradient by it; [`NONE`] if nothing needs that.
    pub const DELTA: usize = 8;
    /// [`DELTA`]: there is none.
    pub const NONE: u32 = u32::MAX;
}

/// Offsets of the fields of a tail node's record: what operator `TRUNK_OPERATORS + i` is in f32.
pub mod node {
    /// Size of a record.
    pub const BYTES: usize = 28;
    /// u16, bits of the values below.
    pub const FLAGS: usize = 0;
    /// u16, index of a value; [`NONE`] where the operator reads a constant or nothing.
    pub const INPUT: usize = 2;
    /// u16, likewise.
    pub const SECOND_INPUT: usize = 4;
    /// u16, index of a value.
    pub const OUTPUT: usize = 6;
    /// u16, code of a `Function`: the fused activation, or what a lookup computes.
    pub const FUNCTION: usize = 8;
    /// u16, how many output channels' weights are trained, if not all of them; else 0. With [`CHOOSES_INPUTS`] how many input
    /// channels' weights.
    pub const CHANNEL_COUNT: usize = 10;
    /// u32, first of its parameters among all: weights (of the chosen channels) or gains, then biases.
    pub const PARAMETERS: usize = 12;
    /// u32, offset of the chosen channels: u16, rising.
    pub const CHANNELS: usize = 16;
    /// u32, first float of the workspace where the chosen channels' outputs are computed: every pixel's, one after
    /// the other. With [`CHOOSES_INPUTS`] where the chosen channels of the input are kept for the backward pass.
    pub const CHOSEN_OUTPUTS: usize = 20;
    /// u32, first float of the workspace where their gradients are gathered. With [`KEEPS_MASK`] where the mask is kept.
    pub const CHOSEN_DELTAS: usize = 24;
    /// [`INPUT`], [`SECOND_INPUT`]: no value.
    pub const NONE: u16 = u16::MAX;
    /// [`FLAGS`]: the weights are trained.
    pub const TRAINS_WEIGHTS: u16 = 1;
    /// [`FLAGS`]: the biases are trained.
    pub const TRAINS_BIASES: u16 = 2;
    /// [`FLAGS`]: the gradient by the input is needed.
    pub const INPUT_DELTA: u16 = 4;
    /// [`FLAGS`]: no node after this one adds to that gradient.
    pub const INPUT_FIRST: u16 = 8;
    /// [`FLAGS`]: the gradient by the second input is needed.
    pub const SECOND_DELTA: u16 = 16;
    /// [`FLAGS`]: no node after this one adds to that gradient.
    pub const SECOND_FIRST: u16 = 32;
    /// [`FLAGS`]: the int8 output's scale and zero point follow the range that it has on the device after tuning; all that
    /// read it are trained layers, or have this flag too, or it is the output. Beside trained layers ADD, SUB, MUL and
    /// MEAN may have it, whose multipliers the device then makes, and AVERAGE_POOL_2D, MAX_POOL_2D, RESIZE_NEAREST and a
    /// MOVE that writes its output alone, whose output is then quantized as their input is.
    pub const REFIT: u16 = 64;
    /// [`FLAGS`]: one gain for each of the weights' scales is trained, a factor from 1; the weights stay as packed.
    pub const TRAINS_SCALES: u16 = 128;
    /// [`FLAGS`]: the input is a feature in the pack's `FEATURE_UNIT`, as that of a chain's first layer is, and the weights in
    /// f32 have the quotient of its scale and the unit folded in. Only fully connected layers have it; it is set in all
    /// nodes that read a feature, or in none.
    pub const UNIT_INPUT: u16 = 256;
    /// [`FLAGS`]: the channels that are listed are input channels, and their weights alone are trained, those of all outputs; of a
    /// depthwise convolution they are output channels. Of a fully connected layer every input is a channel. Integer tails
    /// alone train them.
    pub const CHOOSES_INPUTS: u16 = 512;
    /// [`FLAGS`]: one bit for each element of the output, 8 in a float's place, says whether it stands between the bounds of
    /// its activation: the output itself is not kept. Integer tails alone know it.
    pub const KEEPS_MASK: u16 = 1024;
}
