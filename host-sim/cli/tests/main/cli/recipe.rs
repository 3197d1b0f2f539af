//! Recipes' files: what a file says and what options say are the same, options win, and refusals name file and line.

use super::{Folder, bundled, floats, npy};
use flatmin_sim::wearers::Recordings;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;

const RECIPE: &str = r#"version = 1
layers = 2
train = ["biases", "all"]
[recipe]
method = "asam"
rho = 0.2
rho_unit = "weights"
learning_rate = 0.005
label_smoothing = 0.1
weight_decay = 0.01
sharpness_batch = 2
ascent_every = 2
warm_up = 0.25
epochs = 4
seed = 7
held_out = 0.2
keep_best = true
"#;

/// The recipe by hand, as options.
const OPTIONS: &str = "--layers 2 --train biases,all --method asam --rho 0.2 --rho-unit weights --learning-rate 0.005 \
    --label-smoothing 0.1 --weight-decay 0.01 --sharpness-batch 2 --ascent-every 2 --warm-up 0.25 --epochs 4 --seed 7 --held-out 0.2 --keep-best";

/// A folder with a recipe, and a model with samples of its own.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("own.toml", RECIPE);
    folder.write("m.tflite", bundled());
    let windows = Recordings::bundled().unwrap().test(1).unwrap();
    let count = windows.len();
    let values = floats(windows.iter().flat_map(|w| w.samples.iter().copied()));
    folder.write("x.npy", npy("<f4", &format!("({count}, 100, 6)"), &values));
    let labels: Vec<u8> = windows.iter().map(|w| w.label as u8).collect();
    folder.write("y.npy", npy("|u1", &format!("({count},)"), &labels));
    folder
}

