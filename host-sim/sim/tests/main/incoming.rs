//! Bytes from outside: while a tail or a run is being written the one of before is in force and nothing reads what is half
//! there; what is adopted is such as a run can start from.

use crate::bundled::{Labelled, answers, flash_of, observe, packed, run, samples, saved};
use flatmin::store::Contents;
use flatmin::{
    Arithmetic, CompactTuner, Method, Optimizer, Pack, Progress, RUN_HEAD_BYTES, Recipe, Schedule, Tuner,
    TunerError, Version, Watch, crc32,
};
use flatmin_model::packer::PackFile;
use flatmin_sim::tuning::Tail;

const RECIPE: Recipe = Recipe {
    method: Method::Sam,
    epochs: 2,
    replay_capacity: 32,
    minibatch: 8,
    learning_rate: 0.01,
    ..Recipe::DEFAULT
};

const WATCH: Watch = Watch { samples: 8, rho: 0.05, loss: 100.0, rise: 100.0 };

/// Calls `$check(tuner, data)` with a tuner in f32, and where the tail is a chain with a compact one.
macro_rules! on_both {
    ($file:expr, $count:expr, $check:ident) => {{
        let file = $file;
        let pack = file.pack();
        let data = samples(&pack, $count);
        let mut arena = crate::bundled::arena(Tail::Full, &pack, &RECIPE);
        let mut tuner = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
        observe(&mut tuner, &data);
        $check(&mut tuner, &data);
        if pack.sizes().tail_is_chain {
            let mut arena = crate::bundled::arena(Tail::Compact, &pack, &RECIPE);
            let mut tuner =
                CompactTuner::in_arena(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
            observe(&mut tuner, &data);
            $check(&mut tuner, &data);
        }
    }};
}

fn tail<'p, A: Arithmetic<'p>>(tuner: &Tuner<'p, A>) -> Vec<u8> {
    let mut bytes = vec![0; tuner.tail_bytes()];
    assert_eq!(tuner.read_tail(0, &mut bytes), Ok(bytes.len()));
    bytes
}

fn layer_bytes(pack: &Pack) -> usize {
    pack.sizes().tail_layers * 8
}

/// Everything that reads the weights says `refusal`, and nothing is moved by it.
fn nothing_reads_them<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    data: &[Labelled],
    refusal: TunerError,
) {
    let (input, label) = &data[0];
    let latent = tuner.latent(input).unwrap().to_vec();
    let drift = tuner.drift();
    let (store, mut flash) = flash_of(tuner.pack(), tuner.contents());
    assert_eq!(tuner.poll().unwrap_err(), TunerError::NotRunning);
    assert_eq!(tuner.step().unwrap_err(), TunerError::NotRunning);
    assert_eq!(tuner.requantize().unwrap_err(), refusal);
    assert_eq!(tuner.accept().unwrap_err(), refusal);
    assert_eq!(tuner.evaluate(0.05).unwrap_err(), refusal);
    assert_eq!(tuner.judge_weights().unwrap_err(), refusal);
    assert_eq!(tuner.score(input, *label).unwrap_err(), refusal);
    assert_eq!(tuner.score_latent(&latent, *label).unwrap_err(), refusal);
    assert_eq!(tuner.commit(&store, &mut flash).unwrap_err(), refusal);
    assert_eq!(tuner.read_tail(0, &mut [0; 8]).unwrap_err(), refusal);
    assert_eq!(tuner.weights_crc32(), crc32(&[]));
    assert_eq!((tuner.run_bytes(), tuner.drift()), (0, drift));
}

