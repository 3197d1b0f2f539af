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
pub use depthwise::depthwise_conv2d;
pub use elementwise::{SumMultipliers, ZeroPoints, add, multiply, prelu, subtract};
pub use fully_connected::{Scales, fully_connected};
pub use grouped::grouped_conv2d;
pub use lookup::lookup;
pub use mean::{Mean, mean};
pub use movement::{Move, copy_box, resize_nearest};
pub use pool::{average_pool2d, max_pool2d};
pub(crate) use softmax::exp_of_negative;
pub(crate) use softmax::softmax_of_classes;
pub use softmax::{Softmax, softmax};

pub use crate::cpu::int8::Requantization;
use crate::pack::Window;

/// Extent of an activation: rows, columns, channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

/// The taps of a window along one axis that fall inside the input: (first tap, taps, input position of the
/// first). `output` is the output's position.
#[inline]
pub(crate) fn taps_inside(
    window: &Window,
    axis: usize,
    output: usize,
    extent: usize,
) -> (usize, usize, usize) {
    let [filter, dilation, padding] = [window.filter[axis], window.dilation[axis], window.padding[axis]];
    let origin = output * window.stride[axis];
    // Taps before `first` lie in the padding in front.
    let first = padding.saturating_sub(origin).div_ceil(dilation.max(1));
    let position = origin + first * dilation - padding.min(origin + first * dilation);
    let room = extent.saturating_sub(position).div_ceil(dilation.max(1));
    (first, room.min(filter.saturating_sub(first)), position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn taps_inside_equals_enumeration() {
        for extent in 1..8usize {
            for filter in 1..5usize {
                for stride in 1..4usize {
                    for dilation in 1..4usize {
                        for padding in 0..filter * dilation {
                            for output in 0..6usize {
                                let window = Window {
                                    filter: [filter; 2],
                                    stride: [stride; 2],
                                    dilation: [dilation; 2],
                                    padding: [padding; 2],
                                };
                                let position =
                                    |tap: usize| (output * stride + tap * dilation) as i64 - padding as i64;
                                let inside: Vec<usize> = (0..filter)
                                    .filter(|&tap| (0..extent as i64).contains(&position(tap)))
                                    .collect();
                                let (first, count, at) = taps_inside(&window, 0, output, extent);
                                assert_eq!(count, inside.len());
                                if let Some(&tap) = inside.first() {
                                    assert_eq!((first, at as i64), (tap, position(tap)));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
