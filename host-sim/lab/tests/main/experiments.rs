//! `flatmin experiment --quick`: directions, not digits; and that results are resumed, sharded and merged.

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Standard output of `flatmin experiment ARGUMENTS --quick --json --output FOLDER`.
fn experiment(arguments: &str, folder: &Path) -> Value {
    let mut command = Command::cargo_bin("flatmin-lab").unwrap();
    command.arg("experiment").args(arguments.split_whitespace()).args(["--quick", "--json", "--output"]);
    let output = command.arg(folder).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

fn lines(folder: &Path) -> usize {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let results = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    results.map(|path| fs::read_to_string(path).unwrap().lines().count()).sum()
}

/// Mean of a row's value.
fn value(result: &Value, experiment: &str, wanted: &[(&str, Value)]) -> f64 {
    let rows = result["experiments"][experiment].as_array().unwrap();
    let row = rows.iter().find(|row| wanted.iter().all(|(field, value)| row[*field] == *value));
    row.unwrap_or_else(|| panic!("no row {wanted:?}"))["value"]["wearers"]["mean"].as_f64().unwrap()
}

#[test]
fn a_high_learning_rate_is_what_wrong_labels_do_harm_with_and_sam_softens_it() {
    let folder = tempfile::tempdir().unwrap();
    let result = experiment("learning-rate", folder.path());
    let at = |method: &str, rate: &str| {
        let wanted = [("method", method.into()), ("variable", rate.into()), ("noise", 40.into())];
        value(&result, "learning-rate", &wanted)
    };
    // 40 % flipped: a small step adapts, a large one learns the wrong labels. The distance is some ten points.
    assert!(at("SGD", "lr 0.001") > at("SGD", "lr 0.02") + 3.0);
    assert!(at("ASAM, m = 1", "lr 0.02") > at("SGD", "lr 0.02"));
}

#[test]
fn results_are_resumed_and_shards_merge_to_the_same() {
    let whole = tempfile::tempdir().unwrap();
    let expected = experiment("last-layer", whole.path());
    let count = lines(whole.path());
    assert!(count > 0);
    for file in ["last-layer.csv", "last-layer.json"] {
        assert!(whole.path().join(file).exists(), "{file}");
    }

    // Nothing twice.
    assert_eq!(experiment("last-layer", whole.path()), expected);
    assert_eq!(lines(whole.path()), count);

    // A line that an interruption cut off is computed again, the others are not.
    let path = whole.path().join("results.jsonl");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    assert_eq!(experiment("last-layer", whole.path()), expected);
    assert_eq!(lines(whole.path()), count);

    // Choices first, then results; no shard does another's part.
    let parts = tempfile::tempdir().unwrap();
    let first = experiment("last-layer --shard 1/2", parts.path());
    assert!(first["missing_runs"].as_u64().unwrap() > 0);
    experiment("last-layer --shard 2/2", parts.path());
    experiment("last-layer --shard 1/2", parts.path());
    experiment("last-layer --shard 2/2", parts.path());
    assert_eq!(lines(parts.path()), count);
    assert_eq!(experiment("last-layer", parts.path()), expected);
    assert_eq!(lines(parts.path()), count);
}

#[test]
fn sam_ends_where_the_valley_is_flat() {
    let folder = tempfile::tempdir().unwrap();
    let result = experiment("trajectory", folder.path());
    let curvature = |method: &str| {
        let wanted = [("method", method.into()), ("variable", "10000 steps".into())];
        value(&result, "trajectory", &wanted)
    };
    // L = (1 + 5 x^2) y^2 / 2: 1 is the least curvature that the valley has.
    assert!(curvature("SGD") > 9.0);
    assert!((1.0..1.1).contains(&curvature("SAM, rho = 0.2")));
    let svg = fs::read_to_string(folder.path().join("evidence/trajectory.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("SAM"));
}

#[test]
fn optimizers_are_compared_at_the_same_work() {
    let folder = tempfile::tempdir().unwrap();
    let result = experiment("cost", folder.path());
    let rows = result["experiments"]["cost"].as_array().unwrap();
    let macs = |row: &Value| row["macs"].as_f64().unwrap();
    let sgd = rows.iter().find(|row| row["method"] == "SGD").unwrap();
    for wanted in ["AdamW", "SAM-ON, m = 1", "SAM, m = 16, every 4th step", "SAM, m = 1, warm-up"] {
        assert!(rows.iter().any(|row| row["method"] == wanted), "{wanted}");
    }
    for row in rows {
        // Half an epoch of two, of the dearest, is what rounding may leave.
        assert!((macs(row) / macs(sgd) - 1.0).abs() < 0.25, "{row}");
        // Epochs are those that the budget pays for.
        let epochs: f64 = (row["setting"].as_str().unwrap().split(", "))
            .find_map(|part| part.strip_suffix(" epochs")?.parse().ok())
            .unwrap();
        assert!(if row["method"] == "SAM, m = 16" { epochs < 4.0 } else { epochs >= 3.0 }, "{row}");
    }
}

#[test]
fn images_are_skipped_loudly_in_the_page_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("flatmin-lab").unwrap();
    command.args(["experiment", "images", "--quick", "--data-folder", "nowhere", "--output"]);
    let run = command.arg(folder.path()).assert().success();
    let run = run.stderr(predicates::str::contains("SKIPPED: JPEG images, ResNet-8"));
    run.stdout(predicates::str::contains("**SKIPPED: JPEG images, ResNet-8**"));
}

#[test]
fn what_is_not_there_is_skipped_loudly_and_the_bundled_task_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("flatmin-lab").unwrap();
    command.args(["experiment", "finetune", "--quick", "--json", "--data-folder", "nowhere", "--output"]);
    let run = command.arg(folder.path()).assert().success();
    let run =
        run.stderr(predicates::str::contains("SKIPPED: gas sensors, months later: there is no nowhere"));
    let result: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    let rows = result["experiments"]["finetune"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["table"] == "new wearer, exercises"));
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("other.jsonl"), "{}\n").unwrap();
    let refused = |arguments: &str, message: &str| {
        let mut command = Command::cargo_bin("flatmin-lab").unwrap();
        command.current_dir(folder.path()).arg("experiment").args(arguments.split_whitespace());
        command.assert().failure().stderr(predicates::str::contains(message.to_owned()));
    };
    refused("noisy-labels --quick --output .", "other.jsonl, line 1");
    refused("noisy-labels --quick --shard 3/2", "I from 1 to N");
    refused("nothing", "noisy-labels");
    refused("finetune --quick", "--data-folder");
}
