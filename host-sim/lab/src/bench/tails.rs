//! The last layers of published networks, by their layers' shapes and with random weights, as packs.

use anyhow::{Result, ensure};
use flatmin::Method;
use flatmin::{
    Loss,
    internals::tail::{PackedTail, Tail},
};
use flatmin_bench::tails::{METHODS, recipe};
use flatmin_model::graph::{
    Activation, Element, Graph, Kind, Operator, Padding, Quantization, Tensor, Window,
};
use flatmin_model::packer::{Network, TailPlan, lower, pack_tail};
use flatmin_sim::tuning::method_name;

/// A network's end: behind features of `height` x `width` x `channels` a depthwise 3x3 and a pointwise convolution as
/// large, as far as there are `layers`, an average over all, and a fully connected layer.
struct End {
    name: &'static str,
    extents: [usize; 3],
    classes: usize,
    layers: usize,
}

impl End {
    fn row(&self, method: Method) -> String {
        format!("train_{}_last{}_b1_{}", self.name, self.layers, method_name(method))
    }

    /// An autoencoder is trained to repeat its input.
    fn loss(&self) -> Loss {
        if self.name == "autoencoder" { Loss::SquaredError } else { Loss::CrossEntropy }
    }
}

const fn end(name: &'static str, extents: [usize; 3], classes: usize, layers: usize) -> End {
    End { name, extents, classes, layers }
}

/// Those with a method of whose name `only` is a part.
fn chosen(only: &str) -> impl Iterator<Item = &'static End> {
    ENDS.iter().filter(move |end| METHODS.iter().any(|&method| end.row(method).contains(only)))
}

/// MLPerf Tiny's: keyword spotting, visual wake words, image classification, anomaly detection.
const ENDS: [End; 8] = [
    end("dscnn", [1, 1, 64], 12, 1),
    end("dscnn", [25, 5, 64], 12, 2),
    end("dscnn", [25, 5, 64], 12, 3),
    end("mobilenet", [1, 1, 256], 2, 1),
    end("mobilenet", [3, 3, 256], 2, 2),
    end("mobilenet", [3, 3, 256], 2, 3),
    end("resnet8", [1, 1, 64], 10, 1),
    end("autoencoder", [1, 1, 128], 640, 1),
];

pub(super) struct Builder(Graph);

impl Builder {
    pub fn new() -> Self {
        Self(Graph::default())
    }

    /// The network from `input` to `output`.
    pub fn graph(mut self, input: usize, output: usize) -> Graph {
        (self.0.inputs, self.0.outputs) = (vec![input], vec![output]);
        self.0
    }

    fn tensor(&mut self, element: Element, shape: &[usize], scale: f32, data: Option<Vec<u8>>) -> usize {
        let zero = if data.is_none() { -128 } else { 0 };
        self.0.tensors.push(Tensor {
            name: String::new(),
            element,
            shape: shape.to_vec(),
            quantization: Some(Quantization { scales: vec![scale], zero_points: vec![zero], axis: 0 }),
            data,
        });
        self.0.tensors.len() - 1
    }

    pub fn activation(&mut self, shape: &[usize]) -> usize {
        self.tensor(Element::I8, shape, 0.05, None)
    }

    pub fn operator(&mut self, name: &str, kind: Kind, inputs: &[usize], shape: &[usize]) -> usize {
        let output = self.activation(shape);
        let inputs = inputs.iter().map(|&input| Some(input)).collect();
        self.0.operators.push(Operator { name: name.into(), kind, inputs, outputs: vec![output] });
        output
    }

    pub fn weighted(
        &mut self,
        name: &str,
        kind: Kind,
        filter: &[usize],
        input: usize,
        shape: &[usize],
    ) -> usize {
        let mut weights = vec![0; filter.iter().product()];
        flatmin_bench::fill(weights.len() as u32, &mut weights);
        let bytes = weights.into_iter().map(i8::cast_unsigned).collect();
        let weights = self.tensor(Element::I8, filter, 0.001, Some(bytes));
        let outputs = shape[shape.len() - 1];
        let biases = self.tensor(Element::I32, &[outputs], 5e-5, Some(vec![0; 4 * outputs]));
        self.operator(name, kind, &[input, weights, biases], shape)
    }
}

fn graph(end: &End) -> Graph {
    let [height, width, channels] = end.extents;
    let mut b = Builder::new();
    let window = |padding| Window { padding, stride: [1; 2], dilation: [1; 2] };
    let (same, relu) = (window(Padding::Same), Activation::Relu);
    let shape = [1, height, width, channels];
    let input = b.activation(&shape);
    let mut x = input;
    if end.layers > 2 {
        let kind = Kind::DepthwiseConv2d(same, relu, 1);
        x = b.weighted("DEPTHWISE_CONV_2D", kind, &[1, 3, 3, channels], x, &shape);
    }
    if end.layers > 1 {
        x = b.weighted("CONV_2D", Kind::Conv2d(same, relu), &[channels, 1, 1, channels], x, &shape);
        let pool = Kind::AveragePool2d(window(Padding::Valid), Activation::None, [height, width]);
        x = b.operator("AVERAGE_POOL_2D", pool, &[x], &[1, 1, 1, channels]);
    }
    x = b.operator("RESHAPE", Kind::Reshape, &[x], &[1, channels]);
    let dense = Kind::FullyConnected(Activation::None);
    let logits = b.weighted("FULLY_CONNECTED", dense, &[end.classes, channels], x, &[1, end.classes]);
    b.graph(input, logits)
}

/// A file's bytes at the end of `words`, which begins at a boundary of 16.
pub(super) fn append(words: &mut Vec<u128>, bytes: &[u8]) {
    for chunk in bytes.chunks(16) {
        let mut word = [0; 16];
        word[..chunk.len()].copy_from_slice(chunk);
        words.push(u128::from_ne_bytes(word));
    }
}

/// The tails one behind the other, in 16-byte words: each begins at a boundary.
pub(super) fn packs(only: &str) -> Result<Vec<u128>> {
    let mut words = Vec::new();
    for end in chosen(only) {
        let network = Network { loss: Some(end.loss()), ..lower(&graph(end))? };
        let file = pack_tail(&network, 0, &TailPlan::of(end.layers))?;
        append(&mut words, file.bytes());
    }
    Ok(words)
}

/// Name, shape and multiply-adds of what is run of them, in its order.
pub(super) fn work(packs: &[u8], only: &str) -> Result<Vec<(String, String, u64)>> {
    let mut all = Vec::new();
    for (pack, end) in flatmin_bench::tails::packs(packs).zip(chosen(only)) {
        let tail = PackedTail::of(&pack)?;
        for method in METHODS {
            let recipe = recipe(method);
            let stored = flatmin::internals::step::stores_perturbation(&tail, &recipe);
            let [height, width, channels] = end.extents;
            let shape = format!("{height}x{width}x{channels} -> {}, 1 sample", end.classes);
            all.push((end.row(method), shape, tail.step_macs(recipe.geometry().as_ref(), stored)));
        }
    }
    let expected = if packs.is_empty() { 0 } else { chosen(only).count() * METHODS.len() };
    ensure!(all.len() == expected, "{} of {expected} tails were packed", all.len());
    Ok(all)
}
