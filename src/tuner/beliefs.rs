//! What is believed of the labels in the replay: how probable each class is for each sample, by all but the sample's own
//! label, and with it. Tails are compared by how many of their answers are right, as far as that is known.
//!
//! A sample is where the factory's log-probabilities `x` put it. Half of what is believed before its label is seen are the
//! factory's probabilities. The other half is a classifier of the subject's own: the class whose mean of `x` is near, with
//! unit variance, `p_c = exp(-|x - m_c|^2 / 2)` of all classes' sum. `m_c` is the mean over the samples with that label, but for
//! the sample itself, and over [`PRIOR_SAMPLES`] at the mean of those that the factory answers `c` to. No label has thus a say in
//! what is believed of it, and memorizing wrong labels gains nothing.
//!
//! Where the samples' own classifier tells more labels than the factory does, because the factory no longer fits what the sensor
//! sees, it counts for more than half: its share is that of a mixture of the two that makes the labels most likely
//! (expectation-maximization, Dempster et al. 1977, section 4.3, [`ROUNDS`] rounds from halves). The factory never counts for more.
//!
//! Labels that are not the class believed most in are counted. They are a share of `e (C - 1) / C` if a share `e` of all labels
//! is drawn from all `C` classes. Given its label `y`, class `c` of a sample has the probability `p_c ((1 - e) [c = y] + e / C)`, of all
//! classes' sum (forward correction: Patrini et al. 2017, section 3.2).

use super::arithmetic::Arithmetic;
use super::outputs::Outputs;
use super::{Tuner, Version};
use crate::label::{Loss, argmax};
use crate::math::{exp, round};

/// Samples that the factory's mean of a class counts as; as many as in a head in closed form.
const PRIOR_SAMPLES: i32 = 2;
/// Rounds that look for the classifiers' shares.
const ROUNDS: usize = 4;
/// Least share of labels that are taken to be drawn from all classes.
const LEAST_WRONG: f32 = 0.1;
/// Log-probabilities are whole steps of 1/1024 nat.
const STEPS_A_NAT: f32 = 1024.0;
/// No probability is smaller than `exp(-6.25)`, about half a step of a softmax's bytes.
const MOST_SURPRISE: f32 = 6.25;
/// Samples are counted in 1/4096.
const PARTS_A_SAMPLE: f32 = 4096.0;

/// How many answers of a tail are right, as far as that is known, in 1/4096 sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Believed(u32);

impl Believed {
    /// A sample.
    pub const ONE: i64 = PARTS_A_SAMPLE as i64;

    /// How much more that is than another tail's, in 1/4096 sample.
    pub fn beyond(self, other: Self) -> i64 {
        i64::from(self.0) - i64::from(other.0)
    }
}

/// The tail whose answers are counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// One that can be run.
    Int8(Version),
    /// One whose answers are kept.
    Former,
}

/// Where the class means lie, and what share of the labels is taken to be wrong.
#[derive(Debug)]
pub(super) struct Beliefs {
    /// Bytes at the front of [`super::Numbers::spare`] that are not theirs.
    taken: usize,
    /// Classes, added ones among them.
    classes: usize,
    /// Classes that the factory knows: elements of `x`.
    known: usize,
    /// Share of the subject's own classifier in what is believed, from a half to 1.
    own: f32,
    /// `e`.
    wrong: f32,
}

/// Sums of what is believed in, in memory that nothing else lives in.
struct Means<'m> {
    /// Sums of `x`, a row per class.
    sums: &'m mut [i32],
    /// How many samples they are of.
    counts: &'m mut [i32],
    /// A sample's `x`.
    x: &'m mut [i32],
    /// Its classes' probabilities.
    p: &'m mut [f32],
}

impl<'m> Means<'m> {
    /// `None` where they do not fit.
    fn cut(memory: &'m mut [u8], classes: usize, known: usize) -> Option<Self> {
        let (_, words, _) = bytemuck::pod_align_to_mut::<u8, i32>(memory);
        let (sums, rest) = words.split_at_mut_checked(classes.checked_mul(known)?)?;
        let (counts, rest) = rest.split_at_mut_checked(classes)?;
        let (x, rest) = rest.split_at_mut_checked(known)?;
        let p = bytemuck::must_cast_slice_mut(rest.get_mut(..classes)?);
        Some(Self { sums, counts, x, p })
    }

    /// Takes a sample's outputs.
    fn see(&mut self, outputs: &Outputs, values: &[i8]) {
        for (class, x) in self.x.iter_mut().enumerate() {
            *x = -(round(STEPS_A_NAT * outputs.cross_entropy(values, class).min(MOST_SURPRISE)) as i32);
        }
    }

