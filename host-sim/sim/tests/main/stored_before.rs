//! What was written by the code of before is still read, with the same bits: saved runs, records in flash, pushed tails
//! and deltas, as files in `golden/stored`.

use crate::bundled::{Labelled, observe, saved};
use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::Flash;
use flatmin::store::Store;
use flatmin::{
    Arithmetic, CompactTuner, Method, Optimizer, Pack, RUN_HEAD_BYTES, Recipe, RhoUnit, Tuner, TunerError,
    crc32,
};
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;
use flatmin_sim::tuning::Tail;
use flatmin_sim::wearers::SplitMix64;
use std::path::PathBuf;

/// Small pages, for small files.
type Nor = Flash<4, 256>;

/// A tuner, and a run of it that is saved after so many slices.
struct Case {
    name: &'static str,
    /// The pack: `golden/stored/{pack}.pack`.
    pack: &'static str,
    kind: Tail,
    recipe: Recipe,
    slices: usize,
}

const RECIPE: Recipe = Recipe {
    epochs: 3,
    minibatch: 4,
    replay_capacity: 12,
    learning_rate: 0.02,
    warm_up: 0.2,
    rho: 0.05,
    rho_unit: RhoUnit::Weights,
    ..Recipe::DEFAULT
};

const CASES: [Case; 5] = [
    // In the midst of a judgement.
    Case {
        name: "chain",
        pack: "chain",
        kind: Tail::Full,
        recipe: Recipe {
            method: Method::Asam,
            keep_best: true,
            sample_losses: true,
            held_out: 0.25,
            rho: 0.5,
            ..RECIPE
        },
        slices: 31,
    },
    Case {
        name: "adam",
        pack: "chain",
        kind: Tail::Full,
        recipe: Recipe { optimizer: Optimizer::Adam, method: Method::Sgd, learning_rate: 0.005, ..RECIPE },
        slices: 17,
    },
    // With `w + e` in the weights.
    Case {
        name: "graph",
        pack: "graph",
        kind: Tail::Full,
        recipe: Recipe { method: Method::Sam, ..RECIPE },
        slices: 20,
    },
    Case {
        name: "shared_ascent",
        pack: "chain",
        kind: Tail::Full,
        recipe: Recipe { method: Method::Sam, sharpness_batch: 2, ..RECIPE },
        slices: 24,
    },
    Case {
        name: "compact",
        pack: "chain",
        kind: Tail::Compact,
        recipe: Recipe { method: Method::Sam, held_out: 0.25, ..RECIPE },
        slices: 15,
    },
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stored").join(name)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

/// The pack's bytes as [`Pack::new`] wants them aligned.
fn aligned(bytes: &[u8]) -> Vec<u128> {
    let mut words = vec![0u128; bytes.len().div_ceil(16)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

fn packed(layers: usize) -> PackFile {
    let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/golden/network_int8.onnx");
    Model::open(&model).unwrap().pack(layers).unwrap()
}

/// Random inputs and labels: as many as a replay holds.
fn samples(pack: &Pack) -> Vec<Labelled> {
    let mut random = SplitMix64::new(13);
    let classes = pack.output().len();
    let mut input = || (0..pack.input().len()).map(|_| (random.next_u64() >> 56) as u8 as i8).collect();
    (0..12).map(|i| (input(), i % classes)).collect()
}

/// Makes the case's tuner with its samples, and lends it.
fn with_tuner(case: &Case, make: impl FnOnce(&mut dyn FnMut(Call) -> Vec<u8>)) {
    let bytes = file(&format!("{}.pack", case.pack));
    let words = aligned(&bytes);
    let pack = Pack::new(bytemuck::cast_slice(&words)).unwrap();
    let mut arena = crate::bundled::arena(case.kind, &pack, &case.recipe);
    let arena = bytemuck::cast_slice_mut(&mut arena);
    match case.kind {
        Tail::Full => {
            let mut tuner = Tuner::new(pack, case.recipe, arena).unwrap();
            observe(&mut tuner, &samples(&pack));
            make(&mut |call| answer(&mut tuner, case, call));
        }
        Tail::Compact => {
            let mut tuner = CompactTuner::in_arena(pack, case.recipe, arena).unwrap();
            observe(&mut tuner, &samples(&pack));
            make(&mut |call| answer(&mut tuner, case, call));
        }
        Tail::Integer => unreachable!("none was written before"),
    }
}

/// What is asked of a tuner of either kind.
#[derive(Clone, Copy)]
enum Call<'c> {
    /// Starts the run; its bytes after the case's slices.
    RunInPart,
    /// Goes on with a run, to its end; the tail that it gives.
    Resume(&'c [u8]),
    /// The run without a break; the tail that it gives.
    RunWhole,
    /// The flash with the tail in force.
    Commit,
    /// The tail that is in force with this flash.
    Restore(&'c [u8]),
    /// A tail, written part by part; what is in force then.
    Push(&'c [u8]),
}

fn answer<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, case: &Case, call: Call) -> Vec<u8> {
    let store = Store::new(0, tuner.pack().sizes().slot_bytes::<Nor>(tuner.contents()), 2);
    let mut flash = Nor::new(store.end() as usize / Nor::ERASE_SIZE);
    match call {
        Call::RunInPart => {
            tuner.start(case.recipe).unwrap();
            (0..case.slices).for_each(|_| _ = tuner.poll().unwrap());
            return saved(tuner);
        }
        Call::Resume(run) => {
            tuner.resume_run(run).unwrap();
            assert!(saved(tuner) == run, "{}: a resumed run saves as other bytes", case.name);
            while !tuner.step().unwrap().finished {}
            tuner.requantize().unwrap();
        }
        Call::RunWhole => crate::bundled::run(tuner, case.recipe),
        Call::Commit => {
            tuner.commit(&store, &mut flash).unwrap();
            return flash.bytes()[..store.slot_bytes() as usize].to_vec();
        }
        Call::Restore(bytes) => {
            flash.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            let recovery = tuner.restore(&store, &mut flash).unwrap();
            let record = recovery.in_force().expect("the record is whole");
            assert_eq!(record.weights_crc32, tuner.weights_crc32(), "{}", case.name);
        }
        Call::Push(tail) => {
            let first = tuner.pack().sizes().tail_layers * 8;
            for (part, bytes) in tail[first..].chunks(61).enumerate() {
                tuner.write_tail(first + 61 * part, bytes).unwrap();
            }
            tuner.adopt_tail(&tail[..first], crc32(tail)).unwrap();
        }
    }
    let mut tail = vec![0; tuner.tail_bytes()];
    assert_eq!(tuner.read_tail(0, &mut tail), Ok(tail.len()));
    tail
}

#[test]
fn runs_that_were_saved_before_end_as_they_would_have_ended_then() {
    for case in &CASES {
        let (run, expected) = (file(&format!("{}.run", case.name)), file(&format!("{}.tail", case.name)));
        with_tuner(case, |tuner| assert!(tuner(Call::Resume(&run)) == expected, "{}, resumed", case.name));
        with_tuner(case, |tuner| assert!(tuner(Call::RunWhole) == expected, "{}, in one piece", case.name));
        // In the midst of a judgement: its sum is that of the trained loss now, which was plain cross-entropy then.
        let same =
            |saved: Vec<u8>| if case.recipe.keep_best { saved.len() == run.len() } else { saved == run };
        with_tuner(case, |tuner| assert!(same(tuner(Call::RunInPart)), "{}, saved", case.name));
    }
}

/// Before version 2 a rho had no unit: such a run is refused, and the tuner stays as it was.
#[test]
fn a_run_of_another_version_is_refused() {
    let mut run = file("chain.run");
    run[..2].copy_from_slice(&1u16.to_le_bytes());
    let head = &mut run[..RUN_HEAD_BYTES];
    let crc = crc32(&head[..RUN_HEAD_BYTES - 4]);
    head[RUN_HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    let pack = packed(1);
    let mut words = crate::bundled::arena(Tail::Full, &pack.pack(), &CASES[0].recipe);
    let mut tuner = Tuner::new(pack.pack(), CASES[0].recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    observe(&mut tuner, &samples(&pack.pack()));
    let refused = tuner.resume_run(&run);
    assert_eq!(refused, Err(TunerError::RunOfAnother { what: "format version", expected: 2, found: 1 }));
}

#[test]
fn records_and_tails_of_before_are_taken_with_their_bits() {
    for case in &CASES {
        let (flash, tail) = (file(&format!("{}.flash", case.name)), file(&format!("{}.tail", case.name)));
        with_tuner(case, |tuner| assert!(tuner(Call::Restore(&flash)) == tail, "{}, restored", case.name));
        with_tuner(case, |tuner| {
            assert!(tuner(Call::Push(&tail)) == tail, "{}, pushed", case.name);
            assert!(tuner(Call::Commit) == flash, "{}, committed", case.name);
        });
    }
}

#[test]
fn a_delta_of_before_gives_the_tail_that_it_was_made_of() {
    let pack = packed(1);
    assert!(pack.bytes() == file("chain.pack"), "the chain's pack has other bytes than before");
    let (delta, tail) = (file("chain.delta"), file("chain.tail"));
    let int8 = flatmin_sim::delta::decode_int8(&pack, &delta).unwrap();
    assert_eq!(int8, tail[..int8.len()]);
    let (whole, weights) = flatmin_sim::delta::decode(&pack, &delta).unwrap();
    assert_eq!((whole.len(), &whole[..int8.len()]), (tail.len(), &*int8));
    assert_eq!(weights, crc32(&whole[int8.len()..]));
}

/// Writes the files that are missing: of a case that is new, once. Of code that has changed a file says nothing.
#[test]
#[ignore = "writes missing files"]
fn write_missing_files() {
    let write = |name: String, bytes: &dyn Fn() -> Vec<u8>| {
        if !path(&name).exists() {
            std::fs::write(path(&name), bytes()).unwrap();
        }
    };
    std::fs::create_dir_all(path("")).unwrap();
    write("chain.pack".into(), &|| packed(1).bytes().to_vec());
    write("graph.pack".into(), &|| packed(3).bytes().to_vec());
    for case in &CASES {
        let of = |calls: &[Call]| {
            let mut last = Vec::new();
            with_tuner(case, |tuner| calls.iter().for_each(|&call| last = tuner(call)));
            last
        };
        write(format!("{}.run", case.name), &|| of(&[Call::RunInPart]));
        write(format!("{}.tail", case.name), &|| of(&[Call::RunWhole]));
        write(format!("{}.flash", case.name), &|| of(&[Call::RunWhole, Call::Commit]));
    }
    write("chain.delta".into(), &|| flatmin_sim::delta::encode(&packed(1), &file("chain.tail")).unwrap());
}
