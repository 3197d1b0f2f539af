//! What users bring: models and samples in the forms that they have, taken, or refused in one sentence.

use super::build::{Model, Tensor};
use super::{Folder, field, floats, npy};
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;

/// Input 1x4x4x2, a convolution, a dense layer without bias of so many outputs.
fn dense(outputs: usize) -> Model {
    let mut model = Model::small();
    model.operators.truncate(3);
    model.operators[0].set(field::conv_2d::DILATION_W, super::Value::I32(1));
    // In range for values up to 9: their sums differ, and nothing is clipped.
    model.tensors[1].scales = vec![0.001; 3];
    model.tensors[5].scales = vec![0.005];
    model.tensors[5].shape = vec![outputs as i32, 24];
    model.tensors[5].data = (0..24 * outputs).map(|i| ((37 * i) % 11) as u8).collect();
    model.tensors[5].zero_points = vec![0];
    model.tensors[6].shape = vec![1, outputs as i32];
    model.tensors[6].zero_points = vec![0];
    model.outputs = vec![6];
    model
}

/// So many samples of 32 values each, no two alike, those of odd samples larger.
fn inputs(count: usize) -> Vec<f32> {
    let value =
        |i: usize| (((i * 7919) ^ (i / 32)) % 13) as f32 / 10.0 + if i / 32 % 2 == 1 { 8.0 } else { 0.5 };
    (0..32 * count).map(value).collect()
}

fn x(folder: &Folder, name: &str, count: usize, factor: f32) {
    let values = inputs(count).into_iter().map(|value| factor * value);
    folder.write(name, npy("<f4", &format!("({count}, 4, 4, 2)"), &floats(values)));
}

fn refused(folder: &Folder, arguments: &str, expected: &str) {
    folder.run(arguments).code(1).stderr(contains(expected));
}

#[test]
fn one_output_is_a_choice_and_both_losses_work() {
    let folder = Folder::new();
    folder.write("m.tflite", dense(1).bytes());
    x(&folder, "x.npy", 40, 1.0);
    let labels: Vec<u8> = (0..40).map(|i| i % 2).collect();
    folder.write("y.npy", npy("|u1", "(40,)", &labels));
    for loss in ["", "--loss cross-entropy"] {
        let tune = format!("tune m.tflite --data x.npy y.npy --layers 1 {loss}");
        refused(&folder, &tune, "one output and no sigmoid: choose --loss bce");
    }
    let found =
        folder.json("tune m.tflite --data x.npy y.npy --layers 1 --loss bce --method sgd --learning-rate 0.02 --epochs 60 --json");
    assert!(found["runs"][0]["accuracy_f32"].as_f64().unwrap() > 0.9, "{found}");

    let targets = (0..40).map(|i| if i % 2 == 1 { 4.0 } else { 0.2 });
    folder.write("r.npy", npy("<f4", "(40, 1)", &floats(targets)));
    let mse =
        "m.tflite --data x.npy r.npy --layers 1 --loss mse --method sgd --learning-rate 0.0005 --epochs 60";
    let found = folder.json(&format!("tune {mse} --json"));
    let errors = &found["runs"][0]["subjects"][0]["anomalies"];
    let [before, after] = ["factory_error", "tuned_error"].map(|name| errors[name].as_f64().unwrap());
    assert!(after < 0.5 * before && after < 2.0, "{before} {after}");
    // The f32 loss is the same mean, but for the rounding of outputs: their step is 0.1.
    let loss = found["runs"][0]["loss"].as_f64().unwrap();
    assert!((loss - after).abs() < 0.1 * (1.0 + after), "{loss} {after}");
    folder.run(&format!("tune {mse}")).success().stdout(contains("squared error before"));
    refused(&folder, &format!("plan --ram 64K {mse}"), "`flatmin plan` takes no regressions yet");
    folder.write("r.npy", npy("<f4", "(40,)", &floats((0..40).map(|i| i as f32))));
    folder.run(&format!("tune {mse}")).stderr(contains("27 of 40 targets lie outside -12.8"));
}

