//! Where arrays lie: first fit in several orders, and random exchanges of neighbours where none reaches the
//! lower bound.

use super::Life;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// Exchanges that are tried where the simple orders leave room for improvement.
const EXCHANGES: usize = 20_000;

/// Offsets and the size of the arena: the best that was found.
pub(super) fn best(arrays: &[Life], lower_bound: usize) -> (Vec<usize>, usize) {
    search(arrays, 0, lower_bound, EXCHANGES)
}

/// The same with the first array at offset 0.
pub(in super::super) fn best_behind_first(arrays: &[Life]) -> (Vec<usize>, usize) {
    search(arrays, 1, 0, EXCHANGES / 10)
}

/// The first `pinned` arrays are placed first.
fn search(arrays: &[Life], pinned: usize, lower_bound: usize, exchanges: usize) -> (Vec<usize>, usize) {
    let length = |life: &Life| life.last - life.first + 1;
    let mut candidates = Vec::new();
    let mut sorted = |key: &dyn Fn(&Life) -> [usize; 3]| {
        let mut order: Vec<usize> = (0..arrays.len()).collect();
        order[pinned..].sort_by_key(|&i| key(&arrays[i]));
        candidates.push(order);
    };
    let descending = |value: usize| usize::MAX - value;
    // The first is what TensorFlow Lite Micro's greedy planner does.
    sorted(&|life| [descending(life.bytes), life.first, 0]);
    sorted(&|life| [descending(length(life)), descending(life.bytes), life.first]);
    sorted(&|life| [descending(life.bytes * length(life)), descending(life.bytes), life.first]);
    sorted(&|life| [life.first, 0, 0]);
    let fitted = candidates.into_iter().map(|order| (first_fit(arrays, &order), order));
    let Some(((mut offsets, mut bytes), mut order)) = fitted.min_by_key(|((_, bytes), _)| *bytes) else {
        return (Vec::new(), 0);
    };
    let mut random = Pcg32::seed_from_u64(1);
    for _ in 0..exchanges {
        if bytes <= lower_bound || order.len() < pinned + 3 {
            break;
        }
        let mut pick = || pinned + random.next_u32() as usize % (order.len() - pinned);
        let (a, b) = (pick(), pick());
        order.swap(a, b);
        let (found, size) = first_fit(arrays, &order);
        if size <= bytes {
            (offsets, bytes) = (found, size);
        } else {
            order.swap(a, b);
        }
    }
    (offsets, bytes)
}

/// Largest first, each at the lowest offset that is free.
pub(super) fn greedy(arrays: &[Life]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..arrays.len()).collect();
    order.sort_by_key(|&i| [usize::MAX - arrays[i].bytes, arrays[i].first]);
    first_fit(arrays, &order)
}

/// Each array in `order` at the lowest offset that is free for as long as it lives.
pub(super) fn first_fit(arrays: &[Life], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; arrays.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for &index in order {
        let life = arrays[index];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other| arrays[other].meets(&life))
            .map(|&other| (offsets[other], offsets[other] + arrays[other].bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, behind) in taken {
            if offset + life.bytes <= start {
                break;
            }
            offset = offset.max(behind);
        }
        offsets[index] = offset;
        end = end.max(offset + life.bytes);
        placed.push(index);
    }
    (offsets, end)
}
