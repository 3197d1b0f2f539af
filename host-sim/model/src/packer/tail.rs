//! The tail of a pack: which f32 arrays its operators read and write, which gradients are needed, and what is trained.

mod places;

use super::network::{Network, Step};
use super::trains::{Trains, chosen_inputs, input_channels, largest_channels};
use flatmin::internals::pack::format::{node, operator as code, value};
use flatmin::internals::pack::{Function, MAX_LAYERS};
use std::collections::HashMap;

/// What a pack trains.
///
/// ```
/// use flatmin_model::packer::{TailPlan, Trains};
/// let last_two = TailPlan::of(2);
/// assert_eq!(last_two.trains(0), Trains::All);
/// let sparse = TailPlan { layers: 3, trains: vec![Trains::Biases, Trains::Nothing] };
/// assert_eq!([0, 1, 2].map(|layer| sparse.trains(layer)), [Trains::Biases, Trains::Nothing, Trains::All]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TailPlan {
    /// Layers with weights in the tail; it begins with the first of them.
    pub layers: usize,
    /// What of each is trained, first to last; those that are not listed are trained whole.
    pub trains: Vec<Trains>,
}

impl TailPlan {
    /// The last `layers` layers, trained whole.
    pub fn of(layers: usize) -> Self {
        Self { layers, trains: Vec::new() }
    }

    /// Such as `3 layers: biases, nothing, all`, or the bare number where all is trained.
    pub fn summary(&self) -> String {
        if self.trains.is_empty() {
            return self.layers.to_string();
        }
        let each = (0..self.layers).map(|layer| self.trains(layer).to_string());
        format!("{}: {}", self.layers, each.collect::<Vec<_>>().join(", "))
    }

    /// What of layer `layer` of the tail is trained.
    pub fn trains(&self, layer: usize) -> Trains {
        self.trains.get(layer).copied().unwrap_or_default()
    }
}

impl From<usize> for TailPlan {
    fn from(layers: usize) -> Self {
        Self::of(layers)
    }
}

impl From<&TailPlan> for TailPlan {
    fn from(plan: &TailPlan) -> Self {
        plan.clone()
    }
}

/// One f32 array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// Index into [`Network::tensors`].
    pub tensor: usize,
    /// First float.
    pub activation: usize,
    /// First float of the gradient, if it is needed.
    pub delta: Option<usize>,
}

/// One operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// See `flatmin::internals::pack::format::node`.
    pub flags: u16,
    pub input: Option<usize>,
    pub second: Option<usize>,
    pub output: usize,
    pub function: u16,
    pub parameters: usize,
    pub chosen: Option<Chosen>,
    pub inputs: Option<Inputs>,
    /// First byte of its mask in the workspace.
    pub mask: Option<usize>,
}

/// Input channels whose weights alone are trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    /// Rising.
    pub channels: Vec<u16>,
    /// First byte of what is kept of them in the workspace.
    pub kept: usize,
    /// How many bytes that are.
    bytes: usize,
}

/// Output channels whose weights alone are trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Rising.
    pub channels: Vec<u16>,
    /// First float of their outputs in the workspace.
    pub outputs: usize,
    /// First float of their gradients.
    pub deltas: usize,
}

/// A tail as it is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// Index of the first operator.
    pub cut: usize,
    /// Features first; none of a chain.
    pub values: Vec<Value>,
    /// None of a chain.
    pub nodes: Vec<Node>,
    /// Index into [`Network::tensors`].
    pub features: Vec<usize>,
    pub layers: usize,
    pub weights: usize,
    pub outputs: usize,
    pub parameters: usize,
    pub workspace_floats: usize,
}

impl Tail {
    pub fn new(network: &Network, plan: &TailPlan) -> Self {
        let cut = network.cut(plan.layers);
        let steps = &network.steps[cut..];
        if steps.is_empty() {
            let features = vec![network.outputs[0].tensor];
            return Self { cut, features, ..Self::default() };
        }
        let whole = (0..plan.layers).all(|layer| plan.trains(layer) == Trains::All);
        if whole && plan.layers <= network.chain_layers() {
            return Self::chain(network, cut);
        }
        Graph::new(network, plan, cut).planned()
    }

