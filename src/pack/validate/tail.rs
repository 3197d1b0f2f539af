//! What a tail may look like: a chain of fully connected layers, or a list of nodes over f32 arrays.

use super::super::format::{INPUTS_VERSION, UNIT_VERSION, header, node, operator};
use super::super::{Activation, Chosen, Function, Pack, PackError, TailNode, TailValue, dense_rows};
use super::{MAX_ELEMENTS, check};
use crate::label::Loss;
use crate::pack::bytes::u16_at;
use crate::pack::{MAX_CHAIN_LAYERS, MAX_LAYERS, Sizes};
use core::ops::Range;

const NOT_BUILT_IN: &str = "its tail's code is not in this build: name the pack that it was built with";

/// The tail's structure; the header's summary of it is [`check_summary`]'s.
pub(super) fn check_tail(pack: &Pack) -> Result<(), PackError> {
    // Without a trainable layer the tail is empty, and the network may end in anything.
    if pack.trunk_operators() >= pack.operator_count() {
        return if pack.tail_is_chain() { Ok(()) } else { Err(PackError::Header("nodes without a tail")) };
    }
    match pack.operators().graph {
        _ if pack.tail_is_chain() => check_chain(pack),
        Some(code) => (code.check)(pack),
        None => Err(PackError::Header(NOT_BUILT_IN)),
    }
}

/// The kind of operator that may stand at the end of a tail with this loss, and belong to it.
fn head_kind(loss: Loss) -> Option<u16> {
    match loss {
        Loss::CrossEntropy => Some(operator::SOFTMAX),
        Loss::BinaryCrossEntropy => Some(operator::LOOKUP),
        Loss::SquaredError => None,
    }
}

/// A chain of fully connected operators from the feature to the output, after it at most what belongs to the loss.
fn check_chain(pack: &Pack) -> Result<(), PackError> {
    let mut current = u16_at(pack.bytes, header::FEATURE_TENSOR);
    for index in pack.trunk_operators()..pack.operator_count() {
        let op = pack.operator(index);
        let trainable = op.kind == operator::FULLY_CONNECTED
            && Activation::from_code(op.activation).is_some()
            && dense_rows(&pack.tensor(op.output)) == 1;
        let last = Some(op.kind) == head_kind(pack.loss()) && index + 1 == pack.operator_count();
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
    // The loss differentiates bare outputs, so that nothing else may stand after the last layer.
    let last = pack.trained_layers().last();
    if last.is_some_and(|layer| layer.function != Function::Identity) {
        return Err(PackError::Header("the last layer has an activation; the loss wants bare outputs"));
    }
    Ok(())
}

/// Nodes over values: every array inside the workspace, every node's arrays apart from one another.
pub(crate) fn check_nodes(pack: &Pack) -> Result<(), PackError> {
    let last = pack.operator(pack.operator_count() - 1);
    let operators = pack.operator_count() - pack.trunk_operators();
    let head = pack.head().is_some();
    let known = !head || head_kind(pack.loss()) == Some(last.kind);
    if !known || pack.node_count() != operators - u16::from(head) {
        return Err(PackError::Header("not a node for every operator of the tail"));
    }
    let mut start = 0;
    for index in 0..pack.value_count() {
        let value = pack.value(index);
        check_value(pack, &value).map_err(PackError::Header)?;
        if index < pack.feature_count() {
            if value.activation.start != start || value.tensor.constant {
                return Err(PackError::Header(
                    "the features do not begin the workspace, one behind the other",
                ));
            }
            start = value.activation.end;
        }
    }
    let mut parameters = 0;
    for node in pack.nodes() {
        let index = pack.trunk_operators() + node.index;
        let refused = |what| PackError::Operator { index, what };
        check_node(pack, &node, parameters).map_err(refused)?;
        parameters = trained_parameters(pack, &node).saturating_add(parameters);
    }
    // There is a node: the tail has an operator that is no softmax, or there would be no chain either.
    let Some(end) = pack.nodes().next_back() else {
        return Err(PackError::Header("a tail of softmax alone"));
    };
    let outputs = if head { last.input } else { u16_at(pack.bytes, header::OUTPUT_TENSOR) };
    let bare = end.function == Function::Identity || pack.loss() == Loss::SquaredError;
    let rescaled = end.is(node::REFIT) && head && last.kind == operator::LOOKUP;
    check(pack.tensor(outputs).len() == end.output.tensor.len(), "the tail does not end in the output")
        .and(check(bare, "the last operator has an activation; the loss wants bare outputs"))
        .and(check(!rescaled, "the table behind the last layer is for outputs as packed"))
        .and(check(end.output.delta.is_some(), "the last operator's output has no gradient"))
        .map_err(PackError::Header)
}

fn trained_parameters(pack: &Pack, node: &TailNode) -> usize {
    let layer = pack.layer_of(node);
    layer.trained_weights().saturating_add(layer.trained_biases())
}

fn check_value(pack: &Pack, value: &TailValue) -> Result<(), &'static str> {
    let inside = |range: &Range<usize>| range.end <= pack.sizes.workspace_floats;
    check(!value.tensor.is_empty(), "a value of the tail has no tensor")?;
    check(inside(&value.activation), "a value of the tail lies outside of the workspace")?;
    check(value.delta.as_ref().is_none_or(inside), "a gradient of the tail lies outside of the workspace")
}

