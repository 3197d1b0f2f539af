//! `flatmin bench` as a user meets it; the emulated boards run in `tests/run`.

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

fn flatmin() -> Command {
    Command::cargo_bin("flatmin-lab").unwrap()
}

#[test]
fn an_unknown_board_is_answered_with_the_known_ones() {
    flatmin()
        .args(["bench", "--board", "abacus"])
        .assert()
        .failure()
        .stdout("")
        .stderr(contains("no board `abacus`").and(contains("mps2-an386")).and(contains("host")));
}

#[test]
fn generated_layers_do_not_run_where_they_do_not_fit() {
    flatmin()
        .args(["bench", "--board", "microbit", "--cases"])
        .assert()
        .failure()
        .stderr(contains("microbit has too little RAM"));
}

#[test]
fn the_host_prints_one_object_with_all_shapes() {
    let output = flatmin()
        .args(["bench", "--board", "host", "--json"])
        // A Python without LiteRT: the rest is still measured, and what is missing is said.
        .env("FLATMIN_PYTHON", "no-such-python")
        .output()
        .unwrap();
    assert!(output.status.success());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        report["kernels"].as_array().unwrap().iter().map(|k| k["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "dense_640_128",
            "conv3x3_16x16x16_16",
            "depthwise3x3_25x5x64",
            "pointwise_25x5x64_64",
            "average_pool_25x5x64",
            "mean_25x5x64"
        ]
    );
    // Output elements times products each, by hand; of means, what is added up.
    let macs: Vec<u64> =
        report["kernels"].as_array().unwrap().iter().map(|k| k["macs"].as_u64().unwrap()).collect();
    let elements = 25 * 5 * 64;
    assert_eq!(macs, [640 * 128, 16 * 16 * 16 * 9 * 16, elements * 9, elements * 64, elements, elements]);
    assert!(report["nanoseconds"].as_f64().unwrap() > 0.0);
    assert!(report["litert"].is_null());
    assert!(report["litert_missing"].as_str().unwrap().contains("no-such-python"));
    assert!(report["tflite_micro"].is_null() && report["ratios"]["tflite_micro"].is_null());
    assert!(report["tflite_micro_missing"].as_str().unwrap().contains("no-such-python"));
}

#[test]
fn a_folder_without_a_grid_is_answered_with_how_to_make_one() {
    let empty = tempfile::tempdir().unwrap();
    flatmin()
        .args(["bench", "--board", "mps2-an386", "--grid"])
        .arg(empty.path())
        .assert()
        .failure()
        .stderr(contains("cases.json").and(contains("generate.py")));
}

#[test]
fn training_does_not_run_where_it_does_not_fit_nor_beside_a_model() {
    flatmin()
        .args(["bench", "--board", "microbit", "--train"])
        .assert()
        .failure()
        .stderr(contains("microbit has too little RAM"));
    flatmin()
        .args(["bench", "--board", "mps2-an386", "model.tflite", "--train"])
        .assert()
        .failure()
        .stderr(contains("cannot be used with"));
}
