//! Wearer 1's bundled network and windows in a tuner of either kind.
#![allow(dead_code)] // each test uses its part

use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::Flash;
use flatmin::store::{Contents, Store};
use flatmin::{Arithmetic, Pack, RUN_HEAD_BYTES, Recipe, Tuner, TunerError, Version};
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;
use flatmin_sim::tuning::Tail;
use flatmin_sim::wearers::{Recordings, model_bytes};

pub type Labelled = (Vec<i8>, usize);
pub type Nor = Flash<4, 4096>;

/// 1 and 2: chains. 3: convolution, dense, dense: a graph.
pub fn packed(layers: usize) -> PackFile {
    Model::bundled("wearer 1".into(), model_bytes(1).unwrap()).unwrap().pack(layers).unwrap()
}

pub fn samples(pack: &Pack, count: usize) -> Vec<Labelled> {
    let windows = Recordings::bundled().unwrap().test(1).unwrap();
    let affine = pack.input().affine;
    let chosen = windows.iter().step_by(7).take(count);
    chosen.map(|w| (w.samples.iter().map(|&x| affine.quantize(x)).collect(), w.label)).collect()
}

/// Memory that held something else before.
pub fn arena(kind: Tail, pack: &Pack, recipe: &Recipe) -> Vec<u128> {
    vec![u128::from_le_bytes([0xA5; 16]); kind.arena_bytes(&pack.sizes(), recipe).div_ceil(16)]
}

pub fn observe<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, samples: &[Labelled]) {
    samples.iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
}

/// A whole run, and its int8 tail.
pub fn run<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, recipe: Recipe) {
    tuner.start(recipe).unwrap();
    while !tuner.step().unwrap().finished {}
    tuner.requantize().unwrap();
}

pub fn saved<'p, A: Arithmetic<'p>>(tuner: &Tuner<'p, A>) -> Vec<u8> {
    let mut bytes = vec![0; tuner.run_bytes()];
    assert_eq!(tuner.save_run(0, &mut bytes), Ok(bytes.len()));
    bytes
}

/// A run of `own`, saved whole and in parts: `other`, which has the same samples, takes it, and before that refuses it with
/// one bit of every `step`th byte flipped, or cut short, without any change.
pub fn damaged_runs_are_refused<'p, A: Arithmetic<'p>>(
    own: &mut Tuner<'p, A>,
    other: &mut Tuner<'p, A>,
    recipe: Recipe,
    step: usize,
) -> Vec<u8> {
    own.start(recipe).unwrap();
    (0..9).for_each(|_| _ = own.poll().unwrap());
    let bytes = saved(own);
    let mut parts = Vec::new();
    while parts.len() < bytes.len() {
        let mut part = [0; 37];
        let count = own.save_run(parts.len(), &mut part).unwrap();
        parts.extend_from_slice(&part[..count]);
    }
    assert!(parts == bytes);

    other.start(recipe).unwrap();
    let untouched = saved(other);
    for at in (0..bytes.len()).step_by(step) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert_eq!(other.resume_run(&damaged), Err(TunerError::RunDamaged), "byte {at}");
    }
    for length in [0, 1, RUN_HEAD_BYTES - 1, RUN_HEAD_BYTES, bytes.len() - 1] {
        assert_eq!(other.resume_run(&bytes[..length]), Err(TunerError::RunDamaged));
    }
    assert!(saved(other) == untouched);
    other.resume_run(&bytes).unwrap();
    assert!(saved(other) == bytes);
    bytes
}

/// A saved run goes on neither with one sample more nor in a tuner of another pack.
pub fn runs_of_others_are_refused<'p, 'q, A: Arithmetic<'p>, B: Arithmetic<'q>>(
    own: &mut Tuner<'p, A>,
    another: &mut Tuner<'q, B>,
    bytes: &[u8],
    (input, label): &Labelled,
) {
    own.observe(input, *label).unwrap();
    let refused = own.resume_run(bytes).unwrap_err();
    assert!(matches!(refused, TunerError::RunOfAnother { what: "replay's samples", .. }), "{refused}");
    let refused = another.resume_run(bytes).unwrap_err();
    assert!(matches!(refused, TunerError::RunOfAnother { what: "pack", .. }), "{refused}");
}

/// The tuned int8 tail's output for every sample; empty without a tuned tail.
pub fn answers<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, samples: &[Labelled]) -> Vec<i8> {
    let mut all = Vec::new();
    for (input, _) in samples {
        match tuner.infer(input, Version::Tuned) {
            Ok(output) => all.extend_from_slice(output),
            Err(error) => assert_eq!(error, TunerError::NotTuned),
        }
    }
    all
}

/// The confusion matrix, from the answers one by one.
pub fn confusion<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    samples: &[Labelled],
    version: Version,
) -> Vec<u16> {
    let classes = tuner.classes();
    let mut counts = vec![0; classes * classes];
    for (input, label) in samples {
        let output = tuner.infer(input, version).unwrap();
        let class = output.iter().position(|value| value == output.iter().max().unwrap()).unwrap();
        counts[label * classes + class] += 1;
    }
    counts
}

/// A store of two slots for these contents, and its flash.
pub fn flash_of(pack: &Pack, contents: Contents) -> (Store, Nor) {
    let store = Store::new(0, pack.sizes().slot_bytes::<Nor>(contents), 2);
    (store, Nor::new(store.end() as usize / Nor::ERASE_SIZE).write_once())
}
