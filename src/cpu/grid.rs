//! Which pixels of two activations belong together.

/// Pixels of two activations that belong together, as offsets in one and in the other.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    steps: [usize; 2],
    pixels: usize,
    line_steps: [usize; 2],
    lines: usize,
    /// Unsafe code relies on these.
    #[cfg_attr(not(any(flatmin_vfp, flatmin_avx)), allow(dead_code))]
    last: [usize; 2],
    #[cfg_attr(not(flatmin_vfp), allow(dead_code))]
    jumps: [usize; 2],
}

impl Grid {
    /// A single pixel; the next would lie after everything.
    pub const PIXEL: Self = Self {
        steps: [usize::MAX; 2],
        pixels: 1,
        line_steps: [usize::MAX; 2],
        lines: 1,
        last: [0; 2],
        jumps: [0; 2],
    };

    /// `lines` of so many `pixels`; `steps` lead from one pixel of a line to the next, `line_steps` to the next line.
    #[inline(always)]
    pub fn new(steps: [usize; 2], pixels: usize, line_steps: [usize; 2], lines: usize) -> Self {
        let last = |axis: usize| {
            let in_line = pixels.checked_sub(1)?.checked_mul(steps[axis])?;
            lines.checked_sub(1)?.checked_mul(line_steps[axis])?.checked_add(in_line)
        };
        let jump = |axis: usize| line_steps[axis].wrapping_sub(pixels.wrapping_mul(steps[axis]));
        let last = [last(0).unwrap_or(usize::MAX), last(1).unwrap_or(usize::MAX)];
        Self { steps, pixels, line_steps, lines, last, jumps: [jump(0), jump(1)] }
    }

    /// From one pixel of a line to the next.
    #[inline(always)]
    pub fn steps(&self) -> [usize; 2] {
        self.steps
    }

    /// Pixels of a line.
    #[inline(always)]
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// From one line to the next.
    #[inline(always)]
    pub fn line_steps(&self) -> [usize; 2] {
        self.line_steps
    }

    /// Lines.
    #[inline(always)]
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Whether there is no pixel.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.pixels == 0 || self.lines == 0
    }

    /// The two activations' pixels in the other order.
    #[inline(always)]
    pub fn turned(&self) -> Self {
        let Self { steps: [a, b], line_steps: [c, d], last: [e, f], jumps: [g, h], .. } = *self;
        Self { steps: [b, a], line_steps: [d, c], last: [f, e], jumps: [h, g], ..*self }
    }

    /// Where the last pixel lies, which no other lies after; `usize::MAX`, which no slice reaches, if there is none or
    /// if it is further still.
    #[inline(always)]
    #[cfg(flatmin_vfp)]
    pub fn last(&self) -> [usize; 2] {
        self.last
    }

    /// Whether every pixel lies in a slice of so many values, with so many channels each; not for no pixels.
    #[cfg(flatmin_avx)]
    pub fn reaches(&self, lengths: [usize; 2], channels: [usize; 2]) -> bool {
        let ends =
            |axis: usize| self.last[axis].checked_add(channels[axis]).is_some_and(|end| end <= lengths[axis]);
        !self.is_empty() && ends(0) && ends(1)
    }

    /// From where a line's next pixel would be to the next line's first.
    #[inline(always)]
    #[cfg(flatmin_vfp)]
    pub fn jumps(&self) -> [usize; 2] {
        self.jumps
    }
}
