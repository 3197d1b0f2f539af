//! A copy of the tail in force, while another is judged.

use crate::quant::Affine;
use crate::requant::TunedTail;
use crate::tail::MAX_LAYERS;
use heapless::Vec;

/// The layers' output quantization of a tail that was backed up.
pub(crate) type Backup = Vec<Affine, MAX_LAYERS>;

impl TunedTail<'_> {
    /// Bytes of the tail that [`Self::back_up`] copies.
    pub(super) fn backup_bytes(&self) -> usize {
        let (words, weights) = self.parts();
        size_of_val(words) + weights.len()
    }

    /// Copies the tail to the front of `place`.
    pub(crate) fn back_up(&self, place: &mut [u8]) -> Backup {
        let (words, weights) = self.parts();
        let words: &[u8] = bytemuck::must_cast_slice(words);
        let weights: &[u8] = bytemuck::must_cast_slice(weights);
        for (place, &byte) in place.iter_mut().zip(words.iter().chain(weights)) {
            *place = byte;
        }
        let mut outputs = Backup::new();
        // Cannot be full: it is as long as theirs.
        self.outputs().for_each(|output| _ = outputs.push(output));
        outputs
    }

    /// Puts back what [`Self::back_up`] copied.
    pub(super) fn put_back(&mut self, place: &[u8], outputs: Backup) {
        let (own_words, own_weights) = self.parts_mut();
        let words: &mut [u8] = bytemuck::must_cast_slice_mut(own_words);
        let weights: &mut [u8] = bytemuck::must_cast_slice_mut(own_weights);
        for (own, &byte) in words.iter_mut().chain(weights).zip(place) {
            *own = byte;
        }
        self.set_outputs(outputs);
    }
}
