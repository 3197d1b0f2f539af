//! What a pack says about its tail: f32 arrays, nodes, and the layers that are trained.

use super::bytes::{size_at, u16_at, u32_at};
use super::format::{INPUTS_VERSION, header, node, operator, value};
use super::{Activation, ChosenInputs, Function, OperatorRecord, Pack, TensorRecord, TrainedLayer};
use crate::label::Loss;
use crate::op::{ConvShape, Shape, Window};
use crate::quant::Affine;
use core::ops::Range;

/// Most layers that a chain may have.
pub const MAX_CHAIN_LAYERS: usize = 8;

/// Most layers that a tail may train.
pub const MAX_LAYERS: usize = 32;

/// One f32 array of the tail.
#[derive(Debug, Clone, PartialEq)]
pub struct TailValue {
    /// Its place among the values.
    pub index: u16,
    /// The tensor that it stands for.
    pub tensor: TensorRecord,
    /// Its floats in the workspace.
    pub activation: Range<usize>,
    /// The floats of the loss's gradient by it, if anything needs that.
    pub delta: Option<Range<usize>>,
}

/// One operator of a tail, in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct TailNode {
    /// Its place among the nodes.
    pub index: u16,
    /// The int8 operator.
    pub operator: OperatorRecord,
    /// The first input, if it is computed.
    pub input: Option<TailValue>,
    /// The second input, if there is one and it is computed.
    pub second: Option<TailValue>,
    /// The output.
    pub output: TailValue,
    /// The fused activation, or what a lookup computes.
    pub function: Function,
    /// First of its parameters.
    pub parameters: usize,
    /// The output channels whose weights are trained, if not all of them are.
    pub chosen: Option<Chosen>,
    /// The input channels whose weights are trained, if not all of them are.
    pub inputs: Option<ChosenInputs>,
    /// Bytes of an integer tail's workspace for one bit per element of the output.
    pub mask: Option<Range<usize>>,
    flags: u16,
}

/// A share of a layer's output channels: their weights alone are trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// How many.
    pub count: usize,
    /// Where [`Pack::channels`] finds them.
    offset: usize,
    /// Floats of the workspace for their outputs.
    pub outputs: Range<usize>,
    /// Floats of the workspace for the gradients by these.
    pub deltas: Range<usize>,
}

impl TailNode {
    /// Whether a flag of `format::node` is set.
    pub fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// All flags of `format::node`.
    pub(crate) fn flags(&self) -> u16 {
        self.flags
    }

    /// Whether it has parameters of its own.
    pub fn is_trained(&self) -> bool {
        self.is(node::TRAINS_WEIGHTS | node::TRAINS_BIASES | node::TRAINS_SCALES)
    }

    /// Whether a tuned int8 tail runs it with other numbers than the packed ones: it is trained, or its output is
    /// quantized anew.
    pub(crate) fn is_tuned(&self) -> bool {
        self.is_trained() || self.is(node::REFIT)
    }
}

impl<'a> Pack<'a> {
    /// What the tail is trained to make small.
    pub fn loss(&self) -> Loss {
        self.sizes.loss
    }

    /// Outputs at the end that are spare: no class, until [`crate::Tuner::add_class`] makes one of the first of them.
    pub fn spare_classes(&self) -> usize {
        u16_at(self.bytes, header::SPARE_CLASSES).into()
    }

    /// Outputs that are classes as packed.
    pub fn known_classes(&self) -> usize {
        self.sizes.output_length.saturating_sub(self.spare_classes())
    }

    /// Outputs of a tail that are classes: the packed ones, and of the spare ones those that were added. A row of the
    /// last layer that is zero in every weight is spare, in f32 and in int8 alike: nothing else has to be kept to know
    /// which of them were added.
    pub(crate) fn classes_of<T: PartialEq + Default>(&self, weights: &[T], outputs: usize) -> usize {
        let zero = T::default();
        let rows = weights.chunks_exact((weights.len() / outputs.max(1)).max(1));
        let spare = rows.take(outputs).skip(outputs.saturating_sub(self.spare_classes()));
        let added = spare.take_while(|row| row.iter().any(|weight| *weight != zero)).count();
        self.known_classes().saturating_add(added)
    }

    /// The operator at the tail's end that belongs to the loss: a softmax of cross-entropy, the lookup of a logistic
    /// function of binary cross-entropy. It is no part of the f32 tail.
    pub(crate) fn head(&self) -> Option<OperatorRecord> {
        let operators = self.operator_count().saturating_sub(self.trunk_operators());
        let last = operators.checked_sub(1).map(|_| self.operator(self.operator_count() - 1))?;
        let belongs = match self.tail_is_chain() {
            true => [operator::SOFTMAX, operator::LOOKUP].contains(&last.kind),
            false => self.node_count() < operators,
        };
        belongs.then_some(last)
    }

