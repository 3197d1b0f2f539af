//! One place for the tail in force and the weights under training, as the integer tuner has it: what a second run takes the
//! place of is never lost silently, is compared with all the same, and comes back from the store with the same bits. Answers
//! are counted here, one by one, by tuners that hold each tail for itself.

use crate::bundled::{Labelled, answers, arena, flash_of, observe, packed, run, samples, saved};
use flatmin::store::Contents;
use flatmin::{Acceptance, Evidence, IntegerTuner, Method, Pack, Recipe, Tuner, TunerError, Version, crc32};
use flatmin_sim::tuning::Tail;

const RECIPE: Recipe = Recipe { method: Method::Sgd, replay_capacity: 40, epochs: 6, ..Recipe::INTEGER };

fn tuner<'a>(pack: Pack<'a>, words: &'a mut [u128]) -> IntegerTuner<'a> {
    IntegerTuner::in_arena(pack, RECIPE, bytemuck::cast_slice_mut(words)).unwrap()
}

fn words(pack: &Pack) -> Vec<u128> {
    arena(Tail::Integer, pack, &RECIPE)
}

fn finish(tuner: &mut IntegerTuner) {
    while !tuner.step().unwrap().finished {}
}

/// The class of each sample by a tail.
fn classes(tuner: &mut IntegerTuner, data: &[Labelled], version: Version) -> Vec<usize> {
    let of = |(input, _): &Labelled| tuner.infer(input, version).map(largest).unwrap();
    data.iter().map(of).collect()
}

fn largest(output: &[i8]) -> usize {
    (0..output.len()).rev().max_by_key(|&class| output[class]).unwrap()
}

fn right(classes: &[usize], data: &[Labelled]) -> u32 {
    classes.iter().zip(data).filter(|(class, (_, label))| **class == *label).count() as u32
}

/// int8 bytes of the tail in force.
fn int8_tail<'p, A: flatmin::Arithmetic<'p>>(tuner: &Tuner<'p, A>) -> Vec<u8> {
    let mut bytes = vec![0; tuner.pack().sizes().payload_bytes(Contents::Int8)];
    assert_eq!(tuner.read_tail(0, &mut bytes), Ok(bytes.len()));
    bytes
}

fn adopt(tuner: &mut IntegerTuner, tail: &[u8]) -> Result<(), TunerError> {
    let layers = tuner.pack().sizes().tail_layers * flatmin::store::LAYER_BYTES;
    tuner.write_tail(layers, &tail[layers..])?;
    tuner.adopt_tail(&tail[..layers], crc32(tail))
}

#[test]
fn a_tail_that_is_nowhere_else_is_not_given_up() {
    let file = packed(5);
    let (pack, data) = (file.pack(), samples(&file.pack(), 24));
    let mut memory = words(&pack);
    let mut own = tuner(pack, &mut memory);
    observe(&mut own, &data);
    run(&mut own, RECIPE);
    let (before, crc) = (answers(&mut own, &data), own.weights_crc32());
    assert!(own.is_only_copy());
    let tail = int8_tail(&own);
    assert_eq!(own.start(RECIPE), Err(TunerError::OnlyCopy));
    assert_eq!(own.write_tail(pack.sizes().tail_layers * 8, &[0]), Err(TunerError::OnlyCopy));
    let mut scratch = vec![0; pack.sizes().integer_solve_bytes() / 4];
    assert_eq!(own.solve(RECIPE, &mut scratch, &mut || ()), Err(TunerError::OnlyCopy));
    assert!(answers(&mut own, &data) == before && own.weights_crc32() == crc);
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    own.commit(&store, &mut flash).unwrap();
    own.start(RECIPE).unwrap();
    // From now on the factory answers, and there is no tuned tail to ask.
    assert_eq!((own.in_force(), own.is_only_copy(), own.awaits_restore()), (Version::Factory, false, false));
    assert_eq!(own.infer(&data[0].0, Version::Tuned).unwrap_err(), TunerError::NotTuned);
    assert_eq!(own.requantize(), Err(TunerError::Running));
    finish(&mut own);
    own.requantize().unwrap();
    assert!(own.is_only_copy() && int8_tail(&own) != tail);
    // Who has a copy may say so.
    own.release();
    adopt(&mut own, &tail).unwrap();
    assert!(answers(&mut own, &data) == before && own.is_only_copy());
}

