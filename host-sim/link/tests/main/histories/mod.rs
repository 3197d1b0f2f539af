//! Whole lives of a device, as random operations over a line that damages bytes and a flash whose power goes, against an
//! oracle; one that fails is cut down to the shortest that does.
//!
//! The oracle has two parts. A list of the tails that were committed says which one is in force after a restart: it knows
//! nothing of pages, words and records. A second tuner, with neither line nor flash, is given every call once: its weights
//! and its answers must be the device's.
mod kept;
mod life;

use crate::bundled::{Labelled, arena};
use crate::skipping::slowly;
use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::Partial;
use flatmin::store::{Contents, Store};
use flatmin::{CompactTuner, IntegerTuner, Method, Pack, Recipe, Tuner};
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;
use flatmin_sim::tuning::Tail;
use flatmin_sim::wearers::SplitMix64;
use kept::{Kept, Nor, SLOTS};
use life::{Bench, Counts, World, live};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

/// What happens to a device.
#[derive(Debug, Clone)]
enum Operation {
    Observe {
        sample: usize,
        label: usize,
    },
    Start {
        method: Method,
        epochs: u16,
        held_out: f32,
        seed: u64,
    },
    Poll {
        slices: usize,
    },
    Finish,
    Requantize,
    Accept,
    Measure,
    Commit,
    RollBack,
    FactoryReset,
    Forget,
    /// Keeps the tuned tail's bytes on the desktop.
    PullTail,
    /// Gives them back, or loses the line after the first part.
    PushTail {
        whole: bool,
    },
    SaveRun,
    ResumeRun {
        whole: bool,
    },
    Restart,
    /// The power goes that many words and pages later.
    CutPower {
        operations: u64,
        partial: Partial,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let method = prop_oneof![Just(Method::Sgd), Just(Method::Sam), Just(Method::Asam)];
    let held_out = prop_oneof![2 => Just(0.0f32), 1 => Just(0.4)];
    let partial = prop_oneof![
        Just(Partial::Clean),
        any::<u8>().prop_map(Partial::Prefix),
        any::<u8>().prop_map(Partial::Suffix),
        any::<u64>().prop_map(Partial::Random),
    ];
    prop_oneof![
        5 => (0..8usize, 0..4usize).prop_map(|(sample, label)| O::Observe { sample, label }),
        3 => (method, 1..3u16, held_out, any::<u64>())
            .prop_map(|(method, epochs, held_out, seed)| O::Start { method, epochs, held_out, seed }),
        6 => (1..9usize).prop_map(|slices| O::Poll { slices }),
        2 => Just(O::Finish),
        4 => Just(O::Requantize),
        2 => Just(O::Accept),
        1 => Just(O::Measure),
        5 => Just(O::Commit),
        2 => Just(O::RollBack),
        2 => Just(O::FactoryReset),
        1 => Just(O::Forget),
        2 => Just(O::PullTail),
        2 => any::<bool>().prop_map(|whole| O::PushTail { whole }),
        4 => Just(O::SaveRun),
        3 => any::<bool>().prop_map(|whole| O::ResumeRun { whole }),
        2 => Just(O::Restart),
        3 => (prop_oneof![2 => 0..50u64, 1 => 0..900u64], partial).prop_map(|(operations, partial)| O::CutPower { operations, partial }),
    ]
}
fn whole(bench: &Bench, history: &[Operation], counts: &mut Counts) {
    let contents = match bench.kind {
        Tail::Full => Contents::Int8AndF32,
        Tail::Compact => Contents::Int8AndCompact,
        Tail::Integer => Contents::Int8,
    };
    let store = Store::new(0, bench.pack.sizes().slot_bytes::<Nor>(contents), SLOTS);
    let flash = Nor::new(store.end() as usize / Nor::ERASE_SIZE).write_once().torn_words_unreadable();
    let flash = RefCell::new(flash);
    let mut world = World { flash: &flash, store, kept: Kept::default(), tail: vec![], run: vec![] };
    let mut rest = history;
    while !rest.is_empty() {
        let recipe = bench.recipe;
        let mut memories = [(); 2].map(|()| arena(bench.kind, &bench.pack, &recipe));
        let [own, twins] = memories.each_mut().map(|words| bytemuck::cast_slice_mut(words));
        rest = match bench.kind {
            Tail::Full => {
                let tuner = |arena| Tuner::new(bench.pack, recipe, arena).unwrap();
                let (mut device, mut twin) = (tuner(own), tuner(twins));
                live(bench, &mut world, rest, (&mut device, &mut twin), counts)
            }
            Tail::Compact => {
                let tuner = |arena| CompactTuner::in_arena(bench.pack, recipe, arena).unwrap();
                let (mut device, mut twin) = (tuner(own), tuner(twins));
                live(bench, &mut world, rest, (&mut device, &mut twin), counts)
            }
            Tail::Integer => {
                let tuner = |arena| IntegerTuner::in_arena(bench.pack, recipe, arena).unwrap();
                let (mut device, mut twin) = (tuner(own), tuner(twins));
                live(bench, &mut world, rest, (&mut device, &mut twin), counts)
            }
        };
    }
}

/// Chains of one layer and of two, and a graph of convolutions.
fn packs() -> Vec<PackFile> {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/onnx/golden/network_int8.onnx");
    let model = Model::open(&golden).unwrap();
    (1..=3).map(|layers| model.pack(layers).unwrap()).collect()
}

fn samples(pack: &Pack) -> Vec<Labelled> {
    let mut random = SplitMix64::new(1);
    let mut input = || (0..pack.input().len()).map(|_| (random.next_u64() >> 40) as i8).collect();
    (0..8).map(|_| (input(), 0)).collect()
}

/// What this thread panics with is told once, at the end, and not for every history on the way to the shortest.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let (thread, before) = (std::thread::current().id(), Arc::new(std::panic::take_hook()));
    let others = before.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() != thread {
            others(panic);
        }
    }));
    let outcome = work();
    std::panic::set_hook(Box::new(move |panic| before(panic)));
    outcome
}

