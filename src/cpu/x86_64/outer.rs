//! Weights' gradients of several samples.

use crate::cpu::block::TOGETHER;

/// Values that eight registers hold.
const COLUMNS: usize = 64;
/// Values of one.
const REGISTER: usize = 8;
/// Columns of all samples that stay in the cache while every row meets them.
const TILE: usize = 8 * COLUMNS;

/// `d[o * inputs + i] += (scale * delta[o]) * x[i]` of one sample, delta and x, after the other, where `delta[o]` is not
/// 0; returns how many samples: none unless all values of all of them are there.
#[target_feature(enable = "avx")]
pub fn add_rank_ones(d: &mut [f32], scale: f32, samples: &[(&[f32], &[f32])]) -> usize {
    let (outputs, inputs) = samples.first().map_or((0, 0), |(delta, x)| (delta.len(), x.len()));
    let whole = samples.iter().all(|(delta, x)| delta.len() == outputs && x.len() == inputs);
    if !whole || inputs == 0 || samples.len() > TOGETHER || d.len() != inputs.saturating_mul(outputs) {
        return 0;
    }
    for first in (0..inputs).step_by(TILE) {
        let tile = first..inputs.min(first.saturating_add(TILE));
        for (row, d) in d.chunks_exact_mut(inputs).enumerate() {
            let mut terms: [(f32, &[f32]); TOGETHER] = [(0.0, &[]); TOGETHER];
            let mut count = 0;
            for (delta, x) in samples {
                let delta = delta.get(row).copied().unwrap_or_default();
                // ReLU leaves many exact zeros.
                if delta != 0.0
                    && let (Some(term), Some(x)) = (terms.get_mut(count), x.get(tile.clone()))
                {
                    *term = (scale * delta, x);
                    count += 1;
                }
            }
            add_terms(d.get_mut(tile.clone()).unwrap_or(&mut []), terms.get(..count).unwrap_or(&[]));
        }
    }
    samples.len()
}

/// `d[i] += factor * x[i]` of one term after the other.
#[target_feature(enable = "avx")]
#[inline]
fn add_terms(d: &mut [f32], terms: &[(f32, &[f32])]) {
    let wide = add_blocks::<COLUMNS>(d, 0, terms);
    let middle = add_blocks::<{ COLUMNS / 2 }>(d, wide, terms);
    let narrow = add_blocks::<REGISTER>(d, middle, terms);
    add_blocks::<1>(d, narrow, terms);
}

/// The same from `first` on for as many as come in blocks of N, which all terms meet in registers; returns what is next.
#[target_feature(enable = "avx")]
#[inline]
fn add_blocks<const N: usize>(d: &mut [f32], mut first: usize, terms: &[(f32, &[f32])]) -> usize {
    let (blocks, _) = d.get_mut(first..).unwrap_or(&mut []).as_chunks_mut::<N>();
    for block in blocks {
        let mut sums = *block;
        for &(factor, x) in terms {
            let Some(x) = x.get(first..).and_then(|x| x.first_chunk::<N>()) else { break };
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += factor * x;
            }
        }
        *block = sums;
        first += N;
    }
    first
}