fn crc32(object: &Value) -> u64 {
    let runs = object["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1, "{object}");
    runs[0]["weights_crc32"].as_u64().unwrap()
}

#[test]
fn a_file_and_options_tune_to_the_same_weights() {
    let folder = folder();
    let by_file = folder.json("tune --wearer 2 --recipe own.toml --json");
    assert_eq!(by_file, folder.json(&format!("tune --wearer 2 {OPTIONS} --json")));
    // Options win; a flag can be taken back.
    let other = folder.json("tune --wearer 2 --recipe own.toml --epochs 5 --keep-best=false --json");
    let options = OPTIONS.replace("--epochs 4", "--epochs 5").replace(" --keep-best", "");
    assert_eq!(other, folder.json(&format!("tune --wearer 2 {options} --json")));
    assert_ne!(other["runs"][0]["macs"], by_file["runs"][0]["macs"]);
    // A radius in units of the weights is the method's own.
    let sam = folder.json("tune --wearer 2 --recipe own.toml --method sam --json");
    assert_eq!(sam["runs"][0]["rho"].as_f64().unwrap() as f32, flatmin::Recipe::DEFAULT.rho);
    assert!(folder.json("--recipe own.toml --epochs 1 --json")["runs"].as_array().unwrap().len() == 3);
}

/// What no option names is in the file, too.
#[test]
fn every_hyperparameter_counts() {
    let folder = folder();
    let run = |line: &str| {
        folder.write("own.toml", format!("{RECIPE}{line}\n"));
        // With nothing held out every tail is taken, and its weights can be told from others.
        let object = folder.json("tune --recipe own.toml --held-out 0 --json");
        (crc32(&object), object["runs"][0]["train_ram_bytes"].as_u64().unwrap())
    };
    let (plain, ram) = run("");
    for line in
        ["momentum = 0.5", "minibatch = 5", "eta = 0.5", "schedule = \"constant\"", "bias = \"frozen\""]
    {
        assert_ne!(run(line).0, plain, "{line}");
    }
    for line in ["replay_capacity = 100", "sample_losses = true"] {
        let (crc32, more) = run(line);
        assert!(crc32 == plain && more > ram, "{line}");
    }
    folder.write("own.toml", format!("{RECIPE}replay_capacity = 10\n"));
    folder.run("tune --recipe own.toml").code(1).stderr(contains(
        "63 samples to tune on, the recipe's replay_capacity is 10: give --replay-capacity 63",
    ));
}

#[test]
fn the_file_names_the_model_as_seen_from_it() {
    let folder = folder();
    std::fs::create_dir(folder.path("recipes")).unwrap();
    folder.write("recipes/own.toml", RECIPE.replace("layers", "model = \"../m.tflite\"\nlayers"));
    let by_file = folder.json("tune --recipe recipes/own.toml --data x.npy y.npy --json");
    let by_hand = folder.json(&format!("tune m.tflite --data x.npy y.npy {OPTIONS} --json"));
    assert_eq!(crc32(&by_file), crc32(&by_hand));
    folder.run("tune --recipe recipes/own.toml").code(2).stderr(contains("--data X.npy Y.npy"));
    // A wearer has a model already.
    assert_eq!(
        folder.json("tune --wearer 3 --recipe recipes/own.toml --json"),
        folder.json("tune --wearer 3 --recipe own.toml --json")
    );
    folder.run("--recipe recipes/own.toml").code(1).stderr(contains("have models of their own"));
}

/// The Rust file of a recipe is that of the same options, and has the recipe's own constants, which the compiler takes.
#[test]
fn a_pack_by_a_recipe_brings_the_recipe_into_firmware() {
    let folder = folder();
    folder.write("own.toml", RECIPE.replace("layers", "model = \"m.tflite\"\nlayers"));
    let by_file = folder.json("pack --recipe own.toml -o a.pack --json");
    let by_hand = folder.json("pack m.tflite --layers 2 --train biases,all -o b.pack --json");
    assert_eq!(by_file["pack_crc32"], by_hand["pack_crc32"]);
    let text = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    let (own, plain) = (text("a.rs"), text("b.rs").replace("b.pack", "a.pack"));
    let further = own.strip_prefix(plain.as_str()).unwrap();
    for line in [
        "    method: flatmin::Method::Asam,",
        "    rho: 0.2,",
        "    rho_unit: flatmin::RhoUnit::Weights,",
        "    learning_rate: 0.005,",
        "    epochs: 4,",
        "    keep_best: true,",
        "pub const ARENA_BYTES: usize = SIZES.train_bytes(&RECIPE);",
    ] {
        assert!(further.lines().any(|own| own == line), "{line}: {further}");
    }
    folder.write(
        "small.toml",
        RECIPE.replace("layers", "model = \"m.tflite\"\nlayers") + "[budget]\nram = 20000\n",
    );
    let refused = folder.run("pack --recipe small.toml -o c.pack").code(1);
    let told = "small.toml: the budget is 20000 bytes of RAM, a firmware with this recipe takes ";
    refused
        .stderr(contains(told).and(contains("weights f32 ")).and(contains("not fit even with one sample")));
    assert!(!folder.path("c.pack").exists() && !folder.path("c.rs").exists());
    folder.write("none.toml", "version = 1\n");
    folder.run("pack --recipe none.toml -o d.pack").code(2).stderr(contains("names no model"));
}

#[test]
fn what_is_no_recipe_is_refused_by_file_and_line() {
    let folder = folder();
    for (text, expected) in [
        ("version = 2", "flatmin: own.toml:1: version 2 is not known here; recipes of version 1 are read"),
        ("version = 1\n\n[recipe]\nrhoo = 1", "flatmin: own.toml:4: unknown field `rhoo`, expected one of"),
        ("version = 1\n[recipe]\nrho = -1", "flatmin: own.toml:3: rho is -1, must be from 0 to 1000"),
        (
            "version = 1\n[recipe]\nepochs = \"many\"",
            "own.toml:3: invalid type: string \"many\", expected a whole number",
        ),
    ] {
        folder.write("own.toml", text);
        for command in ["tune", "plan --ram 1M", "export -o t.tflite", "emulate"] {
            folder.run(&format!("{command} --recipe own.toml")).code(1).stderr(contains(expected));
        }
    }
    folder.run("tune --recipe none.toml").code(1).stderr(contains("none.toml: No such file"));
}