fn apart(ranges: &[Option<&Range<usize>>]) -> bool {
    let present = || ranges.iter().flatten().enumerate();
    present().all(|(i, a)| present().all(|(j, b)| i == j || a.end <= b.start || b.end <= a.start))
}

fn check_node(pack: &Pack, node: &TailNode, parameters: usize) -> Result<(), &'static str> {
    let op = &node.operator;
    let known = |value: &TailValue| value.index < pack.value_count();
    check(Function::from_code(pack.function_code(node.index)).is_some(), "unknown function")?;
    check(known(&node.output), "value out of range")?;
    check(
        node.output.tensor.len() == pack.tensor(op.output).len(),
        "value of another length than the output",
    )?;
    let code = pack.operators().node(op.kind).ok_or("has no backward pass in this build")?;
    let reads = [(&node.input, op.input, code.inputs > 0), (&node.second, op.second_input, code.inputs > 1)];
    for (value, tensor, wanted) in reads {
        let tensor = pack.tensor(tensor);
        check(value.is_some() == (wanted && !tensor.constant), "an input has no value, or no reader")?;
        let fits = |value: &TailValue| known(value) && value.tensor.len() == tensor.len();
        check(value.as_ref().is_none_or(fits), "value of another length than the input")?;
    }
    let (input, second) = (node.input.as_ref(), node.second.as_ref());
    let twice = matches!((input, second), (Some(a), Some(b)) if a.index == b.index);
    let deltas = |value: Option<&TailValue>, flag| match value {
        Some(value) if node.is(flag) => value.delta.clone().ok_or("a gradient without a place").map(Some),
        _ if node.is(flag) => Err("a gradient by nothing"),
        _ => Ok(None),
    };
    let (by_input, by_second) = (deltas(input, node::INPUT_DELTA)?, deltas(second, node::SECOND_DELTA)?);
    check(
        apart(&[
            input.map(|v| &v.activation),
            second.filter(|_| !twice).map(|v| &v.activation),
            Some(&node.output.activation),
        ]),
        "input and output overlap in the workspace",
    )?;
    if let Some(delta) = &node.output.delta {
        // An activation that nothing reads any more may give its place to a gradient.
        let kept = code.kept(op.kind, node.function, node.flags());
        check(
            apart(&[
                Some(&node.output.activation).filter(|_| kept.output),
                input.map(|v| &v.activation).filter(|_| kept.inputs),
                second.map(|v| &v.activation).filter(|_| kept.inputs && !twice),
                Some(delta),
                by_input.as_ref(),
                by_second.as_ref().filter(|_| !twice),
            ]),
            "gradients overlap in the workspace",
        )?;
    } else {
        check(by_input.is_none() && by_second.is_none() && !node.is_trained(), "an output has no gradient")?;
    }
    if let Some(chosen) = &node.chosen {
        check_chosen(pack, node, chosen, by_input.as_ref())?;
    }
    check_kept(pack, node, by_input.as_ref(), by_second.as_ref())?;
    check_units(pack, node)?;
    (code.check)(pack, node)?;
    check_place(pack, node, parameters)
}