/// The second run learns wrong labels.
#[test]
fn after_a_rejected_second_run_the_committed_tail_answers_again() {
    for layers in [3, 7] {
        let file = packed(layers);
        let (pack, data) = (file.pack(), samples(&file.pack(), 40));
        let (mut memory, mut new_memory) = (words(&pack), words(&pack));
        let mut own = tuner(pack, &mut memory);
        observe(&mut own, &data);
        run(&mut own, RECIPE);
        let (store, mut flash) = flash_of(&pack, Contents::Int8);
        own.commit(&store, &mut flash).unwrap();
        let (committed, factory) = (answers(&mut own, &data), classes(&mut own, &data, Version::Factory));
        own.forget();
        let wrong: Vec<Labelled> = data.iter().map(|(x, y)| (x.clone(), (y * 5 + 3) % 7)).collect();
        observe(&mut own, &wrong);
        own.start(Recipe { learning_rate: 20.0, ..RECIPE }).unwrap();
        (0..9).for_each(|_| _ = own.poll().unwrap());
        assert_eq!(own.in_force(), Version::Factory);
        assert_eq!(classes(&mut own, &data, Version::Factory), factory);
        finish(&mut own);
        let verdict = own.accept().unwrap();
        assert!(!verdict.accepted && verdict.restore && own.awaits_restore(), "{verdict:?}");
        assert_eq!(own.in_force(), Version::Factory);
        assert_eq!(classes(&mut own, &data, Version::Factory), factory);
        // Nothing goes on from there by itself.
        assert_eq!(own.start(RECIPE), Err(TunerError::RestoreExpected));
        // The power goes here, or it does not.
        let mut new = tuner(pack, &mut new_memory);
        let mut is_back = |tuner: &mut IntegerTuner| {
            assert!(tuner.restore(&store, &mut flash).unwrap().in_force().is_some());
            assert!(answers(tuner, &data) == committed, "another tail than the committed one");
            assert!(!tuner.awaits_restore() && !tuner.is_only_copy());
        };
        is_back(&mut own);
        is_back(&mut new);
        assert_eq!(own.weights_crc32(), new.weights_crc32());
        own.start(RECIPE).unwrap();
    }
}

/// Three tails: the factory's, one in force, and a candidate between the two. Beside the factory alone it would be taken.
#[test]
fn a_candidate_that_is_worse_than_the_former_tail_is_rejected_though_better_than_the_factory() {
    let file = packed(7);
    let (pack, data) = (file.pack(), samples(&file.pack(), 40));
    let (mut memory, mut twin_memory, mut fresh_memory) = (words(&pack), words(&pack), words(&pack));
    let mut own = tuner(pack, &mut memory);
    observe(&mut own, &data);
    own.start(Recipe { epochs: 12, ..RECIPE }).unwrap();
    finish(&mut own);
    assert!(own.accept().unwrap().accepted);
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    own.commit(&store, &mut flash).unwrap();
    let former = classes(&mut own, &data, Version::Tuned);
    let factory = classes(&mut own, &data, Version::Factory);
    assert!(right(&former, &data) > right(&factory, &data) + 3);
    let mut compared = 0;
    for seed in 0..12 {
        let recipe = Recipe { learning_rate: 14.0, epochs: 1, warm_up: 0.0, seed, ..RECIPE };
        own.restore(&store, &mut flash).unwrap();
        own.start(recipe).unwrap();
        // The twin holds the candidate as it is.
        let mut twin = tuner(pack, &mut twin_memory);
        observe(&mut twin, &data);
        twin.restore(&store, &mut flash).unwrap();
        run(&mut twin, recipe);
        let candidate = classes(&mut twin, &data, Version::Tuned);
        // One that knows no former tail.
        let mut fresh = tuner(pack, &mut fresh_memory);
        observe(&mut fresh, &data);
        fresh.resume_run(&saved(&own)).unwrap();
        finish(&mut own);
        finish(&mut fresh);
        let (verdict, alone) = (own.accept().unwrap(), fresh.accept().unwrap());
        for (judged, by_hand) in
            [(verdict.factory, &factory), (verdict.running, &former), (verdict.candidate, &candidate)]
        {
            assert_eq!((judged.samples as usize, judged.right), (data.len(), right(by_hand, &data)));
        }
        assert_eq!((alone.running, alone.candidate), (alone.factory, verdict.candidate));
        let [worse, better] = [&former, &factory]
            .map(|other| i64::from(right(&candidate, &data)) - i64::from(right(other, &data)));
        if worse < -1 && better > 1 && alone.accepted {
            compared += 1;
            assert!(!verdict.accepted && verdict.restore, "{verdict:?}");
            assert_ne!(verdict.evidence, Evidence::Better);
        }
    }
    assert!(compared >= 2, "{compared} candidates between the two tails");
}

