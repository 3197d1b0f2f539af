//! What an operator computes, from its code and its options.

use super::field::{
    binary, concatenation, conv_2d, depth, depthwise_conv_2d, fully_connected, gelu, leaky_relu, pool_2d,
    resize_bilinear, resize_nearest_neighbor, softmax, transpose_conv, window,
};
use super::variables::Variables;
use super::view::{Scalar, Table};
use super::{ReadError, names};
use crate::graph::{Activation, Binary, Kind, Padding, Tensor, Unary, Window};

/// One operator as it lies in the file, its tensor indices already checked.
pub(super) struct Record<'a> {
    /// Position in execution order.
    pub index: usize,
    /// Code in the schema's `BuiltinOperator`.
    pub code: i32,
    /// Name of a custom operator.
    pub custom: &'a str,
    /// Type of the options in the schema's `BuiltinOptions`, 0 for none.
    pub options_type: u8,
    pub options: Option<Table<'a>>,
    pub inputs: &'a [Option<usize>],
    pub outputs: &'a [usize],
    pub tensors: &'a [Tensor],
    pub variables: &'a Variables,
}

/// What the schema says about an operator that is supported.
struct Signature {
    /// In `BuiltinOperator`.
    code: i32,
    /// In `BuiltinOptions`.
    options: u8,
    /// Field of the fused activation in these options.
    activation: Option<usize>,
    /// Inputs that must be there.
    required: usize,
    /// Inputs that may follow.
    optional: usize,
}

/// Codes in `BuiltinOperator`.
pub(super) mod code {
    pub const ADD: i32 = 0;
    pub const AVERAGE_POOL_2D: i32 = 1;
    pub const CONCATENATION: i32 = 2;
    pub const CONV_2D: i32 = 3;
    pub const DEPTHWISE_CONV_2D: i32 = 4;
    pub const DEPTH_TO_SPACE: i32 = 5;
    pub const DEQUANTIZE: i32 = 6;
    pub const FULLY_CONNECTED: i32 = 9;
    pub const LOGISTIC: i32 = 14;
    pub const MAX_POOL_2D: i32 = 17;
    pub const MUL: i32 = 18;
    pub const RELU: i32 = 19;
    pub const RELU_N1_TO_1: i32 = 20;
    pub const RELU6: i32 = 21;
    pub const RESHAPE: i32 = 22;
    pub const RESIZE_BILINEAR: i32 = 23;
    pub const SOFTMAX: i32 = 25;
    pub const SPACE_TO_DEPTH: i32 = 26;
    pub const TANH: i32 = 28;
    pub const CUSTOM: i32 = 32;
    pub const PAD: i32 = 34;
    pub const GATHER: i32 = 36;
    pub const TRANSPOSE: i32 = 39;
    pub const MEAN: i32 = 40;
    pub const SUB: i32 = 41;
    pub const SQUEEZE: i32 = 43;
    pub const STRIDED_SLICE: i32 = 45;
    pub const EXP: i32 = 47;
    pub const SPLIT: i32 = 49;
    pub const PRELU: i32 = 54;
    pub const MAXIMUM: i32 = 55;
    pub const MINIMUM: i32 = 57;
    pub const NEG: i32 = 59;
    pub const PADV2: i32 = 60;
    pub const SLICE: i32 = 65;
    pub const TRANSPOSE_CONV: i32 = 67;
    pub const TILE: i32 = 69;
    pub const EXPAND_DIMS: i32 = 70;
    pub const LOG: i32 = 73;
    pub const SQRT: i32 = 75;
    pub const RSQRT: i32 = 76;
    pub const REDUCE_MAX: i32 = 82;
    pub const PACK: i32 = 83;
    pub const UNPACK: i32 = 88;
    pub const REDUCE_MIN: i32 = 89;
    pub const RESIZE_NEAREST_NEIGHBOR: i32 = 97;
    pub const LEAKY_RELU: i32 = 98;
    pub const SQUARED_DIFFERENCE: i32 = 99;
    pub const ABS: i32 = 101;
    pub const SPLIT_V: i32 = 102;
    pub const ELU: i32 = 111;
    pub const QUANTIZE: i32 = 114;
    pub const HARD_SWISH: i32 = 117;
    pub const CALL_ONCE: i32 = 129;
    pub const VAR_HANDLE: i32 = 142;
    pub const READ_VARIABLE: i32 = 143;
    pub const ASSIGN_VARIABLE: i32 = 144;
    pub const GELU: i32 = 150;
}

