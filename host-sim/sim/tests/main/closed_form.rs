//! Heads in closed form by the product's own calls: nothing tuned, the factory's statistics in the pack.

use flatmin::internals::pack::format::header;
use flatmin::{Pack, PackError, Recipe, Tuner, TunerError};
use flatmin_sim::report::TuningRun;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training, train};

fn subject(wearer: usize, noise: f64) -> Subject {
    Subject::wearer(wearer, 9, noise, 1).unwrap().calibrated(wearer).unwrap()
}

fn solve(subject: &Subject, layers: usize, recipe: Recipe) -> anyhow::Result<TuningRun> {
    train(subject, layers, &Training::closed_form(recipe), || {})
}

fn aligned(bytes: &[u8]) -> Vec<u128> {
    let mut words = vec![0u128; bytes.len().div_ceil(16)];
    bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// Heads where a fifth of the labels is flipped, with one layer or two after the cut.
#[test]
fn heads_are_better_than_the_factory_in_int8() {
    for layers in [1, 2] {
        let (mut factory, mut solved) = (0.0, 0.0);
        for wearer in [1, 4, 8] {
            let run = solve(&subject(wearer, 0.2), layers, Recipe::DEFAULT).unwrap();
            assert_eq!(run.method, "closed-form");
            assert_eq!(run.train_ram_bytes, run.memory.iter().map(|(_, bytes)| bytes).sum::<usize>());
            factory += run.factory_accuracy / 3.0;
            solved += run.accuracy_int8 / 3.0;
        }
        assert!(solved > factory + 0.01, "{layers} layers: factory {factory}, solved {solved}");
    }
}

/// Slices, samples in two orders, and what a short scratch memory is told: the last layer's velocity is too small to
/// work in, that of two layers is not.
#[test]
fn the_order_of_observing_says_nothing() {
    let subject = subject(2, 0.2);
    let mut crcs = Vec::new();
    for (layers, reverse) in [(1, false), (1, true), (2, false), (2, true)] {
        let file = subject.model.pack(layers).unwrap();
        let (pack, recipe) = (file.pack(), Recipe { replay_capacity: 63, ..Recipe::DEFAULT });
        let sizes = pack.sizes();
        let mut words = vec![0u128; sizes.train_bytes(&recipe).div_ceil(16)];
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
        // The head, a triangle, two rows and three numbers per class, two rows, 24 scales.
        let needed = 7 * 65 + 64 * 65 / 2 + 7 * (2 * 64 + 3) + 2 * 64 + 24;
        assert_eq!(sizes.solve_bytes(&recipe), if layers == 1 { 4 * needed } else { 0 });
        let mut scratch = vec![0; sizes.solve_bytes(&recipe) / 4];
        assert_eq!(tuner.solve(recipe, &mut scratch, &mut || {}).err(), Some(TunerError::NoSamples));
        let mut samples: Vec<_> = subject.adaptation.iter().collect();
        if reverse {
            samples.reverse();
        }
        samples.into_iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
        if layers == 1 {
            let found = needed - 1;
            let error = tuner.solve(recipe, &mut scratch[..found], &mut || {}).err();
            assert_eq!(error, Some(TunerError::SolveRoom { needed, found, samples: 63 }));
        }
        let factory = tuner.weights_crc32();
        let mut slices = 0;
        tuner.solve(recipe, &mut scratch, &mut || slices += 1).unwrap();
        // Four rounds: a pass, the means, 64 rows and seven classes; then a pass for the scale.
        assert_eq!(slices, 4 * (63 + 1 + 64 + 7) + 63);
        assert_ne!(tuner.weights_crc32(), factory);
        crcs.push(tuner.weights_crc32());
        // What a run begins with and what its velocity begins at are not the solver's.
        tuner.start(Recipe { epochs: 1, ..recipe }).unwrap();
        while !tuner.step().unwrap().finished {}
        tuner.requantize().unwrap();
        assert!(tuner.is_tuned());
    }
    assert_eq!((crcs[0], crcs[2]), (crcs[1], crcs[3]));
}

/// All seven layers from the solved head.
#[test]
fn runs_go_on_from_the_head() {
    let subject = subject(5, 0.0);
    let recipe = Recipe { epochs: 5, ..Recipe::FROM_CLOSED_FORM };
    let solved = train(&subject, 7, &Training::closed_form(recipe), || {}).unwrap();
    let steps = Training { start: Start::ClosedForm, ..Training::steps(Tail::Full, recipe) };
    let run = train(&subject, 7, &steps, || {}).unwrap();
    assert_eq!((run.method.as_str(), run.curve.len()), ("sam", 6));
    assert_ne!(run.weights_crc32, solved.weights_crc32);
    assert!(run.accuracy_int8 > run.factory_accuracy, "{} {}", run.factory_accuracy, run.accuracy_int8);
}

/// With two labels in five flipped, a run after the solver has fewer steps than one on all samples: saved and resumed it
/// ends with the same weights, and a sample that is observed later has all of them trained on again.
#[test]
fn contradicted_labels_are_not_trained_on() {
    let subject = subject(2, 0.4);
    let file = subject.model.pack(2).unwrap();
    let recipe = Recipe { replay_capacity: 64, epochs: 2, minibatch: 1, ..Recipe::FROM_CLOSED_FORM };
    let words = || vec![0u128; file.pack().sizes().train_bytes(&recipe).div_ceil(16)];
    let (mut one, mut other) = (words(), words());
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut one)).unwrap();
    let observe = |tuner: &mut Tuner| {
        subject.adaptation.iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
    };
    let steps = |tuner: &mut Tuner| {
        tuner.start(recipe).unwrap();
        tuner.position().unwrap().steps
    };
    let finish = |tuner: &mut Tuner| {
        while !tuner.step().unwrap().finished {}
        tuner.weights_crc32()
    };
    observe(&mut tuner);
    assert_eq!(steps(&mut tuner), 2 * 63);
    tuner.solve(recipe, &mut [], &mut || {}).unwrap();
    let trusted = steps(&mut tuner);
    assert!(trusted > 2 * 20 && trusted < 2 * 50, "{trusted} steps, 25 of 63 labels are wrong");
    (0..5).for_each(|_| assert!(!tuner.step().unwrap().finished));
    let mut saved = vec![0; tuner.run_bytes()];
    tuner.save_run(0, &mut saved).unwrap();
    let whole = finish(&mut tuner);
    let mut resumed = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut other)).unwrap();
    observe(&mut resumed);
    resumed.resume_run(&saved).unwrap();
    assert_eq!(resumed.position().unwrap().steps, trusted);
    assert_eq!(finish(&mut resumed), whole);
    let (input, label) = &subject.adaptation[0];
    tuner.observe(input, *label).unwrap();
    assert_eq!(steps(&mut tuner), 2 * 64);
}

