//! Blocks of sums that stay in registers: what the layers' loops have in common. Each names its order of
//! operations; how many sums run side by side changes no bit of any of them.

#[cfg(flatmin_floats)]
use super::Rest;
#[cfg(flatmin_floats)]
use super::floats;
use super::grid::Grid;
use super::lanes::LANES;
use super::scalar;

/// A weight: trained ones are f32, frozen ones the pack's int8 values, whose scale is applied to the sums and to
/// `delta`.
pub trait Weight: Copy {
    /// As a factor.
    fn value(self) -> f32;

    /// The weights themselves, if they are floats.
    fn floats(weights: &[Self]) -> Option<&[f32]>;
}

impl Weight for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }

    #[inline(always)]
    fn floats(weights: &[Self]) -> Option<&[f32]> {
        Some(weights)
    }
}

impl Weight for i8 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    fn floats(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

/// Four rows of floats, if they are floats.
#[cfg(flatmin_floats)]
#[inline(always)]
fn rows_of_floats<W: Weight>([a, b, c, d]: [&[W]; ROWS]) -> Option<[&[f32]; ROWS]> {
    Some([W::floats(a)?, W::floats(b)?, W::floats(c)?, W::floats(d)?])
}

/// Rows or channels that share what is loaded.
pub const ROWS: usize = 4;

/// Sums in the lanes of [`super::lanes::dot`], one row of lanes a filter.
pub type Lanes = [[f32; LANES]; ROWS];

/// `sums[r][i mod LANES] += rows[r][i] * x[i]`, i ascending.
#[inline(always)]
pub fn dots<W: Weight>(sums: &mut Lanes, rows: [&[W]; ROWS], x: &[f32]) {
    #[cfg(flatmin_floats)]
    let (rows, x) = {
        let done = rows_of_floats(rows).map_or(0, |rows| floats::dots(sums, rows, x));
        if done == x.len() {
            return;
        }
        (rows.rest(done), x.rest(done))
    };
    for (sums, row) in sums.iter_mut().zip(rows) {
        let (row, row_rest) = row.as_chunks::<LANES>();
        let (x, x_rest) = x.as_chunks::<LANES>();
        for (row, x) in row.iter().zip(x) {
            for ((sum, &w), &x) in sums.iter_mut().zip(row).zip(x) {
                *sum = scalar(*sum + scalar(w.value() * x));
            }
        }
        for ((sum, &w), &x) in sums.iter_mut().zip(row_rest).zip(x_rest) {
            *sum = scalar(*sum + scalar(w.value() * x));
        }
    }
}

/// `sums[i] += sum_o factors[o] * rows[o * stride + i]`, o ascending, for a block of N columns.
#[inline(always)]
pub fn combine<const N: usize, W: Weight>(sums: &mut [f32; N], factors: &[f32], rows: &[W], stride: usize) {
    #[cfg(flatmin_floats)]
    if let (Some(sums), Some(rows)) = (sums.as_mut_slice().as_mut_array::<16>(), W::floats(rows)) {
        if floats::combine(sums, factors, rows, stride, false) == N {
            return;
        }
    }
    for (&factor, row) in factors.iter().zip(rows.chunks(stride.max(1))) {
        let Some(row) = row.first_chunk::<N>() else { return };
        for (sum, &w) in sums.iter_mut().zip(row) {
            *sum = scalar(*sum + scalar(factor * w.value()));
        }
    }
}

/// [`combine`] from nothing, for sixteen columns of floats.
#[inline(always)]
pub fn combine_sixteen(sums: &mut [f32; 16], factors: &[f32], rows: &[f32], stride: usize) {
    #[cfg(flatmin_floats)]
    if floats::combine(sums, factors, rows, stride, true) == sums.len() {
        return;
    }
    *sums = [0.0; 16];
    combine(sums, factors, rows, stride);
}

/// `d[o * stride + k] += scale * sum_p delta[p][o] * x[p][k]` for a block of M by N, line by line, p ascending.
#[inline(always)]
pub fn outer<const M: usize, const N: usize>(
    d: &mut [f32],
    stride: usize,
    scale: f32,
    delta: &[f32],
    x: &[f32],
    grid: &Grid,
) {
    #[cfg(flatmin_floats)]
    if M == ROWS && N == LANES && floats::outer(d, stride, scale, delta, x, grid) == M {
        return;
    }
    let mut sums = [[0.0; N]; M];
    add_outer(&mut sums, delta, x, grid);
    for (o, sums) in sums.into_iter().enumerate() {
        let Some(d) = d.get_mut(o * stride..).and_then(|d| d.first_chunk_mut::<N>()) else { return };
        for (d, sum) in d.iter_mut().zip(sums) {
            *d = scalar(*d + scalar(scale * sum));
        }
    }
}

/// `sums[o][k] += sum_p delta[p][o] * x[p][k]`.
#[inline(always)]
fn add_outer<const M: usize, const N: usize>(
    sums: &mut [[f32; N]; M],
    delta: &[f32],
    x: &[f32],
    grid: &Grid,
) {
    for line in 0..grid.lines() {
        let [delta, x] = [(delta, 0), (x, 1)].map(|(values, axis)| {
            values.get(line * grid.line_steps()[axis]..).unwrap_or(&[]).chunks(grid.steps()[axis].max(1))
        });
        for (delta, x) in delta.zip(x).take(grid.pixels()) {
            let (Some(delta), Some(x)) = (delta.first_chunk::<M>(), x.first_chunk::<N>()) else { return };
            for (sums, &delta) in sums.iter_mut().zip(delta) {
                for (sum, &x) in sums.iter_mut().zip(x) {
                    *sum = scalar(*sum + scalar(delta * x));
                }
            }
        }
    }
}

/// `sums[k] += sum_p a[p][k] * b[p][k]`, line by line, p ascending.
#[inline(always)]
pub fn products<const N: usize, W: Weight>(sums: &mut [f32; N], a: &[f32], b: &[W], grid: &Grid) {
    #[cfg(flatmin_floats)]
    if let (Some(sums), Some(b)) = (sums.as_mut_slice().as_mut_array::<16>(), W::floats(b))
        && floats::products(sums, a, b, grid) == N
    {
        return;
    }
    for line in 0..grid.lines() {
        let a = a.get(line * grid.line_steps()[0]..).unwrap_or(&[]).chunks(grid.steps()[0].max(1));
        let b = b.get(line * grid.line_steps()[1]..).unwrap_or(&[]).chunks(grid.steps()[1].max(1));
        for (a, b) in a.zip(b).take(grid.pixels()) {
            let (Some(a), Some(b)) = (a.first_chunk::<N>(), b.first_chunk::<N>()) else { return };
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum = scalar(*sum + scalar(a * b.value()));
            }
        }
    }
}

