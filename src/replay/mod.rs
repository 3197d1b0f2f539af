//! Latent replay: the int8 features of labelled samples, so that the trunk runs once per sample, ever.

mod balanced;

use crate::label::Loss;
use crate::pack::CRC;
use crate::part::Part;
pub use balanced::ClassCount;
use balanced::Reservoir;

/// Which sample gives way to a newcomer when the replay is full.
/// [`crate::Recipe`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Policy {
    /// The oldest.
    Oldest,
    /// One of the class with the most samples, so that classes which are seen no more stay alive: class-balancing
    /// reservoir sampling (Chrysakis and Moens 2020, "Online Continual Learning from Imbalanced Data", algorithm 1).
    /// Takes two words a class, and a pass over the labels a newcomer.
    Balanced,
}

/// Latents and labels in fixed buffers; after every latent its target, if there are targets.
#[derive(Debug)]
pub struct Replay<'a> {
    latents: &'a mut [i8],
    labels: &'a mut [u16],
    latent_length: usize,
    target_length: usize,
    stored: usize,
    giving: Giving<'a>,
}

/// Who gives way.
#[derive(Debug)]
enum Giving<'a> {
    /// The slot that is written next.
    Oldest(usize),
    Balanced(Reservoir<'a>),
}

impl<'a> Replay<'a> {
    /// An empty replay over caller-owned buffers: `latents` holds `labels.len()` latents of `latent_length`. When it
    /// is full, the oldest sample gives way.
    pub fn new(latents: &'a mut [i8], labels: &'a mut [u16], latent_length: usize) -> Self {
        Self { latents, labels, latent_length, target_length: 0, stored: 0, giving: Giving::Oldest(0) }
    }

    /// The same with [`Policy::Balanced`], for the classes 0 to below `counts.len()`. The samples that are kept
    /// depend on what was pushed and on `seed`, and on nothing else.
    ///
    /// ```
    /// use flatmin::internals::replay::{ClassCount, Replay};
    /// let (mut latents, mut labels, mut counts) = ([0; 4], [0; 4], [ClassCount::default(); 2]);
    /// let mut replay = Replay::balanced(&mut latents, &mut labels, 1, &mut counts, 1);
    /// replay.push(&[1], 1);
    /// replay.push(&[2], 1);
    /// (0..100).for_each(|i| { replay.push(&[i], 0); });
    /// assert_eq!(replay.labels().filter(|&label| label == 1).count(), 2); // both are still there
    /// ```
    pub fn balanced(
        latents: &'a mut [i8],
        labels: &'a mut [u16],
        latent_length: usize,
        counts: &'a mut [ClassCount],
        seed: u64,
    ) -> Self {
        let giving = Giving::Balanced(Reservoir::new(counts, seed));
        Self { latents, labels, latent_length, target_length: 0, stored: 0, giving }
    }

    /// This replay with a target of so many elements after every latent, which `latents` has to have room for.
    pub fn with_targets(self, target_length: usize) -> Self {
        Self { target_length, ..self }
    }

    /// The same, for the labels of this loss: a balanced replay has its [`Loss::groups`] in place of classes.
    pub fn of_loss(mut self, loss: Loss) -> Self {
        if let Giving::Balanced(reservoir) = &mut self.giving {
            reservoir.group_by(loss);
        }
        self
    }

    fn record_length(&self) -> usize {
        self.latent_length.saturating_add(self.target_length)
    }

    /// Samples held.
    pub fn len(&self) -> usize {
        self.stored
    }

    /// True if no sample is held.
    pub fn is_empty(&self) -> bool {
        self.stored == 0
    }

    /// Samples that fit.
    pub fn capacity(&self) -> usize {
        let fitting = self.latents.len().checked_div(self.record_length()).unwrap_or(0);
        self.labels.len().min(fitting)
    }