const fn plain(code: i32, options: u8, required: usize, optional: usize) -> Signature {
    Signature { code, options, activation: None, required, optional }
}

const fn fused(code: i32, options: u8, field: usize, required: usize, optional: usize) -> Signature {
    Signature { code, options, activation: Some(field), required, optional }
}

/// More inputs than any file has: CONCATENATION and PACK take any number.
const ANY_NUMBER: usize = 1 << 16;

const SIGNATURES: [Signature; 57] = [
    fused(code::CONV_2D, 1, conv_2d::ACTIVATION, 2, 1),
    fused(code::DEPTHWISE_CONV_2D, 2, depthwise_conv_2d::ACTIVATION, 2, 1),
    fused(code::FULLY_CONNECTED, 8, fully_connected::ACTIVATION, 2, 1),
    fused(code::AVERAGE_POOL_2D, 5, pool_2d::ACTIVATION, 1, 0),
    fused(code::MAX_POOL_2D, 5, pool_2d::ACTIVATION, 1, 0),
    fused(code::ADD, 11, binary::ACTIVATION, 2, 0),
    fused(code::SUB, 28, binary::ACTIVATION, 2, 0),
    fused(code::MUL, 21, binary::ACTIVATION, 2, 0),
    fused(code::CONCATENATION, 10, concatenation::ACTIVATION, 1, ANY_NUMBER),
    plain(code::MEAN, 27, 2, 0),
    plain(code::RESHAPE, 17, 1, 1),
    plain(code::SQUEEZE, 30, 1, 0),
    plain(code::EXPAND_DIMS, 52, 2, 0),
    plain(code::SOFTMAX, 9, 1, 0),
    plain(code::PAD, 22, 2, 0),
    plain(code::PADV2, 43, 3, 0),
    plain(code::TRANSPOSE, 26, 2, 0),
    plain(code::SPLIT, 35, 2, 0),
    plain(code::SPLIT_V, 79, 3, 0),
    plain(code::STRIDED_SLICE, 32, 4, 0),
    plain(code::SLICE, 48, 3, 0),
    plain(code::LOGISTIC, 0, 1, 0),
    plain(code::TANH, 0, 1, 0),
    plain(code::HARD_SWISH, 91, 1, 0),
    plain(code::RELU, 0, 1, 0),
    plain(code::RELU6, 0, 1, 0),
    plain(code::RELU_N1_TO_1, 0, 1, 0),
    plain(code::LEAKY_RELU, 75, 1, 0),
    plain(code::ELU, 0, 1, 0),
    plain(code::GELU, 116, 1, 0),
    plain(code::EXP, 33, 1, 0),
    plain(code::LOG, 0, 1, 0),
    plain(code::ABS, 78, 1, 0),
    plain(code::NEG, 42, 1, 0),
    plain(code::SQRT, 0, 1, 0),
    plain(code::RSQRT, 0, 1, 0),
    plain(code::SQUARED_DIFFERENCE, 76, 2, 0),
    plain(code::PRELU, 0, 2, 0),
    plain(code::QUANTIZE, 89, 1, 0),
    plain(code::DEQUANTIZE, 38, 1, 0),
    plain(code::RESIZE_NEAREST_NEIGHBOR, 74, 2, 0),
    plain(code::RESIZE_BILINEAR, 15, 2, 0),
    fused(code::TRANSPOSE_CONV, 49, transpose_conv::ACTIVATION, 3, 1),
    plain(code::REDUCE_MAX, 27, 2, 0),
    plain(code::REDUCE_MIN, 27, 2, 0),
    plain(code::MAXIMUM, 39, 2, 0),
    plain(code::MINIMUM, 39, 2, 0),
    plain(code::SPACE_TO_DEPTH, 19, 1, 0),
    plain(code::DEPTH_TO_SPACE, 94, 1, 0),
    plain(code::PACK, 59, 1, ANY_NUMBER),
    plain(code::UNPACK, 64, 1, 0),
    plain(code::GATHER, 23, 2, 0),
    plain(code::TILE, 51, 2, 0),
    plain(code::CALL_ONCE, 103, 0, 0),
    plain(code::VAR_HANDLE, 111, 0, 0),
    plain(code::READ_VARIABLE, 112, 1, 0),
    plain(code::ASSIGN_VARIABLE, 113, 2, 0),
];

