//! Which kernel runs which kind of operator.

use super::{input_and_output, of};
use crate::kernels::{
    self, Mean, Move, Operand, Requantization, Scales, Softmax, SumMultipliers, ZeroPoints,
};
use crate::pack::format::operator as code;
use crate::pack::{Kernel, OperatorRecord, Pack, TensorRecord, dense_rows};
use crate::quant::Multiplier;
use core::cell::Cell;

/// The kernel of a kind of operator; [`crate::Operators`] picks those of a pack.
pub(crate) const fn kernel_of(kind: u16) -> Option<Kernel> {
    let kernel: Kernel = match kind {
        code::CONV_2D => conv2d,
        code::DEPTHWISE_CONV_2D => depthwise_conv2d,
        code::GROUPED_CONV_2D => grouped_conv2d,
        code::FULLY_CONNECTED => fully_connected,
        code::AVERAGE_POOL_2D => average_pool2d,
        code::MAX_POOL_2D => max_pool2d,
        code::MEAN => mean,
        code::SOFTMAX => softmax,
        code::ADD => add,
        code::SUB => subtract,
        code::MUL => multiply,
        code::PRELU => prelu,
        code::LOOKUP => lookup,
        code::MOVE => copy_box,
        code::FILL => fill,
        code::RESIZE_NEAREST => resize_nearest,
        code::RESIZE_BILINEAR => resize_bilinear,
        code::SQUARED_DIFFERENCE => squared_difference,
        _ => return None,
    };
    Some(kernel)
}

fn tensors(pack: &Pack, op: &OperatorRecord) -> (TensorRecord, TensorRecord) {
    (pack.tensor(op.input), pack.tensor(op.output))
}

fn requantization<'a>(
    pack: &Pack<'a>,
    op: &OperatorRecord,
    input: &TensorRecord,
    output: &TensorRecord,
) -> Requantization<'a> {
    let channels = output.channels;
    Requantization {
        input_zero_point: input.affine.zero_point,
        output_zero_point: output.affine.zero_point,
        biases: pack.int32(op.constants.biases, channels),
        mantissas: pack.int32(op.constants.mantissas, channels),
        shifts: pack.int32(op.constants.shifts, channels),
        clamp: op.clamp,
    }
}

fn weights<'a>(pack: &Pack<'a>, op: &OperatorRecord, taps: usize, output: &TensorRecord) -> &'a [i8] {
    pack.int8(op.constants.weights, taps * output.channels)
}

fn area(op: &OperatorRecord) -> usize {
    op.window.filter[0] * op.window.filter[1]
}

fn conv2d(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    let weights = weights(pack, op, area(op) * input.channels, &output);
    let requantization = requantization(pack, op, &input, &output);
    kernels::conv2d(x, input.shape(), &op.window, weights, &requantization, y, output.shape());
}

fn grouped_conv2d(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    let groups = op.depth_multiplier.max(1);
    let weights = weights(pack, op, area(op) * (input.channels / groups), &output);
    let requantization = requantization(pack, op, &input, &output);
    let (from, to) = (input.shape(), output.shape());
    kernels::grouped_conv2d(x, from, &op.window, groups, weights, &requantization, y, to);
}

fn depthwise_conv2d(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    let (weights, multiplier) = (weights(pack, op, area(op), &output), op.depth_multiplier);
    let requantization = requantization(pack, op, &input, &output);
    let (from, to) = (input.shape(), output.shape());
    kernels::depthwise_conv2d(x, from, &op.window, multiplier, weights, &requantization, y, to);
}

fn fully_connected(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    let inputs = input.len() / dense_rows(&output);
    let weights = weights(pack, op, inputs, &output);
    let requantization = requantization(pack, op, &input, &output);
    let scales = Scales {
        input: input.affine.scale,
        weights: pack.float32(op.constants.scales, if op.per_channel { output.channels } else { 1 }),
        output: output.affine.scale,
    };
    for (x, y) in x.chunks_exact(inputs.max(1)).zip(y.chunks_exact_mut(output.channels.max(1))) {
        kernels::fully_connected(x, weights, &requantization, &scales, y);
    }
}

pub(super) fn average_pool2d(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    kernels::average_pool2d(x, input.shape(), &op.window, op.clamp, y, output.shape());
}

pub(super) fn max_pool2d(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    kernels::max_pool2d(x, input.shape(), &op.window, op.clamp, y, output.shape());
}

fn mean(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    if let Some(mean) = Mean::read(pack.parameters(op)) {
        let zero_points = [input.affine.zero_point, output.affine.zero_point];
        kernels::mean(x, input.extents(), &mean, zero_points, y);
    }
}

fn softmax(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    if pack.spare_classes() > 0 && output == pack.output() {
        let of = Softmax::new(input.affine.scale, op.beta);
        return kernels::softmax_of_classes(x, pack.known_classes(), &of, y);
    }
    kernels::softmax(x, output.channels, &Softmax::new(input.affine.scale, op.beta), y);
}

