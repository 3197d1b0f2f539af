//! Spare classes: silent until one is added, and a class that is added is learnt while the others are kept.

use crate::skipping;

use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::Flash;
use flatmin::store::{Contents, Store};
use flatmin::wire::{self, Request, Response};
use flatmin::{CompactPlan, CompactTuner, MemoryPlan, Method, Recipe, Tuner, TunerError, Version};
use flatmin_app::{Buffers, Clock, Endpoint, Hardware, link_bytes};
use flatmin_link::device;
use flatmin_link::emulate::{Device, Firmware, LogSink};
use flatmin_model::model::Model;
use flatmin_model::packer::{PackFile, TailPlan, Trains};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{sized, tune};
use flatmin_sim::wearers::model_bytes;

const NEW: usize = 6;

fn bundled() -> Model {
    Model::bundled("wearer 1".into(), model_bytes(1).unwrap()).unwrap()
}

/// Wearer 1 with the row of exercise 2 left out: six classes, and one to add.
fn subject() -> Subject {
    Subject::wearer(1, 9, 0.0, 1).unwrap().leaving_out(2).unwrap()
}

/// Chains of one and of two layers, and a graph: of the first layer the biases alone are trained.
fn plans() -> [TailPlan; 3] {
    let biases = TailPlan { layers: 2, trains: vec![Trains::Biases] };
    [TailPlan::of(1), TailPlan::of(2), biases]
}

fn recipe(method: Method) -> Recipe {
    Recipe { method, replay_capacity: 100, epochs: 3, ..Recipe::DEFAULT }
}

fn with_tuner<R>(file: &PackFile, recipe: Recipe, run: impl FnOnce(&mut Tuner) -> R) -> R {
    let bytes = MemoryPlan::new(&file.pack().sizes(), &recipe).total_bytes();
    let mut words = vec![0u128; bytes.div_ceil(16)];
    run(&mut Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap())
}

fn observe(tuner: &mut Tuner, subject: &Subject, wanted: impl Fn(usize) -> bool) {
    for (input, label) in subject.adaptation.iter().filter(|(_, label)| wanted(*label)) {
        tuner.observe(input, *label).unwrap();
    }
}

fn finish(tuner: &mut Tuner, recipe: Recipe) {
    tuner.start(recipe).unwrap();
    while !tuner.step().unwrap().finished {}
}

/// Shares of the test windows of old and new classes that the tuned int8 tail gets right.
fn accuracies(tuner: &mut Tuner, subject: &Subject) -> [f64; 2] {
    let mut counts = [[0, 0]; 2];
    for (input, label) in &subject.test {
        let output = tuner.infer(input, Version::Tuned).unwrap().to_vec();
        let count = &mut counts[usize::from(*label == NEW)];
        count[0] += usize::from(tuner.answer(&output, Version::Tuned) == *label);
        count[1] += 1;
    }
    counts.map(|[right, all]| right as f64 / all as f64)
}

#[test]
fn spare_classes_leave_every_byte_of_the_others_as_it_was() {
    let inputs = Subject::wearer(1, 9, 0.0, 1).unwrap().test;
    for softmax in [true, false] {
        let model = || {
            let mut model = bundled();
            if !softmax {
                let removed = model.network.steps.pop().unwrap();
                assert_eq!(removed.name, "SOFTMAX");
                model.network.outputs[0].tensor = removed.input;
            }
            model
        };
        let plain = model().pack(1).unwrap();
        let mut arena = vec![0; plain.pack().sizes().arena_bytes];
        for spare in [1, 3] {
            let file = model().with_spare_classes(spare).unwrap().pack(1).unwrap();
            assert_eq!((file.pack().known_classes(), file.pack().spare_classes()), (7, spare));
            let mut spare_arena = vec![0; file.pack().sizes().arena_bytes];
            for (input, _) in &inputs {
                let expected = flatmin::infer(&plain.pack(), input, &mut arena);
                let found = flatmin::infer(&file.pack(), input, &mut spare_arena);
                assert_eq!(&found[..7], expected);
                assert!(found[7..].iter().all(|&spare| spare == -128), "{found:?}");
            }
        }
    }
}

