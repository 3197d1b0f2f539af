//! Plain Rust that LLVM vectorizes: the host's, Cortex-M0+'s and RISC-V's path, and the one the others must equal.

mod requantize;

use super::int8::{Column, Filters, Taps};
pub use requantize::{Requantizer, requantize_as_double};

/// Buffers that a path wants; this one wants none.
#[derive(Debug)]
pub struct Scratch;

impl Scratch {
    /// No buffer.
    pub const EMPTY: Self = Self;
}

/// `sums[o] = start[o] + sum_k (column[k] + offset) * weights[o, from + k]`, wrapping; where `from` is not 0, it goes
/// on from what is in `sums`.
pub fn accumulate(_scratch: &mut Scratch, filters: &Filters, column: Column, from: usize, sums: &mut [i32]) {
    if !filters.hold(from, column.len(), sums) {
        return;
    }
    if from == 0 {
        sums.copy_from_slice(filters.start);
    }
    let Filters { weights, stride, offset, .. } = *filters;
    let weights = weights.get(from..).unwrap_or(&[]);
    // Without an offset LLVM knows that a product has 15 bits, and sums pairs.
    if offset == 0 {
        add_products(column, i32::from, weights, stride, sums);
    } else {
        add_products(column, |x| i32::from(x) + offset, weights, stride, sums);
    }
}

/// The same for two columns.
pub fn accumulate_two(
    scratch: &mut Scratch,
    filters: &Filters,
    columns: [Column; 2],
    from: usize,
    sums: [&mut [i32]; 2],
) {
    for (column, sums) in columns.into_iter().zip(sums) {
        accumulate(scratch, filters, column, from, sums);
    }
}

/// Armv6-M has eight registers that instructions reach: four sums at a time would live in memory.
const FEW_REGISTERS: bool = cfg!(target_arch = "arm");

#[inline]
fn add_products(
    column: Column,
    widen: impl Fn(i8) -> i32 + Copy,
    weights: &[i8],
    stride: usize,
    sums: &mut [i32],
) {
    let mut rest = weights;
    let (blocked, single) = sums.split_at_mut(if FEW_REGISTERS { 0 } else { sums.len() / 4 * 4 });
    let mut blocks = blocked.chunks_exact_mut(4);
    for block in &mut blocks {
        let filters = [0, 1, 2, 3].map(|o| rest.get(o * stride..).unwrap_or(&[]));
        let mut at = 0;
        let mut added = [0i32; 4];
        for row in column.iter() {
            let [w0, w1, w2, w3] = filters.map(|w| w.get(at..at + row.len()).unwrap_or(&[]));
            for ((((&x, &w0), &w1), &w2), &w3) in row.iter().zip(w0).zip(w1).zip(w2).zip(w3) {
                let x = widen(x);
                // |x| <= 255 and |w| <= 128: a product cannot overflow.
                for (sum, w) in added.iter_mut().zip([w0, w1, w2, w3]) {
                    *sum = sum.wrapping_add(x * i32::from(w));
                }
            }
            at += row.len();
        }
        for (sum, added) in block.iter_mut().zip(added) {
            *sum = sum.wrapping_add(added);
        }
        rest = rest.get(4 * stride..).unwrap_or(&[]);
    }
    for sum in single {
        let mut at = 0;
        for row in column.iter() {
            let w = rest.get(at..at + row.len()).unwrap_or(&[]);
            *sum = row.iter().zip(w).fold(*sum, |sum, (&x, &w)| sum.wrapping_add(widen(x) * i32::from(w)));
            at += row.len();
        }
        rest = rest.get(stride..).unwrap_or(&[]);
    }
}

/// Copies as many values as both have.
#[inline]
pub fn copy(from: &[i8], to: &mut [i8]) {
    let length = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..length), to.get_mut(..length)) {
        to.copy_from_slice(from);
    }
}

/// Fills `values`.
#[inline]
pub fn fill(value: i8, values: &mut [i8]) {
    values.fill(value);
}

/// Channels summed side by side.
const BLOCK: usize = 8;

/// `sums[c] = start[c] + sum over taps (input[tap, c] + offset) * weights[tap, c]`, wrapping; returns how many: all.
pub fn depthwise(taps: Taps, offset: i32, start: &[i32], sums: &mut [i32]) -> usize {
    for ((block, sums), start) in sums.chunks_mut(BLOCK).enumerate().zip(start.chunks(BLOCK)) {
        let first = block * BLOCK;
        let mut added = [0i32; BLOCK];
        for (sum, &start) in added.iter_mut().zip(start) {
            *sum = start;
        }
        for row in 0..taps.rows {
            let [mut x_at, mut w_at] = taps.row_stride.map(|stride| row * stride + first);
            for _ in 0..taps.columns {
                let x = taps.input.get(x_at..x_at + sums.len()).unwrap_or(&[]);
                let w = taps.weights.get(w_at..w_at + sums.len()).unwrap_or(&[]);
                for ((sum, &x), &w) in added.iter_mut().zip(x).zip(w) {
                    *sum = sum.wrapping_add((i32::from(x) + offset) * i32::from(w));
                }
                x_at += taps.column_stride[0];
                w_at += taps.column_stride[1];
            }
        }
        for (sum, added) in sums.iter_mut().zip(added) {
            *sum = added;
        }
    }
    sums.len()
}

/// `sum (x[i] + offset) * w[i]` over the shorter length, wrapping: for kernels that share no work between outputs.
#[inline]
pub fn dot(x: &[i8], offset: i32, w: &[i8]) -> i32 {
    x.iter().zip(w).fold(0i32, |sum, (&x, &w)| {
        // |x + offset| <= 255 and |w| <= 128: the product cannot overflow.
        sum.wrapping_add((i32::from(x) + offset) * i32::from(w))
    })
}