/// Zero points and clamp as packed.
fn packed_zero_points(pack: &Pack, op: &OperatorRecord) -> ZeroPoints {
    let [first, second, output] =
        [op.input, op.second_input, op.output].map(|tensor| pack.tensor(tensor).affine.zero_point);
    ZeroPoints { first, second, output, clamp: op.clamp }
}

/// Runs an element-wise function of two operands; the output may lie where an operand lies.
fn pairwise(
    pack: &Pack,
    op: &OperatorRecord,
    arena: &mut [i8],
    zero: &ZeroPoints,
    function: impl Fn(i8, i8, &ZeroPoints) -> i8,
) {
    let (first, output) = tensors(pack, op);
    let second = pack.tensor(op.second_input);
    let cells = Cell::from_mut(arena).as_slice_of_cells();
    let operand = |tensor: &TensorRecord| match tensor.constant {
        true => Operand::Constant(pack.int8(tensor.arena_offset, tensor.len())),
        false => Operand::Activations(of(tensor, cells)),
    };
    let (a, b) = (operand(&first), operand(&second));
    let [a_extents, b_extents, extents] = [first, second, output].map(|t| t.extents());
    let y = of(&output, cells);
    kernels::broadcast(a, a_extents, b, b_extents, y, extents, |a, b| function(a, b, zero));
}

fn add(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    if let Some(multipliers) = SumMultipliers::read(pack.parameters(op)) {
        add_by(pack, op, &multipliers, &packed_zero_points(pack, op), arena);
    }
}

/// ADD with these numbers.
pub(super) fn add_by(
    pack: &Pack,
    op: &OperatorRecord,
    multipliers: &SumMultipliers,
    zero: &ZeroPoints,
    arena: &mut [i8],
) {
    pairwise(pack, op, arena, zero, |a, b, zero| kernels::add(a, b, multipliers, zero));
}

fn subtract(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    if let Some(multipliers) = SumMultipliers::read(pack.parameters(op)) {
        subtract_by(pack, op, &multipliers, &packed_zero_points(pack, op), arena);
    }
}

/// SUB with these numbers.
pub(super) fn subtract_by(
    pack: &Pack,
    op: &OperatorRecord,
    multipliers: &SumMultipliers,
    zero: &ZeroPoints,
    arena: &mut [i8],
) {
    pairwise(pack, op, arena, zero, |a, b, zero| kernels::subtract(a, b, multipliers, zero));
}

fn multiply(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    if let &[mantissa, shift] = pack.parameters(op) {
        multiply_by(pack, op, Multiplier { mantissa, shift }, &packed_zero_points(pack, op), arena);
    }
}

/// MUL with these numbers.
pub(super) fn multiply_by(
    pack: &Pack,
    op: &OperatorRecord,
    multiplier: Multiplier,
    zero: &ZeroPoints,
    arena: &mut [i8],
) {
    pairwise(pack, op, arena, zero, |a, b, zero| kernels::multiply(a, b, multiplier, zero));
}

fn prelu(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    if let &[mantissa, shift, slope_mantissa, slope_shift] = pack.parameters(op) {
        let identity = Multiplier { mantissa, shift };
        let slope = Multiplier { mantissa: slope_mantissa, shift: slope_shift };
        let zero = packed_zero_points(pack, op);
        pairwise(pack, op, arena, &zero, |x, alpha, zero| kernels::prelu(x, alpha, identity, slope, zero));
    }
}

fn lookup(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    if let Some(table) = pack.table(op) {
        let cells = Cell::from_mut(arena).as_slice_of_cells();
        kernels::lookup(of(&input, cells), table, of(&output, cells));
    }
}

pub(super) fn copy_box(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let Some(movement) = Move::read(pack.parameters(op)) else { return };
    if input.constant {
        let x = pack.int8(input.arena_offset, input.len());
        kernels::copy_box(x, &movement, output.of_mut(arena));
    } else {
        let (x, y) = input_and_output(arena, &input, &output);
        kernels::copy_box(x, &movement, y);
    }
}

fn fill(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (_, output) = tensors(pack, op);
    if let Some(&value) = pack.parameters(op).first() {
        output.of_mut(arena).fill(crate::quant::saturate(value));
    }
}

pub(super) fn resize_nearest(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    if let Some((rows, columns)) = pack.parameters(op).split_at_checked(output.height) {
        kernels::resize_nearest(x, input.width, input.channels, rows, columns, y);
    }
}

fn resize_bilinear(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    let (input, output) = tensors(pack, op);
    let (x, y) = input_and_output(arena, &input, &output);
    if let Some((rows, columns)) = pack.parameters(op).split_at_checked(output.height.saturating_mul(3)) {
        kernels::resize_bilinear(x, input.width, input.channels, rows, columns, y);
    }
}

fn squared_difference(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    if let Some(multipliers) = SumMultipliers::read(pack.parameters(op)) {
        let zero = packed_zero_points(pack, op);
        pairwise(pack, op, arena, &zero, |a, b, zero| kernels::squared_difference(a, b, &multipliers, zero));
    }
}