/// A spare row has no say in loss, gradient, ascent or requantization: the known rows and the answers are those of a
/// pack without it, in every bit.
#[test]
fn tuning_goes_on_as_without_spare_classes() {
    let subject = Subject::wearer(1, 9, 0.0, 1).unwrap();
    for method in [Method::Sgd, Method::Sam, Method::Asam] {
        // A smoothed label would give a spare class its share, decay its bias. The split of held-out samples makes the
        // order of both the same.
        let recipe = Recipe { label_smoothing: 0.1, weight_decay: 1e-3, held_out: 0.2, ..recipe(method) };
        let run = |file: &PackFile| {
            with_tuner(file, recipe, |tuner| {
                observe(tuner, &subject, |_| true);
                finish(tuner, recipe);
                let evaluation = tuner.evaluate(0.05).unwrap();
                tuner.requantize().unwrap();
                let judged = tuner.judge(Version::Tuned).unwrap();
                let answers = subject.test.iter();
                let answers = answers.map(|(x, _)| tuner.infer(x, Version::Tuned).unwrap()[..7].to_vec());
                let answers = answers.collect();
                (tuner.weights().to_vec(), evaluation, judged, answers)
            })
        };
        let (plain, evaluation, judged, answers): (Vec<f32>, _, _, Vec<Vec<i8>>) =
            run(&bundled().pack(1).unwrap());
        let spare = run(&bundled().with_spare_classes(2).unwrap().pack(1).unwrap());
        let taps = plain.len() / 7 - 1;
        let (rows, spare_rows) = spare.0[..9 * taps].split_at(7 * taps);
        assert!(rows == &plain[..7 * taps], "{method:?}: rows");
        assert!(spare_rows.iter().all(|&w| w == 0.0), "{method:?}");
        assert_eq!(spare.0[9 * taps..9 * taps + 7], plain[7 * taps..]);
        assert_eq!((spare.1, spare.2), (evaluation, judged), "{method:?}");
        assert_eq!(spare.3, answers, "{method:?}");
    }
}

/// `a x = b`, by elimination.
fn solved(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    for column in 0..b.len() {
        let (pivot, known) = (a[column].clone(), b[column]);
        for (row, b) in a.iter_mut().zip(&mut b).skip(column + 1) {
            let factor = row[column] / pivot[column];
            row.iter_mut().zip(&pivot).for_each(|(to, from)| *to -= factor * from);
            *b -= factor * known;
        }
    }
    for row in (0..b.len()).rev() {
        let known: f64 = (row + 1..b.len()).map(|column| a[row][column] * b[column]).sum();
        b[row] = (b[row] - known) / a[row][row];
    }
    b
}

