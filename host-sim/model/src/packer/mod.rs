//! From a [`Graph`] to the device's format: checks what the runtime can do, cuts off the tail, plans the
//! activation arena and writes the bytes that [`flatmin::internals::pack::format`] specifies.

mod lower;
mod network;
mod plan;
mod spare;
pub mod statistics;
mod tables;
mod tail;
mod trains;
mod write;

use crate::graph::Graph;
use crate::tflite::printable;
use flatmin::Loss;
use flatmin::internals::pack::format::operator as code;
pub use network::{Activations, Border, Network, Step, Variable};
pub use plan::{Patched, Plan, patches, plan};
pub use tail::TailPlan;
use thiserror::Error;
pub use trains::{Repeated, Trains};

/// An operator that cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its place in the file.
    pub index: usize,
    /// Its name in the schema.
    pub name: String,
    /// What was expected and what was found.
    pub what: String,
}

/// Why a network cannot be packed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackerError {
    /// Operators that the runtime does not know, or not in this form: all of them.
    #[error("{} unsupported operator(s):{}", .0.len(), list(.0))]
    Unsupported(Vec<Problem>),
    /// The network's inputs or outputs.
    #[error("{0}")]
    Border(String),
    /// More layers asked for than the network ends in.
    #[error("cannot train the last {asked} layer(s): the network ends in {found} trainable layer(s){reason}")]
    Layers {
        /// Layers asked for.
        asked: usize,
        /// Trainable layers that the network ends in.
        found: usize,
        /// What stands in the way of more, after a colon; nothing where the network has no more.
        reason: String,
    },
    /// Nothing to train behind an activation: the loss differentiates bare outputs.
    #[error(
        "cannot train a tail that ends in operator {index}: it has an activation or cannot be trained, and the loss \
         wants bare outputs; export the network without it, or train with --loss mse"
    )]
    LastActivation {
        /// The operator's place in the file.
        index: usize,
    },
    /// More outputs than a label has bits.
    #[error(
        "cannot train {found} outputs with binary cross-entropy: a label has {} bits",
        Loss::MOST_QUESTIONS
    )]
    Questions {
        /// Outputs of the network.
        found: usize,
    },
    /// Every layer of the tail is frozen.
    #[error("cannot train nothing: name a layer to train, weights or biases")]
    NothingTrained,
    /// Spare classes for what is no dense classifier that is trained whole.
    #[error("cannot reserve spare classes: {what}")]
    Spare {
        /// What is in the way.
        what: &'static str,
    },
    /// A share of the channels of a layer that has none to spare.
    #[error(
        "operator {index}: a depthwise convolution has few weights a channel; train all, its scales or its biases"
    )]
    Share {
        /// The operator's place in the file.
        index: usize,
    },
    /// The written pack did not pass the runtime's own validation.
    #[error("the runtime refuses this network")]
    Refused(#[from] flatmin::PackError),
}

/// One line per kind of problem: what is wrong with a whole network, of floats for instance, is said once.
fn list(problems: &[Problem]) -> String {
    let mut kinds: Vec<(String, Vec<&Problem>)> = Vec::new();
    for problem in problems {
        let kind = kind_of(&problem.what);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, alike)) => alike.push(problem),
            None => kinds.push((kind, vec![problem])),
        }
    }
    kinds.iter().map(|(_, alike)| line(alike)).collect()
}

/// A message without what is one operator's alone: names in backticks, and numbers.
fn kind_of(what: &str) -> String {
    let outside = what.split('`').step_by(2);
    outside.flat_map(str::chars).filter(|letter| !letter.is_ascii_digit() && *letter != '-').collect()
}

