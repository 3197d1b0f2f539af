//! What a pack's header says about sizes, readable at compile time.

use super::bytes::{size_at, u8_at, u16_at};
use super::format::{MAGIC, header, is_known, node, operator, tensor};
use crate::label::Loss;

/// The sizes that decide how much RAM a network takes, read from a pack's header. A `const fn` reads them, so
/// that buffers are sized when the firmware is compiled; [`super::Pack::new`] checks them against the network
/// at run time.
///
/// ```
/// use flatmin::store::Contents;
/// use flatmin::{Recipe, Sizes, include_pack};
/// static MODEL: &[u8] = include_pack!("../../tests/examples/motion.pack");
/// const SIZES: Sizes = Sizes::of(MODEL); // known when the firmware is compiled
/// const ARENA: usize = SIZES.train_bytes(&Recipe::DEFAULT); // of a `Tuner`; of those in integers:
/// const FEWER: usize = SIZES.compact_bytes(&Recipe::DEFAULT);
/// const ANY_LAYERS: usize = SIZES.integer_bytes(&Recipe::INTEGER);
/// assert!(FEWER < ARENA && SIZES.train_bytes_within(&Recipe::DEFAULT, ARENA) <= ARENA);
/// assert!(SIZES.payload_bytes(Contents::Int8) < SIZES.payload_bytes(Contents::Int8AndF32)); // in a store
/// assert_eq!(SIZES.target_length(), 0); // kept beside a sample: none with classes
/// # let _ = ANY_LAYERS;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sizes {
    /// Elements of an input, int8.
    pub input_length: usize,
    /// Elements at the cut, int8: of all features together.
    pub feature_length: usize,
    /// Elements of the output: the classes.
    pub output_length: usize,
    /// Bytes of the activation arena of int8 inference.
    pub arena_bytes: usize,
    /// Layers that are trained.
    pub tail_layers: usize,
    /// Weights that are trained.
    pub tail_weights: usize,
    /// Output channels of the trained layers.
    pub tail_outputs: usize,
    /// f32 parameters that are trained: weights and biases.
    pub tail_parameters: usize,
    /// Floats that one sample's way through the tail and back takes.
    pub workspace_floats: usize,
    /// The tail is a chain of fully connected layers, all trained: an ascent of one sample then needs no gradient
    /// buffer.
    pub tail_is_chain: bool,
    /// What the tail is trained to make small.
    pub loss: Loss,
    /// Elements that the last layer reads, if it is a fully connected one with one row of outputs; else 0.
    pub last_features: usize,
    /// What the integer tail has in its scratch memory for one layer at a time: weights that are made anew, sums of a row of
    /// weights, of a pixel or of a whole input, output channels; and beside the activations of an int8 inference weights of
    /// layers of which a share of the input channels is trained.
    pub layer_room: [usize; 4],
    /// Tensors at the cut.
    pub feature_count: usize,
}

impl Sizes {
    /// int8 elements of the target that is kept with every sample.
    pub const fn target_length(&self) -> usize {
        self.loss.target_length(self.output_length)
    }

    /// Floats of the workspace of a chain: its features, and of every output the value and the gradient of two passes.
    pub(crate) const fn chain_workspace(features: usize, outputs: usize) -> usize {
        features.saturating_add(outputs.saturating_mul(4))
    }

    /// Reads the header.
    ///
    /// # Panics
    /// When `pack` does not start with a header of this format version: meant for constants, where the panic
    /// is a build error. [`super::Pack::new`] reports the same as a `Result`.
    pub const fn of(pack: &[u8]) -> Self {
        let mut i = 0;
        while i < MAGIC.len() {
            assert!(u8_at(pack, i) == MAGIC[i], "not a flatmin pack: make one with `flatmin pack`");
            i += 1;
        }
        let version = u16_at(pack, header::VERSION);
        assert!(is_known(version), "pack has another format version than this crate: pack the model again");
        assert!(pack.len() >= header::BYTES, "pack is truncated");
        Self::read(pack)
    }

    pub(super) const fn read(pack: &[u8]) -> Self {
        Self {
            input_length: size_at(pack, header::INPUT_LENGTH),
            feature_length: size_at(pack, header::FEATURE_LENGTH),
            output_length: size_at(pack, header::OUTPUT_LENGTH),
            arena_bytes: size_at(pack, header::ARENA_BYTES),
            tail_layers: u16_at(pack, header::TAIL_LAYERS) as usize,
            tail_weights: size_at(pack, header::TAIL_WEIGHTS),
            tail_outputs: size_at(pack, header::TAIL_OUTPUTS),
            tail_parameters: size_at(pack, header::TAIL_PARAMETERS),
            workspace_floats: size_at(pack, header::WORKSPACE_FLOATS),
            tail_is_chain: u16_at(pack, header::NODE_COUNT) == 0,
            loss: match Loss::from_code(u16_at(pack, header::LOSS)) {
                Some(loss) => loss,
                // Validation refuses it.
                None => Loss::CrossEntropy,
            },
            last_features: last_features(pack),
            layer_room: layer_room(pack),
            feature_count: match u16_at(pack, header::NODE_COUNT) {
                0 => 1,
                _ => u16_at(pack, header::FEATURE_COUNT) as usize,
            },
        }
    }
}

