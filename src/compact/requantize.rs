//! The 16-bit masters as a tuned int8 tail: every row at the scale that its largest weight fills.

use super::chain::{Chain, Layer};
use super::rows::master;
use super::weights::Weights;
use crate::pack::Pack;
use crate::requant::{Range, Rows, TunedTail, unfold};

impl Weights<'_> {
    /// Writes the tail as TensorFlow Lite's specification wants it, with outputs of these ranges: weights symmetric, per
    /// channel or per tensor as the layer was packed.
    pub fn requantize(&self, chain: &Chain, pack: &Pack, ranges: &[Range], tuned: &mut TunedTail) {
        let mut layers = chain.layers();
        tuned.quantize_rows(pack, ranges, |packed| MasterRows {
            weights: self,
            layer: layers.next(),
            to_real: unfold(pack, packed) / 256.0,
        });
    }
}

/// One layer's masters; `None` after the last, which a pack excludes.
struct MasterRows<'w> {
    weights: &'w Weights<'w>,
    layer: Option<&'w Layer>,
    /// Factor from 1/256 of a weight's step to the int8 weights' own real numbers.
    to_real: f32,
}

impl MasterRows<'_> {
    fn masters(&self, o: usize) -> impl Iterator<Item = i32> {
        let own = self.layer.map(|layer| (layer.row(self.weights.high, o), layer.row(self.weights.low, o)));
        let (high, low) = own.unwrap_or_default();
        high.iter().zip(low).map(|(&high, &low)| master(high, low))
    }

    /// The real number that a master of 1 stands for.
    fn master_scale(&self, o: usize) -> f32 {
        let scale = self.layer.and_then(|layer| layer.of(self.weights.scales).get(o));
        scale.map_or(0.0, |scale| scale.abs() * self.to_real)
    }
}

impl Rows for MasterRows<'_> {
    fn biases(&self) -> impl ExactSizeIterator<Item = f32> {
        let unit = self.layer.map_or(0.0, |layer| layer.unit);
        let biases = self.layer.map_or(&[][..], |layer| layer.of(self.weights.biases));
        biases.iter().map(move |&b| b as f32 * unit)
    }

    fn largest(&self, o: usize) -> f32 {
        self.masters(o).fold(0, |most, master| most.max(master.abs())) as f32 * self.master_scale(o)
    }

    fn row(&self, o: usize) -> impl Iterator<Item = f32> {
        let scale = self.master_scale(o);
        self.masters(o).map(move |master| scale * master as f32)
    }

    // Scales are trained by no compact tail.
    fn gain(&self, _: usize) -> f32 {
        1.0
    }
}
