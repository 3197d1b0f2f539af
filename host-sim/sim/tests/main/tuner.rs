//! [`Tuner`] where things end: no sample, too many, one class, no gradient, no number, and calls out of order.
//! Behaviour that firmware relies on, with the bundled model.

use flatmin::internals::pack::format::{header, operator};
use flatmin::internals::tail::{DenseChain, dense::DenseShape};
use flatmin::{
    Method, Optimizer, Pack, PackError, Recipe, Tuner, TunerError, Version, crc32,
    internals::pack::Activation,
};
use flatmin::{
    StepError,
    internals::step::{self, Buffers},
};
use flatmin_model::model::Model;
use flatmin_sim::wearers::{Recordings, model_bytes};

type Labelled = (Vec<i8>, usize);

const METHODS: [Method; 4] = [Method::Sgd, Method::Sam, Method::Asam, Method::SamOn];

/// A pack in memory, and what changes its bytes without damaging its checksum.
struct Packed(Vec<u128>);

impl Packed {
    fn bundled() -> Self {
        let model = Model::bundled("wearer 1".into(), model_bytes(1).unwrap()).unwrap();
        let file = model.pack(2).unwrap();
        let mut words = vec![0u128; file.bytes().len().div_ceil(16)];
        bytemuck::cast_slice_mut(&mut words)[..file.bytes().len()].copy_from_slice(file.bytes());
        Self(words)
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    fn pack(&self) -> Pack<'_> {
        Pack::new(self.bytes()).unwrap()
    }

    fn u32_at(&self, at: usize) -> usize {
        u32::from_le_bytes(self.bytes()[at..at + 4].try_into().unwrap()) as usize
    }

