//! A run's random numbers, as a stream that can be put down and taken up.

use core::convert::Infallible;
use rand_core::{Rng, SeedableRng, TryRng};
use rand_pcg::Pcg32;
use serde::{Deserialize, Serialize};

/// PCG32 that knows how far it is. Its own state is not to be had without the standard library.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Place", into = "Place")]
pub(crate) struct Draws {
    random: Pcg32,
    place: Place,
}

/// What a stream is taken up from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Place {
    seed: u64,
    /// Numbers of 32 bits so far.
    drawn: u64,
}

impl Draws {
    pub fn new(seed: u64) -> Self {
        Place { seed, drawn: 0 }.into()
    }
}

impl From<Place> for Draws {
    fn from(place: Place) -> Self {
        let mut random = Pcg32::seed_from_u64(place.seed);
        random.advance(place.drawn);
        Self { random, place }
    }
}

impl From<Draws> for Place {
    fn from(draws: Draws) -> Self {
        draws.place
    }
}

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.place.drawn = self.place.drawn.wrapping_add(1);
        Ok(self.random.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.place.drawn = self.place.drawn.wrapping_add(2);
        Ok(self.random.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(4) {
            let word = self.next_u32().to_le_bytes();
            for (place, byte) in chunk.iter_mut().zip(word) {
                *place = byte;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the generator itself, and after a stop at any place the same again.
    #[test]
    fn a_stream_goes_on_where_it_was_put_down() {
        let (mut draws, mut truth) = (Draws::new(7), Pcg32::seed_from_u64(7));
        for i in 0..100 {
            let mut bytes = [0; 40];
            let put_down = postcard::to_slice(&draws, &mut bytes).unwrap();
            let mut taken_up: Draws = postcard::from_bytes(put_down).unwrap();
            assert_eq!(taken_up, draws);
            if i % 3 == 0 {
                let (mut own, mut others) = ([0; 8], [0; 8]);
                truth.fill_bytes(&mut others);
                draws.fill_bytes(&mut own);
                assert_eq!(own, others);
                taken_up.fill_bytes(&mut own);
                assert_eq!(own, others);
            } else if i % 3 == 1 {
                let expected = truth.next_u64();
                assert_eq!((draws.next_u64(), taken_up.next_u64()), (expected, expected));
            } else {
                let expected = truth.next_u32();
                assert_eq!((draws.next_u32(), taken_up.next_u32()), (expected, expected));
            }
        }
    }
}
