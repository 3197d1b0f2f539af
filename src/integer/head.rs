//! The last layer solved in closed form: a tail of its own, or what tells a run which labels to leave out.

use super::layer_weights::Ascent;
use super::pass::{Network, Scratch};
use super::tuner::IntegerTuner;
use super::weights::places;
use crate::closed_form::{ClosedForm, LEAST_SMOOTHING, Next, Settings};
use crate::cpu;
use crate::pack::TrainedLayer;
use crate::part::Part;
use crate::recipe::Recipe;
use crate::requant::packed_scales;
use crate::tuner::{TunerError, bytes_mut, solvable};

impl IntegerTuner<'_> {
    /// As the tuner in f32 has it, in the memory that the differences take, which are zeros meanwhile, or where that is too
    /// small in `beside`. Logits that are too
    /// large for weights at the packed scales are made smaller, all by one factor: no answer changes. A run that
    /// [`Self::start`] begins then leaves out samples whose label the head contradicts, and begins with the factory's weights.
    pub(super) fn solve_head(
        &mut self,
        recipe: &Recipe,
        beside: &mut [u32],
        between: &mut dyn FnMut(),
    ) -> Result<(), TunerError> {
        if !cpu::keeps_subnormals() {
            return Err(TunerError::FlushesToZero);
        }
        let fits = self.fitting(recipe)?;
        let layer = solvable(&self.pack).ok_or(TunerError::NoHead)?;
        let samples = self.samples();
        if samples == 0 {
            return Err(TunerError::NoSamples);
        }
        let (classes, words) = (layer.outputs, self.pack.sizes().solve_words());
        let length = classes * (layer.taps + 1);
        self.check_place()?;
        let held = self.pack.sizes().integer_place_bytes() / 4;
        let own = held >= words;
        let found = if own { held } else { beside.len() };
        if found < words || self.scratch.len() < length || samples > ClosedForm::MOST_SAMPLES {
            return Err(TunerError::SolveRoom { needed: words, found, samples });
        }
        self.abandon();
        self.recipe = fits;
        self.divide();
        self.make_way(between);
        self.arithmetic.parameters.reset();
        if own {
            let held = core::mem::take(&mut self.arithmetic.parameters.held);
            let memory: &mut [u8] = bytes_mut(held);
            let (memory, _) = memory.split_at_mut(memory.len() / 4 * 4);
            if let Ok(memory) = bytemuck::try_cast_slice_mut(memory) {
                self.solve_in(&layer, memory, between);
            }
            self.arithmetic.parameters.held = held;
            self.arithmetic.parameters.held.fill(0);
        } else {
            self.solve_in(&layer, bytemuck::cast_slice_mut(beside), between);
        }
        self.take_head(&layer);
        self.trust();
        self.arithmetic.solved = true;
        Ok(())
    }

    /// Solves the head in `memory`, and leaves it in the scratch memory: weights for steps of the input, then biases.
    fn solve_in(&mut self, layer: &TrainedLayer, memory: &mut [i32], between: &mut dyn FnMut()) {
        let (classes, taps) = (layer.outputs, layer.taps);
        let Some((head, room)) = memory.split_at_mut_checked(classes * (taps + 1)) else { return };
        let head: &mut [f32] = bytemuck::cast_slice_mut(head);
        let scales = packed_scales(&self.pack, layer);
        let constants = &layer.operator.constants;
        let packed = self.pack.int8(constants.weights, layer.weights());
        let biases = self.pack.int32(constants.biases, classes);
        let unit = |o: usize| layer.input.scale * super::weights::scale_of(scales, o);
        let rows = packed.iter().enumerate().map(|(index, &q)| f32::from(q) * unit(index / taps.max(1)));
        let biases = biases.iter().enumerate().map(|(o, &b)| b as f32 * unit(o));
        head.iter_mut().zip(rows.chain(biases)).for_each(|(to, from)| *to = from);
        let smoothing = self.recipe.label_smoothing.max(LEAST_SMOOTHING);
        let settings = Settings { smoothing, ..Settings::DEFAULT };
        let (statistics, trained) = (self.pack.statistics(), self.division.trained);
        let Some(mut solver) = ClosedForm::new(settings, statistics, trained, (classes, taps), head, room)
        else {
            debug_assert!(false, "a head with room");
            return;
        };
        loop {
            match solver.next() {
                Next::Sample(index) => self.add_sample(&mut solver, index, layer),
                Next::Compute => solver.compute(),
                Next::Done => break,
            }
            between();
        }
        let words = solver.head().iter().map(|x| x.to_bits().cast_signed());
        self.scratch.iter_mut().zip(words).for_each(|(place, word)| *place = word);
    }

    fn add_sample(&mut self, solver: &mut ClosedForm, index: usize, layer: &TrainedLayer) {
        let slot = self.division.trained_slot(index, self.replay.len());
        let Some((latent, label)) = self.replay.get(slot) else { return solver.add(core::iter::empty(), 0) };
        crate::tuner::Numbers::write_features(&self.arithmetic, &self.pack, latent, self.scratch);
        let sizes = self.pack.sizes();
        let Some(mut scratch) = Scratch::new(&sizes, self.scratch) else { return };
        // The differences have given their memory up: the layers are those in flash.
        let parameters = &self.arithmetic.parameters;
        Network { pack: &self.pack, parameters, ascent: Ascent::NONE, factory: true }.forward(&mut scratch);
        self.macs = self.macs.saturating_add(crate::tuner::Numbers::forward_macs(&self.arithmetic));
        let input = self.pack.nodes().next_back().and_then(|node| node.input);
        let x = scratch.workspace.part(input.map_or(0..0, |value| value.activation));
        let features = x.iter().map(|&q| i16::from(q) - layer.input.zero_point as i16);
        solver.add(features, label.into());
    }

    /// Takes the head that lies in the scratch memory.
    fn take_head(&mut self, layer: &TrainedLayer) {
        let Some((_, place)) = places(&self.pack).last() else { return };
        let head: &[f32] = bytemuck::must_cast_slice(self.scratch.part(..layer.outputs * (layer.taps + 1)));
        self.arithmetic.parameters.load_real(&self.pack, (layer, place), head);
    }
}