/// The formula in double precision, of the features and rows that the tuner shows.
#[test]
fn the_first_row_is_that_of_the_formula() {
    let subject = subject();
    let file = subject.model.pack(1).unwrap();
    with_tuner(&file, recipe(Method::Sgd), |tuner| {
        observe(tuner, &subject, |_| true);
        let (unit, zero) = (f64::from(file.pack().feature_unit()), file.pack().feature().affine.zero_point);
        let samples: Vec<(Vec<f64>, usize)> = subject
            .adaptation
            .iter()
            .map(|(input, label)| {
                let latent = tuner.latent(input).unwrap();
                (latent.iter().map(|&q| unit * f64::from(i32::from(q) - zero)).collect(), *label)
            })
            .collect();
        let before: Vec<f64> = tuner.weights().iter().copied().map(f64::from).collect();
        let taps = before.len() / 7 - 1;
        let row = |k: usize| &before[k * taps..(k + 1) * taps];
        let bias = |k: usize| before[7 * taps + k];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mean = |of: &dyn Fn(usize) -> bool, i: usize| {
            let own: Vec<f64> = samples.iter().filter(|s| of(s.1)).map(|s| s.0[i]).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        let d: Vec<f64> = (0..taps).map(|i| mean(&|k| k == NEW, i) - mean(&|k| k != NEW, i)).collect();
        // The covariance within classes, of the differences of samples that follow one another in their class.
        let differences: Vec<Vec<f64>> = (0..7)
            .flat_map(|k| {
                let own: Vec<&Vec<f64>> = samples.iter().filter(|s| s.1 == k).map(|s| &s.0).collect();
                let apart = |pair: &[&Vec<f64>]| pair[0].iter().zip(pair[1]).map(|(a, b)| a - b).collect();
                own.windows(2).map(apart).collect::<Vec<_>>()
            })
            .collect();
        let pairs = differences.len() as f64;
        let product =
            |i: usize, j: usize| differences.iter().map(|x| x[i] * x[j]).sum::<f64>() / (2.0 * pairs);
        let variance = (0..taps).map(|i| product(i, i)).sum::<f64>() / taps as f64;
        let share = 0.9 * pairs / (pairs + 2.0 * taps as f64);
        let diagonal = (1.0 - share) * variance + unit * unit / 12.0;
        let covariance: Vec<Vec<f64>> = (0..taps)
            .map(|i| {
                let at = |j: usize| share * product(i, j) + if i == j { diagonal } else { 0.0 };
                (0..taps).map(at).collect()
            })
            .collect();
        let common = |i: usize| (0..6).map(|k| row(k)[i]).sum::<f64>() / 6.0;
        let (mut spread, mut apart) = (0.0, 0.0);
        for k in 0..6 {
            let v: Vec<f64> = (0..taps).map(|i| row(k)[i] - common(i)).collect();
            spread += (0..taps).map(|i| v[i] * dot(&covariance[i], &v)).sum::<f64>();
            let mean = |i: usize| mean(&|other| other == k, i) - mean(&|other| other != NEW, i);
            apart += (0..taps).map(|i| v[i] * mean(i)).sum::<f64>();
        }
        let direction = solved(covariance, d);
        let w: Vec<f64> = (0..taps).map(|i| common(i) + spread / apart * direction[i]).collect();
        let r = (0..6).map(|k| dot(row(k), row(k)).sqrt()).sum::<f64>() / 6.0;
        let margin = |x: &[f64]| {
            dot(&w, x) - (0..6).map(|k| dot(row(k), x) + bias(k)).fold(f64::NEG_INFINITY, f64::max)
        };
        let margins = |of_new: bool| {
            let own: Vec<f64> =
                samples.iter().filter(|s| (s.1 == NEW) == of_new).map(|s| margin(&s.0)).collect();
            own.iter().sum::<f64>() / own.len() as f64
        };
        let b = -0.5 * (margins(true) + margins(false));

        assert_eq!(tuner.add_class(), Ok(NEW));
        let after = tuner.weights();
        for (i, &expected) in w.iter().enumerate() {
            let found = f64::from(after[NEW * taps + i]);
            assert!((found - expected).abs() < 1e-3 * r, "weight {i}: {found} for {expected}");
        }
        let found = f64::from(after[7 * taps + NEW]);
        assert!((found - b).abs() < 1e-2, "bias: {found} for {b}");
        for k in 0..6 {
            assert!(after[k * taps..(k + 1) * taps].iter().zip(row(k)).all(|(&a, &b)| f64::from(a) == b));
        }
    });
}

#[test]
fn a_new_class_is_learnt_while_the_others_are_kept() {
    let subject = subject();
    for plan in plans() {
        for method in [Method::Sgd, Method::Sam, Method::Asam] {
            let recipe = Recipe { epochs: 10, ..recipe(method) };
            let file = subject.model.pack(plan.clone()).unwrap();
            with_tuner(&file, recipe, |tuner| {
                observe(tuner, &subject, |label| label != NEW);
                let before = tuner.evaluate(0.05).unwrap();
                tuner.requantize().unwrap();
                let factory = accuracies(tuner, &subject);
                assert_eq!(factory[1], 0.0, "unknown");
                // What waits has no say.
                observe(tuner, &subject, |label| label == NEW);
                let waiting = tuner.evaluate(0.05).unwrap();
                assert_eq!((waiting.loss, waiting.accuracy), (before.loss, before.accuracy));
                assert_eq!(tuner.add_class(), Ok(NEW));
                assert_eq!((tuner.classes(), tuner.spare_classes()), (7, 0));
                tuner.requantize().unwrap();
                let imprinted = accuracies(tuner, &subject);
                finish(tuner, recipe);
                tuner.requantize().unwrap();
                let tuned = accuracies(tuner, &subject);
                assert!(imprinted[1] > 0.5 && imprinted[0] > factory[0] - 0.15, "{imprinted:?}");
                assert!(tuned[1] > 0.7 && tuned[0] > factory[0] - 0.05, "{tuned:?} for {factory:?}");

                let mut confusion = [0; 49];
                tuner.confusion(Version::Tuned, &mut confusion).unwrap();
                assert_eq!(confusion.iter().map(|&c| usize::from(c)).sum::<usize>(), tuner.samples());
                assert!(confusion[NEW * 7 + NEW] > 0);
            });
        }
    }
}

/// A tuner with a class added, tuned and requantized.
fn with_added<R>(subject: &Subject, file: &PackFile, run: impl FnOnce(&mut Tuner) -> R) -> R {
    let recipe = recipe(Method::Asam);
    with_tuner(file, recipe, |tuner| {
        observe(tuner, subject, |_| true);
        tuner.add_class().unwrap();
        finish(tuner, recipe);
        tuner.requantize().unwrap();
        run(tuner)
    })
}

#[test]
fn a_tail_in_flash_a_delta_and_a_saved_run_keep_the_class() {
    type Pages = Flash<4, 4096>;
    let subject = subject();
    for plan in plans() {
        let file = subject.model.pack(plan).unwrap();
        let sizes = file.pack().sizes();
        let fresh = |check: &mut dyn FnMut(&mut Tuner)| with_tuner(&file, recipe(Method::Asam), check);
        with_added(&subject, &file, |tuner| {
            let answers = |tuner: &mut Tuner| -> Vec<Vec<i8>> {
                subject.test.iter().map(|(x, _)| tuner.infer(x, Version::Tuned).unwrap().to_vec()).collect()
            };
            let expected = answers(tuner);
            for contents in [Contents::Int8, Contents::Int8AndF32] {
                let page = Pages::ERASE_SIZE as u32;
                let slot = sizes.slot_bytes::<Pages>(contents);
                let (store, mut flash) = (Store::new(0, slot, 2), Pages::new((2 * slot / page) as usize));
                tuner.commit(&store, &mut flash).unwrap();
                fresh(&mut |other| {
                    assert_eq!(other.classes(), NEW);
                    assert!(other.restore(&store, &mut flash).unwrap().in_force().is_some());
                    assert_eq!(other.classes(), 7);
                    assert_eq!(answers(other), expected);
                    other.factory_reset();
                    assert_eq!(other.classes(), NEW);
                });
            }
            let mut tail = vec![0; tuner.tail_bytes()];
            tuner.read_tail(0, &mut tail).unwrap();
            let delta = flatmin_sim::delta::encode(&file, &tail).unwrap();
            let (whole, _) = flatmin_sim::delta::decode(&file, &delta).unwrap();
            fresh(&mut |other| {
                let layers = sizes.tail_layers * 8;
                other.write_tail(layers, &whole[layers..]).unwrap();
                other.adopt_tail(&whole[..layers], flatmin::crc32(&whole)).unwrap();
                assert_eq!((other.classes(), answers(other)), (7, expected.clone()));
            });

            tuner.start(recipe(Method::Asam)).unwrap();
            tuner.step().unwrap();
            let mut run = vec![0; tuner.run_bytes()];
            tuner.save_run(0, &mut run).unwrap();
            while !tuner.step().unwrap().finished {}
            fresh(&mut |other| {
                observe(other, &subject, |_| true);
                other.resume_run(&run).unwrap();
                assert_eq!(other.classes(), 7);
                while !other.step().unwrap().finished {}
                assert_eq!(other.weights_crc32(), tuner.weights_crc32());
            });
        });
    }
}

#[test]
fn what_cannot_be_added_is_refused_and_nothing_is_lost() {
    let subject = subject();
    let file = subject.model.pack(1).unwrap();
    let recipe = recipe(Method::Sgd);
    with_tuner(&file, recipe, |tuner| {
        assert_eq!(tuner.add_class(), Err(TunerError::NoSamplesOfClass { label: NEW }));
        let (input, _) = &subject.adaptation[0];
        assert_eq!(tuner.observe(input, 7), Err(TunerError::Label { label: 7, last: NEW }));
        tuner.observe(input, NEW).unwrap();
        assert_eq!(tuner.start(recipe), Err(TunerError::NoSamples));
        // The new class's only sample is that of an old one, too: no direction leads from one to the other.
        tuner.observe(input, 0).unwrap();
        let before = tuner.weights().to_vec();
        assert_eq!(tuner.add_class(), Err(TunerError::ClassFeatures { label: NEW }));
        assert_eq!((tuner.weights(), tuner.classes()), (before.as_slice(), NEW));
        tuner.start(recipe).unwrap();
        assert_eq!(tuner.add_class(), Err(TunerError::Running));
        assert_eq!(tuner.observe(input, NEW), Err(TunerError::Running));
        while !tuner.step().unwrap().finished {}
        observe(tuner, &subject, |_| true);
        tuner.add_class().unwrap();
        assert_eq!(tuner.add_class(), Err(TunerError::NoSpareClass { spare: 1 }));
    });
    let sizes = file.pack().sizes();
    let mut words = vec![0u128; CompactPlan::new(&sizes, &recipe).total_bytes().div_ceil(16)];
    let compact = CompactTuner::in_arena(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words));
    assert!(compact.unwrap_err().to_string().contains("cannot add classes"));
}

