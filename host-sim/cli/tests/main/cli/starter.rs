//! boards/starter, the firmware that one's own begins with: it builds from `model.tflite` and `recipe.toml`, ends with the
//! desktop's weights, and does not build where the recipe's RAM does not suffice.

use super::{Folder, npy};
use crate::skipping::{emulating, slowly};
use flatmin_link::firmware::toolchain;
use flatmin_sim::subject::Subject;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

const TARGET: &str = "thumbv7em-none-eabihf";

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../boards/starter").canonicalize().unwrap()
}

/// Cargo in a folder, as a user calls it.
fn cargo(folder: &Path, arguments: &[&str]) -> Output {
    let mut cargo = Command::new("cargo");
    cargo.args(toolchain(TARGET).unwrap()).args(arguments).current_dir(folder);
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTC"] {
        cargo.env_remove(variable);
    }
    let built = starter().join("../../target/firmware");
    cargo.env("CARGO_TARGET_DIR", built).output().unwrap()
}

fn number_after(text: &str, word: &str) -> u64 {
    let rest = text.split(word).nth(1).unwrap_or_else(|| panic!("no {word}: {text}"));
    rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Its samples are the windows that wearer 8 is tuned on. `FLATMIN_ACCEPT=1` writes them anew.
#[test]
fn the_starters_samples_are_recorded_ones() {
    let subject = Subject::wearer(8, 9, 0.0, 1).unwrap();
    let windows: Vec<u8> =
        subject.adaptation.iter().flat_map(|(x, _)| x).map(|x| x.cast_unsigned()).collect();
    let labels: Vec<u8> = subject.adaptation.iter().map(|(_, label)| u8::try_from(*label).unwrap()).collect();
    let count = labels.len();
    let files = [
        ("x.npy", npy("|i1", &format!("({count}, 100, 6)"), &windows)),
        ("y.npy", npy("|u1", &format!("({count},)"), &labels)),
    ];
    for (name, bytes) in files {
        let path = starter().join(name);
        if env::var_os("FLATMIN_ACCEPT").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{name} is not wearer 8's");
    }
}

/// The promise of its size, in lines of code that somebody has to read.
#[test]
fn the_starter_is_short() {
    let lines = |file: &str| fs::read_to_string(starter().join(file)).unwrap().lines().count();
    assert!(lines("build.rs") <= 10, "build.rs has {} lines", lines("build.rs"));
    assert!(lines("src/main.rs") <= 46, "src/main.rs has {} lines", lines("src/main.rs"));
}

#[test]
fn the_starter_ends_with_the_desktops_weights() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let ran = cargo(&starter(), &["run", "--release", "--locked"]);
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    // Tuned on all of the samples, as the device does: those to test on are given apart.
    let own = starter();
    let file = |name: &str| own.join(name).display().to_string();
    let (recipe, x, y) = (file("recipe.toml"), file("x.npy"), file("y.npy"));
    let desktop =
        Folder::new().json(&format!("tune --recipe {recipe} --data {x} {y} --test-data {x} {y} --json"));
    let run = &desktop["runs"][0];
    let crc32 = u32::try_from(run["weights_crc32"].as_u64().unwrap()).unwrap();
    assert!(said.contains(&format!("CRC-32 {crc32:#010x}")), "{crc32:#010x}: {said}");
    assert_eq!(run["accepted"], 1, "{run}");
    assert!(said.contains("accepted: true"), "{said}");
}

/// The starter's files elsewhere, with this budget of RAM and this replay.
fn elsewhere(folder: &Path, ram: usize, replay: usize) {
    for name in ["Cargo.toml", "Cargo.lock", "build.rs", "memory.x", "model.tflite", "recipe.toml"] {
        fs::copy(starter().join(name), folder.join(name)).unwrap();
    }
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::create_dir_all(folder.join(".cargo")).unwrap();
    for name in ["src/main.rs", "src/samples.rs", ".cargo/config.toml", "x.npy", "y.npy"] {
        fs::copy(starter().join(name), folder.join(name)).unwrap();
    }
    let root = starter().join("../..").canonicalize().unwrap();
    let edit = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(from), "{name}: {text}");
        fs::write(folder.join(name), text.replace(from, to)).unwrap();
    };
    edit("Cargo.toml", "\"../../host-sim/build\"", &format!("\"{}\"", root.join("host-sim/build").display()));
    edit("Cargo.toml", "\"../..\"", &format!("\"{}\"", root.display()));
    edit("recipe.toml", "ram = 262144", &format!("ram = {ram}"));
    edit("recipe.toml", "replay_capacity = 63", &format!("replay_capacity = {replay}"));
}

#[test]
fn a_firmware_that_takes_more_ram_than_its_recipe_allows_does_not_build_and_says_what_would() {
    if !slowly("firmware that does not fit") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let build = |replay| {
        elsewhere(folder.path(), 140_000, replay);
        let output = cargo(folder.path(), &["build", "--release"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (built, said) = build(63);
    assert!(!built, "{said}");
    let line =
        said.lines().find(|line| line.starts_with("error: starter@")).unwrap_or_else(|| panic!("{said}"));
    let told =
        ["recipe.toml: the budget is 140000 bytes of RAM, a firmware with this recipe takes", "weights"];
    for words in told.into_iter().chain(["stack 10240", "replay_capacity = "]) {
        assert!(line.contains(words), "no \"{words}\": {line}");
    }
    assert!(!said.contains("panicked"), "{said}");
    // What it says is so: this many samples fit, one more does not.
    let fits = number_after(line, "replay_capacity =") as usize;
    let (built, said) = build(fits);
    assert!(built, "{fits} samples: {said}");
    let (built, said) = build(fits + 1);
    assert!(!built, "{} samples: {said}", fits + 1);
}