/// Channels that there are, each once, and places for what is computed of them apart from all else that is alive.
fn check_chosen(
    pack: &Pack,
    node: &TailNode,
    chosen: &Chosen,
    by_input: Option<&Range<usize>>,
) -> Result<(), &'static str> {
    let channels = pack.channels(chosen);
    let rising = channels.is_sorted_by(|a, b| a < b);
    let outputs = node.output.tensor.channels;
    let known = channels.last().is_some_and(|&last| usize::from(last) < outputs);
    check(
        channels.len() == chosen.count && chosen.count < outputs && rising && known,
        "the chosen channels are not some of the layer's, rising",
    )?;
    check(node.is(node::TRAINS_WEIGHTS), "channels are chosen of what has none to choose")?;
    let inside = |range: &Range<usize>| range.end <= pack.sizes.workspace_floats;
    let input = node.input.as_ref().map(|input| &input.activation);
    let delta = node.output.delta.as_ref();
    let (outputs, deltas) = (&chosen.outputs, &chosen.deltas);
    check(
        inside(outputs)
            && inside(deltas)
            && apart(&[input, Some(&node.output.activation), Some(outputs)])
            && apart(&[input, delta, Some(deltas)])
            && apart(&[by_input, delta, Some(deltas)]),
        "the chosen channels' outputs or gradients overlap in the workspace",
    )
}

/// What an integer tail keeps of a node instead of its input or its output: some channels of the input, a mask.
fn check_kept(
    pack: &Pack,
    node: &TailNode,
    by_input: Option<&Range<usize>>,
    by_second: Option<&Range<usize>>,
) -> Result<(), &'static str> {
    let (chosen, mask) = (node.inputs.as_ref(), node.mask.as_ref());
    if chosen.is_none() && mask.is_none() {
        return Ok(());
    }
    let known = u16_at(pack.bytes, header::VERSION) >= INPUTS_VERSION;
    check(known, "input channels are chosen, or a mask is kept, in a version without")?;
    check(node.chosen.is_none(), "channels of the output are chosen, too, or where a mask is kept")?;
    if let Some(chosen) = chosen {
        let whole = node.is(node::TRAINS_WEIGHTS) && node.is(node::TRAINS_BIASES);
        check(
            whole && !node.is(node::TRAINS_SCALES),
            "input channels are chosen of what has none to choose",
        )?;
        check(node.input.is_some(), "input channels are chosen of a constant")?;
        let (channels, layer) = (pack.inputs(chosen), pack.layer_of(node));
        let rising = channels.is_sorted_by(|a, b| a < b);
        let inside = channels.last().is_some_and(|&last| usize::from(last) < layer.input_channels());
        check(
            channels.len() == chosen.count && rising && inside,
            "the chosen input channels are not some of the layer's, rising",
        )?;
    }
    let kept = chosen.map(|chosen| &chosen.kept);
    let inside = |range: &Range<usize>| range.end <= pack.sizes.workspace_floats;
    let (input, second) = (node.input.as_ref(), node.second.as_ref());
    let twice = matches!((input, second), (Some(a), Some(b)) if a.index == b.index);
    let second = second.filter(|_| !twice);
    let forward = [input, second, Some(&node.output)].map(|value| value.map(|v| &v.activation));
    check(
        kept.is_none_or(inside)
            && mask.is_none_or(inside)
            && apart(&[forward[0], forward[1], forward[2], kept, mask])
            && apart(&[node.output.delta.as_ref(), by_input, by_second.filter(|_| !twice), kept, mask]),
        "what is kept of a node overlaps in the workspace",
    )
}

/// Features in the pack's unit, which reach no gradient, are read as such by every node, none of which writes any of them.
fn check_units(pack: &Pack, node: &TailNode) -> Result<(), &'static str> {
    if !node.is(node::UNIT_INPUT) {
        return Ok(());
    }
    check(u16_at(pack.bytes, header::VERSION) >= UNIT_VERSION, "features in units, in a version without")?;
    let feature = node.input.as_ref().map(|value| value.index).filter(|&index| index < pack.feature_count());
    let Some(feature) = feature else { return Err("units of what is no feature") };
    let is = |value: &Option<TailValue>| value.as_ref().is_some_and(|value| value.index == feature);
    let agrees = |other: TailNode| {
        (other.is(node::UNIT_INPUT) || !is(&other.input))
            && !is(&other.second)
            && other.output.index != feature
    };
    check(pack.nodes().all(agrees), "a feature is read in two units")?;
    check(!node.is(node::INPUT_DELTA), "a gradient by a feature")
}

