//! Replays what fuzzing found, and damages good files in a fixed pseudo-random way: whatever the bytes, a result
//! or an error. See `host-sim/fuzz/README.md` for the coverage-guided runs.

use flatmin_model::fuzzing;
use flatmin_model::model::Model;
use std::path::{Path, PathBuf};

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn open(file: &str) -> Model {
    Model::open(&path(file)).unwrap()
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = path(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    paths.sort();
    paths
}

/// xorshift64 (Marsaglia 2003): fixed damage.
struct Damage(u64);

impl Damage {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit.max(1)
    }

    /// One to four bytes or words of `bytes` replaced, or the end cut off.
    fn apply(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        if self.below(16) == 0 {
            damaged.truncate(self.below(bytes.len()));
            return damaged;
        }
        for _ in 0..=self.below(4) {
            let at = self.below(damaged.len());
            let interesting = [0, 1, 2, 3, 0x7f, 0x80, 0xff, self.below(256) as u8];
            damaged[at] = interesting[self.below(8)];
        }
        damaged
    }
}

#[test]
fn found_by_fuzzing() {
    for path in files("fuzz/regressions", "tflite") {
        fuzzing::tflite(&std::fs::read(path).unwrap());
    }
    for path in files("fuzz/regressions", "onnx") {
        fuzzing::onnx(&std::fs::read(path).unwrap());
    }
    for path in files("fuzz/regressions", "pack") {
        fuzzing::pack(&std::fs::read(path).unwrap());
    }
}

#[test]
fn damaged_packs_are_refused_or_run() {
    let models = ["models/wearer01.tflite", "sim/tests/golden/streaming.tflite"].map(open);
    let mut damage = Damage(1);
    let packs = [(&models[0], 0), (&models[0], 1), (&models[0], 2), (&models[1], 0), (&models[1], 1)];
    for (model, layers) in packs {
        let pack = model.pack(layers).unwrap().bytes().to_vec();
        // The records lie in the front of a pack: damage there is what validation must catch.
        for round in 0..1_500 {
            let mut damaged = pack.clone();
            let front = if round % 4 == 0 { pack.len() } else { pack.len().min(1_500) };
            let changed = damage.apply(&pack[..front]);
            damaged.splice(..front, changed);
            fuzzing::pack(&damaged);
        }
    }
}

#[test]
fn damaged_models_are_refused_or_run() {
    let mut damage = Damage(2);
    for model in ["models/wearer01.tflite", "sim/tests/golden/streaming.tflite"] {
        let model = std::fs::read(path(model)).unwrap();
        for _ in 0..300 {
            fuzzing::tflite(&damage.apply(&model));
        }
    }
}

#[test]
fn damaged_onnx_models_are_refused_or_run() {
    let mut damage = Damage(3);
    for path in files("sim/tests/onnx/golden", "onnx") {
        let model = std::fs::read(path).unwrap();
        for _ in 0..30 {
            fuzzing::onnx(&damage.apply(&model));
        }
    }
}
