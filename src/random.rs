//! A generator whose place in its stream can be kept and found again: rand_pcg's own way to keep it takes the standard
//! library.

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// [`Pcg32`] from a seed, and how many words it gave.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "wire", serde(from = "Place", into = "Place"))]
pub(crate) struct Random {
    stream: Pcg32,
    place: Place,
}

/// What is kept of it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
struct Place {
    seed: u64,
    words: u64,
}

impl Random {
    /// The stream from its begin.
    pub fn new(seed: u64) -> Self {
        Place { seed, words: 0 }.into()
    }

    /// One that takes most bytes where it is kept.
    #[cfg(test)]
    pub fn longest() -> Self {
        Place { seed: u64::MAX, words: u64::MAX }.into()
    }

    /// The next word.
    pub fn next_u32(&mut self) -> u32 {
        self.place.words = self.place.words.wrapping_add(1);
        self.stream.next_u32()
    }
}

impl From<Place> for Random {
    fn from(place: Place) -> Self {
        let mut stream = Pcg32::seed_from_u64(place.seed);
        stream.advance(place.words);
        Self { stream, place }
    }
}

impl From<Random> for Place {
    fn from(random: Random) -> Self {
        random.place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_where_it_was_kept() {
        let mut random = Random::new(7);
        let mut stream = Pcg32::seed_from_u64(7);
        for round in 0..100 {
            assert_eq!(random.next_u32(), stream.next_u32());
            if round % 9 == 0 {
                let kept = serde_json::to_string(&random).unwrap();
                random = serde_json::from_str(&kept).unwrap();
            }
        }
    }
}
