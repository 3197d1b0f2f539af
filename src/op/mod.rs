//! Geometry and parameters of operators, as a pack keeps them: what both the int8 kernels and the f32 tail read.

mod mean;
mod movement;
mod sum;
mod window;

pub use mean::Mean;
pub use movement::Move;
pub use sum::SumMultipliers;
pub(crate) use window::Axis;
pub use window::{ConvShape, Shape, ShapeError, Window};
