//! Runs int8 operators over the planned arena.

use crate::kernels::{self, Requantization, Shape, Softmax};
use crate::pack::{OperatorRecord, Pack, TensorRecord, format::operator};

impl TensorRecord {
    pub(crate) fn shape(&self) -> Shape {
        Shape { height: self.height, width: self.width, channels: self.channels }
    }

    /// This tensor's place in the arena.
    pub(crate) fn of<'a>(&self, arena: &'a [i8]) -> &'a [i8] {
        arena.get(self.arena_offset..self.arena_offset + self.len()).unwrap_or(&[])
    }

    /// This tensor's place in the arena, to write.
    pub(crate) fn of_mut<'a>(&self, arena: &'a mut [i8]) -> &'a mut [i8] {
        arena.get_mut(self.arena_offset..self.arena_offset + self.len()).unwrap_or(&mut [])
    }
}

/// An operator's input and output in one arena; validation has made sure that they are disjoint.
pub(crate) fn input_and_output<'a>(
    arena: &'a mut [i8],
    input: &TensorRecord,
    output: &TensorRecord,
) -> (&'a [i8], &'a mut [i8]) {
    if input.arena_offset < output.arena_offset {
        let (front, back) = arena.split_at_mut(output.arena_offset.min(arena.len()));
        (input.of(front), back.get_mut(..output.len()).unwrap_or(&mut []))
    } else {
        let (front, back) = arena.split_at_mut(input.arena_offset.min(arena.len()));
        (back.get(..input.len()).unwrap_or(&[]), output.of_mut(front))
    }
}

/// Runs the frozen operators; the input must be in its place in `arena`, the feature is then in its own.
pub(crate) fn run_trunk(pack: &Pack, arena: &mut [i8]) {
    for index in 0..pack.trunk_operators() {
        run_operator(pack, &pack.operator(index), arena);
    }
}

/// Runs the tail's operators as they were packed.
pub(crate) fn run_factory_tail(pack: &Pack, arena: &mut [i8]) {
    for index in pack.trunk_operators()..pack.operator_count() {
        run_operator(pack, &pack.operator(index), arena);
    }
}

fn run_operator(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
    let (x, y) = input_and_output(arena, &input, &output);
    let channels = output.channels;
    let requantization = || Requantization {
        input_zero_point: input.affine.zero_point,
        output_zero_point: output.affine.zero_point,
        biases: pack.int32(op.constants.biases, channels),
        mantissas: pack.int32(op.constants.mantissas, channels),
        shifts: pack.int32(op.constants.shifts, channels),
        clamp: op.clamp,
    };
    let weights = |taps: usize| pack.int8(op.constants.weights, taps * channels);
    let area = op.window.filter[0] * op.window.filter[1];
    match op.kind {
        operator::CONV_2D => {
            let weights = weights(area * input.channels);
            kernels::conv2d(x, input.shape(), &op.window, weights, &requantization(), y, output.shape());
        }
        operator::DEPTHWISE_CONV_2D => {
            let (weights, multiplier) = (weights(area), op.depth_multiplier);
            let requantization = requantization();
            let (from, to) = (input.shape(), output.shape());
            kernels::depthwise_conv2d(x, from, &op.window, multiplier, weights, &requantization, y, to);
        }
        operator::FULLY_CONNECTED => kernels::fully_connected(x, weights(input.len()), &requantization(), y),
        operator::AVERAGE_POOL_2D => {
            kernels::average_pool2d(x, input.shape(), &op.window, op.clamp, y, output.shape());
        }
        operator::MAX_POOL_2D => {
            kernels::max_pool2d(x, input.shape(), &op.window, op.clamp, y, output.shape())
        }
        operator::SOFTMAX => {
            kernels::softmax(x, channels, &Softmax::new(input.affine.scale, op.beta), y);
        }
        // Validation lets no other kind through.
        _ => {}
    }
}

/// Plain int8 inference with the factory tail: `input` as long as the network's, its output is returned.
/// `arena` needs [`crate::Sizes::arena_bytes`]; a shorter input or arena gives an empty slice.
pub fn infer<'a>(pack: &Pack, input: &[i8], arena: &'a mut [i8]) -> &'a [i8] {
    let place = pack.input().of_mut(arena);
    if place.is_empty() || place.len() != input.len() {
        return &[];
    }
    place.copy_from_slice(input);
    run_trunk(pack, arena);
    run_factory_tail(pack, arena);
    pack.output().of(arena)
}
