//! Extents and windows, and which taps of a window lie inside the input: one arithmetic for int8 and f32.

use core::ops::Range;

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

/// Geometry of a windowed operator; `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Filter extent.
    pub filter: [usize; 2],
    /// Step between outputs.
    pub stride: [usize; 2],
    /// Step between taps.
    pub dilation: [usize; 2],
    /// Rows above and columns left of the input that the first window covers.
    pub padding: [usize; 2],
}

/// A convolution's extents, checked.
///
/// ```
/// use flatmin::internals::op::{Shape, Window, ConvShape};
/// let input = Shape { height: 8, width: 8, channels: 16 };
/// let output = Shape { height: 4, width: 4, channels: 32 };
/// let window = Window { filter: [3; 2], stride: [2; 2], dilation: [1; 2], padding: [0; 2] };
/// let shape = ConvShape::new(input, output, window)?;
/// assert_eq!(shape.input_length(), 8 * 8 * 16);
/// assert_eq!(shape.output_length(), 4 * 4 * 32);
/// assert!(ConvShape::new(input, output, Window { stride: [0; 2], ..window }).is_err());
/// # Ok::<(), flatmin::internals::op::ShapeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    input: Shape,
    output: Shape,
    window: Window,
}

/// Why extents do not make a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ShapeError {
    /// An extent, a stride or a dilation of 0.
    #[error("{0} is 0, must be at least 1")]
    Zero(&'static str),
    /// More elements than the target can address.
    #[error("the {0} has more elements than an address can tell apart")]
    TooLarge(&'static str),
    /// A depthwise convolution gives a fixed number of outputs for every input channel.
    #[error("{outputs} output channels are no multiple of {inputs} input channels")]
    Multiplier {
        /// Channels of the input.
        inputs: usize,
        /// Channels of the output.
        outputs: usize,
    },
}

/// Most of any extent, stride, dilation or padding: products of two stay far from overflow on 32 bits.
const MOST: usize = 0x7fff;

const fn elements(a: usize, b: usize, c: usize) -> Option<usize> {
    match a.checked_mul(b) {
        Some(ab) => match ab.checked_mul(c) {
            // Bytes of floats must be addressable.
            Some(abc) if abc <= (isize::MAX as usize) / 4 => Some(abc),
            _ => None,
        },
        None => None,
    }
}

impl ConvShape {
    /// A convolution from `input` to `output`. Windows may reach beyond the input on every side.
    ///
    /// # Errors
    /// [`ShapeError`] names the extent.
    pub const fn new(input: Shape, output: Shape, window: Window) -> Result<Self, ShapeError> {
        let extents = [
            ("the input's height", input.height, 1),
            ("the input's width", input.width, 1),
            ("the input's number of channels", input.channels, 1),
            ("the output's height", output.height, 1),
            ("the output's width", output.width, 1),
            ("the output's number of channels", output.channels, 1),
            ("the filter's height", window.filter[0], 1),
            ("the filter's width", window.filter[1], 1),
            ("the stride along rows", window.stride[0], 1),
            ("the stride along columns", window.stride[1], 1),
            ("the dilation along rows", window.dilation[0], 1),
            ("the dilation along columns", window.dilation[1], 1),
            ("padding above", window.padding[0], 0),
            ("padding to the left", window.padding[1], 0),
        ];
        let mut i = 0;
        while i < extents.len() {
            let (name, value, least) = extents[i];
            if value < least {
                return Err(ShapeError::Zero(name));
            }
            if value > MOST {
                return Err(ShapeError::TooLarge(name));
            }
            i += 1;
        }
        if elements(input.height, input.width, input.channels).is_none() {
            return Err(ShapeError::TooLarge("input"));
        }
        if elements(output.height, output.width, output.channels).is_none() {
            return Err(ShapeError::TooLarge("output"));
        }
        match elements(window.filter[0], window.filter[1], input.channels) {
            Some(each) if elements(each, output.channels, 1).is_some() => {}
            _ => return Err(ShapeError::TooLarge("filter")),
        }
        Ok(Self { input, output, window })
    }

    /// Extent of the input.
    pub const fn input(&self) -> Shape {
        self.input
    }

    /// Extent of the output.
    pub const fn output(&self) -> Shape {
        self.output
    }

    /// Filter, stride, dilation, padding.
    pub const fn window(&self) -> Window {
        self.window
    }

    /// This shape with fewer input channels.
    pub(crate) fn of_inputs(&self, channels: usize) -> Self {
        Self { input: Shape { channels: channels.min(self.input.channels), ..self.input }, ..*self }
    }

    /// The same of fewer output channels.
    pub(crate) fn of_outputs(&self, channels: usize) -> Self {
        Self { output: Shape { channels: channels.min(self.output.channels), ..self.output }, ..*self }
    }

    /// Elements of the input.
    pub const fn input_length(&self) -> usize {
        self.input.height * self.input.width * self.input.channels
    }

    /// Elements of the output.
    pub const fn output_length(&self) -> usize {
        self.output.height * self.output.width * self.output.channels
    }

    /// A product of two matrices: 1x1, every pixel once, none left out.
    pub(crate) fn is_pointwise(&self) -> bool {
        let Window { filter, stride, padding, .. } = self.window;
        (filter, stride, padding) == ([1; 2], [1; 2], [0; 2])
            && (self.input.height, self.input.width) == (self.output.height, self.output.width)
    }

    /// A pointwise convolution does not care where lines end.
    pub(crate) fn flattened(&self) -> Self {
        let flat = |s: Shape| Shape { height: 1, width: s.height * s.width, channels: s.channels };
        if self.is_pointwise() {
            Self { input: flat(self.input), output: flat(self.output), ..*self }
        } else {
            *self
        }
    }

    pub(crate) fn rows(&self) -> Axis {
        Axis::new(&self.window, 0, self.input.height, self.output.height)
    }

    pub(crate) fn columns(&self) -> Axis {
        Axis::new(&self.window, 1, self.input.width, self.output.width)
    }
}

/// One axis of the window: tap j of output c lies at input `c * stride + j * dilation - padding`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub input: usize,
    pub output: usize,
    pub filter: usize,
    pub stride: usize,
    pub dilation: usize,
    pub padding: usize,
}

