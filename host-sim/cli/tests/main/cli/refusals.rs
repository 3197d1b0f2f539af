//! Every refusal names the file, what was expected and what was found, on standard error, and nothing is
//! written: exit code 1 for what lies in files, 2 for what lies in the arguments.

use super::{Folder, Model, bundled, floats, npy, small_model};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_empty, starts_with};

/// Runs `arguments` in `folder` and expects code 1, and every text of `expected` in the message.
fn refused(folder: &Folder, arguments: &str, expected: &[&str]) {
    let before = folder.files();
    let mut assert = folder.run(arguments).code(1).stdout(is_empty()).stderr(starts_with("flatmin: "));
    for &text in expected {
        assert = assert.stderr(contains(text));
    }
    assert.stderr(contains("panicked").not());
    assert_eq!(folder.files(), before, "{arguments}");
}

/// The same for what clap refuses.
fn misused(arguments: &str, expected: &[&str]) {
    let mut assert = Folder::new().run(arguments).code(2).stdout(is_empty());
    for &text in expected {
        assert = assert.stderr(contains(text));
    }
}

#[test]
fn models() {
    let folder = Folder::new();
    let whole = bundled();
    folder.write("empty.tflite", "");
    folder.write("text.tflite", "This is not a model, but a text.");
    folder.write("short.tflite", &whole[..whole.len() / 2]);
    folder.write("strange.tflite", Model::small().bytes());
    folder.write("x.npy", npy("|i1", "(1, 100, 6)", &[0; 600]));
    folder.write("y.npy", npy("|i1", "(1,)", &[0]));
    for command in
        ["inspect", "pack -o out.pack", "run --input x.npy --output out.npy", "tune --data x.npy y.npy"]
    {
        // The model follows the command's name.
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let with = |model: &str| format!("{name} {model} {rest}");
        refused(&folder, &with("none.tflite"), &["none.tflite", "No such file"]);
        refused(
            &folder,
            &with("empty.tflite"),
            &["empty.tflite: ", "not a TensorFlow Lite model: 0 bytes, the header alone has 8"],
        );
        refused(&folder, &with("text.tflite"), &["text.tflite: ", "identifier ` is ` instead of `TFL3`"]);
        refused(&folder, &with("short.tflite"), &["short.tflite: truncated: ", "the file has"]);
        // All of them at once.
        refused(
            &folder,
            &with("strange.tflite"),
            &["strange.tflite: 4 unsupported operator(s):", "SQUARE", "Wavelet"],
        );
    }
}

#[test]
fn inputs_to_run() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    let mut values = vec![0.5; 600];
    values[599] = f32::NAN;
    for (bytes, expected) in [
        (npy("|i1", "(2, 100, 5)", &[0; 1000]), "shape [2, 100, 5], expected N samples of [100, 1, 6]"),
        (npy("|i1", "(600,)", &[0; 600]), "shape [600], expected N samples of [100, 1, 6]"),
        (npy("<f4", "(1, 100, 6)", &floats(values)), "sample 0: value 599 is NaN, expected a finite number"),
        (npy("<c8", "(1, 100, 6)", &[0; 4800]), "element type `c8`, expected int8"),
        (npy("|i1", "(2, 100, 6)", &[0; 600]), "600 bytes of data, its shape and type ask for 1200"),
        (npy("|i1", "(0, 100, 6)", &[]), "no samples"),
        (Vec::new(), "not an .npy file"),
    ] {
        folder.write("x.npy", bytes);
        refused(&folder, "run m.tflite --input x.npy --output out.npy", &["x.npy: ", expected]);
    }
    refused(&folder, "run m.tflite --input none.npy --output out.npy", &["none.npy: ", "No such file"]);
}

#[test]
fn the_closed_form_elsewhere() {
    let folder = Folder::new();
    refused(
        &folder,
        "add-class --leave-out 2 --method closed-form",
        &["--method closed-form is for `flatmin tune`, `export`, `emulate` and `device tune`"],
    );
    for command in ["tune", "emulate"] {
        let refusal = &["an integer tail of fully connected layers alone has no head in closed form"];
        refused(&folder, &format!("{command} --method closed-form --compact"), refusal);
    }
    folder.write("m.tflite", small_model(0));
    folder.write("x.npy", npy("|i1", "(2, 4, 4, 2)", &[1; 64]));
    folder.write("y.npy", npy("|i1", "(2,)", &[1, 1]));
    refused(
        &folder,
        "pack m.tflite -o m.pack --calibration x.npy y.npy",
        &["samples of each of the model's 2 classes"],
    );
}

