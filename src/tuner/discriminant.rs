//! The direction of a class that is added: what tells it from the others, less what varies within all classes.

use super::Tuner;
use super::classes::LastLayer;
use super::imprint::gather;
use super::solve::input_scale;
use crate::closed_form::Statistics;
use crate::cpu::lanes::{dot, norm_squared};
use crate::part::Part;
use crate::tail::Tail;

/// Share of the covariance that is replaced by its mean variance, as in [`crate::closed_form`].
const SHRINKAGE: f32 = 0.1;
/// Variance of rounding to whole steps.
const ROUNDING: f32 = 1.0 / 12.0;
/// Most iterations of the conjugate gradients.
const MOST_ITERATIONS: usize = 32;
/// Share of the residual's square at which they end.
const SOLVED: f32 = 1e-8;

/// A covariance within the classes, shrunk: `share` times the factory's, or the replay's, and `diagonal` on its diagonal.
struct Covariance<'p> {
    statistics: Option<Statistics<'p>>,
    share: f32,
    diagonal: f32,
    /// Square of a feature's quantization step.
    step_squared: f32,
}

/// Places for as many floats as there are features, each.
struct Vectors<'v> {
    residual: &'v mut [f32],
    direction: &'v mut [f32],
    product: &'v mut [f32],
}

impl<'v> Vectors<'v> {
    fn new(memory: &'v mut [f32], features: usize) -> Option<Self> {
        let (residual, rest) = memory.split_at_mut_checked(features)?;
        let (direction, rest) = rest.split_at_mut_checked(features)?;
        let (product, _) = rest.split_at_mut_checked(features)?;
        Some(Self { residual, direction, product })
    }
}

impl<'a> Tuner<'a> {
    /// Makes `S^-1 d` of the difference `d` of means that lies in the spare row of `label`, by conjugate gradients, and returns
    /// the scale of the known rows to it; `None` where the row is to be scaled to their length. The row stays as it is where
    /// `memory` has no room for three vectors, and where nothing is known of the covariance: no statistics in the pack and no
    /// two samples of one class.
    pub(super) fn discriminate(
        &mut self,
        layer: &LastLayer,
        label: usize,
        memory: &mut [f32],
    ) -> Option<f32> {
        let features = layer.taps;
        let mut vectors = Vectors::new(memory, features)?;
        let covariance = self.covariance_within(label, &mut vectors)?;
        let scale = self.scale_of_known(layer, label, &covariance, &mut vectors);
        let Vectors { residual, direction, product } = vectors;
        let row = layer.weights + label * features..layer.weights + (label + 1) * features;
        let own = self.arithmetic.weights.part_mut(row.clone());
        residual.iter_mut().zip(own).for_each(|(to, from)| *to = core::mem::take(from));
        direction.iter_mut().zip(&*residual).for_each(|(to, from)| *to = *from);
        let mut left = norm_squared(residual);
        let goal = left * SOLVED;
        for _ in 0..MOST_ITERATIONS {
            self.times(&covariance, label, direction, product);
            let step = left / dot(direction, product);
            if !(left > goal && step.is_finite()) {
                break;
            }
            gather(self.arithmetic.weights.part_mut(row.clone()), step, direction);
            gather(residual, -step, product);
            let now = norm_squared(residual);
            let share = now / left;
            direction.iter_mut().zip(&*residual).for_each(|(p, r)| *p = r + share * *p);
            left = now;
        }
        scale
    }