    /// Where the record of the last fully connected operator lies.
    fn last_layer(&self) -> usize {
        let pack = self.pack();
        let mut last = pack.operator_count() - 1;
        if pack.operator(last).kind == operator::SOFTMAX {
            last -= 1;
        }
        assert_eq!(pack.operator(last).kind, operator::FULLY_CONNECTED);
        self.u32_at(header::OPERATORS) + usize::from(last) * operator::BYTES
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        bytes[at..at + value.len()].copy_from_slice(value);
        let total = self.u32_at(header::TOTAL_BYTES);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        let crc = crc32(&bytes[header::CHECKED_FROM..total]);
        bytes[header::CRC..header::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The first `count` test windows of wearer 1, as the model's input.
fn samples(pack: &Pack, count: usize) -> Vec<Labelled> {
    let windows = Recordings::bundled().unwrap().test(1).unwrap();
    let affine = pack.input().affine;
    // Every seventh: the file goes exercise by exercise.
    let chosen = windows.iter().step_by(7).take(count);
    let samples: Vec<Labelled> =
        chosen.map(|w| (w.samples.iter().map(|&x| affine.quantize(x)).collect(), w.label)).collect();
    assert_eq!(samples.len(), count);
    samples
}

fn recipe(method: Method) -> Recipe {
    let recipe = Recipe { method, epochs: 4, replay_capacity: 32, ..Recipe::DEFAULT };
    Recipe { rho: 0.5, learning_rate: 0.005, label_smoothing: 0.0, ..recipe }
}

fn arena(pack: &Pack, recipe: &Recipe) -> Vec<u128> {
    vec![0; pack.sizes().train_bytes(recipe).div_ceil(16)]
}

fn bits(tuner: &Tuner) -> Vec<u32> {
    tuner.weights().iter().map(|w| w.to_bits()).collect()
}

/// Runs to the end; the minibatches' losses.
fn run(tuner: &mut Tuner, recipe: Recipe) -> Vec<f32> {
    tuner.start(recipe).unwrap();
    let mut losses = Vec::new();
    loop {
        let report = tuner.step().unwrap();
        assert!(report.loss.is_finite() && report.rise.is_finite());
        losses.push(report.loss);
        if report.finished {
            break;
        }
    }
    assert_eq!(tuner.step(), Err(TunerError::NotRunning), "after the last step");
    assert!(tuner.weights().iter().all(|w| w.is_finite()));
    losses
}

/// Observes, runs, and hands the tuner to `see`.
fn tuned<T>(
    pack: Pack,
    recipe: Recipe,
    samples: &[Labelled],
    see: impl FnOnce(&mut Tuner, &[f32]) -> T,
) -> T {
    let mut words = arena(&pack, &recipe);
    let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    for (input, label) in samples {
        tuner.observe(input, *label).unwrap();
    }
    let losses = run(&mut tuner, recipe);
    see(&mut tuner, &losses)
}

#[test]
fn a_minibatch_larger_than_the_data_is_all_of_the_data() {
    let packed = Packed::bundled();
    let five = samples(&packed.pack(), 5);
    for method in METHODS {
        for sharpness_batch in [1, 5, 900] {
            let of = |minibatch| {
                let recipe = Recipe { minibatch, sharpness_batch, ..recipe(method) };
                tuned(packed.pack(), recipe, &five, |tuner, losses| (tuner.weights_crc32(), losses.to_vec()))
            };
            let exact = of(5);
            assert_eq!(exact.1.len(), 4, "one step an epoch");
            assert_eq!(of(6), exact);
            assert_eq!(of(u16::MAX), exact);
        }
        assert_eq!(
            tuned(packed.pack(), recipe(method), &five[..1], |tuner, losses| (tuner.samples(), losses.len())),
            (1, 4),
            "a single sample"
        );
    }
}

#[test]
fn a_full_replay_keeps_the_newest() {
    let packed = Packed::bundled();
    let twenty = samples(&packed.pack(), 20);
    let recipe = Recipe { replay_capacity: 8, ..recipe(Method::Asam) };
    let crc = |samples: &[Labelled]| {
        tuned(packed.pack(), recipe, samples, |tuner, _| {
            assert_eq!(tuner.samples(), 8);
            tuner.weights_crc32()
        })
    };
    // Each newcomer takes the place of the oldest: 16 to 19 those of 8 to 11, which had those of 0 to 3.
    let left: Vec<_> = twenty[16..].iter().chain(&twenty[12..16]).cloned().collect();
    assert_eq!(crc(&twenty), crc(&left));
    assert_ne!(crc(&twenty), crc(&twenty[..8]));
}

#[test]
fn labels_that_are_all_equal_are_learnt() {
    let packed = Packed::bundled();
    let mut same = samples(&packed.pack(), 12);
    same.iter_mut().for_each(|sample| sample.1 = 5);
    for method in METHODS {
        let recipe = Recipe { epochs: 60, ..recipe(method) };
        tuned(packed.pack(), recipe, &same, |tuner, losses| {
            assert!(losses[losses.len() - 1] < 0.1 * losses[0], "{method:?}: {losses:?}");
            let evaluation = tuner.evaluate(0.05).unwrap();
            assert_eq!(evaluation.accuracy, 1.0);
            tuner.requantize().unwrap();
            for (input, _) in &same {
                let output = tuner.infer(input, Version::Tuned).unwrap();
                assert!(output.iter().all(|&p| p <= output[5]), "{method:?}: {output:?}");
            }
        });
    }
}

/// A bias so large that the softmax is certain: the loss is 0, and so is every gradient.
#[test]
fn a_gradient_of_zero_changes_nothing() {
    let mut packed = Packed::bundled();
    let biases = packed.u32_at(packed.last_layer() + operator::BIASES);
    packed.patch(biases + 4 * 3, &(1i32 << 30).to_le_bytes());
    let mut certain = samples(&packed.pack(), 12);
    certain.iter_mut().for_each(|sample| sample.1 = 3);
    for method in METHODS {
        for sharpness_batch in [1, 4] {
            let recipe = Recipe { weight_decay: 0.0, sharpness_batch, ..recipe(method) };
            let (pack, mut words) = (packed.pack(), arena(&packed.pack(), &recipe));
            let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
            for (input, label) in &certain {
                tuner.observe(input, *label).unwrap();
            }
            let before = bits(&tuner);
            let losses = run(&mut tuner, recipe);
            assert!(losses.iter().all(|&loss| loss == 0.0), "{losses:?}");
            assert_eq!(bits(&tuner), before);
            assert_eq!(tuner.evaluate(0.05).unwrap().sharpness, 0.0);
            tuner.requantize().unwrap();
            assert_eq!(tuner.infer(&certain[0].0, Version::Tuned).unwrap()[3], 127);
        }
    }
}

/// Inputs at the ends of their range, and nothing but the zero point.
#[test]
fn inputs_that_no_sensor_gives_are_tuned_on_like_others() {
    let packed = Packed::bundled();
    let zero = packed.pack().input().affine.zero_point as i8;
    let mut random = flatmin_sim::wearers::SplitMix64::new(5);
    let noise = (0..600).map(|_| (random.next_u64() >> 56) as u8 as i8).collect();
    let odd = [vec![-128; 600], vec![127; 600], vec![zero; 600], noise].map(|input| (input, 2));
    for method in METHODS {
        tuned(packed.pack(), recipe(method), &odd, |tuner, losses| {
            assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
            tuner.requantize().unwrap();
            tuner.infer(&odd[0].0, Version::Tuned).unwrap();
        });
    }
}

/// A scale that f32 cannot tune is refused with the pack; at the largest that is taken, nothing is lost.
#[test]
fn the_largest_scale_is_tuned_and_a_larger_one_refused() {
    let mut packed = Packed::bundled();
    let scales = packed.u32_at(packed.last_layer() + operator::SCALES);
    for bad in [f32::MAX, f32::INFINITY, f32::NAN, 0.0, -1.0, 1.1e6] {
        packed.patch(scales, &bad.to_le_bytes());
        let refusal = Pack::new(packed.bytes()).map(|_| ()).unwrap_err();
        assert!(matches!(refusal, PackError::Operator { what, .. } if what.contains("scale")), "{refusal}");
    }
    packed.patch(scales, &1_048_576.0f32.to_le_bytes());
    let some = samples(&packed.pack(), 6);
    for method in METHODS {
        let recipe = recipe(method);
        let (pack, mut words) = (packed.pack(), arena(&packed.pack(), &recipe));
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
        for (input, label) in &some {
            tuner.observe(input, *label).unwrap();
        }
        tuner.start(recipe).unwrap();
        loop {
            match tuner.step() {
                Ok(report) if report.finished => break,
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, TunerError::Step(StepError::NonFinite { .. })), "{error}");
                    assert_eq!(tuner.step(), Err(TunerError::NotRunning));
                    break;
                }
            }
        }
        assert!(tuner.weights().iter().all(|w| w.is_finite()));
        tuner.requantize().unwrap();
        tuner.infer(&some[0].0, Version::Tuned).unwrap();
        let (healthy, mut scratch) = (Packed::bundled(), vec![0; packed.pack().sizes().arena_bytes]);
        assert_eq!(
            tuner.infer(&some[0].0, Version::Factory).unwrap(),
            flatmin::infer(&healthy.pack(), &some[0].0, &mut scratch)
        );
    }
}

