//! One trained layer's parameters as int8: symmetric weights, per channel or per tensor as the layer was packed, biases and
//! multipliers as TensorFlow Lite's specification wants them.

use super::{row, row_mut};
use crate::math;
use crate::pack::TrainedLayer;
use crate::quant::{Affine, Multiplier};
use crate::sound;
use crate::tail::gain_factor;

/// The trained parameters of one layer, in real numbers, of whichever format.
pub(crate) trait Rows {
    /// One per output.
    fn biases(&self) -> impl ExactSizeIterator<Item = f32>;
    /// The largest magnitude in row `place` of the trained weights.
    fn largest(&self, place: usize) -> f32;
    /// The weights of that row.
    fn row(&self, place: usize) -> impl Iterator<Item = f32>;
    /// What output `o`'s scale was trained to, in packed scales: of layers of which that is all that is trained.
    fn gain(&self, o: usize) -> f32;
}

/// Parameters of the f32 tail.
pub(super) struct F32Rows<'l> {
    pub layer: TrainedLayer,
    /// Factor from stored to real weights.
    pub unfold: f32,
    pub weights: &'l [f32],
    pub biases: &'l [f32],
}

impl Rows for F32Rows<'_> {
    fn biases(&self) -> impl ExactSizeIterator<Item = f32> {
        self.biases.iter().copied()
    }

    fn largest(&self, place: usize) -> f32 {
        row(&self.layer, self.weights, place).fold(0.0f32, |m, w| m.max(w.abs())) * self.unfold
    }

    fn row(&self, place: usize) -> impl Iterator<Item = f32> {
        row(&self.layer, self.weights, place).map(|w| w * self.unfold)
    }

    fn gain(&self, o: usize) -> f32 {
        gain_factor(self.weights.get(o).or(self.weights.first()).copied().unwrap_or(1.0))
    }
}

pub(super) struct LayerQuantizer<'l, R> {
    pub layer: &'l TrainedLayer,
    pub rows: R,
    pub input: Affine,
    pub output: Affine,
    /// The weights' scales as packed: what frozen weights keep.
    pub packed_scales: &'l [f32],
    pub packed_weights: &'l [i8],
    /// The outputs whose weights are trained, if not all of them are.
    pub chosen: &'l [u16],
    /// Outputs that are classes; those after them are spare.
    pub classes: usize,
}

impl<R: Rows> LayerQuantizer<'_, R> {
    pub fn run(&self, weights: &mut [i8], words: &mut [i32]) {
        let outputs = self.rows.biases().len();
        let (biases, rest) = words.split_at_mut(outputs.min(words.len()));
        let (mantissas, rest) = rest.split_at_mut(outputs.min(rest.len()));
        let (shifts, scales) = rest.split_at_mut(outputs.min(rest.len()));
        let trained = self.layer.trains_weights;
        let every = self.rows.biases().enumerate().map(|(o, b)| self.own_scale(o, b));
        // Where neither weights nor scales are trained, no row is there, and the scales stay.
        let moved = trained || self.layer.trains_scales;
        let whole = if moved { every.take(self.classes).fold(0.0, f32::max) } else { 0.0 };
        let outputs = biases.iter_mut().zip(mantissas).zip(shifts).zip(scales);
        for ((o, b), (((bias, mantissa), shift), scale_bits)) in self.rows.biases().enumerate().zip(outputs) {
            if o >= self.classes {
                (*bias, *mantissa, *shift, *scale_bits) = self.spare(whole);
                self.round(o, whole, weights);
                continue;
            }
            let scale = match (moved, self.layer.operator.per_channel) {
                (true, true) => self.own_scale(o, b),
                (true, false) => whole,
                (false, _) => self.packed_scale(o),
            };
            if trained {
                self.round(o, scale, weights);
            }
            let unit = f64::from(self.input.scale) * f64::from(scale);
            // A float cast saturates; `scale` keeps the bias of trained weights far from that.
            *bias = math::round_double(f64::from(b) / unit) as i32;
            let multiplier = Multiplier::of_scales(self.input.scale, scale, self.output.scale);
            (*mantissa, *shift) = (multiplier.mantissa, multiplier.shift);
            *scale_bits = scale.to_bits().cast_signed();
        }
    }

    /// Bias, mantissa, shift and scale of a spare row, whose weights are zeros: one step below the lowest output, whatever
    /// the input.
    fn spare(&self, scale: f32) -> (i32, i32, i32, i32) {
        let unit = f64::from(self.input.scale) * f64::from(scale);
        let below = f64::from(-129 - self.output.zero_point) * f64::from(self.output.scale);
        let multiplier = Multiplier::of_scales(self.input.scale, scale, self.output.scale);
        // In the 30 bits of every other bias.
        let bias = math::round_double((below / unit).max(-f64::from(1 << 30))) as i32;
        (bias, multiplier.mantissa, multiplier.shift, scale.to_bits().cast_signed())
    }

    fn packed_scale(&self, o: usize) -> f32 {
        self.packed_scales.get(o).or(self.packed_scales.first()).copied().unwrap_or(0.0)
    }

    /// Which of the trained rows is that of output `o`; `None` of one that stays as packed.
    fn place(&self, o: usize) -> Option<usize> {
        match self.layer.chosen {
            Some(_) => self.chosen.binary_search(&u16::try_from(o).ok()?).ok(),
            None => Some(o),
        }
    }

    /// The scale of output `o` as training leaves it.
    fn own_scale(&self, o: usize, bias: f32) -> f32 {
        if self.layer.trains_scales {
            return (self.packed_scale(o) * self.rows.gain(o))
                .max(self.least_scale(bias))
                .min(sound::LARGEST_SCALE);
        }
        match self.place(o) {
            Some(place) => self.scale(place, bias),
            None => self.packed_scale(o),
        }
    }

    /// Writes the weights of output `o`.
    fn round(&self, o: usize, scale: f32, weights: &mut [i8]) {
        // Symmetric: -128 is not used, as the specification asks of weights.
        let quantize = |w: f32| Affine { scale, zero_point: 0 }.quantize(w).max(-127);
        let to = row_mut(self.layer, weights, o);
        if let Some(place) = self.place(o) {
            return to.zip(self.rows.row(place)).for_each(|(q, w)| *q = quantize(w));
        }
        // One scale for all may have grown.
        let packed = self.packed_scale(o);
        for (q, &own) in to.zip(row(self.layer, self.packed_weights, o)) {
            *q = if scale == packed { own } else { quantize(packed * f32::from(own)) };
        }
    }

    /// The smallest scale that holds a bias in 30 bits.
    fn least_scale(&self, bias: f32) -> f32 {
        bias.abs() / self.input.scale / (1u32 << 30) as f32
    }

    /// The smallest scale that holds row `place` of the trained weights in 7 bits and its bias in 30.
    fn scale(&self, place: usize, bias: f32) -> f32 {
        let scale = (self.rows.largest(place) / 127.0).max(self.least_scale(bias));
        if scale.is_normal() { scale.min(sound::LARGEST_SCALE) } else { 1e-30 }
    }
}
