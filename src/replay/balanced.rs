//! Class-balancing reservoir sampling (Chrysakis and Moens 2020, algorithm 1).
//!
//! A class that was the largest of a full replay is called full, and stays so. A newcomer of a class that is not full
//! takes the place of any sample of the largest class; of a class that is full, that of one of its own, with the
//! probability that leaves every sample of the class ever seen with the same chance to be held (Vitter 1985,
//! algorithm R, class by class). What is called a class here is the group of labels that the loss puts a label in.

use crate::label::Loss;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// What a balanced replay knows of a class, all zeros at first: samples ever pushed; samples held, and in bit 16
/// whether the class is full.
pub type ClassCount = [u32; 2];

/// Bit of a class that was the largest of a full replay. Below it: a replay holds at most 65,535 samples.
const FULL: u32 = 1 << 16;

/// Samples held.
fn held(count: &ClassCount) -> u32 {
    count[1] % FULL
}

#[derive(Debug)]
pub(super) struct Reservoir<'a> {
    counts: &'a mut [ClassCount],
    random: Pcg32,
    seed: u64,
    loss: Loss,
}

impl<'a> Reservoir<'a> {
    pub fn new(counts: &'a mut [ClassCount], seed: u64) -> Self {
        let mut reservoir =
            Self { counts, random: Pcg32::seed_from_u64(seed), seed, loss: Loss::CrossEntropy };
        reservoir.clear();
        reservoir
    }

    /// With the groups of another loss.
    pub fn group_by(&mut self, loss: Loss) {
        self.loss = loss;
    }

    pub fn clear(&mut self) {
        self.counts.fill(ClassCount::default());
        self.random = Pcg32::seed_from_u64(self.seed);
    }

    /// The slot that a newcomer takes, if any; `labels` are those held.
    pub fn slot(&mut self, labels: &[u16], capacity: usize, label: u16) -> Option<usize> {
        let label = self.loss.group(label);
        let own = self.counts.get_mut(usize::from(label))?;
        own[0] = own[0].saturating_add(1);
        if labels.len() < capacity {
            own[1] += 1;
            return Some(labels.len());
        }
        let most = self.counts.iter().map(held).max()?;
        for count in self.counts.iter_mut().filter(|count| held(count) == most) {
            count[1] |= FULL;
        }
        let own = *self.counts.get(usize::from(label))?;
        if own[1] & FULL != 0 {
            let kept = self.below(own[0]) < held(&own);
            return if kept { self.one_of(labels, label, held(&own)) } else { None };
        }
        let largest = (0u16..).zip(self.counts.iter()).find(|(_, count)| held(count) == most)?.0;
        let slot = self.one_of(labels, largest, most)?;
        self.counts.get_mut(usize::from(largest))?[1] -= 1;
        self.counts.get_mut(usize::from(label))?[1] += 1;
        Some(slot)
    }

    /// Any slot of a class that holds so many.
    fn one_of(&mut self, labels: &[u16], label: u16, held: u32) -> Option<usize> {
        let (nth, loss) = (self.below(held), self.loss);
        let mut own = labels.iter().enumerate().filter(|&(_, &other)| loss.group(other) == label);
        Some(own.nth(nth as usize)?.0)
    }

    /// A number below `bound`: multiply and shift (Lemire 2019), without rejection.
    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.random.next_u32()) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use crate::replay::{ClassCount, Replay};
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg32;
    use std::{vec, vec::Vec};

    /// Pushes samples that are their own number, as two bytes; the labels and numbers held.
    fn held(labels: &[u16], classes: usize, capacity: usize, seed: u64) -> Vec<(u16, usize)> {
        let (mut latents, mut places) = (vec![0; 2 * capacity], vec![0; capacity]);
        let mut counts = vec![ClassCount::default(); classes];
        let mut replay = Replay::balanced(&mut latents, &mut places, 2, &mut counts, seed);
        for (number, &label) in labels.iter().enumerate() {
            let [low, high] = (number as u16).to_le_bytes();
            if let Some(slot) = replay.push(&[low as i8, high as i8], label) {
                assert_eq!(replay.get(slot), Some(([low as i8, high as i8].as_slice(), label)));
            }
            assert_eq!(replay.len(), (number + 1).min(capacity));
        }
        let number = |latent: &[i8]| usize::from(u16::from_le_bytes([latent[0] as u8, latent[1] as u8]));
        (0..replay.len()).filter_map(|i| replay.get(i)).map(|(l, label)| (label, number(l))).collect()
    }

    /// Worked by hand: four slots, two of class 1 first. Then class 0 is pushed without end: it gets the other two,
    /// and never one of class 1, which has as many.
    #[test]
    fn a_class_that_is_seen_no_more_stays() {
        let labels = [&[1, 1][..], &[0; 500]].concat();
        for seed in 0..20 {
            let held = held(&labels, 2, 4, seed);
            assert_eq!(held[..2], [(1, 0), (1, 1)]);
            assert!(held[2..].iter().all(|&(label, number)| label == 0 && labels[number] == 0));
        }
        // A newcomer of a third class takes the place of one of the largest.
        let labels = [0, 0, 0, 1, 2];
        let mut left: Vec<u16> = held(&labels, 3, 4, 9).iter().map(|&(label, _)| label).collect();
        left.sort_unstable();
        assert_eq!(left, [0, 0, 1, 2]);
    }

    #[test]
    fn a_class_lost_samples_only_if_it_is_among_the_largest() {
        let mut random = Pcg32::seed_from_u64(8);
        for case in 0..300 {
            let classes = 1 + random.next_u32() as usize % 8;
            let capacity = 1 + random.next_u32() as usize % 60;
            // Classes in phases, as a wearer goes from one exercise to the next, or mixed.
            let phase = 1 + random.next_u32() as usize % 40;
            let count = random.next_u32() as usize % 600;
            let labels: Vec<u16> = (0..count)
                .map(|i| if case % 2 == 0 { i / phase } else { random.next_u32().trailing_zeros() as usize })
                .map(|drawn| (drawn % classes) as u16)
                .collect();
            let held = held(&labels, classes, capacity, case);
            assert!(held.iter().all(|&(label, number)| labels[number] == label));
            let of = |class: u16| held.iter().filter(|&&(label, _)| label == class).count();
            let most = (0..classes as u16).map(of).max().unwrap();
            for class in 0..classes as u16 {
                let seen = labels.iter().filter(|&&label| label == class).count();
                assert!(of(class) == seen || of(class) + 1 >= most, "{} of {seen}, most {most}", of(class));
            }
        }
    }

    /// 3000 seeds: every one of the 60 samples of the class that lost some is held equally often, 4 of 60 times.
    #[test]
    fn within_a_class_every_sample_has_the_same_chance() {
        let labels: Vec<u16> =
            (0..60).flat_map(|i| if i % 10 == 0 && i < 40 { vec![0, 1] } else { vec![0] }).collect();
        let mut times = vec![0u32; labels.len()];
        for seed in 0..3000 {
            for (_, number) in held(&labels, 2, 8, seed) {
                times[number] += 1;
            }
        }
        let expected = 3000.0 * 4.0 / 60.0;
        let mut squares = 0.0;
        for (&times, &label) in times.iter().zip(&labels) {
            if label == 1 {
                assert_eq!(times, 3000);
            } else {
                squares += (f64::from(times) - expected).powi(2) / (expected * (1.0 - 4.0 / 60.0));
            }
        }
        // Chi-squared with 59 degrees of freedom (its mean is 59, its deviation 10.9): 99.9 % lie below 98.3.
        assert!(squares < 98.3, "{squares}");
    }
}