/// Saved in a second run, in another tuner after the power was cut: the verdict is the one that would have been.
#[test]
fn a_second_run_outlasts_a_power_cut_with_what_it_is_compared_with() {
    let file = packed(5);
    let (pack, data) = (file.pack(), samples(&file.pack(), 30));
    let (mut memory, mut new_memory) = (words(&pack), words(&pack));
    let mut own = tuner(pack, &mut memory);
    observe(&mut own, &data);
    run(&mut own, RECIPE);
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    own.commit(&store, &mut flash).unwrap();
    let recipe = Recipe { held_out: 0.3, seed: 9, ..RECIPE };
    own.start(recipe).unwrap();
    (0..50).for_each(|_| _ = own.step().unwrap());
    let bytes = saved(&own);
    let mut new = tuner(pack, &mut new_memory);
    observe(&mut new, &data);
    new.restore(&store, &mut flash).unwrap();
    let before = new.weights_crc32();
    // Another length: refused, and the tail in force has kept its place.
    new.observe(&data[0].0, 0).unwrap();
    assert!(new.resume_run(&bytes).is_err());
    assert!(new.is_tuned() && new.weights_crc32() == before);
    new.forget();
    observe(&mut new, &data);
    new.resume_run(&bytes).unwrap();
    finish(&mut own);
    finish(&mut new);
    assert_eq!(own.weights_crc32(), new.weights_crc32());
    let (mut own, new) = (own.accept().unwrap(), new.accept().unwrap());
    // Before it is resumed nobody knows which samples are held out: the mean loss is of all.
    own.running.loss = new.running.loss;
    assert_eq!(own, new);
}

#[test]
fn samples_that_the_former_tail_has_not_seen_compare_nothing() {
    let file = packed(3);
    let (pack, data) = (file.pack(), samples(&file.pack(), 40));
    let mut memory = words(&pack);
    let mut own = tuner(pack, &mut memory);
    observe(&mut own, &data[..20]);
    run(&mut own, RECIPE);
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    let judged = |own: &mut IntegerTuner, newcomers: &[Labelled]| -> Acceptance {
        own.start(RECIPE).unwrap();
        own.step().unwrap();
        observe(own, newcomers);
        finish(own);
        own.accept().unwrap()
    };
    own.commit(&store, &mut flash).unwrap();
    let verdict = judged(&mut own, &data[20..32]);
    assert_eq!([verdict.running, verdict.candidate, verdict.factory].map(|own| own.samples), [20; 3]);
    // All have given way: nothing speaks for the candidate, and nothing stands still.
    own.restore(&store, &mut flash).unwrap();
    let all: Vec<Labelled> = data.iter().chain(&data).cloned().collect();
    let verdict = judged(&mut own, &all);
    assert_eq!((verdict.running.samples, verdict.accepted, verdict.restore), (0, false, true));
    own.restore(&store, &mut flash).unwrap();
    assert_eq!(judged(&mut own, &[]).running.samples, 40);
}

/// What a tail stands for is read where its own weights lie as it is where the differences do: of tails of this arithmetic and
/// of one that was tuned in f32, whose scales are others.
#[test]
fn a_tail_in_force_stands_for_the_same_weights_before_and_after_a_run_takes_its_place() {
    let file = packed(5);
    let (pack, data) = (file.pack(), samples(&file.pack(), 24));
    let recipe = Recipe { replay_capacity: 40, epochs: 8, learning_rate: 0.02, ..Recipe::DEFAULT };
    let mut float_memory = arena(Tail::Full, &pack, &recipe);
    let mut float = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut float_memory)).unwrap();
    observe(&mut float, &data);
    run(&mut float, recipe);
    let (mut memory, mut other_memory) = (words(&pack), words(&pack));
    let mut own = tuner(pack, &mut other_memory);
    observe(&mut own, &data);
    run(&mut own, RECIPE);
    for tail in [int8_tail(&float), int8_tail(&own)] {
        let mut tuner = tuner(pack, &mut memory);
        adopt(&mut tuner, &tail).unwrap();
        observe(&mut tuner, &data);
        assert!(int8_tail(&tuner) == tail);
        let read = |tuner: &mut IntegerTuner| {
            let scores: Vec<_> =
                data.iter().map(|(input, label)| tuner.score(input, *label).unwrap()).collect();
            (tuner.weights_crc32(), scores, tuner.judge_weights().unwrap())
        };
        let before = read(&mut tuner);
        assert!(int8_tail(&tuner) == tail);
        tuner.release();
        tuner.start(RECIPE).unwrap();
        assert_eq!(read(&mut tuner), before);
        // In f32 they are about the same.
        for ((input, label), score) in data.iter().zip(&before.1) {
            let exact = float.score(input, *label).unwrap().loss;
            assert!(tail != int8_tail(&float) || (score.loss - exact).abs() < 0.5, "{score:?} {exact}");
        }
    }
}
