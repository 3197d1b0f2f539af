//! What each kind of operator may ask of its tensors and constants.

use super::{MAX_ELEMENTS, check};
use crate::op::{Mean, Move, SumMultipliers};
use crate::pack::format::operator;
use crate::pack::{OperatorRecord, Pack, TensorRecord, dense_rows};
use crate::sound;

/// More taps than this could overflow an int32 accumulator: 65,000 * 255 * 128 < 2^31.
const MAX_TAPS: usize = 65_000;

pub(super) fn check_operator(pack: &Pack, op: &OperatorRecord) -> Result<(), &'static str> {
    check(op.input < pack.tensor_count() && op.output < pack.tensor_count(), "tensor index out of range")?;
    let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
    check(op.clamp[0] <= op.clamp[1], "clamp is empty")?;
    check(!output.constant, "output is a constant")?;
    check(op.kind != operator::LOOKUP || !input.constant, "input is a constant")?;
    let unsigned_allowed = [operator::LOOKUP, operator::MOVE].contains(&op.kind);
    check(unsigned_allowed || !(input.unsigned || output.unsigned), "a uint8 tensor where int8 is expected")?;
    match op.kind {
        operator::ADD | operator::SUB | operator::MUL | operator::PRELU | operator::SQUARED_DIFFERENCE => {
            return check_pairwise(pack, op, &input, &output);
        }
        operator::LOOKUP => {
            check(input.len() == output.len(), "a lookup changes the number of elements")?;
            check(may_share(&input, &output), "input and output overlap in part")?;
            return check(pack.table(op).is_some(), "the table is cut off");
        }
        operator::FILL => return check(pack.parameters(op).len() == 1, "parameters are cut off"),
        _ => {}
    }
    check(disjoint(&input, &output), "input and output overlap")?;
    check(!input.constant || op.kind == operator::MOVE, "input is a constant")?;
    match op.kind {
        operator::CONV_2D => {
            check_window(op, &input, &output)?;
            let taps = taps(op).saturating_mul(input.channels);
            check_weights(pack, op, taps, output.channels)
        }
        operator::GROUPED_CONV_2D => {
            check_window(op, &input, &output)?;
            let groups = op.depth_multiplier;
            let divides = |channels: usize| channels.checked_rem(groups) == Some(0);
            check(divides(input.channels) && divides(output.channels), "groups do not divide the channels")?;
            check_weights(pack, op, taps(op).saturating_mul(input.channels / groups.max(1)), output.channels)
        }
        operator::DEPTHWISE_CONV_2D => {
            check_window(op, &input, &output)?;
            let widened = input.channels.saturating_mul(op.depth_multiplier);
            check(widened == output.channels, "output channels are not input channels times the multiplier")?;
            check_weights(pack, op, taps(op), output.channels)
        }
        operator::FULLY_CONNECTED => {
            let rows = dense_rows(&output);
            check(input.len() % rows == 0, "rows do not divide the input")?;
            check_weights(pack, op, input.len() / rows, output.channels)
        }
        operator::AVERAGE_POOL_2D | operator::MAX_POOL_2D => {
            check(op.window.dilation == [1, 1], "a pool cannot be dilated")?;
            check(input.channels == output.channels, "a pool cannot change the channels")?;
            check_window(op, &input, &output)
        }
        operator::SOFTMAX => {
            check(
                input.len() == output.len() && input.channels == output.channels,
                "softmax changes the shape",
            )?;
            check(op.beta.is_normal() && op.beta > 0.0, "beta is not a positive number")?;
            check(input.channels <= 4096, "softmax over more than 4,096 values")
        }
        operator::MEAN => {
            let mean = Mean::read(pack.parameters(op)).ok_or("parameters are cut off")?;
            check(sane_multiplier([mean.multiplier.mantissa, mean.multiplier.shift]), MULTIPLIER)?;
            let kept = input.extents().into_iter().zip(mean.axes).filter(|(_, averaged)| !averaged);
            check(kept.map(|(extent, _)| extent).product::<usize>() == output.len(), "output's shape")
        }
        operator::MOVE => {
            let movement = Move::read(pack.parameters(op)).ok_or("parameters are cut off")?;
            let elements = movement.extents.into_iter().fold(1, usize::saturating_mul);
            check(elements <= MAX_ELEMENTS, "more than 64 Mi elements")?;
            check(movement.fits(input.len(), output.len()), "an element lies outside of its tensor")
        }
        operator::RESIZE_NEAREST => {
            check(input.batch == 1 && output.batch == 1, "more than one image")?;
            check(input.channels == output.channels, "resizing changes the channels")?;
            let places = pack.parameters(op);
            check(places.len() == output.height + output.width, "parameters are cut off")?;
            let (rows, columns) = places.split_at_checked(output.height).ok_or("parameters are cut off")?;
            let inside = |places: &[i32], extent: usize| {
                places.iter().all(|&place| usize::try_from(place).is_ok_and(|place| place < extent))
            };
            check(
                inside(rows, input.height) && inside(columns, input.width),
                "a pixel lies outside of the input",
            )
        }
        operator::RESIZE_BILINEAR => {
            check(input.batch == 1 && output.batch == 1, "more than one image")?;
            check(input.channels == output.channels, "resizing changes the channels")?;
            let places = pack.parameters(op);
            let rows = output.height.saturating_mul(3);
            check(
                places.len() == rows.saturating_add(output.width.saturating_mul(3)),
                "parameters are cut off",
            )?;
            let (rows, columns) = places.split_at_checked(rows).ok_or("parameters are cut off")?;
            let inside = |places: &[i32], extent: usize| {
                let known = |place: i32| usize::try_from(place).is_ok_and(|place| place < extent);
                let one = |&[before, after, way]: &[i32; 3]| {
                    known(before) && known(after) && (-512..=1536).contains(&way)
                };
                places.as_chunks().0.iter().all(one)
            };
            check(
                inside(rows, input.height) && inside(columns, input.width),
                "a pixel lies outside of the input",
            )
        }
        _ => Err("unknown kind"),
    }
}

