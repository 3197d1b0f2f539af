//! The integer tail of any layers on the bundled task: about as good as f32 in a fraction of its RAM, never worse for being
//! saved, committed or rejected; refusals by name.

use crate::bundled::{arena, flash_of, observe, packed, run, samples, saved};
use flatmin::store::Contents;
use flatmin::{
    BiasTreatment, IntegerPlan, IntegerTuner, Method, Optimizer, Pack, Phase, Position, Progress, Recipe,
    TunerError, Version, Work,
};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training, train};

const RECIPE: Recipe = Recipe { epochs: 2, replay_capacity: 20, ..Recipe::INTEGER };
const METHODS: [Method; 3] = [Method::Sgd, Method::Sam, Method::Asam];

fn tuner<'a>(pack: Pack<'a>, recipe: Recipe, words: &'a mut [u128]) -> IntegerTuner<'a> {
    IntegerTuner::in_arena(pack, recipe, bytemuck::cast_slice_mut(words)).unwrap()
}

#[test]
fn all_layers_gain_what_they_gain_in_f32_in_half_of_the_ram() {
    let (mut integer_points, mut float_points) = (0.0, 0.0);
    for wearer in [1, 3] {
        let subject = Subject::wearer(wearer, 9, 0.0, 1).unwrap();
        let of = |tuner, recipe| {
            let training = Training { curve: false, ..Training::steps(tuner, recipe) };
            train(&subject, 7, &training, || ()).unwrap()
        };
        let integer = of(Tail::Integer, Recipe { method: Method::Sgd, ..Recipe::INTEGER });
        let float = of(Tail::Full, Recipe { method: Method::Sgd, epochs: 10, ..Recipe::FROM_CLOSED_FORM });
        integer_points += 50.0 * (integer.accuracy_int8 - integer.factory_accuracy);
        float_points += 50.0 * (float.accuracy_int8 - integer.factory_accuracy);
        // What it is trained with is what runs, but for the last layer's rounding.
        assert!((integer.accuracy_int8 - integer.accuracy_f32).abs() < 0.02, "{integer:?}");
        assert!(integer.train_ram_bytes * 9 < float.train_ram_bytes * 4, "{}", integer.train_ram_bytes);
        let sum: usize = integer.memory.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(sum, integer.train_ram_bytes);
    }
    assert!(integer_points > 5.0, "{integer_points} points over the factory");
    assert!(integer_points > float_points - 3.0, "{integer_points} points, in f32 {float_points}");
}

#[test]
fn the_head_in_closed_form_is_a_start() {
    let subject = Subject::wearer(3, 9, 0.2, 1).unwrap().calibrated(3).unwrap();
    let of = |start, steps| {
        let recipe = Recipe { method: Method::Sgd, epochs: 4, ..Recipe::INTEGER };
        let training = Training { curve: false, start, steps, ..Training::steps(Tail::Integer, recipe) };
        train(&subject, 7, &training, || ()).unwrap()
    };
    let solved = of(Start::ClosedForm, false);
    assert!(solved.accuracy_int8 > solved.factory_accuracy, "{}", solved.accuracy_int8);
    // The solver of the f32 tail, on the same layers.
    let recipe = Recipe { label_smoothing: Recipe::INTEGER.label_smoothing, ..Recipe::DEFAULT };
    let training = Training { curve: false, ..Training::closed_form(recipe) };
    let float = train(&subject, 7, &training, || ()).unwrap();
    assert!((solved.accuracy_int8 - float.accuracy_int8).abs() < 0.04, "{}", float.accuracy_int8);
    let stepped = of(Start::ClosedForm, true);
    assert!(stepped.accuracy_int8 > solved.factory_accuracy, "{}", stepped.accuracy_int8);
}

/// By default: a head in closed form says which labels are believed. Two labels in five flipped, the integer tail ends above the
/// factory; from all samples (`--start factory`) it ends below.
#[test]
fn the_default_stands_above_the_factory_where_two_labels_in_five_are_wrong() {
    const WEARERS: [usize; 4] = [1, 2, 5, 9];
    let (mut default, mut all) = (0.0, 0.0);
    for wearer in WEARERS {
        let subject = Subject::wearer(wearer, 9, 0.4, 1).unwrap().calibrated(wearer).unwrap();
        let recipe = Recipe { method: Method::Sgd, ..Recipe::INTEGER };
        let points = |start| {
            let training = Training { curve: false, start, ..Training::steps(Tail::Integer, recipe) };
            let run = train(&subject, 7, &training, || ()).unwrap();
            100.0 * (run.accuracy_int8 - run.factory_accuracy) / WEARERS.len() as f64
        };
        default += points(Start::usual_in_integers(&subject.model, &7.into()).unwrap());
        all += points(Start::Factory);
    }
    assert!(default > 1.0, "{default} points over the factory");
    assert!(all < default - 3.0, "{all} from all samples, {default} by default");
}

