//! The passes over the samples, and what is computed after each of them.

mod prior;
mod scale;

use super::Statistics;
use super::cholesky::{factor_row, solve, triangle};
use crate::cpu::lanes::dot;
use crate::math::exp;
use crate::part::Part;
use bytemuck::{cast_slice, cast_slice_mut};
use scale::SCALES;

/// An element that is there; no panic is in sight of the linker.
fn at<T: Copy + Default>(values: &[T], index: usize) -> T {
    debug_assert!(index < values.len());
    values.get(index).copied().unwrap_or_default()
}

/// Weight of a sample whose label is surely right.
const FULL: i32 = 128;
/// What a weight is counted in.
const PART: f32 = 1.0 / FULL as f32;
/// Variance of rounding to whole steps.
const ROUNDING: f32 = 1.0 / 12.0;
/// Share of a second moment that f32 may lose where the means' squares are taken off, 2^-22: a feature that never changes
/// would have a variance below 0.
const CANCELLED: f32 = 2.0 * f32::EPSILON;

/// Least label smoothing that a head's scale is chosen with: with none, right answers alone would ask for any scale.
pub const LEAST_SMOOTHING: f32 = 0.1;

/// Constants of the closed form. The values of [`Settings::DEFAULT`] were chosen by measurement on several tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Settings {
    /// Samples that no offset of the subject counts as, and at least the factory's mean of a class (`n0`), above 0.
    pub prior_samples: f32,
    /// Share of the labels that are taken to be drawn from all classes (`e`), below 1.
    pub wrong_labels: f32,
    /// Passes over the samples.
    pub rounds: u8,
    /// Share of the covariance that is replaced by its mean variance.
    pub shrinkage: f32,
    /// Label smoothing of the loss that chooses the head's scale, from above 0 to below 1.
    pub smoothing: f32,
}

impl Settings {
    /// What ships.
    pub const DEFAULT: Self =
        Self { prior_samples: 2.0, wrong_labels: 0.3, rounds: 4, shrinkage: 0.05, smoothing: 0.2 };
}

/// Words of [`ClosedForm`]'s scratch.
pub const fn scratch_words(classes: usize, features: usize) -> usize {
    let rows = classes.saturating_mul(2 * features + 3);
    triangle(features).saturating_add(rows).saturating_add(2 * features).saturating_add(SCALES)
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// [`ClosedForm::add`] the sample of this index.
    Sample(usize),
    /// [`ClosedForm::compute`].
    Compute,
    /// The head is solved.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The factory's answers stand in for its means.
    Answers(usize),
    Samples(usize),
    Means,
    Row(usize),
    Solve(usize),
    /// The head's logits on this sample.
    Scales(usize),
    Done,
}

/// A head that is being solved, a sample, a row or a class at a time.
#[derive(Debug)]
pub struct ClosedForm<'s> {
    settings: Settings,
    statistics: Option<Statistics<'s>>,
    samples: usize,
    phase: Phase,
    round: u8,
    /// Mean variance, of which [`Settings::shrinkage`] is put on the diagonal.
    ridge: f32,
    /// Samples that a mean of the factory counts as, measured.
    prior_samples: f32,
    /// What rounding may have taken off a variance, and is put on the diagonal.
    floor: f32,
    /// Bits after the point of the second moments: as many of a weight's 7 as fit for so many samples.
    point: u32,
    /// The samples' mean variance in the first round, which stands in for the factory's covariance where that is not known.
    first: f32,
    /// Second moments of the features, weighted; then the covariance; then its Cholesky factor.
    triangle: &'s mut [i32],
    /// Sums of the features of each class, weighted.
    sums: &'s mut [i32],
    /// Weights of the samples of each class.
    counts: &'s mut [i32],
    /// Means that the factory has of each class.
    prior: &'s mut [f32],
    /// Whether there is such a mean: how much it counts.
    known: &'s mut [f32],
    logits: &'s mut [f32],
    /// A sample's features; after the pass the subject's offset.
    x: &'s mut [f32],
    /// A sample's features.
    steps: &'s mut [i32],
    /// Sum of the samples' losses at each scale.
    losses: &'s mut [i32],
    /// Weights `[classes, features]`, then biases.
    head: &'s mut [f32],
}

impl<'s> ClosedForm<'s> {
    /// Most samples whose sums fit into 32 bits.
    pub const MOST_SAMPLES: usize = i32::MAX as usize / (255 * 255);

