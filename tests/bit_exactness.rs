//! What must hold in every bit: SAM and ASAM with rho = 0 are SGD, the way back from `w + e` ends at `w`, and
//! neither needs a byte that SGD does not need.

mod reference;

use flatmin::internals::optim::{Geometry, Kind, Segment, sam};
use flatmin::{BiasTreatment, MemoryPlan, Method, Recipe, Sizes, internals::pack::Activation};
use reference::{Random, State, bits, plain, tail};

const METHODS: [Method; 3] = [Method::Sgd, Method::Sam, Method::Asam];

/// How a recipe may share and take its ascents: m, and whether m = 1 writes `w + e`.
const SHARING: [(u16, bool); 5] = [(1, false), (1, true), (3, false), (8, false), (100, false)];

#[test]
fn rho_zero_is_sgd() {
    let tail = tail(&[13, 9, 4], Activation::Relu);
    let mut random = Random::new(1);
    let start = random.parameters(&tail);
    let samples = random.samples(&tail, 40);
    for bias in [BiasTreatment::Unit, BiasTreatment::Elementwise, BiasTreatment::Frozen] {
        let base = Recipe { method: Method::Asam, rho: 0.5, bias, ..Recipe::DEFAULT };
        let run = |recipe: Recipe| {
            let mut state = State::new(&start);
            let steps = samples.chunks(8).flat_map(|batch| {
                let outcome = state.step(&tail, &recipe, 0.1, batch).expect("finite");
                let rise = if recipe.rho == 0.0 { outcome.rise } else { 0.0 };
                [bits(&state.weights), bits(&state.velocity), bits(&[outcome.loss, rise])]
            });
            steps.collect::<Vec<_>>()
        };
        let sgd = run(Recipe { method: Method::Sgd, rho: 0.0, ..base });
        for method in [Method::Sam, Method::Asam] {
            for (sharpness_batch, store_perturbation) in SHARING {
                let recipe = Recipe { method, sharpness_batch, store_perturbation, rho: 0.0, ..base };
                assert_eq!(run(recipe), sgd, "{recipe:?}");
                // And a rho that is not 0 is something else.
                assert_ne!(run(Recipe { rho: 1e-3, ..recipe }), sgd, "{recipe:?}");
            }
        }
    }
}

#[test]
fn sgd_does_not_depend_on_the_sharpness_batch() {
    let tail = tail(&[13, 9, 4], Activation::Relu);
    let mut random = Random::new(2);
    let (start, samples) = (random.parameters(&tail), random.samples(&tail, 8));
    let run = |(sharpness_batch, store_perturbation)| {
        let mut state = State::new(&start);
        let recipe = Recipe { sharpness_batch, store_perturbation, ..plain(Method::Sgd) };
        let outcome = state.step(&tail, &recipe, 0.1, &samples).expect("finite");
        assert_eq!(outcome.rise, 0.0);
        (bits(&state.weights), bits(&[outcome.loss]))
    };
    let expected = run(SHARING[0]);
    for sharing in SHARING {
        assert_eq!(run(sharing), expected, "{sharing:?}");
    }
}

/// Parameters of every magnitude that f32 has, subnormals and both zeros, and gradients to go with them.
fn any_magnitude(random: &mut Random, count: usize) -> Vec<f32> {
    let mut values =
        vec![0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1), -f32::from_bits(1)];
    while values.len() < count {
        let value = f32::from_bits(random.bits());
        if value.is_finite() {
            values.push(value);
        }
    }
    values
}

#[test]
fn the_way_back_is_exact_where_subtraction_is_not() {
    const COUNT: usize = 4_000;
    let segments =
        [(3_000, Kind::Weight), (1_000, Kind::Bias)].map(|(length, kind)| Segment { length, kind });
    let mut random = Random::new(3);
    let ordinary = random.vector(COUNT, 1.0);
    let gradient = random.vector(COUNT, 1.0);
    for (kind, start) in [("any", any_magnitude(&mut random, COUNT)), ("ordinary", ordinary)] {
        for geometry in [
            Geometry { weights: true, eta: None, bias: BiasTreatment::Unit },
            Geometry { weights: true, eta: Some(0.01), bias: BiasTreatment::Elementwise },
            Geometry { weights: true, eta: Some(0.0), bias: BiasTreatment::Frozen },
        ] {
            let (mut w, mut g) = (start.clone(), gradient.clone());
            let c = 0.1;
            sam::perturb(&mut w, &mut g, c, &geometry, segments.into_iter());
            let moved = w.iter().zip(&start).filter(|(w, s)| w != s).count();
            assert!(moved > COUNT / 10, "{kind} {geometry:?}: {moved} moved");
            let perturbed = w.clone();
            sam::restore(&mut w, &g);
            assert_eq!(bits(&w), bits(&start), "{kind} {geometry:?}");

            // Taking e off again, which spares the buffer elsewhere, does not lead back.
            let weights = segments[0].length;
            let changed = (0..weights).filter(|&i| {
                let t = geometry.eta.map_or(1.0, |eta| start[i].abs() + eta);
                let e = c * ((t * t) * gradient[i]);
                assert_eq!((start[i] + e).to_bits(), perturbed[i].to_bits(), "not the e that was added");
                (start[i] + e - e).to_bits() != start[i].to_bits()
            });
            let changed = changed.count();
            assert!(changed > weights / 100, "{kind} {geometry:?}: only {changed} of {weights} changed");
        }
    }
}