#[test]
fn labelled_data() {
    let folder = Folder::new();
    folder.write("m.tflite", small_model(0));
    let tune = "tune m.tflite --data x.npy y.npy";
    folder.write("x.npy", npy("|i1", "(4, 4, 4, 2)", &[1; 128]));
    for (bytes, expected) in [
        (npy("|i1", "(4,)", &[0, 1, 2, 1]), "sample 2: label `2`, expected a whole number from 0 to 1"),
        (npy("|i1", "(4,)", &[0, 255, 1, 1]), "sample 1: label `-1`, expected a whole number from 0 to 1"),
        (npy("|i1", "(3,)", &[0, 1, 1]), "3 labels for the 4 samples of x.npy"),
        (npy("<f4", "(4,)", &floats([0.0, 0.5, 1.0, 0.0])), "sample 1: label `0.5`, expected a whole number"),
        (npy("|i1", "(4, 3)", &[0; 12]), "shape [4, 3], expected [N]"),
    ] {
        folder.write("y.npy", bytes);
        refused(&folder, tune, &["y.npy: ", expected]);
    }
    folder.write("y.npy", npy("|i1", "(4,)", &[0, 1, 0, 1]));
    let mut values = vec![0.5; 128];
    values[33] = f32::NAN;
    folder.write("nan.npy", npy("<f4", "(4, 4, 4, 2)", &floats(values)));
    refused(&folder, "tune m.tflite --data nan.npy y.npy", &["nan.npy: sample 1: value 1 is NaN"]);
    folder.write("wide.npy", npy("|i1", "(4, 4, 4, 3)", &[0; 192]));
    refused(
        &folder,
        "tune m.tflite --data wide.npy y.npy",
        &["wide.npy: shape [4, 4, 4, 3], expected N samples of [4, 4, 2]"],
    );
    refused(
        &folder,
        "tune m.tflite --data x.npy",
        &["x.npy: labels are needed, too: --data X.npy Y.npy (or --loss mse)"],
    );
    refused(&folder, "tune m.tflite --data x.npy none.npy", &["none.npy: ", "No such file"]);
    // One sample of each class: none is left to test on.
    folder.write("two.npy", npy("|i1", "(2, 4, 4, 2)", &[1; 64]));
    folder.write("one_each.npy", npy("|i1", "(2,)", &[0, 1]));
    refused(
        &folder,
        "tune m.tflite --data two.npy one_each.npy",
        &["m.tflite: two samples of a class at least are needed"],
    );
}

#[test]
fn tables() {
    let folder = Folder::new();
    folder.write("m.tflite", small_model(0));
    let row = |label: &str, values: usize, last: &str| {
        let mut cells = vec![label.to_owned()];
        cells.extend((1..values).map(|i| i.to_string()));
        cells.push(last.to_owned());
        cells.join(",") + "\n"
    };
    let good = row("0", 32, "0.5");
    for (text, expected) in [
        (good.clone() + &row("1", 32, "x5"), "line 2: value 31 is `x5`, expected a number"),
        (good.clone() + &good + &row("1", 31, "0.5"), "line 3: 32 columns separated by `,`, expected 33"),
        (row("1", 32, "NaN"), "line 1: value 31 is NaN, expected a finite number"),
        (row("2", 32, "1"), "line 1: label `2`, expected a whole number from 0 to 1"),
        (String::new(), "no samples"),
    ] {
        folder.write("x.csv", text);
        refused(&folder, "tune m.tflite --data x.csv", &["x.csv: ", expected]);
    }
    let gap = good.clone() + &good + &row("1", 32, "0.5") + &row("3", 32, "1") + &row("3", 32, "2");
    folder.write("x.csv", gap);
    // After what was found in the file.
    refused_with_progress(
        &folder,
        "tune m.tflite --data x.csv --spare-classes 2",
        &["samples of class 3, but fewer than two of class 2", "added in order"],
    );
    refused(&folder, "tune m.tflite --data none.csv", &["none.csv: ", "No such file"]);
}