/// Samples that are held out say nothing but whether the head is taken.
#[test]
fn held_out_samples_judge_the_head() {
    let subject = subject(2, 0.0);
    let run = solve(&subject, 1, Recipe { held_out: 0.2, ..Recipe::DEFAULT }).unwrap();
    let verdict = run.verdict.unwrap();
    let whole = solve(&subject, 1, Recipe::DEFAULT).unwrap();
    assert!(whole.verdict.is_none());
    assert_ne!(run.weights_crc32, whole.weights_crc32);
    let expected = if verdict.accepted { run.accuracy_int8 } else { run.factory_accuracy };
    assert_eq!(run.accuracy_int8, expected);
}

#[test]
fn packs_with_and_without_statistics_are_read_and_broken_ones_refused() {
    let plain = Subject::wearer(3, 9, 0.0, 1).unwrap().model.pack(2).unwrap();
    assert!(plain.pack().statistics().is_none());
    let file = subject(3, 0.0).model.pack(2).unwrap();
    let statistics = file.pack().statistics().unwrap();
    assert_eq!((statistics.classes(), statistics.features()), (7, 64));
    // 64 deviations, seven means of 64 features, 2,016 correlations.
    let bytes = 4 * 64 + 2 * 7 * 64 + 2 * 2_016;
    assert_eq!(file.bytes().len(), plain.bytes().len().next_multiple_of(16) + bytes);
    // Cut off.
    let mut broken = file.bytes().to_vec();
    let past = (broken.len() - bytes + 16) as u32;
    broken[header::STATISTICS..][..4].copy_from_slice(&past.to_le_bytes());
    let crc = flatmin::crc32(&broken[header::CHECKED_FROM..]);
    broken[header::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
    let words = aligned(&broken);
    let refused = Pack::new(&bytemuck::cast_slice(&words)[..broken.len()]).err();
    assert!(matches!(refused, Some(PackError::Header(_))), "{refused:?}");
}

/// The pack that the boards' firmware comes with: the model of wearer 1, its last two layers to be tuned, with the windows of
/// the others as statistics. `FLATMIN_ACCEPT=1` writes it anew.
#[test]
fn the_boards_pack_has_the_statistics_of_all_but_its_wearer() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boards/app/model.pack");
    let file = subject(1, 0.0).model.pack(2).unwrap();
    if std::env::var_os("FLATMIN_ACCEPT").is_some() {
        std::fs::write(path, file.bytes()).unwrap();
    }
    assert!(std::fs::read(path).unwrap() == file.bytes(), "another pack than boards/app/model.pack");
}
