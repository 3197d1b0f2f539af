//! int8 inference equals TensorFlow Lite's reference interpreter on every output byte. `golden/README.md` says
//! how the expected bytes were made.

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
