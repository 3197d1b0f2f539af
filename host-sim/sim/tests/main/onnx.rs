//! ONNX files answer as ONNX Runtime does, within the rounding of one step. `onnx/README.md` says how the expected
//! answers were made.

mod interpreter;

use crate::skipping;

use flatmin_model::graph::{Element, Graph, Kind, Padding, Tensor, Window};
use flatmin_model::model::Model;
use flatmin_model::onnx::{Border, Network, read};
use flatmin_sim::inference::{self, Rows, Values};
use flatmin_sim::samples::{Inputs, Samples};
use flatmin_sim::wearers::SplitMix64;
use interpreter::Interpreter;
use std::path::{Path, PathBuf};

const SAMPLES: usize = 4;

fn golden() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/golden");
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    models.sort();
    assert!(models.len() > 70, "{} models in {}", models.len(), directory.display());
    models
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn network(path: &Path) -> Network {
    read(&std::fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The inputs of every sample as the graph takes them: one stream a model, by the type of the input as it is, moved
/// by 128, or divided by 32; in the file's layout until here.
fn samples(name: &str, network: &Network) -> Vec<Vec<Vec<f64>>> {
    let mut random = SplitMix64::new(name.bytes().map(u64::from).sum());
    let mut byte = || f64::from((random.next_u64() >> 56) as u8 as i8);
    let mut input = |(&tensor, border): (&usize, &Border)| {
        let values =
            (0..border.shape.iter().product()).map(|_| match network.graph.tensors[tensor].element {
                Element::F32 => byte() / 32.0,
                Element::U8 => byte() + 128.0,
                _ => byte(),
            });
        border.to_network(&values.collect::<Vec<f64>>())
    };
    (0..SAMPLES).map(|_| network.graph.inputs.iter().zip(&network.inputs).map(&mut input).collect()).collect()
}

/// The graph's meaning, in the file's layout, in steps of the file's quantization.
fn meaning(name: &str, network: &Network) -> Vec<f64> {
    let quantizations = quantizations(name);
    let mut answers = Vec::new();
    for sample in samples(name, network) {
        let done = Interpreter::new(&network.graph, &sample);
        let outputs = network.graph.outputs.iter().zip(&network.outputs).zip(&quantizations);
        for ((&tensor, border), &(scale, zero_point)) in outputs {
            let values = border.to_file(&done.meaning(tensor));
            answers.extend(values.into_iter().map(|x| x / scale + zero_point));
        }
    }
    answers
}

/// Scale and zero point of each output as the file has them.
fn quantizations(name: &str) -> Vec<(f64, f64)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/golden/outputs.csv");
    let rows = csv::Reader::from_path(path).unwrap().into_records().map(Result::unwrap);
    let own = rows.filter(|row| &row[0] == name);
    own.map(|row| (f64::from(row[2].parse::<f32>().unwrap()), row[3].parse().unwrap())).collect()
}

fn answers(path: &Path) -> Vec<f64> {
    let path = path.with_extension("bin");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes.iter().map(|b| f64::from(b.cast_signed())).collect()
}

/// Steps of the output's quantization. One for an operator, where the runtimes round differently; in whole networks
/// such steps pass on and add up, 4 is what was seen, rounded up.
fn bound(name: &str) -> f64 {
    let whole = ["network_", "library_", "pytorch_"].iter().any(|kind| name.starts_with(kind));
    if whole { 4.0 } else { 1.0 }
}

fn compare(name: &str, found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "{name}");
    let differences = || found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let largest = differences().fold(0.0, f64::max);
    let same = differences().filter(|&d| d < 0.5).count();
    println!("{name:28} {largest:.3} steps at most, {same} of {} outputs within half a step", expected.len());
    largest
}

#[test]
fn graphs_mean_what_the_runtime_computes() {
    for path in golden() {
        let (name, network) = (name(&path), network(&path));
        let difference = compare(&name, &meaning(&name, &network), &answers(&path));
        // ONNX Runtime's operators on integers round each on its own, and steps pass on. The last digits are single
        // precision's.
        let bound = if name.starts_with("network_of_qlinear") { 2.0 } else { 1.0 };
        assert!(difference <= bound + 1e-4, "{name}: {difference} steps");
    }
}

/// The same through the runtime: packed, and run by the kernels of the device.
#[test]
fn packs_answer_as_the_runtime_does() {
    let mut differences: Vec<(String, f64)> = Vec::new();
    for path in golden() {
        let (name, layouts) = (name(&path), network(&path));
        let model = Model::open(&path).unwrap_or_else(|e| panic!("{e:#}"));
        let batches: Vec<Samples> =
            (0..layouts.inputs.len()).map(|input| batch(&name, &layouts, input)).collect();
        let outputs = inference::run(&model, &batches, Rows::Samples).unwrap_or_else(|e| panic!("{e:#}"));
        let quantizations = quantizations(&name);
        let steps: Vec<Vec<f64>> = (outputs.into_iter().zip(&quantizations))
            .map(|(values, &(scale, zero_point))| match values {
                Values::I8(values) => values.into_iter().map(f64::from).collect(),
                Values::U8(values) => values.into_iter().map(|x| f64::from(x) - 128.0).collect(),
                Values::F32(values) => {
                    values.into_iter().map(|x| f64::from(x) / scale + zero_point).collect()
                }
            })
            .collect();
        // Expected are all outputs of a sample, then those of the next.
        let sample = |at: usize| {
            steps.iter().flat_map(move |values| {
                let length = values.len() / SAMPLES;
                values[at * length..][..length].iter().copied()
            })
        };
        let found: Vec<f64> = (0..SAMPLES).flat_map(sample).collect();
        differences.push((name.clone(), compare(&format!("{name}, packed"), &found, &answers(&path))));
    }
    differences.retain(|(name, difference)| *difference > bound(name) + 1e-4);
    assert!(differences.is_empty(), "{differences:?}");
}

