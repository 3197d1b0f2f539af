//! Latent replay: the int8 features of labelled samples, so that the trunk runs once per sample, ever.

/// Latents and labels in fixed buffers. When it is full, the oldest sample gives way.
#[derive(Debug)]
pub struct Replay<'a> {
    latents: &'a mut [i8],
    labels: &'a mut [u16],
    latent_length: usize,
    stored: usize,
    next: usize,
}

impl<'a> Replay<'a> {
    /// An empty replay over caller-owned buffers: `latents` holds `labels.len()` latents of `latent_length`.
    pub fn new(latents: &'a mut [i8], labels: &'a mut [u16], latent_length: usize) -> Self {
        Self { latents, labels, latent_length, stored: 0, next: 0 }
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
        let fitting = self.latents.len().checked_div(self.latent_length).unwrap_or(0);
        self.labels.len().min(fitting)
    }

    /// Stores a latent; of a longer or shorter one as much as there is.
    pub fn push(&mut self, latent: &[i8], label: u16) {
        let capacity = self.capacity();
        let start = self.next * self.latent_length;
        let (Some(place), Some(slot)) =
            (self.latents.get_mut(start..start + self.latent_length), self.labels.get_mut(self.next))
        else {
            return;
        };
        for (place, &value) in place.iter_mut().zip(latent) {
            *place = value;
        }
        *slot = label;
        self.stored = (self.stored + 1).min(capacity);
        self.next = (self.next + 1) % capacity.max(1);
    }

    /// Sample `index`, from 0 to below [`Self::len`]; slots keep their index when others are replaced.
    pub fn get(&self, index: usize) -> Option<(&[i8], u16)> {
        let start = index.checked_mul(self.latent_length).filter(|_| index < self.stored)?;
        Some((self.latents.get(start..start + self.latent_length)?, *self.labels.get(index)?))
    }

    /// The labels of all samples, slot after slot.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = u16> + Clone + '_ {
        self.labels.get(..self.stored).unwrap_or(&[]).iter().copied()
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        (self.stored, self.next) = (0, 0);
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
            replay.push(&[i, -i], i as u16);
        }
        assert_eq!(replay.len(), 3);
        assert_eq!(replay.get(0), Some(([3, -3].as_slice(), 3)));
        assert_eq!(replay.get(1), Some(([1, -1].as_slice(), 1)));
        assert_eq!(replay.get(3), None);
        replay.clear();
        assert_eq!(replay.get(0), None);
    }
}