/// `y[k] = sum_p a[p][k] * b[p][k] + biases[k]`, line by line, p ascending, the biases last; returns how many values:
/// all, which may be overwritten, or none.
#[inline(always)]
pub fn products_onto<const N: usize, W: Weight>(
    y: &mut [f32; N],
    a: &[f32],
    b: &[W],
    biases: &[f32; N],
    grid: &Grid,
) -> usize {
    #[cfg(flatmin_mve_float)]
    if let (Some(y), Some(b), Some(biases)) =
        (y.as_mut_slice().as_mut_array::<16>(), W::floats(b), biases.as_slice().as_array::<16>())
    {
        return floats::products_onto(y, a, b, biases, grid);
    }
    let _ = (y, a, b, biases, grid);
    0
}

/// `y[k] = sum_p a[p][k] * b[p][k]`, line by line, p ascending, backwards in `a` from value `first` on; returns how many
/// values: all, which may be overwritten, or none.
#[inline(always)]
pub fn products_back<W: Weight>(y: &mut [f32; 16], a: &[f32], first: usize, b: &[W], grid: &Grid) -> usize {
    #[cfg(flatmin_mve_float)]
    return W::floats(b).map_or(0, |b| floats::products_back(y, a, first, b, grid));
    #[cfg(not(flatmin_mve_float))]
    {
        let _ = (y, a, first, b, grid);
        0
    }
}