/// `FLATMIN_HISTORIES` says how many, `FLATMIN_SEED` which.
#[test]
fn whatever_happens_to_a_device_nothing_is_lost() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let cases = number("FLATMIN_HISTORIES").unwrap_or(if slowly("all but 300 random histories of a device") {
        2_000
    } else {
        300
    }) as u32;
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("FLATMIN_SEED").unwrap_or(1).to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4_096, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let packs = packs();
    let counts = RefCell::new(Counts::default());
    let histories = prop::collection::vec(operation(), 1..80);
    let faults = prop_oneof![Just(0u32), Just(300), Just(1_000)];
    let strategy = (0..packs.len(), any::<bool>(), faults, histories);
    let live = |(which, integers, per_million, history): (usize, bool, u32, Vec<Operation>)| {
        let pack = packs[which].pack();
        let counts = &mut counts.borrow_mut();
        let (kind, base) = match (integers, pack.sizes().tail_is_chain) {
            (false, _) => (Tail::Full, life::RECIPE),
            (true, true) => (Tail::Compact, life::RECIPE),
            (true, false) => (Tail::Integer, Recipe::INTEGER),
        };
        let recipe = Recipe { epochs: 2, replay_capacity: life::RECIPE.replay_capacity, ..base };
        let bench = Bench { pack, samples: samples(&pack), kind, recipe, per_million };
        whole(&bench, &history, counts);
        Ok(())
    };
    let outcome = quietly(|| runner.run(&strategy, live));
    let counts = counts.into_inner();
    println!("{cases} histories: {counts:?}");
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // Histories in which nothing happens would show nothing.
    let all = u64::from(cases);
    assert!(counts.commits > all / 3 && counts.cuts > all / 20 && counts.taken_back > all / 20, "{counts:?}");
    assert!(counts.resumed > all / 60 && counts.adopted > all / 40 && counts.repeats > all, "{counts:?}");
    // A sixth of them are lives of a graph's tail in integers, which has one place for two tails.
    assert!(counts.brought_back > 0, "{counts:?}");
}
