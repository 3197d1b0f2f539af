//! Field numbers of the tables that are read, in the order of TensorFlow Lite's `schema.fbs`
//! (version 3d). A union takes two: its type, then its table.

pub mod model {
    pub const VERSION: usize = 0;
    pub const OPERATOR_CODES: usize = 1;
    pub const SUBGRAPHS: usize = 2;
    pub const BUFFERS: usize = 4;
}

pub mod subgraph {
    pub const TENSORS: usize = 0;
    pub const INPUTS: usize = 1;
    pub const OUTPUTS: usize = 2;
    pub const OPERATORS: usize = 3;
}

pub mod tensor {
    pub const SHAPE: usize = 0;
    pub const TYPE: usize = 1;
    pub const BUFFER: usize = 2;
    pub const NAME: usize = 3;
    pub const QUANTIZATION: usize = 4;
    pub const SPARSITY: usize = 6;
    pub const SHAPE_SIGNATURE: usize = 7;
    pub const EXTERNAL_BUFFER: usize = 10;
}

pub mod quantization {
    pub const SCALE: usize = 2;
    pub const ZERO_POINT: usize = 3;
    pub const DETAILS_TYPE: usize = 4;
    pub const QUANTIZED_DIMENSION: usize = 6;
}

pub mod buffer {
    pub const DATA: usize = 0;
    pub const OFFSET: usize = 1;
    pub const SIZE: usize = 2;
}

pub mod operator_code {
    pub const DEPRECATED_BUILTIN_CODE: usize = 0;
    pub const CUSTOM_CODE: usize = 1;
    pub const BUILTIN_CODE: usize = 3;
}

pub mod operator {
    pub const OPCODE_INDEX: usize = 0;
    pub const INPUTS: usize = 1;
    pub const OUTPUTS: usize = 2;
    pub const BUILTIN_OPTIONS_TYPE: usize = 3;
    pub const BUILTIN_OPTIONS: usize = 4;
}

/// Padding and strides, which all windowed operators keep in the same place.
pub mod window {
    pub const PADDING: usize = 0;
    pub const STRIDE_W: usize = 1;
    pub const STRIDE_H: usize = 2;
}

pub mod conv_2d {
    pub const ACTIVATION: usize = 3;
    pub const DILATION_W: usize = 4;
    pub const DILATION_H: usize = 5;
}

pub mod depthwise_conv_2d {
    // 3 is the depth multiplier: redundant, and ignored by TensorFlow Lite itself since 2.0.
    pub const ACTIVATION: usize = 4;
    pub const DILATION_W: usize = 5;
    pub const DILATION_H: usize = 6;
}

pub mod pool_2d {
    pub const FILTER_W: usize = 3;
    pub const FILTER_H: usize = 4;
    pub const ACTIVATION: usize = 5;
}

pub mod fully_connected {
    pub const ACTIVATION: usize = 0;
    pub const WEIGHTS_FORMAT: usize = 1;
}

pub mod softmax {
    pub const BETA: usize = 0;
}

/// ADD, SUB and MUL.
pub mod binary {
    pub const ACTIVATION: usize = 0;
}

pub mod concatenation {
    pub const AXIS: usize = 0;
    pub const ACTIVATION: usize = 1;
}

pub mod leaky_relu {
    pub const ALPHA: usize = 0;
}

pub mod gelu {
    pub const APPROXIMATE: usize = 0;
}

pub mod resize_bilinear {
    // 0 and 1 were sizes.
    pub const ALIGN_CORNERS: usize = 2;
    pub const HALF_PIXEL_CENTERS: usize = 3;
}

pub mod resize_nearest_neighbor {
    pub const ALIGN_CORNERS: usize = 0;
    pub const HALF_PIXEL_CENTERS: usize = 1;
}

pub mod strided_slice {
    pub const BEGIN_MASK: usize = 0;
    pub const END_MASK: usize = 1;
    pub const ELLIPSIS_MASK: usize = 2;
    pub const NEW_AXIS_MASK: usize = 3;
    pub const SHRINK_AXIS_MASK: usize = 4;
    pub const OFFSET: usize = 5;
}

pub mod pack {
    pub const AXIS: usize = 1;
}

pub mod unpack {
    pub const AXIS: usize = 1;
}

pub mod gather {
    pub const AXIS: usize = 0;
    pub const BATCH_DIMS: usize = 1;
}

pub mod call_once {
    pub const INIT_SUBGRAPH_INDEX: usize = 0;
}

pub mod var_handle {
    pub const CONTAINER: usize = 0;
    pub const SHARED_NAME: usize = 1;
}

/// SPACE_TO_DEPTH and DEPTH_TO_SPACE.
pub mod depth {
    pub const BLOCK_SIZE: usize = 0;
}

pub mod transpose_conv {
    pub const ACTIVATION: usize = 3;
}