/// `sums[i] = sum_p sum_o factors[p][o] * rows[p][o * stride + i]`, line by line, p ascending, backwards in `factors` from
/// value `first` on, and for each of them `count` o ascending; returns how many sums: all, which may be overwritten, or
/// none.
#[inline(always)]
pub fn combine_taps<const N: usize, W: Weight>(
    sums: &mut [f32; N],
    factors: &[f32],
    first: usize,
    rows: &[W],
    [stride, count]: [usize; 2],
    grid: &Grid,
) -> usize {
    #[cfg(flatmin_mve_float)]
    if let (Some(sums), Some(rows)) = (sums.as_mut_slice().as_mut_array::<16>(), W::floats(rows)) {
        return floats::combine_taps(sums, factors, first, rows, stride, count, grid);
    }
    let _ = (sums, factors, first, rows, stride, count, grid);
    0
}

/// `y[p * channels + i] = sum_o factors[p * outputs + o] * w[o * channels + i]`, o ascending, for all pixels, for the first
/// channels: returns how many they are, and writes none of the others'.
#[inline(always)]
pub fn combine_pixels<W: Weight>(
    y: &mut [f32],
    factors: &[f32],
    w: &[W],
    [channels, outputs]: [usize; 2],
) -> usize {
    #[cfg(flatmin_mve_float)]
    return W::floats(w).map_or(0, |w| {
        let blocks = (0..channels / 16).map(|block| block * 16).find(|&first| {
            let (y, w) = (y.get_mut(first..).unwrap_or(&mut []), w.get(first..).unwrap_or(&[]));
            floats::combine_pixels(y, factors, w, [channels, outputs]) == 0
        });
        blocks.unwrap_or(channels / 16 * 16)
    });
    #[cfg(not(flatmin_mve_float))]
    {
        let _ = (y, factors, w, channels, outputs);
        0
    }
}

/// What a pixel of a convolution sees: `lines` of `length` values, `x_step` apart in the input and `w_step` in a filter,
/// and filters `filter_step` apart.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(flatmin_mve_float), allow(dead_code))]
pub struct Window {
    /// Lines of the window inside the input.
    pub lines: usize,
    /// Values of a line.
    pub length: usize,
    /// From one line to the next in the input.
    pub x_step: usize,
    /// The same in a filter.
    pub w_step: usize,
    /// From one filter to the next.
    pub filter_step: usize,
}

/// `y[o] = sum over lines and i of x[line, i] * w[o, line, i] + biases[o]`, value i of a line through lane i mod 4, for the
/// first filters: returns how many they are, and writes none of the others'.
#[inline(always)]
pub fn forward_window<W: Weight>(
    window: &Window,
    x: &[f32],
    w: &[W],
    biases: &[f32],
    y: &mut [f32],
) -> usize {
    #[cfg(flatmin_mve_float)]
    return W::floats(w).map_or(0, |w| floats::forward_window(window, x, w, biases, y));
    #[cfg(not(flatmin_mve_float))]
    {
        let _ = (window, x, w, biases, y);
        0
    }
}

/// `z[o] = sum_i w[o * inputs + i] * x[i] + biases[o]`, the sum as [`super::lanes::dots`] takes it, for the first outputs:
/// returns how many they are, and writes none of the others'.
#[inline(always)]
pub fn dense(w: &[f32], biases: &[f32], x: &[f32], z: &mut [f32]) -> usize {
    #[cfg(flatmin_floats)]
    return floats::forward(w, biases, x, z);
    #[cfg(not(flatmin_floats))]
    {
        let _ = (w, biases, x, z);
        0
    }
}

/// `d[o * inputs + i] += (scale * delta[o]) * x[i]` in the rows where delta is not 0, for the first rows: returns how
/// many they are.
#[inline(always)]
pub fn add_rank_one(d: &mut [f32], scale: f32, delta: &[f32], x: &[f32]) -> usize {
    #[cfg(flatmin_floats)]
    return floats::add_rank_one(d, scale, delta, x);
    #[cfg(not(flatmin_floats))]
    {
        let _ = (d, scale, delta, x);
        0
    }
}

/// Most samples of one call of [`dense_together`] and [`add_rank_ones`]; 1 where neither does anything.
pub const TOGETHER: usize = if cfg!(flatmin_avx) { 8 } else { 1 };

/// [`dense`] of several samples, an x and a z each, and of all outputs, for the first samples: returns how many.
#[inline(always)]
pub fn dense_together(w: &[f32], biases: &[f32], samples: &mut [(&[f32], &mut [f32])]) -> usize {
    #[cfg(flatmin_avx)]
    return super::x86_64::dense(w, biases, samples);
    #[cfg(not(flatmin_avx))]
    {
        let _ = (w, biases, samples);
        0
    }
}

