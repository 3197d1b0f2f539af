//! Tails of any layers from one device to another: tuned over the link, pulled as a file, pushed, and compared operator by
//! operator. The same calls without a link are the truth.

use super::{arena, input, kitchen_sink, losses, skipping, sparse};
use flatmin::wire::{self, Request};
use flatmin::{Method, Recipe, Tuner, Version};
use flatmin_app::{Buffers, Clock, Endpoint, Hardware, link_bytes};
use flatmin_link::device::{self, Device, backup, diff, restore};
use flatmin_link::emulate::{Firmware, LogSink};
use flatmin_link::link::Answer;
use flatmin_model::model::Model;
use flatmin_model::packer::{Network, PackFile, TailPlan, Trains, lower, pack_tail};
use flatmin_sim::objective;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::tune;
use flatmin_sim::wearers::model_bytes;
use std::io::{Read, Write};
use std::net::TcpListener;

const RECIPE: Recipe =
    Recipe { method: Method::Sam, epochs: 2, minibatch: 4, replay_capacity: 8, ..Recipe::DEFAULT };
const SAMPLES: u64 = 8;

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn ticks(&mut self) -> u32 {
        0
    }

    fn hertz(&self) -> u32 {
        1
    }
}

/// A device with this pack behind a socket, until whoever connects is gone.
fn device(bytes: &[u8]) -> Device {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let bytes = bytes.to_vec();
    std::thread::spawn(move || {
        let mut words = arena(bytes.len());
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
        let pack = flatmin::Pack::new(bytemuck::cast_slice(&words)).unwrap();
        let mut memory = arena(pack.sizes().train_bytes(&RECIPE));
        let mut tuner = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut memory)).unwrap();
        let mut link = vec![0; link_bytes(&pack.sizes())];
        let mut board = Hardware::new("socket", Still);
        let mut endpoint =
            Endpoint::new(&mut tuner, &mut board, Buffers::new(&pack.sizes(), &mut link).unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            if let Some(frame) = endpoint.take(byte[0]) {
                stream.write_all(frame).unwrap();
            }
        }
    });
    Device::tcp(&address).unwrap()
}

/// The class and its output that a device gives for every sample, and whether the tuned tail did.
fn answers(device: &mut Device, network: &Network) -> Vec<(u16, i8, bool)> {
    let ask = |seed| {
        let input = input(network, seed);
        match device.ask(&Request::Classify { input: bytemuck::cast_slice(&input) }).unwrap() {
            Answer::Classified { class, output, tuned, .. } => (class, output, tuned),
            other => panic!("{other:?}"),
        }
    };
    (0..SAMPLES).map(ask).collect()
}

fn label(seed: u64) -> u16 {
    u16::from(seed.is_multiple_of(2)) * 3
}

fn check(network: &Network, file: &PackFile) {
    let mut memory = arena(file.pack().sizes().train_bytes(&RECIPE));
    let mut truth = Tuner::new(file.pack(), RECIPE, bytemuck::cast_slice_mut(&mut memory)).unwrap();
    let mut first = device(file.bytes());
    let factory = first.identify().unwrap().weights_crc32;
    assert!(first.ask(&Request::PullTail { offset: 0 }).is_err(), "there is no tuned tail yet");
    for seed in 0..SAMPLES {
        let input = input(network, seed);
        truth.observe(&input, label(seed).into()).unwrap();
        let request = Request::Observe { label: label(seed), input: bytemuck::cast_slice(&input) };
        first.ask(&request).unwrap();
    }
    truth.start(RECIPE).unwrap();
    while !truth.step().unwrap().finished {}
    truth.requantize().unwrap();
    first.ask(&Request::Start(RECIPE)).unwrap();
    while !matches!(first.ask(&Request::Step).unwrap(), Answer::Stepped { finished: true, .. }) {}
    first.ask(&Request::Requantize).unwrap();

    let tail = backup(&mut first, |_, _| {}).unwrap();
    let expected: Vec<_> = (0..SAMPLES)
        .map(|seed| {
            let output = truth.infer(&input(network, seed), Version::Tuned).unwrap();
            let best = output.iter().max().unwrap();
            (output.iter().position(|value| value == best).unwrap() as u16, *best, true)
        })
        .collect();
    assert_ne!(truth.weights_crc32(), factory);

    // Onto another device, which knows nothing of the samples.
    let mut second = device(file.bytes());
    assert_eq!(restore(&mut second, &tail, |_, _| {}).unwrap(), truth.weights_crc32());
    assert_eq!(answers(&mut second, network), expected);
    assert_eq!(backup(&mut second, |_, _| {}).unwrap(), tail);

    // A tail that was not pushed leaves the one before in force.
    let described = file.pack().sizes().tail_layers * flatmin::store::LAYER_BYTES;
    let layers = vec![0; described];
    assert!(second.ask(&Request::AdoptTail { layers: &layers, crc32: 1 }).is_err());
    let identity = second.identify().unwrap();
    assert_eq!((identity.weights_crc32, identity.tuned), (truth.weights_crc32(), true));
    assert_eq!(answers(&mut second, network), expected);

    let rows = diff(&mut second, file, &(input(network, 3), 0)).unwrap();
    assert_eq!(rows.len(), usize::from(file.pack().operator_count()));
    assert!(rows.iter().all(|row| row.device == row.simulation), "{rows:?}");
}

