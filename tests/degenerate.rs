//! Behaviour where the formulas end: no gradient, no finite number, one class, no sample, and hyperparameters
//! that make no sense.

mod reference;

use flatmin::{BiasTreatment, Method, Recipe, Schedule, internals::pack::Activation};
use flatmin::{
    StepError,
    internals::step::{self, Buffers},
};
use flatmin::{
    TailError,
    internals::tail::{DenseChain, dense::DenseShape},
};
use reference::{PATHS, Random, Sample, State, bits, plain, tail};

const PERTURBED: [Method; 2] = [Method::Sam, Method::Asam];

/// m, and whether m = 1 writes `w + e`.
const SHARING: [(u16, bool); 4] = [(1, false), (1, true), (2, false), (16, false)];

fn base(method: Method) -> Recipe {
    Recipe { method, rho: 0.5, label_smoothing: 0.0, ..Recipe::DEFAULT }
}

/// Asserts that three steps of every method are SGD's in every bit, momentum and decay included, and finite.
fn assert_steps_are_sgds(
    what: &str,
    tail: &DenseChain,
    start: &[f32],
    batch: &[Sample],
    change: impl Fn(Recipe) -> Recipe,
) {
    let run = |recipe: Recipe| {
        let mut state = State::new(start);
        state.velocity.fill(0.01);
        for _ in 0..3 {
            let outcome = state.step(tail, &recipe, 0.1, batch).expect(what);
            assert!(outcome.loss.is_finite() && outcome.rise == 0.0, "{what}: {outcome:?}");
        }
        assert!(state.weights.iter().chain(&state.velocity).all(|x| x.is_finite()), "{what}");
        (bits(&state.weights), bits(&state.velocity))
    };
    let sgd = run(change(base(Method::Sgd)));
    for method in PERTURBED {
        for (sharpness_batch, store_perturbation) in SHARING {
            let recipe = change(Recipe { sharpness_batch, store_perturbation, ..base(method) });
            assert!(run(recipe) == sgd, "{what}: {recipe:?} is not SGD");
        }
    }
}

#[test]
fn a_gradient_of_zero_leaves_the_base_optimizer() {
    let mut random = Random::new(1);
    // Features of zero, biases frozen: d_weight = delta 0.
    let one = tail(&[9, 4], Activation::None);
    let silent: Vec<Sample> = (0..4).map(|label| (vec![0.0; 9], label)).collect();
    let frozen = |recipe| Recipe { bias: BiasTreatment::Frozen, ..recipe };
    assert_steps_are_sgds("silent features", &one, &random.parameters(&one), &silent, frozen);

    // Hidden units that are all off, biases frozen: neither layer has a gradient.
    let two = tail(&[9, 5, 4], Activation::Relu);
    let mut start = random.parameters(&two);
    start[45..50].fill(-100.0);
    assert_steps_are_sgds("hidden units off", &two, &start, &random.samples(&two, 4), frozen);
}

/// A network of one class is always right.
#[test]
fn a_single_output_leaves_the_base_optimizer() {
    let tail = tail(&[9, 5, 1], Activation::Relu);
    let mut random = Random::new(7);
    let (start, samples) = (random.parameters(&tail), random.samples(&tail, 4));
    assert_steps_are_sgds("one output", &tail, &start, &samples, |recipe| recipe);
    let outcome = State::new(&start).step(&tail, &plain(Method::Asam), 0.1, &samples).expect("finite");
    assert_eq!(outcome.loss, 0.0);
}

/// Samples that are explained so well that p - 1 rounds to 0, or that the gradient's square underflows while the
/// gradient does not.
#[test]
fn a_saturated_softmax_leaves_the_base_optimizer() {
    let tail = tail(&[3, 2], Activation::None);
    for margin in [40.0, 60.0, 95.0, 104.0, 200.0, 1e6] {
        let mut start = vec![0.0; tail.parameters()];
        (start[0], start[3]) = (0.5 * margin, -0.5 * margin);
        let batch: Vec<Sample> =
            [(1.0, 0), (-1.0, 1), (1.0, 0)].map(|(x, label)| (vec![x, 0.5, 0.0], label)).into();
        // No decay: the margin shall stay.
        let plain = |recipe| Recipe { weight_decay: 0.0, momentum: 0.0, ..recipe };
        assert_steps_are_sgds(&format!("margin {margin}"), &tail, &start, &batch, plain);
    }
}

