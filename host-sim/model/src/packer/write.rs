//! Writes the bytes of a pack.

use super::network::{Network, Step};
use super::plan::plan;
use super::tail::{Tail, TailPlan};
use flatmin::internals::pack::Function;
use flatmin::internals::pack::format::{
    ALIGNMENT, INPUTS_VERSION, MAGIC, STATE_VERSION, UNIT_VERSION, VERSION, header, node, operator, tensor,
    value,
};

/// One quantization step at the cut as the f32 tail sees it, of a chain, and of a graph where fully connected layers read it. int8
/// latents then span two units whatever their scale is, so that rho and the learning rate mean the same for every network.
const FEATURE_UNIT: f32 = 1.0 / 128.0;

/// The bytes of `network` with its tail.
pub fn write(network: &Network, model_crc: u32, tail: &TailPlan) -> Vec<u8> {
    let plan = plan(network);
    let tail = Tail::new(network, tail);
    let (input, output) = (network.inputs[0].tensor, network.outputs[0].tensor);
    let feature = tail.features[0];
    let units = tail.nodes.iter().any(|own| own.flags & node::UNIT_INPUT != 0);
    let feature_unit =
        if tail.nodes.is_empty() || units { FEATURE_UNIT } else { network.tensors[feature].affine.scale };
    let length = |index: usize| network.tensors[index].len();

    let mut out = Writer { bytes: vec![0; header::BYTES] };
    out.bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    let resets = network.resets();
    let integers = tail.nodes.iter().any(|own| own.inputs.is_some() || own.mask.is_some());
    let version = match (resets.is_empty(), units) {
        _ if integers => INPUTS_VERSION,
        (false, _) => STATE_VERSION,
        (true, true) => UNIT_VERSION,
        (true, false) => VERSION,
    };
    out.u16(header::VERSION, version.into());
    out.u16(header::TAIL_LAYERS, tail.layers);
    out.u32(header::MODEL_CRC, model_crc as usize);
    out.u16(header::TENSOR_COUNT, network.tensors.len());
    out.u16(header::OPERATOR_COUNT, network.steps.len());
    out.u16(header::TRUNK_OPERATORS, tail.cut);
    out.u16(header::INPUT_TENSOR, input);
    out.u16(header::FEATURE_TENSOR, feature);
    out.u16(header::OUTPUT_TENSOR, output);
    out.u32(header::ARENA_BYTES, plan.bytes);
    out.u32(header::INPUT_LENGTH, length(input));
    out.u32(header::FEATURE_LENGTH, tail.features.iter().map(|&feature| length(feature)).sum());
    out.u32(header::OUTPUT_LENGTH, length(output));
    out.u32(header::TAIL_WEIGHTS, tail.weights);
    out.u32(header::TAIL_OUTPUTS, tail.outputs);
    out.u32(header::TAIL_PARAMETERS, tail.parameters);
    out.u32(header::WORKSPACE_FLOATS, tail.workspace_floats);
    out.f32(header::FEATURE_UNIT, feature_unit);
    out.u16(header::LOSS, network.loss().code().into());
    out.u16(header::SPARE_CLASSES, network.spare_classes);
    out.u16(header::RESET_OPERATORS, resets.len());

    let tensors = out.reserve(network.tensors.len() * tensor::BYTES);
    out.u32(header::TENSORS, tensors);
    for (index, t) in network.tensors.iter().enumerate() {
        let record = tensors + index * tensor::BYTES;
        for (axis, extent) in t.shape.into_iter().enumerate() {
            out.u32(record + tensor::SHAPE + 4 * axis, extent);
        }
        out.f32(record + tensor::SCALE, t.affine.scale);
        out.i32(record + tensor::ZERO_POINT, t.affine.zero_point);
        let mut offset = plan.offsets[index];
        let mut flags = if t.unsigned { tensor::UNSIGNED } else { 0 };
        if let Some(values) = &t.constant {
            flags |= tensor::CONSTANT;
            offset = out.append(&values.iter().map(|v| v.cast_unsigned()).collect::<Vec<u8>>());
        }
        out.u32(record + tensor::OFFSET, offset);
        out.put(record + tensor::FLAGS, &flags.to_le_bytes());
    }

    let operators = out.reserve((network.steps.len() + resets.len()) * operator::BYTES);
    out.u32(header::OPERATORS, operators);
    for (index, step) in network.steps.iter().chain(&resets).enumerate() {
        out.operator(operators + index * operator::BYTES, step);
    }

    let borders = network.inputs.iter().chain(&network.outputs).map(|border| border.tensor);
    let borders: Vec<usize> = borders.collect();
    let list = out.reserve(2 * borders.len());
    out.u16(header::INPUT_COUNT, network.inputs.len());
    out.u16(header::OUTPUT_COUNT, network.outputs.len());
    out.u32(header::BORDERS, list);
    for (place, tensor) in borders.into_iter().enumerate() {
        out.u16(list + 2 * place, tensor);
    }

    out.tail(&tail);
    if let Some(statistics) = network.statistics.as_ref().filter(|_| tail.layers > 0) {
        let offset = out.append(statistics);
        out.u32(header::STATISTICS, offset);
    }

    out.u32(header::TOTAL_BYTES, out.bytes.len());
    let crc = flatmin::crc32(&out.bytes[header::CHECKED_FROM..]);
    out.u32(header::CRC, crc as usize);
    out.bytes
}