#[test]
fn a_tail_of_more_layers_than_one_part_describes_is_backed_up_and_restored() {
    let network = lower(&kitchen_sink::graph(1)).unwrap();
    let mixed = (0..9).map(|i| [Trains::Biases, Trains::Nothing, Trains::All][i % 3]).collect();
    let shares = sparse(&network, 9, &[Trains::Scales, Trains::Percent(40)]);
    let plans = [TailPlan::of(9), TailPlan::of(4), TailPlan { layers: 9, trains: mixed }, shares];
    for plan in plans {
        let file = pack_tail(&network, 0, &plan).unwrap();
        assert!(!file.pack().tail_is_chain());
        check(&network, &file);
    }
    let all = pack_tail(&network, 0, &TailPlan::of(9)).unwrap();
    let described = all.pack().sizes().tail_layers * flatmin::store::LAYER_BYTES;
    assert!(described > wire::TAIL_PART_BYTES, "the test is about more than one part");
}

/// An autoencoder with samples that it is to copy, and anomalies.
fn subject() -> Subject {
    let mut model = Model::parse("autoencoder".into(), model_bytes(1).unwrap()).unwrap();
    model.network = losses::autoencoder();
    let label = |seed: u64| usize::from(seed.is_multiple_of(4));
    let samples = |range: std::ops::Range<u64>| -> Vec<_> {
        range.map(|seed| (input(&model.network, seed), label(seed))).collect()
    };
    let (adaptation, test) = (samples(0..SAMPLES), samples(SAMPLES..4 * SAMPLES));
    let classes = ["normal", "anomalous"].map(String::from).into();
    Subject {
        name: "autoencoder".into(),
        model,
        classes,
        adaptation,
        test,
        origin: flatmin_sim::subject::Origin::default(),
    }
}

/// Tunes slice by slice: weights and errors are the desktop's.
fn check_autoencoder(device: &mut Device, file: &PackFile, subject: &Subject) {
    let expected = tune(subject, 2, RECIPE, || {}).unwrap();
    let found = device::tune(device, file, subject, RECIPE, true, |_| ()).unwrap().run;
    assert_eq!(found.weights_crc32, expected.weights_crc32);
    assert_eq!((found.loss, found.anomalies), (expected.loss, expected.anomalies));
    assert_eq!(found.confusion_tuned, expected.confusion_tuned);
    let anomalies = found.anomalies.unwrap();
    assert_eq!(device::anomalies(device, &subject.test).unwrap(), anomalies);
    assert!(anomalies.tuned_error != anomalies.factory_error && anomalies.tuned_auc.is_some());
}

/// Nothing but the subject's samples.
fn observe(device: &mut Device, subject: &Subject) {
    device.ask(&Request::Forget).unwrap();
    let loss = subject.model.network.loss();
    for (input, label) in &subject.adaptation {
        device.ask(&objective::observation(loss, input, *label).unwrap()).unwrap();
    }
}

#[test]
fn an_autoencoder_is_tuned_on_a_device_as_on_the_desktop() {
    let subject = subject();
    let file = subject.model.pack(2).unwrap();
    check_autoencoder(&mut device(file.bytes()), &file, &subject);
}

/// The same on a board; then its run is saved in the midst of a step, forgotten and resumed.
#[test]
fn an_autoencoder_is_tuned_on_a_board() {
    if !skipping::emulating("qemu-system-arm") {
        return;
    }
    let subject = subject();
    let firmware = Firmware::build("mps2-an386", &subject.model, 2, &RECIPE, LogSink::new(|_| ())).unwrap();
    let mut device = Device::start(firmware.image(), LogSink::new(|_| ())).unwrap();
    check_autoencoder(&mut device, firmware.pack(), &subject);
    let tuned = device.identify().unwrap().weights_crc32;
    observe(&mut device, &subject);
    device.ask(&Request::Start(RECIPE)).unwrap();
    for _ in 0..3 {
        assert!(matches!(device.ask(&Request::Poll).unwrap(), Answer::Underway { .. }));
    }
    let bytes = device::pause(&mut device, |_, _| ()).unwrap();
    observe(&mut device, &subject);
    device::resume(&mut device, &bytes, |_, _| ()).unwrap();
    device::finish(&mut device).unwrap();
    assert_eq!(device.identify().unwrap().weights_crc32, tuned);
}