impl Record<'_> {
    /// The operator's kind. A supported kind has the outputs and inputs that [`Kind`] lists for it, omitted
    /// only where they are optional.
    pub fn kind(&self) -> Result<Kind, ReadError> {
        let unsupported = |detail: &str| Ok(Kind::Unsupported(self.name() + detail));
        let Some(signature) = SIGNATURES.iter().find(|s| s.code == self.code) else {
            return unsupported("");
        };
        if ![0, signature.options].contains(&self.options_type) {
            let (found, expected) = (self.options_type, signature.options);
            return Err(self.error(format!("options of type {found} instead of {expected}")));
        }
        let activation = match signature.activation {
            None => Activation::None,
            Some(field) => match self.option::<i8>(field, 0)? {
                0 => Activation::None,
                1 => Activation::Relu,
                2 => Activation::ReluN1To1,
                3 => Activation::Relu6,
                4 => return unsupported(" with fused TANH"),
                5 => return unsupported(" with fused SIGN_BIT"),
                other => return unsupported(&format!(" with fused activation {other}")),
            },
        };
        if self.code == code::FULLY_CONNECTED {
            match self.option::<i8>(fully_connected::WEIGHTS_FORMAT, 0)? {
                0 => {}
                1 => return unsupported(" with shuffled weights"),
                other => return unsupported(&format!(" with weights of format {other}")),
            }
        }
        self.check_arity(signature)?;
        let binary = |function| Ok(Kind::Binary(function, activation));
        let unary = |function| Ok(Kind::Unary(function));
        match self.code {
            code::CONV_2D => {
                let dilation = [conv_2d::DILATION_H, conv_2d::DILATION_W];
                Ok(Kind::Conv2d(self.window(Some(dilation))?, activation))
            }
            code::DEPTHWISE_CONV_2D => {
                let dilation = [depthwise_conv_2d::DILATION_H, depthwise_conv_2d::DILATION_W];
                let window = self.window(Some(dilation))?;
                Ok(Kind::DepthwiseConv2d(window, activation, self.depth_multiplier()?))
            }
            code::TRANSPOSE_CONV => Ok(Kind::TransposeConv2d(self.window(None)?, activation)),
            code::FULLY_CONNECTED => Ok(Kind::FullyConnected(activation)),
            code::AVERAGE_POOL_2D => Ok(Kind::AveragePool2d(self.window(None)?, activation, self.filter()?)),
            code::MAX_POOL_2D => Ok(Kind::MaxPool2d(self.window(None)?, activation, self.filter()?)),
            code::ADD => binary(Binary::Add),
            code::SUB => binary(Binary::Sub),
            code::MUL => binary(Binary::Mul),
            code::RESHAPE | code::SQUEEZE | code::EXPAND_DIMS => Ok(Kind::Reshape),
            code::SOFTMAX => Ok(Kind::Softmax(self.beta()?)),
            code::LOGISTIC => unary(Unary::Logistic),
            code::TANH => unary(Unary::Tanh),
            code::HARD_SWISH => unary(Unary::HardSwish),
            code::RELU => unary(Unary::Clamp(Activation::Relu)),
            code::RELU6 => unary(Unary::Clamp(Activation::Relu6)),
            code::RELU_N1_TO_1 => unary(Unary::Clamp(Activation::ReluN1To1)),
            code::LEAKY_RELU => unary(Unary::LeakyRelu(self.option(leaky_relu::ALPHA, 0.0)?)),
            code::ELU => unary(Unary::Elu),
            code::GELU => unary(Unary::Gelu { approximate: self.option::<u8>(gelu::APPROXIMATE, 0)? != 0 }),
            code::EXP => unary(Unary::Exp),
            code::LOG => unary(Unary::Log),
            code::ABS => unary(Unary::Abs),
            code::NEG => unary(Unary::Neg),
            code::SQRT => unary(Unary::Sqrt),
            code::RSQRT => unary(Unary::Rsqrt),
            code::SQUARED_DIFFERENCE => binary(Binary::SquaredDifference),
            code::PRELU => Ok(Kind::Prelu),
            code::QUANTIZE => Ok(Kind::Quantize),
            code::DEQUANTIZE => Ok(Kind::Dequantize),
            code::RESIZE_NEAREST_NEIGHBOR => Ok(Kind::ResizeNearest {
                align_corners: self.option::<u8>(resize_nearest_neighbor::ALIGN_CORNERS, 0)? != 0,
                half_pixel_centers: self.option::<u8>(resize_nearest_neighbor::HALF_PIXEL_CENTERS, 0)? != 0,
            }),
            code::RESIZE_BILINEAR => Ok(Kind::ResizeBilinear {
                align_corners: self.option::<u8>(resize_bilinear::ALIGN_CORNERS, 0)? != 0,
                half_pixel_centers: self.option::<u8>(resize_bilinear::HALF_PIXEL_CENTERS, 0)? != 0,
            }),
            code::CONCATENATION if activation != Activation::None => unsupported(" with a fused activation"),
            code::CONCATENATION => self.concatenation(),
            code::MEAN => self.axes(|axes| Kind::Mean { axes }),
            code::REDUCE_MAX => self.axes(|axes| Kind::ReduceExtreme { axes, lowest: false }),
            code::REDUCE_MIN => self.axes(|axes| Kind::ReduceExtreme { axes, lowest: true }),
            code::MAXIMUM => Ok(Kind::Extreme { lowest: false }),
            code::MINIMUM => Ok(Kind::Extreme { lowest: true }),
            code::SPACE_TO_DEPTH => {
                Ok(Kind::SpaceToDepth { block: self.extent("block", depth::BLOCK_SIZE, 0)? })
            }
            code::DEPTH_TO_SPACE => {
                Ok(Kind::DepthToSpace { block: self.extent("block", depth::BLOCK_SIZE, 0)? })
            }
            code::PACK => self.pack(),
            code::UNPACK => self.unpack(),
            code::GATHER => self.gather(),
            code::TILE => self.tile(),
            code::CALL_ONCE | code::VAR_HANDLE => Ok(self.declaration()),
            code::READ_VARIABLE => self.variable(|variable| Kind::ReadVariable { variable }),
            code::ASSIGN_VARIABLE => self.variable(|variable| Kind::AssignVariable { variable }),
            code::PAD | code::PADV2 => self.pad(),
            code::TRANSPOSE => self.transpose(),
            code::SPLIT => self.split(0, 1),
            code::SPLIT_V => self.split(2, 0),
            code::SLICE => self.slice(),
            code::STRIDED_SLICE => self.strided_slice(),
            _ => unsupported(""),
        }
    }

    pub fn name(&self) -> String {
        match (self.code, self.custom) {
            (code::CUSTOM, "") => names::builtin(code::CUSTOM),
            (code::CUSTOM, name) => super::printable(name),
            (code, _) => names::builtin(code),
        }
    }

    pub fn error(&self, problem: String) -> ReadError {
        ReadError::Operator { index: self.index, name: self.name(), problem }
    }

    pub fn option<T: Scalar>(&self, field: usize, default: T) -> Result<T, ReadError> {
        match self.options {
            Some(options) if self.options_type != 0 => options.scalar(field, default),
            _ => Ok(default),
        }
    }

    /// An extent, at least 1.
    fn extent(&self, what: &str, field: usize, default: i32) -> Result<usize, ReadError> {
        let found = self.option(field, default)?;
        match usize::try_from(found) {
            Ok(extent) if extent > 0 => Ok(extent),
            _ => Err(self.error(format!("{what} {found}, expected at least 1"))),
        }
    }

    fn window(&self, dilation: Option<[usize; 2]>) -> Result<Window, ReadError> {
        let padding = match self.option::<i8>(window::PADDING, 0)? {
            0 => Padding::Same,
            1 => Padding::Valid,
            other => return Err(self.error(format!("padding {other}, expected 0 or 1"))),
        };
        let stride =
            [self.extent("stride", window::STRIDE_H, 0)?, self.extent("stride", window::STRIDE_W, 0)?];
        let dilation = match dilation {
            None => [1, 1],
            Some([h, w]) => [self.extent("dilation", h, 1)?, self.extent("dilation", w, 1)?],
        };
        Ok(Window { padding, stride, dilation })
    }

    fn filter(&self) -> Result<[usize; 2], ReadError> {
        Ok([
            self.extent("filter height", pool_2d::FILTER_H, 0)?,
            self.extent("filter width", pool_2d::FILTER_W, 0)?,
        ])
    }

    /// From the shapes, as TensorFlow Lite does: converters leave the option at anything.
    fn depth_multiplier(&self) -> Result<usize, ReadError> {
        let channels = |input: usize| {
            let tensor = self.inputs.get(input).copied().flatten()?;
            let shape = &self.tensors.get(tensor)?.shape;
            shape.get(3).copied().filter(|_| shape.len() == 4)
        };
        let (Some(input), Some(filter)) = (channels(0), channels(1)) else {
            return Err(self.error("input and filter are not both of rank 4".into()));
        };
        match filter.checked_div(input) {
            Some(multiplier) if multiplier > 0 && filter % input == 0 => Ok(multiplier),
            _ => {
                Err(self.error(format!("{filter} filter channels are no multiple of {input} input channels")))
            }
        }
    }

    fn beta(&self) -> Result<f32, ReadError> {
        let beta: f32 = self.option(softmax::BETA, 0.0)?;
        if beta.is_finite() && beta > 0.0 {
            Ok(beta)
        } else {
            Err(self.error(format!("beta {beta}, expected a positive number")))
        }
    }

    fn check_arity(&self, signature: &Signature) -> Result<(), ReadError> {
        let (required, optional) = (signature.required, signature.optional);
        let present = self.inputs.iter().take(required).flatten().count();
        let inputs = self.inputs.len();
        if present < required || inputs > required + optional {
            let omitted = if inputs > present { ", some omitted" } else { "" };
            return Err(
                self.error(format!("{inputs} inputs{omitted}, expected {required} and {optional} optional"))
            );
        }
        let splits = [code::SPLIT, code::SPLIT_V, code::UNPACK].contains(&self.code);
        let expected = usize::from(![code::CALL_ONCE, code::ASSIGN_VARIABLE].contains(&self.code));
        let outputs = self.outputs.len();
        if outputs < expected || outputs > expected && !splits {
            return Err(self.error(format!("{outputs} outputs, expected {expected}")));
        }
        Ok(())
    }
}
