//! Tails of any layers from one device to another: tuned over the link, pulled as a file, pushed, and compared operator by
//! operator. The same calls without a link are the truth.

use super::{arena, input, kitchen_sink, sparse};
use flatmin::wire::{self, Request};
use flatmin::{Method, Recipe, Tuner, Version};
use flatmin_app::{Buffers, Clock, Endpoint, Hardware, link_bytes};
use host_sim::device::{Device, backup, diff, restore};
use host_sim::link::Answer;
use host_sim::model::Model;
use host_sim::packer::{Network, PackFile, TailPlan, Trains, lower, pack_tail};
use host_sim::wearers::model_bytes;
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
            let output = truth.classify(&input(network, seed), Version::Tuned).unwrap();
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

    // A byte that is another than announced brings the factory tail back.
    let described = file.pack().sizes().tail_layers * flatmin::store::record::LAYER_BYTES;
    let layers = vec![0; described];
    assert!(second.ask(&Request::AdoptTail { layers: &layers, crc32: 1 }).is_err());
    let identity = second.identify().unwrap();
    assert_eq!((identity.weights_crc32, identity.tuned), (factory, false));

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
    let described = all.pack().sizes().tail_layers * flatmin::store::record::LAYER_BYTES;
    assert!(described > wire::TAIL_PART_BYTES, "the test is about more than one part");
}

#[test]
fn a_tail_of_the_bundled_models_convolutions_is_backed_up_and_restored() {
    let model = Model::bundled("wearer 3".into(), model_bytes(3).unwrap()).unwrap();
    let trains = vec![Trains::Biases, Trains::All, Trains::Nothing];
    let file = pack_tail(&model.network, 0, &TailPlan { layers: 5, trains }).unwrap();
    assert!(!file.pack().tail_is_chain());
    check(&model.network, &file);
}