#[test]
fn layers() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    folder.write("x.npy", npy("|i1", "(2, 100, 6)", &[0; 1200]));
    folder.write("y.npy", npy("|i1", "(2,)", &[0, 0]));
    let too_deep = "cannot train the last 8 layer(s): the network ends in 7 trainable layer(s)";
    refused(&folder, "pack m.tflite --layers 8 -o out.pack", &["m.tflite: ", too_deep]);
    refused(&folder, "tune m.tflite --layers 8 --data x.npy y.npy", &["m.tflite: ", too_deep]);
    refused(&folder, "tune --layers 8", &["wearer 1: ", too_deep]);
    refused(
        &folder,
        "pack m.tflite --layers 2 --train nothing,nothing -o out.pack",
        &["m.tflite: ", "cannot train nothing"],
    );
    refused(&folder, "plan --ram 1K --layers 1 --epochs 1", &["the cheapest takes ", " bytes of RAM"]);
    misused("plan --ram 64K --train all", &["unexpected argument '--train'"]);
    misused("plan --ram 64X", &["'64X' for '--ram", "such as 65536 or 64K"]);
    refused(&folder, "tune --layers 1 --train all,all", &["--train names 2 layers, the tail has 1"]);
    misused("tune --train some", &["'some' for '--train", "must be all, biases, scales, nothing"]);
    misused("tune --layers 0", &["'--layers <LAYERS>'", "0 is not in 1.."]);

    // The loss differentiates bare outputs; the schema's 1, 2 and 3 are ReLU, ReLU_N1_TO_1 and ReLU6.
    folder.write("x.npy", npy("|i1", "(2, 4, 4, 2)", &[0; 64]));
    for activation in [1, 2, 3] {
        folder.write("active.tflite", small_model(activation));
        let expected = ["active.tflite: ", "operator 2: ", "activation", "bare outputs"];
        refused(&folder, "pack active.tflite --layers 1 -o out.pack", &expected);
        refused(&folder, "pack active.tflite -o out.pack", &expected);
        refused(&folder, "tune active.tflite --data x.npy y.npy", &expected);
        // Inference alone is no matter.
        folder.run("run active.tflite --input x.npy --output z.npy").success();
    }
}

#[test]
fn hyperparameters() {
    misused("tune --rho=-0.1", &["'-0.1' for '--rho <RHO>'", "must be 0 or more, and finite"]);
    misused("tune --rho -0.1", &["'-0.1' for '--rho <RHO>'", "must be 0 or more, and finite"]);
    misused("tune --rho NaN", &["'NaN' for '--rho <RHO>'", "must be 0 or more, and finite"]);
    misused("tune --learning-rate -1", &["'-1' for '--learning-rate", "must be 0 or more, and finite"]);
    misused("tune --weight-decay inf", &["'inf' for '--weight-decay", "must be 0 or more, and finite"]);
    misused("tune --epochs 0", &["'0' for '--epochs <EPOCHS>'", "0 is not in 1.."]);
    misused("tune --sharpness-batch 0", &["'--sharpness-batch", "0 is not in 1.."]);
    misused("tune --label-noise 1.5", &["'1.5' for '--label-noise", "must be from 0 to 1"]);
    misused("tune --label-noise -0.5", &["'-0.5' for '--label-noise", "must be from 0 to 1"]);
    misused("tune --wearer 11", &["'11' for '--wearer <WEARER>'", "11 is not in 1..=10"]);
    misused("tune --wearer 0", &["'0' for '--wearer <WEARER>'", "0 is not in 1..=10"]);
    misused("tune --method adam", &["'adam' for '--method", "possible values: sgd, sam, asam"]);
    let folder = Folder::new();
    refused(&folder, "tune --rho 1e4", &["wearer 1: recipe: rho is 10000, must be from 0 to 1000"]);
    refused(
        &folder,
        "tune --learning-rate 4 --weight-decay 0.5",
        &["recipe: learning_rate * weight_decay is 2, must be from 0 to"],
    );
    refused(&folder, "tune --spare-classes 1", &["no further class", "flatmin add-class"]);
    misused("plan --ram 64K --spare-classes 1", &["unexpected argument '--spare-classes'"]);
    misused("tune --spare-classes 1 --compact", &["'--spare-classes <N>' cannot be used with '--integer'"]);
    let requested = "25 adaptation windows of class 0 requested, 10 available";
    refused(&folder, "tune --wearer 3 --windows-per-class 25", &["wearer 3", requested]);
}