/// One kind of problem: the operators that have it, and what is said of them, or of the first.
fn line(alike: &[&Problem]) -> String {
    let [first, others @ ..] = alike else { return String::new() };
    if others.is_empty() {
        return format!("\n  operator {}: {}: {}", first.index, first.name, first.what);
    }
    let shown = |texts: &[String], most: usize| match texts.get(most..) {
        Some(rest) if rest.len() > 1 => format!("{} and {} more", texts[..most].join(", "), rest.len()),
        _ => texts.join(", "),
    };
    let indices: Vec<String> = alike.iter().map(|own| own.index.to_string()).collect();
    let mut names: Vec<String> = alike.iter().map(|own| own.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let same = others.iter().all(|own| own.what == first.what);
    let whose = if same { "" } else { ", the first" };
    format!("\n  operators {} ({}){whose}: {}", shown(&indices, 4), shown(&names, 12), first.what)
}

/// A pack in memory, on the boundary that the runtime wants.
#[derive(Debug, Clone)]
pub struct PackFile {
    /// Words of 16 bytes: the alignment that [`flatmin::Pack::new`] checks.
    words: Vec<u128>,
    length: usize,
}

impl PackFile {
    /// The bytes of a valid pack, on the boundary that the runtime wants.
    pub fn new(bytes: &[u8]) -> Self {
        let words = bytes
            .chunks(16)
            .map(|chunk| {
                let mut word = [0; 16];
                word[..chunk.len()].copy_from_slice(chunk);
                u128::from_ne_bytes(word)
            })
            .collect();
        Self { words, length: bytes.len() }
    }

    /// Refuses bytes that are no pack.
    ///
    /// # Errors
    /// [`flatmin::PackError`].
    pub fn check(&self) -> Result<(), flatmin::PackError> {
        flatmin::Pack::new(self.bytes()).map(drop)
    }

    /// The bytes, as they go to a file or to flash.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }

    /// The runtime's view.
    pub fn pack(&self) -> flatmin::Pack<'_> {
        flatmin::Pack::new(self.bytes()).expect("validated when it was made")
    }
}

/// Whether the network ends in `layers` layers that the runtime can train.
///
/// # Errors
/// [`PackerError::LastActivation`] or [`PackerError::Layers`].
pub fn check_layers(network: &Network, layers: usize) -> Result<(), PackerError> {
    let found = network.trainable_layers();
    let outputs = network.outputs.first().map_or(0, |output| network.tensors[output.tensor].len());
    let questions = network.loss() == Loss::BinaryCrossEntropy && outputs > Loss::MOST_QUESTIONS;
    if layers > 0 && questions {
        return Err(PackerError::Questions { found: outputs });
    }
    match network.last_activation() {
        _ if layers <= found => Ok(()),
        Some(index) => Err(PackerError::LastActivation { index }),
        None => Err(PackerError::Layers { asked: layers, found, reason: obstacle(network) }),
    }
}

