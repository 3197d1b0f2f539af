//! A compact tail's run in slices: saved and resumed in another tuner at every slice boundary it ends with the bits of an
//! uninterrupted one; what is not that run is refused.

use crate::bundled;

use crate::bundled::{
    Labelled, damaged_runs_are_refused, observe, packed, runs_of_others_are_refused, samples, saved,
};
use flatmin::{
    BiasTreatment, CompactTuner, Method, Pack, Progress, RUN_HEAD_BYTES, Recipe, Schedule, Tuner, TunerError,
    Version,
};
use flatmin_sim::tuning::Tail;

const RECIPE: Recipe = Recipe {
    epochs: 2,
    minibatch: 5,
    replay_capacity: 8,
    learning_rate: 0.05,
    method: Method::Sam,
    ..Recipe::DEFAULT
};

fn arena(pack: &Pack, recipe: &Recipe) -> Vec<u128> {
    bundled::arena(Tail::Compact, pack, recipe)
}

fn tuner<'a>(pack: &Pack<'a>, recipe: &Recipe, arena: &'a mut [u128], data: &[Labelled]) -> CompactTuner<'a> {
    let mut tuner = CompactTuner::in_arena(*pack, *recipe, bytemuck::cast_slice_mut(arena)).unwrap();
    observe(&mut tuner, data);
    tuner
}

/// What a tail answers between two slices, in bits: weights, loss, means, int8 outputs.
fn answers(tuner: &mut CompactTuner, latent: &[i8], label: usize) -> (u32, u32, [u32; 3], Vec<i8>) {
    let means = tuner.evaluate(0.05).unwrap();
    (
        tuner.weights_crc32(),
        tuner.score_latent(latent, label).unwrap().loss.to_bits(),
        [means.loss, means.accuracy, means.sharpness].map(f32::to_bits),
        tuner.infer_latent(latent, Version::Factory).unwrap().to_vec(),
    )
}

/// Every method, one layer and two, held-out samples, whatever else has a say in a step.
fn recipes() -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> =
        [Method::Sgd, Method::Sam, Method::Asam].map(|method| Recipe { method, ..RECIPE }).into();
    recipes.push(Recipe { held_out: 0.3, bias: BiasTreatment::Frozen, ..RECIPE });
    recipes.push(Recipe { minibatch: 1, weight_decay: 0.0, momentum: 0.0, ..RECIPE });
    recipes.push(Recipe { ascent_every: 2, schedule: Schedule::Cosine, warm_up: 0.5, ..RECIPE });
    recipes
}

#[test]
fn interrupted_and_resumed_at_every_slice_boundary_it_ends_with_the_same_bits() {
    for (layers, recipe) in
        [1, 2].into_iter().flat_map(|layers| recipes().into_iter().map(move |r| (layers, r)))
    {
        let file = packed(layers);
        let pack = file.pack();
        let data = samples(&pack, 8);
        let [mut first, mut second, mut third] = [(); 3].map(|()| arena(&pack, &recipe));
        let mut whole = tuner(&pack, &recipe, &mut first, &data);
        let mut pair = [&mut second, &mut third].map(|arena| tuner(&pack, &recipe, arena, &data));
        let (latent, label) = (whole.latent(&data[0].0).unwrap().to_vec(), data[0].1);
        whole.start(recipe).unwrap();
        pair[0].start(recipe).unwrap();
        let (mut slices, mut running) = (0, 0);
        loop {
            let before = answers(&mut whole, &latent, label);
            let expected = whole.step().unwrap();
            let report = loop {
                let bytes = saved(&pair[running]);
                let next = 1 - running;
                // What the other tuner has in its buffers must not matter: a run of its own that requantized.
                let other = &mut pair[next];
                other.factory_reset();
                other.start(Recipe { seed: slices, learning_rate: 0.5, ..recipe }).unwrap();
                (0..slices % 9).for_each(|_| _ = other.poll().unwrap());
                other.requantize().unwrap();
                other.resume_run(&bytes).unwrap();
                assert!(saved(other) == bytes, "{recipe:?}");
                running = next;
                assert_eq!(answers(&mut pair[running], &latent, label), before, "{recipe:?}, slice {slices}");
                slices += 1;
                if let Progress::Stepped(report) = pair[running].poll().unwrap() {
                    break report;
                }
            };
            assert_eq!(report, expected, "{recipe:?}");
            if report.finished {
                break;
            }
        }
        let own = &mut pair[running];
        assert_eq!((own.weights_crc32(), own.macs()), (whole.weights_crc32(), whole.macs()), "{recipe:?}");
        assert_eq!((own.position(), own.poll()), (None, Err(TunerError::NotRunning)));
        // A slice per sample, and two sweeps per step; one per sample before the first, where there is a radius to measure.
        let steps = 8u64.div_ceil(recipe.minibatch.into());
        let measured = if recipe.method == Method::Sgd { 0 } else { 8 };
        assert!(
            recipe.held_out > 0.0 && slices > 12 || slices == measured + 2 * (8 + 2 * steps),
            "{slices}, {recipe:?}"
        );
    }
}