/// Values that the last operator reads; one that belongs to the loss does not count as the last.
const fn last_features(pack: &[u8]) -> usize {
    let mut left = u16_at(pack, header::OPERATOR_COUNT) as usize;
    while left > u16_at(pack, header::TRUNK_OPERATORS) as usize {
        left -= 1;
        let record = size_at(pack, header::OPERATORS).saturating_add(left * operator::BYTES);
        let kind = u16_at(pack, record.saturating_add(operator::KIND));
        if kind == operator::FULLY_CONNECTED {
            let outputs = length(pack, u16_at(pack, record.saturating_add(operator::OUTPUT)));
            let one_row = outputs == size_at(pack, header::OUTPUT_LENGTH);
            return if one_row {
                length(pack, u16_at(pack, record.saturating_add(operator::INPUT)))
            } else {
                0
            };
        }
        if kind != operator::SOFTMAX {
            return 0;
        }
    }
    0
}

/// Weights that are made at a time of a layer of which some rows are enough, if its longest row is not longer.
const WEIGHTS_AT_A_TIME: usize = 1_024;

/// Rows that are made at a time where the sums of a whole input and so many rows take less than all rows: fewer would have a
/// convolution gather its input more often.
const ROWS_AT_A_TIME: usize = 8;

/// [`Sizes::layer_room`]; nothing for a chain.
const fn layer_room(pack: &[u8]) -> [usize; 4] {
    let [mut weights, mut row, mut outputs, mut beside] = [0; 4];
    let (count, first) = (u16_at(pack, header::NODE_COUNT), u16_at(pack, header::TRUNK_OPERATORS));
    let mut index = 0;
    while index < count as usize {
        let operators = size_at(pack, header::OPERATORS);
        let record = operators.saturating_add((first as usize + index) * operator::BYTES);
        let own = size_at(pack, header::NODES).saturating_add(index * node::BYTES);
        let flags = u16_at(pack, own.saturating_add(node::FLAGS));
        let [input, output] = [
            u16_at(pack, record.saturating_add(operator::INPUT)),
            u16_at(pack, record.saturating_add(operator::OUTPUT)),
        ];
        let (from, to) = (channels(pack, input), channels(pack, output));
        let height = u16_at(pack, record.saturating_add(operator::FILTER)) as usize;
        let width = u16_at(pack, record.saturating_add(operator::FILTER + 2)) as usize;
        let area = height.saturating_mul(width);
        let kind = u16_at(pack, record.saturating_add(operator::KIND));
        let rows = length(pack, output) / larger(to, 1);
        let taps = match kind {
            operator::CONV_2D => area.saturating_mul(from),
            operator::DEPTHWISE_CONV_2D => area,
            operator::FULLY_CONNECTED => length(pack, input) / larger(rows, 1),
            _ => 0,
        };
        let all = taps.saturating_mul(to);
        let some = smaller(all, larger(taps, WEIGHTS_AT_A_TIME));
        let turn = smaller(all, larger(taps.saturating_mul(ROWS_AT_A_TIME), WEIGHTS_AT_A_TIME));
        let sums = length(pack, input);
        let chosen = u16_at(pack, own.saturating_add(node::CHANNEL_COUNT)) as usize;
        let made = match kind {
            _ if flags & node::TRAINS_WEIGHTS == 0 => 0,
            operator::DEPTHWISE_CONV_2D => all,
            operator::FULLY_CONNECTED if rows == 1 => some,
            _ if flags & node::CHOOSES_INPUTS != 0 && flags & node::INPUT_DELTA == 0 => some,
            // Some rows forward, backward the chosen channels of all.
            operator::FULLY_CONNECTED if flags & node::CHOOSES_INPUTS != 0 => {
                larger(some, chosen.saturating_mul(to))
            }
            _ if flags & node::CHOOSES_INPUTS != 0 => {
                larger(some, area.saturating_mul(chosen).saturating_mul(to))
            }
            // Nothing in front of it wants a gradient.
            _ if flags & node::INPUT_DELTA == 0 => turn,
            // Backward there are the sums of all pixels then.
            _ if sums.saturating_mul(4).saturating_add(turn) < all => {
                row = larger(row, sums);
                turn
            }
            _ => all,
        };
        (weights, outputs) = (larger(weights, made), larger(outputs, to));
        row = larger(larger(row, from), taps);
        if flags & node::CHOOSES_INPUTS != 0 {
            row = larger(
                row,
                (if kind == operator::FULLY_CONNECTED { taps } else { from }).saturating_add(chosen),
            );
            beside = larger(beside, if kind == operator::DEPTHWISE_CONV_2D { all } else { some });
        }
        index += 1;
    }
    [weights, row, outputs, beside]
}

const fn smaller(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Channels of a tensor.
const fn channels(pack: &[u8], index: u16) -> usize {
    let record = size_at(pack, header::TENSORS).saturating_add(index as usize * tensor::BYTES);
    size_at(pack, record.saturating_add(tensor::SHAPE + 12))
}

/// Elements of a tensor.
const fn length(pack: &[u8], index: u16) -> usize {
    let shape = size_at(pack, header::TENSORS).saturating_add(index as usize * tensor::BYTES + tensor::SHAPE);
    let (mut axis, mut product) = (0, 1usize);
    while axis < 4 {
        product = product.saturating_mul(size_at(pack, shape.saturating_add(4 * axis)));
        axis += 1;
    }
    product
}
