//! A step in slices: whatever comes between them, and however often a run is saved and resumed in a fresh tuner, it ends
//! with the bits of an uninterrupted one.

use crate::bundled;
use crate::skipping;

use crate::bundled::{
    Labelled, confusion, damaged_runs_are_refused, observe, packed, runs_of_others_are_refused, samples,
    saved,
};
use flatmin::store::Contents;
use flatmin::wire::Request;
use flatmin::{Method, Optimizer, Pack, Progress, Recipe, Tuner, TunerError, Version};
use flatmin_link::device::{self, Device};
use flatmin_link::emulate::{Answer, Firmware, LogSink};
use flatmin_sim::delta;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Tail, sized, tune};

fn arena(pack: &Pack, recipe: &Recipe) -> Vec<u128> {
    bundled::arena(Tail::Full, pack, recipe)
}

fn tuner<'a>(pack: &Pack<'a>, recipe: &Recipe, arena: &'a mut [u128], data: &[Labelled]) -> Tuner<'a> {
    let mut tuner = Tuner::new(*pack, *recipe, bytemuck::cast_slice_mut(arena)).unwrap();
    observe(&mut tuner, data);
    tuner
}

/// What a tail answers, in bits: weights, f32 loss, judgement, means, int8 outputs.
#[derive(Debug, Clone, PartialEq)]
struct Answers(u32, u32, u32, u32, Vec<i8>);

fn answers(tuner: &mut Tuner, (input, label): &Labelled) -> Answers {
    Answers(
        tuner.weights_crc32(),
        tuner.score(input, *label).unwrap().loss.to_bits(),
        tuner.judge_weights().unwrap().loss.to_bits(),
        tuner.evaluate(0.05).unwrap().loss.to_bits(),
        tuner.infer(input, Version::Factory).unwrap().to_vec(),
    )
}

struct Case {
    layers: usize,
    recipe: Recipe,
}

/// Every method, group size and way of judging, chains and graphs, stored ascents and not.
fn cases() -> Vec<Case> {
    let base = Recipe {
        epochs: 2,
        minibatch: 5,
        replay_capacity: 8,
        rho: 0.05,
        learning_rate: 0.05,
        ..Recipe::DEFAULT
    };
    let mut cases = Vec::new();
    for layers in [1, 3] {
        for method in [Method::Sgd, Method::Sam, Method::Asam, Method::SamOn] {
            for sharpness_batch in [1, 4] {
                cases.push(Case { layers, recipe: Recipe { method, sharpness_batch, ..base } });
            }
        }
        let judged = Recipe { held_out: 0.3, keep_best: true, sample_losses: true, ..base };
        cases.push(Case { layers, recipe: judged });
        cases.push(Case { layers, recipe: Recipe { held_out: 0.0, sharpness_batch: 4, ..judged } });
    }
    for (layers, method, sharpness_batch) in [(1, Method::Sgd, 1), (1, Method::Sam, 4), (3, Method::SamOn, 1)]
    {
        let adam = Recipe { optimizer: Optimizer::Adam, learning_rate: 0.01, warm_up: 0.5, ..base };
        cases.push(Case { layers, recipe: Recipe { method, sharpness_batch, ascent_every: 2, ..adam } });
    }
    cases.push(Case { layers: 1, recipe: Recipe { store_perturbation: true, ..base } });
    cases.push(Case { layers: 1, recipe: Recipe { minibatch: 1, weight_decay: 0.0, ..base } });
    cases
}