/// The link is lost after one part: the tail of before answers, tunes, and is the one that a reboot finds.
fn a_broken_push<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, data: &[Labelled]) {
    run(tuner, RECIPE);
    let (before, own) = (answers(tuner, data), tail(tuner));
    let judged = tuner.judge(Version::Tuned).unwrap();
    let first = layer_bytes(tuner.pack());
    let int8 = tuner.pack().sizes().payload_bytes(Contents::Int8);
    // What a run from the tail in force ends with.
    tuner.write_tail(first, &own[first..int8]).unwrap();
    tuner.adopt_tail(&own[..first], crc32(&own[..int8])).unwrap();
    run(tuner, RECIPE);
    let expected = tuner.weights_crc32();
    for (offset, byte) in [(own.len() - 64, 0x55), (own.len() - 64, 0xff), (first, 0x55), (int8 - 30, 0xff)] {
        tuner.write_tail(first, &own[first..]).unwrap();
        tuner.adopt_tail(&own[..first], crc32(&own)).unwrap();
        tuner.watch(Some(WATCH));
        tuner.write_tail(offset, &[byte; 60]).unwrap();
        nothing_reads_them(tuner, data, TunerError::TailExpected);
        assert!(tuner.is_tuned());
        assert!(answers(tuner, data) == before, "the tail of before is not in force");
        // Samples are kept, but the watch does not see them.
        observe(tuner, data);
        assert!(tuner.drift().is_some_and(|drift| drift.samples == 0));
        assert_eq!(tuner.judge(Version::Tuned).unwrap(), judged);
        // What is not whole is not adopted.
        tuner.write_tail(offset, &[byte; 60]).unwrap();
        assert_eq!(tuner.adopt_tail(&own[..first], 1), Err(TunerError::TailDamaged));
        assert!(answers(tuner, data) == before, "the tail of before is not in force");
        // Written again, and given up: a run starts from the tail in force.
        tuner.write_tail(offset, &[byte; 60]).unwrap();
        run(tuner, RECIPE);
        assert_eq!(tuner.weights_crc32(), expected);
        // A push that comes to its end is adopted, whatever was begun before it.
        tuner.write_tail(offset, &[byte; 60]).unwrap();
        tuner.write_tail(first, &own[first..]).unwrap();
        tuner.adopt_tail(&own[..first], crc32(&own)).unwrap();
        assert!(tail(tuner) == own);
    }
    // And nothing that never was written.
    assert_eq!(tuner.adopt_tail(&own[..first], crc32(&own)), Err(TunerError::TailDamaged));
    assert!(tail(tuner) == own);
}

#[test]
fn a_push_that_breaks_off_leaves_the_tail_of_before_in_force() {
    // As many as the replay holds: observed again, they take their own places.
    for layers in 1..=3 {
        on_both!(packed(layers), 32, a_broken_push);
    }
}

/// A run that is expected shuts out the same calls, and none of them harms it.
fn an_expected_run<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, data: &[Labelled]) {
    run(tuner, RECIPE);
    let before = answers(tuner, data);
    for polls in [1, 9, 14, 21] {
        tuner.start(RECIPE).unwrap();
        (0..polls).for_each(|_| _ = tuner.poll().unwrap());
        let bytes = saved(tuner);
        while !tuner.step().unwrap().finished {}
        let expected = tuner.weights_crc32();
        tuner.factory_reset();
        tuner.start(RECIPE).unwrap();
        tuner.expect_run(&bytes[..RUN_HEAD_BYTES]).unwrap();
        for (part, own) in bytes[RUN_HEAD_BYTES..].chunks(1000).enumerate() {
            tuner.write_run(RUN_HEAD_BYTES + 1000 * part, own).unwrap();
        }
        assert_eq!(tuner.evaluate(0.05).unwrap_err(), TunerError::RunExpected);
        assert_eq!(tuner.weights_crc32(), 0);
        tuner.adopt_run(&bytes[..RUN_HEAD_BYTES]).unwrap();
        assert!(saved(tuner) == bytes);
        while !tuner.step().unwrap().finished {}
        assert_eq!(tuner.weights_crc32(), expected);
        tuner.requantize().unwrap();
        tuner.expect_run(&bytes[..RUN_HEAD_BYTES]).unwrap();
        tuner.write_run(RUN_HEAD_BYTES, &[0xff; 64]).unwrap();
        nothing_reads_them(tuner, data, TunerError::RunExpected);
        // A tail that is written instead gives the run up.
        tuner.write_tail(layer_bytes(tuner.pack()), &[0xff; 64]).unwrap();
        assert_eq!(tuner.write_run(RUN_HEAD_BYTES, &[0]), Err(TunerError::NotRunning));
        nothing_reads_them(tuner, data, TunerError::TailExpected);
        tuner.factory_reset();
        run(tuner, RECIPE);
        assert!(answers(tuner, data) == before);
    }
}

