//! Cores without vectors, whose every byte is a load of its own: rows and pixels meet in registers, so that a load serves
//! several products. Rust where registers are many (RISC-V), assembly where instructions reach eight (Armv6-M).

#[cfg(flatmin_thumb1)]
mod armv6m;
#[cfg(test)]
mod tests;

use super::int8::{Column, Filters, Taps};
pub use super::portable::Scratch;
use core::array::from_fn;

/// Rows that meet one column at once, and two.
const ROWS: [usize; 2] = [4, 2];
/// Values between two looks at the end. With more of them, or more rows, the compiler loads so far ahead on RISC-V that most
/// registers go to the stack and back: 9.4 instructions per product with eight rows and four values, 4.4 so.
const UNROLLED: usize = 2;
/// Channels summed side by side.
const CHANNELS: usize = if cfg!(flatmin_thumb1) { 4 } else { 8 };

/// `sums[o] = start[o] + sum_k (column[k] + offset) * weights[o, from + k]`, wrapping; where `from` is not 0, it goes
/// on from what is in `sums`.
pub fn accumulate(_scratch: &mut Scratch, filters: &Filters, column: Column, from: usize, sums: &mut [i32]) {
    if !filters.hold(from, column.len(), sums) {
        return;
    }
    begin(filters, from, sums);
    let done = many_rows::<1, { ROWS[0] }>([column], filters, from, 0, [&mut *sums]);
    many_rows::<1, 1>([column], filters, from, done, [sums]);
}

/// The same for two columns.
pub fn accumulate_two(
    scratch: &mut Scratch,
    filters: &Filters,
    columns: [Column; 2],
    from: usize,
    sums: [&mut [i32]; 2],
) {
    let [a, b] = columns;
    let [sums0, sums1] = sums;
    let alike = (a.rows, a.row_length) == (b.rows, b.row_length);
    let held = filters.hold(from, a.len(), sums0) && filters.hold(from, b.len(), sums1);
    if !alike || !held {
        accumulate(scratch, filters, a, from, sums0);
        return accumulate(scratch, filters, b, from, sums1);
    }
    begin(filters, from, sums0);
    begin(filters, from, sums1);
    let done = many_rows::<2, { ROWS[1] }>(columns, filters, from, 0, [&mut *sums0, &mut *sums1]);
    many_rows::<1, 1>([a], filters, from, done, [sums0]);
    many_rows::<1, 1>([b], filters, from, done, [sums1]);
}

/// Where sums start.
fn begin(filters: &Filters, from: usize, sums: &mut [i32]) {
    if from == 0 {
        for (sum, &start) in sums.iter_mut().zip(filters.start) {
            *sum = start;
        }
    }
}

/// Adds the products of P columns, and as many rows of weights from row `first` on as come in Ns; returns the first row
/// that is left. `Filters::hold` was asked.
#[inline(always)]
fn many_rows<const P: usize, const N: usize>(
    columns: [Column; P],
    filters: &Filters,
    from: usize,
    first: usize,
    mut sums: [&mut [i32]; P],
) -> usize {
    let Filters { weights, stride, start, offset } = *filters;
    let Some(Column { rows, row_length, .. }) = columns.first() else { return first };
    let mut next = first;
    while next + N <= start.len() {
        let filters: [&[i8]; N] = from_fn(|r| weights.get((next + r) * stride + from..).unwrap_or(&[]));
        let mut added = [[0; N]; P];
        for line in 0..*rows {
            let place = line * row_length;
            let x = columns.map(|column| column.values.get(line * column.row_stride..).unwrap_or(&[]));
            let w = filters.map(|filter| filter.get(place..).unwrap_or(&[]));
            add_products(&mut added, x, w, *row_length, offset);
        }
        for (sums, added) in sums.iter_mut().zip(added) {
            for (sum, added) in sums.get_mut(next..).unwrap_or(&mut []).iter_mut().zip(added) {
                *sum = sum.wrapping_add(added);
            }
        }
        next += N;
    }
    next
}