#[test]
fn interrupted_and_resumed_at_every_slice_boundary_it_ends_with_the_same_bits() {
    for Case { layers, recipe } in cases() {
        let file = packed(layers);
        let pack = file.pack();
        assert_eq!(pack.tail_is_chain(), layers == 1);
        let data = samples(&pack, 8);
        let [mut first, mut second, mut third] = [(); 3].map(|()| arena(&pack, &recipe));
        let mut whole = tuner(&pack, &recipe, &mut first, &data);
        let mut pair = [&mut second, &mut third].map(|arena| tuner(&pack, &recipe, arena, &data));
        whole.start(recipe).unwrap();
        pair[0].start(recipe).unwrap();
        let (mut slices, mut running) = (0, 0);
        loop {
            let before = answers(&mut whole, &data[0]);
            let expected = whole.step().unwrap();
            let report = loop {
                let bytes = saved(&pair[running]);
                let next = 1 - running;
                // What the other tuner has in its buffers must not matter.
                pair[next].factory_reset();
                pair[next].start(Recipe { seed: slices, ..recipe }).unwrap();
                (0..slices % 9).for_each(|_| _ = pair[next].poll().unwrap());
                pair[next].resume_run(&bytes).unwrap();
                assert!(saved(&pair[next]) == bytes, "{recipe:?}");
                running = next;
                let settled = !matches!(
                    pair[running].position().unwrap().work,
                    flatmin::Work::Losses | flatmin::Work::Judge
                );
                if settled {
                    assert_eq!(answers(&mut pair[running], &data[0]), before, "{recipe:?}, slice {slices}");
                }
                slices += 1;
                if let Progress::Stepped(report) = pair[running].poll().unwrap() {
                    break report;
                }
            };
            assert_eq!(report, expected, "{recipe:?}");
            if report.finished {
                break;
            }
        }
        let own = &mut pair[running];
        assert_eq!(own.weights_crc32(), whole.weights_crc32(), "{recipe:?}");
        assert_eq!((own.best(), own.macs() > 0), (whole.best(), true));
        assert!((0..8).all(|slot| own.mean_loss(slot) == whole.mean_loss(slot)));
        assert_eq!((own.position(), own.poll()), (None, Err(TunerError::NotRunning)));
        // 2 epochs of 8 samples, in slices of one sample at most.
        assert!(slices >= if recipe.minibatch == 1 || recipe.held_out > 0.0 { 12 } else { 16 + 2 * 2 });
    }
}

#[test]
fn a_run_of_something_else_and_damaged_bytes_are_refused_and_change_nothing() {
    let file = packed(1);
    let pack = file.pack();
    let recipe = Recipe { epochs: 2, minibatch: 4, replay_capacity: 8, keep_best: true, ..Recipe::DEFAULT };
    let data = samples(&pack, 7);
    let (mut first, mut second) = (arena(&pack, &recipe), arena(&pack, &recipe));
    let mut own = tuner(&pack, &recipe, &mut first, &data);
    assert_eq!((own.run_bytes(), own.save_run(0, &mut [0; 8])), (0, Err(TunerError::NotRunning)));
    let mut other = tuner(&pack, &recipe, &mut second, &data);
    let bytes = damaged_runs_are_refused(&mut own, &mut other, recipe, 5);

    // Head first, then a body that is not the one announced: the weights are the factory's again.
    other.expect_run(&bytes).unwrap();
    assert_eq!(other.poll(), Err(TunerError::NotRunning));
    other.write_run(flatmin::RUN_HEAD_BYTES, &bytes[flatmin::RUN_HEAD_BYTES..][..40]).unwrap();
    other.write_run(flatmin::RUN_HEAD_BYTES + 8, &[1, 2, 3]).unwrap();
    assert!(matches!(other.write_run(0, &[1]), Err(TunerError::TailRange { .. })));
    assert!(matches!(other.write_run(bytes.len(), &[1]), Err(TunerError::TailRange { .. })));
    assert_eq!(other.adopt_run(&bytes), Err(TunerError::RunDamaged));
    let changed = other.weights_crc32();
    other.factory_reset();
    assert_eq!(changed, other.weights_crc32());

    // Half written, it is used for nothing, and nothing comes of what nobody expects.
    let part = &bytes[flatmin::RUN_HEAD_BYTES..][..40];
    assert_eq!(other.write_run(flatmin::RUN_HEAD_BYTES, part), Err(TunerError::NotRunning));
    assert_eq!(other.adopt_run(&bytes), Err(TunerError::NotRunning));
    other.expect_run(&bytes).unwrap();
    other.write_run(flatmin::RUN_HEAD_BYTES, part).unwrap();
    assert_eq!(other.requantize(), Err(TunerError::RunExpected));
    assert_eq!(other.accept().unwrap_err(), TunerError::RunExpected);
    other.start(recipe).unwrap();
    assert_eq!(changed, other.weights_crc32());
    // A damaged head leaves no half-written weights either.
    other.expect_run(&bytes).unwrap();
    other.write_run(flatmin::RUN_HEAD_BYTES, part).unwrap();
    assert_eq!(other.adopt_run(&bytes[..9]), Err(TunerError::RunDamaged));
    assert_eq!(changed, other.weights_crc32());

    let (another, mut third) = (packed(2), arena(&packed(2).pack(), &recipe));
    let mut another = tuner(&another.pack(), &recipe, &mut third, &data);
    runs_of_others_are_refused(&mut other, &mut another, &bytes, &data[0]);
}

