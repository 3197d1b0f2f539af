//! Reductions and sweeps over f32 slices with one order of operations, whatever the target: four lanes that a
//! vector unit may hold, summed by a fixed tree. No fused multiply-add anywhere: it rounds differently.
//! Slices of one call have the same length; that is the caller's contract.

use super::block::{self, Lanes, ROWS};
use super::scalar;

/// Lanes of every reduction.
pub const LANES: usize = 4;

/// Adds `term(a[i], b[i], c[i])` over the shortest length, element i to lane i mod 4, and sums the lanes.
#[inline(always)]
fn reduce3(
    mut sums: [f32; LANES],
    a: &[f32],
    b: &[f32],
    c: &[f32],
    term: impl Fn(f32, f32, f32) -> f32,
) -> f32 {
    if cfg!(flatmin_floats) && a.is_empty() {
        return sum_of(sums);
    }
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (c, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for (((sum, &a), &b), &c) in sums.iter_mut().zip(a).zip(b).zip(c) {
            *sum = scalar(*sum + scalar(term(a, b, c)));
        }
    }
    for (((sum, &a), &b), &c) in sums.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest) {
        *sum = scalar(*sum + scalar(term(a, b, c)));
    }
    sum_of(sums)
}

/// The lanes' sum, by the tree that every reduction ends with.
#[inline(always)]
pub(crate) fn sum_of([s0, s1, s2, s3]: [f32; LANES]) -> f32 {
    (s0 + s2) + (s1 + s3)
}

/// Adds `term(a[i], b[i])` likewise.
#[inline(always)]
fn reduce(sums: [f32; LANES], a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    reduce3(sums, a, b, b, |a, b, _| term(a, b))
}

/// Where the lanes' sums begin.
const NOTHING: [f32; LANES] = [0.0; LANES];

/// `sum a[i] * b[i]`.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg_attr(not(flatmin_floats), allow(unused_mut))]
    let mut sums = NOTHING;
    path!(dot(&mut sums, a, b) of a, b);
    reduce(sums, a, b, |a, b| a * b)
}

/// `sum a[i]^2`, as [`dot`] sums it.
#[inline]
pub fn norm_squared(a: &[f32]) -> f32 {
    #[cfg_attr(not(flatmin_floats), allow(unused_mut))]
    let mut sums = NOTHING;
    path!(norm_squared(&mut sums, a) of a);
    reduce(sums, a, a, |a, b| a * b)
}

/// `sum (|w[i]| + eta)^2 * g[i]^2`: the squared norm of `T g` with ASAM's T.
#[inline]
pub fn scaled_norm_squared(w: &[f32], g: &[f32], eta: f32) -> f32 {
    #[cfg_attr(not(flatmin_floats), allow(unused_mut))]
    let mut sums = NOTHING;
    path!(scaled_norm_squared(&mut sums, w, g, eta) of w, g);
    reduce(sums, w, g, |w, g| {
        let scaled = scalar((w.abs() + eta) * g);
        scaled * scaled
    })
}

/// `sum (|w[i]| + eta)^2 * a[i] * b[i]`.
#[inline]
pub fn weighted_dot(w: &[f32], eta: f32, a: &[f32], b: &[f32]) -> f32 {
    #[cfg(flatmin_mve_float)]
    let (sums, (w, a, b)) = {
        let mut sums = NOTHING;
        let done = super::floats::weighted_dot(&mut sums, w, a, b, eta);
        (sums, (super::Rest::rest(w, done), super::Rest::rest(a, done), super::Rest::rest(b, done)))
    };
    #[cfg(not(flatmin_mve_float))]
    let sums = NOTHING;
    reduce3(sums, w, a, b, |w, a, b| {
        let t = w.abs() + eta;
        scalar(t * t) * scalar(a * b)
    })
}

