//! int8 inference equals TensorFlow Lite's reference interpreter on every output byte. `golden/README.md` says
//! how the expected bytes were made.

use flatmin::{Recipe, Tuner, TunerError, Version};
use flatmin_model::model::Model;
use flatmin_sim::wearers::{Recordings, SplitMix64, WEARERS, model_bytes};
use std::path::Path;

const INPUTS: usize = 1_000;
const CLASSES: usize = 7;

fn golden(file: &str) -> Vec<i8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes.iter().map(|b| b.cast_signed()).collect()
}

fn check(wearer: usize, kind: &str, mut input: impl FnMut(flatmin::Affine) -> Vec<i8>) {
    let model = Model::bundled(format!("wearer {wearer}"), model_bytes(wearer).unwrap()).unwrap();
    let expected = golden(&format!("wearer{wearer:02}_{kind}.bin"));
    assert_eq!(expected.len(), INPUTS * CLASSES);
    // Packed with and without a tail: the cut must not change a byte.
    let files = [model.pack(0).unwrap(), model.pack(2).unwrap()];
    let packs = files.each_ref().map(|file| file.pack());
    let affine = packs[0].input().affine;
    for (index, expected) in expected.chunks(CLASSES).enumerate() {
        let x = input(affine);
        for pack in &packs {
            let mut arena = vec![0; pack.sizes().arena_bytes];
            let output = flatmin::infer(pack, &x, &mut arena);
            assert_eq!(output, expected, "wearer {wearer}, {kind} input {index}");
        }
    }
}

#[test]
fn bundled_models_on_random_inputs() {
    for wearer in 1..=WEARERS {
        let mut random = SplitMix64::new(wearer as u64);
        check(wearer, "random", |_| (0..600).map(|_| (random.next_u64() >> 56) as u8 as i8).collect());
    }
}

#[test]
fn bundled_models_on_real_windows() {
    let recordings = Recordings::bundled().unwrap();
    for wearer in 1..=WEARERS {
        let mut windows = recordings.windows_in_file_order(50);
        check(wearer, "real", |affine| {
            let window = windows.next().expect("1,000 windows");
            window.iter().map(|&x| affine.quantize(x)).collect()
        });
    }
}

/// Sums that lie in the middle between two outputs, and a hair beside it, of both signs.
#[test]
fn fully_connected_at_ties() {
    for name in ["exact_ties", "below_ties", "per_channel"] {
        let path = format!("{}/tests/golden/fully_connected_{name}.tflite", env!("CARGO_MANIFEST_DIR"));
        let file = Model::open(path.as_ref()).unwrap().pack(0).unwrap();
        let pack = file.pack();
        let mut arena = vec![0; pack.sizes().arena_bytes];
        let expected = golden(&format!("fully_connected_{name}.bin"));
        let outputs: Vec<i8> =
            (-128..=127).flat_map(|x: i8| flatmin::infer(&pack, &[x], &mut arena).to_vec()).collect();
        assert_eq!(outputs, expected, "{name}");
    }
}

/// A network that keeps variables, over 200 hops of one stream: with and without a tail, and as windows that begin anew.
#[test]
fn a_stream_hop_by_hop() {
    let path = format!("{}/tests/golden/streaming.tflite", env!("CARGO_MANIFEST_DIR"));
    let model = Model::open(path.as_ref()).unwrap();
    let expected = golden("streaming.bin");
    let outputs = 4;
    let mut random = SplitMix64::new(20);
    let hops: Vec<i8> = (0..200 * 24).map(|_| (random.next_u64() >> 56) as u8 as i8).collect();
    let files = [model.pack(0).unwrap(), model.pack(1).unwrap()];
    for pack in files.each_ref().map(|file| file.pack()) {
        let mut arena = vec![77; pack.sizes().arena_bytes];
        for round in 0..2 {
            flatmin::inference::reset(&pack, &mut arena);
            for (index, (hop, expected)) in hops.chunks(24).zip(expected.chunks(outputs)).enumerate() {
                assert_eq!(flatmin::infer(&pack, hop, &mut arena), expected, "hop {index}, round {round}");
            }
        }
    }
    let recipe = Recipe { replay_capacity: 4, ..Recipe::DEFAULT };
    let mut memory = vec![0_u128; files[1].pack().sizes().train_bytes(&recipe).div_ceil(16)];
    let mut tuner = Tuner::new(files[1].pack(), recipe, bytemuck::cast_slice_mut(&mut memory)).unwrap();
    // Longer windows, then shorter: nothing is left of the one before.
    for length in [200, 3, 1, 60] {
        let window = &hops[..length * 24];
        let found = tuner.infer(window, Version::Factory).unwrap();
        assert_eq!(found, &expected[(length - 1) * outputs..length * outputs], "a window of {length} hops");
    }
    assert_eq!(tuner.latent(&hops[..25]).unwrap_err(), TunerError::InputLength { expected: 24, found: 25 });
    assert_eq!(tuner.latent(&[]).unwrap_err(), TunerError::InputLength { expected: 24, found: 0 });
}