/// `sums[p][r] += sum_k (x[p][k] + offset) * w[r][k]` over `length` values; nothing if one of them has fewer.
#[inline(always)]
fn add_products<const P: usize, const N: usize>(
    sums: &mut [[i32; N]; P],
    x: [&[i8]; P],
    w: [&[i8]; N],
    length: usize,
    offset: i32,
) {
    #[cfg(flatmin_thumb1)]
    if armv6m::add_products(sums, x, w, length, offset) == length {
        return;
    }
    if x.iter().chain(&w).any(|values| values.len() < length) {
        return;
    }
    let x = x.map(|x| x.get(..length).unwrap_or(&[]).as_chunks::<UNROLLED>());
    let w = w.map(|w| w.get(..length).unwrap_or(&[]).as_chunks::<UNROLLED>());
    let mut multiply = |x: [i8; P], w: [i8; N]| {
        let x = x.map(|x| i32::from(x) + offset);
        for (r, w) in w.into_iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(x) {
                // |x + offset| <= 255 and |w| <= 128: a product cannot overflow.
                sums[r] = sums[r].wrapping_add(x * i32::from(w));
            }
        }
    };
    for i in 0..length / UNROLLED {
        // References: a copy of the bytes would be loaded as one number and taken apart again.
        let x = x.map(|(x, _)| x.get(i).unwrap_or(&[0; UNROLLED]));
        let w = w.map(|(w, _)| w.get(i).unwrap_or(&[0; UNROLLED]));
        for k in 0..UNROLLED {
            multiply(x.map(|x| x[k]), w.map(|w| w[k]));
        }
    }
    for i in 0..length % UNROLLED {
        let x = x.map(|(_, x)| x.get(i).copied().unwrap_or_default());
        multiply(x, w.map(|(_, w)| w.get(i).copied().unwrap_or_default()));
    }
}

/// `sums[c] = start[c] + sum over taps (input[tap, c] + offset) * weights[tap, c]`, wrapping; returns how many channels:
/// all, or none if there are not as many values.
pub fn depthwise(taps: Taps, offset: i32, start: &[i32], sums: &mut [i32]) -> usize {
    if start.len() < sums.len() || !taps.hold(sums.len()) {
        return 0;
    }
    let (start, count) = (start.get(..sums.len()).unwrap_or(&[]), sums.len());
    let ((blocks, rest), (starts, start_rest)) =
        (sums.as_chunks_mut::<CHANNELS>(), start.as_chunks::<CHANNELS>());
    for (block, (sums, start)) in blocks.iter_mut().zip(starts).enumerate() {
        *sums = *start;
        add_taps(taps.behind(block * CHANNELS), offset, sums);
    }
    let first = count - rest.len();
    for (at, (sum, &start)) in rest.iter_mut().zip(start_rest).enumerate() {
        let mut sums = [start];
        add_taps(taps.behind(first + at), offset, &mut sums);
        [*sum] = sums;
    }
    count
}

/// N channels.
#[inline(always)]
fn add_taps<const N: usize>(taps: Taps, offset: i32, sums: &mut [i32; N]) {
    #[cfg(flatmin_thumb1)]
    if armv6m::add_taps(taps, offset, sums) == N {
        return;
    }
    for row in 0..taps.rows {
        let [mut x_at, mut w_at] = taps.row_stride.map(|stride| row * stride);
        for _ in 0..taps.columns {
            let x = taps.input.get(x_at..).and_then(<[i8]>::first_chunk::<N>);
            let w = taps.weights.get(w_at..).and_then(<[i8]>::first_chunk::<N>);
            let (Some(x), Some(w)) = (x, w) else { return };
            for ((sum, &x), &w) in sums.iter_mut().zip(x).zip(w) {
                *sum = sum.wrapping_add((i32::from(x) + offset) * i32::from(w));
            }
            x_at += taps.column_stride[0];
            w_at += taps.column_stride[1];
        }
    }
}