/// `sums[r] = sum_i rows[r][i] * x[i]`, each as [`dot`] sums it.
#[inline(always)]
pub fn dots(rows: [&[f32]; ROWS], x: &[f32]) -> [f32; ROWS] {
    #[cfg(flatmin_floats)]
    {
        let mut sums = [0.0; ROWS];
        if super::floats::dots_of(&mut sums, rows, x) == ROWS {
            return sums;
        }
    }
    let mut sums: Lanes = [[0.0; LANES]; ROWS];
    block::dots(&mut sums, rows, x);
    sums.map(sum_of)
}

/// `y[i] += factor * x[i]`.
#[inline]
pub fn add_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    path!(add_scaled(y, x, factor) of y, x);
    for (y, &x) in y.iter_mut().zip(x) {
        *y = scalar(*y + scalar(factor * x));
    }
}

/// `v[i] = momentum * v[i] + decay * w[i]`; a decay of 0 leaves w out.
#[inline]
pub fn mix(v: &mut [f32], momentum: f32, w: &[f32], decay: f32) {
    if decay == 0.0 {
        path!(scale(v, momentum) of v);
        return v.iter_mut().for_each(|v| *v = scalar(momentum * *v));
    }
    path!(mix(v, w, momentum, decay) of v, w);
    for (v, &w) in v.iter_mut().zip(w) {
        *v = scalar(scalar(momentum * *v) + scalar(decay * w));
    }
}

/// `v[i] = momentum * v[i]`, then `w[i] += rate * v[i]`.
#[inline]
pub fn descend(v: &mut [f32], w: &mut [f32], momentum: f32, rate: f32) {
    path!(descend(v, w, momentum, rate) of v, w);
    for (v, w) in v.iter_mut().zip(w) {
        *v = scalar(*v * momentum);
        *w = scalar(*w + scalar(rate * *v));
    }
}

/// `to[i] = from[i]`.
#[inline]
pub fn copy(to: &mut [f32], from: &[f32]) {
    path!(copy(to, from) of to, from);
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

/// `e = c * g[i]`, then `g[i] = w[i]` and `w[i] += e`.
#[inline]
pub fn ascend(w: &mut [f32], g: &mut [f32], c: f32) {
    path!(ascend(w, g, c) of w, g);
    for (w, g) in w.iter_mut().zip(g) {
        let e = scalar(c * *g);
        *g = *w;
        *w = scalar(*w + e);
    }
}

/// `e = c * (|w[i]| + eta)^2 * g[i]`, then `g[i] = w[i]` and `w[i] += e`.
#[inline]
pub fn ascend_scaled(w: &mut [f32], g: &mut [f32], c: f32, eta: f32) {
    path!(ascend_scaled(w, g, c, eta) of w, g);
    for (w, g) in w.iter_mut().zip(g) {
        let t = w.abs() + eta;
        let e = scalar(c * scalar(scalar(t * t) * *g));
        *g = *w;
        *w = scalar(*w + e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn reductions_equal_exact_sums() {
        // Small integers: every partial sum is exact, so any order gives the same.
        for length in [0usize, 1, 7, 8, 9, 31, 64] {
            let a: Vec<f32> = (0..length).map(|i| (i as f32) - 3.0).collect();
            let b: Vec<f32> = (0..length).map(|i| (i % 5) as f32).collect();
            assert_eq!(dot(&a, &b), a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>());
            assert_eq!(norm_squared(&a), a.iter().map(|a| a * a).sum::<f32>());
            let expected: f32 = a.iter().zip(&b).map(|(a, b)| ((a.abs() + 1.0) * b).powi(2)).sum();
            assert_eq!(scaled_norm_squared(&a, &b, 1.0), expected);
        }
    }

    #[test]
    fn lanes_are_part_of_the_contract() {
        // 2^24 absorbs a 1 added to it; only an order in which the ones meet first keeps them. Lane 0 holds
        // a[0], a[4], a[8] and a[12], so that 2^24 meets three ones there and loses them, while the others survive.
        let mut a = [1.0f32; 16];
        a[0] = 16_777_216.0;
        assert_eq!(dot(&a, &[1.0; 16]), 16_777_216.0 + 12.0);
    }
}
