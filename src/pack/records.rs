//! Typed views of tensor and operator records.

use super::bytes::{f32_at, i32_at, size_at, u8_at, u16_at, u32_at};
use super::format::{operator, tensor};
use crate::op::{Shape, Window};
use crate::quant::Affine;

/// One activation, or a constant that is used like one: shape NHWC, quantization, and its place.
///
/// ```
/// use flatmin::{Pack, include_pack};
/// static MODEL: &[u8] = include_pack!("../../tests/examples/motion.pack");
/// let input = Pack::new(MODEL)?.input(); // [`Pack::input`]
/// assert_eq!(input.extents().iter().product::<usize>(), input.len());
/// assert!(!input.is_empty() && input.affine.scale > 0.0);
/// # Ok::<(), flatmin::PackError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct TensorRecord {
    /// Images: 1 wherever an operator has a window.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Scale and zero point.
    pub affine: Affine,
    /// First byte in the activation arena; of a constant, from the pack's start.
    #[doc(hidden)]
    pub arena_offset: usize,
    /// The elements lie in the pack.
    #[doc(hidden)]
    pub constant: bool,
    /// The elements are uint8: a border of the network.
    #[doc(hidden)]
    pub unsigned: bool,
}

impl TensorRecord {
    pub(super) fn read(record: &[u8]) -> Self {
        let flags = u32_at(record, tensor::FLAGS);
        Self {
            batch: size_at(record, tensor::SHAPE),
            height: size_at(record, tensor::SHAPE + 4),
            width: size_at(record, tensor::SHAPE + 8),
            channels: size_at(record, tensor::SHAPE + 12),
            affine: Affine {
                scale: f32_at(record, tensor::SCALE),
                zero_point: i32_at(record, tensor::ZERO_POINT),
            },
            arena_offset: size_at(record, tensor::OFFSET),
            constant: flags & tensor::CONSTANT != 0,
            unsigned: flags & tensor::UNSIGNED != 0,
        }
    }

    /// N, H, W, C.
    pub fn extents(&self) -> [usize; 4] {
        [self.batch, self.height, self.width, self.channels]
    }

    /// Rows, columns, channels.
    pub(crate) fn shape(&self) -> Shape {
        Shape { height: self.height, width: self.width, channels: self.channels }
    }

    /// Number of elements, which is its size in bytes; saturating before validation.
    pub fn len(&self) -> usize {
        self.extents().into_iter().fold(1, usize::saturating_mul)
    }

    /// True if there is no element, which validation refuses.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Fused activation of a trainable layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Activation {
    /// The identity.
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

impl Activation {
    /// The byte that stands for it in a pack.
    pub fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Relu => 1,
            Self::Relu6 => 2,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::None, Self::Relu, Self::Relu6].into_iter().find(|a| a.code() == code)
    }
}

/// Places of an operator's constants, as offsets from the pack's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Constants {
    pub weights: usize,
    pub biases: usize,
    pub mantissas: usize,
    pub shifts: usize,
    pub scales: usize,
}

/// One operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OperatorRecord {
    /// See `format::operator`.
    pub kind: u16,
    /// Input tensor.
    pub input: u16,
    /// The second operand of ADD, SUB, MUL and PRELU; elsewhere 0 and without meaning.
    pub second_input: u16,
    /// Output tensor.
    pub output: u16,
    /// One weight scale per output channel.
    pub per_channel: bool,
    /// Lowest and highest output.
    pub clamp: [i8; 2],
    /// Code of the fused activation.
    pub activation: u8,
    /// Geometry.
    pub window: Window,
    /// Outputs a channel of a depthwise convolution, groups of a grouped one.
    pub depth_multiplier: usize,
    pub(crate) constants: Constants,
    /// Softmax's beta.
    pub beta: f32,
    pub(crate) parameters: usize,
    pub(crate) parameter_count: usize,
}

impl OperatorRecord {
    /// The fused activation; validation lets only known codes through where it matters.
    pub fn fused_activation(&self) -> Activation {
        Activation::from_code(self.activation).unwrap_or(Activation::None)
    }

    pub(super) fn read(record: &[u8]) -> Self {
        let pair = |at| [usize::from(u16_at(record, at)), usize::from(u16_at(record, at + 2))];
        Self {
            kind: u16_at(record, operator::KIND),
            input: u16_at(record, operator::INPUT),
            second_input: u16_at(record, operator::SECOND_INPUT),
            output: u16_at(record, operator::OUTPUT),
            per_channel: u16_at(record, operator::PER_CHANNEL) != 0,
            clamp: [
                u8_at(record, operator::CLAMP_LOW).cast_signed(),
                u8_at(record, operator::CLAMP_HIGH).cast_signed(),
            ],
            activation: u8_at(record, operator::ACTIVATION),
            window: Window {
                filter: pair(operator::FILTER),
                stride: pair(operator::STRIDE),
                dilation: pair(operator::DILATION),
                padding: pair(operator::PADDING),
            },
            depth_multiplier: usize::from(u16_at(record, operator::DEPTH_MULTIPLIER)),
            constants: Constants {
                weights: size_at(record, operator::WEIGHTS),
                biases: size_at(record, operator::BIASES),
                mantissas: size_at(record, operator::MANTISSAS),
                shifts: size_at(record, operator::SHIFTS),
                scales: size_at(record, operator::SCALES),
            },
            beta: f32_at(record, operator::BETA),
            parameters: size_at(record, operator::PARAMETERS),
            parameter_count: usize::from(u16_at(record, operator::PARAMETER_COUNT)),
        }
    }
}