const MULTIPLIER: &str = "a multiplier's mantissa or shift is out of range";

/// Mantissa and shift as [`crate::Multiplier`] wants them.
fn sane_multiplier([mantissa, shift]: [i32; 2]) -> bool {
    mantissa >= 0 && (-31..=30).contains(&shift)
}

/// Whether an output may lie where an input does: apart, or in the very same place.
fn may_share(input: &TensorRecord, output: &TensorRecord) -> bool {
    let same = input.arena_offset == output.arena_offset && input.len() == output.len();
    disjoint(input, output) || same
}

fn disjoint(input: &TensorRecord, output: &TensorRecord) -> bool {
    input.constant
        || input.arena_offset + input.len() <= output.arena_offset
        || output.arena_offset + output.len() <= input.arena_offset
}

fn check_pairwise(
    pack: &Pack,
    op: &OperatorRecord,
    first: &TensorRecord,
    output: &TensorRecord,
) -> Result<(), &'static str> {
    check(op.second_input < pack.tensor_count(), "tensor index out of range")?;
    let second = pack.tensor(op.second_input);
    check(!second.unsigned, "a uint8 tensor where int8 is expected")?;
    for operand in [first, &second] {
        check(may_share(operand, output), "input and output overlap in part")?;
        for (own, extent) in operand.extents().into_iter().zip(output.extents()) {
            check(own == 1 || own == extent, "the shapes do not broadcast to the output's")?;
        }
    }
    let parameters = pack.parameters(op);
    let expected = match op.kind {
        operator::MUL => 2,
        operator::PRELU => 4,
        _ => SumMultipliers::WORDS,
    };
    check(parameters.len() == expected, "parameters are cut off")?;
    check(parameters.as_chunks().0.iter().copied().all(sane_multiplier), MULTIPLIER)
}

fn taps(op: &OperatorRecord) -> usize {
    op.window.filter[0] * op.window.filter[1]
}

/// Every window starts inside the input or in the padding before it, and has at least one tap inside.
fn check_window(
    op: &OperatorRecord,
    input: &TensorRecord,
    output: &TensorRecord,
) -> Result<(), &'static str> {
    check(input.batch == 1 && output.batch == 1, "more than one image")?;
    let w = &op.window;
    let inputs = [input.height, input.width];
    let outputs = [output.height, output.width];
    for axis in 0..2 {
        check(
            w.filter[axis] > 0 && w.stride[axis] > 0 && w.dilation[axis] > 0,
            "filter, stride or dilation is 0",
        )?;
        check(
            w.padding[axis] < w.filter[axis].saturating_mul(w.dilation[axis]),
            "padding exceeds the filter",
        )?;
        let last = (outputs[axis] - 1).saturating_mul(w.stride[axis]);
        check(last < inputs[axis] + w.padding[axis], "a window lies outside the input")?;
    }
    Ok(())
}

fn check_weights(pack: &Pack, op: &OperatorRecord, taps: usize, outputs: usize) -> Result<(), &'static str> {
    check((1..=MAX_TAPS).contains(&taps), "more than 65,000 products an output")?;
    check(outputs <= MAX_ELEMENTS, "too many output channels")?;
    let c = &op.constants;
    let scales = if op.per_channel { outputs } else { 1 };
    check(
        pack.int8(c.weights, taps.saturating_mul(outputs)).len() == taps.saturating_mul(outputs),
        "weights are cut off",
    )?;
    check(pack.int32(c.biases, outputs).len() == outputs, "biases are cut off or misaligned")?;
    check(pack.int32(c.mantissas, outputs).len() == outputs, "mantissas are cut off or misaligned")?;
    check(pack.int32(c.shifts, outputs).len() == outputs, "shifts are cut off or misaligned")?;
    let multipliers = pack.int32(c.mantissas, outputs).iter().zip(pack.int32(c.shifts, outputs));
    check(multipliers.map(|(m, s)| [*m, *s]).all(sane_multiplier), MULTIPLIER)?;
    check(pack.float32(c.scales, scales).len() == scales, "scales are cut off or misaligned")?;
    let sane = |s: &f32| sound::weight_scale(*s);
    check(
        pack.float32(c.scales, scales).iter().all(sane),
        "a weight scale is not a number above 0, of at most 2^20",
    )
}