    /// Adds the sample to a class.
    fn add(&mut self, class: usize) {
        let known = self.x.len();
        let row = self.sums.iter_mut().skip(class.saturating_mul(known));
        row.zip(&*self.x).for_each(|(sum, x)| *sum += x);
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
    }

    /// Turns the sums of what the factory answers into what they count for, each mean with one sample at the mean of all.
    #[inline(never)] // Once in a firmware.
    fn settle(&mut self) {
        let known = self.x.len();
        let all = self.counts.iter().sum::<i32>().max(1) as f32;
        for (element, x) in self.x.iter_mut().enumerate() {
            *x = self.sums.iter().skip(element).step_by(known.max(1)).sum();
        }
        for (row, count) in self.sums.chunks_exact_mut(known.max(1)).zip(&mut *self.counts).take(known) {
            let share = PRIOR_SAMPLES as f32 / (*count + 1) as f32;
            for (sum, &of_all) in row.iter_mut().zip(&*self.x) {
                *sum = round(share * (*sum as f32 + of_all as f32 / all)) as i32;
            }
            *count = PRIOR_SAMPLES;
        }
    }

    /// How probable each class is for the sample, which has this label, by the class means without it.
    #[inline(never)] // Once in a firmware.
    fn classify(&mut self, label: usize) {
        let rows = self.sums.chunks_exact(self.x.len().max(1)).zip(&*self.counts).zip(&mut *self.p);
        let mut nearest = f32::INFINITY;
        for (class, ((row, &count), p)) in rows.enumerate() {
            let own = i32::from(class == label);
            // Of a class without any other sample nothing is known.
            *p = f32::INFINITY;
            if count > own {
                let share = 1.0 / (count - own) as f32;
                *p = (row.iter().zip(&*self.x)).fold(0.0, |sum, (&all, &x)| {
                    let off = (x as f32 - share * (all - own * x) as f32) * (1.0 / STEPS_A_NAT);
                    sum + off * off
                });
            }
            nearest = nearest.min(*p);
        }
        self.p
            .iter_mut()
            .for_each(|p| *p = if *p < f32::INFINITY { exp(-0.5 * (*p - nearest)) } else { 0.0 });
        let sum = self.p.iter().fold(0.0, |sum, &p| sum + p);
        self.p.iter_mut().for_each(|p| *p /= sum);
    }
}

/// What is believed of a sample before its label is seen.
struct Prior<'m> {
    outputs: Outputs,
    values: &'m [i8],
    /// By the class means; empty where there is no room for them.
    means: &'m [f32],
    /// What they count for.
    share: f32,
    classes: usize,
    known: usize,
}

