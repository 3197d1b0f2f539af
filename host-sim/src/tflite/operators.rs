//! What an operator computes, from its code and its options.

use super::field::{conv_2d, depthwise_conv_2d, fully_connected, pool_2d, reducer, softmax, window};
use super::view::{Scalar, Table};
use super::{ReadError, names};
use crate::graph::{Activation, Kind, Padding, Tensor, Window};

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

const AVERAGE_POOL_2D: i32 = 1;
const CONV_2D: i32 = 3;
const DEPTHWISE_CONV_2D: i32 = 4;
const FULLY_CONNECTED: i32 = 9;
const MAX_POOL_2D: i32 = 17;
const RESHAPE: i32 = 22;
const SOFTMAX: i32 = 25;
const CUSTOM: i32 = 32;
const MEAN: i32 = 40;

#[rustfmt::skip]
const SIGNATURES: [Signature; 8] = [
    Signature { code: CONV_2D, options: 1, activation: Some(conv_2d::ACTIVATION), required: 2, optional: 1 },
    Signature { code: DEPTHWISE_CONV_2D, options: 2, activation: Some(depthwise_conv_2d::ACTIVATION), required: 2, optional: 1 },
    Signature { code: FULLY_CONNECTED, options: 8, activation: Some(fully_connected::ACTIVATION), required: 2, optional: 1 },
    Signature { code: AVERAGE_POOL_2D, options: 5, activation: Some(pool_2d::ACTIVATION), required: 1, optional: 0 },
    Signature { code: MAX_POOL_2D, options: 5, activation: Some(pool_2d::ACTIVATION), required: 1, optional: 0 },
    Signature { code: MEAN, options: 27, activation: None, required: 2, optional: 0 },
    Signature { code: RESHAPE, options: 17, activation: None, required: 1, optional: 1 },
    Signature { code: SOFTMAX, options: 9, activation: None, required: 1, optional: 0 },
];

impl Record<'_> {
    /// The operator's kind. A supported kind has one output and the inputs that [`Kind`] lists for
    /// it, omitted only where they are optional.
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
        if self.code == FULLY_CONNECTED {
            match self.option::<i8>(fully_connected::WEIGHTS_FORMAT, 0)? {
                0 => {}
                1 => return unsupported(" with shuffled weights"),
                other => return unsupported(&format!(" with weights of format {other}")),
            }
        }
        self.check_arity(signature)?;
        Ok(match self.code {
            CONV_2D => {
                let dilation = [conv_2d::DILATION_H, conv_2d::DILATION_W];
                Kind::Conv2d(self.window(Some(dilation))?, activation)
            }
            DEPTHWISE_CONV_2D => {
                let dilation = [depthwise_conv_2d::DILATION_H, depthwise_conv_2d::DILATION_W];
                let window = self.window(Some(dilation))?;
                Kind::DepthwiseConv2d(window, activation, self.depth_multiplier()?)
            }
            FULLY_CONNECTED => Kind::FullyConnected(activation),
            AVERAGE_POOL_2D => Kind::AveragePool2d(self.window(None)?, activation, self.filter()?),
            MAX_POOL_2D => Kind::MaxPool2d(self.window(None)?, activation, self.filter()?),
            MEAN => Kind::Mean { keep_dims: self.option::<u8>(reducer::KEEP_DIMS, 0)? != 0 },
            RESHAPE => Kind::Reshape,
            SOFTMAX => Kind::Softmax(self.beta()?),
            _ => Kind::Unsupported(self.name()),
        })
    }

    fn name(&self) -> String {
        match (self.code, self.custom) {
            (CUSTOM, "") => names::builtin(CUSTOM),
            (CUSTOM, name) => super::printable(name),
            (code, _) => names::builtin(code),
        }
    }

    pub fn error(&self, problem: String) -> ReadError {
        ReadError::Operator { index: self.index, name: self.name(), problem }
    }

    fn option<T: Scalar>(&self, field: usize, default: T) -> Result<T, ReadError> {
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
        if self.outputs.len() != 1 {
            let outputs = self.outputs.len();
            return Err(self.error(format!("{outputs} outputs, expected 1")));
        }
        Ok(())
    }
}
