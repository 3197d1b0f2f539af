//! The binary where `cargo install` puts it: away from the checkout, whose files it must not need.

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty};
use std::path::Path;

/// A copy of the binary in a folder with nothing else around it.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(assert_cmd::cargo::cargo_bin("flatmin"), program(folder.path())).unwrap();
    let around = |folder: &Path| folder.join("boards/firmware").exists();
    assert!(!folder.path().ancestors().any(around), "the temporary folder lies in a checkout");
    folder
}

fn program(folder: &Path) -> std::path::PathBuf {
    folder.join("flatmin").with_extension(std::env::consts::EXE_EXTENSION)
}

fn run(folder: &Path, arguments: &str) -> Assert {
    let mut command = Command::new(program(folder));
    // No other program is found either.
    command.env_remove("FLATMIN_SOURCES").env("PATH", folder).current_dir(folder);
    command.args(arguments.split_whitespace()).assert()
}

#[test]
fn an_installed_binary_tunes_the_bundled_models() {
    let folder = installed();
    let here = run(folder.path(), "tune --wearer 3 --epochs 2 --method sam --json").success();
    let mut command = Command::cargo_bin("flatmin").unwrap();
    let there = command.args(["tune", "--wearer", "3", "--epochs", "2", "--method", "sam", "--json"]);
    assert_eq!(here.get_output().stdout, there.assert().success().get_output().stdout);
    run(folder.path(), "export --wearer 2 --epochs 1 --method sgd -o tuned.tflite").success();
    run(folder.path(), "inspect tuned.tflite").success().stdout(contains("MACs"));
}

#[test]
fn commands_that_need_the_sources_say_so_by_name() {
    let folder = installed();
    let board = "new-board mine --chip nRF52840_xxAA --flash 0x0:1M --ram 0x20000000:256K --folder .";
    for (command, arguments) in [
        ("emulate", "emulate --board mps2-an386 --method sgd --epochs 1"),
        ("device --qemu", "device --qemu riscv32-virt info"),
        ("new-board", board),
    ] {
        let refused = run(folder.path(), arguments).code(1).stdout(is_empty());
        let by_name = contains(format!("`flatmin {command}`"));
        refused.stderr(by_name.and(contains("needs flatmin's sources")).and(contains("FLATMIN_SOURCES")));
    }
    let refused = run(folder.path(), "bench --board host").code(1).stdout(is_empty());
    refused.stderr(contains("`bench` is the program flatmin-lab, which is not here"));
}
