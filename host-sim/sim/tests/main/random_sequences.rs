//! Random sequences of calls, and bytes with random damage, on small packs: whatever is done, and whatever is taken, the
//! weights are numbers, what a tuner gives away it takes back, and nothing panics. Cases are bounded, and the same each time.

use crate::bundled::{Labelled, answers, observe, saved};
use flatmin::internals::pack::format::{VERSION, header};
use flatmin::{
    Arithmetic, BiasTreatment, CompactTuner, Method, Optimizer, Pack, RUN_HEAD_BYTES, Recipe, Schedule,
    Tuner, TunerError, Version, Watch, crc32,
};
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;
use flatmin_sim::tuning::Tail;
use flatmin_sim::wearers::SplitMix64;
use std::path::PathBuf;

const CAPACITY: u16 = 6;

/// Buffers for every recipe.
const FULLEST: Recipe = Recipe {
    optimizer: Optimizer::Adam,
    sharpness_batch: 2,
    store_perturbation: true,
    keep_best: true,
    sample_losses: true,
    replay_capacity: CAPACITY,
    ..Recipe::DEFAULT
};

const COMPACT: Recipe = Recipe { replay_capacity: CAPACITY, ..Recipe::DEFAULT };

struct Chance(SplitMix64);

impl Chance {
    fn of(case: u64) -> Self {
        Self(SplitMix64::new(case))
    }

    fn below(&mut self, count: usize) -> usize {
        (self.0.next_u64() >> 33) as usize % count.max(1)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn byte(&mut self) -> u8 {
        let random = self.below(256) as u8;
        self.pick(&[0, 1, 0x3b, 0x7f, 0x80, 0xff, random])
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            bytes[at] = self.byte();
        }
    }

    fn samples(&mut self, pack: &Pack, count: usize) -> Vec<Labelled> {
        let classes = pack.output().len();
        let mut input = || (0..pack.input().len()).map(|_| self.below(256) as u8 as i8).collect();
        let inputs: Vec<Vec<i8>> = (0..count).map(|_| input()).collect();
        inputs.into_iter().map(|input| (input, self.below(classes))).collect()
    }

    /// Of an arithmetic that takes any, or of one that leaves some out.
    fn recipe(&mut self, any: bool) -> Recipe {
        let recipe = Recipe {
            method: self.pick(&[Method::Sgd, Method::Sam, Method::Asam]),
            schedule: self.pick(&[Schedule::Constant, Schedule::Cosine]),
            warm_up: self.pick(&[0.0, 0.3, 1.0]),
            rho: self.pick(&[0.0, 0.05, 0.5]),
            ascent_every: self.pick(&[1, 2]),
            learning_rate: self.pick(&[0.002, 0.1, 1e3]),
            weight_decay: self.pick(&[0.0, 9e-4]),
            momentum: self.pick(&[0.0, 0.9, 0.999]),
            epochs: self.pick(&[1, 2]),
            minibatch: self.pick(&[1, 3, 16]),
            held_out: self.pick(&[0.0, 0.5]),
            seed: self.0.next_u64(),
            ..COMPACT
        };
        if !any {
            return recipe;
        }
        Recipe {
            optimizer: self.pick(&[Optimizer::Sgd, Optimizer::Adam]),
            bias: self.pick(&[BiasTreatment::Unit, BiasTreatment::Elementwise, BiasTreatment::Frozen]),
            sharpness_batch: self.pick(&[1, 2]),
            store_perturbation: self.pick(&[true, false]),
            keep_best: self.pick(&[true, false]),
            sample_losses: self.pick(&[true, false]),
            ..recipe
        }
    }
}

/// Chains of one layer and of two, and a graph.
fn packs() -> Vec<PackFile> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/golden/network_int8.onnx");
    let model = Model::open(&path).unwrap();
    (1..=3).map(|layers| model.pack(layers).unwrap()).collect()
}

/// What a tuner gives away, it takes back.
fn takes_its_own<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, case: u64) {
    if tuner.position().is_some() {
        let run = saved(tuner);
        assert_eq!(tuner.resume_run(&run), Ok(()), "case {case}: its own run");
        assert!(saved(tuner) == run, "case {case}");
    }
    let mut tail = vec![0; tuner.tail_bytes()];
    if tuner.requantize().is_ok() && tuner.position().is_none() {
        tuner.read_tail(0, &mut tail).unwrap();
        let first = tuner.pack().sizes().tail_layers * 8;
        tuner.write_tail(first, &tail[first..]).unwrap();
        assert_eq!(tuner.adopt_tail(&tail[..first], crc32(&tail)), Ok(()), "case {case}: its own tail");
    }
}