    /// The covariance within classes up to `label`: the factory's, or that of the differences of samples that follow one
    /// another in their class.
    fn covariance_within(&mut self, label: usize, vectors: &mut Vectors) -> Option<Covariance<'a>> {
        let layer = self.pack.trained_layers().last()?;
        let (features, step) = (layer.taps.max(1), input_scale(&self.pack, &layer));
        let step_squared = step * step;
        let statistics = self.pack.statistics();
        let (share, variance) = match statistics {
            Some(statistics) => {
                let sum = (0..features).fold(0.0, |sum, i| sum + statistics.covariance(i, i));
                (1.0, step_squared * sum / features as f32)
            }
            None => {
                let (mut pairs, mut sum) = (0u32, 0.0);
                for slot in 0..self.replay.len() {
                    let Some(before) = self.before(slot, label) else { continue };
                    self.forward(before, label);
                    let x = self.arithmetic.tail.last_input(self.scratch);
                    vectors.product.iter_mut().zip(x).for_each(|(to, x)| *to = *x);
                    self.forward(slot, label);
                    let x = self.arithmetic.tail.last_input(self.scratch);
                    sum += vectors.product.iter().zip(x).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b));
                    pairs += 1;
                }
                let count = pairs as f32;
                let share = count / (count + 2.0 * features as f32);
                // Of a difference the variance is twice a sample's.
                (share, if pairs > 0 { sum / (2.0 * count * features as f32) } else { 0.0 })
            }
        };
        let share = (1.0 - SHRINKAGE) * share;
        let diagonal = (1.0 - share) * variance + ROUNDING * step_squared;
        (variance > 0.0 && diagonal.is_finite()).then_some(Covariance {
            statistics,
            share,
            diagonal,
            step_squared,
        })
    }

    /// The sample in front of the one in this slot, of those of its class, where that is known up to `label`.
    fn before(&self, slot: usize, label: usize) -> Option<usize> {
        let own = self.replay.label(slot).filter(|&own| usize::from(own) <= label)?;
        (0..slot).rev().find(|&other| self.replay.label(other) == Some(own))
    }

    /// `product = S vector`.
    fn times(&mut self, covariance: &Covariance<'_>, label: usize, vector: &[f32], product: &mut [f32]) {
        let mut factor = covariance.share;
        if let Some(statistics) = covariance.statistics {
            for (row, to) in product.iter_mut().enumerate() {
                let columns = vector.iter().enumerate();
                *to = columns.fold(0.0, |sum, (column, v)| {
                    sum + statistics.covariance(row.max(column), row.min(column)) * v
                });
            }
            factor *= covariance.step_squared;
        } else {
            product.fill(0.0);
            let mut pairs = 0u32;
            for slot in 0..self.replay.len() {
                let Some(before) = self.before(slot, label) else { continue };
                self.forward(slot, label);
                let own = dot(vector, self.arithmetic.tail.last_input(self.scratch));
                self.forward(before, label);
                let x = self.arithmetic.tail.last_input(self.scratch);
                let apart = own - dot(vector, x);
                gather(product, -apart, x);
                self.forward(slot, label);
                gather(product, apart, self.arithmetic.tail.last_input(self.scratch));
                pairs += 1;
            }
            factor /= 2.0 * pairs.max(1) as f32;
        }
        product.iter_mut().zip(vector).for_each(|(to, v)| *to = factor * *to + covariance.diagonal * v);
    }

    /// How large the known rows are beside `S^-1` times the classes' means: of rows `v_k = w_k - w` about their mean, were they
    /// `t S^-1 (mu_k - mu)`, `sum v_k S v_k` is `t` times `sum v_k (mu_k - mu)`. `None` where they are nothing alike.
    fn scale_of_known(
        &mut self,
        layer: &LastLayer,
        label: usize,
        covariance: &Covariance<'_>,
        vectors: &mut Vectors,
    ) -> Option<f32> {
        let features = layer.taps;
        let mean = &mut *vectors.residual;
        mean.fill(0.0);
        let rows = self.arithmetic.weights.part(layer.weights..).chunks_exact(features.max(1));
        rows.take(label).for_each(|row| gather(mean, 1.0 / label.max(1) as f32, row));
        let (mut spread, mut apart) = (0.0, 0.0);
        for class in 0..label {
            let from = layer.weights + class * features;
            let row = self.arithmetic.weights.part(from..from + features);
            let about = vectors.direction.iter_mut().zip(row.iter().zip(&*vectors.residual));
            about.for_each(|(to, (w, mean))| *to = w - mean);
            let Some(own) = self.projected(class, label, covariance, vectors.direction) else { continue };
            self.times(covariance, label, vectors.direction, vectors.product);
            spread += dot(vectors.direction, vectors.product);
            apart += own;
        }
        let scale = spread / apart;
        (scale.is_finite() && scale > 0.0).then_some(scale)
    }

    /// `v (mu_k - mu)` of a class `k` and a vector, of the factory's means or of the replay's samples, if there are any.
    fn projected(
        &mut self,
        class: usize,
        label: usize,
        covariance: &Covariance<'_>,
        vector: &[f32],
    ) -> Option<f32> {
        if let Some(statistics) = covariance.statistics {
            let along = |class| statistics.mean(class).zip(vector).fold(0.0, |sum, (m, v)| sum + m * v);
            let all = (0..label).fold(0.0, |sum, class| sum + along(class)) / label.max(1) as f32;
            return Some(crate::math::sqrt(covariance.step_squared) * (along(class) - all));
        }
        let (mut sums, mut counts) = ([0.0f32; 2], [0u32; 2]);
        for slot in 0..self.replay.len() {
            let Some(own) = self.replay.label(slot).filter(|&own| usize::from(own) < label) else { continue };
            self.forward(slot, label);
            let along = dot(vector, self.arithmetic.tail.last_input(self.scratch));
            for (which, counts_here) in [true, usize::from(own) == class].into_iter().enumerate() {
                if let (true, Some(sum), Some(count)) =
                    (counts_here, sums.get_mut(which), counts.get_mut(which))
                {
                    *sum += along;
                    *count += 1;
                }
            }
        }
        let [all, own] = sums;
        let [all_count, own_count] = counts;
        (own_count > 0).then(|| own / own_count as f32 - all / all_count.max(1) as f32)
    }
}