/// With a learning rate of 0 all that a step does to the weights is the way to `w + e` and back.
#[test]
fn a_step_that_does_not_descend_leaves_every_bit() {
    let tail = tail(&[13, 9, 4], Activation::Relu);
    let mut random = Random::new(4);
    let (mut start, samples) = (random.parameters(&tail), random.samples(&tail, 8));
    start[3] = f32::from_bits(77); // subnormal
    for method in METHODS {
        for (sharpness_batch, store_perturbation) in SHARING {
            let recipe = Recipe { sharpness_batch, store_perturbation, method, ..Recipe::DEFAULT };
            let mut state = State::new(&start);
            let outcome = state.step(&tail, &recipe, 0.0, &samples).expect("finite");
            assert_eq!(bits(&state.weights), bits(&start), "{recipe:?}");
            assert_eq!(outcome.rise > 0.0, method != Method::Sgd, "{recipe:?}: rise {}", outcome.rise);
        }
    }
}

/// With one sample in the minibatch m = 1 and larger m are the same ascent; so are an m as large as the minibatch
/// and any larger one.
#[test]
fn groups_end_with_the_minibatch() {
    let tail = tail(&[13, 9, 4], Activation::Relu);
    let mut random = Random::new(5);
    let (start, samples) = (random.parameters(&tail), random.samples(&tail, 8));
    for method in [Method::Sam, Method::Asam] {
        let run = |sharpness_batch, batch| {
            let mut state = State::new(&start);
            let recipe = Recipe { sharpness_batch, store_perturbation: true, ..plain(method) };
            state.step(&tail, &recipe, 0.1, batch).expect("finite");
            bits(&state.weights)
        };
        assert_eq!(run(8, &samples), run(u16::MAX, &samples));
        assert_eq!(run(1, &samples[..1]), run(8, &samples[..1]));
        assert_ne!(run(1, &samples), run(8, &samples));
    }
}

#[test]
fn sharpness_awareness_costs_no_memory() {
    let [small, large] = [(64usize, 31usize), (1_280, 256)].map(|(features, hidden)| Sizes {
        input_length: 600,
        feature_length: features,
        output_length: 7,
        arena_bytes: 3_000,
        tail_layers: 2,
        tail_weights: features * hidden + hidden * 7,
        tail_outputs: hidden + 7,
        tail_parameters: (features + 1) * hidden + (hidden + 1) * 7,
        workspace_floats: features + 4 * (hidden + 7),
        tail_is_chain: true,
        loss: flatmin::Loss::CrossEntropy,
        last_features: hidden,
        layer_room: [0; 4],
        feature_count: 1,
    });
    for sizes in [small, large] {
        for (sharpness_batch, store_perturbation) in SHARING {
            let plans = METHODS.map(|method| {
                let recipe = Recipe { method, sharpness_batch, store_perturbation, ..Recipe::DEFAULT };
                MemoryPlan::new(&sizes, &recipe)
            });
            assert!(plans.iter().all(|plan| *plan == plans[0]), "{plans:?}");
            let parameters = 4 * sizes.tail_parameters;
            let [plan, ..] = plans;
            assert_eq!((plan.weights.bytes, plan.velocity.bytes), (parameters, parameters));
            let stored = sharpness_batch > 1 || store_perturbation;
            assert_eq!(plan.gradient.bytes, if stored { parameters } else { 0 });
        }
        // m = 1 holds two buffers of parameters, w and v. All the rest of its arena does not grow with them by
        // more than the int8 copy that is deployed: a byte a weight and 16 an output.
        let total = |sizes: &Sizes| sizes.train_bytes(&Recipe::DEFAULT);
        let wider = Sizes {
            tail_weights: sizes.tail_weights + 16_000,
            tail_parameters: sizes.tail_parameters + 16_000,
            ..sizes
        };
        assert_eq!(total(&wider) - total(&sizes), 16_000 * (4 + 4 + 1));
    }
}