#[test]
fn a_run_of_something_else_and_damaged_bytes_are_refused_and_change_nothing() {
    let file = packed(1);
    let pack = file.pack();
    let data = samples(&pack, 7);
    let (mut first, mut second) = (arena(&pack, &RECIPE), arena(&pack, &RECIPE));
    let mut own = tuner(&pack, &RECIPE, &mut first, &data);
    assert_eq!((own.run_bytes(), own.save_run(0, &mut [0; 8])), (0, Err(TunerError::NotRunning)));
    let mut other = tuner(&pack, &RECIPE, &mut second, &data);
    let bytes = damaged_runs_are_refused(&mut own, &mut other, RECIPE, 1);

    // Of the tuner with f32 weights, and of the compact one for that.
    let mut words = vec![0u128; pack.sizes().train_bytes(&RECIPE).div_ceil(16)];
    let mut full = Tuner::new(pack, RECIPE, bytemuck::cast_slice_mut(&mut words)).unwrap();
    data.iter().for_each(|(input, label)| full.observe(input, *label).unwrap());
    full.start(RECIPE).unwrap();
    let kind = |refused: Result<(), TunerError>| {
        assert!(matches!(refused, Err(TunerError::RunOfAnother { what: "kind of tail", .. })), "{refused:?}");
    };
    kind(full.resume_run(&bytes));
    kind(other.resume_run(&saved(&full)));
    assert!(saved(&other) == bytes);

    let (another, mut third) = (packed(2), arena(&packed(2).pack(), &RECIPE));
    let mut another = tuner(&another.pack(), &RECIPE, &mut third, &data);
    runs_of_others_are_refused(&mut other, &mut another, &bytes, &data[0]);
}

/// Head first, then a body that is not the one announced: the weights are those of the tail in force again.
#[test]
fn a_run_that_comes_in_parts_is_taken_whole_or_not_at_all() {
    let file = packed(2);
    let pack = file.pack();
    let data = samples(&pack, 7);
    let (mut first, mut second) = (arena(&pack, &RECIPE), arena(&pack, &RECIPE));
    let mut own = tuner(&pack, &RECIPE, &mut first, &data);
    own.start(RECIPE).unwrap();
    (0..9).for_each(|_| _ = own.poll().unwrap());
    let bytes = saved(&own);
    let (head, body) = bytes.split_at(RUN_HEAD_BYTES);

    let mut other = tuner(&pack, &RECIPE, &mut second, &data);
    let factory = other.weights_crc32();
    assert_eq!(other.write_run(RUN_HEAD_BYTES, body), Err(TunerError::NotRunning));
    assert_eq!(other.adopt_run(head), Err(TunerError::NotRunning));
    assert_eq!(other.expect_run(head), Ok(bytes.len()));
    assert_eq!(other.poll(), Err(TunerError::NotRunning));
    for part in body.chunks(37).rev() {
        let offset = part.as_ptr().addr() - bytes.as_ptr().addr();
        other.write_run(offset, part).unwrap();
    }
    other.adopt_run(head).unwrap();
    assert!(saved(&other) == bytes);

    let half = |other: &mut CompactTuner| {
        other.expect_run(head).unwrap();
        other.write_run(RUN_HEAD_BYTES, &body[..40]).unwrap();
        other.write_run(RUN_HEAD_BYTES + 8, &[1, 2, 3]).unwrap();
        assert_ne!(other.weights_crc32(), factory);
    };
    half(&mut other);
    for offset in [0, bytes.len()] {
        assert!(matches!(other.write_run(offset, &[1]), Err(TunerError::TailRange { .. })));
    }
    assert_eq!(other.adopt_run(head), Err(TunerError::RunDamaged));
    assert_eq!(other.weights_crc32(), factory);
    // Half written, it is used for nothing.
    half(&mut other);
    assert_eq!(other.requantize(), Err(TunerError::RunExpected));
    assert_eq!(other.accept().unwrap_err(), TunerError::RunExpected);
    other.start(RECIPE).unwrap();
    assert_eq!(other.weights_crc32(), factory);
    half(&mut other);
    assert_eq!(other.adopt_run(&head[..9]), Err(TunerError::RunDamaged));
    assert_eq!(other.weights_crc32(), factory);

    // In front of a tuned tail it is that whose weights come back.
    while !own.step().unwrap().finished {}
    own.requantize().unwrap();
    let expected = {
        let mut tail = vec![0; own.tail_bytes()];
        own.read_tail(0, &mut tail).unwrap();
        tail
    };
    half(&mut own);
    own.forget();
    let mut tail = vec![0; own.tail_bytes()];
    own.read_tail(0, &mut tail).unwrap();
    let int8 = pack.sizes().payload_bytes(flatmin::store::Contents::Int8);
    assert!(tail[..int8] == expected[..int8]);
    assert_ne!(own.weights_crc32(), factory);
    own.observe(&data[0].0, data[0].1).unwrap();
    own.start(RECIPE).unwrap();
}
