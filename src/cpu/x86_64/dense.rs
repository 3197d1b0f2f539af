//! `W x + b` of several samples.

use crate::cpu::lanes::LANES;
use bytemuck::cast;
use core::arch::x86_64::{
    __m128, __m256, _mm256_add_ps, _mm256_broadcast_ps, _mm256_castps128_ps256, _mm256_insertf128_ps,
    _mm256_mul_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

/// Rows or samples whose sums lie in one register.
const PAIR: usize = 2;
/// Sums of lanes that are added up at once.
const FOUR: usize = 4;
/// Rows that meet a lone sample at once.
const EIGHT: usize = PAIR * FOUR;

/// `sums[s][p] += single[s] * paired[p]` of those lanes that `lanes` takes of each.
macro_rules! add_products {
    ($sums:ident, $single:ident, $paired:ident, $lanes:ident) => {
        let mut pairs = [_mm256_setzero_ps(); P];
        for (pair, [low, high]) in pairs.iter_mut().zip($paired) {
            *pair = beside(cast($lanes(low)), cast($lanes(high)));
        }
        for (sums, single) in $sums.iter_mut().zip($single) {
            let single = _mm256_broadcast_ps(&cast($lanes(single)));
            for (sum, pair) in sums.iter_mut().zip(pairs) {
                *sum = _mm256_add_ps(*sum, _mm256_mul_ps(single, pair));
            }
        }
    };
}

/// `z = W x + b` of every sample, x and z, as [`crate::cpu::block::dense`] takes it; returns how many samples: none unless
/// all values of all of them are there.
#[target_feature(enable = "avx")]
pub fn dense(w: &[f32], biases: &[f32], samples: &mut [(&[f32], &mut [f32])]) -> usize {
    let (inputs, outputs) = (samples.first().map_or(0, |(x, _)| x.len()), biases.len());
    let count = samples.len();
    let whole = samples.iter().all(|(x, z)| x.len() == inputs && z.len() == outputs);
    if !whole || inputs == 0 || w.len() != inputs.saturating_mul(outputs) {
        return 0;
    }
    let (fours, rest) = samples.as_chunks_mut::<FOUR>();
    if !fours.is_empty() {
        // Four rows stay in the cache while all samples meet them.
        for (block, (w, biases)) in w.chunks(FOUR * inputs).zip(biases.chunks(FOUR)).enumerate() {
            let rows = rows::<FOUR>(w, inputs);
            for [(a, za), (b, zb), (c, zc), (d, zd)] in &mut *fours {
                let [[r0, s0], [r1, s1], [r2, s2], [r3, s3]] = products(rows, [[a, b], [c, d]], inputs);
                let [sums_a, sums_b] = sums_of([r0, r1, r2, r3]);
                let [sums_c, sums_d] = sums_of([s0, s1, s2, s3]);
                for (z, sums) in [(za, sums_a), (zb, sums_b), (zc, sums_c), (zd, sums_d)] {
                    write(z.get_mut(block * FOUR..).unwrap_or(&mut []), &sums, biases);
                }
            }
        }
    }
    for (x, z) in rest {
        one(w, biases, x, z);
    }
    count
}

/// One sample, eight rows at once.
#[target_feature(enable = "avx")]
fn one(w: &[f32], biases: &[f32], x: &[f32], z: &mut [f32]) {
    let inputs = x.len();
    for ((w, biases), z) in w.chunks(EIGHT * inputs).zip(biases.chunks(EIGHT)).zip(z.chunks_mut(EIGHT)) {
        if biases.len() > FOUR {
            let [a, b, c, d, e, f, g, h] = rows::<EIGHT>(w, inputs);
            let [sums] = products([x], [[a, e], [b, f], [c, g], [d, h]], inputs);
            write(z, sums_of(sums).as_flattened(), biases);
        } else {
            let [a, b, c, d] = rows::<FOUR>(w, inputs);
            let [[ac, bd]] = products([x], [[a, c], [b, d]], inputs);
            let [[a, b, ..], [c, d, ..]] = sums_of([ac, bd, ac, bd]);
            write(z, &[a, b, c, d], biases);
        }
    }
}

/// `z[i] = sums[i] + biases[i]` over the shortest length.
#[inline(always)]
fn write(z: &mut [f32], sums: &[f32], biases: &[f32]) {
    for ((z, sum), bias) in z.iter_mut().zip(sums).zip(biases) {
        *z = sum + bias;
    }
}

/// The first rows; after the last one it stands again.
#[inline(always)]
fn rows<const N: usize>(w: &[f32], inputs: usize) -> [&[f32]; N] {
    let mut rows: [&[f32]; N] = [&[]; N];
    let (mut next, mut last): (_, &[f32]) = (w.chunks_exact(inputs.max(1)), &[]);
    for row in &mut rows {
        last = next.next().unwrap_or(last);
        *row = last;
    }
    rows
}

/// The products' sums in lanes of every one of `single` with every one of `paired`; of nothing, unless all of them have
/// so many values.
#[target_feature(enable = "avx")]
#[inline]
fn products<const S: usize, const P: usize>(
    single: [&[f32]; S],
    paired: [[&[f32]; PAIR]; P],
    length: usize,
) -> [[__m256; P]; S] {
    let mut sums = [[_mm256_setzero_ps(); P]; S];
    if single.iter().chain(paired.as_flattened()).any(|values| values.len() < length) {
        return sums;
    }
    let whole = length - length % LANES;
    for first in (0..whole).step_by(LANES) {
        // SAFETY: all have `length` values, and `first + LANES` is no more.
        let lanes = |values: &[f32]| unsafe { values.as_ptr().add(first).cast::<[f32; LANES]>().read() };
        add_products!(sums, single, paired, lanes);
    }
    if whole < length {
        // Zeros after the last value change no sum.
        let lanes = |values: &[f32]| {
            let mut lanes = [0.0; LANES];
            for (to, &from) in lanes.iter_mut().zip(values.get(whole..length).unwrap_or(&[])) {
                *to = from;
            }
            lanes
        };
        add_products!(sums, single, paired, lanes);
    }
    sums
}

/// Two sums' lanes.
#[target_feature(enable = "avx")]
#[inline]
fn beside(low: __m128, high: __m128) -> __m256 {
    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
}

/// The sums of four registers' lanes by [`crate::cpu::lanes::sum_of`]'s tree: of the lower halves, then of the upper ones.
#[target_feature(enable = "avx")]
#[inline]
pub fn sums_of([a, b, c, d]: [__m256; FOUR]) -> [[f32; FOUR]; PAIR] {
    // Lanes 0 and 2 of a and b, then 1 and 3.
    let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    let (even, odd) =
        (_mm256_shuffle_ps::<0b01_00_01_00>(ab, cd), _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd));
    cast(_mm256_add_ps(even, odd))
}
