//! Consistent overhead byte stuffing (Cheshire and Baker 1999, section 3): frames without zeros, ended by one. Postcard
//! has the same, byte for byte, by way of the crate `cobs`, in which the compiler cannot rule panics out.

use postcard::ser_flavors::Flavor;
use postcard::{Error, Result};

/// Length of a block that no zero ends.
const LONGEST: usize = 255;

/// Where postcard writes a frame.
pub(crate) struct Cobs<'b> {
    frame: &'b mut [u8],
    /// Where the length of the block under way goes.
    block: usize,
    next: usize,
}

impl<'b> Cobs<'b> {
    pub fn new(frame: &'b mut [u8]) -> Self {
        Self { frame, block: 0, next: 1 }
    }

    fn put(&mut self, at: usize, byte: u8) -> Result<()> {
        *self.frame.get_mut(at).ok_or(Error::SerializeBufferFull)? = byte;
        Ok(())
    }

    fn end_block(&mut self) -> Result<()> {
        // At most LONGEST.
        self.put(self.block, self.next.saturating_sub(self.block) as u8)
    }
}

impl<'b> Flavor for Cobs<'b> {
    type Output = &'b mut [u8];

    fn try_push(&mut self, byte: u8) -> Result<()> {
        if byte != 0 {
            self.put(self.next, byte)?;
            self.next += 1;
        }
        if byte == 0 || self.next - self.block == LONGEST {
            self.end_block()?;
            self.block = self.next;
            self.next += 1;
        }
        Ok(())
    }

    fn finalize(mut self) -> Result<&'b mut [u8]> {
        self.end_block()?;
        self.put(self.next, 0)?;
        self.frame.get_mut(..=self.next).ok_or(Error::SerializeBufferFull)
    }
}

/// Decodes a frame, up to its zero or its end, where it lies; `None` for one that is no such frame.
pub(crate) fn decode(frame: &mut [u8]) -> Option<&mut [u8]> {
    let (mut from, mut to) = (0, 0);
    while let Some(&length) = frame.get(from).filter(|&&length| length != 0) {
        from += 1;
        for _ in 1..length {
            let byte = *frame.get(from).filter(|&&byte| byte != 0)?;
            *frame.get_mut(to)? = byte;
            (from, to) = (from + 1, to + 1);
        }
        let ends = matches!(frame.get(from), None | Some(0));
        if usize::from(length) != LONGEST && !ends {
            *frame.get_mut(to)? = 0;
            to += 1;
        }
    }
    frame.get_mut(..to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg32;
    use std::{vec, vec::Vec};

    /// Every length up to three blocks, with zeros at every density: postcard's own bytes, and back.
    #[test]
    fn frames_are_those_of_the_reference() {
        let mut random = Pcg32::seed_from_u64(1);
        for length in 1..800 {
            for zeros in [0, 1, 20, 128] {
                let draw = |_| match random.next_u32().to_le_bytes() {
                    [_, _, 0, value] | [_, _, _, value] if zeros == 0 => value.max(1),
                    [_, _, chance, _] if u32::from(chance) < zeros => 0,
                    [_, _, _, value] => value,
                };
                let bytes: Vec<u8> = (0..length).map(draw).collect();
                let mut frames = [vec![0; length + 16], vec![0; length + 16]];
                let [own, reference] = &mut frames;
                let found = postcard::serialize_with_flavor(&*bytes, Cobs::new(own)).unwrap();
                assert_eq!(found, postcard::to_slice_cobs(&*bytes, reference).unwrap(), "{length} bytes");
                assert_eq!(postcard::from_bytes::<&[u8]>(decode(found).unwrap()).unwrap(), bytes);
            }
        }
    }

    /// Whatever is no frame is refused or decoded as the crate `cobs` does.
    #[test]
    fn damaged_frames_are_refused_as_by_the_reference() {
        let mut random = Pcg32::seed_from_u64(2);
        let mut refused = 0;
        for _ in 0..100_000 {
            let length = 1 + random.next_u32() as usize % 20;
            let bytes: Vec<u8> = (0..length).map(|_| (random.next_u32() % 7) as u8).collect();
            let (mut own, mut reference) = (bytes.clone(), bytes.clone());
            let found = decode(&mut own).map(|bytes| bytes.to_vec());
            let expected =
                cobs::decode_in_place(&mut reference).ok().map(|count| reference[..count].to_vec());
            refused += usize::from(found.is_none());
            assert_eq!(found, expected, "{bytes:?}");
        }
        assert!((10_000..90_000).contains(&refused));
    }

    #[test]
    fn a_full_buffer_is_an_error() {
        for room in 0..5 {
            let mut frame = vec![0; room];
            let mut cobs = Cobs::new(&mut frame);
            let pushed = [1, 0, 2].into_iter().try_for_each(|byte| cobs.try_push(byte));
            assert_eq!(pushed.and_then(|()| cobs.finalize().map(|_| ())), Err(Error::SerializeBufferFull));
        }
    }
}