/// A sample that comes in the midst of a step joins in the next epoch, as one that comes between two steps does.
#[test]
fn a_newcomer_waits_for_the_next_epoch() {
    let file = packed(3);
    let pack = file.pack();
    let recipe =
        Recipe { epochs: 2, minibatch: 3, sharpness_batch: 3, replay_capacity: 8, ..Recipe::DEFAULT };
    let data = samples(&pack, 7);
    let crc32 = |polls: usize| {
        let mut memory = arena(&pack, &recipe);
        let mut tuner = tuner(&pack, &recipe, &mut memory, &data[..6]);
        tuner.start(recipe).unwrap();
        tuner.step().unwrap();
        (0..polls).for_each(|_| assert!(matches!(tuner.poll(), Ok(Progress::Underway(_)))));
        tuner.observe(&data[6].0, data[6].1).unwrap();
        let mut steps = 1;
        while !tuner.step().unwrap().finished {
            steps += 1;
        }
        assert_eq!(steps, 4); // and the last: 6 samples, then 7, in steps of 3
        tuner.weights_crc32()
    };
    let between = crc32(0);
    (1..9).for_each(|polls| assert_eq!(crc32(polls), between));
}

/// The matrix and the running means, against the calls that classify and score one sample.
#[test]
fn confusion_and_drift_are_those_of_the_samples_one_by_one() {
    let file = packed(3);
    let pack = file.pack();
    let recipe = Recipe { epochs: 2, replay_capacity: 24, learning_rate: 0.05, ..Recipe::DEFAULT };
    let data = samples(&pack, 24);
    let (mut memory, mut spare) = (arena(&pack, &recipe), arena(&pack, &recipe));
    let mut own = tuner(&pack, &recipe, &mut memory, &[]);
    let mut truth = tuner(&pack, &recipe, &mut spare, &data);
    assert_eq!(own.drift(), None);
    own.watch(Some(flatmin::Watch { samples: 1000, rho: 0.05, loss: 1e3, rise: 1e3 }));
    observe(&mut own, &data);
    let (drift, means) = (own.drift().unwrap(), truth.evaluate(0.05).unwrap());
    assert_eq!((drift.samples, drift.drifted), (24, false));
    assert!((drift.loss - means.loss).abs() < 1e-5 * means.loss.max(1.0));
    assert!((drift.rise - means.rise).abs() < 1e-5 && means.rise > means.sharpness);
    assert_eq!(own.weights_crc32(), truth.weights_crc32());

    let classes = pack.sizes().output_length;
    bundled::run(&mut own, recipe);
    for version in [Version::Factory, Version::Tuned] {
        let expected = confusion(&mut own, &data, version);
        let mut found = vec![9; classes * classes];
        own.confusion(version, &mut found).unwrap();
        assert_eq!(found, expected);
        assert_eq!(found.iter().sum::<u16>(), 24);
    }
    let length = classes * classes;
    assert_eq!(
        own.confusion(Version::Tuned, &mut [0]),
        Err(TunerError::ConfusionLength { expected: length, found: 1 })
    );
}

/// A delta holds all that classifies, in a fraction of the record's bytes, and nothing else passes for one.
#[test]
fn a_delta_brings_back_every_output() {
    let file = packed(2);
    let pack = file.pack();
    let recipe = Recipe { epochs: 6, replay_capacity: 40, ..Recipe::DEFAULT };
    let data = samples(&pack, 40);
    let (mut first, mut second) = (arena(&pack, &recipe), arena(&pack, &recipe));
    let mut own = tuner(&pack, &recipe, &mut first, &data);
    let mut other = tuner(&pack, &recipe, &mut second, &[]);
    bundled::run(&mut own, recipe);
    let mut tail = vec![0; own.tail_bytes()];
    own.read_tail(0, &mut tail).unwrap();
    let bytes = delta::encode(&file, &tail).unwrap();
    let records = [Contents::Int8, Contents::Int8AndF32].map(|contents| pack.sizes().payload_bytes(contents));
    println!("delta of {} bytes; int8 record {}, with f32 weights {}", bytes.len(), records[0], records[1]);
    assert!(bytes.len() < records[0] * 2 / 3 && bytes.len() > 100);

    let (whole, weights_crc32) = delta::decode(&file, &bytes).unwrap();
    let layers = pack.sizes().tail_layers * flatmin::store::LAYER_BYTES;
    other.write_tail(layers, &whole[layers..]).unwrap();
    other.adopt_tail(&whole[..layers], flatmin::crc32(&whole)).unwrap();
    assert_eq!(other.weights_crc32(), weights_crc32);
    for (input, _) in &data {
        let expected = own.infer(input, Version::Tuned).unwrap().to_vec();
        assert_eq!(other.infer(input, Version::Tuned).unwrap(), expected);
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        // The reference takes a run of the tail: most damage is found before.
        assert!(delta::decode(&file, &damaged).is_err());
    }
    assert!(delta::decode(&file, &bytes[..bytes.len() - 1]).is_err());
    let refused = delta::decode(&packed(1), &bytes).unwrap_err().to_string();
    assert!(refused.contains("give the model and --layers"), "{refused}");
}