#[test]
fn maps_of_cells_are_refused_by_name() {
    let folder = Folder::new();
    let mut map = dense(2);
    map.operators.truncate(1);
    map.outputs = vec![3];
    folder.write("m.tflite", map.bytes());
    x(&folder, "x.npy", 4, 1.0);
    folder.write("y.npy", npy("|i1", "(4,)", &[0, 1, 2, 1]));
    let map = "its output of 2x4x3 is a map of 8 cells with 3 classes each, as of FOMO or segmentation";
    refused(&folder, "tune m.tflite --data x.npy y.npy", map);
}

#[test]
fn what_stands_in_the_way_of_training_is_named() {
    let folder = Folder::new();
    x(&folder, "x.npy", 24, 1.0);
    folder.write("y.npy", npy("|i1", "(24,)", &[0, 1].repeat(12)));
    let tune = "tune m.tflite --data x.npy y.npy";
    let mut model = dense(2);
    model.outputs = vec![6, 3];
    folder.write("m.tflite", model.bytes());
    let two = "a tail has one output, the network has 2 (`logits`, `conv`)";
    refused(&folder, tune, two);
    folder
        .run("inspect m.tflite")
        .success()
        .stdout(contains(format!("nothing of this network can be tuned: {two}")));
    let found = folder.json("inspect m.tflite --json");
    assert!(found["obstacle"].as_str().unwrap().starts_with(two), "{found}");
    assert_eq!(found["outputs"].as_array().unwrap().len(), 2);
    let mut model = dense(2);
    let input = Tensor { name: "unused".into(), ..dense(2).tensors.swap_remove(0) };
    model.tensors.push(input);
    model.inputs.push(8);
    folder.write("m.tflite", model.bytes());
    refused(&folder, tune, "has one input, this one has 2 (`unused`, which no operator reads)");

    let mut wide = dense(2);
    wide.tensors[0].element = 7;
    folder.write("m.tflite", wide.bytes());
    refused(&folder, "inspect m.tflite", "int16 activations (16x8 quantization)");

    // Known before anything is tuned: no progress is drawn.
    folder.write("m.tflite", dense(2).bytes());
    let export = folder.run("export m.tflite --data x.npy y.npy --layers 1 -o out.tflite").code(1);
    let message = String::from_utf8(export.get_output().stderr.clone()).unwrap();
    assert!(message.starts_with("flatmin: m.tflite: operator 2: has no bias"), "{message}");
    let json = folder.run("export m.tflite --data x.npy y.npy --layers 1 -o out.tflite --json").code(1);
    let error: serde_json::Value = serde_json::from_slice(&json.get_output().stderr).unwrap();
    assert_eq!(
        error["causes"][0],
        "operator 2: has no bias, and a tuned layer has one: export the network with biases, or tune fewer layers"
    );
    let json = folder.run("tune --epochs none --json").code(2);
    let error: serde_json::Value = serde_json::from_slice(&json.get_output().stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("--epochs"), "{error}");
}

/// Converters of 2020 wrote the filter's axis into the biases.
#[test]
fn the_axis_of_a_vector_is_its_own() {
    let folder = Folder::new();
    x(&folder, "x.npy", 4, 1.0);
    let mut model = dense(2);
    model.tensors[2].scales = vec![0.1; 3];
    model.tensors[2].zero_points = vec![0; 3];
    for axis in [0, 3] {
        model.tensors[2].axis = axis;
        folder.write("m.tflite", model.bytes());
        folder.run(&format!("run m.tflite --input x.npy --output y{axis}.npy")).success();
    }
    assert_eq!(std::fs::read(folder.path("y0.npy")).unwrap(), std::fs::read(folder.path("y3.npy")).unwrap());
}

