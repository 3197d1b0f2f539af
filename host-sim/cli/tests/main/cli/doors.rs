//! What is asked of the machine and told to shells: the doctor, completions, the manual page.

use super::Folder;
use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty};
use serde_json::Value;

/// The doctor's findings where no programs but these are there, each a script that says its version.
#[cfg(unix)]
fn doctor(tools: &[(&str, &str)], arguments: &str) -> (bool, Value) {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    for (name, answer) in tools {
        folder.write(name, format!("#!/bin/sh\necho '{answer}'\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(name), mode).unwrap();
    }
    let mut command = Command::cargo_bin("flatmin").unwrap();
    command.env("PATH", folder.path("")).env("FLATMIN_SOURCES", folder.path("none"));
    let output = command.args(["doctor", "--json"]).args(arguments.split_whitespace()).output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap())
}

#[cfg(unix)]
fn finding<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer["findings"].as_array().unwrap().iter().find(|own| own["name"] == name).unwrap()
}

#[cfg(unix)]
#[test]
fn the_doctor_finds_what_is_there_and_tells_how_to_get_the_rest() {
    let tools = [
        ("python3", "Python 3.12.1"),
        ("qemu-system-arm", "QEMU emulator version 8.2.0"),
        ("rustc", "rustc 1.95.0"),
    ];
    let (well, answer) = doctor(&tools, "");
    assert!(well, "nothing is asked for, so nothing is needed");
    assert_eq!(finding(&answer, "Python")["state"], "found");
    assert_eq!(finding(&answer, "Python")["found"], "3.12.1");
    assert_eq!(finding(&answer, "QEMU for Arm")["state"], "old");
    assert_eq!(finding(&answer, "probe-rs")["state"], "missing");
    for own in answer["findings"].as_array().unwrap() {
        let remedy = own["remedy"].as_str();
        assert_eq!(remedy.is_none(), own["state"] == "found", "{own}");
    }
    for (purpose, ready) in [("python", true), ("emulate", false), ("device", false), ("c", false)] {
        let (well, answer) = doctor(&tools, &format!("--for {purpose}"));
        assert_eq!((well, &answer["missing"]), (ready, &Value::from(!ready)), "{purpose}: {answer}");
        let all_asked = |own: &Value| own["needed_for"].as_array().unwrap().contains(&purpose.into());
        assert!(answer["findings"].as_array().unwrap().iter().all(all_asked), "{answer}");
    }
    let (well, _) = doctor(&[("rustc", "rustc 1.95.0")], "--for python");
    assert!(!well, "Python itself");
}

#[test]
fn the_doctor_has_a_last_line() {
    let folder = Folder::new();
    let verdict = contains(" ready: ").or(contains(" not yet: "));
    folder.run("doctor").success().stdout(contains("Rust compiler").and(verdict)).stderr(is_empty());
    folder.run("doctor --for nothing").code(2);
}

#[test]
fn shells_and_man_know_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        folder
            .run(&format!("completions {shell}"))
            .success()
            .stdout(contains("doctor").and(contains("new-board")).and(contains("learning-rate")));
    }
    folder.run("man").success().stdout(contains(".TH flatmin 1").and(contains("tune")));
    folder.run("man tune").success().stdout(contains("flatmin tune").and(contains("\\-\\-epochs")));
    folder.run("man device classify").success().stdout(contains("Classify"));
    folder.run("man fly").code(1).stderr(contains("no command `fly`; there are tune, "));
}
