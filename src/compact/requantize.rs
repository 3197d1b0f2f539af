//! The 16-bit masters as a tuned int8 tail: every row at the scale that its largest weight fills.

use super::chain::{Chain, Layer};
use super::rows::master;
use super::weights::Weights;
use crate::math;
use crate::memory::TUNED_WORDS;
use crate::pack::Pack;
use crate::quant::{Affine, Multiplier};
use crate::requant::{Range, TunedTail, unfold};

impl Weights<'_> {
    /// Writes the tail as TensorFlow Lite's specification wants it, with outputs of these ranges: weights symmetric, per
    /// channel or per tensor as the layer was packed.
    pub fn requantize(&self, chain: &Chain, pack: &Pack, ranges: &[Range], tuned: &mut TunedTail) {
        let (mut words, mut weights) = tuned.parts_mut();
        let mut outputs = heapless::Vec::new();
        let mut input = None;
        for ((layer, packed), range) in chain.layers().zip(pack.trained_layers()).zip(ranges) {
            let input_affine = input.unwrap_or(packed.input);
            let output = Affine::covering(range.low, range.high);
            let to_int8 = unfold(pack, &packed) / 256.0;
            // A master's step in the int8 weights' own real numbers.
            let step = |o: usize| layer.of(self.scales).get(o).map_or(0.0, |scale| scale.abs() * to_int8);
            let bias = |o: usize| layer.of(self.biases).get(o).map_or(0.0, |&b| b as f32 * layer.unit);
            let own = |o: usize| {
                let for_bias = bias(o).abs() / input_affine.scale / (1u32 << 30) as f32;
                let scale = (self.largest(layer, o) as f32 * step(o) / 127.0).max(for_bias);
                if scale.is_normal() { scale } else { 1e-30 }
            };
            let whole = (0..layer.outputs).map(own).fold(0.0, f32::max);
            let (layer_words, rest) =
                words.split_at_mut_checked(layer.outputs * TUNED_WORDS).unwrap_or_default();
            let (rows, rest_of_weights) =
                weights.split_at_mut_checked(layer.outputs * layer.inputs).unwrap_or_default();
            (words, weights) = (rest, rest_of_weights);
            let mut parts = layer_words.chunks_exact_mut(layer.outputs.max(1));
            let mut part = || parts.next().unwrap_or_default().iter_mut();
            let places = part().zip(part()).zip(part()).zip(part());
            for (o, (row, (((b, mantissa), shift), bits))) in
                rows.chunks_exact_mut(layer.inputs.max(1)).zip(places).enumerate()
            {
                let scale = if packed.operator.per_channel { own(o) } else { whole };
                let masters = layer.row(self.high, o).iter().zip(layer.row(self.low, o));
                for (q, (&high, &low)) in row.iter_mut().zip(masters) {
                    // Symmetric: -128 is not used, as the specification asks of weights.
                    let w = step(o) * master(high, low) as f32;
                    *q = Affine { scale, zero_point: 0 }.quantize(w).max(-127);
                }
                let unit = f64::from(input_affine.scale) * f64::from(scale);
                // A float cast saturates; the scale keeps the bias far from that.
                *b = math::round_double(f64::from(bias(o)) / unit) as i32;
                let multiplier = Multiplier::of_scales(input_affine.scale, scale, output.scale);
                (*mantissa, *shift) = (multiplier.mantissa, multiplier.shift);
                *bits = scale.to_bits().cast_signed();
            }
            // A chain has fewer layers than fit.
            let _ = outputs.push(output);
            input = Some(output);
        }
        tuned.set_outputs(outputs);
    }

    /// The largest magnitude among an output's masters.
    fn largest(&self, layer: &Layer, o: usize) -> i32 {
        let masters = layer.row(self.high, o).iter().zip(layer.row(self.low, o));
        masters.fold(0, |most, (&high, &low)| most.max(master(high, low).abs()))
    }
}