/// A loss that is no number: the step says so, and is not taken.
#[test]
fn numbers_that_are_not_finite_change_no_weight() {
    let shape = DenseShape { inputs: 2, outputs: 2, activation: Activation::None };
    let tail = DenseChain::new(&[shape]).unwrap();
    for method in METHODS {
        let recipe = recipe(method);
        let (mut w, mut v, mut workspace) = ([3e38f32, 3e38, -3e38, 1.0, 0.0, 0.0], [0.0; 6], [0.0; 10]);
        let before = w;
        let buffers =
            Buffers { weights: &mut w, velocity: &mut v, gradient: &mut [], workspace: &mut workspace };
        let result = step::minibatch(&tail, &recipe, 0.1, buffers, 1, |_, features| {
            features.copy_from_slice(&[2.0, 2.0]);
            0_usize
        });
        assert_eq!(result, Err(StepError::NonFinite { sample: 0 }));
        assert_eq!(w, before);
    }
}

#[test]
fn refusals_leave_the_tuner_as_it_was() {
    let packed = Packed::bundled();
    let some = samples(&packed.pack(), 3);
    let recipe = recipe(Method::Sam);
    let mut words = arena(&packed.pack(), &recipe);
    let mut tuner = Tuner::new(packed.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    let before = bits(&tuner);

    assert_eq!(tuner.start(recipe), Err(TunerError::NoSamples));
    assert_eq!(tuner.step(), Err(TunerError::NotRunning));
    assert_eq!(tuner.evaluate(0.05), Err(TunerError::NoSamples));
    assert_eq!(tuner.requantize(), Err(TunerError::NoSamples));
    assert_eq!(tuner.infer(&some[0].0, Version::Tuned), Err(TunerError::NotTuned));
    for length in [0, 599, 601] {
        let input = vec![0; length];
        let expected = TunerError::InputLength { expected: 600, found: length };
        assert_eq!(tuner.observe(&input, 0), Err(expected));
        assert_eq!(tuner.latent(&input), Err(expected));
        assert_eq!(tuner.infer(&input, Version::Factory), Err(expected));
        assert_eq!(tuner.score(&input, 0), Err(expected));
    }
    for label in [7, 65_536, usize::MAX] {
        assert_eq!(tuner.observe(&some[0].0, label), Err(TunerError::Label { label, last: 6 }));
        assert_eq!(tuner.score(&some[0].0, label), Err(TunerError::Label { label, last: 6 }));
    }
    assert_eq!(tuner.samples(), 0);

    for (input, label) in &some {
        tuner.observe(input, *label).unwrap();
    }
    for (bad, field) in [
        (Recipe { rho: f32::NAN, ..recipe }, "rho"),
        (Recipe { learning_rate: -1.0, ..recipe }, "learning_rate"),
        (Recipe { minibatch: 0, ..recipe }, "minibatch"),
    ] {
        let error = tuner.start(bad).unwrap_err();
        assert!(matches!(error, TunerError::Recipe(e) if e.field == field), "{error}");
    }
    // This arena has no gradient buffer.
    let greedy = Recipe { sharpness_batch: 4, ..recipe };
    let needed = packed.pack().sizes().train_bytes(&greedy);
    let found = tuner.arena_bytes();
    assert_eq!(tuner.start(greedy), Err(TunerError::ArenaTooSmall { needed, found }));
    assert_eq!(tuner.step(), Err(TunerError::NotRunning));
    assert_eq!((tuner.samples(), bits(&tuner)), (3, before.clone()));

    // And after all of that it tunes; a reset undoes it, but for the samples.
    run(&mut tuner, recipe);
    assert_ne!(bits(&tuner), before);
    tuner.requantize().unwrap();
    tuner.factory_reset();
    assert_eq!((tuner.samples(), bits(&tuner)), (3, before));
    assert_eq!(tuner.infer(&some[0].0, Version::Tuned), Err(TunerError::NotTuned));
    tuner.start(recipe).unwrap();
    tuner.forget();
    assert_eq!((tuner.samples(), tuner.step()), (0, Err(TunerError::NotRunning)));
}

#[test]
fn adam_takes_what_the_plan_says_and_begins_every_run_anew() {
    let packed = Packed::bundled();
    let some = samples(&packed.pack(), 12);
    let sgd = recipe(Method::Sam);
    let adam = Recipe { optimizer: Optimizer::Adam, learning_rate: 0.001, warm_up: 0.25, ..sgd };
    let sizes = packed.pack().sizes();
    let (found, needed) = (sizes.train_bytes(&sgd), sizes.train_bytes(&adam));
    // Moments of 2 bytes a parameter, two scales a block of 64, two corrections; parts begin at multiples of 16.
    let moments = sizes.tail_parameters.div_ceil(64) * 136 + 8;
    assert!((moments..moments + 16).contains(&(needed - found)), "{needed} - {found} against {moments}");

    let (mut small, mut large) = (arena(&packed.pack(), &sgd), arena(&packed.pack(), &adam));
    let mut of_sgd = Tuner::new(packed.pack(), sgd, bytemuck::cast_slice_mut(&mut small)).unwrap();
    let mut of_adam = Tuner::new(packed.pack(), adam, bytemuck::cast_slice_mut(&mut large)).unwrap();
    for (input, label) in &some {
        of_sgd.observe(input, *label).unwrap();
        of_adam.observe(input, *label).unwrap();
    }
    assert_eq!(of_sgd.start(adam), Err(TunerError::ArenaTooSmall { needed, found: of_sgd.arena_bytes() }));
    let mut of = |recipe| {
        of_adam.factory_reset();
        let losses = run(&mut of_adam, recipe);
        (losses, bits(&of_adam))
    };
    let first = of(adam);
    assert!(first.0[first.0.len() - 1] < first.0[0], "{:?}", first.0);
    // An arena with room for moments changes nothing for SGD, and no moment outlives its run.
    assert_eq!(of(sgd), (run(&mut of_sgd, sgd), bits(&of_sgd)));
    assert_eq!(of(adam), first);
}

#[test]
fn between_two_ascents_steps_are_the_base_optimizers() {
    let packed = Packed::bundled();
    let twelve = samples(&packed.pack(), 12);
    let of = |recipe: Recipe| {
        let mut words = arena(&packed.pack(), &recipe);
        let mut tuner = Tuner::new(packed.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
        twelve.iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
        tuner.start(recipe).unwrap();
        let rises: Vec<bool> = (0..8).map(|_| tuner.step().unwrap().rise > 0.0).collect();
        (rises, bits(&tuner))
    };
    for sharpness_batch in [1, 3] {
        let sam = Recipe { minibatch: 6, rho: 0.05, sharpness_batch, ..recipe(Method::Sam) };
        let (rises, third) = of(Recipe { ascent_every: 3, ..sam });
        assert_eq!(rises, [true, false, false, true, false, false, true, false]);
        let (sgd, every) = (of(Recipe { method: Method::Sgd, ..sam }), of(sam));
        assert!(third != sgd.1 && third != every.1);
        // Beyond the run it ascends in the first step alone; a minibatch later all is as with SGD from there.
        assert_eq!(of(Recipe { ascent_every: u16::MAX, ..sam }).0.iter().filter(|&&rose| rose).count(), 1);
    }
}

#[test]
fn arenas_and_packs_that_do_not_fit_are_refused() {
    let packed = Packed::bundled();
    let recipe = recipe(Method::Asam);
    let needed = packed.pack().sizes().train_bytes(&recipe);
    let mut words = arena(&packed.pack(), &recipe);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
    let found = needed - 16;
    let result = Tuner::new(packed.pack(), recipe, &mut bytes[..found]).map(|_| ());
    assert_eq!(result, Err(TunerError::ArenaTooSmall { needed, found }));
    let mut longer = vec![0u128; needed.div_ceil(16) + 1];
    let shifted = &mut bytemuck::cast_slice_mut(&mut longer)[4..];
    assert_eq!(Tuner::new(packed.pack(), recipe, shifted).map(|_| ()), Err(TunerError::ArenaMisaligned));

    // An activation on the last layer, put there behind the packer's back.
    let mut active = Packed::bundled();
    active.patch(active.last_layer() + operator::ACTIVATION, &[1]);
    let refusal = Pack::new(active.bytes()).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, PackError::Header(what) if what.contains("bare outputs")), "{refusal}");
}
