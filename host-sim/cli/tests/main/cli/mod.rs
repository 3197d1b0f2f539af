//! The binary as users run it: what it answers on which stream, and how it refuses what is wrong.

mod answers;
#[allow(dead_code, reason = "the readers' tests take other parts")]
#[path = "../../../../model/src/tflite/tests/build.rs"]
mod build;
mod doors;
#[allow(dead_code, reason = "the fields that these models set")]
#[path = "../../../../model/src/tflite/field.rs"]
mod field;
mod help;
mod recipe;
mod refusals;
mod samples;
pub mod schema;
mod starter;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use build::{Model, Value};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder that the binary is run in.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// Names of the files in it, sorted.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Runs `flatmin` with these arguments, separated by spaces.
    fn run(&self, arguments: &str) -> Assert {
        let mut command = Command::cargo_bin("flatmin").unwrap();
        command
            .env("FLATMIN_SOURCES", concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .current_dir(self.0.path())
            .args(arguments.split_whitespace())
            .assert()
    }

    /// Standard output of a run that succeeds, as the one JSON object that it is.
    fn json(&self, arguments: &str) -> serde_json::Value {
        let output = self.run(arguments).success().get_output().stdout.clone();
        // Fails on anything before or after the object.
        let value: serde_json::Value = serde_json::from_slice(&output).unwrap();
        assert_eq!(value["schema_version"], flatmin_model::json::SCHEMA, "{value}");
        no_pairs(&value);
        value
    }
}

/// Fails on a list of a word and a number, which an object would name.
fn no_pairs(value: &serde_json::Value) {
    match value {
        serde_json::Value::Array(list) => {
            let mixed = list.iter().any(serde_json::Value::is_string)
                && !list.iter().all(serde_json::Value::is_string);
            assert!(!mixed, "{value}");
            list.iter().for_each(no_pairs);
        }
        serde_json::Value::Object(fields) => fields.values().for_each(no_pairs),
        _ => {}
    }
}

/// A bundled model.
fn bundled() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/wearer01.tflite")).unwrap()
}

/// An .npy file of version 1.0.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend(data);
    bytes
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Input 1x4x4x2, a convolution, a dense layer with this fused activation in the schema's numbers: two logits.
fn small_model(activation: i8) -> Vec<u8> {
    let mut model = Model::small();
    model.operators.truncate(3);
    model.operators[0].set(field::conv_2d::DILATION_W, Value::I32(1));
    model.operators[2].set(field::fully_connected::ACTIVATION, Value::I8(activation));
    model.tensors[5].zero_points = vec![0];
    model.outputs = vec![6];
    model.bytes()
}