    /// A head to be solved of so many samples. `head` holds `classes` rows of weights and then `classes` biases of the
    /// factory's head for features in steps; `scratch` at least [`scratch_words`]. Without statistics the answers of
    /// the factory's head stand in for the factory's means, and the samples' own covariance for the factory's.
    ///
    /// `None` where lengths do not match, and for more samples than sums of 32 bits hold (33,025).
    pub fn new(
        settings: Settings,
        statistics: Option<Statistics<'s>>,
        samples: usize,
        (classes, features): (usize, usize),
        head: &'s mut [f32],
        scratch: &'s mut [i32],
    ) -> Option<Self> {
        if head.len() != classes * (features + 1)
            || statistics.is_some_and(|s| s.features() != features || s.classes() > classes)
            || samples > Self::MOST_SAMPLES
            || classes == 0
        {
            return None;
        }
        let scratch = scratch.get_mut(..scratch_words(classes, features))?;
        scratch.fill(0);
        let (triangle, rest) = scratch.split_at_mut_checked(triangle(features))?;
        let (sums, rest) = rest.split_at_mut_checked(classes * features)?;
        let (prior, rest) = rest.split_at_mut_checked(classes * features)?;
        let (counts, rest) = rest.split_at_mut_checked(classes)?;
        let (known, rest) = rest.split_at_mut_checked(classes)?;
        let (logits, rest) = rest.split_at_mut_checked(classes)?;
        let (x, rest) = rest.split_at_mut_checked(features)?;
        let (steps, losses) = rest.split_at_mut_checked(features)?;
        let mut own = Self {
            settings,
            statistics,
            samples,
            phase: Phase::Answers(0),
            round: 0,
            ridge: 0.0,
            prior_samples: settings.prior_samples,
            floor: ROUNDING,
            point: (Self::MOST_SAMPLES / samples.max(1)).max(1).ilog2().min(FULL.ilog2()),
            first: 0.0,
            triangle,
            sums,
            counts,
            prior: cast_slice_mut(prior),
            known: cast_slice_mut(known),
            logits: cast_slice_mut(logits),
            x: cast_slice_mut(x),
            steps,
            losses,
            head,
        };
        if let Some(statistics) = statistics {
            for (class, row) in own.prior.chunks_exact_mut(features.max(1)).enumerate() {
                row.iter_mut().zip(statistics.mean(class)).for_each(|(to, from)| *to = from);
            }
            own.known.iter_mut().take(statistics.classes()).for_each(|known| *known = 1.0);
            own.phase = Phase::Samples(0);
        }
        own.past_samples();
        Some(own)
    }

    /// What is to be done next.
    pub fn next(&self) -> Next {
        match self.phase {
            Phase::Answers(sample) | Phase::Samples(sample) | Phase::Scales(sample) => Next::Sample(sample),
            Phase::Means | Phase::Row(_) | Phase::Solve(_) => Next::Compute,
            Phase::Done => Next::Done,
        }
    }

    /// Rows of weights and then biases: solved, where [`Self::next`] says so.
    pub fn head(&self) -> &[f32] {
        self.head
    }

    fn features(&self) -> usize {
        self.x.len()
    }

    fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Leaves a pass that has come to its end.
    fn past_samples(&mut self) {
        match self.phase {
            Phase::Answers(sample) if sample >= self.samples => {
                let features = self.features().max(1);
                self.x.fill(0.0);
                for sums in self.sums.chunks_exact(features) {
                    self.x.iter_mut().zip(sums).for_each(|(to, &sum)| *to += sum as f32);
                }
                let all = self.counts.iter().sum::<i32>().max(1) as f32;
                let rows = self.prior.chunks_exact_mut(features).zip(self.sums.chunks_exact(features));
                for (((prior, sums), &count), known) in rows.zip(&*self.counts).zip(&mut *self.known) {
                    let share = 1.0 / (count + FULL) as f32;
                    for ((to, &sum), all_sums) in prior.iter_mut().zip(sums).zip(&*self.x) {
                        *to = (sum as f32 + FULL as f32 * (all_sums / all)) * share;
                    }
                    *known = 1.0;
                }
                self.sums.fill(0);
                self.counts.fill(0);
                self.phase = Phase::Samples(0);
                self.past_samples();
            }
            Phase::Samples(sample) if sample >= self.samples => self.phase = Phase::Means,
            Phase::Scales(sample) if sample >= self.samples => {
                self.scale();
                self.phase = Phase::Done;
            }
            _ => {}
        }
    }

