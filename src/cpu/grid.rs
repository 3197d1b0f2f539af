//! Which pixels of two activations belong together.

/// Pixels of two activations that belong together, as offsets in one and in the other.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    steps: [usize; 2],
    pixels: usize,
    line_steps: [usize; 2],
    lines: usize,
    /// Unsafe code relies on these.
    #[cfg_attr(not(flatmin_floats), allow(dead_code))]
    last: [usize; 2],
    #[cfg_attr(not(flatmin_floats), allow(dead_code))]
    jumps: [usize; 2],
}

impl Grid {
    /// A single pixel; the next would lie behind everything.
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

    /// Where the last pixel lies, which no other lies behind; `usize::MAX`, which no slice reaches, if there is none or
    /// if it is further still.
    #[inline(always)]
    #[cfg(flatmin_floats)]
    pub fn last(&self) -> [usize; 2] {
        self.last
    }

    /// From where a line's next pixel would be to the next line's first.
    #[inline(always)]
    #[cfg(flatmin_floats)]
    pub fn jumps(&self) -> [usize; 2] {
        self.jumps
    }
}