    /// True if the tail is a chain of fully connected layers, all trained.
    #[doc(hidden)]
    pub fn tail_is_chain(&self) -> bool {
        self.node_count() == 0
    }

    /// Number of f32 arrays of a tail that is no chain.
    pub(crate) fn value_count(&self) -> u16 {
        u16_at(self.bytes, header::VALUE_COUNT)
    }

    /// Number of nodes of a tail that is no chain.
    pub(crate) fn node_count(&self) -> u16 {
        u16_at(self.bytes, header::NODE_COUNT)
    }

    /// Number of features.
    pub(crate) fn feature_count(&self) -> u16 {
        u16_at(self.bytes, header::FEATURE_COUNT)
    }

    /// The tensors at the cut, in the order of their elements in a latent.
    #[doc(hidden)]
    pub fn features(&self) -> impl Iterator<Item = TensorRecord> + use<'a> {
        let pack = *self;
        let chain = pack.tail_is_chain().then(|| pack.feature());
        let listed = if pack.tail_is_chain() { 0 } else { pack.feature_count() };
        chain.into_iter().chain((0..listed).map(move |index| pack.value(index).tensor))
    }

    /// The features as [`Self::features`] gives them, each with the f32 value of one step of its elements: the pack's unit
    /// where layers read it that have the scale folded into their weights, else its scale.
    pub(crate) fn feature_units(&self) -> impl Iterator<Item = (TensorRecord, f32)> + use<'a> {
        let pack = *self;
        self.features().zip(0..).map(move |(tensor, index)| {
            let unit = if pack.is_in_units(index) { pack.feature_unit() } else { tensor.affine.scale };
            (tensor, unit)
        })
    }

    /// Whether feature `index` is in the pack's unit.
    fn is_in_units(&self, index: u16) -> bool {
        self.tail_is_chain()
            || (0..self.node_count()).map(|place| self.record(header::NODES, node::BYTES, place)).any(
                |record| {
                    u16_at(record, node::INPUT) == index
                        && u16_at(record, node::FLAGS) & node::UNIT_INPUT != 0
                },
            )
    }

    /// The factor from real weights of a layer with this input to those in f32.
    pub(crate) fn fold(&self, unit_input: bool, input: Affine) -> f32 {
        if unit_input { input.scale / self.feature_unit() } else { 1.0 }
    }

    /// The factor back.
    pub(crate) fn unfold(&self, unit_input: bool, input: Affine) -> f32 {
        if unit_input { self.feature_unit() / input.scale } else { 1.0 }
    }

    pub(crate) fn value(&self, index: u16) -> TailValue {
        let record = self.record(header::VALUES, value::BYTES, index);
        let tensor = self.tensor(u16_at(record, value::TENSOR));
        let range = |start: usize| start..start.saturating_add(tensor.len());
        let delta = u32_at(record, value::DELTA);
        TailValue {
            index,
            tensor,
            activation: range(size_at(record, value::ACTIVATION)),
            delta: (delta != value::NONE).then(|| range(delta as usize)),
        }
    }

    /// Node `index` of a tail that is no chain.
    pub(crate) fn node(&self, index: u16) -> TailNode {
        let record = self.record(header::NODES, node::BYTES, index);
        let optional = |at| Some(u16_at(record, at)).filter(|&i| i != node::NONE).map(|i| self.value(i));
        let operator = self.operator(self.trunk_operators().saturating_add(index));
        TailNode {
            index,
            operator,
            input: optional(node::INPUT),
            second: optional(node::SECOND_INPUT),
            output: self.value(u16_at(record, node::OUTPUT)),
            function: Function::from_code(u16_at(record, node::FUNCTION)).unwrap_or(Function::Identity),
            parameters: size_at(record, node::PARAMETERS),
            chosen: self.chosen(record),
            inputs: self.inputs_of(&operator, record),
            mask: self.mask(record),
            flags: u16_at(record, node::FLAGS),
        }
    }

    fn inputs_of(&self, op: &OperatorRecord, record: &[u8]) -> Option<ChosenInputs> {
        if u16_at(record, node::FLAGS) & node::CHOOSES_INPUTS == 0 {
            return None;
        }
        let (input, output) = (self.tensor(op.input), self.tensor(op.output));
        // A fully connected layer's pixels are its rows.
        let pixels = match op.kind {
            operator::FULLY_CONNECTED => super::dense_rows(&output),
            _ => input.len() / input.channels.max(1),
        };
        let count = usize::from(u16_at(record, node::CHANNEL_COUNT));
        let start = size_at(record, node::CHOSEN_OUTPUTS);
        let kept = start..start.saturating_add(pixels.saturating_mul(count));
        Some(ChosenInputs { count, offset: size_at(record, node::CHANNELS), kept })
    }

    fn mask(&self, record: &[u8]) -> Option<Range<usize>> {
        let start = size_at(record, node::CHOSEN_DELTAS);
        let bytes = self.value(u16_at(record, node::OUTPUT)).tensor.len().div_ceil(8);
        let keeps = u16_at(record, node::FLAGS) & node::KEEPS_MASK != 0;
        keeps.then(|| start..start.saturating_add(bytes))
    }

    fn chosen(&self, record: &[u8]) -> Option<Chosen> {
        let of_inputs = u16_at(record, node::FLAGS) & node::CHOOSES_INPUTS != 0;
        let count = if of_inputs { 0 } else { usize::from(u16_at(record, node::CHANNEL_COUNT)) };
        let output = self.value(u16_at(record, node::OUTPUT)).tensor;
        let floats = (output.len() / output.channels.max(1)).saturating_mul(count);
        let range = |field| {
            let start = size_at(record, field);
            start..start.saturating_add(floats)
        };
        (count > 0).then(|| Chosen {
            count,
            offset: size_at(record, node::CHANNELS),
            outputs: range(node::CHOSEN_OUTPUTS),
            deltas: range(node::CHOSEN_DELTAS),
        })
    }

    /// The channels that are chosen, rising.
    #[doc(hidden)]
    pub fn channels(&self, chosen: &Chosen) -> &'a [u16] {
        self.channel_list(chosen.offset, chosen.count)
    }

    /// The input channels that are chosen, rising.
    pub(crate) fn inputs(&self, chosen: &ChosenInputs) -> &'a [u16] {
        self.channel_list(chosen.offset, chosen.count)
    }

    fn channel_list(&self, offset: usize, count: usize) -> &'a [u16] {
        let bytes = self.bytes.get(offset..offset.saturating_add(count * 2));
        bytes.and_then(|bytes| bytemuck::try_cast_slice(bytes).ok()).unwrap_or(&[])
    }

    /// The input channels of `layer` whose weights are trained, rising, of a depthwise convolution the output channels; none
    /// where all are, or no weights.
    #[doc(hidden)]
    pub fn chosen_inputs(&self, layer: &TrainedLayer) -> &'a [u16] {
        if layer.inputs.is_none() {
            return &[];
        }
        let node = self.node(layer.index.saturating_sub(self.trunk_operators()));
        node.inputs.map_or(&[], |chosen| self.inputs(&chosen))
    }

    /// Whether an integer tail alone can train it: see `format::node::CHOOSES_INPUTS`.
    #[doc(hidden)]
    pub fn is_for_integers(&self) -> bool {
        u16_at(self.bytes, header::VERSION) >= INPUTS_VERSION
            && self.nodes().any(|node| node.is(node::CHOOSES_INPUTS | node::KEEPS_MASK))
    }

    /// The output channels of `layer` whose weights are trained, rising; none where all are, or no weights.
    #[doc(hidden)]
    pub fn chosen_channels(&self, layer: &TrainedLayer) -> &'a [u16] {
        if layer.chosen.is_none() {
            return &[];
        }
        let node = self.node(layer.index.saturating_sub(self.trunk_operators()));
        node.chosen.map_or(&[], |chosen| self.channels(&chosen))
    }

    pub(crate) fn function_code(&self, index: u16) -> u16 {
        u16_at(self.record(header::NODES, node::BYTES, index), node::FUNCTION)
    }

    /// The tail's operators in f32, in order; none of a chain, which [`Self::trained_layers`] describes whole.
    #[doc(hidden)]
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = TailNode> + ExactSizeIterator + use<'a> {
        let pack = *self;
        (0..pack.node_count()).map(move |index| pack.node(index))
    }

    /// The layers with trained parameters, and the operators between them whose outputs are quantized anew, first to last.
    #[doc(hidden)]
    pub fn trained_layers(&self) -> impl Iterator<Item = TrainedLayer> + use<'a> {
        let pack = *self;
        let chain = pack.tail_is_chain();
        let mut parameters = 0;
        (0..pack.operator_count().saturating_sub(pack.trunk_operators()))
            .filter_map(move |place| if chain { pack.chain_layer(place) } else { pack.node_layer(place) })
            .enumerate()
            .map(move |(place, mut layer)| {
                if chain {
                    layer.parameters = parameters;
                    layer.source = place.checked_sub(1);
                    layer.unit_input = place == 0;
                    parameters += layer.weights() + layer.outputs;
                }
                layer
            })
    }

    fn chain_layer(&self, place: u16) -> Option<TrainedLayer> {
        let index = self.trunk_operators().saturating_add(place);
        let op = self.operator(index);
        let function = match op.fused_activation() {
            Activation::None => Function::Identity,
            Activation::Relu => Function::Relu,
            Activation::Relu6 => Function::Relu6,
        };
        (op.kind == operator::FULLY_CONNECTED).then(|| TrainedLayer {
            trains_weights: true,
            trains_biases: true,
            function,
            // What the table of a lookup is made for stays.
            refit: self.head().is_none_or(|head| head.kind != operator::LOOKUP || head.input != op.output),
            ..self.layer(op, index)
        })
    }

    fn node_layer(&self, place: u16) -> Option<TrainedLayer> {
        let node = Some(place).filter(|&place| place < self.node_count()).map(|place| self.node(place))?;
        let source = |value: &Option<TailValue>| value.as_ref().and_then(|v| self.refit_source(v.index));
        let layer = self.layer_of(&node);
        let (outputs, taps) = if node.is_trained() { (layer.outputs, layer.taps) } else { (0, 0) };
        node.is_tuned().then(|| TrainedLayer {
            outputs,
            taps,
            source: source(&node.input),
            second_source: source(&node.second),
            ..layer
        })
    }

    /// A node's layer, but for its sources.
    pub(crate) fn layer_of(&self, node: &TailNode) -> TrainedLayer {
        TrainedLayer {
            trains_weights: node.is(node::TRAINS_WEIGHTS),
            trains_biases: node.is(node::TRAINS_BIASES),
            trains_scales: node.is(node::TRAINS_SCALES),
            chosen: node.chosen.as_ref().map(|chosen| chosen.count),
            inputs: node.inputs.as_ref().map(|inputs| inputs.count),
            function: node.function,
            parameters: node.parameters,
            refit: node.is(node::REFIT),
            unit_input: node.is(node::UNIT_INPUT),
            ..self.layer(node.operator, self.trunk_operators().saturating_add(node.index))
        }
    }

    /// The trained layer that writes value `index`, if its output is quantized anew.
    pub(crate) fn refit_source(&self, index: u16) -> Option<usize> {
        let mut tuned = self.nodes().filter(TailNode::is_tuned);
        tuned.position(|node| node.output.index == index && node.is(node::REFIT))
    }

    /// Whether two tensors are one array, under two shapes perhaps.
    pub(crate) fn same_place(&self, one: u16, other: u16) -> bool {
        let (one, other) = (self.tensor(one), self.tensor(other));
        one.arena_offset == other.arena_offset && one.len() == other.len()
    }

    /// Extents of a layer with weights, if they are in range. A fully connected one is a pointwise convolution over its
    /// rows.
    pub(crate) fn conv_shape(&self, op: &OperatorRecord) -> Option<ConvShape> {
        let (input, output) = (self.tensor(op.input), self.tensor(op.output));
        if op.kind != operator::FULLY_CONNECTED {
            return ConvShape::new(input.shape(), output.shape(), op.window).ok();
        }
        let rows = super::dense_rows(&output).max(1);
        let pixels = |channels| Shape { height: 1, width: rows, channels };
        let window = Window { filter: [1; 2], stride: [1; 2], dilation: [1; 2], padding: [0; 2] };
        ConvShape::new(pixels(input.len() / rows), pixels(output.channels), window).ok()
    }

    /// Shape and quantization of a layer with weights.
    pub(crate) fn layer(&self, op: OperatorRecord, index: u16) -> TrainedLayer {
        let (input, output) = (self.tensor(op.input), self.tensor(op.output));
        let area = op.window.filter[0].saturating_mul(op.window.filter[1]);
        let taps = match op.kind {
            operator::CONV_2D => area.saturating_mul(input.channels),
            operator::DEPTHWISE_CONV_2D => area,
            _ => input.len() / super::dense_rows(&output),
        };
        TrainedLayer {
            operator: op,
            index,
            outputs: output.channels,
            taps,
            trains_weights: false,
            trains_biases: false,
            trains_scales: false,
            chosen: None,
            inputs: None,
            function: Function::Identity,
            parameters: 0,
            input: input.affine,
            output: output.affine,
            refit: false,
            unit_input: false,
            source: None,
            second_source: None,
        }
    }
}
