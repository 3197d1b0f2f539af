//! Plans the activation arena: an order of the operators, which outputs take their input's place, and where
//! every array lies for as long as it lives.

mod order;
mod patches;
pub(super) mod place;

pub use patches::{Patched, patches};

use super::network::Network;

/// Alignment of every activation, in bytes.
const ALIGNMENT: usize = 4;

/// From the first to the last operator that touches an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub first: usize,
    pub last: usize,
    pub bytes: usize,
}

impl Life {
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// An arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Offset of every tensor; 0 for constants.
    pub offsets: Vec<usize>,
    /// Size of the arena.
    pub bytes: usize,
    /// The largest sum of activations alive at one operator: no plan can be smaller.
    pub lower_bound: usize,
}

impl Network {
    /// Drops operators that no output needs, orders the rest so that little is alive at a time, and lets
    /// element-wise operators write where they read.
    pub(super) fn arranged(mut self) -> Self {
        order::arrange(&mut self);
        share_places(&mut self);
        self
    }

    /// Lives of the arrays, by storage; `None` for constants and for what no operator touches.
    fn lives(&self) -> Vec<Option<Life>> {
        let mut lives: Vec<Option<Life>> = vec![None; self.tensors.len()];
        let mut touch = |tensor: usize, time: usize| {
            let activations = &self.tensors[tensor];
            if activations.constant.is_some() {
                return;
            }
            let bytes = activations.len().next_multiple_of(ALIGNMENT);
            let life = lives[activations.storage].get_or_insert(Life { first: time, last: time, bytes });
            (life.first, life.last) = (life.first.min(time), life.last.max(time));
        };
        for input in &self.inputs {
            touch(input.tensor, 0);
        }
        for variable in &self.variables {
            touch(variable.tensor, 0);
            touch(variable.tensor, self.steps.len());
        }
        for (time, step) in self.steps.iter().enumerate() {
            step.inputs().chain([step.output]).for_each(|tensor| touch(tensor, time));
        }
        for output in &self.outputs {
            touch(output.tensor, self.steps.len());
        }
        lives
    }
}

/// Gives the output of an element-wise operator the storage of an input that nobody reads afterwards.
fn share_places(network: &mut Network) {
    for time in 0..network.steps.len() {
        let step = &network.steps[time];
        if !step.in_place() {
            continue;
        }
        let output = step.output;
        let lives = network.lives();
        let storage_of = |tensor: usize| network.tensors[tensor].storage;
        if network.is_variable(storage_of(output)) {
            continue;
        }
        let written_here_alone = lives[storage_of(output)].is_some_and(|life| life.first == time);
        let candidate = step.inputs().find(|&input| {
            let (from, to) = (&network.tensors[input], &network.tensors[output]);
            let dies_here = lives[from.storage].is_some_and(|life| life.last == time);
            from.constant.is_none() && from.len() == to.len() && from.storage != to.storage && dies_here
        });
        if let (Some(input), true) = (candidate, written_here_alone) {
            let (old, new) = (storage_of(output), storage_of(input));
            network.tensors.iter_mut().filter(|t| t.storage == old).for_each(|t| t.storage = new);
        }
    }
}

/// See [`Network::greedy_arena_bytes`].
pub(super) fn greedy_bytes(network: &Network) -> usize {
    let arrays: Vec<Life> = network.lives().into_iter().flatten().collect();
    place::greedy(&arrays).1
}

/// Plans the arena of all operators, trunk and tail.
pub fn plan(network: &Network) -> Plan {
    let lives = network.lives();
    let known: Vec<(usize, Life)> =
        lives.iter().enumerate().filter_map(|(storage, life)| Some((storage, (*life)?))).collect();
    let alive = |time: usize| -> usize {
        known.iter().filter(|(_, l)| l.first <= time && time <= l.last).map(|(_, l)| l.bytes).sum()
    };
    let lower_bound = (0..=network.steps.len()).map(alive).max().unwrap_or(0);
    let arrays: Vec<Life> = known.iter().map(|(_, life)| *life).collect();
    let (placed, bytes) = place::best(&arrays, lower_bound);
    let mut offset_of = vec![0; lives.len()];
    for ((storage, _), offset) in known.iter().zip(placed) {
        offset_of[*storage] = offset;
    }
    Plan { offsets: network.tensors.iter().map(|t| offset_of[t.storage]).collect(), bytes, lower_bound }
}

#[cfg(test)]
mod tests;