#[test]
fn a_run_that_is_expected_is_read_by_nothing() {
    for layers in 1..=3 {
        on_both!(packed(layers), 20, an_expected_run);
    }
}

#[test]
fn a_reset_follows_the_watched_means_anew() {
    let file = packed(1);
    let pack = file.pack();
    let data = samples(&pack, 4);
    let mut arena = crate::bundled::arena(Tail::Full, &pack, &RECIPE);
    let mut tuner = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    tuner.watch(Some(Watch { loss: -1.0, ..WATCH }));
    observe(&mut tuner, &data);
    assert!(tuner.drift().is_some_and(|drift| drift.samples == 4 && drift.drifted));
    tuner.factory_reset();
    assert!(tuner.drift().is_some_and(|drift| drift.samples == 0 && !drift.drifted));
}

/// `bytes` with four of them replaced, and the checksums of a run that belong to that.
fn forged(run: &[u8], at: usize, value: f32) -> Vec<u8> {
    let mut bytes = run.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let body = crc32(&bytes[RUN_HEAD_BYTES..]);
    bytes[10..14].copy_from_slice(&body.to_le_bytes());
    let head = crc32(&bytes[..RUN_HEAD_BYTES - 4]);
    bytes[RUN_HEAD_BYTES - 4..RUN_HEAD_BYTES].copy_from_slice(&head.to_le_bytes());
    bytes
}

const UNSOUND: [f32; 5] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -1e31];

#[test]
fn weights_that_f32_cannot_tune_are_adopted_from_nowhere() {
    let file = packed(2);
    let pack = file.pack();
    let data = samples(&pack, 20);
    let mut arena = crate::bundled::arena(Tail::Full, &pack, &RECIPE);
    let mut tuner = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    observe(&mut tuner, &data);
    run(&mut tuner, RECIPE);
    let (own, before, first) = (tail(&tuner), answers(&mut tuner, &data), layer_bytes(&pack));
    tuner.start(RECIPE).unwrap();
    (0..11).for_each(|_| _ = tuner.poll().unwrap());
    let good = saved(&tuner);
    let parameters = 4 * pack.sizes().tail_parameters;
    for bad in UNSOUND {
        // The last weight of a pushed tail.
        let mut bytes = own.clone();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&bad.to_le_bytes());
        tuner.write_tail(first, &bytes[first..]).unwrap();
        assert_eq!(tuner.adopt_tail(&bytes[..first], crc32(&bytes)), Err(TunerError::TailDamaged), "{bad}");
        assert!(answers(&mut tuner, &data) == before);
        assert!(tuner.weights().iter().all(|w| w.is_finite()) && !tuner.weights().is_empty());
        // A weight, and a velocity, of a run.
        for at in [RUN_HEAD_BYTES, RUN_HEAD_BYTES + parameters + 40] {
            let resumed = tuner.resume_run(&forged(&good, at, bad));
            assert_eq!(resumed, Err(TunerError::RunDamaged), "{bad} at {at}");
            assert!(tuner.weights().iter().all(|w| w.is_finite()), "{bad} at {at}");
        }
    }
    assert_eq!(tuner.resume_run(&good), Ok(()));
}

#[test]
fn adams_moments_and_the_best_weights_of_a_run_are_looked_at_too() {
    let recipe = Recipe { optimizer: Optimizer::Adam, keep_best: true, ..RECIPE };
    let file = packed(1);
    let pack = file.pack();
    let mut arena = crate::bundled::arena(Tail::Full, &pack, &recipe);
    let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    observe(&mut tuner, &samples(&pack, 12));
    tuner.start(recipe).unwrap();
    while !matches!(tuner.poll().unwrap(), Progress::Stepped(_)) {}
    let good = saved(&tuner);
    let parameters = 4 * pack.sizes().tail_parameters;
    let moments = RUN_HEAD_BYTES + 2 * parameters;
    let best = RUN_HEAD_BYTES + parameters + 4 * recipe.velocity_floats(parameters / 4);
    for bad in UNSOUND {
        for at in [moments, moments + 4, moments + 8, moments + 12, best + 8] {
            let refused = tuner.resume_run(&forged(&good, at, bad));
            assert_eq!(refused, Err(TunerError::RunDamaged), "{bad} at {at}");
        }
    }
    assert_eq!(tuner.resume_run(&good), Ok(()));
}