    fn chain(network: &Network, cut: usize) -> Self {
        let steps = network.steps[cut..].iter().filter(|step| step.kind == code::FULLY_CONNECTED);
        let (mut layers, mut weights, mut outputs) = (0, 0, 0);
        for step in steps {
            layers += 1;
            weights += step.constants.weights.len();
            outputs += step.constants.biases.len();
        }
        let feature = network.steps[cut].input;
        let features = network.tensors[feature].len();
        Self {
            cut,
            features: vec![feature],
            layers,
            weights,
            outputs,
            parameters: weights + outputs,
            workspace_floats: flatmin::internals::tail::DenseChain::workspace_length(features, outputs),
            ..Self::default()
        }
    }
}

/// The tail's dataflow, before it has places.
struct Graph<'a> {
    network: &'a Network,
    steps: Vec<&'a Step>,
    tail: Tail,
    /// Of every value: whether a parameter has a say in it.
    depends: Vec<bool>,
}

impl<'a> Graph<'a> {
    fn new(network: &'a Network, plan: &TailPlan, cut: usize) -> Self {
        let end = network.steps.len() - usize::from(network.head().is_some());
        let steps: Vec<&Step> = network.steps[cut..end].iter().collect();
        let mut graph = Self { network, steps, tail: Tail { cut, ..Tail::default() }, depends: Vec::new() };
        graph.features();
        graph.nodes(plan);
        graph.gradients();
        graph.masks();
        graph.refits();
        graph.units();
        graph
    }

    fn storage(&self, tensor: usize) -> usize {
        self.network.tensors[tensor].storage
    }

    fn add(&mut self, tensor: usize, depends: bool) -> usize {
        self.tail.values.push(Value { tensor, activation: 0, delta: None });
        self.depends.push(depends);
        self.tail.values.len() - 1
    }

    /// What the tail reads, or goes on writing, that is there when it begins.
    fn features(&mut self) {
        let mut written: Vec<usize> = Vec::new();
        for place in 0..self.steps.len() {
            let step = self.steps[place];
            let reads = step.inputs().filter(|&t| self.network.tensors[t].constant.is_none());
            // The rest of a tensor that operators in front of the cut have begun.
            let begun = self.network.steps[..self.tail.cut].iter().any(|s| s.output == step.output);
            for tensor in reads.chain(begun.then_some(step.output)) {
                let storage = self.storage(tensor);
                let known = self.tail.features.iter().any(|&t| self.storage(t) == storage);
                if !written.contains(&storage) && !known {
                    self.tail.features.push(tensor);
                    self.add(tensor, false);
                }
            }
            written.push(self.storage(step.output));
        }
    }

    fn nodes(&mut self, plan: &TailPlan) {
        // The value that lies in a storage, and the tensor that it was written as.
        let mut current: HashMap<usize, (usize, usize)> = HashMap::new();
        for (index, &tensor) in self.tail.features.iter().enumerate() {
            current.insert(self.storage(tensor), (index, tensor));
        }
        let mut layer = 0;
        for place in 0..self.steps.len() {
            let step = self.steps[place];
            let read = |tensor: Option<usize>| {
                let tensor = tensor.filter(|&t| self.network.tensors[t].constant.is_none())?;
                Some(current[&self.storage(tensor)].0)
            };
            let reads_nothing = step.kind == code::FILL;
            let input = if reads_nothing { None } else { read(Some(step.input)) };
            let second = read(step.second_input);
            let mut own = Node {
                input,
                second,
                function: step.function.unwrap_or(Function::Identity).code(),
                ..Node::default()
            };
            if step.has_weights() {
                self.parameters((place, step), plan.trains(layer), &mut own);
                layer += 1;
            }
            let trained = own.flags != 0;
            let depends = trained || [input, second].into_iter().flatten().any(|v| self.depends[v]);
            let storage = self.storage(step.output);
            // Several operators put one tensor together.
            let partial = [code::MOVE, code::FILL].contains(&step.kind);
            own.output = match current.get(&storage) {
                Some(&(known, tensor)) if partial && tensor == step.output => {
                    self.depends[known] |= depends;
                    known
                }
                _ => self.add(step.output, depends),
            };
            current.insert(storage, (own.output, step.output));
            self.tail.nodes.push(own);
        }
    }

    fn inputs(&self, step: &Step, place: usize, percent: u8) -> Inputs {
        let energies = self.network.energies.get(&(self.tail.cut + place));
        let channels = chosen_inputs(step, percent, energies);
        let (input, output) = (&self.network.tensors[step.input], &self.network.tensors[step.output]);
        let pixels = match step.kind {
            code::FULLY_CONNECTED => output.len() / output.shape[3],
            _ => input.len() / input.shape[3],
        };
        Inputs { bytes: pixels * channels.len(), channels, kept: 0 }
    }

