//! The checks behind [`Pack::new`]: what they let through, no kernel can stumble over.

mod operators;

use super::bytes::{size_at, u8_at, u16_at, u32_at};
use super::format::{ALIGNMENT, MAGIC, VERSION, header, operator, tensor};
use super::{Activation, CRC, Pack, PackError, TensorRecord, dense_rows};
use crate::tail::MAX_LAYERS;
use operators::check_operator;

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
        let op = pack.operator(index);
        check_operator(pack, &op).map_err(|what| PackError::Operator { index, what })?;
        if pack.operators().kernel(op.kind).is_none() {
            let what = "its kernel is not in this build: name the pack that the firmware was built with";
            return Err(PackError::Operator { index, what });
        }
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
    let range = if t.unsigned { 0..=255 } else { -128..=127 };
    check(range.contains(&t.affine.zero_point), "zero point is outside its type")?;
    let end = t.arena_offset.saturating_add(t.len());
    if t.constant {
        return check(end <= pack.bytes.len(), "the constant is cut off");
    }
    check(end <= pack.sizes.arena_bytes, "lies outside the arena")
}

/// The tail is a chain of fully connected operators from the feature to the output, a softmax at most behind.
fn check_tail(pack: &Pack) -> Result<(), PackError> {
    let mut current = u16_at(pack.bytes, header::FEATURE_TENSOR);
    // Without a trainable layer the tail is empty, and the network may end in anything.
    if pack.trunk_operators() == pack.operator_count() {
        return Ok(());
    }
    for index in pack.trunk_operators()..pack.operator_count() {
        let op = pack.operator(index);
        let trainable = op.kind == operator::FULLY_CONNECTED
            && Activation::from_code(op.activation).is_some()
            && dense_rows(&pack.tensor(op.output)) == 1;
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
    let borders = pack.input_count().saturating_add(pack.output_count());
    check(pack.input_count() > 0 && pack.output_count() > 0, "no input or no output")?;
    let listed = size_at(pack.bytes, header::BORDERS).saturating_add(borders * 2);
    check(listed <= pack.bytes.len(), "the list of inputs and outputs is cut off")?;
    let known = |place: usize| pack.border(place) < pack.tensor_count();
    check((0..borders).all(known), "a border tensor is out of range")?;
    let writable = |place: usize| !pack.input_at(place).constant;
    check((0..pack.input_count()).all(writable), "an input is a constant")?;
    check(
        pack.input() == pack.input_at(0) && pack.output() == pack.output_at(0),
        "the first input or output is not the list's",
    )?;
    let tail = pack.trunk_operators() < pack.operator_count();
    let single = pack.input_count() == 1 && pack.output_count() == 1;
    check(s.tail_layers == 0 || tail && single, "a tail wants one input and one output")?;
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
