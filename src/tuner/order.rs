//! Which samples a run trains on, which it holds out, and in what order it takes the former.

use crate::part::Part;
use crate::random::Random;

/// Writes the order of one epoch over `count` samples: a Fisher-Yates shuffle of 0, 1, 2, ... Returns how many.
fn shuffle(order: &mut [u16], count: usize, random: &mut Random) -> usize {
    let count = count.min(order.len());
    for (slot, index) in order.iter_mut().zip(0..count) {
        // Below 65,536: a replay holds no more.
        *slot = index as u16;
    }
    shuffle_again(order, count, random)
}

/// The same of the first `count` entries as they are.
fn shuffle_again(order: &mut [u16], count: usize, random: &mut Random) -> usize {
    let count = count.min(order.len());
    for i in (1..count).rev() {
        // Multiply-shift bounding (Lemire 2019, without rejection: the bias is below 2^-16 here).
        let j = (u64::from(random.next_u32()) * (i as u64 + 1)) >> 32;
        let j = j as usize;
        let (Some(&at_i), Some(&at_j)) = (order.get(i), order.get(j)) else { continue };
        for (place, value) in [(i, at_j), (j, at_i)] {
            if let Some(place) = order.get_mut(place) {
                *place = value;
            }
        }
    }
    count
}

/// Whether the sample of this rank in its class, from 0, in slot order, is held out: the third of a class, and from
/// there on one of every `1 / share`. It does not depend on how many follow, so that a replay that grows never moves
/// a sample to the other side.
fn is_held_out(rank: usize, share: f32) -> bool {
    let whole = |rank: usize| (rank as f32 * share) as usize;
    rank == 2 || rank > 2 && whole(rank - 2) > whole(rank - 3)
}

/// Splits the slots of `labels` in two: those to train on, class after class, at the front of `order`, the held-out
/// ones after them. Labels that are no class are on neither side. Returns how many are to be trained on, and how many
/// are held out: none where `share` is 0.
fn split(
    order: &mut [u16],
    labels: impl Iterator<Item = u16> + Clone,
    classes: usize,
    share: f32,
) -> (usize, usize) {
    let all = labels.clone().filter(|&label| usize::from(label) < classes).count().min(order.len());
    let (mut front, mut back) = (0, all);
    for class in 0..classes {
        let own = labels.clone().zip(0u16..).filter(|&(label, _)| usize::from(label) == class);
        for (rank, (_, slot)) in own.enumerate() {
            let place = if share > 0.0 && is_held_out(rank, share) {
                back = back.saturating_sub(1);
                back
            } else {
                front += 1;
                front - 1
            };
            if let Some(place) = order.get_mut(place) {
                *place = slot;
            }
        }
    }
    (front, all.saturating_sub(front))
}

/// The replay's slots as a run takes them: `trained` to train on, in an epoch's order, then `held_out` to judge with.
/// Where none is held out, all that are in the replay judge.
#[derive(Debug)]
pub(crate) struct Division<'a> {
    pub order: &'a mut [u16],
    pub trained: usize,
    pub held_out: usize,
    /// Samples whose label a solved head contradicts come last, and are on neither side.
    pub trusts: bool,
}

impl<'a> Division<'a> {
    /// A division of no samples.
    pub fn new(order: &'a mut [u16]) -> Self {
        Self { order, trained: 0, held_out: 0, trusts: false }
    }

    /// Trains on all of `held` samples.
    pub fn keep_whole(&mut self, held: usize) {
        (self.trained, self.held_out, self.trusts) = (held, 0, false);
    }

    /// Holds a share of every class out: [`split`].
    pub fn split(&mut self, labels: impl Iterator<Item = u16> + Clone, classes: usize, share: f32) {
        (self.trained, self.held_out) = split(self.order, labels, classes, share);
        self.trusts = false;
    }

    /// Puts the training samples that are not trusted after all others, and trains no more on them; on all where none is
    /// trusted. `held` samples lie in the replay.
    pub fn trust(&mut self, held: usize, mut is_trusted: impl FnMut(usize) -> bool) {
        if self.trained == held {
            // Whole: nothing was in order yet.
            self.order.iter_mut().zip(0u16..).for_each(|(place, slot)| *place = slot);
        }
        let all = self.trained.saturating_add(self.held_out);
        let Some(order) = self.order.get_mut(..all) else { return };
        let mut trusted = 0;
        for index in 0..self.trained {
            let Some(&slot) = order.get(index).filter(|&&slot| is_trusted(slot.into())) else { continue };
            // A swap; no panic is in sight of the linker.
            let before = order.get_mut(trusted).map_or(slot, |place| core::mem::replace(place, slot));
            if let Some(place) = order.get_mut(index) {
                *place = before;
            }
            trusted += 1;
        }
        if trusted == 0 {
            return;
        }
        if let Some(rest) = order.get_mut(trusted..) {
            rest.rotate_left((self.trained - trusted).min(rest.len()));
        }
        (self.trained, self.trusts) = (trusted, true);
    }

    /// Whether a run keeps to the division: epochs are not of all that the replay holds.
    pub fn is_fixed(&self) -> bool {
        self.held_out > 0 || self.trusts
    }