/// How many steps of `step` from `offset` stay below `limit`, the count of `t` with `offset + t * step < limit`.
#[inline(always)]
fn steps_below(limit: usize, offset: usize, step: usize) -> usize {
    let distance = limit.saturating_sub(offset);
    // Most strides and dilations are 1, and not every core divides.
    if step == 1 { distance } else { distance.div_ceil(step.max(1)) }
}

impl Axis {
    /// Axis 0 (rows) or 1 (columns) of `window`, over so many inputs and outputs.
    pub fn new(window: &Window, axis: usize, input: usize, output: usize) -> Self {
        Self {
            input,
            output,
            filter: window.filter[axis],
            stride: window.stride[axis],
            dilation: window.dilation[axis],
            padding: window.padding[axis],
        }
    }

    /// [`Self::taps`], and where the first of them lies.
    #[inline(always)]
    pub fn inside(&self, c: usize) -> (Range<usize>, usize) {
        let taps = self.taps(c);
        let place = (c * self.stride + taps.start * self.dilation).saturating_sub(self.padding);
        (taps, place)
    }

    /// Taps of output `c` that lie inside the input.
    #[inline(always)]
    pub fn taps(&self, c: usize) -> Range<usize> {
        let origin = c * self.stride;
        let first = steps_below(self.padding, origin, self.dilation);
        let end = steps_below(self.input + self.padding, origin, self.dilation).min(self.filter);
        first.min(end)..end
    }

    /// Outputs whose tap `j` lies inside the input.
    #[inline(always)]
    pub fn outputs(&self, j: usize) -> Range<usize> {
        let origin = j * self.dilation;
        let first = steps_below(self.padding, origin, self.stride);
        let end = steps_below(self.input + self.padding, origin, self.stride).min(self.output);
        first.min(end)..end
    }

    /// Where tap `j` of output `c` lies, for one of [`Self::taps`].
    #[inline(always)]
    pub fn place(&self, c: usize, j: usize) -> usize {
        (c * self.stride + j * self.dilation).wrapping_sub(self.padding)
    }

    /// The output whose tap `j` lies at input `q`, if there is one.
    // Elsewhere it takes registers from the loops around it.
    #[cfg_attr(target_arch = "riscv32", inline(always))]
    pub fn output_of(&self, q: usize, j: usize) -> Option<usize> {
        let end = q + self.padding;
        let distance = end.wrapping_sub(j * self.dilation);
        let c = if self.stride == 1 {
            // Before the first output it has wrapped around.
            distance
        } else if distance <= end && distance.is_multiple_of(self.stride) {
            distance / self.stride.max(1)
        } else {
            return None;
        };
        (c < self.output).then_some(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_and_outputs_are_those_that_counting_finds() {
        for filter in 1..5 {
            for stride in 1..4 {
                for dilation in 1..4 {
                    for padding in 0..5 {
                        for input in 1..8 {
                            let axis = Axis { input, output: 6, filter, stride, dilation, padding };
                            let at = |c: usize, j: usize| {
                                (c * stride + j * dilation).checked_sub(padding).filter(|&q| q < input)
                            };
                            for c in 0..6 {
                                for j in 0..filter {
                                    let place = at(c, j);
                                    assert_eq!(
                                        axis.taps(c).contains(&j),
                                        place.is_some(),
                                        "{axis:?} {c} {j}"
                                    );
                                    assert_eq!(
                                        axis.outputs(j).contains(&c),
                                        place.is_some(),
                                        "{axis:?} {c} {j}"
                                    );
                                    if let Some(q) = place {
                                        assert_eq!(axis.place(c, j), q);
                                        let (taps, first) = axis.inside(c);
                                        assert_eq!(first + (j - taps.start) * dilation, q);
                                        assert_eq!(axis.output_of(q, j), Some(c));
                                    }
                                }
                            }
                            for q in 0..input {
                                for j in 0..filter {
                                    let found = (0..6).find(|&c| at(c, j) == Some(q));
                                    assert_eq!(axis.output_of(q, j), found, "{axis:?} {q} {j}");
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