    /// Stores a latent; of a longer or shorter one as much as there is. Returns its slot; `None` where the newcomer
    /// itself gave way, or, of a balanced replay, where its label is none of the classes.
    pub fn push(&mut self, latent: &[i8], label: u16) -> Option<usize> {
        self.push_with(latent, &[], label)
    }

    /// The same with a target.
    ///
    /// ```
    /// use flatmin::internals::replay::Replay;
    /// let (mut latents, mut labels) = ([0; 6], [0; 2]);
    /// let mut replay = Replay::new(&mut latents, &mut labels, 1).with_targets(2);
    /// replay.push_with(&[1], &[5, 6], 0);
    /// assert_eq!((replay.get(0), replay.target(0)), (Some(([1].as_slice(), 0)), [5, 6].as_slice()));
    /// ```
    pub fn push_with(&mut self, latent: &[i8], target: &[i8], label: u16) -> Option<usize> {
        let capacity = self.capacity();
        let slot = match &mut self.giving {
            Giving::Oldest(next) => {
                let slot = *next;
                *next = (slot + 1) % capacity.max(1);
                slot
            }
            Giving::Balanced(reservoir) => {
                let labels = self.labels.part(..self.stored);
                reservoir.slot(labels, capacity, label)?
            }
        };
        let start = slot * self.record_length();
        let place = self.latents.get_mut(start..start + self.record_length())?;
        *self.labels.get_mut(slot)? = label;
        let (own, behind) = place.split_at_mut_checked(self.latent_length)?;
        for (place, &value) in own.iter_mut().zip(latent).chain(behind.iter_mut().zip(target)) {
            *place = value;
        }
        self.stored = self.stored.max(slot + 1);
        Some(slot)
    }

    /// Sample `index`, from 0 to below [`Self::len`]; slots keep their index when others are replaced.
    pub fn get(&self, index: usize) -> Option<(&[i8], u16)> {
        let start = index.checked_mul(self.record_length()).filter(|_| index < self.stored)?;
        Some((self.latents.get(start..start + self.latent_length)?, *self.labels.get(index)?))
    }

    /// The target of sample `index`; empty if there is none.
    pub fn target(&self, index: usize) -> &[i8] {
        let start = index.saturating_mul(self.record_length()).saturating_add(self.latent_length);
        let own = self.latents.get(start..start.saturating_add(self.target_length));
        own.filter(|_| index < self.stored).unwrap_or(&[])
    }

    /// The label of sample `index`.
    pub fn label(&self, index: usize) -> Option<u16> {
        self.labels.get(..self.stored)?.get(index).copied()
    }

    /// The labels of all samples, slot after slot.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = u16> + Clone + '_ {
        self.labels.part(..self.stored).iter().copied()
    }

    /// CRC-32 of all samples: labels, then latents and their targets, slot after slot.
    pub fn crc32(&self) -> u32 {
        let mut digest = CRC.digest();
        self.labels().for_each(|label| digest.update(&label.to_le_bytes()));
        let latents = self.latents.part(..self.stored.saturating_mul(self.record_length()));
        digest.update(bytemuck::must_cast_slice(latents));
        digest.finalize()
    }

    /// Forgets all samples, and that there ever were any.
    pub fn clear(&mut self) {
        self.stored = 0;
        match &mut self.giving {
            Giving::Oldest(next) => *next = 0,
            Giving::Balanced(reservoir) => reservoir.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way() {
        let (mut latents, mut labels) = ([0i8; 6], [0u16; 3]);
        let mut replay = Replay::new(&mut latents, &mut labels, 2);
        assert!(replay.is_empty());
        for i in 0..4i8 {
            assert_eq!(replay.push(&[i, -i], i as u16), Some(i as usize % 3));
        }
        assert_eq!(replay.len(), 3);
        assert_eq!(replay.get(0), Some(([3, -3].as_slice(), 3)));
        assert_eq!(replay.get(1), Some(([1, -1].as_slice(), 1)));
        assert_eq!(replay.get(3), None);
        replay.clear();
        assert_eq!(replay.get(0), None);
    }
}