/// Scales that are numbers, but stand for weights that are none, in either tuner and in a delta.
#[test]
fn int8_tails_with_scales_beyond_f32_are_refused() {
    let file: PackFile = packed(2);
    let pack = file.pack();
    let data = samples(&pack, 12);
    let mut arena = crate::bundled::arena(Tail::Full, &pack, &RECIPE);
    let mut tuner = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    observe(&mut tuner, &data);
    run(&mut tuner, RECIPE);
    let int8 = tail(&tuner)[..pack.sizes().payload_bytes(Contents::Int8)].to_vec();
    let outputs = tuner.tuned_layers().next().unwrap().biases.len();
    let mut compact_arena = crate::bundled::arena(Tail::Compact, &pack, &RECIPE);
    let mut compact =
        CompactTuner::in_arena(pack, RECIPE, bytemuck::cast_slice_mut(&mut compact_arena)).unwrap();
    let first = layer_bytes(&pack);
    // An output's scale, and the first weights' scale past biases, mantissas and shifts.
    for at in [0, first + 4 * 3 * outputs] {
        for bad in UNSOUND {
            let mut bytes = int8.clone();
            bytes[at..at + 4].copy_from_slice(&bad.to_le_bytes());
            tuner.write_tail(first, &bytes[first..]).unwrap();
            assert_eq!(tuner.adopt_tail(&bytes[..first], crc32(&bytes)), Err(TunerError::TailDamaged));
            compact.write_tail(first, &bytes[first..]).unwrap();
            assert_eq!(compact.adopt_tail(&bytes[..first], crc32(&bytes)), Err(TunerError::TailDamaged));
            let delta = flatmin_sim::delta::encode(&file, &bytes).unwrap();
            assert!(flatmin_sim::delta::decode(&file, &delta).is_err());
        }
    }
}

#[test]
fn the_learning_rate_lasts_as_long_as_a_run_that_grows() {
    for schedule in [Schedule::Cosine, Schedule::Constant] {
        let recipe = Recipe { epochs: 10, replay_capacity: 64, schedule, ..RECIPE };
        let file = packed(1);
        let pack = file.pack();
        let data = samples(&pack, 39);
        let mut arena = crate::bundled::arena(Tail::Full, &pack, &recipe);
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut arena)).unwrap();
        observe(&mut tuner, &data[..20]);
        tuner.start(recipe).unwrap();
        let planned = tuner.position().unwrap().steps;
        assert_eq!(planned, 10 * 20u32.div_ceil(8));
        let (mut newcomers, mut rates) = (data[20..].iter(), Vec::new());
        loop {
            if let Some(newcomer) = newcomers.next() {
                observe(&mut tuner, std::slice::from_ref(newcomer));
            }
            let steps = tuner.position().unwrap().steps;
            let Progress::Stepped(report) = tuner.poll().unwrap() else { continue };
            assert!(report.learning_rate > 0.0, "step {} of {steps}", rates.len());
            rates.push(report.learning_rate);
            if report.finished {
                assert_eq!(steps, rates.len() as u32);
                break;
            }
        }
        assert!(rates.len() as u32 > planned);
        // A cosine still comes down to its end.
        let last = rates[rates.len() - 1];
        assert!(schedule == Schedule::Constant || last < 0.01 * recipe.learning_rate, "{last}");
    }
}

/// Weights that are wrecked while the replay grows from four samples to twenty have more of them right than four; they are
/// the worse ones all the same.
#[test]
fn the_best_epoch_is_found_on_the_same_samples() {
    let recipe = Recipe {
        epochs: 2,
        keep_best: true,
        learning_rate: 1.0,
        method: Method::Sgd,
        minibatch: 1,
        label_smoothing: 0.0,
        schedule: Schedule::Constant,
        ..RECIPE
    };
    let file = packed(2);
    let pack = file.pack();
    let data = samples(&pack, 32);
    let mut arena = crate::bundled::arena(Tail::Full, &pack, &recipe);
    let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    observe(&mut tuner, &data[..4]);
    let factory = tuner.weights_crc32();
    tuner.start(recipe).unwrap();
    while tuner.best().is_none() {
        tuner.poll().unwrap();
    }
    assert_eq!(tuner.best().unwrap().judgement.right, 4);
    observe(&mut tuner, &data[4..]);
    while !tuner.step().unwrap().finished {}
    let best = tuner.best().unwrap();
    assert_eq!(best.judgement.samples, 4);
    if best.epochs == 0 {
        assert_eq!(tuner.weights_crc32(), factory);
    } else {
        assert_eq!(best.judgement.right, 4);
    }
    let kept = tuner.judge_weights().unwrap();
    tuner.factory_reset();
    let start = tuner.judge_weights().unwrap();
    assert!(kept.right >= start.right, "{kept:?}, at the start {start:?}");
}

