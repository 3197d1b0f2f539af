//! Operators that compute nothing: elements move from one strided box to another.

use crate::op::Move;

/// Copies the box. What does not fit (see [`Move::fits`]) is left out.
///
/// ```
/// use flatmin::internals::{op::Move, kernels::copy_box};
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
/// flatmin::internals::kernels::resize_nearest(&[5, 9], 2, 1, &[0, 0], &[0, 1], &mut y);
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
            // As long as the pixel is: the compiler sees it.
            if let Some(source) = input.get(at..).and_then(|rest| rest.get(..pixel.len())) {
                pixel.copy_from_slice(source);
            }
        }
    }
}

/// RESIZE_BILINEAR of an HWC image. Rows and columns are triples: the input's place before the output's, the one after it, and
/// 1024ths of the way from the one to the other.
///
/// ```
/// let mut y = [0; 3];
/// flatmin::internals::kernels::resize_bilinear(&[5, 9], 2, 1, &[0, 0, 0], &[0, 0, 0, 0, 1, 512, 1, 1, 0], &mut y);
/// assert_eq!(y, [5, 7, 9]);
/// ```
pub fn resize_bilinear(
    input: &[i8],
    input_width: usize,
    channels: usize,
    rows: &[i32],
    columns: &[i32],
    output: &mut [i8],
) {
    const ONE: i32 = 1 << 10;
    let place = |row: i32, column: i32| {
        let [row, column] = [row, column].map(|place| place.max(0).cast_unsigned() as usize);
        row.saturating_mul(input_width).saturating_add(column).saturating_mul(channels)
    };
    let mut pixels = output.chunks_exact_mut(channels.max(1));
    for &[above, below, down] in rows.as_chunks().0 {
        for (&[left, right, along], pixel) in columns.as_chunks().0.iter().zip(&mut pixels) {
            let corner = |row, column| {
                let at = place(row, column);
                input.get(at..at.saturating_add(channels)).unwrap_or(&[])
            };
            let (first, second) = (corner(above, left), corner(above, right));
            let (third, fourth) = (corner(below, left), corner(below, right));
            let weights =
                [(ONE - down) * (ONE - along), (ONE - down) * along, down * (ONE - along), down * along];
            for ((((y, a), b), c), d) in pixel.iter_mut().zip(first).zip(second).zip(third).zip(fourth) {
                let corners = [*a, *b, *c, *d].map(i32::from);
                let sum: i32 = corners.into_iter().zip(weights).map(|(x, weight)| x * weight).sum();
                let half = if sum > 0 { 1 << 19 } else { -(1 << 19) };
                // Towards zero, as the reference divides.
                *y = crate::quant::saturate((sum + half) / (1 << 20));
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
