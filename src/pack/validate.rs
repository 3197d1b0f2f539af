//! The checks behind [`Pack::new`]: what they let through, no kernel can stumble over.

use super::bytes::{size_at, u8_at, u16_at, u32_at};
use super::format::{ALIGNMENT, MAGIC, VERSION, header, operator, tensor};
use super::{Activation, CRC, OperatorRecord, Pack, PackError, TensorRecord};
use crate::tail::MAX_LAYERS;

/// More taps than this could overflow an int32 accumulator: 65,000 * 255 * 128 < 2^31.
const MAX_TAPS: usize = 65_000;
/// Larger tensors than this are no microcontroller's; the bound keeps every product of sizes in range.
const MAX_ELEMENTS: usize = 1 << 26;

/// Length, magic, version, alignment, checksum.
pub(super) fn envelope(bytes: &[u8]) -> Result<(), PackError> {
    let truncated = |needed| PackError::Truncated { needed, found: bytes.len() };
    if bytes.len() < header::BYTES {
        return Err(truncated(header::BYTES));
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(PackError::Magic);
    }
    let version = u16_at(bytes, header::VERSION);
    if version != VERSION {
        return Err(PackError::Version { found: version, expected: VERSION });
    }
    let total = size_at(bytes, header::TOTAL_BYTES);
    if bytes.len() < total || total < header::BYTES {
        return Err(truncated(total.max(header::BYTES)));
    }
    if bytes.as_ptr().align_offset(ALIGNMENT) != 0 {
        return Err(PackError::Misaligned);
    }
    let found = CRC.checksum(bytes.get(header::CHECKED_FROM..total).unwrap_or(&[]));
    let expected = u32_at(bytes, header::CRC);
    if found != expected {
        return Err(PackError::Checksum { expected, found });
    }
    Ok(())
}

/// Every record, and the header's summary of them.
pub(super) fn network(pack: &Pack) -> Result<(), PackError> {
    table_fits(pack, header::TENSORS, tensor::BYTES, pack.tensor_count())?;
    table_fits(pack, header::OPERATORS, operator::BYTES, pack.operator_count())?;
    for index in 0..pack.tensor_count() {
        check_tensor(pack, &pack.tensor(index)).map_err(|what| PackError::Tensor { index, what })?;
    }
    for index in 0..pack.operator_count() {
        check_operator(pack, &pack.operator(index)).map_err(|what| PackError::Operator { index, what })?;
    }
    check_tail(pack)?;
    check_summary(pack).map_err(PackError::Header)
}

fn table_fits(pack: &Pack, field: usize, record_bytes: usize, count: u16) -> Result<(), PackError> {
    let needed = size_at(pack.bytes, field).saturating_add(usize::from(count) * record_bytes);
    if needed > pack.bytes.len() {
        return Err(PackError::Truncated { needed, found: pack.bytes.len() });
    }
    Ok(())
}

fn check(condition: bool, what: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(what) }
}

fn check_tensor(pack: &Pack, t: &TensorRecord) -> Result<(), &'static str> {
    check((1..=MAX_ELEMENTS).contains(&t.len()), "empty or larger than 64 Mi elements")?;
    check(t.affine.scale.is_normal() && t.affine.scale > 0.0, "scale is not a positive number")?;
    check((-128..=127).contains(&t.affine.zero_point), "zero point is outside int8")?;
    check(t.arena_offset.saturating_add(t.len()) <= pack.sizes.arena_bytes, "lies outside the arena")
}

fn check_operator(pack: &Pack, op: &OperatorRecord) -> Result<(), &'static str> {
    check(op.input < pack.tensor_count() && op.output < pack.tensor_count(), "tensor index out of range")?;
    let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
    let disjoint = input.arena_offset + input.len() <= output.arena_offset
        || output.arena_offset + output.len() <= input.arena_offset;
    check(disjoint, "input and output overlap")?;
    check(op.clamp[0] <= op.clamp[1], "clamp is empty")?;
    match op.kind {
        operator::CONV_2D => {
            check_window(op, &input, &output)?;
            let taps = taps(op).saturating_mul(input.channels);
            check_weights(pack, op, taps, output.channels)
        }
        operator::DEPTHWISE_CONV_2D => {
            check_window(op, &input, &output)?;
            let widened = input.channels.saturating_mul(op.depth_multiplier);
            check(widened == output.channels, "output channels are not input channels times the multiplier")?;
            check_weights(pack, op, taps(op), output.channels)
        }
        operator::FULLY_CONNECTED => {
            check(output.height == 1 && output.width == 1, "output is not a vector")?;
            check_weights(pack, op, input.len(), output.channels)
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
        _ => Err("unknown kind"),
    }
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
    check(pack.float32(c.scales, scales).len() == scales, "scales are cut off or misaligned")?;
    let sane = |s: &f32| s.is_finite() && *s > 0.0;
    check(pack.float32(c.scales, scales).iter().all(sane), "a weight scale is not a positive number")
}

/// The tail is a chain of fully connected operators from the feature to the output, a softmax at most behind.
fn check_tail(pack: &Pack) -> Result<(), PackError> {
    let mut current = u16_at(pack.bytes, header::FEATURE_TENSOR);
    for index in pack.trunk_operators()..pack.operator_count() {
        let op = pack.operator(index);
        let trainable =
            op.kind == operator::FULLY_CONNECTED && Activation::from_code(op.activation).is_some();
        let last = op.kind == operator::SOFTMAX && index + 1 == pack.operator_count();
        if !(trainable || last) || op.input != current {
            return Err(PackError::Operator {
                index,
                what: "not a chain of fully connected layers behind the cut",
            });
        }
        current = op.output;
    }
    if current != u16_at(pack.bytes, header::OUTPUT_TENSOR) {
        return Err(PackError::Header("the tail does not end in the output"));
    }
    // The loss differentiates the logits, so that nothing may stand between the last layer and softmax.
    let last = pack.tail_operators().last();
    if last.is_some_and(|op| op.activation != Activation::None.code()) {
        return Err(PackError::Header("the last layer has an activation; the loss wants bare logits"));
    }
    Ok(())
}

fn check_summary(pack: &Pack) -> Result<(), &'static str> {
    let s = &pack.sizes;
    check(pack.trunk_operators() <= pack.operator_count(), "more frozen operators than operators")?;
    for field in [header::INPUT_TENSOR, header::FEATURE_TENSOR, header::OUTPUT_TENSOR] {
        check(u16_at(pack.bytes, field) < pack.tensor_count(), "a border tensor is out of range")?;
    }
    check(pack.input().len() == s.input_length, "input length")?;
    check(pack.feature().len() == s.feature_length, "feature length")?;
    check(pack.output().len() == s.output_length, "output length")?;
    check(s.output_length <= usize::from(u16::MAX), "more than 65,535 outputs")?;
    let layers = pack.tail_operators().count();
    check(layers == s.tail_layers && layers <= MAX_LAYERS, "number of trainable layers")?;
    let (mut weights, mut outputs) = (0usize, 0usize);
    for op in pack.tail_operators() {
        let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
        weights = weights.saturating_add(input.len().saturating_mul(output.channels));
        outputs = outputs.saturating_add(output.channels);
    }
    check(weights == s.tail_weights && outputs == s.tail_outputs, "number of trainable parameters")?;
    check(weights <= MAX_ELEMENTS, "more than 64 Mi trainable weights")?;
    check(
        pack.feature_unit().is_normal() && pack.feature_unit() > 0.0,
        "feature unit is not a positive number",
    )?;
    check(u8_at(pack.bytes, header::TAIL_LAYERS + 1) == 0, "number of trainable layers")
}
