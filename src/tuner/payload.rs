//! The int8 tail as a payload's front, for a tuner of whichever kind: what a store keeps and a link carries.

use super::parts::{bytes, bytes_mut};
use crate::pack::Pack;
use crate::quant::Affine;
use crate::requant::TunedTail;
use crate::store::record::LAYER_BYTES;
use crate::tail::MAX_LAYERS;

/// The layers' output quantization, as a payload begins.
pub(crate) struct Layers {
    bytes: [u8; MAX_LAYERS * LAYER_BYTES],
    length: usize,
}

impl Layers {
    /// Place for those of a pack.
    pub fn empty(pack: &Pack) -> Self {
        Self { bytes: [0; MAX_LAYERS * LAYER_BYTES], length: pack.sizes().tail_layers * LAYER_BYTES }
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.length).unwrap_or(&mut [])
    }
}

impl TunedTail<'_> {
    /// The front of a payload.
    pub(crate) fn layer_bytes(&self, pack: &Pack) -> Layers {
        let mut layers = Layers::empty(pack);
        let fields = layers.as_bytes_mut().as_chunks_mut::<4>().0.iter_mut();
        let words =
            self.outputs().flat_map(|output| [output.scale.to_bits(), output.zero_point.cast_unsigned()]);
        for (field, word) in fields.zip(words) {
            *field = word.to_le_bytes();
        }
        layers
    }

    /// Puts what lies in the tuned tail's buffers in force; false, and nothing in force, where it is no tail of this
    /// pack.
    pub(crate) fn adopt_layers(&mut self, pack: &Pack, layers: &[u8]) -> bool {
        let outputs = layers.as_chunks::<LAYER_BYTES>().0.iter().map(|&[a, b, c, d, e, f, g, h]| Affine {
            scale: f32::from_le_bytes([a, b, c, d]),
            zero_point: i32::from_le_bytes([e, f, g, h]),
        });
        self.adopt(pack, outputs)
    }

    /// A payload's int8 parts behind the layers'.
    pub(crate) fn int8_parts(&self) -> [&[u8]; 2] {
        let (words, weights) = self.parts();
        [bytes(words), bytes(weights)]
    }

    /// The same, to be filled.
    pub(crate) fn int8_parts_mut(&mut self) -> [&mut [u8]; 2] {
        let (words, weights) = self.parts_mut();
        [bytes_mut(words), bytes_mut(weights)]
    }
}