/// `||T g||^2` overflows though loss, gradient and `||g||^2` are finite.
#[test]
fn a_norm_that_overflows_leaves_the_base_optimizer() {
    let tail = tail(&[2, 2], Activation::None);
    let start = [1e8, 1e3, -1e8, 1e3, 0.0, 0.0];
    let batch = [(vec![1e13, 1e13], 1)];
    let run = |recipe: Recipe| {
        let mut state = State::new(&start);
        state.step(&tail, &recipe, 1e-3, &batch).expect("finite");
        assert!(state.weights.iter().all(|w| w.is_finite()));
        bits(&state.weights)
    };
    let sgd = run(plain(Method::Sgd));
    assert_ne!(sgd, bits(&start), "there is a gradient");
    for (_, store_perturbation) in PATHS {
        assert_eq!(run(Recipe { store_perturbation, ..plain(Method::Asam) }), sgd);
    }
}

#[test]
fn features_that_are_no_numbers_stop_the_step_and_name_the_sample() {
    let tail = tail(&[9, 5, 4], Activation::Relu6);
    let mut random = Random::new(2);
    let (start, samples) = (random.parameters(&tail), random.samples(&tail, 5));
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        for sample in 0..samples.len() {
            let mut batch = samples.clone();
            batch[sample].0[7] = poison;
            for method in [Method::Sgd, Method::Sam, Method::Asam] {
                for (sharpness_batch, store_perturbation) in SHARING {
                    let recipe = Recipe { sharpness_batch, store_perturbation, ..base(method) };
                    let mut state = State::new(&start);
                    let result = state.step(&tail, &recipe, 0.1, &batch);
                    assert_eq!(result, Err(StepError::NonFinite { sample }), "{poison} {recipe:?}");
                    assert_eq!(bits(&state.weights), bits(&start), "{poison} {recipe:?}");
                }
            }
        }
    }
}

/// A label without an output has no loss.
#[test]
fn labels_out_of_range_stop_the_step() {
    let tail = tail(&[9, 4], Activation::None);
    let mut random = Random::new(3);
    let (start, mut batch) = (random.parameters(&tail), random.samples(&tail, 3));
    batch[2].1 = 4;
    for (_, store_perturbation) in PATHS {
        let mut state = State::new(&start);
        let recipe = Recipe { store_perturbation, ..base(Method::Sam) };
        assert_eq!(
            state.step(&tail, &recipe, 0.1, &batch),
            Err(StepError::Label { sample: 2, label: 4, classes: 4 })
        );
        assert_eq!(bits(&state.weights), bits(&start));
    }
}

/// Finite at `w`, not at `w + e`: the weights have been moved when it is noticed, and must be back.
#[test]
fn a_second_pass_that_is_not_finite_restores_the_weights() {
    let tail = tail(&[2, 2, 2], Activation::Relu);
    // Tiny first weights take in enormous features; rho = 1000 makes them large.
    let start = [1e-17, 2e-17, 2e-17, 1e-17, 0.1, 0.1, 0.5, -0.3, -0.4, 0.6, 0.0, 0.1];
    let tame = (vec![0.5, 0.25], 0);
    let wild = (vec![8e17, 7e17], 1);
    for (batch, sample) in [
        (vec![wild.clone(), tame.clone(), tame.clone()], 0),
        (vec![tame.clone(), wild.clone(), tame.clone()], 1),
        (vec![tame.clone(), tame.clone(), wild.clone()], 2),
    ] {
        for method in PERTURBED {
            for (sharpness_batch, store_perturbation) in [(1, false), (1, true)] {
                // T = |w| + eta: with this eta about SAM's.
                let recipe =
                    Recipe { sharpness_batch, store_perturbation, rho: 1e3, eta: 1.0, ..plain(method) };
                let mut state = State::new(&start);
                let first = Recipe { method: Method::Sgd, ..recipe };
                state.step(&tail, &first, 0.0, &batch).expect("the first pass is finite");
                let result = state.step(&tail, &recipe, 0.1, &batch);
                assert_eq!(result, Err(StepError::NonFinite { sample }), "{recipe:?}");
                assert_eq!(bits(&state.weights), bits(&start), "{recipe:?}");
            }
        }
    }
    // A group's common ascent: the first sample that is not finite there is named.
    let recipe = Recipe { sharpness_batch: 3, rho: 1e3, ..plain(Method::Sam) };
    let mut state = State::new(&start);
    let result = state.step(&tail, &recipe, 0.1, &[tame.clone(), wild, tame]);
    assert_eq!(result, Err(StepError::NonFinite { sample: 1 }));
    assert_eq!(bits(&state.weights), bits(&start));
}