    /// Takes the features of the sample that [`Self::next`] asked for, from -255 to 255 steps, and its label. A label
    /// that is no class counts for nothing.
    pub fn add(&mut self, x: impl Iterator<Item = i16>, label: usize) {
        for ((to, float), x) in self.steps.iter_mut().zip(&mut *self.x).zip(x) {
            debug_assert!(x.unsigned_abs() <= 255);
            (*to, *float) = (i32::from(x), f32::from(x));
        }
        match self.phase {
            Phase::Answers(sample) => {
                self.softmax();
                for class in 0..self.classes() {
                    let share = crate::math::round(FULL as f32 * at(self.logits, class)) as i32;
                    self.gather(class, share);
                }
                self.phase = Phase::Answers(sample + 1);
            }
            Phase::Samples(sample) => {
                if label < self.classes() {
                    let weight = if self.round == 0 { FULL } else { self.weight(label) };
                    self.gather(label, weight);
                    let lost = FULL.ilog2() - self.point;
                    let half = (1 << lost) >> 1;
                    let mut rest = &mut *self.triangle;
                    for (row, &own) in self.steps.iter().enumerate() {
                        let Some((to, below)) = core::mem::take(&mut rest).split_at_mut_checked(row + 1)
                        else {
                            return;
                        };
                        let own = weight * own;
                        // Rounded sample by sample, if at all: the sum does not depend on their order.
                        to.iter_mut().zip(&*self.steps).for_each(|(to, &x)| *to += (own * x + half) >> lost);
                        rest = below;
                    }
                }
                self.phase = Phase::Samples(sample + 1);
            }
            Phase::Scales(sample) => {
                if label < self.classes() {
                    self.add_losses(label);
                }
                self.phase = Phase::Scales(sample + 1);
            }
            _ => debug_assert!(false, "no sample is asked for"),
        }
        self.past_samples();
    }

    fn gather(&mut self, class: usize, weight: i32) {
        let features = self.features();
        let sums = self.sums.iter_mut().skip(class * features);
        sums.zip(&*self.steps).for_each(|(sum, &x)| *sum += weight * x);
        if let Some(count) = self.counts.get_mut(class) {
            *count += weight;
        }
    }

    fn write_logits(&mut self) {
        let (weights, biases) = self.head.split_at((self.classes() * self.features()).min(self.head.len()));
        let rows = weights.chunks_exact(self.features().max(1)).zip(biases);
        for (z, (row, bias)) in self.logits.iter_mut().zip(rows) {
            *z = dot(row, self.x) + bias;
        }
    }

    /// `p` of each class, in place of logits.
    fn softmax(&mut self) {
        self.write_logits();
        let most = self.logits.iter().fold(f32::NEG_INFINITY, |most, &z| most.max(z));
        self.logits.iter_mut().for_each(|z| *z = exp(*z - most));
        let share = 1.0 / self.logits.iter().fold(0.0, |sum, &p| sum + p);
        self.logits.iter_mut().for_each(|p| *p *= share);
    }

    /// The chance that the label is right, in 1/128.
    fn weight(&mut self, label: usize) -> i32 {
        self.softmax();
        let right = (1.0 - self.settings.wrong_labels) * at(self.logits, label);
        let wrong = self.settings.wrong_labels / self.classes() as f32;
        crate::math::round(FULL as f32 * (right / (right + wrong))) as i32
    }

    /// Does one slice of the work after a pass.
    pub fn compute(&mut self) {
        self.phase = match self.phase {
            Phase::Means => {
                self.means();
                Phase::Row(0)
            }
            Phase::Row(row) => {
                self.row(row);
                if row + 1 < self.features() { Phase::Row(row + 1) } else { Phase::Solve(0) }
            }
            Phase::Solve(class) => {
                self.solve(class);
                if class + 1 < self.classes() { Phase::Solve(class + 1) } else { self.next_round() }
            }
            other => other,
        };
        self.past_samples();
    }

    fn next_round(&mut self) -> Phase {
        self.round += 1;
        if self.round < self.settings.rounds {
            self.triangle.fill(0);
            self.sums.fill(0);
            self.counts.fill(0);
            return Phase::Samples(0);
        }
        self.center();
        Phase::Scales(0)
    }

    /// Sum of all weights.
    fn total(&self) -> f32 {
        self.counts.iter().sum::<i32>() as f32 * PART
    }

