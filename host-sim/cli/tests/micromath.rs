//! Whole tunings with the feature `micromath`, against those of a `flatmin` without it: `FLATMIN_LIBM` names
//! that binary (`tests/run` builds it), since one build has one of the two.
#![cfg(feature = "micromath")]

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What two points of accuracy are.
const TWO_POINTS: f64 = 0.02;

fn main_job(binary: &Path) -> Value {
    let output =
        Command::new(binary).args(["--json", "--label-noise", "0.2", "--layers", "2"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn tuning_ends_within_two_points_of_libms() {
    let libm = std::env::var_os("FLATMIN_LIBM")
        .expect("FLATMIN_LIBM names a flatmin that was built without features, as tests/run does");
    let approximate = main_job(&assert_cmd::cargo::cargo_bin("flatmin"));
    let exact = main_job(Path::new(&libm));
    assert_eq!(approximate["factory_accuracy"], exact["factory_accuracy"], "int8 inference has no exp");
    let runs = |object: &Value| object["runs"].as_array().unwrap().clone();
    assert_eq!(runs(&exact).len(), 4, "the closed form, SGD, SAM and ASAM");
    for (approximate, exact) in runs(&approximate).iter().zip(runs(&exact)) {
        assert_eq!(approximate["method"], exact["method"]);
        for field in ["accuracy_f32", "accuracy_int8"] {
            let [found, expected] = [approximate, &exact].map(|run| run[field].as_f64().unwrap());
            println!("{} {field}: {found:.4}, with libm {expected:.4}", exact["method"]);
            assert!(
                (found - expected).abs() <= TWO_POINTS,
                "{} {field}: {found} {expected}",
                exact["method"]
            );
        }
        // The closed form rounds what it makes of `exp` to 1/128.
        if exact["method"] == "closed-form" {
            continue;
        }
        // The bits differ, or the feature switches nothing.
        let crcs = |run: &Value| -> Vec<u64> {
            let subjects = run["subjects"].as_array().unwrap();
            subjects.iter().map(|subject| subject["weights_crc32"].as_u64().unwrap()).collect()
        };
        let (found, expected) = (crcs(approximate), crcs(&exact));
        assert_eq!(found.len(), 10);
        assert!(found.iter().zip(&expected).all(|(a, b)| a != b), "{found:?} {expected:?}");
    }
}
