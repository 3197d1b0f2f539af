//! int8 inference equals TensorFlow Lite's reference interpreter on every output byte. `golden/README.md` says
//! how the expected bytes were made.

use host_sim::model::Model;
use host_sim::wearers::{Recordings, SplitMix64, WEARERS, model_bytes};

const INPUTS: usize = 1_000;
const CLASSES: usize = 7;

fn golden(wearer: usize, kind: &str) -> Vec<i8> {
    let path = format!("{}/tests/golden/wearer{wearer:02}_{kind}.bin", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(bytes.len(), INPUTS * CLASSES, "{path}");
    bytes.iter().map(|b| b.cast_signed()).collect()
}

fn check(wearer: usize, kind: &str, mut input: impl FnMut(flatmin::Affine) -> Vec<i8>) {
    let model = Model::bundled(format!("wearer {wearer}"), model_bytes(wearer).unwrap()).unwrap();
    // Packed with and without a tail: the cut must not change a byte.
    for layers in [0, 2] {
        let file = model.pack(layers).unwrap();
        let pack = file.pack();
        let mut arena = vec![0; pack.sizes().arena_bytes];
        let affine = pack.input().affine;
        let inputs: Vec<Vec<i8>> = if layers == 0 {
            (0..INPUTS).map(|_| input(affine)).collect()
        } else {
            continue;
        };
        for (index, (x, expected)) in inputs.iter().zip(golden(wearer, kind).chunks(CLASSES)).enumerate() {
            let output = flatmin::infer(&pack, x, &mut arena);
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
