//! The parameters of an operator that computes nothing.

/// A box of elements, its place in the input and its place in the output. Strides are in elements and may be
/// negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Elements along each axis, at least 1.
    pub extents: [usize; 4],
    /// First element in the input.
    pub from: usize,
    /// Steps in the input.
    pub from_strides: [isize; 4],
    /// First element in the output.
    pub to: usize,
    /// Steps in the output.
    pub to_strides: [isize; 4],
}

impl Move {
    /// Words of [`Self::words`].
    pub const WORDS: usize = 14;

    /// All of an array of `length` elements, as it lies.
    pub const fn row(length: usize) -> Self {
        let strides = [0, 0, 0, 1];
        Self { extents: [1, 1, 1, length], from: 0, from_strides: strides, to: 0, to_strides: strides }
    }

    /// As a pack keeps it: extents, from, strides, to, strides; `None` where a number exceeds an i32.
    pub fn words(&self) -> Option<[i32; Self::WORDS]> {
        let mut words = [0; Self::WORDS];
        let size = |value: usize| i32::try_from(value).ok();
        let step = |value: isize| i32::try_from(value).ok();
        for axis in 0..4 {
            words[axis] = size(self.extents[axis])?;
            words[5 + axis] = step(self.from_strides[axis])?;
            words[10 + axis] = step(self.to_strides[axis])?;
        }
        (words[4], words[9]) = (size(self.from)?, size(self.to)?);
        Some(words)
    }

    /// Reads [`Self::words`].
    pub fn read(words: &[i32]) -> Option<Self> {
        let words: &[i32; Self::WORDS] = words.try_into().ok()?;
        let size = |at: usize| usize::try_from(words[at]).ok();
        let step = |at: usize| isize::try_from(words[at]).ok();
        Some(Self {
            extents: [size(0)?, size(1)?, size(2)?, size(3)?],
            from: size(4)?,
            from_strides: [step(5)?, step(6)?, step(7)?, step(8)?],
            to: size(9)?,
            to_strides: [step(10)?, step(11)?, step(12)?, step(13)?],
        })
    }

    /// Whether every element that it touches lies inside an input and an output of these lengths.
    pub fn fits(&self, input: usize, output: usize) -> bool {
        let inside = |first: usize, strides: [isize; 4], length: usize| {
            let (mut low, mut high) = (first as i128, first as i128);
            for (extent, stride) in self.extents.into_iter().zip(strides) {
                let reach = extent.saturating_sub(1) as i128 * stride as i128;
                if reach < 0 { low += reach } else { high += reach }
            }
            low >= 0 && high < length as i128
        };
        let all_there = self.extents.iter().all(|&extent| extent > 0);
        all_there && inside(self.from, self.from_strides, input) && inside(self.to, self.to_strides, output)
    }

    /// Calls `each(element of the input, element of the output)` for every element of the box.
    pub(crate) fn for_each(&self, mut each: impl FnMut(usize, usize)) {
        let [n, h, w, c] = self.extents;
        let place = |first: usize, strides: [isize; 4], steps: [usize; 4]| {
            // Wrapping: what wraps around lies outside of the slices.
            strides.into_iter().zip(steps).fold(first, |at, (stride, step)| {
                at.wrapping_add_signed(stride.wrapping_mul(step.cast_signed()))
            })
        };
        for i in 0..n {
            for j in 0..h {
                for k in 0..w {
                    for l in 0..c {
                        let steps = [i, j, k, l];
                        let from = place(self.from, self.from_strides, steps);
                        each(from, place(self.to, self.to_strides, steps));
                    }
                }
            }
        }
    }
}