#[test]
fn arguments() {
    misused("run m.tflite --output y.npy", &["--input <INPUT>"]);
    misused("pack m.tflite", &["--output <OUTPUT>"]);
    misused("tune m.tflite", &["--data"]);
    misused("tune --data x.npy y.npy", &["<MODEL>"]);
    misused("tune m.tflite --data x.npy y.npy --wearer 3", &["cannot be used with '--wearer <WEARER>'"]);
    misused("--seed 3 tune", &["subcommand 'tune' cannot be used with '--seed <SEED>'"]);
    misused("flash", &["flash"]);
}

#[test]
fn boards() {
    refused(&Folder::new(), "emulate --board mps2-an999", &["no board `mps2-an999`", "mps2-an386"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    folder.write("x.npy", npy("|i1", "(1, 100, 6)", &[0; 600]));
    refused(
        &folder,
        "run m.tflite --input x.npy --output none/y.npy",
        &["none/y.npy: ", "there is no folder none"],
    );
    refused(
        &folder,
        "pack m.tflite -o none/m.pack",
        &["cannot write none/m.pack", "there is no folder none"],
    );
    refused(&folder, "pack m.tflite -o out.rs", &["out.rs: the pack would be overwritten by its Rust file"]);
    let report = "tune --method sgd --epochs 1 --report none/report.html";
    refused_with_progress(&folder, report, &["cannot write none/report.html", "there is no folder none"]);
}

/// The factory's model is often the only one there is.
#[test]
fn outputs_over_inputs() {
    let folder = Folder::new();
    let [model, samples, labels] =
        [bundled(), npy("|i1", "(2, 100, 6)", &[0; 1200]), npy("|i1", "(2,)", &[0, 0])];
    folder.write("m.tflite", &model);
    folder.write("x.npy", &samples);
    folder.write("y.npy", &labels);
    let export = "export m.tflite --data x.npy y.npy --epochs 1";
    for (arguments, name) in [
        (format!("{export} -o ./m.tflite"), "./m.tflite"),
        (format!("{export} -o x.npy"), "x.npy"),
        (format!("{export} -o t.tflite --delta m.tflite"), "m.tflite"),
        ("pack m.tflite -o m.tflite".to_owned(), "m.tflite"),
        ("run m.tflite --input x.npy --output x.npy".to_owned(), "x.npy"),
        ("run m.tflite --input x.npy --output m.tflite".to_owned(), "m.tflite"),
    ] {
        refused(&folder, &arguments, &[name, "is read, and would be overwritten"]);
    }
    refused(&folder, &format!("{export} -o t --delta t"), &["t: --output and --delta are one file"]);
    misused("export -o t.tflite --report r.html", &["unexpected argument '--report'"]);
    for (name, bytes) in [("m.tflite", model), ("x.npy", samples), ("y.npy", labels)] {
        assert_eq!(std::fs::read(folder.path(name)).unwrap(), bytes, "{name}");
    }
}

/// The same where progress is drawn on standard error first.
fn refused_with_progress(folder: &Folder, arguments: &str, expected: &[&str]) {
    let mut assert = folder.run(arguments).code(1).stdout(is_empty()).stderr(contains("flatmin: "));
    for &text in expected {
        assert = assert.stderr(contains(text));
    }
}

/// A full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    use super::Path;
    let full = Path::new("/dev/full");
    let folder = Folder::new();
    folder.write("m.tflite", bundled());
    folder.write("x.npy", npy("|i1", "(1, 100, 6)", &[0; 600]));
    let no_space = "No space left on device";
    refused(&folder, "run m.tflite --input x.npy --output /dev/full", &["/dev/full: ", no_space]);
    refused(&folder, "pack m.tflite -o /dev/full", &["cannot write /dev/full", no_space]);
    let report = "tune --method sgd --epochs 1 --report /dev/full";
    refused_with_progress(&folder, report, &["cannot write /dev/full", no_space]);
    assert!(!full.metadata().unwrap().is_file(), "the device was replaced");

    let stdout = std::fs::File::options().write(true).open(full).unwrap();
    let binary = assert_cmd::cargo::cargo_bin("flatmin");
    let output = std::process::Command::new(binary)
        .args(["inspect", "m.tflite"])
        .current_dir(folder.path(""))
        .stdout(stdout)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("cannot write to standard output") && message.contains(no_space), "{message}");
}
