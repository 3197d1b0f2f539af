//! Several samples of a chain, layer by layer: a layer's parameters, and its gradient, come from memory once for all of
//! them. Sample by sample it is what the chain does with one, bit for bit.

use super::{DenseChain, Layer, Target, Workspace, dense};
use crate::cpu::block::TOGETHER;
use crate::optim::BiasTreatment;
use crate::part::Part;
use heapless::Vec;

impl DenseChain {
    /// Divides `memory`: a workspace for each of `count` samples, or of as many as fit, [`TOGETHER`] at most.
    pub(super) fn workspaces<'w>(&self, memory: &'w mut [f32], count: usize) -> Vec<Workspace<'w>, TOGETHER> {
        let length = Self::workspace_length(self.features(), self.outputs());
        let each = memory.chunks_exact_mut(length.max(1)).take(count);
        gather(each.filter_map(|memory| Workspace::new(self, memory)))
    }

    /// [`Self::first_pass`] of every sample; none may be perturbed after it. Writes a loss each.
    pub(super) fn first_passes(
        &self,
        parameters: &[f32],
        targets: &[Target],
        samples: &mut [Workspace],
        losses: &mut [f32],
    ) {
        for layer in &self.layers {
            let mut ends = gather(samples.iter_mut().map(|sample| layer.ends(sample)));
            dense::forward_together(&layer.shape, layer.parameters(parameters), &mut ends);
            ends.iter_mut().for_each(|(_, y)| dense::activate(layer.shape.activation, y));
        }
        let Some(last) = self.layers.last() else { return losses.fill(f32::NAN) };
        for ((sample, &target), loss) in samples.iter_mut().zip(targets).zip(losses) {
            *loss = self.loss_of(last, &mut sample.first, target);
            self.hand_down(&mut sample.first, |layer, delta, d_input| {
                dense::backward_input(&layer.shape, layer.parameters(parameters), delta, d_input);
            });
        }
    }

    /// [`Self::accumulate`] of one sample after the other, after [`Self::first_passes`].
    pub(super) fn accumulate_together(
        &self,
        scale: f32,
        bias: BiasTreatment,
        samples: &[Workspace],
        gradient: &mut [f32],
    ) {
        for (place, layer) in self.layers.iter().enumerate() {
            let terms = gather(samples.iter().filter_map(|sample| {
                let (_, input) = self.inputs(sample.features, sample.first.outputs).nth(place)?;
                Some((layer.outputs(sample.first.deltas), input))
            }));
            dense::accumulate_together(&layer.shape, scale, bias, &terms, layer.parameters_mut(gradient));
        }
    }
}

impl Layer {
    /// Its input and its output in a sample's first pass.
    fn ends<'s>(&self, sample: &'s mut Workspace) -> (&'s [f32], &'s mut [f32]) {
        let (below, own) = sample.first.outputs.parts_mut_at(self.outputs);
        let input = match self.outputs {
            0 => &*sample.features,
            first => below.part(first.saturating_sub(self.shape.inputs)..),
        };
        (input, own.part_mut(..self.shape.outputs))
    }
}

/// The first [`TOGETHER`].
fn gather<T>(items: impl Iterator<Item = T>) -> Vec<T, TOGETHER> {
    let mut gathered = Vec::new();
    for item in items.take(TOGETHER) {
        // There is room for so many.
        let _ = gathered.push(item);
    }
    gathered
}
