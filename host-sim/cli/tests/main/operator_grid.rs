//! Every operator equals TensorFlow Lite's reference kernels on every output byte, over a generated grid of
//! single-operator models. `operators/README.md` says how the grid is made.

use crate::skipping;

use npyz::NpyFile;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    operator: String,
    about: String,
    inputs: usize,
    outputs: usize,
    /// The samples are one stream.
    #[serde(default)]
    stream: bool,
}

/// Bit patterns of an array's elements, with its element type.
fn elements(path: &Path) -> Result<(String, Vec<u32>), Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let array = NpyFile::new(&bytes[..])?;
    let name = array.dtype().descr();
    let values = match name.trim_matches(['\'', '<', '|']) {
        "i1" => array.into_vec::<i8>()?.into_iter().map(|v| v.cast_unsigned().into()).collect(),
        "u1" => array.into_vec::<u8>()?.into_iter().map(u32::from).collect(),
        "f4" => array.into_vec::<f32>()?.into_iter().map(f32::to_bits).collect(),
        _ => return Err(format!("{}: unexpected element type {name}", path.display()).into()),
    };
    Ok((name, values))
}

/// Runs the case through `flatmin run`; what went wrong, if anything did.
fn check(case: &Case, grid: &Path) -> Result<(), Box<dyn Error>> {
    let folder = grid.join(&case.name);
    let scratch = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatmin"));
    command.arg("run").arg(folder.join("model.tflite"));
    if case.stream {
        command.arg("--stream");
    }
    for index in 0..case.inputs {
        command.arg("--input").arg(folder.join(format!("input{index}.npy")));
    }
    for index in 0..case.outputs {
        command.arg("--output").arg(scratch.path().join(format!("output{index}.npy")));
    }
    let run = command.output()?;
    if !run.status.success() {
        return Err(format!("refused: {}", String::from_utf8_lossy(&run.stderr).trim()).into());
    }
    for index in 0..case.outputs {
        let file = format!("output{index}.npy");
        let (expected_type, expected) = elements(&folder.join(&file))?;
        let (found_type, found) = elements(&scratch.path().join(&file))?;
        if (&found_type, found.len()) != (&expected_type, expected.len()) {
            let (n, m) = (found.len(), expected.len());
            return Err(
                format!("output {index}: {n} of {found_type}, {m} of {expected_type} are expected").into()
            );
        }
        let differ: Vec<usize> = (0..found.len()).filter(|&i| found[i] != expected[i]).collect();
        if let Some(&first) = differ.first() {
            let (a, b) = (found[first], expected[first]);
            let counts = format!("{} of {} differ", differ.len(), found.len());
            return Err(
                format!("output {index}: {counts}, first element {first}: {a:#x}, expected {b:#x}").into()
            );
        }
    }
    Ok(())
}

#[test]
fn every_operator_equals_the_reference_kernels() {
    let given = std::env::var_os("FLATMIN_OPERATOR_GRID");
    let grid = given
        .as_ref()
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/operator-grid"), PathBuf::from);
    let index = grid.join("cases.json");
    if given.is_none() && !index.exists() {
        return skipping::skipped(
            "no operator grid; host-sim/cli/tests/operators/README.md says how to generate it",
        );
    }
    let text = std::fs::read(&index).unwrap_or_else(|e| panic!("{}: {e}", index.display()));
    let cases: Vec<Case> = serde_json::from_slice(&text).unwrap();
    assert!(!cases.is_empty(), "{} lists no case", index.display());

    let results: Vec<Result<(), String>> =
        cases.par_iter().map(|case| check(case, &grid).map_err(|e| e.to_string())).collect();
    let mut tally: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut report = String::new();
    for (case, result) in cases.iter().zip(&results) {
        let [equal, all] = tally.entry(&case.operator).or_default();
        *all += 1;
        match result {
            Ok(()) => *equal += 1,
            Err(why) => report += &format!("{} ({}): {why}\n", case.name, case.about),
        }
    }
    for (operator, [equal, all]) in &tally {
        let mark = if equal == all { "" } else { "  <--" };
        report += &format!("{operator:26} {equal:4} of {all:4} equal{mark}\n");
    }
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 0, "{failed} of {} cases differ from the reference kernels:\n{report}", cases.len());
    println!("{report}");
}