/// While a saved run is expected, the velocity, where scores would be put, is the run's.
#[test]
fn no_area_is_computed_while_a_run_is_expected() {
    let subject = subject();
    let file = subject.model.pack(2).unwrap();
    let mut device = device(file.bytes());
    observe(&mut device, &subject);
    let area = Request::Auc { version: Version::Factory };
    assert!(matches!(device.ask(&area).unwrap(), Answer::Auc { .. }));
    device.ask(&Request::Start(RECIPE)).unwrap();
    let bytes = device::pause(&mut device, |_, _| ()).unwrap();
    device.ask(&Request::ExpectRun { head: &bytes[..flatmin::RUN_HEAD_BYTES] }).unwrap();
    let refused = device.ask(&area).unwrap_err().to_string();
    assert!(refused.contains("a saved run is expected"), "{refused}");
}

/// An autoencoder: samples that are their own targets, one with a target of its own, an anomaly.
#[test]
fn a_squared_error_has_the_same_bits_over_the_link() {
    let mut network = lower(&kitchen_sink::autoencoder(3, 12, None)).unwrap();
    network.loss = Some(flatmin::Loss::SquaredError);
    let file = pack_tail(&network, 0, &TailPlan::of(2)).unwrap();
    let mut memory = arena(file.pack().sizes().train_bytes(&RECIPE));
    let mut truth = Tuner::new(file.pack(), RECIPE, bytemuck::cast_slice_mut(&mut memory)).unwrap();
    let mut device = device(file.bytes());
    let samples: Vec<Vec<i8>> = (0..SAMPLES).map(|seed| input(&network, seed)).collect();
    for (place, sample) in samples.iter().enumerate() {
        let other = (place == 2).then_some(samples[5].as_slice());
        match other {
            Some(target) => truth.observe_target(sample, target).unwrap(),
            None if place == 4 => truth.observe_anomaly(sample).unwrap(),
            None => truth.observe_itself(sample).unwrap(),
        }
        let (target, input) = (other.map(bytemuck::cast_slice), bytemuck::cast_slice(sample));
        device.ask(&Request::ObserveTarget { target, anomalous: place == 4, input }).unwrap();
    }
    let input: &[u8] = bytemuck::cast_slice(&samples[0]);
    for refused in [
        Request::Observe { label: 0, input },
        Request::ObserveTarget { target: Some(&input[1..]), anomalous: false, input },
        Request::JudgeTarget { target: Some(&input[1..]), input },
    ] {
        assert!(device.ask(&refused).is_err(), "{refused:?}");
    }
    truth.start(RECIPE).unwrap();
    while !truth.step().unwrap().finished {}
    truth.requantize().unwrap();
    device.ask(&Request::Start(RECIPE)).unwrap();
    while !matches!(device.ask(&Request::Step).unwrap(), Answer::Stepped { finished: true, .. }) {}
    device.ask(&Request::Requantize).unwrap();
    assert_eq!(device.identify().unwrap().weights_crc32, truth.weights_crc32());
    for target in [None, Some(samples[6].as_slice())] {
        let expected = Answer::Compared {
            factory: truth.error(&samples[0], target, Version::Factory).unwrap(),
            tuned_f32: truth.score_target(&samples[0], target).unwrap().loss,
            tuned_int8: Some(truth.error(&samples[0], target, Version::Tuned).unwrap()),
        };
        let target = target.map(bytemuck::cast_slice);
        assert_eq!(device.ask(&Request::JudgeTarget { target, input }).unwrap(), expected);
    }
    for version in [Version::Factory, Version::Tuned] {
        let expected = truth.auc(version).unwrap();
        let found = device.ask(&Request::Auc { version }).unwrap();
        assert_eq!(found, Answer::Auc { auc: expected, ticks: 0 });
    }
}

#[test]
fn a_tail_of_the_bundled_models_convolutions_is_backed_up_and_restored() {
    let model = Model::bundled("wearer 3".into(), model_bytes(3).unwrap()).unwrap();
    let trains = vec![Trains::Biases, Trains::All, Trains::Nothing];
    let file = pack_tail(&model.network, 0, &TailPlan { layers: 5, trains }).unwrap();
    assert!(!file.pack().tail_is_chain());
    check(&model.network, &file);
}