/// The label's column may be the last one: the message says how to name it.
#[test]
fn a_label_that_is_not_the_first_column_can_be_named() {
    let folder = Folder::new();
    folder.write("m.tflite", dense(2).bytes());
    let values = inputs(8);
    let row = |sample: usize| {
        let cells: Vec<String> = values[32 * sample..][..32].iter().map(f32::to_string).collect();
        format!("{},ann,{}\n", cells.join(","), ["rest", "lift"][sample % 2])
    };
    let heading: Vec<String> = (0..32).map(|i| format!("v{i}")).collect();
    let rows: String = (0..8).map(row).collect();
    folder.write("t.csv", format!("{},who,activity\n{rows}", heading.join(",")));
    folder.write("names.txt", "rest\nlift\n");
    let tune = "tune m.tflite --layers 1 --method sgd --epochs 2 --data t.csv --classes names.txt";
    refused(
        &folder,
        tune,
        "34 columns separated by `,`, expected 33: a label and the sample's values; name the label's column",
    );
    folder.run(&format!("{tune} --label-column activity --skip-column who")).success();
}

/// What `inspect` says of the input is what a sample's values are made int8 with.
#[test]
fn inspect_names_shape_and_scale_of_the_input() {
    let folder = Folder::new();
    folder.write("m.tflite", dense(2).bytes());
    let input = folder.json("inspect m.tflite --json")["inputs"][0].clone();
    let flatmin::Affine { scale, zero_point } = {
        let model = flatmin_model::model::Model::open(&folder.path("m.tflite")).unwrap();
        model.network.tensors[model.network.inputs[0].tensor].affine
    };
    assert_eq!((input["scale"].as_f64().unwrap() as f32, &input["zero_point"]), (scale, &zero_point.into()));
    assert_eq!(input["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product::<u64>(), 32);
    folder.run("inspect m.tflite").success().stdout(contains("input `").and(contains("output `logits`")));
}

/// A row of a table in which nothing is wrong and all is in vain: the numbers look fine, so a warning says why they are not.
#[test]
fn samples_that_prove_nothing_are_warned_of() {
    let folder = Folder::new();
    folder.write("m.tflite", dense(2).bytes());
    let tune = "tune m.tflite --layers 1 --method sgd --epochs 2 --data x.npy y.npy";
    let warned = |x: Vec<f32>, labels: &[u8]| {
        let count = labels.len();
        folder.write("x.npy", npy("<f4", &format!("({count}, 32)"), &floats(x)));
        folder.write("y.npy", npy("|u1", &format!("({count},)"), labels));
        let ran = folder.run(tune).success();
        String::from_utf8(ran.get_output().stderr.clone()).unwrap()
    };
    let labels: Vec<u8> = (0..24).map(|i| i % 2).collect();
    let sound = warned(inputs(24), &labels);
    assert!(!sound.contains("warning: "), "{sound}");
    assert!(sound.contains("24 samples, each sample's [32] values are taken as ["), "{sound}");
    let single = warned(inputs(24), &[1; 24]);
    assert!(single.contains("warning: all samples are of class 1: "), "{single}");
    let copied = warned([inputs(12), inputs(12)].concat(), &[&[0; 12][..], &[0; 12][..]].concat());
    assert!(copied.contains("12 of 12 test samples are copies of samples that are tuned on"), "{copied}");
    let few = warned(inputs(4), &labels[..4]);
    assert!(few.contains("warning: 2 test samples: of so few no accuracy can be told"), "{few}");
}

#[test]
fn how_samples_are_split_is_told() {
    let folder = Folder::new();
    folder.write("m.tflite", dense(2).bytes());
    let tune = "tune m.tflite --layers 1 --method sgd --epochs 2";
    let split = |arguments: &str| folder.json(&format!("{tune} {arguments} --json"))["split"].clone();
    x(&folder, "x.npy", 12, 1.0);
    let labels: Vec<u8> = (0..12).map(|i| i % 2).collect();
    folder.write("y.npy", npy("|u1", "(12,)", &labels));
    let halves = split("--data x.npy y.npy");
    assert_eq!(halves["how"], "first half of each class tuned, second tested");
    assert_eq!((&halves["tuned"]["least"], &halves["tested"]["most"]), (&6.into(), &6.into()));
    let text = folder.run(&format!("{tune} --data x.npy y.npy --report r.html")).success();
    let told = "6 samples tuned on, 6 tested: first half of each class tuned, second tested.";
    text.stdout(contains(told));
    assert!(std::fs::read_to_string(folder.path("r.html")).unwrap().contains(told));

    x(&folder, "tx.npy", 4, 1.0);
    folder.write("ty.npy", npy("|u1", "(4,)", &[0, 1, 0, 1]));
    let own = split("--data x.npy y.npy --test-data tx.npy ty.npy");
    assert_eq!((&own["tuned"]["least"], &own["tested"]["least"]), (&12.into(), &4.into()));
    folder.write("g.txt", "ann\nann\nann\nann\nbo\nbo\ncy\ncy\ncy\ncy\ncy\ncy\n");
    let groups = split("--data x.npy y.npy --groups g.txt");
    assert_eq!(
        (&groups["how"], &groups["tuned"]["least"]),
        (&"2 of 3 groups tuned, the others tested".into(), &6.into())
    );
    folder.write("short.txt", "ann\nbo\n");
    refused(&folder, &format!("{tune} --data x.npy y.npy --groups short.txt"), "2 groups for 12 samples");

    let row = |who: &str, label: &str, sample: usize| {
        let values = inputs(12)[32 * sample..][..32]
            .iter()
            .map(|v| v.to_string().replace('.', ","))
            .collect::<Vec<_>>();
        format!("0,02;{};{label};{who}\n", values.join(";"))
    };
    let heading: Vec<String> = (0..32).map(|i| format!("v{i}")).collect();
    let mut table = format!("time;{};label;who\n", heading.join(";"));
    for sample in 0..12 {
        table += &row(["ann", "bo", "cy"][sample / 4], ["rest", "lift"][sample % 2], sample);
    }
    folder.write("t.csv", &table);
    let arguments = "--data t.csv --skip-column time --label-column label --groups who";
    refused(&folder, &format!("{tune} {arguments}"), "the names found here are: lift, rest");
    folder.write("names.txt", "rest\nlift\n");
    let named = format!("{tune} {arguments} --classes names.txt");
    folder
        .run(&named)
        .success()
        .stderr(contains("12 samples, columns separated by `;`, decimal commas, with headings"));
    assert_eq!(folder.json(&format!("{named} --json"))["split"]["tuned"]["least"], 4);
}

#[test]
fn values_out_of_range_and_rare_classes_are_warned_of() {
    let folder = Folder::new();
    folder.write("m.tflite", dense(2).bytes());
    x(&folder, "x.npy", 42, 1.0);
    x(&folder, "far.npy", 42, 2000.0);
    let even: Vec<u8> = (0..42).map(|i| i % 2).collect();
    folder.write("y.npy", npy("|u1", "(42,)", &even));
    let tune = "tune m.tflite --layers 1 --method sgd --epochs 3 --json";
    assert_eq!(folder.json(&format!("{tune} --data x.npy y.npy"))["warnings"], serde_json::Value::Null);
    let far = folder.json(&format!("{tune} --data far.npy y.npy"));
    let warning = far["warnings"][0].as_str().unwrap();
    assert!(warning.contains("% of the values lie outside -0.0500 .. 25.5500"), "{warning}");

    let mut rare = [0_u8; 42];
    rare[40..].fill(1);
    folder.write("rare.npy", npy("|u1", "(42,)", &rare));
    // Labels that have nothing to do with the values: what is learnt is the common class.
    let run = folder.json(&format!("{tune} --data x.npy rare.npy --learning-rate 0.05"));
    let warning = run["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("20 samples of class 0 to tune on and 1 of class 1"), "{warning}");
    let [factory, tuned] =
        [&run["factory_accuracy"], &run["runs"][0]["accuracy_int8"]].map(|a| a.as_f64().unwrap());
    let accepted = run["runs"][0]["accepted"].as_u64().unwrap();
    assert!(if accepted == 1 { tuned > factory } else { tuned.to_bits() == factory.to_bits() }, "{run}");
}