    /// The subject's offset, and in the head's rows the means a posteriori; then the mean variance.
    fn means(&mut self) {
        let features = self.features().max(1);
        self.x.fill(0.0);
        let mut count = 0.0;
        let of_class = |counts: &[i32], class: usize| at(counts, class) as f32 * PART;
        for (class, (prior, sums)) in
            self.prior.chunks_exact(features).zip(self.sums.chunks_exact(features)).enumerate()
        {
            let own = at(self.known, class) * of_class(self.counts, class);
            if own > 0.0 {
                count += own;
                for ((to, &sum), prior) in self.x.iter_mut().zip(sums).zip(prior) {
                    *to += sum as f32 * PART - own * prior;
                }
            }
        }
        if count > 0.0 {
            let share = 1.0 / (count + self.settings.prior_samples);
            self.x.iter_mut().for_each(|o| *o *= share);
        }
        self.prior_samples = self.measured_prior();
        let (weights, _) = self.head.parts_mut_at(self.counts.len() * self.x.len());
        let rows = self.prior.chunks_exact(features).zip(self.sums.chunks_exact(features));
        for (class, (row, (prior, sums))) in weights.chunks_exact_mut(features).zip(rows).enumerate() {
            let before = self.prior_samples * at(self.known, class);
            let own = of_class(self.counts, class);
            let share = if before + own > 0.0 { 1.0 / (before + own) } else { 0.0 };
            for (((to, &sum), prior), offset) in row.iter_mut().zip(sums).zip(prior).zip(&*self.x) {
                *to = (before * (prior + offset) + sum as f32 * PART) * share;
            }
        }
        let sum = |of: &dyn Fn(usize) -> f32| (0..features).fold(0.0, |sum, feature| sum + of(feature));
        let own =
            sum(&|i| self.own_covariance(i, i, self.triangle.get(triangle(i) + i).copied().unwrap_or(0)));
        if self.round == 0 {
            self.first = own / features as f32;
        }
        let factory = sum(&|i| self.factory_covariance(i, i));
        self.ridge = (self.mixed(factory, own) / features as f32).max(0.0);
        let squares = (0..features).filter_map(|i| self.triangle.get(triangle(i) + i));
        let largest = squares.fold(0, |largest, &square| largest.max(square));
        let moment = if self.total() > 0.0 { self.moment(largest) / self.total() } else { 0.0 };
        self.floor = ROUNDING + CANCELLED * moment * features as f32;
    }

    /// A sum of weighted products.
    fn moment(&self, products: i32) -> f32 {
        products as f32 * (1.0 / (1 << self.point) as f32)
    }

    /// The samples' covariance around the means in the head, of their sum of products.
    fn own_covariance(&self, row: usize, column: usize, products: i32) -> f32 {
        let features = self.features().max(1);
        let mut own = self.moment(products);
        let means = self.head.chunks_exact(features).zip(self.sums.chunks_exact(features));
        for ((mean, sums), &count) in means.zip(&*self.counts) {
            let [a, b] = [row, column].map(|index| at(sums, index) as f32 * PART);
            let [of_row, of_column] = [row, column].map(|index| at(mean, index));
            own -= of_row * b + of_column * a - count as f32 * PART * (of_row * of_column);
        }
        let total = self.total();
        if total > 0.0 { own / total } else { 0.0 }
    }

    fn factory_covariance(&self, row: usize, column: usize) -> f32 {
        match self.statistics {
            Some(statistics) => statistics.covariance(row, column),
            None if row == column => self.first,
            None => 0.0,
        }
    }

    /// Both, by the number of samples: the factory's counts as `n0` for each feature.
    fn mixed(&self, factory: f32, own: f32) -> f32 {
        let total = self.total();
        let share = total / (total + self.prior_samples * self.features() as f32);
        (1.0 - share) * factory + share * own
    }

    /// A row of the covariance, and of its factor.
    fn row(&mut self, row: usize) {
        let start = triangle(row);
        let shrinkage = self.settings.shrinkage;
        for column in 0..=row {
            let products = at(self.triangle, start + column);
            let own = self.own_covariance(row, column, products);
            let mut value = (1.0 - shrinkage) * self.mixed(self.factory_covariance(row, column), own);
            if column == row {
                value += shrinkage * self.ridge + self.floor;
            }
            if let Some(place) = self.triangle.get_mut(start + column) {
                *place = value.to_bits() as i32;
            }
        }
        factor_row(cast_slice_mut(self.triangle), row, self.floor);
    }

    /// A class's weights and bias, of its mean.
    fn solve(&mut self, class: usize) {
        let features = self.features();
        let (weights, biases) = self.head.parts_mut_at(self.counts.len() * features);
        let row = weights.chunks_exact_mut(features.max(1)).nth(class);
        if let (Some(row), Some(bias)) = (row, biases.get_mut(class)) {
            *bias = -0.5 * solve(cast_slice(self.triangle), row);
        }
    }

    /// Takes from each weight the mean of its column: a softmax does not see it, int8 rows do.
    fn center(&mut self) {
        let (classes, features) = (self.classes(), self.features());
        let share = 1.0 / classes as f32;
        let (weights, biases) = self.head.parts_mut_at(classes * features);
        for (rows, columns) in [(weights, features.max(1)), (biases, 1)] {
            for column in 0..columns {
                let mean = rows.iter().skip(column).step_by(columns).fold(0.0, |sum, w| sum + w) * share;
                rows.iter_mut().skip(column).step_by(columns).for_each(|w| *w -= mean);
            }
        }
    }
}
