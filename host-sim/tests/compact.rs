//! The compact tail on the bundled task: as good as the f32 tail, never worse than the factory, refusals by name.

use flatmin::{BiasTreatment, CompactPlan, CompactTuner, MemoryPlan, Method, Recipe, TunerError, Version};
use host_sim::packer::PackFile;
use host_sim::tuning::{Subject, Tail, tune_as};

fn arena(file: &PackFile, recipe: &Recipe) -> Vec<u128> {
    vec![0; file.pack().sizes().compact_bytes(recipe).div_ceil(16)]
}

fn recipe(method: Method) -> Recipe {
    let rho = if method == Method::Sam { 0.05 } else { 0.5 };
    Recipe { method, rho, replay_capacity: 63, ..Recipe::DEFAULT }
}

/// Three wearers for one layer, one for two; a fifth of the labels flipped. `flatmin experiment compact` measures it on all.
#[test]
fn accuracy_and_loss_are_those_of_the_f32_tail() {
    for layers in [1, 2] {
        for method in [Method::Sgd, Method::Sam, Method::Asam] {
            let (mut points, mut losses, mut gains) = (0.0, Vec::new(), 0.0);
            let wearers = if layers == 1 { &[1, 4, 8][..] } else { &[1] };
            for &wearer in wearers {
                let subject = Subject::wearer(wearer, 9, 0.2, 1).unwrap();
                let tune = |kind| tune_as(kind, &subject, layers, recipe(method), || {}).unwrap();
                let (full, compact) = (tune(Tail::Full), tune(Tail::Compact));
                points += 100.0 * (compact.accuracy_int8 - full.accuracy_int8) / wearers.len() as f64;
                gains += 100.0 * (compact.accuracy_int8 - compact.factory_accuracy) / wearers.len() as f64;
                losses.push(compact.loss / full.loss);
                assert_eq!(compact.macs, full.macs);
                assert_ne!(compact.weights_crc32, full.weights_crc32);
                assert!(compact.train_ram_bytes < full.train_ram_bytes);
            }
            println!(
                "{layers} {method:?}: {points:+.2} points to f32, losses {losses:.3?}, {gains:+.2} to the factory"
            );
            // A window more or less of about 300 is 0.3 points; half a point is asked for over 30 runs.
            assert!(points.abs() <= 1.0, "{layers} {method:?}: {points} points");
            assert!(losses.iter().all(|ratio| (ratio - 1.0).abs() < 0.05), "{layers} {method:?}: {losses:?}");
            assert!(layers == 2 || gains > 0.0, "{layers} {method:?}: {gains}");
        }
    }
}

#[test]
fn a_parameter_takes_less_than_seven_bytes() {
    for (wearer, layers) in [(1, 1), (1, 2)] {
        let subject = Subject::wearer(wearer, 1, 0.0, 1).unwrap();
        let sizes = subject.model.pack(layers).unwrap().pack().sizes();
        let compact = CompactPlan::new(&sizes, &Recipe::DEFAULT);
        let full = MemoryPlan::new(&sizes, &Recipe::DEFAULT);
        let bytes = compact.parameter_bytes() as f64 / sizes.tail_parameters as f64;
        assert!(bytes <= 7.0, "{bytes} bytes a parameter");
        assert!(compact.total_bytes() < full.total_bytes());
        let sum: usize = compact.by_purpose().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(sum, compact.total_bytes());
    }
}

#[test]
fn calls_come_in_order_and_what_is_left_out_is_refused_by_name() {
    let subject = Subject::wearer(1, 1, 0.0, 1).unwrap();
    let file = subject.model.pack(1).unwrap();
    let mut words = arena(&file, &Recipe::DEFAULT);
    let mut tuner =
        CompactTuner::new(file.pack(), Recipe::DEFAULT, bytemuck::cast_slice_mut(&mut words)).unwrap();
    let (input, label) = &subject.adaptation[0];
    assert_eq!(tuner.step(), Err(TunerError::NotRunning));
    assert_eq!(tuner.start(Recipe::DEFAULT), Err(TunerError::NoSamples));
    assert_eq!(tuner.requantize(), Err(TunerError::NoSamples));
    assert_eq!(tuner.classify(input, Version::Tuned), Err(TunerError::NotTuned));
    assert_eq!(tuner.observe(input, 7), Err(TunerError::Label { label: 7, last: 6 }));
    assert_eq!(tuner.observe(&[0; 3], 1), Err(TunerError::InputLength { expected: 600, found: 3 }));
    tuner.observe(input, *label).unwrap();
    for (recipe, field) in [
        (Recipe { sharpness_batch: 2, ..Recipe::DEFAULT }, "sharpness_batch"),
        (Recipe { store_perturbation: true, ..Recipe::DEFAULT }, "store_perturbation"),
        (Recipe { label_smoothing: 0.1, ..Recipe::DEFAULT }, "label_smoothing"),
        (Recipe { bias: BiasTreatment::Elementwise, ..Recipe::DEFAULT }, "element-wise bias"),
        (Recipe { keep_best: true, ..Recipe::DEFAULT }, "keep_best"),
        (Recipe { sample_losses: true, ..Recipe::DEFAULT }, "sample_losses"),
        (Recipe { momentum: 1.0, ..Recipe::DEFAULT }, "momentum"),
    ] {
        let error = tuner.start(recipe).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    // A tail with a convolution is no chain.
    let deep = subject.model.pack(3).unwrap();
    let mut words = vec![0u128; 1 << 16];
    let error = CompactTuner::new(deep.pack(), Recipe::DEFAULT, bytemuck::cast_slice_mut(&mut words));
    assert!(error.unwrap_err().to_string().contains("fully connected"));
    let error =
        CompactTuner::new(file.pack(), Recipe::DEFAULT, &mut bytemuck::cast_slice_mut(&mut words)[..64]);
    assert!(matches!(error, Err(TunerError::ArenaTooSmall { found: 64, .. })));
}

/// The same bits from the same calls, and the factory's after a reset or a rejected tail.
#[test]
fn runs_repeat_and_a_worse_tail_is_not_taken() {
    let subject = Subject::wearer(2, 9, 0.0, 3).unwrap();
    let file = subject.model.pack(1).unwrap();
    let recipe = Recipe { held_out: 0.25, epochs: 3, ..recipe(Method::Asam) };
    let mut words = arena(&file, &recipe);
    let mut tuner = CompactTuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    let factory = tuner.weights_crc32();
    for (input, label) in &subject.adaptation {
        tuner.observe(input, *label).unwrap();
    }
    let mut crcs = Vec::new();
    for seed in [1, 1, 2] {
        tuner.factory_reset();
        assert_eq!(tuner.weights_crc32(), factory);
        tuner.start(Recipe { seed, ..recipe }).unwrap();
        while !tuner.step().unwrap().finished {}
        crcs.push(tuner.weights_crc32());
    }
    assert!(crcs[0] == crcs[1] && crcs[0] != crcs[2] && crcs[0] != factory);
    // A learning rate that throws the weights about, up to where they saturate, makes a tail that is refused.
    tuner.factory_reset();
    tuner.start(Recipe { learning_rate: 100.0, ..recipe }).unwrap();
    while !tuner.step().unwrap().finished {}
    assert_ne!(tuner.weights_crc32(), factory);
    let acceptance = tuner.accept().unwrap();
    assert!(!acceptance.accepted && acceptance.candidate.right < acceptance.factory.right, "{acceptance:?}");
    assert!(!tuner.is_tuned());
    assert_eq!(tuner.weights_crc32(), factory);
}