/// At every slice boundary: between steps, and between a step's ascent and its descent.
#[test]
fn a_saved_run_goes_on_with_the_same_bits() {
    for (layers, methods) in [(3, &METHODS[..]), (5, &METHODS[2..]), (7, &[Method::Sgd, Method::Asam])] {
        let file = packed(layers);
        let pack = file.pack();
        let samples = samples(&pack, 5);
        for &method in methods {
            let recipe = Recipe { method, ..RECIPE };
            let mut words = arena(Tail::Integer, &pack, &recipe);
            let mut whole = tuner(pack, recipe, &mut words);
            observe(&mut whole, &samples);
            run(&mut whole, recipe);
            let mut own_words = arena(Tail::Integer, &pack, &recipe);
            let mut own = tuner(pack, recipe, &mut own_words);
            observe(&mut own, &samples);
            own.start(recipe).unwrap();
            let (mut before, mut within) = (own.weights_crc32(), 0);
            loop {
                let bytes = saved(&own);
                let mut other_words = arena(Tail::Integer, &pack, &recipe);
                let mut other = tuner(pack, recipe, &mut other_words);
                observe(&mut other, &samples);
                other.resume_run(&bytes).unwrap();
                assert_eq!(saved(&other), bytes);
                while !other.step().unwrap().finished {}
                assert_eq!(other.weights_crc32(), whole.weights_crc32(), "{layers} layers, {method:?}");
                match own.poll().unwrap() {
                    Progress::Underway(Position { work: Work::Step(Phase::Descent), .. }) => {
                        // The weights are those before the step, and what else is asked for does no harm.
                        assert_eq!(own.weights_crc32(), before);
                        own.infer(&samples[0].0, Version::Factory).unwrap();
                        if within % 2 == 0 {
                            own.evaluate(0.05).unwrap();
                        }
                        within += 1;
                    }
                    Progress::Underway(_) => {}
                    Progress::Stepped(report) if report.finished => break,
                    Progress::Stepped(_) => before = own.weights_crc32(),
                }
            }
            assert_eq!(own.weights_crc32(), whole.weights_crc32(), "{layers} layers, {method:?}");
            // One boundary in each step with an ascent.
            assert_eq!(within, if method == Method::Sgd { 0 } else { 10 });
        }
    }
}

#[test]
fn a_run_of_another_kind_of_tail_is_refused() {
    let file = packed(3);
    let pack = file.pack();
    let samples = samples(&pack, 3);
    let mut words = arena(Tail::Integer, &pack, &RECIPE);
    let mut own = tuner(pack, RECIPE, &mut words);
    observe(&mut own, &samples);
    let recipe = Recipe { replay_capacity: 20, ..Recipe::DEFAULT };
    let mut float_words = arena(Tail::Full, &pack, &recipe);
    let mut float = flatmin::Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut float_words)).unwrap();
    observe(&mut float, &samples);
    float.start(recipe).unwrap();
    let refused = own.resume_run(&saved(&float));
    assert!(matches!(refused, Err(TunerError::RunOfAnother { what: "kind of tail", .. })), "{refused:?}");
}

#[test]
fn a_tail_outlasts_a_power_cut_and_goes_on_from_its_weights() {
    let file = packed(3);
    let pack = file.pack();
    let samples = samples(&pack, 12);
    let mut words = arena(Tail::Integer, &pack, &RECIPE);
    let mut own = tuner(pack, RECIPE, &mut words);
    observe(&mut own, &samples);
    run(&mut own, RECIPE);
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    own.commit(&store, &mut flash).unwrap();
    let mut other_words = arena(Tail::Integer, &pack, &RECIPE);
    let mut other = tuner(pack, RECIPE, &mut other_words);
    let record = other.restore(&store, &mut flash).unwrap().in_force().unwrap();
    assert_eq!((record.contents, other.is_tuned()), (Contents::Int8, true));
    for (input, _) in &samples {
        assert_eq!(own.infer(input, Version::Tuned).unwrap(), other.infer(input, Version::Tuned).unwrap());
        // Its weights are those of the int8 tail.
        let (class, score) =
            (other.infer(input, Version::Tuned).unwrap().to_vec(), other.score(input, 0).unwrap());
        let best = class.iter().max().unwrap();
        assert!(i32::from(*best) - i32::from(class[score.class]) <= 1, "{class:?} {score:?}");
    }
    // As bytes over a link.
    let mut payload = vec![0; own.tail_bytes()];
    assert_eq!(own.read_tail(0, &mut payload), Ok(payload.len()));
    let mut third_words = arena(Tail::Integer, &pack, &RECIPE);
    let mut third = tuner(pack, RECIPE, &mut third_words);
    let layers = pack.sizes().tail_layers * flatmin::store::LAYER_BYTES;
    third.write_tail(layers, &payload[layers..]).unwrap();
    third.adopt_tail(&payload[..layers], flatmin::crc32(&payload)).unwrap();
    assert_eq!(third.weights_crc32(), other.weights_crc32());
    // A damaged one takes its place: it is to be restored.
    payload[layers + 5] ^= 1;
    third.release();
    third.write_tail(layers, &payload[layers..]).unwrap();
    assert_eq!(third.adopt_tail(&payload[..layers], 0), Err(TunerError::TailDamaged));
    assert_eq!((third.is_tuned(), third.awaits_restore()), (false, true));
    third.restore(&store, &mut flash).unwrap();
    assert_eq!((third.weights_crc32(), third.is_tuned()), (other.weights_crc32(), true));
}