#[test]
fn one_class_alone_is_learnt() {
    let tail = tail(&[12, 8, 5], Activation::Relu);
    let mut random = Random::new(4);
    let start = random.parameters(&tail);
    let mut samples = random.samples(&tail, 16);
    samples.iter_mut().for_each(|sample| sample.1 = 3);
    for method in [Method::Sgd, Method::Sam, Method::Asam] {
        for (sharpness_batch, store_perturbation) in SHARING {
            let recipe = Recipe { sharpness_batch, store_perturbation, rho: 0.1, ..base(method) };
            let mut state = State::new(&start);
            let mut losses = Vec::new();
            for _ in 0..60 {
                losses.push(state.step(&tail, &recipe, 0.05, &samples).expect("finite").loss);
            }
            assert!(state.weights.iter().all(|w| w.is_finite()));
            let (first, last) = (losses[0], losses[losses.len() - 1]);
            assert!(last < 0.1 * first, "{recipe:?}: from {first} to {last}");
        }
    }
}

/// No sample: the base optimizer runs on with what velocity and decay it has.
#[test]
fn an_empty_minibatch_has_no_gradient() {
    let tail = tail(&[9, 4], Activation::None);
    let start = Random::new(5).parameters(&tail);
    assert_steps_are_sgds("no sample", &tail, &start, &[], |recipe| recipe);
    let mut state = State::new(&start);
    state.step(&tail, &plain(Method::Sam), 0.1, &[]).expect("nothing to go wrong");
    assert_eq!(bits(&state.weights), bits(&start));
}

#[test]
fn recipes_name_the_field_that_is_out_of_range() {
    type SetValue = fn(&mut Recipe, f32);
    let floats: [(&str, SetValue); 5] = [
        ("learning_rate", |r, x| r.learning_rate = x),
        ("momentum", |r, x| r.momentum = x),
        ("weight_decay", |r, x| r.weight_decay = x),
        ("rho", |r, x| r.rho = x),
        ("eta", |r, x| r.eta = x),
    ];
    for (field, set) in floats {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.5, 1e9] {
            for method in [Method::Sgd, Method::Sam, Method::Asam] {
                let mut recipe = base(method);
                set(&mut recipe, value);
                let error = recipe.check().expect_err(field);
                assert_eq!(error.field, field, "{value}");
                assert!(error.to_string().contains(field), "{error}");
                assert!(!(error.lowest..=error.highest).contains(&value), "{error} refuses {value}");
            }
        }
        let mut recipe = Recipe::DEFAULT;
        set(&mut recipe, 0.0);
        assert_eq!(recipe.check(), Ok(()), "{field} of 0");
    }
    let mut recipe = Recipe::DEFAULT;
    recipe.momentum = 1.0;
    assert_eq!(recipe.check().expect_err("velocity that never decays").field, "momentum");

    type SetCount = fn(&mut Recipe);
    let counts: [(&str, SetCount); 4] = [
        ("epochs", |r| r.epochs = 0),
        ("minibatch", |r| r.minibatch = 0),
        ("sharpness_batch", |r| r.sharpness_batch = 0),
        ("replay_capacity", |r| r.replay_capacity = 0),
    ];
    for (field, set) in counts {
        let mut recipe = Recipe::DEFAULT;
        set(&mut recipe);
        assert_eq!(recipe.check().expect_err(field).field, field);
    }
    let mut recipe = Recipe { learning_rate: 2.0, weight_decay: 0.5, ..Recipe::DEFAULT };
    assert_eq!(recipe.check().expect_err("overshoots").field, "learning_rate * weight_decay");
    recipe.weight_decay = 0.499;
    assert_eq!(recipe.check(), Ok(()));
    let largest = Recipe {
        epochs: u16::MAX,
        minibatch: u16::MAX,
        sharpness_batch: u16::MAX,
        replay_capacity: u16::MAX,
        schedule: Schedule::Constant,
        ..Recipe::DEFAULT
    };
    assert_eq!(largest.check(), Ok(()));
}

