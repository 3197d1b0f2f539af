//! A layer's weights as they are computed with: those in flash, what training has changed, and an ascent.

use super::difference::{BIAS_BITS, MOST_BITS, SUM_BITS, difference, drop_of, effective, factor_of, rounded};
use super::gradient::round_shift;
use crate::compact::number::Factor;
use crate::pack::{TrainedLayer, TrainedRow};
use crate::part::Part;

/// First weight of output channel `o`, and the distance from one to the next.
fn row(layer: &TrainedLayer, o: usize) -> (usize, usize) {
    if layer.rows_are_contiguous() { (o * layer.taps, 1) } else { (o, layer.outputs.max(1)) }
}

/// An ascent: for every trained weight an int8 element, in its channel's unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ascent<'e> {
    /// In the order of the weights.
    pub elements: &'e [i8],
    /// One per output channel: steps of q that an element stands for, with [`SUM_BITS`] fractional bits.
    pub units: &'e [i32],
    /// One per output channel: what is added to the bias, in steps of the layer's sums.
    pub biases: &'e [i32],
}

impl Ascent<'_> {
    pub const NONE: Ascent<'static> = Ascent { elements: &[], units: &[], biases: &[] };
}

/// A layer's parameters beside those in flash.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerWeights<'l> {
    pub layer: &'l TrainedLayer,
    /// The input channels that are trained, if not all of them are.
    pub inputs: &'l [u16],
    pub packed: &'l [i8],
    pub packed_biases: &'l [i32],
    /// Differences, or weights of a tail in force.
    pub deltas: &'l [i8],
    pub bits: &'l [i8],
    pub biases: &'l [i32],
    pub ascent: Ascent<'l>,
    /// Packed steps that a step of a tail in force is; empty where the differences are kept.
    pub ratios: &'l [f32],
}

impl LayerWeights<'_> {
    /// Writes the int8 weights of output channels `first` on, as many as `rows` says, in the layer's order: of a depthwise
    /// convolution all of them.
    pub fn write(&self, first: usize, rows: usize, to: &mut [i8]) {
        let base = row(self.layer, first).0;
        if self.layer.inputs.is_some() {
            let packed = self.packed.part(base..base + rows * self.layer.taps);
            to.iter_mut().zip(packed).for_each(|(to, &q)| *to = q);
        }
        for o in first..first + rows {
            self.each(o, |_, at, q| {
                if let Some(place) = to.get_mut(at - base) {
                    *place = q;
                }
            });
        }
    }

    /// Writes all trained int8 weights, in the order of the differences.
    pub fn write_trained(&self, to: &mut [i8]) {
        for o in 0..self.layer.outputs {
            self.each(o, |own, _, q| {
                if let Some(place) = to.get_mut(own) {
                    *place = q;
                }
            });
        }
    }

    /// Calls `to(index among the trained weights, index among all, weight)` for every trained weight of output channel `o`.
    #[inline(always)]
    fn each(&self, o: usize, mut to: impl FnMut(usize, usize, i8)) {
        let bits = self.bits.get(o).copied().unwrap_or(MOST_BITS);
        let shift = (SUM_BITS.cast_signed() - i32::from(bits)).cast_unsigned();
        let unit = self.ascent.units.get(o).copied().unwrap_or(0);
        let ratio = self.ratio(o);
        for (own, at) in self.indices(o) {
            let (Some(&q), Some(&d)) = (self.packed.get(at), self.deltas.get(own)) else {
                debug_assert!(false, "a row outside of its layer");
                return;
            };
            let d = ratio.map_or(d, |ratio| rounded(difference(ratio, d, q), bits));
            let e = self.ascent.elements.get(own).copied().unwrap_or(0);
            to(own, at, effective(q, d, shift, i32::from(e).saturating_mul(unit)));
        }
    }

    /// Indices of output channel `o`'s trained weights: among these, and in the layer.
    pub fn indices(&self, o: usize) -> TrainedRow<'_> {
        self.layer.trained_row(o, self.inputs)
    }

    /// Output channel `o`'s trained weights.
    pub fn row(&self, o: usize) -> impl Iterator<Item = i8> {
        let bits = self.bits.get(o).copied().unwrap_or(MOST_BITS);
        let (ratio, at) =
            (self.ratio(o), |values: &[i8], index: usize| values.get(index).copied().unwrap_or(0));
        self.indices(o).map(move |(own, index)| {
            let (q, d) = (at(self.packed, index), at(self.deltas, own));
            let d = ratio.map_or(d, |ratio| rounded(difference(ratio, d, q), bits));
            effective(q, d, drop_of(bits), 0)
        })
    }

    /// Factor from steps of a tail in force to 2^-[`SUM_BITS`] of a packed step.
    fn ratio(&self, o: usize) -> Option<Factor> {
        self.ratios.get(o).map(|&ratio| factor_of(ratio))
    }

    /// Bias of output channel `o`, in steps of the layer's sums.
    pub fn bias(&self, o: usize) -> i32 {
        let of = |values: &[i32]| values.get(o).copied().unwrap_or(0);
        let moved = round_shift(of(self.biases), BIAS_BITS).saturating_add(of(self.ascent.biases));
        of(self.packed_biases).saturating_add(moved)
    }
}
