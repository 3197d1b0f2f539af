//! The checks of [`Pack::new`]: what they let through, no kernel can stumble over.

mod operators;
mod tail;

use super::bytes::{size_at, u8_at, u16_at, u32_at};
use super::format::{ALIGNMENT, MAGIC, VERSION, header, is_known, node, operator, tensor, value};
use super::{CRC, Pack, PackError, TensorRecord};
use crate::part::Part;
use crate::sound;
use operators::check_operator;
pub(crate) use tail::{check_nodes, check_spares};

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
    if !is_known(version) {
        return Err(PackError::Version { found: version, expected: VERSION });
    }
    let total = size_at(bytes, header::TOTAL_BYTES);
    if bytes.len() < total || total < header::BYTES {
        return Err(truncated(total.max(header::BYTES)));
    }
    if bytes.as_ptr().align_offset(ALIGNMENT) != 0 {
        return Err(PackError::Misaligned);
    }
    let found = CRC.checksum(bytes.part(header::CHECKED_FROM..total));
    let expected = u32_at(bytes, header::CRC);
    if found != expected {
        return Err(PackError::Checksum { expected, found });
    }
    Ok(())
}

/// Every record, and the header's summary of them.
pub(super) fn network(pack: &Pack) -> Result<(), PackError> {
    table_fits(pack, header::TENSORS, tensor::BYTES, pack.tensor_count())?;
    let operators = pack.operator_count().saturating_add(pack.reset_operators());
    table_fits(pack, header::OPERATORS, operator::BYTES, operators)?;
    for index in 0..pack.tensor_count() {
        check_tensor(pack, &pack.tensor(index)).map_err(|what| PackError::Tensor { index, what })?;
    }
    for index in 0..operators {
        let op = pack.operator(index);
        check_operator(pack, &op).map_err(|what| PackError::Operator { index, what })?;
        if pack.operators().kernel(op.kind).is_none() {
            let what = "its kernel is not in this build: name the pack that the firmware was built with";
            return Err(PackError::Operator { index, what });
        }
    }
    table_fits(pack, header::VALUES, value::BYTES, pack.value_count())?;
    table_fits(pack, header::NODES, node::BYTES, pack.node_count())?;
    tail::check_tail(pack)?;
    check_summary(pack).map_err(PackError::Header)
}

fn table_fits(pack: &Pack, field: usize, record_bytes: usize, count: u16) -> Result<(), PackError> {
    let needed = size_at(pack.bytes, field).saturating_add(usize::from(count) * record_bytes);
    if needed > pack.bytes.len() {
        return Err(PackError::Truncated { needed, found: pack.bytes.len() });
    }
    Ok(())
}

/// Checks the operators that give variables their first values: what they write, no other array that is written overlaps.
pub(crate) fn check_state(pack: &Pack) -> Result<(), &'static str> {
    let first = pack.operator_count();
    for index in first..first.saturating_add(pack.reset_operators()) {
        let op = pack.operator(index);
        let known = op.kind == operator::FILL || op.kind == operator::MOVE && pack.tensor(op.input).constant;
        check(known, "a variable's first value is no constant")?;
        let place = |t: &TensorRecord| t.arena_offset..t.arena_offset.saturating_add(t.len());
        let own = place(&pack.tensor(op.output));
        let apart = |other: &TensorRecord| {
            let other = place(other);
            other.end <= own.start || own.end <= other.start
        };
        let inputs = (0..pack.input_count()).map(|place| pack.input_at(place));
        let written = (0..first).map(|index| pack.tensor(pack.operator(index).output));
        check(
            inputs.into_iter().all(|t| apart(&t))
                && written.into_iter().all(|t| apart(&t) || place(&t) == own),
            "a variable's memory is used by others",
        )?;
    }
    Ok(())
}

/// Checks the statistics of the last layer's input.
pub(crate) fn check_statistics(pack: &Pack) -> Result<(), &'static str> {
    check(pack.statistics().is_some(), "the last layer's statistics are cut off, or of no such layer")
}

/// Says `what` is wrong where `condition` does not hold.
pub(crate) fn check(condition: bool, what: &'static str) -> Result<(), &'static str> {
    if condition { Ok(()) } else { Err(what) }
}

fn check_tensor(pack: &Pack, t: &TensorRecord) -> Result<(), &'static str> {
    check((1..=MAX_ELEMENTS).contains(&t.len()), "empty or larger than 64 Mi elements")?;
    // Only what is trained is computed in f32.
    let scale = t.affine.scale;
    let sane =
        if pack.sizes().tail_layers == 0 { scale > 0.0 && scale.is_normal() } else { sound::scale(scale) };
    check(sane, "scale is not a number above 0, of a network that is trained from 2^-100 to 2^20")?;
    let range = if t.unsigned { 0..=255 } else { -128..=127 };
    check(range.contains(&t.affine.zero_point), "zero point is outside its type")?;
    let end = t.arena_offset.saturating_add(t.len());
    if t.constant {
        return check(end <= pack.bytes.len(), "the constant is cut off");
    }
    check(end <= pack.sizes.arena_bytes, "lies outside the arena")
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
    check(pack.input().len() == s.input_length, "input length")?;
    check(pack.output().len() == s.output_length, "output length")?;
    check(s.output_length <= usize::from(u16::MAX), "more than 65,535 outputs")?;
    tail::check_summary(pack)?;
    if pack.keeps_state() {
        let stream = pack.operators().stream;
        let what =
            "the code of its variables is not in this build: name the pack that the firmware was built with";
        (stream.ok_or(what)?.check)(pack)?;
    }
    if size_at(pack.bytes, header::STATISTICS) > 0 {
        let check = pack.operators().statistics_check;
        check.ok_or("the check of its statistics is not in this build: name the pack that the firmware was built with")?(
            pack,
        )?;
    }
    check(sound::scale(pack.feature_unit()), "feature unit is not a number from 2^-100 to 2^20")?;
    // Weights are folded by their quotient.
    check(
        s.tail_layers == 0 || sound::weight_scale(pack.feature().affine.scale / pack.feature_unit()),
        "feature unit is more than 2^20 times smaller than the features' scale",
    )?;
    check(u8_at(pack.bytes, header::TAIL_LAYERS + 1) == 0, "number of trainable layers")
}