/// Calls at random; `sound` looks at the weights after each.
fn play<'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    chance: &mut Chance,
    case: u64,
    sound: impl Fn(&Tuner<'p, A>) -> bool,
    any: bool,
) {
    let pack = *tuner.pack();
    let data = chance.samples(&pack, 4);
    observe(tuner, &data);
    let (mut run, mut tail): (Vec<u8>, Vec<u8>) = (vec![], vec![]);
    // The int8 answers of the tail in force, while something is being written.
    let mut in_force: Option<Vec<i8>> = None;
    let first = pack.sizes().tail_layers * 8;
    for _ in 0..40 {
        let writing = in_force.is_some();
        let refused = |error| matches!(error, TunerError::TailExpected | TunerError::RunExpected);
        match chance.below(20) {
            0 => {
                let more = chance.samples(&pack, 1);
                observe(tuner, &more);
            }
            1 | 2 => {
                if tuner.start(chance.recipe(any)).is_ok() {
                    in_force = None;
                }
            }
            3..=7 => {
                let error = tuner.poll().err();
                assert!(!writing || error == Some(TunerError::NotRunning), "case {case}");
            }
            8 => {
                let error = tuner.step().err();
                assert!(!writing || error == Some(TunerError::NotRunning), "case {case}");
            }
            9 => {
                let error = tuner.requantize().err();
                assert!(!writing || error.is_some_and(refused), "case {case}");
            }
            10 => {
                let error = tuner.accept().err();
                assert!(!writing || error.is_some_and(refused), "case {case}");
            }
            11 => {
                let error = tuner.evaluate(0.05).err();
                assert!(!writing || error.is_some_and(refused), "case {case}");
            }
            12 => {
                tuner.factory_reset();
                in_force = None;
            }
            13 if tuner.position().is_some() => run = saved(tuner),
            14 if tuner.is_tuned() && !writing => {
                tail = vec![0; tuner.tail_bytes()];
                tuner.read_tail(0, &mut tail).unwrap();
            }
            15 => {
                let before = in_force.take().unwrap_or_else(|| answers(tuner, &data));
                let length = 1 + chance.below(64);
                let bytes = chance.bytes(length.min(tuner.tail_bytes() - first));
                let offset = first + chance.below(tuner.tail_bytes() - first - bytes.len() + 1);
                tuner.write_tail(offset, &bytes).unwrap();
                in_force = Some(before);
            }
            16 if !tail.is_empty() => {
                let mut bytes = tail.clone();
                if chance.below(2) == 0 {
                    chance.damage(&mut bytes);
                }
                let before = in_force.take().unwrap_or_else(|| answers(tuner, &data));
                tuner.write_tail(first, &bytes[first..]).unwrap();
                if tuner.adopt_tail(&bytes[..first], crc32(&bytes)).is_err() {
                    assert!(answers(tuner, &data) == before, "case {case}: a refused tail answers");
                }
            }
            17 if !run.is_empty() => {
                let before = in_force.take().unwrap_or_else(|| answers(tuner, &data));
                if tuner.expect_run(&run[..RUN_HEAD_BYTES]).is_ok() {
                    let part = chance.bytes(64.min(run.len() - RUN_HEAD_BYTES));
                    tuner.write_run(RUN_HEAD_BYTES, &part).unwrap();
                    in_force = Some(before);
                } else if writing {
                    in_force = Some(before);
                }
            }
            18 if !run.is_empty() => {
                let mut bytes = run.clone();
                // In the body, with checksums that say it is whole.
                chance.damage(&mut bytes[RUN_HEAD_BYTES..]);
                let body = crc32(&bytes[RUN_HEAD_BYTES..]);
                bytes[10..14].copy_from_slice(&body.to_le_bytes());
                let head = crc32(&bytes[..RUN_HEAD_BYTES - 4]);
                bytes[RUN_HEAD_BYTES - 4..RUN_HEAD_BYTES].copy_from_slice(&head.to_le_bytes());
                let _ = tuner.resume_run(&bytes);
                // Resumed, or given up, or refused by its head, with what was expected still expected.
                if tuner.evaluate(0.05).is_ok() {
                    in_force = None;
                }
            }
            _ => tuner.watch(Some(Watch { samples: 4, rho: 0.05, loss: 1.0, rise: 1.0 })),
        }
        if let Some(before) = &in_force {
            assert!(&answers(tuner, &data) == before, "case {case}: the tail of before is not in force");
            assert_eq!(tuner.weights_crc32(), 0, "case {case}");
        } else {
            assert!(sound(tuner), "case {case}: weights that are no numbers");
        }
    }
    if in_force.is_none() {
        takes_its_own(tuner, case);
    }
}

