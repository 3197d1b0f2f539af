//! MNIST-1D (Greydanus 2020, arXiv 2011.14439): ten shapes in 40 values, moved, sheared and noisy, and a small convolutional
//! network whose whole is the tail. `host-sim/evidence/make_mnist1d.py` generates the samples.

use super::{Corpus, Standard};
use crate::experiments::dense;
use crate::experiments::start::Start;
use anyhow::{Context, Result, ensure};
use flatmin_model::graph::{
    Activation, Element, Graph, Kind, Operator, Padding, Quantization, Tensor, Window,
};
use flatmin_model::packer::{Network, lower};
use flatmin_sim::subject::Labelled;
use std::path::Path;

const LENGTH: usize = 40;
const CLASSES: usize = 10;
/// Channels of each convolution.
const CHANNELS: usize = 16;
const TRAINED: usize = 4_000;
const TESTED: usize = 1_000;
/// Each has its own samples to train on; all are tested on the same ones.
pub const SUBJECTS: usize = 10;

/// A tenth of the samples to train on.
pub fn part(folder: &Path, subject: usize, start: Start) -> Result<Corpus> {
    let path = folder.join("mnist1d/samples.bin");
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let samples: Vec<Labelled> = (bytes.chunks_exact(1 + LENGTH))
        .map(|record| (record[1..].iter().map(|&x| x as i8).collect(), usize::from(record[0])))
        .collect();
    let whole = samples.len() == TRAINED + TESTED && samples.iter().all(|(_, label)| *label < CLASSES);
    ensure!(whole, "{}: not what make_mnist1d.py writes", path.display());
    let (trained, test) = samples.split_at(TRAINED);
    let pool = trained.chunks(TRAINED / SUBJECTS).nth(subject - 1).context("no such part")?.to_vec();
    let network = match start {
        Start::Hidden { units, layers } => dense::hidden(Standard::AFFINE, LENGTH, (units, layers), CLASSES),
        _ => convolutional()?,
    };
    Ok(Corpus { network, known: Vec::new(), pool, test: test.to_vec(), classes: CLASSES })
}

/// Three convolutions with stride 2 and a dense head; weights are zero and ranges provisional until [`Start::Random`] draws and a run
/// trains.
fn convolutional() -> Result<Network> {
    let mut graph = Graph::default();
    let mut tensor =
        |element: Element, shape: &[usize], scale: f32, zero_point: i64, bytes: Option<usize>| {
            let quantization =
                Some(Quantization { scales: vec![scale], zero_points: vec![zero_point], axis: 0 });
            let name = format!("t{}", graph.tensors.len());
            let data = bytes.map(|bytes| vec![0; bytes]);
            graph.tensors.push(Tensor { name, element, shape: shape.to_vec(), quantization, data });
            graph.tensors.len() - 1
        };
    let scale = Standard::AFFINE.scale;
    let mut input = tensor(Element::I8, &[1, 1, LENGTH, 1], scale, 0, None);
    let (first, mut below) = (input, scale);
    let mut operators = Vec::new();
    let layers = [(20, 1, 5), (10, CHANNELS, 3), (5, CHANNELS, 3)];
    for (width, channels, taps) in layers {
        let (weight, output) = (1.0 / 128.0, 0.05);
        let filter = [CHANNELS, 1, taps, channels];
        let weights = tensor(Element::I8, &filter, weight, 0, Some(filter.iter().product()));
        let biases = tensor(Element::I32, &[CHANNELS], below * weight, 0, Some(4 * CHANNELS));
        let to = tensor(Element::I8, &[1, 1, width, CHANNELS], output, -128, None);
        let window = Window { padding: Padding::Same, stride: [1, 2], dilation: [1; 2] };
        operators.push(("CONV_2D", Kind::Conv2d(window, Activation::Relu), vec![input, weights, biases], to));
        (input, below) = (to, output);
    }
    let flat = 5 * CHANNELS;
    let reshaped = tensor(Element::I8, &[1, flat], below, -128, None);
    operators.push(("RESHAPE", Kind::Reshape, vec![input], reshaped));
    let weights = tensor(Element::I8, &[CLASSES, flat], 1.0 / 128.0, 0, Some(CLASSES * flat));
    let biases = tensor(Element::I32, &[CLASSES], below / 128.0, 0, Some(4 * CLASSES));
    let logits = tensor(Element::I8, &[1, CLASSES], 0.05, 0, None);
    let dense = Kind::FullyConnected(Activation::None);
    operators.push(("FULLY_CONNECTED", dense, vec![reshaped, weights, biases], logits));
    graph.operators = (operators.into_iter())
        .map(|(name, kind, inputs, output)| Operator {
            name: name.into(),
            kind,
            inputs: inputs.into_iter().map(Some).collect(),
            outputs: vec![output],
        })
        .collect();
    (graph.inputs, graph.outputs) = (vec![first], vec![logits]);
    Ok(lower(&graph)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_network_is_the_tail() {
        let network = convolutional().unwrap();
        assert_eq!(network.trainable_layers(), 4);
        assert_eq!(network.cut(4), 0);
        let macs: u64 = network.steps.iter().map(|step| network.macs(step)).sum();
        let convolutions = CHANNELS * (20 * 5 + 10 * 3 * CHANNELS + 5 * 3 * CHANNELS);
        assert_eq!(macs, (convolutions + 5 * CHANNELS * CLASSES) as u64);
    }
}