/// On boards, through their UART: sliced, judged and taken as on the desktop; then stopped in the midst of a step with the
/// weights moved, forgotten, and resumed.
#[test]
fn boards_stop_in_the_midst_of_a_step_and_go_on_with_the_desktops_bits() {
    if !skipping::emulating("qemu-system-arm") {
        return;
    }
    let mut subject = Subject::wearer(1, 9, 0.2, 1).unwrap();
    subject.adaptation.truncate(21);
    let test = std::mem::take(&mut subject.test);
    subject.test = test.into_iter().step_by(20).collect();
    let recipe = Recipe {
        epochs: 2,
        minibatch: 8,
        sharpness_batch: 4,
        held_out: 0.2,
        keep_best: true,
        learning_rate: 0.02,
        ..Recipe::DEFAULT
    };
    let desktop = tune(&subject, 1, recipe, || {}).unwrap();
    let recipe = sized(&subject, recipe).unwrap();
    let file = subject.model.pack(1).unwrap();
    let mut memory = arena(&file.pack(), &recipe);
    let mut whole = tuner(&file.pack(), &recipe, &mut memory, &subject.adaptation);
    whole.start(recipe).unwrap();
    while !whole.step().unwrap().finished {}
    whole.requantize().unwrap();
    for board in ["mps2-an386", "riscv32-virt"] {
        let firmware = Firmware::build(board, &subject.model, 1, &recipe, LogSink::new(|_| ())).unwrap();
        let mut device = Device::start(firmware.image(), LogSink::new(|_| ())).unwrap();
        let measured = device::tune(&mut device, &file, &subject, recipe, true, |_| ()).unwrap();
        assert_eq!(measured.run.weights_crc32, desktop.weights_crc32, "{board}");
        let (there, here) = (measured.run.verdict.unwrap(), desktop.verdict.unwrap());
        assert_eq!((there.accepted, there.tuned_loss), (here.accepted, here.tuned_loss), "{board}");

        let observe = |device: &mut Device| {
            device.ask(&Request::Forget).unwrap();
            for (input, label) in &subject.adaptation {
                let (label, input) = (*label as u16, bytemuck::cast_slice(input));
                device.ask(&Request::Observe { label, input }).unwrap();
            }
        };
        observe(&mut device);
        device.ask(&Request::Start(recipe)).unwrap();
        let moved = flatmin::Work::Step(flatmin::Phase::Restore);
        let mut polls = 0;
        loop {
            polls += 1;
            let answer = device.ask(&Request::Poll).unwrap();
            if matches!(answer, Answer::Underway { position, .. } if position.work == moved && polls > 40) {
                break;
            }
        }
        let bytes = device::pause(&mut device, |_, _| ()).unwrap();
        observe(&mut device);
        device::resume(&mut device, &bytes, |_, _| ()).unwrap();
        device::finish(&mut device).unwrap();
        assert_eq!(device.identify().unwrap().weights_crc32, whole.weights_crc32(), "{board}");
        device.ask(&Request::Requantize).unwrap();

        let confusion = device::confusion(&mut device, Version::Tuned).unwrap().concat();
        let mut expected = vec![0; confusion.len()];
        whole.confusion(Version::Tuned, &mut expected).unwrap();
        assert_eq!(confusion, expected, "{board}");
        let classes = |device: &mut Device| -> Vec<(u16, i8)> {
            let asked = subject.test.iter().map(|(input, _)| {
                device.ask(&Request::Classify { input: bytemuck::cast_slice(input) }).unwrap()
            });
            asked
                .map(|answer| match answer {
                    Answer::Classified { class, output, .. } => (class, output),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let before = classes(&mut device);
        let small = device::backup_delta(&mut device, &file, |_, _| ()).unwrap();
        device.ask(&Request::FactoryReset).unwrap();
        assert_ne!(classes(&mut device), before);
        device::restore_delta(&mut device, &file, &small, |_, _| ()).unwrap();
        assert_eq!(classes(&mut device), before, "{board}");
    }
}
