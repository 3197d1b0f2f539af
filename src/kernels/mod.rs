//! int8 forward kernels, one file an operator, bit-exact with TensorFlow Lite's reference kernels.
//!
//! A kernel knows slices and shapes, never the graph. Activations are HWC (NHWC with N = 1). All are total:
//! a slice that is too short leaves outputs unwritten, it never panics; a validated pack makes it never short.

mod broadcast;
mod conv2d;
mod depthwise;
mod elementwise;
mod fully_connected;
mod grouped;
mod lookup;
mod mean;
mod movement;
mod pool;
mod softmax;

pub use broadcast::{Operand, broadcast};
pub use conv2d::conv2d;
pub(crate) use conv2d::conv2d_rows;
pub use depthwise::depthwise_conv2d;
pub use elementwise::{ZeroPoints, add, multiply, prelu, squared_difference, subtract};
pub use fully_connected::{Scales, fully_connected};
pub use grouped::grouped_conv2d;
pub use lookup::lookup;
pub use mean::mean;
pub use movement::{copy_box, resize_bilinear, resize_nearest};
pub use pool::{average_pool2d, max_pool2d};
pub(crate) use softmax::exp_of_negative;
pub(crate) use softmax::softmax_of_classes;
pub use softmax::{Softmax, softmax};

pub use crate::cpu::int8::Requantization;
pub(crate) use crate::op::{Mean, Move, SumMultipliers};
