//! An arena's buffers, cut off front to back as its plan has them.

use super::TunerError;
use crate::memory::{ALIGNMENT, Region, TUNED_WORDS};
use crate::pack::Sizes;
use crate::recipe::Recipe;
use crate::replay::{Policy, Replay};
use crate::requant::TunedTail;

/// What of the arena is not cut off yet.
pub(crate) struct Cutter<'a> {
    rest: &'a mut [u8],
    /// Where it begins.
    at: usize,
    too_small: TunerError,
}

impl<'a> Cutter<'a> {
    /// An arena of which a plan needs so many bytes.
    pub fn new(arena: &'a mut [u8], needed: usize) -> Result<Self, TunerError> {
        let too_small = TunerError::ArenaTooSmall { needed, found: arena.len() };
        if arena.len() < needed {
            return Err(too_small);
        }
        if arena.as_ptr().align_offset(ALIGNMENT) != 0 {
            return Err(TunerError::ArenaMisaligned);
        }
        Ok(Self { rest: arena, at: 0, too_small })
    }

    /// The next region.
    pub fn take<T: bytemuck::Pod>(&mut self, region: Region) -> Result<&'a mut [T], TunerError> {
        let own = self.bytes(region).ok_or(self.too_small)?;
        bytemuck::try_cast_slice_mut(own).map_err(|_| self.too_small)
    }

    fn bytes(&mut self, region: Region) -> Option<&'a mut [u8]> {
        let gap = region.offset.checked_sub(self.at)?;
        let (_, behind) = core::mem::take(&mut self.rest).split_at_mut_checked(gap)?;
        let (own, behind) = behind.split_at_mut_checked(region.bytes)?;
        self.rest = behind;
        self.at = region.offset.saturating_add(region.bytes);
        Some(own)
    }

    /// A tuned tail, in a region of [`Sizes::tuned_bytes`].
    pub fn tuned_tail(&mut self, region: Region, sizes: &Sizes) -> Result<TunedTail<'a>, TunerError> {
        let bytes = sizes.tail_outputs.saturating_mul(4 * TUNED_WORDS);
        let words = self.take(Region { bytes, ..region })?;
        let offset = region.offset.saturating_add(bytes);
        Ok(TunedTail::new(words, self.take(Region { offset, bytes: sizes.tail_weights })?))
    }

    /// A replay of latents, labels and what it knows of the classes.
    pub fn replay(
        &mut self,
        [latents, labels, class_counts]: [Region; 3],
        sizes: &Sizes,
        recipe: &Recipe,
    ) -> Result<Replay<'a>, TunerError> {
        let (latents, labels) = (self.take(latents)?, self.take(labels)?);
        let (counts, length) = (self.take(class_counts)?, sizes.feature_length);
        let replay = match recipe.replay_policy {
            Policy::Oldest => Replay::new(latents, labels, length),
            Policy::Balanced => Replay::balanced(latents, labels, length, counts, recipe.seed),
        };
        Ok(replay.with_targets(sizes.target_length()).of_loss(sizes.loss))
    }
}
