use super::place::{best, greedy};
use super::*;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// Lives at random: what a plan must hold for is no more than that.
fn arrays(seed: u64, count: usize) -> Vec<Life> {
    let mut random = Pcg32::seed_from_u64(seed);
    let mut below = |limit: u32| (random.next_u32() % limit) as usize;
    (0..count)
        .map(|_| {
            let first = below(20);
            Life { first, last: first + below(6), bytes: 4 * (1 + below(500)) }
        })
        .collect()
}

fn lower_bound(arrays: &[Life]) -> usize {
    let alive = |t: usize| arrays.iter().filter(|l| l.first <= t && t <= l.last).map(|l| l.bytes).sum();
    (0..30).map(alive).max().unwrap_or(0)
}

#[test]
fn arrays_that_live_together_lie_apart() {
    for seed in 0..50 {
        let arrays = arrays(seed, 3 + seed as usize % 20);
        let (offsets, bytes) = best(&arrays, lower_bound(&arrays));
        for i in 0..arrays.len() {
            assert!(offsets[i] + arrays[i].bytes <= bytes);
            for j in 0..i {
                let apart =
                    offsets[i] + arrays[i].bytes <= offsets[j] || offsets[j] + arrays[j].bytes <= offsets[i];
                assert!(apart || !arrays[i].meets(&arrays[j]), "seed {seed}: {i} and {j}");
            }
        }
        assert!(bytes >= lower_bound(&arrays));
    }
}

#[test]
fn never_above_first_fit_by_size_and_often_below() {
    let mut below = 0;
    for seed in 0..50 {
        let arrays = arrays(1000 + seed, 16);
        let (_, greedy) = greedy(&arrays);
        let (_, found) = best(&arrays, lower_bound(&arrays));
        assert!(found <= greedy);
        below += usize::from(found < greedy);
    }
    assert!(below > 5, "{below} of 50");
}