#[test]
fn whatever_is_called_weights_are_numbers_and_the_tail_in_force_answers() {
    let packs = packs();
    for case in 0..300 {
        let mut chance = Chance::of(case);
        let file = &packs[case as usize % packs.len()];
        let pack = file.pack();
        let mut arena = crate::bundled::arena(Tail::Full, &pack, &FULLEST);
        let mut tuner = Tuner::new(pack, FULLEST, bytemuck::cast_slice_mut(&mut arena)).unwrap();
        play(&mut tuner, &mut chance, case, |t| t.weights().iter().all(|w| w.is_finite()), true);
        if pack.sizes().tail_is_chain {
            let mut arena = crate::bundled::arena(Tail::Compact, &pack, &COMPACT);
            let mut tuner =
                CompactTuner::in_arena(pack, COMPACT, bytemuck::cast_slice_mut(&mut arena)).unwrap();
            play(&mut tuner, &mut chance, case, |_| true, false);
        }
    }
}

#[test]
fn a_damaged_pack_that_is_taken_is_tuned_in_numbers() {
    let packs = packs();
    let mut taken = 0;
    for case in 0..4000 {
        let mut chance = Chance::of(1_000_000 + case);
        let mut bytes = packs[case as usize % packs.len()].bytes().to_vec();
        let length = bytes.len();
        chance.damage(&mut bytes[8..]);
        bytes[header::VERSION..][..2].copy_from_slice(&VERSION.to_le_bytes());
        bytes[header::TOTAL_BYTES..][..4].copy_from_slice(&(length as u32).to_le_bytes());
        let crc = crc32(&bytes[header::CHECKED_FROM..]);
        bytes[header::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
        let mut words = vec![0u128; length.div_ceil(16)];
        bytemuck::cast_slice_mut(&mut words)[..length].copy_from_slice(&bytes);
        let Ok(pack) = Pack::new(&bytemuck::cast_slice(&words)[..length]) else { continue };
        let sizes = pack.sizes();
        let recipe = Recipe { replay_capacity: CAPACITY, epochs: 1, ..chance.recipe(true) };
        if Tail::Full.arena_bytes(&sizes, &recipe) > 1 << 20 || pack.trunk_macs() > 1 << 20 {
            continue;
        }
        let mut arena = crate::bundled::arena(Tail::Full, &pack, &recipe);
        let Ok(mut tuner) = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut arena)) else { continue };
        taken += 1;
        assert!(tuner.weights().iter().all(|w| w.is_finite()), "case {case}: factory weights");
        for (input, label) in chance.samples(&pack, 3) {
            let _ = tuner.observe(&input, label);
        }
        if tuner.start(recipe).is_ok() {
            (0..20).for_each(|_| _ = tuner.poll());
            assert!(tuner.weights().iter().all(|w| w.is_finite()), "case {case}: tuned weights");
            takes_its_own(&mut tuner, case);
            let _ = tuner.judge(Version::Tuned);
        }
    }
    assert!(taken > 100, "{taken} packs were tuned");
}

#[test]
fn a_damaged_delta_that_is_taken_stands_for_numbers() {
    for (place, file) in packs().into_iter().enumerate() {
        let pack = file.pack();
        let recipe = Recipe { replay_capacity: 4, epochs: 1, ..COMPACT };
        let mut arena = crate::bundled::arena(Tail::Full, &pack, &recipe);
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut arena)).unwrap();
        observe(&mut tuner, &Chance::of(7).samples(&pack, 4));
        crate::bundled::run(&mut tuner, recipe);
        let mut tail = vec![0; tuner.tail_bytes()];
        tuner.read_tail(0, &mut tail).unwrap();
        let good = flatmin_sim::delta::decode_int8(&file, &flatmin_sim::delta::encode(&file, &tail).unwrap());
        let good = good.unwrap();
        for case in 0..150 {
            let mut chance = Chance::of(2_000_000 + 1000 * place as u64 + case);
            let mut int8 = good.clone();
            let most = int8.len().min(pack.sizes().tail_layers * 8 + 1200);
            chance.damage(&mut int8[..most]);
            let delta = flatmin_sim::delta::encode(&file, &int8).unwrap();
            let Ok((whole, _)) = flatmin_sim::delta::decode(&file, &delta) else { continue };
            let weights = whole[good.len()..].as_chunks::<4>().0.iter().map(|&w| f32::from_le_bytes(w));
            assert!(weights.into_iter().all(f32::is_finite), "case {case}");
        }
    }
}