/// One input of all samples, in the file's layout.
fn batch(name: &str, network: &Network, input: usize) -> Samples {
    let border = &network.inputs[input];
    let all = samples(name, network).into_iter().flat_map(|sample| border.to_file(&sample[input]));
    let inputs = match network.graph.tensors[network.graph.inputs[input]].element {
        Element::F32 => Inputs::F32(all.map(|x| x as f32).collect()),
        Element::U8 => Inputs::U8(all.map(|x| x as u8).collect()),
        _ => Inputs::I8(all.map(|x| x as i8).collect()),
    };
    Samples {
        inputs,
        sample_shape: border.shape[1..].to_vec(),
        count: SAMPLES,
        labels: Vec::new(),
        targets: Vec::new(),
        classes: Vec::new(),
        groups: Vec::new(),
        note: None,
    }
}

/// Elements move where they must, and nowhere else: Transpose nodes and layouts of the file cost nothing.
#[test]
fn transpositions() {
    for path in golden() {
        let (name, network) = (name(&path), network(&path));
        let moving = |kind: &Kind| matches!(kind, Kind::Transpose { .. });
        let found = network.graph.operators.iter().filter(|operator| moving(&operator.kind)).count();
        let expected = usize::from(["channel_shuffle", "reshape_moves"].contains(&name.as_str()));
        assert_eq!(found, expected, "{name}");
    }
}

/// The networks of MLPerf Tiny exist in both formats: the same graphs must come of both, weights and biases to the
/// byte.
#[test]
fn twins_in_both_formats() {
    let Some(models) = skipping::shared("models") else { return };
    let twins = [
        ("anomaly_detection/ad01_int8", "ad01_int8"),
        ("keyword_spotting/kws_ref_model", "kws_ref_model"),
        ("image_classification/pretrainedResnet_quant", "pretrainedResnet_quant"),
        ("visual_wake_words/vww_96_int8", "vww_96_int8"),
    ];
    for (tflite, onnx) in twins {
        let tflite = models.join(format!("mlperf-tiny/{tflite}.tflite"));
        let onnx = models.join(format!("mlperf-tiny-onnx-qdq/{onnx}.qdq.onnx"));
        if !onnx.exists() || !tflite.exists() {
            skipping::skipped(&format!("no {} or no {}", onnx.display(), tflite.display()));
            continue;
        }
        let expected = flatmin_model::tflite::read(&std::fs::read(&tflite).unwrap()).unwrap();
        let found = network(&onnx).graph;
        let [expected, found] = [&expected, &found].map(computing);
        assert_eq!(found.len(), expected.len(), "{}", onnx.display());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{}", onnx.display());
        }
        println!("{}: {} operators equal", onnx.display(), found.len());
    }
}

/// Rows and columns in front of an image: several names say the same.
fn in_front(window: &Window, [image, filter, output]: [&[usize]; 3]) -> [usize; 2] {
    match window.padding {
        Padding::Valid => [0, 0],
        Padding::Explicit(front) => front,
        Padding::Same => [0, 1].map(|axis| {
            let covered =
                (output[axis] - 1) * window.stride[axis] + (filter[axis] - 1) * window.dilation[axis] + 1;
            covered.saturating_sub(image[axis]) / 2
        }),
    }
}

/// Kind, scales of output and filter, zero point of the output, constants.
type Computed = (Kind, Vec<f32>, Vec<i64>, Vec<Vec<u8>>);

/// What a network computes: operators that are more than another shape, with what they are quantized to and their
/// constants (scales of biases aside, which nothing reads; a bias of zeros may be left out). Branches may come in any
/// order.
fn computing(graph: &Graph) -> Vec<Computed> {
    let operators = graph.operators.iter().filter(|operator| operator.kind != Kind::Reshape);
    let computed = operators.map(|operator| {
        let output = graph.tensors[operator.outputs[0]].quantization.clone().unwrap();
        let inputs = operator.inputs.iter().flatten().map(|&input| &graph.tensors[input]);
        let constants: Vec<&Tensor> = inputs.filter(|tensor| tensor.data.is_some()).collect();
        let scales = constants.first().and_then(|t| t.quantization.as_ref()).map(|q| q.scales.clone());
        let scales = [output.scales, scales.unwrap_or_default()].concat();
        let mut data: Vec<Vec<u8>> = constants.iter().filter_map(|tensor| tensor.data.clone()).collect();
        if data.get(1).is_some_and(|bias| bias.iter().all(|&byte| byte == 0)) {
            data.truncate(1);
        }
        let mut kind = operator.kind.clone();
        if let Kind::Conv2d(window, _) | Kind::DepthwiseConv2d(window, ..) = &mut kind {
            let shapes = [operator.inputs[0].unwrap(), operator.inputs[1].unwrap(), operator.outputs[0]];
            window.padding =
                Padding::Explicit(in_front(window, shapes.map(|tensor| &graph.tensors[tensor].shape[1..3])));
        }
        (kind, scales, output.zero_points, data)
    });
    let mut computed: Vec<_> = computed.collect();
    computed.sort_by_cached_key(|operator| format!("{operator:?}"));
    computed
}
