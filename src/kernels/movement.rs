//! Operators that compute nothing: elements move from one strided box to another.

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
}

/// Copies the box. What does not fit (see [`Move::fits`]) is left out.
///
/// ```
/// use flatmin::kernels::{Move, copy_box};
/// // The transpose of a 2x3 matrix.
/// let transpose = Move { extents: [1, 1, 2, 3], from: 0, from_strides: [0, 0, 3, 1], to: 0, to_strides: [0, 0, 1, 2] };
/// let mut y = [0; 6];
/// copy_box(&[1, 2, 3, 4, 5, 6], &transpose, &mut y);
/// assert_eq!(y, [1, 4, 2, 5, 3, 6]);
/// ```
pub fn copy_box(input: &[i8], movement: &Move, output: &mut [i8]) {
    let [outer, rows, columns, length] = movement.extents;
    let contiguous = movement.from_strides[3] == 1 && movement.to_strides[3] == 1;
    // Wrapping: what wraps around lies outside of the slices.
    let place = |first: usize, strides: [isize; 4], steps: [usize; 4]| {
        steps
            .into_iter()
            .zip(strides)
            .fold(first, |at, (step, stride)| at.wrapping_add_signed(step.cast_signed().wrapping_mul(stride)))
    };
    for n in 0..outer {
        for h in 0..rows {
            for w in 0..columns {
                let from = place(movement.from, movement.from_strides, [n, h, w, 0]);
                let to = place(movement.to, movement.to_strides, [n, h, w, 0]);
                if contiguous {
                    let source = input.get(from..from.wrapping_add(length));
                    let target = output.get_mut(to..to.wrapping_add(length));
                    if let (Some(source), Some(target)) = (source, target) {
                        target.copy_from_slice(source);
                    }
                    continue;
                }
                for c in 0..length {
                    let x = input.get(place(from, movement.from_strides, [0, 0, 0, c]));
                    let y = output.get_mut(place(to, movement.to_strides, [0, 0, 0, c]));
                    if let (Some(x), Some(y)) = (x, y) {
                        *y = *x;
                    }
                }
            }
        }
    }
}

/// RESIZE_NEAREST_NEIGHBOR: output pixel `(r, c)` is input pixel `(rows[r], columns[c])`; images HWC.
///
/// ```
/// let mut y = [0; 4];
/// flatmin::kernels::resize_nearest(&[5, 9], 2, 1, &[0, 0], &[0, 1], &mut y);
/// assert_eq!(y, [5, 9, 5, 9]);
/// ```
pub fn resize_nearest(
    input: &[i8],
    input_width: usize,
    channels: usize,
    rows: &[i32],
    columns: &[i32],
    output: &mut [i8],
) {
    let mut pixels = output.chunks_exact_mut(channels.max(1));
    for &row in rows {
        for (&column, pixel) in columns.iter().zip(&mut pixels) {
            let (row, column) = (row.max(0).cast_unsigned() as usize, column.max(0).cast_unsigned() as usize);
            let at = row.saturating_mul(input_width).saturating_add(column).saturating_mul(channels);
            if let Some(source) = input.get(at..at.saturating_add(channels)) {
                pixel.copy_from_slice(source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_with_steps_backwards() {
        // x[::-2] of 0..6
        let slice = Move {
            extents: [1, 1, 1, 3],
            from: 5,
            from_strides: [0, 0, 0, -2],
            to: 1,
            to_strides: [0, 0, 0, 1],
        };
        let mut y = [9; 5];
        copy_box(&[0, 1, 2, 3, 4, 5], &slice, &mut y);
        assert_eq!(y, [9, 5, 3, 1, 9]);
        assert!(slice.fits(6, 4) && !slice.fits(5, 4) && !slice.fits(6, 3));
        assert!(!Move { from: 3, ..slice }.fits(6, 4));
        assert!(!Move { extents: [0, 1, 1, 1], ..slice }.fits(6, 4));
        assert_eq!(Move::read(&slice.words().unwrap()), Some(slice));
        assert_eq!(Move::read(&[1; 13]), None);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let wild = Move {
            extents: [2, 3, 4, 5],
            from: 1 << 40,
            from_strides: [-7, 1 << 50, 3, 1],
            to: 2,
            to_strides: [1 << 60, -9, 1, 1],
        };
        let mut y = [0; 8];
        copy_box(&[1; 8], &wild, &mut y);
        copy_box(&[1; 8], &Move { from: 0, ..wild }, &mut y);
    }
}
