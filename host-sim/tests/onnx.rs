//! ONNX files answer as ONNX Runtime does, within the rounding of one step. `onnx/README.md` says how the expected
//! answers were made.

#[path = "onnx/interpreter.rs"]
mod interpreter;

use host_sim::onnx::{Network, read};
use host_sim::wearers::SplitMix64;
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

/// The inputs of every sample, in the file's layout: one stream a model, bytes / 32.
fn samples(name: &str, network: &Network) -> Vec<Vec<Vec<f32>>> {
    let mut random = SplitMix64::new(name.bytes().map(u64::from).sum());
    let mut value = || f32::from((random.next_u64() >> 56) as u8 as i8) / 32.0;
    let mut sample = || {
        let sizes = network.inputs.iter().map(|border| border.shape.iter().product());
        sizes.map(|size: usize| (0..size).map(|_| value()).collect()).collect()
    };
    (0..SAMPLES).map(|_| sample()).collect()
}

/// The graph's meaning, in the file's layout.
fn meaning(name: &str, network: &Network) -> Vec<i8> {
    let mut answers = Vec::new();
    for sample in samples(name, network) {
        let arranged = sample
            .iter()
            .zip(&network.inputs)
            .map(|(values, border)| border.to_network(values).into_iter().map(f64::from).collect());
        let done = Interpreter::new(&network.graph, &arranged.collect::<Vec<_>>());
        for (&tensor, border) in network.graph.outputs.iter().zip(&network.outputs) {
            answers.extend(border.to_file(&done.integers(tensor)));
        }
    }
    answers
}

fn largest_difference(name: &str, found: &[i8], expected: &[i8]) -> u8 {
    assert_eq!(found.len(), expected.len(), "{name}");
    found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn graphs_mean_what_the_runtime_computes() {
    for path in golden() {
        let (name, network) = (name(&path), network(&path));
        let expected: Vec<i8> =
            std::fs::read(path.with_extension("bin")).unwrap().iter().map(|b| b.cast_signed()).collect();
        let found = meaning(&name, &network);
        let same = found.iter().zip(&expected).filter(|(a, b)| a == b).count();
        let difference = largest_difference(&name, &found, &expected);
        println!("{name:28} {difference} step(s), {same} of {} outputs equal", expected.len());
    }
}