    fn parameters(&mut self, (place, step): (usize, &Step), trains: Trains, own: &mut Node) {
        let (weights, outputs) = (step.constants.weights.len(), step.constants.biases.len());
        own.parameters = self.tail.parameters;
        let channels = trains.channels(outputs);
        let (flags, in_front) = match trains {
            Trains::Nothing => return,
            Trains::Biases => (0, 0),
            Trains::Scales => (node::TRAINS_SCALES, step.constants.scales.len()),
            Trains::Inputs(percent) => {
                let inputs = self.inputs(step, place, percent);
                let trained = weights / input_channels(step) * inputs.channels.len();
                own.inputs = Some(inputs);
                (node::TRAINS_WEIGHTS | node::CHOOSES_INPUTS, trained)
            }
            _ => (node::TRAINS_WEIGHTS, weights / outputs * channels),
        };
        own.flags = flags | node::TRAINS_BIASES;
        if own.inputs.is_some() {
            self.tail.weights += in_front;
        } else if flags == node::TRAINS_WEIGHTS {
            self.tail.weights += weights;
            if channels < outputs {
                let channels = largest_channels(step, channels);
                own.chosen = Some(Chosen { channels, ..Chosen::default() });
            }
        }
        self.tail.layers += 1;
        self.tail.outputs += outputs;
        self.tail.parameters += in_front + outputs;
    }

    /// Which gradients are handed on, and which node is the first to write each in the backward pass.
    fn gradients(&mut self) {
        let mut touched = vec![false; self.tail.values.len()];
        for own in self.tail.nodes.iter_mut().rev() {
            for (value, wanted, first) in [
                (own.input, node::INPUT_DELTA, node::INPUT_FIRST),
                (own.second, node::SECOND_DELTA, node::SECOND_FIRST),
            ] {
                let Some(value) = value.filter(|&v| self.depends[v] && self.depends[own.output]) else {
                    continue;
                };
                own.flags |= wanted;
                if !std::mem::replace(&mut touched[value], true) {
                    own.flags |= first;
                }
            }
        }
    }

    /// Where a share of input channels is trained, the tail is for integers alone: activations that the backward pass asks for
    /// their signs alone are kept as bits.
    fn masks(&mut self) {
        if self.tail.nodes.iter().all(|own| own.inputs.is_none()) {
            return;
        }
        for place in 0..self.tail.nodes.len() {
            let output = self.tail.nodes[place].output;
            let read_later = |(reader, other): (usize, &Node)| {
                reads(other, output) && self.depends[other.output] && self.keeps(reader).inputs
            };
            let read = self.tail.nodes.iter().enumerate().any(read_later);
            let own = &self.tail.nodes[place];
            let (step, kept) = (self.steps[place], self.keeps(place).output);
            let scales = own.flags & node::TRAINS_SCALES != 0;
            let clamps = step.kind != code::LOOKUP && kept && !scales;
            // The last one's is there, and the features' places are theirs.
            let last = place + 1 == self.tail.nodes.len();
            if clamps && !read && !last && self.depends[output] && own.chosen.is_none() {
                let own = &mut self.tail.nodes[place];
                own.flags |= node::KEEPS_MASK;
                own.mask = Some(0);
            }
        }
    }

    /// Outputs that may be quantized anew in int8: those of trained layers, and of what follows these and can have its
    /// numbers made on the device, where all that read them are trained or may be quantized anew themselves. The last one's,
    /// if no table comes after it.
    fn refits(&mut self) {
        // From the end: what reads an output comes after it.
        let count = self.tail.nodes.len();
        let mut free = vec![false; count];
        for place in (0..count).rev() {
            free[place] = self.is_free(place, &free);
        }
        // Each of them is listed in a tuned tail: with too many, trained layers alone are.
        let mut marked = self.marked(&free);
        if marked.iter().filter(|&&marked| marked).count() + self.frozen_in(&marked) > MAX_LAYERS {
            let trained: Vec<bool> = self.tail.nodes.iter().map(|own| own.flags & TRAINED != 0).collect();
            let settled = |place: usize| {
                let output = self.tail.nodes[place].output;
                let mut others = self.tail.nodes.iter();
                trained[place] && others.all(|o| !reads(o, output) || o.flags & TRAINED != 0)
            };
            marked = (0..count).map(|place| marked[place] && settled(place)).collect();
        }
        for (own, marked) in self.tail.nodes.iter_mut().zip(marked) {
            if marked {
                own.flags |= node::REFIT;
                self.tail.layers += usize::from(own.flags & TRAINED == 0);
            }
        }
    }

