//! Blocks of sums that stay in registers: what the layers' loops have in common. Each names its order of
//! operations; how many sums run side by side changes no bit of any of them.

use super::Weight;
use crate::lanes::LANES;

/// Rows or channels that share what is loaded.
pub(super) const ROWS: usize = 4;

/// Sums in the lanes of [`crate::lanes::dot`], one row of lanes a filter.
pub(super) type Lanes = [[f32; LANES]; ROWS];

/// `sums[r][i mod LANES] += rows[r][i] * x[i]`, i ascending; rows and x are of one length.
#[inline(always)]
pub(super) fn dots<W: Weight>(sums: &mut Lanes, rows: [&[W]; ROWS], x: &[f32]) {
    for (sums, row) in sums.iter_mut().zip(rows) {
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (x, x_rest) = x.as_chunks::<LANES>();
        for (row, x) in row.iter().zip(x) {
            for ((sum, &w), &x) in sums.iter_mut().zip(row).zip(x) {
                *sum += w.value() * x;
            }
        }
        for ((sum, &w), &x) in sums.iter_mut().zip(row_rest).zip(x_rest) {
            *sum += w.value() * x;
        }
    }
}

/// `sums[i] += sum_o factors[o] * rows[o * stride + i]`, o ascending, for a block of N columns.
#[inline(always)]
pub(super) fn combine<const N: usize, W: Weight>(
    sums: &mut [f32; N],
    factors: &[f32],
    rows: &[W],
    stride: usize,
) {
    for (&factor, row) in factors.iter().zip(rows.chunks(stride.max(1))) {
        let Some(row) = row.first_chunk::<N>() else { return };
        for (sum, &w) in sums.iter_mut().zip(row) {
            *sum += factor * w.value();
        }
    }
}

/// `sums[o][k] += sum_p delta[p][o] * x[p][k]`, p ascending: the pixels of a line, `steps` apart in `delta` and x.
#[inline(always)]
pub(super) fn outer<const M: usize, const N: usize>(
    sums: &mut [[f32; N]; M],
    delta: &[f32],
    x: &[f32],
    steps: [usize; 2],
    pixels: usize,
) {
    let pairs = delta.chunks(steps[0].max(1)).zip(x.chunks(steps[1].max(1)));
    for (delta, x) in pairs.take(pixels) {
        let (Some(delta), Some(x)) = (delta.first_chunk::<M>(), x.first_chunk::<N>()) else { return };
        for (sums, &delta) in sums.iter_mut().zip(delta) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += delta * x;
            }
        }
    }
}

/// `sums[k] += a[k] * b[k]`.
#[inline(always)]
pub(super) fn products<const N: usize, W: Weight>(sums: &mut [f32; N], a: &[f32], b: &[W]) {
    let (Some(a), Some(b)) = (a.first_chunk::<N>(), b.first_chunk::<N>()) else { return };
    for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b.value();
    }
}
