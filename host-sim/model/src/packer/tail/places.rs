//! Where in the workspace all arrays of a tail lie, for as long as they live.

use super::{Graph, Tail};
use crate::packer::plan::{Life, place};
use flatmin::internals::pack::format::node;
use flatmin::internals::pack::{Function, Keeps};
use flatmin::internals::tail::keeps;

impl Graph<'_> {
    /// The activations that the backward pass of node `place` reads. What has none is refused when the pack is read.
    pub(super) fn keeps(&self, place: usize) -> Keeps {
        let (step, own) = (self.steps[place], &self.tail.nodes[place]);
        let function = step.function.unwrap_or(Function::Identity);
        keeps(step.kind, function, own.flags).unwrap_or(Keeps { inputs: true, output: true })
    }

    /// Places for all arrays. Time `i` is the forward pass of node i, time `n` the loss, time `2n - i` the backward
    /// pass of node i.
    pub(super) fn planned(mut self) -> Tail {
        let count = self.tail.nodes.len();
        let features = self.tail.features.len();
        let values = self.tail.values.len();
        let logits = self.tail.nodes[count - 1].output;
        let bytes = |v: usize| self.network.tensors[self.tail.values[v].tensor].len();
        let mut activations: Vec<Life> =
            (0..values).map(|v| Life { first: usize::MAX, last: 0, bytes: bytes(v) }).collect();
        let mut deltas = activations.clone();
        let touch = |life: &mut Life, time: usize| {
            (life.first, life.last) = (life.first.min(time), life.last.max(time));
        };
        activations.iter_mut().take(features).for_each(|life| touch(life, 0));
        touch(&mut activations[logits], count);
        touch(&mut deltas[logits], count);
        for (place, own) in self.tail.nodes.iter().enumerate() {
            let back = 2 * count - place;
            let has_gradient = self.depends[own.output];
            let kept = self.keeps(place);
            touch(&mut activations[own.output], place);
            for read in [own.input, own.second].into_iter().flatten() {
                touch(&mut activations[read], place);
                if has_gradient && kept.inputs {
                    touch(&mut activations[read], back);
                }
            }
            if has_gradient {
                touch(&mut deltas[own.output], back);
                if kept.output {
                    touch(&mut activations[own.output], back);
                }
            }
            for (read, wanted) in [(own.input, node::INPUT_DELTA), (own.second, node::SECOND_DELTA)] {
                if let Some(read) = read.filter(|_| own.flags & wanted != 0) {
                    touch(&mut deltas[read], back);
                }
            }
        }
        let chosen = self.tail.nodes.iter().enumerate().filter_map(|(place, own)| {
            let tensor = &self.network.tensors[self.tail.values[own.output].tensor];
            let bytes = tensor.len() / tensor.shape[3] * own.chosen.as_ref()?.channels.len();
            let at = |time| Life { first: time, last: time, bytes };
            Some([at(place), at(2 * count - place)])
        });
        let chosen: Vec<Life> = chosen.flatten().collect();
        let kept = self.tail.nodes.iter().enumerate().flat_map(|(place, own)| {
            let life = |bytes| Life { first: place, last: 2 * count - place, bytes };
            let mask = own.mask.map(|_| life(bytes(own.output).div_ceil(8)));
            own.inputs.as_ref().map(|own| life(own.bytes)).into_iter().chain(mask)
        });
        let kept: Vec<Life> = kept.collect();
        // The features begin the workspace, one after the other: one array.
        let mut lives = vec![Life {
            first: 0,
            last: activations[..features].iter().map(|life| life.last).max().unwrap_or(0),
            bytes: (0..features).map(bytes).sum(),
        }];
        lives.extend(activations[features..].iter().chain(&deltas).filter(|life| life.first != usize::MAX));
        lives.extend(chosen);
        lives.extend(kept);
        let (places, workspace_floats) = place::best_behind_first(&lives);
        let mut places = places.into_iter().skip(1);
        let mut start = 0;
        for (v, life) in activations.iter().enumerate() {
            if v < features {
                self.tail.values[v].activation = start;
                start += life.bytes;
            } else if life.first != usize::MAX {
                self.tail.values[v].activation = places.next().unwrap_or(0);
            }
        }
        for (v, life) in deltas.iter().enumerate() {
            self.tail.values[v].delta = (life.first != usize::MAX).then(|| places.next().unwrap_or(0));
        }
        for chosen in self.tail.nodes.iter_mut().filter_map(|own| own.chosen.as_mut()) {
            (chosen.outputs, chosen.deltas) = (places.next().unwrap_or(0), places.next().unwrap_or(0));
        }
        for own in &mut self.tail.nodes {
            if let Some(inputs) = &mut own.inputs {
                inputs.kept = places.next().unwrap_or(0);
            }
            if let Some(mask) = &mut own.mask {
                *mask = places.next().unwrap_or(0);
            }
        }
        self.tail.workspace_floats = workspace_floats;
        self.tail
    }
}