/// The code of the activation of a layer in a chain; 255 where it cannot stand in one.
fn activation(step: &Step) -> u8 {
    match step.function {
        Some(Function::Identity) => flatmin::internals::pack::Activation::None.code(),
        Some(Function::Relu) => flatmin::internals::pack::Activation::Relu.code(),
        Some(Function::Relu6) => flatmin::internals::pack::Activation::Relu6.code(),
        _ => 255,
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends zeros on the next boundary; returns their offset.
    fn reserve(&mut self, length: usize) -> usize {
        let offset = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(offset + length, 0);
        offset
    }

    fn append(&mut self, bytes: &[u8]) -> usize {
        let offset = self.reserve(bytes.len());
        self.put(offset, bytes);
        offset
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Larger values cannot be packed; the runtime's validation then refuses the result.
    fn u16(&mut self, at: usize, value: usize) {
        self.put(at, &u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: usize) {
        self.put(at, &u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn i32(&mut self, at: usize, value: i32) {
        self.put(at, &value.to_le_bytes());
    }

    fn f32(&mut self, at: usize, value: f32) {
        self.put(at, &value.to_le_bytes());
    }

    fn tail(&mut self, tail: &Tail) {
        self.u16(header::FEATURE_COUNT, tail.features.len());
        self.u16(header::VALUE_COUNT, tail.values.len());
        self.u16(header::NODE_COUNT, tail.nodes.len());
        let values = self.reserve(tail.values.len() * value::BYTES);
        self.u32(header::VALUES, values);
        for (index, own) in tail.values.iter().enumerate() {
            let record = values + index * value::BYTES;
            self.u16(record + value::TENSOR, own.tensor);
            self.u32(record + value::ACTIVATION, own.activation);
            self.put(record + value::DELTA, &own.delta_field().to_le_bytes());
        }
        let nodes = self.reserve(tail.nodes.len() * node::BYTES);
        self.u32(header::NODES, nodes);
        for (index, own) in tail.nodes.iter().enumerate() {
            let record = nodes + index * node::BYTES;
            self.u16(record + node::FLAGS, own.flags.into());
            self.u16(record + node::INPUT, own.input.unwrap_or(node::NONE.into()));
            self.u16(record + node::SECOND_INPUT, own.second.unwrap_or(node::NONE.into()));
            self.u16(record + node::OUTPUT, own.output);
            self.u16(record + node::FUNCTION, own.function.into());
            self.u32(record + node::PARAMETERS, own.parameters);
            if let Some(chosen) = &own.chosen {
                let bytes: Vec<u8> =
                    chosen.channels.iter().flat_map(|channel| channel.to_le_bytes()).collect();
                let list = self.append(&bytes);
                self.u16(record + node::CHANNEL_COUNT, chosen.channels.len());
                self.u32(record + node::CHANNELS, list);
                self.u32(record + node::CHOSEN_OUTPUTS, chosen.outputs);
                self.u32(record + node::CHOSEN_DELTAS, chosen.deltas);
            }
            if let Some(inputs) = &own.inputs {
                let bytes: Vec<u8> =
                    inputs.channels.iter().flat_map(|channel| channel.to_le_bytes()).collect();
                let list = self.append(&bytes);
                self.u16(record + node::CHANNEL_COUNT, inputs.channels.len());
                self.u32(record + node::CHANNELS, list);
                self.u32(record + node::CHOSEN_OUTPUTS, inputs.kept);
            }
            if let Some(mask) = own.mask {
                self.u32(record + node::CHOSEN_DELTAS, mask);
            }
        }
    }

    fn operator(&mut self, record: usize, step: &Step) {
        self.u16(record + operator::KIND, step.kind.into());
        self.u16(record + operator::INPUT, step.input);
        self.u16(record + operator::SECOND_INPUT, step.second_input.unwrap_or(0));
        self.u16(record + operator::OUTPUT, step.output);
        self.u16(record + operator::PER_CHANNEL, step.constants.per_channel.into());
        self.put(record + operator::CLAMP_LOW, &step.clamp[0].to_le_bytes());
        self.put(record + operator::CLAMP_HIGH, &step.clamp[1].to_le_bytes());
        self.put(record + operator::ACTIVATION, &[activation(step)]);
        let window = &step.window;
        let fields = [
            (operator::FILTER, window.filter),
            (operator::STRIDE, window.stride),
            (operator::DILATION, window.dilation),
            (operator::PADDING, window.padding),
        ];
        for (field, [vertical, horizontal]) in fields {
            self.u16(record + field, vertical);
            self.u16(record + field + 2, horizontal);
        }
        self.u16(record + operator::DEPTH_MULTIPLIER, step.depth_multiplier);
        self.f32(record + operator::BETA, step.beta);
        let words = |values: &mut dyn Iterator<Item = [u8; 4]>| values.flatten().collect::<Vec<u8>>();
        if let Some(table) = &step.table {
            let offset = self.append(table.as_slice());
            self.u32(record + operator::PARAMETERS, offset);
        }
        if !step.parameters.is_empty() {
            let offset = self.append(&words(&mut step.parameters.iter().map(|p| p.to_le_bytes())));
            self.u32(record + operator::PARAMETERS, offset);
            self.u16(record + operator::PARAMETER_COUNT, step.parameters.len());
        }
        let constants = &step.constants;
        if constants.weights.is_empty() {
            return;
        }
        let arrays = [
            (operator::WEIGHTS, constants.weights.iter().map(|w| w.cast_unsigned()).collect()),
            (operator::BIASES, words(&mut constants.biases.iter().map(|b| b.to_le_bytes()))),
            (operator::MANTISSAS, words(&mut constants.multipliers.iter().map(|m| m.0.to_le_bytes()))),
            (operator::SHIFTS, words(&mut constants.multipliers.iter().map(|m| m.1.to_le_bytes()))),
            (operator::SCALES, words(&mut constants.scales.iter().map(|s| s.to_le_bytes()))),
        ];
        for (field, bytes) in arrays {
            let offset = self.append(&bytes);
            self.u32(record + field, offset);
        }
    }
}