    /// Trained layers that keep the factory's output.
    fn frozen_in(&self, marked: &[bool]) -> usize {
        let nodes = self.tail.nodes.iter().zip(marked);
        nodes.filter(|(own, marked)| own.flags & TRAINED != 0 && !**marked).count()
    }

    /// Whether nothing that reads the output of node `place` keeps it from being quantized anew.
    fn is_free(&self, place: usize, free: &[bool]) -> bool {
        let own = &self.tail.nodes[place];
        let table = self.network.head().is_some_and(|head| head.kind == code::LOOKUP);
        let last = place + 1 == self.tail.nodes.len();
        let alone = own.output >= self.tail.features.len()
            && self.tail.nodes.iter().filter(|other| other.output == own.output).count() == 1;
        let mut readers =
            self.tail.nodes.iter().enumerate().filter(|(_, other)| reads(other, own.output)).peekable();
        let read = readers.peek().is_some();
        let settled = readers
            .all(|(reader, other)| other.flags & TRAINED != 0 || self.has_refit(reader) && free[reader]);
        alone && settled && (read || last && !table)
    }

    /// Whether the device can make the numbers of node `place` anew. An operator of the file that is several steps here has
    /// outputs that are no tensors of the file, but for pools, which have their input's quantization.
    fn has_refit(&self, place: usize) -> bool {
        let step = self.steps[place];
        let alone = || self.steps.iter().filter(|other| other.index == step.index).count() == 1;
        let is_pool = [code::AVERAGE_POOL_2D, code::MAX_POOL_2D].contains(&step.kind);
        REQUANTIZED.contains(&step.kind) && (is_pool || alone())
    }

    /// The outputs that are quantized anew: those of trained layers, and of what reads one of them.
    fn marked(&self, free: &[bool]) -> Vec<bool> {
        let mut anew = vec![false; self.tail.values.len()];
        let nodes = self.tail.nodes.iter().enumerate();
        nodes
            .map(|(place, own)| {
                let follows = self.has_refit(place)
                    && [own.input, own.second].into_iter().flatten().any(|value| anew[value]);
                let marked = free[place] && (own.flags & TRAINED != 0 || follows);
                anew[own.output] |= marked;
                marked
            })
            .collect()
    }

    /// Features that fully connected layers alone read are in the fixed unit, as a chain's are: the layers have the scale
    /// folded in, trained or frozen. What others read, or go on writing, keeps its scale. (So do convolutions: in the fixed
    /// unit the bundled network's seven layers gain 0.9 points of accuracy less, with SGD and with SAM.)
    fn units(&mut self) {
        for feature in 0..self.tail.features.len() {
            let folds = |(own, step): (&Node, &&Step)| {
                let touches = [own.input, own.second, Some(own.output)].contains(&Some(feature));
                !touches || step.kind == code::FULLY_CONNECTED
            };
            if self.tail.nodes.iter().zip(&self.steps).all(folds) {
                let readers = self.tail.nodes.iter_mut().filter(|own| own.input == Some(feature));
                readers.for_each(|own| own.flags |= node::UNIT_INPUT);
            }
        }
    }
}

/// What of a node is trained.
const TRAINED: u16 = node::TRAINS_WEIGHTS | node::TRAINS_BIASES | node::TRAINS_SCALES;

/// Operators without weights whose numbers the device makes anew: see `format::node::REFIT`.
const REQUANTIZED: [u16; 8] = [
    code::ADD,
    code::SUB,
    code::MUL,
    code::MEAN,
    code::AVERAGE_POOL_2D,
    code::MAX_POOL_2D,
    code::RESIZE_NEAREST,
    code::MOVE,
];

fn reads(node: &Node, value: usize) -> bool {
    [node.input, node.second].contains(&Some(value))
}

impl Value {
    /// The record's fields.
    pub fn delta_field(&self) -> u32 {
        self.delta.map_or(value::NONE, |delta| u32::try_from(delta).unwrap_or(value::NONE))
    }
}
