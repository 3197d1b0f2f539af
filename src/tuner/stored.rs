//! What of a tuner goes into a payload, for stores and links.

use super::parts::{bytes, bytes_mut};
use super::{Tuner, TunerError};
use crate::pack::Pack;
use crate::requant::TunedTail;
use crate::store::Contents;

/// The parts that weights have in a payload; some are empty.
pub(crate) const WEIGHT_PARTS: usize = 4;

/// A tuner of whichever kind, as stores and links see it.
pub(crate) trait Stored {
    /// A payload with its weights.
    const WHOLE: Contents;

    fn pack(&self) -> &Pack<'_>;
    fn tuned(&self) -> &TunedTail<'_>;
    /// Refuses where the weights are neither here nor there.
    fn check_weights(&self) -> Result<(), TunerError>;
    fn weights_crc32(&self) -> u32;
    /// The weights of the last whole step, behind the int8 parts.
    fn weight_parts(&self) -> [&[u8]; WEIGHT_PARTS];
    /// The places of a payload's parts behind the layers, to be filled: of weights of the other kind some that nothing
    /// lives in between runs. No tail is in force then.
    fn places(&mut self, contents: Contents) -> Places<'_>;
    /// Ends a run under way.
    fn abandon(&mut self);
    /// Puts what lies in the places in force, with its weights, or with those that the int8 tail stands for. False where
    /// it is no tail of this pack.
    fn adopt(&mut self, layers: &[u8], weights: bool) -> bool;
    /// Back to the factory's tail.
    fn reset(&mut self);
}

/// Places of a payload's parts.
pub(crate) struct Places<'s> {
    pub int8: [&'s mut [u8]; 2],
    pub weights: [&'s mut [u8]; WEIGHT_PARTS],
}

/// The first `length` bytes, or as many as there are.
pub(crate) fn front(bytes: &mut [u8], length: usize) -> &mut [u8] {
    let length = length.min(bytes.len());
    bytes.get_mut(..length).unwrap_or(&mut [])
}

impl Stored for Tuner<'_> {
    const WHOLE: Contents = Contents::Int8AndF32;

    fn pack(&self) -> &Pack<'_> {
        &self.pack
    }

    fn tuned(&self) -> &TunedTail<'_> {
        &self.tuned
    }

    fn check_weights(&self) -> Result<(), TunerError> {
        self.check_weights()
    }

    fn weights_crc32(&self) -> u32 {
        self.weights_crc32()
    }

    fn weight_parts(&self) -> [&[u8]; WEIGHT_PARTS] {
        [bytes(self.weights()), &[], &[], &[]]
    }

    fn places(&mut self, contents: Contents) -> Places<'_> {
        let length = self.pack.sizes().weight_bytes(contents);
        let weights = front(bytes_mut(self.weights), length);
        Places { int8: self.tuned.int8_parts_mut(), weights: [weights, &mut [], &mut [], &mut []] }
    }

    fn abandon(&mut self) {
        self.abandon();
    }

    fn adopt(&mut self, layers: &[u8], weights: bool) -> bool {
        let adopted = self.tuned.adopt_layers(&self.pack, layers);
        if adopted && !weights {
            self.tuned.dequantize(&self.pack, self.weights);
        }
        self.count_classes();
        adopted
    }

    fn reset(&mut self) {
        self.factory_reset();
    }
}