#[test]
fn what_has_no_place_for_spare_classes_is_refused() {
    let says = |result: anyhow::Result<PackFile>, what: &str| {
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains("cannot reserve spare classes") && error.contains(what), "{error}");
    };
    let spare = || bundled().with_spare_classes(1);
    says(spare().unwrap().pack(0), "inference alone");
    let biases = TailPlan { layers: 1, trains: vec![Trains::Biases] };
    says(spare().unwrap().pack(biases), "trained whole");
    let squared = bundled().with_loss(Some(flatmin::Loss::SquaredError)).with_spare_classes(1);
    says(squared.and_then(|model| model.pack(1)), "not cross-entropy");
    let mut convolution = bundled();
    convolution.network.steps.truncate(1);
    convolution.network.outputs[0].tensor = convolution.network.steps[0].output;
    says(convolution.with_spare_classes(1).and_then(|model| model.pack(1)), "fully connected");
}

/// Over the link: samples wait, the class is added, and what is refused says what to do.
#[test]
fn a_device_adds_a_class_when_it_is_told_to() {
    struct Still;
    impl Clock for Still {
        fn ticks(&mut self) -> u32 {
            0
        }
        fn hertz(&self) -> u32 {
            1
        }
    }
    let (subject, recipe) = (subject(), recipe(Method::Sam));
    let file = subject.model.pack(TailPlan::of(1)).unwrap();
    let expected = with_tuner(&file, recipe, |tuner| {
        observe(tuner, &subject, |_| true);
        tuner.add_class().unwrap();
        tuner.weights_crc32()
    });
    with_tuner(&file, recipe, |tuner| {
        let sizes = file.pack().sizes();
        let mut memory = vec![0; link_bytes(&sizes)];
        let mut board = Hardware::new("bare", Still);
        let mut endpoint = Endpoint::new(tuner, &mut board, Buffers::new(&sizes, &mut memory).unwrap());
        let mut number = 0;
        let mut ask = |request: &Request| {
            let (mut body, mut frame, mut answer) = ([0; 2048], [0; 2048], Vec::new());
            for &byte in wire::encode(number, request, &mut body, &mut frame).unwrap().iter() {
                answer.extend_from_slice(endpoint.take(byte).unwrap_or(&[]));
            }
            number += 1;
            let (_, response) = wire::decode::<Response>(&mut answer).unwrap();
            format!("{response:?}")
        };
        ask(&Request::Identify);
        assert!(ask(&Request::AddClass).contains("observe some first"));
        for (input, label) in &subject.adaptation {
            ask(&Request::Observe { label: *label as u16, input: bytemuck::cast_slice(input) });
        }
        assert_eq!(ask(&Request::AddClass), "ClassAdded { label: 6, ticks: 0 }");
        assert!(ask(&Request::Identify).contains(&format!("weights_crc32: {expected}")));
        assert!(ask(&Request::AddClass).contains("pack with more"));
    });
}

/// The firmware around a pack with a spare class has the code for it.
#[test]
fn a_board_adds_the_class_and_tunes_to_the_desktops_bits() {
    if !skipping::emulating("qemu-system-arm") {
        return;
    }
    let mut subject = subject();
    subject.test.truncate(8);
    let recipe = sized(&subject, recipe(Method::Asam)).unwrap();
    let desktop = tune(&subject, 1, recipe, || ()).unwrap();
    let log = || LogSink::new(|_| ());
    let firmware = Firmware::build("mps2-an386", &subject.model, 1, &recipe, log()).unwrap();
    let mut device = Device::start(firmware.image(), log()).unwrap();
    let pack = subject.model.pack(1).unwrap();
    let run = device::tune(&mut device, &pack, &subject, recipe, false, |_| ()).unwrap().run;
    assert_eq!(run.weights_crc32, desktop.weights_crc32);
    assert_eq!(run.confusion_tuned, desktop.confusion_tuned);
}