/// [`add_rank_one`] of one sample after the other, a delta and an x each, for the first samples: returns how many.
#[inline(always)]
pub fn add_rank_ones(d: &mut [f32], scale: f32, samples: &[(&[f32], &[f32])]) -> usize {
    #[cfg(flatmin_avx)]
    return super::x86_64::add_rank_ones(d, scale, samples);
    #[cfg(not(flatmin_avx))]
    {
        let _ = (d, scale, samples);
        0
    }
}

/// `rows[r][i] += factors[r] * x[i]`.
#[inline(always)]
pub fn add_to_rows(
    #[cfg_attr(not(flatmin_floats), allow(unused_mut))] mut rows: [&mut [f32]; ROWS],
    factors: [f32; ROWS],
    x: &[f32],
) {
    path!(add_to_rows(&mut rows, &factors, x) of rows, x);
    for (row, factor) in rows.into_iter().zip(factors) {
        for (d, &x) in row.iter_mut().zip(x) {
            *d = scalar(*d + scalar(factor * x));
        }
    }
}

/// `v[r][i] = momentum * v[r][i] + factors[r] * x[i]`, then `w[r][i] += rate * v[r][i]`.
#[inline(always)]
pub fn descend_along(
    #[cfg_attr(not(flatmin_floats), allow(unused_mut))] mut v: [&mut [f32]; ROWS],
    #[cfg_attr(not(flatmin_floats), allow(unused_mut))] mut w: [&mut [f32]; ROWS],
    factors: [f32; ROWS],
    x: &[f32],
    momentum: f32,
    rate: f32,
) {
    path!(descend_along(&mut v, &mut w, &factors, x, momentum, rate) of v, w, x);
    for ((v, w), factor) in v.into_iter().zip(w).zip(factors) {
        descend_each(v, w, factor, x, momentum, rate);
    }
}

/// [`descend_along`] for a single row.
#[inline(always)]
pub fn descend_row(v: &mut [f32], w: &mut [f32], factor: f32, x: &[f32], momentum: f32, rate: f32) {
    path!(descend_row(v, w, x, factor, momentum, rate) of v, w, x);
    descend_each(v, w, factor, x, momentum, rate);
}

#[inline(always)]
fn descend_each(v: &mut [f32], w: &mut [f32], factor: f32, x: &[f32], momentum: f32, rate: f32) {
    for ((v, w), &x) in v.iter_mut().zip(w).zip(x) {
        *v = scalar(*v * momentum);
        *v = scalar(*v + scalar(factor * x));
        *w = scalar(*w + scalar(rate * *v));
    }
}

/// `y[p * outputs + o] = sum_k x[p * inputs + k] * w[o * inputs + k] + biases[o]` for four pixels, k ascending, the
/// bias last, for the first filters: returns how many they are, and writes none of the others'.
#[inline(always)]
pub fn four_pixels<W: Weight>(
    x: &[f32],
    w: &[W],
    biases: &[f32],
    y: &mut [f32],
    widths: [usize; 2],
) -> usize {
    #[cfg(flatmin_floats)]
    return W::floats(w).map_or(0, |w| floats::four_pixels(x, w, biases, y, widths));
    #[cfg(not(flatmin_floats))]
    {
        let _ = (x, w, biases, y, widths);
        0
    }
}

/// `sum_k x[p][k] * w[o][k]` for every p and o, k ascending: one sum each, no lanes.
#[inline(always)]
pub fn matrix<W: Weight>(x: [&[f32]; ROWS], w: [&[W]; ROWS]) -> Lanes {
    #[cfg(not(flatmin_vfp))]
    let mut sums: Lanes = [[0.0; LANES]; ROWS];
    #[cfg(flatmin_vfp)]
    let (mut sums, done) = rows_of_floats(w).map_or(([[0.0; LANES]; ROWS], 0), |w| floats::matrix(x, w));
    #[cfg(flatmin_vfp)]
    if done == x[0].len() {
        return sums;
    }
    #[cfg(flatmin_vfp)]
    let (x, w) = (x.rest(done), w.rest(done));
    for (sums, x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip(w) {
            for (&x, &w) in x.iter().zip(w) {
                *sum = scalar(*sum + scalar(x * w.value()));
            }
        }
    }
    sums
}
