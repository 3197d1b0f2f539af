//! int8 layers as f32 parameters.

use super::{fold, packed_scales, row, row_mut};
use crate::pack::{Pack, TrainedLayer};
use crate::part::Part;

/// One int8 layer, to become f32.
pub(super) struct Dequantizer<'a> {
    pub layer: &'a TrainedLayer,
    pub input_scale: f32,
    /// Factor from real to stored weights.
    pub fold: f32,
    pub weights: &'a [i8],
    pub biases: &'a [i32],
    /// One per output, or a single one for all.
    pub scales: &'a [f32],
    pub packed_scales: &'a [f32],
    /// The outputs whose weights are trained, if not all of them are.
    pub chosen: &'a [u16],
}

impl Dequantizer<'_> {
    /// Writes the layer's parameters among all.
    pub fn run(&self, parameters: &mut [f32]) {
        let own = parameters.part_mut(self.layer.parameters..);
        let (w, b) = own.split_at_mut(self.layer.trained_weights().min(own.len()));
        let biases = self.biases.iter().take(self.layer.trained_biases());
        let scale = |o: usize| self.scales.get(o).or(self.scales.first()).copied().unwrap_or(0.0);
        for (o, (b, &bias)) in b.iter_mut().zip(biases).enumerate() {
            let scale = scale(o);
            if self.layer.trains_weights && self.layer.chosen.is_none() {
                self.widen(w, o, o, scale);
            }
            *b = (f64::from(self.input_scale) * f64::from(scale) * f64::from(bias)) as f32;
        }
        for (place, &o) in self.chosen.iter().enumerate() {
            self.widen(w, place, o.into(), scale(o.into()));
        }
        if self.layer.trains_scales {
            let scales = self.scales.iter().zip(self.packed_scales);
            w.iter_mut().zip(scales).for_each(|(gain, (scale, packed))| *gain = scale / packed);
        }
    }

    /// The weights of output `o` as row `place` of the trained ones.
    fn widen(&self, w: &mut [f32], place: usize, o: usize, scale: f32) {
        for (w, &q) in row_mut(self.layer, w, place).zip(row(self.layer, self.weights, o)) {
            *w = (scale * self.fold) * f32::from(q);
        }
    }
}

/// Writes the packed int8 tail as f32 parameters, the latents' scale folded into a chain's first layer.
pub(crate) fn dequantize(pack: &Pack, parameters: &mut [f32]) {
    for layer in pack.trained_layers() {
        let constants = &layer.operator.constants;
        let dequantizer = Dequantizer {
            layer: &layer,
            input_scale: layer.input.scale,
            fold: fold(pack, &layer),
            weights: pack.int8(constants.weights, layer.weights()),
            biases: pack.int32(constants.biases, layer.outputs),
            scales: packed_scales(pack, &layer),
            packed_scales: packed_scales(pack, &layer),
            chosen: pack.chosen_channels(&layer),
        };
        dequantizer.run(parameters);
    }
}
