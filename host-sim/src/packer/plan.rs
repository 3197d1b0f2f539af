//! Places the activations in one arena: largest first, at the lowest offset that is free for as long as they
//! live.

use super::lower::Network;

/// Alignment of every activation, in bytes.
const ALIGNMENT: usize = 4;

#[derive(Clone, Copy)]
struct Life {
    first: usize,
    last: usize,
    bytes: usize,
}

/// An arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Offset of every tensor.
    pub offsets: Vec<usize>,
    /// Size of the arena.
    pub bytes: usize,
    /// The largest sum of activations alive at one operator: no plan can be smaller.
    pub lower_bound: usize,
}

/// Plans the arena of all operators, trunk and tail.
pub fn plan(network: &Network) -> Plan {
    let mut lives: Vec<Option<Life>> = vec![None; network.tensors.len()];
    let mut touch = |tensor: usize, time: usize| {
        let activations = &network.tensors[tensor];
        let bytes = activations.len().next_multiple_of(ALIGNMENT);
        let life = lives[activations.storage].get_or_insert(Life { first: time, last: time, bytes });
        (life.first, life.last) = (life.first.min(time), life.last.max(time));
    };
    touch(network.input, 0);
    for (time, step) in network.steps.iter().enumerate() {
        touch(step.input, time);
        touch(step.output, time);
    }
    touch(network.output, network.steps.len());

    let mut order: Vec<usize> = (0..lives.len()).filter(|&s| lives[s].is_some()).collect();
    order.sort_by_key(|&s| (std::cmp::Reverse(lives[s].map_or(0, |l| l.bytes)), s));
    let mut placed: Vec<(usize, Life)> = Vec::new();
    let mut offset_of = vec![0; lives.len()];
    for storage in order {
        let Some(life) = lives[storage] else { continue };
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, other)| other.first <= life.last && life.first <= other.last)
            .map(|(offset, other)| (*offset, offset + other.bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + life.bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        offset_of[storage] = offset;
        placed.push((offset, life));
    }
    let alive = |time: usize| {
        let lives = lives.iter().flatten().filter(|l| l.first <= time && time <= l.last);
        lives.map(|l| l.bytes).sum()
    };
    Plan {
        offsets: network.tensors.iter().map(|t| offset_of[t.storage]).collect(),
        bytes: placed.iter().map(|(offset, life)| offset + life.bytes).max().unwrap_or(0),
        lower_bound: (0..=network.steps.len()).map(alive).max().unwrap_or(0),
    }
}