/// Decay alone, as strong as a recipe may ask for, never makes a weight larger.
#[test]
fn the_strongest_decay_shrinks_weights() {
    let tail = tail(&[1, 2], Activation::None);
    let start = [1e37, -1e37, 0.0, 0.0];
    for (learning_rate, weight_decay) in [(1.0, 0.999), (1e3, 9e-4), (0.9, 1.0), (0.1, 1.0)] {
        let recipe = Recipe { learning_rate, weight_decay, ..plain(Method::Sgd) };
        let mut state = State::new(&start);
        for _ in 0..20 {
            let before = state.weights.clone();
            let silent = [(vec![0.0], 0)];
            state.step(&tail, &recipe, learning_rate, &silent).expect("finite");
            for (w, b) in state.weights.iter().zip(&before).take(2) {
                assert!(w.abs() <= b.abs(), "{learning_rate} {weight_decay}: {b} became {w}");
            }
        }
    }
}

#[test]
fn buffers_of_another_length_are_refused_and_left_alone() {
    let tail = tail(&[9, 5, 4], Activation::Relu);
    let mut random = Random::new(6);
    let (start, samples) = (random.parameters(&tail), random.samples(&tail, 4));
    let n = tail.parameters();
    let workspace = reference::workspace(&tail).len();
    let stored = Recipe { store_perturbation: true, ..base(Method::Sam) };
    let spared = base(Method::Sam);
    for (recipe, buffer, lengths) in [
        (spared, "weights", [n - 1, n, 0, workspace]),
        (spared, "weights", [n + 1, n, 0, workspace]),
        (spared, "velocity", [n, 0, 0, workspace]),
        (spared, "workspace", [n, n, 0, workspace - 1]),
        (stored, "gradient", [n, n, 0, workspace]),
        // The first layer's alone: half of the network would be perturbed.
        (stored, "gradient", [n, n, 50, workspace]),
        (stored, "gradient", [n, n, n + 1, workspace]),
        (Recipe { sharpness_batch: 2, ..spared }, "gradient", [n, n, n - 1, workspace]),
    ] {
        let [mut w, mut v, mut g, mut memory] = lengths.map(|length| vec![0.5_f32; length]);
        let found = match buffer {
            "weights" => w.len(),
            "velocity" => v.len(),
            "gradient" => g.len(),
            _ => memory.len(),
        };
        w.iter_mut().zip(&start).for_each(|(w, &s)| *w = s);
        let before = bits(&w);
        let buffers = Buffers { weights: &mut w, velocity: &mut v, gradient: &mut g, workspace: &mut memory };
        let result = step::minibatch(&tail, &recipe, 0.1, buffers, samples.len(), |i, features| {
            features.copy_from_slice(&samples[i].0);
            samples[i].1
        });
        let expected = if buffer == "workspace" { workspace } else { n };
        assert_eq!(result, Err(StepError::BufferLength { buffer, expected, found }));
        assert_eq!(bits(&w), before, "{buffer}");
        assert!(v.iter().all(|&v| v == 0.5), "{buffer}");
    }
}

#[test]
fn layers_that_make_no_tail_are_refused() {
    let dense = |inputs, outputs, activation| DenseShape { inputs, outputs, activation };
    let (none, relu, relu6) = (Activation::None, Activation::Relu, Activation::Relu6);
    for (layers, expected) in [
        (vec![], TailError::Empty),
        (vec![dense(4, 3, relu)], TailError::LastActivation),
        (vec![dense(4, 3, relu), dense(3, 2, relu6)], TailError::LastActivation),
        (vec![dense(4, 3, relu), dense(4, 2, none)], TailError::Mismatch { layer: 1, expected: 3, found: 4 }),
        (vec![dense(2, 2, none); 9], TailError::TooDeep),
    ] {
        assert_eq!(DenseChain::new(&layers), Err(expected), "{layers:?}");
    }
    assert!(DenseChain::new(&[dense(4, 3, relu), dense(3, 2, none)]).is_ok());
}
