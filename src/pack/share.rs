//! Where a layer's trained weights lie, of whose input channels a share alone may be trained.

use super::TrainedLayer;
use core::ops::Range;

/// A share of a layer's input channels: their weights alone are trained, in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenInputs {
    /// How many.
    pub count: usize,
    /// Where [`Pack::inputs`](super::Pack::inputs) finds them.
    pub(super) offset: usize,
    /// Bytes of the workspace where these channels of the input are kept, every pixel's one after the other.
    pub kept: Range<usize>,
}

/// The trained weights of one output channel: of each its index among the layer's trained weights, and that among all.
#[derive(Debug, Clone)]
pub(crate) struct TrainedRow<'c> {
    own: usize,
    own_step: usize,
    /// Index among all weights; with `inputs` that of the first channel under the tap.
    at: usize,
    step: usize,
    left: usize,
    /// Channels under every tap that are trained; none where the steps say all.
    inputs: &'c [u16],
    channel: usize,
}

impl TrainedRow<'_> {
    /// How many are left.
    pub fn length(&self) -> usize {
        self.left
    }
}

impl Iterator for TrainedRow<'_> {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        self.left = self.left.checked_sub(1)?;
        let own = self.own;
        self.own += self.own_step;
        if self.inputs.is_empty() {
            let at = self.at;
            self.at += self.step;
            return Some((own, at));
        }
        let at = self.at + usize::from(self.inputs.get(self.channel).copied().unwrap_or(0));
        self.channel += 1;
        if self.channel == self.inputs.len() {
            (self.channel, self.at) = (0, self.at + self.step);
        }
        Some((own, at))
    }
}

impl TrainedLayer {
    /// Output channel `o`'s trained weights; `inputs` are the layer's [`Pack::chosen_inputs`](super::Pack::chosen_inputs).
    pub(crate) fn trained_row<'c>(&self, o: usize, inputs: &'c [u16]) -> TrainedRow<'c> {
        let contiguous = self.rows_are_contiguous();
        let (at, step) = if contiguous { (o * self.taps, 1) } else { (o, self.outputs.max(1)) };
        let taps = if self.trains_weights { self.taps } else { 0 };
        let whole = TrainedRow { own: at, own_step: step, at, step, left: taps, inputs: &[], channel: 0 };
        if self.inputs.is_none() {
            return whole;
        }
        if contiguous {
            let left = self.area() * inputs.len();
            return TrainedRow { own: o * left, step: self.input_channels(), left, inputs, ..whole };
        }
        let place = u16::try_from(o).ok().and_then(|o| inputs.binary_search(&o).ok());
        let left = if place.is_some() { taps } else { 0 };
        TrainedRow { own: place.unwrap_or(0), own_step: inputs.len(), left, ..whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn rows_of_shares_name_every_chosen_weight_once() {
        let pack = crate::Pack::new(crate::include_pack!("../../tests/examples/motion.pack")).unwrap();
        let last = pack.trained_layers().last().unwrap();
        let mut operator = last.operator;
        operator.window.filter = [2, 1];
        operator.kind = crate::pack::format::operator::CONV_2D;
        let layer =
            TrainedLayer { operator, outputs: 2, taps: 6, trains_weights: true, inputs: Some(2), ..last };
        let row = |layer: &TrainedLayer, o| layer.trained_row(o, &[0, 2]).collect::<Vec<_>>();
        assert_eq!(row(&layer, 0), [(0, 0), (1, 2), (2, 3), (3, 5)]);
        assert_eq!(row(&layer, 1), [(4, 6), (5, 8), (6, 9), (7, 11)]);
        operator.kind = crate::pack::format::operator::DEPTHWISE_CONV_2D;
        let depthwise = TrainedLayer { operator, outputs: 3, taps: 2, ..layer };
        assert_eq!(row(&depthwise, 0), [(0, 0), (2, 3)]);
        assert_eq!(row(&depthwise, 1), []);
        assert_eq!(row(&depthwise, 2), [(1, 2), (3, 5)]);
        let whole = TrainedLayer { inputs: None, ..depthwise };
        assert_eq!(row(&whole, 1), [(1, 1), (4, 4)]);
    }
}