/// Weights that no run has moved are no gain, whatever the ranges of their outputs.
fn the_gate_on_nothing<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, data: &[Labelled]) {
    let still = Recipe { learning_rate: 0.0, held_out: 0.2, ..RECIPE };
    let factory = tuner.weights_crc32();
    tuner.start(still).unwrap();
    while !tuner.step().unwrap().finished {}
    assert_eq!(tuner.weights_crc32(), factory);
    let acceptance = tuner.accept().unwrap();
    assert!(!acceptance.accepted && !tuner.is_tuned(), "{acceptance:?}");
    assert_eq!(acceptance.candidate, acceptance.factory);
    assert!(answers(tuner, data).is_empty());
    // The same of a tail that was taken.
    run(tuner, RECIPE);
    let before = answers(tuner, data);
    assert!(!tuner.accept().unwrap().accepted);
    assert!(answers(tuner, data) == before);
}

#[test]
fn the_gate_says_no_to_nothing() {
    for layers in 1..=3 {
        on_both!(packed(layers), 30, the_gate_on_nothing);
    }
}

#[test]
fn refusals_name_what_was_wrong() {
    let file = packed(2);
    let pack = file.pack();
    let data = samples(&pack, 6);
    let mut arena = crate::bundled::arena(Tail::Compact, &pack, &RECIPE);
    let mut compact = CompactTuner::in_arena(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    observe(&mut compact, &data);
    let adam = compact.start(Recipe { optimizer: Optimizer::Adam, ..RECIPE }).unwrap_err();
    assert_eq!(adam.to_string(), "a compact tail has no Adam: leave it out of the recipe, or tune in f32");
    let latent = compact.score_latent(&[0; 3], 0).unwrap_err();
    assert_eq!(latent, TunerError::LatentLength { expected: pack.sizes().feature_length, found: 3 });

    // A body of another length than announced is no matter of the arena.
    compact.start(RECIPE).unwrap();
    let mut head = saved(&compact)[..RUN_HEAD_BYTES].to_vec();
    let expected = compact.run_bytes() - RUN_HEAD_BYTES;
    head[14..18].copy_from_slice(&99u32.to_le_bytes());
    let crc = crc32(&head[..RUN_HEAD_BYTES - 4]);
    head[RUN_HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(compact.expect_run(&head), Err(TunerError::RunLength { expected, found: 99 }));
    assert!(compact.position().is_some(), "the run of before is under way");
}

/// Without subnormal numbers the bits would be others than elsewhere.
#[cfg(target_arch = "x86_64")]
#[test]
#[expect(unsafe_code, reason = "the processor's mode is set by an instruction alone")]
fn a_processor_that_flushes_to_zero_starts_no_run() {
    use std::arch::asm;
    let file = packed(1);
    let pack = file.pack();
    let mut arena = crate::bundled::arena(Tail::Full, &pack, &RECIPE);
    let mut tuner = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut arena)).unwrap();
    observe(&mut tuner, &samples(&pack, 6));
    let set = |mode: u32| {
        // SAFETY: FTZ and DAZ change results of f32 arithmetic alone, and are put back before anything else is computed.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack)) };
    };
    for mode in [1 << 15, 1 << 6] {
        set(0x1f80 | mode);
        let started = tuner.start(RECIPE);
        set(0x1f80);
        assert_eq!(started, Err(TunerError::FlushesToZero), "{mode:#x}");
    }
    assert_eq!(tuner.start(RECIPE), Ok(()));
}