/// What keeps further layers from being trained, after a colon; nothing where there are no more.
pub fn obstacle(network: &Network) -> String {
    let names = |borders: &[Border]| {
        let name = |border: &Border| format!("`{}`", printable(&network.tensors[border.tensor].name));
        borders.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    if network.outputs.len() > 1 {
        return format!(
            ": a tail has one output, the network has {} ({}); export it with the classifier's alone",
            network.outputs.len(),
            names(&network.outputs)
        );
    }
    if network.inputs.len() > 1 {
        let read = |border: &&Border| {
            let storage = network.tensors[border.tensor].storage;
            network.steps.iter().flat_map(Step::inputs).any(|t| network.tensors[t].storage == storage)
        };
        let unused: Vec<Border> = network.inputs.iter().filter(|border| !read(border)).cloned().collect();
        let which = match unused.as_slice() {
            [] => names(&network.inputs),
            unused => format!("{}, which no operator reads", names(unused)),
        };
        let count = network.inputs.len();
        return format!(": a network to tune has one input, this one has {count} ({which})");
    }
    if network.outputs.iter().any(|output| network.tensors[output.tensor].unsigned) {
        return ": its output is uint8: convert it with an int8 output".into();
    }
    let head = usize::from(network.head().is_some());
    let fixed = |step: &&Step| step.function.is_none() || step.kind == code::SOFTMAX;
    match network.steps.iter().rev().skip(head).find(fixed) {
        Some(step) if network.steps.iter().any(Step::has_weights) => {
            format!(": operator {} ({}) has no backward pass", step.index, step.name)
        }
        _ => String::new(),
    }
}

/// The operators of `graph` as the runtime will run them, in order.
///
/// # Errors
/// See [`PackerError`].
pub fn lower(graph: &Graph) -> Result<Network, PackerError> {
    let lowered = lower::lower(graph)?;
    let greedy_arena_bytes = plan::greedy_bytes(&lowered);
    Ok(Network { greedy_arena_bytes, ..lowered.arranged() })
}

/// Packs `network` with its last `layers` layers as the tail, all trained; `model_crc32` is the checksum of the file it
/// came from, which the pack carries.
///
/// # Errors
/// See [`PackerError`].
pub fn pack(network: &Network, model_crc32: u32, layers: usize) -> Result<PackFile, PackerError> {
    pack_tail(network, model_crc32, &TailPlan::of(layers))
}

/// [`pack`] with a choice of what is trained.
///
/// # Errors
/// See [`PackerError`].
pub fn pack_tail(network: &Network, model_crc32: u32, plan: &TailPlan) -> Result<PackFile, PackerError> {
    check_layers(network, plan.layers)?;
    if plan.layers > 0 && (0..plan.layers).all(|layer| plan.trains(layer) == Trains::Nothing) {
        return Err(PackerError::NothingTrained);
    }
    if network.spare_classes > 0 {
        spare::check(network, plan)?;
    }
    let weighted = network.steps[network.cut(plan.layers)..].iter().filter(|step| step.has_weights());
    for (layer, step) in weighted.enumerate() {
        let outputs = step.constants.biases.len();
        let share = plan.trains(layer).trains_weights() && plan.trains(layer).channels(outputs) < outputs;
        if share && step.kind == flatmin::internals::pack::format::operator::DEPTHWISE_CONV_2D {
            return Err(PackerError::Share { index: step.index });
        }
    }
    let file = PackFile::new(&write::write(network, model_crc32, plan));
    flatmin::Pack::new(file.bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Element, Kind, Operator, Quantization, Tensor};

    /// A whole network of floats is one problem; operators with problems of their own have a line each.
    #[test]
    fn problems_of_one_kind_are_told_once() {
        let problem = |index, name: &str, what: &str| Problem { index, name: name.into(), what: what.into() };
        let floats = (0..9).map(|index| {
            problem(index, ["ADD", "MUL"][index % 2], &format!("tensor {index} `t{index}` is F32"))
        });
        let own = problem(9, "CONV_2D", "has no bias");
        let unknown = ["SQUARE", "SUM"].map(|name| problem(10, name, "is not supported"));
        let all: Vec<Problem> = floats.chain([own]).chain(unknown).collect();
        assert_eq!(
            PackerError::Unsupported(all).to_string(),
            "12 unsupported operator(s):\n  operators 0, 1, 2, 3 and 5 more (ADD, MUL), the first: tensor 0 `t0` is F32\n  \
             operator 9: CONV_2D: has no bias\n  operators 10, 10 (SQUARE, SUM): is not supported"
        );
    }

    #[test]
    fn a_network_without_an_input_is_refused() {
        let tensor = |data: Option<Vec<u8>>| Tensor {
            name: String::new(),
            element: Element::I8,
            shape: vec![1, 2],
            quantization: Some(Quantization { scales: vec![0.5], zero_points: vec![0], axis: 0 }),
            data,
        };
        // Constants alone: it computes, but nobody can give it anything.
        let graph = Graph {
            tensors: vec![tensor(Some(vec![1, 2])), tensor(None)],
            operators: vec![Operator {
                name: "CONCATENATION".into(),
                kind: Kind::Concatenation { axis: 1 },
                inputs: vec![Some(0)],
                outputs: vec![1],
            }],
            inputs: Vec::new(),
            outputs: vec![1],
            variables: Vec::new(),
        };
        assert_eq!(lower(&graph).unwrap_err().to_string(), "the network has no input");
    }
}
