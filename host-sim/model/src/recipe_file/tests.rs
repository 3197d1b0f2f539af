use super::*;
use flatmin::{BiasTreatment, Optimizer, Policy, RhoUnit, Schedule};

/// Another value in every field.
fn full() -> RecipeFile {
    let recipe = Recipe {
        method: Method::Asam,
        optimizer: Optimizer::Adam,
        rho: 0.3,
        rho_unit: RhoUnit::Weights,
        eta: 0.02,
        sharpness_batch: 4,
        ascent_every: 3,
        store_perturbation: true,
        learning_rate: 1.0 / 3.0,
        momentum: 0.8,
        weight_decay: 1e-5,
        label_smoothing: 0.1,
        schedule: Schedule::Constant,
        warm_up: 0.125,
        bias: BiasTreatment::Frozen,
        epochs: 65_535,
        minibatch: 7,
        seed: i64::MAX as u64,
        replay_capacity: 99,
        replay_policy: Policy::Balanced,
        held_out: 0.25,
        keep_best: true,
        sample_losses: true,
    };
    RecipeFile {
        model: Some("models/a b.tflite".into()),
        layers: Some(5),
        train: Some(
            ["biases", "nothing", "25%", "channels:3", "all"].map(|word| word.parse().unwrap()).into(),
        ),
        loss: Some(Loss::BinaryCrossEntropy),
        spare_classes: Some(2),
        compact: Some(false),
        start: Some(Start::ClosedForm),
        recipe: Hyperparameters::of(&recipe),
        budget: Limits { ram: Some(65_536), macs: Some(2_000_000) },
        ..RecipeFile::default()
    }
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    for file in [full(), RecipeFile::default()] {
        let model = file.model.map(|model| folder.path().join(model));
        let file = RecipeFile { model, ..file };
        file.write(&path).unwrap();
        assert_eq!(RecipeFile::read(&path).unwrap(), file);
    }
    // Every field of a recipe is there, and every line that is not a table's says what it may be.
    let text = full().to_text().unwrap();
    let recipe = RecipeFile::parse(&text).unwrap().recipe(Method::Asam, Start::Factory);
    assert_eq!(Hyperparameters::of(&recipe), full().recipe);
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('[')) {
        assert!(line.contains(" # "), "{line}");
    }
    assert!(text.contains("\nrho = 0.3 "), "single precision stays short: {text}");
}

#[test]
fn a_model_is_seen_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("recipes")).unwrap();
    let path = folder.path().join("recipes/own.toml");
    let model = folder.path().join("m.tflite");
    RecipeFile { model: Some(model.clone()), ..RecipeFile::default() }.write(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("model = \"../m.tflite\""), "{text}");
    let read = RecipeFile::read(&path).unwrap().model.unwrap();
    assert_eq!(read, folder.path().join("recipes/../m.tflite"));
}

#[test]
fn refusals_name_the_line_and_the_range() {
    for (text, line, expected) in [
        ("layers = 2", 1, "no version: `version = 1`"),
        ("# of tomorrow\nversion = 2\nlayer = 3", 2, "version 2 is not known here; recipes of version 1"),
        ("version = \"1\"", 1, "version \"1\" is not known"),
        ("version = 1\nlayer = 2", 2, "unknown field `layer`, expected one of `version`, `model`, `layers`"),
        ("version = 1\n\n[recipe]\nrhoo = 0.1", 4, "unknown field `rhoo`, expected one of `method`"),
        ("version = 1\nlayers = 0", 2, "integer `0`, expected a whole number from 1 to 65535"),
        (
            "version = 1\n[recipe]\nepochs = 70_000",
            3,
            "integer `70000`, expected a whole number from 1 to 65535",
        ),
        ("version = 1\n[recipe]\nseed = -1", 3, "a whole number from 0 to 9223372036854775807"),
        ("version = 1\n[recipe]\nrho = \"big\"", 3, "string \"big\", expected a number"),
        ("version = 1\n[recipe]\nmethod = \"adam\"", 3, "expected one of \"sgd\", \"sam\", \"asam\""),
        ("version = 1\n[recipe]\nepochs = 3\n\nmomentum = 1", 5, "momentum is 1, must be from 0 to 0.999999"),
        ("version = 1\n[recipe]\nrho = nan", 3, "rho is NaN, must be from 0 to 1000"),
        ("version = 1\n[recipe]\nheld_out = 0.6\n", 3, "held_out is 0.6, must be from 0 to 0.5"),
        (
            "version = 1\n[recipe]\nweight_decay = 0.5\nlearning_rate = 4.0",
            4,
            "learning_rate * weight_decay is 2",
        ),
        ("version = 1\ntrain = [\"all\", \"0%\"]", 2, "0%"),
        ("version = 1\n[recipe]\nkeep_best = 1", 3, "integer `1`, expected a boolean"),
        ("version = 1\n[budget]\nram = 0", 3, "a whole number from 1 to 1099511627776"),
        ("version = 1\nlayers = 2\nlayers = 3", 3, "duplicate key"),
        ("version = 1\n[recipe\n", 2, ""),
    ] {
        let (found, why) = RecipeFile::parse(text).unwrap_err();
        assert!(why.contains(expected), "{text}: {why}");
        assert_eq!(found, line, "{text}: {why}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    std::fs::write(&path, "version = 1\n[recipe]\nrho = -1").unwrap();
    let error = RecipeFile::read(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}:3: rho is -1, must be from 0 to 1000", path.display()));
    let missing = RecipeFile::read(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml: No such file"), "{missing}");
}

#[test]
fn what_is_given_wins_and_a_radius_of_weights_goes_with_its_method() {
    let weights = "version = 1\n[recipe]\nmethod = \"sam\"\nrho = 0.2\nrho_unit = \"weights\"";
    let asam = NamedMethod::Steps(Method::Asam);
    let by_asam = Hyperparameters { method: Some(asam), ..Hyperparameters::default() };
    let of =
        |text| RecipeFile { recipe: by_asam, ..RecipeFile::default() }.or(&RecipeFile::parse(text).unwrap());
    let usual = RecipeFile::default().recipe(Method::Asam, Start::Factory);
    assert_eq!(of(weights).recipe(Method::Asam, Start::Factory), usual);
    let file =
        RecipeFile::parse("version = 1\nlayers = 3\n[recipe]\nmethod = \"sam\"\nrho = 0.2\nepochs = 5")
            .unwrap();
    let given = |recipe: Hyperparameters| RecipeFile { recipe, ..RecipeFile::default() }.or(&file);
    let epochs = given(Hyperparameters { epochs: Some(7), ..Hyperparameters::default() });
    assert_eq!(epochs.layers, Some(3));
    assert_eq!(epochs.recipe(Method::Sam, Start::Factory), Recipe { rho: 0.2, epochs: 7, ..Recipe::DEFAULT });
    assert_eq!(given(by_asam).recipe(Method::Asam, Start::Factory).rho, 0.2);
    assert_eq!(RecipeFile::default().recipe(Method::Sam, Start::Factory), Recipe::DEFAULT);
    let adam = Hyperparameters { optimizer: Some(Optimizer::Adam), ..Hyperparameters::default() };
    assert_eq!(given(adam).recipe(Method::Sam, Start::ClosedForm).learning_rate, 0.001);
}