/// Where the parameters lie, and that an output that is quantized anew can be.
fn check_place(pack: &Pack, node: &TailNode, parameters: usize) -> Result<(), &'static str> {
    check(!node.is_trained() || node.parameters == parameters, "place of its parameters")?;
    let clamps = node.function.fused(node.operator.kind).limits().is_some();
    check(clamps, "only a lookup can have a function that is no clamp")?;
    if node.is(node::REFIT) {
        let reads = |other: &TailNode| {
            let of = |value: &Option<TailValue>| value.as_ref().is_some_and(|v| v.index == node.output.index);
            of(&other.input) || of(&other.second)
        };
        let settled = |other: &TailNode| !reads(other) || other.is_tuned();
        // Several operators may put one array together: that cannot follow any of them.
        let alone = pack.nodes().filter(|other| other.output.index == node.output.index).count() == 1
            && node.output.index >= pack.feature_count();
        let has_code = node.is_trained() || pack.operators().refit(node.operator.kind).is_some();
        check(
            has_code && alone && pack.nodes().all(|other| settled(&other)),
            "its output cannot be requantized",
        )?;
    }
    Ok(())
}

/// Spare classes are rows of zeros at the end of a dense classifier that is trained whole.
pub(crate) fn check_spares(pack: &Pack) -> Result<(), &'static str> {
    let last = pack.trained_layers().last().ok_or("spare classes without a tail")?;
    let behind = usize::from(pack.head().is_some()) + usize::from(last.index) + 1;
    let dense = last.operator.kind == operator::FULLY_CONNECTED && pack.loss() == Loss::CrossEntropy;
    let whole = last.trains_weights && last.trains_biases && last.chosen.is_none() && last.refit;
    let ends = behind == usize::from(pack.operator_count()) && last.outputs == pack.sizes.output_length;
    check(dense && whole && ends, "spare classes of what is no dense classifier that is trained whole")?;
    check(pack.known_classes() > 0, "spare classes beside no class")?;
    let weights = pack.int8(last.operator.constants.weights, last.weights());
    check(pack.classes_of(weights, last.outputs) == pack.known_classes(), "a spare class has weights")?;
    let rows = weights.chunks_exact(last.taps.max(1)).skip(pack.known_classes());
    check(rows.flatten().all(|&weight| weight == 0), "a spare class has weights")
}

/// The header's summary of the tail.
pub(super) fn check_summary(pack: &Pack) -> Result<(), &'static str> {
    let s = &pack.sizes;
    check(Loss::from_code(u16_at(pack.bytes, header::LOSS)).is_some(), "unknown loss")?;
    let questions = s.loss == Loss::BinaryCrossEntropy && s.output_length > Loss::MOST_QUESTIONS;
    check(s.tail_layers == 0 || !questions, "more than 16 outputs of binary cross-entropy")?;
    match pack.operators().spare_check {
        _ if pack.spare_classes() == 0 => {}
        Some(check) => check(pack)?,
        None => return Err(NOT_BUILT_IN),
    }
    let tail = pack.trunk_operators() < pack.operator_count();
    let single = pack.input_count() == 1 && pack.output_count() == 1;
    check(s.tail_layers == 0 || tail && single, "a tail wants one input and one output")?;
    let features = pack.features().map(|feature| feature.len()).fold(0, usize::saturating_add);
    check(features == s.feature_length, "feature length")?;
    let most = if pack.tail_is_chain() { MAX_CHAIN_LAYERS } else { MAX_LAYERS };
    let (mut layers, mut weights, mut outputs, mut parameters) = (0usize, 0usize, 0usize, 0usize);
    for layer in pack.trained_layers() {
        layers += 1;
        weights = weights.saturating_add(layer.tuned_weights());
        outputs = outputs.saturating_add(layer.outputs);
        parameters =
            parameters.saturating_add(layer.trained_weights()).saturating_add(layer.trained_biases());
    }
    check(layers == s.tail_layers && layers <= most, "number of trained layers")?;
    check(layers > 0 || pack.tail_is_chain(), "nothing is trained")?;
    check(weights == s.tail_weights && outputs == s.tail_outputs, "number of trained weights")?;
    check(parameters == s.tail_parameters, "number of trained parameters")?;
    check(weights <= MAX_ELEMENTS, "more than 64 Mi trainable weights")?;
    if pack.tail_is_chain() {
        let expected = if layers == 0 { 0 } else { Sizes::chain_workspace(s.feature_length, outputs) };
        check(s.workspace_floats == expected, "length of the workspace")?;
    }
    check(s.workspace_floats <= MAX_ELEMENTS, "a workspace of more than 64 Mi floats")
}