impl Prior<'_> {
    /// The factory's probability of a class.
    fn factory(&self, class: usize) -> f32 {
        if class < self.known { exp(-self.outputs.cross_entropy(self.values, class)) } else { 0.0 }
    }

    /// How far the class means, and not the factory, are what the label comes from, in 1/4096: each of both gives it the
    /// probability that it says, but for the least share of labels that are drawn from all classes.
    #[inline(never)] // Once in a firmware.
    fn by_means(&self, label: usize) -> u32 {
        let Some(own) = self.means.get(label) else { return 0 };
        let random = LEAST_WRONG / self.classes as f32;
        let [own, factory] = [*own, self.factory(label)].map(|p| (1.0 - LEAST_WRONG) * p + random);
        let (own, factory) = (self.share * own, (1.0 - self.share) * factory);
        round(PARTS_A_SAMPLE * (own / (own + factory))) as u32
    }

    /// The probability of a class.
    fn of(&self, class: usize) -> f32 {
        let factory = self.factory(class);
        match self.means.get(class) {
            Some(own) => (1.0 - self.share) * factory + self.share * own,
            // The factory says nothing of a class that was added.
            None if class >= self.known => 1.0 / self.classes as f32,
            None => factory,
        }
    }

    /// The class that is believed in most, the first among equals.
    #[inline(never)] // Once in a firmware.
    fn most(&self) -> usize {
        let mut most = (0, self.of(0));
        for class in 1..self.classes {
            let own = self.of(class);
            if own > most.1 {
                most = (class, own);
            }
        }
        most.0
    }

    /// The probability that `answer` is right for a sample with this label, a share of `wrong` of all labels being drawn
    /// from all classes: in 1/4096, so that sums are exact.
    fn given(&self, label: usize, wrong: f32, answer: usize) -> Believed {
        let random = wrong / self.classes as f32;
        let right = (1.0 - wrong) * self.of(label);
        let own = random * self.of(answer) + if answer == label { right } else { 0.0 };
        Believed(round(PARTS_A_SAMPLE * (own / (right + random)).min(1.0)) as u32)
    }
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Whether beliefs can be had: of samples that are of one class each.
    pub(super) fn believes(&self) -> bool {
        !A::ANY_TAIL || self.objective() == Loss::CrossEntropy
    }

    /// Seven passes of the factory's tail over the replay; between runs.
    #[inline(never)] // Once in a firmware.
    pub(super) fn beliefs(&mut self, taken: usize, between: &mut dyn FnMut()) -> Beliefs {
        let (classes, known) = (self.classes(), self.pack.known_classes());
        let mut own = Beliefs { taken, classes, known, own: 0.5, wrong: LEAST_WRONG };
        if let Some(means) = self.means(&own) {
            means.sums.fill(0);
            means.counts.fill(0);
            self.collect(&own, false, between);
            if let Some(mut means) = self.means(&own) {
                means.settle();
            }
            self.collect(&own, true, between);
            for _ in 0..ROUNDS {
                own.own = self.share_of_means(&own, between).max(0.5);
            }
        }
        let (mut samples, mut others) = (0u32, 0u32);
        for slot in 0..self.replay.len() {
            between();
            if let Some((label, prior)) = self.prior(slot, &own) {
                samples += 1;
                others += u32::from(prior.most() != label);
            }
        }
        let classes = own.classes as f32;
        let share = others as f32 / samples.max(1) as f32;
        own.wrong = (share * (classes / (classes - 1.0).max(1.0))).clamp(LEAST_WRONG, 1.0);
        own
    }

    /// The share of the class means that makes the labels more likely than that of before.
    #[inline(never)] // Once in a firmware.
    fn share_of_means(&mut self, own: &Beliefs, between: &mut dyn FnMut()) -> f32 {
        let (mut samples, mut parts) = (0u32, 0u32);
        for slot in 0..self.replay.len() {
            between();
            // The factory says nothing about a class that was added.
            if let Some((label, prior)) = self.prior(slot, own).filter(|(label, _)| *label < own.known) {
                samples += 1;
                parts += prior.by_means(label);
            }
        }
        parts as f32 / (PARTS_A_SAMPLE * samples.max(1) as f32)
    }

    /// Adds every sample to the class that the factory answers, or to that of its label.
    #[inline(never)] // Once in a firmware.
    fn collect(&mut self, own: &Beliefs, labelled: bool, between: &mut dyn FnMut()) {
        for slot in 0..self.replay.len() {
            between();
            let Some(label) = self.look_at(slot, own) else { continue };
            let class = if labelled { label } else { argmax(self.known_outputs(own)) };
            if let Some(mut means) = self.means(own) {
                means.add(class);
            }
        }
    }

    fn means(&mut self, own: &Beliefs) -> Option<Means<'_>> {
        Means::cut(self.arithmetic.free(own.taken), own.classes, own.known)
    }

    /// The factory's outputs that are classes, of the sample that it ran on last.
    fn known_outputs(&self, own: &Beliefs) -> &[i8] {
        let values = self.last_output();
        values.get(..own.known).unwrap_or(values)
    }

    /// Runs the factory's tail on the sample in a slot, and keeps what it says: its label. `None` of one that waits.
    #[inline(never)] // Once in a firmware.
    fn look_at(&mut self, slot: usize, own: &Beliefs) -> Option<usize> {
        let label = self.replay.label(slot).map(usize::from).filter(|&label| label < own.classes)?;
        self.run_int8(slot, Version::Factory)?;
        let outputs = self.reading(Version::Factory);
        let Self { arithmetic, pack, scratch, .. } = self;
        let memory = arithmetic.free(own.taken);
        if let Some(mut means) = Means::cut(memory, own.classes, own.known) {
            means.see(&outputs, pack.output().of(bytemuck::must_cast_slice(scratch)));
        }
        Some(label)
    }

    /// A sample's label, and what is believed of it without.
    #[inline(never)] // Once in a firmware.
    fn prior(&mut self, slot: usize, own: &Beliefs) -> Option<(usize, Prior<'_>)> {
        let label = self.look_at(slot, own)?;
        let outputs = self.reading(Version::Factory);
        let Self { arithmetic, pack, scratch, .. } = self;
        let &Beliefs { taken, classes, known, own: share, .. } = own;
        let means = Means::cut(arithmetic.free(taken), classes, known).map(|mut means| {
            means.classify(label);
            &*means.p
        });
        let values = pack.output().of(bytemuck::must_cast_slice(scratch));
        Some((label, Prior { outputs, values, means: means.unwrap_or(&[]), share, classes, known }))
    }

    /// How many answers of an int8 tail to the replay are right, as far as that is known. Takes a pass of this tail and one
    /// of the factory's.
    #[inline(never)] // Once in a firmware.
    pub(super) fn believed(&mut self, own: &Beliefs, asked: Asked, between: &mut dyn FnMut()) -> Believed {
        let mut sum = Believed::default();
        let has_former = self.has_former();
        for slot in 0..self.replay.len() {
            between();
            // Samples that a former tail has not seen compare nothing.
            let former = self.former_answer(slot);
            let answer = match asked {
                _ if has_former && former.is_none() => None,
                Asked::Former => former,
                Asked::Int8(version) => {
                    self.run_int8(slot, version).map(|()| self.reading(version).answer(self.last_output()))
                }
            };
            let Some(answer) = answer else { continue };
            if let Some((label, prior)) = self.prior(slot, own) {
                sum.0 += prior.given(label, own.wrong, answer).0;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::vec::Vec;

    const CLASSES: usize = 4;
    /// The factory knows one class less.
    const KNOWN: usize = 3;

    struct Sample {
        x: [i32; KNOWN],
        answer: usize,
        label: usize,
    }

    fn samples(count: usize, random: &mut Random) -> Vec<Sample> {
        let mut one = || {
            let x: [i32; KNOWN] = core::array::from_fn(|_| -((random.next_u32() % 6_400) as i32));
            let answer = (0..KNOWN).max_by_key(|&class| x[class]).unwrap();
            Sample { x, answer, label: random.next_u32() as usize % CLASSES }
        };
        (0..count).map(|_| one()).collect()
    }

    /// What the class means say of sample `left_out`, from lists of the others, in f64.
    fn by_hand(samples: &[Sample], left_out: usize) -> [f64; CLASSES] {
        let nats = |x: i32| f64::from(x) / 1024.0;
        let mean = |of: &[&Sample], k: usize| of.iter().map(|s| nats(s.x[k])).sum::<f64>() / of.len() as f64;
        let all: Vec<&Sample> = samples.iter().collect();
        let own = &samples[left_out];
        let mut p = [0.0; CLASSES];
        for (class, p) in p.iter_mut().enumerate() {
            let answered: Vec<&Sample> = samples.iter().filter(|s| s.answer == class).collect();
            let labelled: Vec<&Sample> = (samples.iter().enumerate())
                .filter(|&(index, s)| index != left_out && s.label == class)
                .map(|(_, s)| s)
                .collect();
            let prior = if class < KNOWN { 2.0 } else { 0.0 };
            let weight = prior + labelled.len() as f64;
            if weight == 0.0 {
                continue;
            }
            let distance = |k: usize| {
                let before = if prior > 0.0 {
                    let sum: f64 = answered.iter().map(|s| nats(s.x[k])).sum();
                    (sum + mean(&all, k)) / (answered.len() + 1) as f64
                } else {
                    0.0
                };
                let sum: f64 = labelled.iter().map(|s| nats(s.x[k])).sum();
                (nats(own.x[k]) - (prior * before + sum) / weight).powi(2)
            };
            *p = (-0.5 * (0..KNOWN).map(distance).sum::<f64>()).exp();
        }
        let sum: f64 = p.iter().sum();
        p.map(|p| p / sum)
    }

    #[test]
    fn class_means_leave_the_sample_itself_out() {
        let mut random = Random::new(5);
        for count in [1, 2, 9, 40] {
            let samples = samples(count, &mut random);
            // A byte off: the memory after a tail need not be aligned.
            let mut memory = [0_u8; 4 * (CLASSES * (KNOWN + 2) + KNOWN) + 5];
            let mut means = Means::cut(&mut memory[1..], CLASSES, KNOWN).unwrap();
            for sample in &samples {
                means.x.copy_from_slice(&sample.x);
                means.add(sample.answer);
            }
            means.settle();
            for sample in &samples {
                means.x.copy_from_slice(&sample.x);
                means.add(sample.label);
            }
            for (index, sample) in samples.iter().enumerate() {
                means.x.copy_from_slice(&sample.x);
                means.classify(sample.label);
                for (p, expected) in means.p.iter().zip(by_hand(&samples, index)) {
                    assert!((f64::from(*p) - expected).abs() < 0.01, "{count}: {p} {expected}");
                }
            }
            assert!(
                Means::cut(&mut memory[..4 * (CLASSES * (KNOWN + 2) + KNOWN) - 1], CLASSES, KNOWN).is_none()
            );
        }
    }
}