#[test]
fn a_rejected_tail_leaves_the_one_in_force() {
    let file = packed(3);
    let pack = file.pack();
    let recipe = Recipe { held_out: 0.5, ..RECIPE };
    let mut words = arena(Tail::Integer, &pack, &recipe);
    let mut own = tuner(pack, recipe, &mut words);
    // Every label is wrong: what is learnt is no better on samples that are held out.
    let wrong: Vec<_> = samples(&pack, 20).into_iter().map(|(x, y)| (x, (y * 5 + 3) % 7)).collect();
    let right = samples(&pack, 20);
    observe(&mut own, &right);
    let factory = own.weights_crc32();
    own.start(recipe).unwrap();
    while !own.step().unwrap().finished {}
    assert_ne!(own.weights_crc32(), factory);
    let first = own.accept().unwrap();
    assert_eq!(first.accepted, own.is_tuned());
    if !first.accepted {
        assert_eq!(own.weights_crc32(), factory);
    }
    let (before, tuned) = (own.weights_crc32(), own.is_tuned());
    let (store, mut flash) = flash_of(&pack, Contents::Int8);
    if tuned {
        own.commit(&store, &mut flash).unwrap();
    }
    own.forget();
    observe(&mut own, &wrong);
    own.start(Recipe { learning_rate: 50.0, ..recipe }).unwrap();
    while !own.step().unwrap().finished {}
    let verdict = own.accept().unwrap();
    assert_eq!((verdict.accepted, verdict.restore), (false, tuned));
    own.restore(&store, &mut flash).unwrap();
    assert_eq!((own.weights_crc32(), own.is_tuned()), (before, tuned));
}

#[test]
fn what_is_left_out_is_refused_by_name() {
    let file = packed(3);
    let pack = file.pack();
    let mut words = arena(Tail::Integer, &pack, &RECIPE);
    let mut own = tuner(pack, RECIPE, &mut words);
    observe(&mut own, &samples(&pack, 3));
    for (recipe, field) in [
        (Recipe { minibatch: 16, ..RECIPE }, "minibatches"),
        (Recipe { momentum: 0.9, ..RECIPE }, "momentum"),
        (Recipe { weight_decay: 0.1, ..RECIPE }, "weight decay"),
        (Recipe { optimizer: Optimizer::Adam, ..RECIPE }, "Adam"),
        (Recipe { method: Method::SamOn, ..RECIPE }, "SAM-ON"),
        (Recipe { bias: BiasTreatment::Elementwise, ..RECIPE }, "element-wise bias"),
        (Recipe { store_perturbation: true, ..RECIPE }, "store_perturbation"),
        (Recipe { keep_best: true, ..RECIPE }, "keep_best"),
        (Recipe { sample_losses: true, ..RECIPE }, "sample_losses"),
    ] {
        let error = own.start(recipe).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    let chain = packed(1);
    let mut words = arena(Tail::Integer, &chain.pack(), &RECIPE);
    let error = IntegerTuner::in_arena(chain.pack(), RECIPE, bytemuck::cast_slice_mut(&mut words));
    assert!(error.unwrap_err().to_string().contains("chains"));
    // An arena for SGD has no room for an ascent.
    let sgd = Recipe { method: Method::Sgd, ..RECIPE };
    let mut words = arena(Tail::Integer, &pack, &sgd);
    let mut own = tuner(pack, sgd, &mut words);
    observe(&mut own, &samples(&pack, 3));
    let refused = own.start(Recipe { method: Method::Asam, ..RECIPE });
    assert!(matches!(refused, Err(TunerError::ArenaTooSmall { .. })), "{refused:?}");
    let plan = IntegerPlan::new(&pack.sizes(), &sgd);
    assert!(plan.total_bytes() < IntegerPlan::new(&pack.sizes(), &RECIPE).total_bytes());
}