    /// An epoch's order: of all `held` samples, or with `None` of those to train on. Returns how many.
    pub fn shuffle(&mut self, held: Option<usize>, random: &mut Random) -> usize {
        match held {
            Some(held) => shuffle(self.order, held, random),
            None => shuffle_again(self.order, self.trained, random),
        }
    }

    /// The slots that are held out.
    pub fn held_out(&self) -> &[u16] {
        self.order.part(self.trained..self.trained.saturating_add(self.held_out))
    }

    /// The slot of training sample `index`, of `held` samples in all.
    pub fn trained_slot(&self, index: usize, held: usize) -> usize {
        if self.trained == held { index } else { self.ordered_slot(index) }
    }

    /// The slot at this place of the order; none that is taken where there is no such place.
    pub fn ordered_slot(&self, index: usize) -> usize {
        self.order.get(index).copied().unwrap_or(u16::MAX).into()
    }

    /// Swaps two of the held-out slots, which are in no order; false where none is held out.
    pub fn swap_held_out(&mut self, a: usize, b: usize) -> bool {
        let end = self.trained.saturating_add(self.held_out);
        let Some(own) = self.order.get_mut(self.trained..end) else { return false };
        let (Some(&at_a), Some(&at_b)) = (own.get(a), own.get(b)) else { return false };
        for (place, value) in [(a, at_b), (b, at_a)] {
            if let Some(place) = own.get_mut(place) {
                *place = value;
            }
        }
        true
    }

    /// How many of `held` samples judge.
    pub fn judging(&self, held: usize) -> usize {
        if self.held_out == 0 { held } else { self.held_out }
    }

    /// The slot of one of them.
    pub fn judging_slot(&self, index: usize) -> Option<usize> {
        match self.held_out {
            0 => Some(index),
            _ => self.held_out().get(index).map(|&slot| slot.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, vec, vec::Vec};

    fn held_out(labels: &[u16], classes: usize, share: f32) -> (Vec<u16>, Vec<u16>) {
        let mut order = vec![u16::MAX; labels.len()];
        let (trained, held_out) = split(&mut order, labels.iter().copied(), classes, share);
        let mut held = order.split_off(trained);
        held.truncate(held_out);
        held.sort_unstable();
        (order, held)
    }

    #[test]
    fn of_every_class_the_third_and_every_fifth_from_there() {
        // Class 0 in slots 0, 1, 2, 4, 6, 8, 9, 10, 11; class 1 in 3 and 5; class 2 in 7.
        let labels = [0, 0, 0, 1, 0, 1, 0, 2, 0, 0, 0, 0];
        let (trained, held) = held_out(&labels, 3, 0.2);
        assert_eq!(held, [2, 10]); // ranks 2 and 7
        assert_eq!(trained, [0, 1, 4, 6, 8, 9, 11, 3, 5, 7]);
        assert_eq!(held_out(&labels, 3, 0.5).1, [2, 6, 9, 11]); // ranks 2, 4, 6, 8
        assert_eq!(held_out(&labels, 3, 1e-6).1, [2]);
        // Nothing of what is no class, nothing of a share of nothing.
        let (mut order, two) =
            ([u16::MAX; 12], |share| move |order: &mut [u16]| split(order, labels.iter().copied(), 2, share));
        assert_eq!((two(0.2)(&mut order), order[9], order[10]), ((9, 2), 10, 2));
        assert_eq!((two(0.0)(&mut order), order[10]), ((11, 0), 5));
    }

    #[test]
    fn both_sides_are_all_samples_in_the_share_asked_for_and_stay_where_they_are() {
        let mut random = Random::new(4);
        for _ in 0..400 {
            let classes = 1 + (random.next_u32() % 9) as usize;
            let count = 1 + (random.next_u32() % 300) as usize;
            let share = [0.01, 0.1, 0.2, 0.25, 1.0 / 3.0, 0.5][(random.next_u32() % 6) as usize];
            let labels: Vec<u16> =
                (0..count).map(|_| (random.next_u32() as usize % classes) as u16).collect();
            let (trained, held) = held_out(&labels, classes, share);
            let all: BTreeSet<u16> = trained.iter().chain(&held).copied().collect();
            assert_eq!((trained.len() + held.len(), all.len()), (count, count));
            assert!(!trained.is_empty());
            for class in 0..classes as u16 {
                let of =
                    |slots: &[u16]| slots.iter().filter(|&&slot| labels[usize::from(slot)] == class).count();
                let total = labels.iter().filter(|&&label| label == class).count();
                let (held, wanted) = (of(&held), total as f32 * share);
                assert_eq!(held >= 1, total >= 3);
                assert!(
                    total < 3 || (held as f32 - wanted).abs() <= 1.0 + 1e-3,
                    "{held} of {total} at {share}"
                );
            }
            let (_, earlier) = held_out(&labels[..count / 2], classes, share);
            let still: Vec<u16> =
                held.iter().copied().filter(|&slot| usize::from(slot) < count / 2).collect();
            assert_eq!(earlier, still);
        }
    }
}
