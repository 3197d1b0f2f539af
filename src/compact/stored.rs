//! What of a compact tuner goes into a payload: see [`Contents::Int8AndCompact`].

use super::tuner::CompactTuner;
use super::weights::Int8Layer;
use crate::pack::Pack;
use crate::requant::{TunedTail, fold, packed_scales};
use crate::store::Contents;
use crate::tuner::TunerError;
use crate::tuner::parts::bytes_mut;
use crate::tuner::stored::{Places, Stored, WEIGHT_PARTS, front};

impl Stored for CompactTuner<'_> {
    const WHOLE: Contents = Contents::Int8AndCompact;

    fn pack(&self) -> &Pack<'_> {
        &self.pack
    }

    fn tuned(&self) -> &TunedTail<'_> {
        &self.tuned
    }

    fn check_weights(&self) -> Result<(), TunerError> {
        if self.expects_run { Err(TunerError::RunExpected) } else { Ok(()) }
    }

    fn weights_crc32(&self) -> u32 {
        self.weights_crc32()
    }

    fn weight_parts(&self) -> [&[u8]; WEIGHT_PARTS] {
        self.weights.parts()
    }

    fn places(&mut self, contents: Contents) -> Places<'_> {
        let Self { weights, velocity, tuned, .. } = self;
        let [high, low] = [bytes_mut(weights.high), bytes_mut(weights.low)];
        let weights: [&mut [u8]; WEIGHT_PARTS] = match contents {
            Contents::Int8AndCompact => [high, low, bytes_mut(weights.biases), bytes_mut(weights.scales)],
            // 4 bytes a weight and a bias, for nothing: what is there is made anew of the int8 tail.
            Contents::Int8AndF32 => {
                let velocity_bytes = 2 * high.len();
                let velocities = front(bytes_mut(velocity.weights), velocity_bytes);
                [high, low, velocities, bytes_mut(velocity.biases)]
            }
            Contents::Int8 => [&mut [], &mut [], &mut [], &mut []],
        };
        Places { int8: tuned.int8_parts_mut(), weights }
    }

    fn abandon(&mut self) {
        self.abandon();
    }

    fn adopt(&mut self, layers: &[u8], weights: bool) -> bool {
        if !self.tuned.adopt_layers(&self.pack, layers) {
            return false;
        }
        if weights {
            return self.weights.are_sound();
        }
        self.load_tuned();
        true
    }

    fn reset(&mut self) {
        self.factory_reset();
    }
}

impl CompactTuner<'_> {
    /// Loads the weights of the tuned tail.
    pub(super) fn load_tuned(&mut self) {
        for (layer, tuned) in self.chain.layers().zip(self.tuned.layers(&self.pack)) {
            let from = Int8Layer {
                weights: tuned.weights,
                biases: tuned.biases,
                scales: tuned.scales,
                packed_scales: packed_scales(&self.pack, &tuned.layer),
                input_scale: tuned.input.scale,
                fold: fold(&self.pack, &tuned.layer),
            };
            self.weights.load(layer, &from);
        }
    }
}
