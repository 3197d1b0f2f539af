//! The feature `micromath`: how far its softmax and its loss are from double precision, and that it switches
//! what is approximate and nothing else. What that does to whole tunings, host-sim's `micromath` test asks.
#![cfg(feature = "micromath")]

mod reference;

use flatmin::internals::tail::softmax_cross_entropy;
use flatmin::{Method, Schedule, internals::pack::Activation};
use reference::{Random, State, bits, plain, relative, tail};

/// `e^x`, relative, as `math.rs` states it.
const EXP_ERROR: f64 = 2.4e-3;
/// `ln x`, absolute, as `math.rs` states it.
const LN_ERROR: f64 = 1e-4;
/// f32 rounding of what lies around both.
const ROUNDING: f64 = 1e-6;

/// Loss and softmax in double precision.
fn exact(logits: &[f32], label: usize) -> (f64, Vec<f64>) {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, &z| m.max(z.into()));
    let exps: Vec<f64> = logits.iter().map(|&z| (f64::from(z) - largest).exp()).collect();
    let sum: f64 = exps.iter().sum();
    (sum.ln() - (f64::from(logits[label]) - largest), exps.iter().map(|e| e / sum).collect())
}

/// Loss and softmax as the tail computes them.
fn approximate(logits: &[f32], label: usize) -> (f64, Vec<f64>) {
    let mut d = vec![0.0; logits.len()];
    let loss = softmax_cross_entropy(logits, label, 0.0, &mut d);
    let probability = |(class, &d): (usize, &f32)| f64::from(d) + f64::from(u8::from(class == label));
    (loss.into(), d.iter().enumerate().map(probability).collect())
}

/// The exponential alone: of two logits x apart the smaller one's share is `e^-x / (1 + e^-x)`.
#[test]
fn exp_is_within_its_stated_error() {
    let mut worst = 0.0_f64;
    for step in 0..=700_000 {
        let x = step as f32 * 1e-4;
        let mut d = [0.0; 2];
        softmax_cross_entropy(&[0.0, -x], 0, 0.0, &mut d);
        let share = f64::from(d[1]);
        let found = share / (1.0 - share);
        let error = found / (-f64::from(x)).exp() - 1.0;
        worst = worst.max(error.abs());
        assert!(error.abs() <= EXP_ERROR + ROUNDING, "e^-{x}: {error}");
    }
    println!("largest relative error of exp on [-70, 0]: {worst:.2e}");
    assert!(worst > 10.0 * ROUNDING, "this is not micromath's");
    // Further down: 0, or nearly.
    for x in [-75.0, -80.0, -81.0, -100.0, -1e4, -1e30, f32::MIN] {
        let mut d = [0.0; 2];
        softmax_cross_entropy(&[0.0, x], 0, 0.0, &mut d);
        assert!((0.0..1e-30).contains(&d[1]), "e^{x}: {}", d[1]);
    }
}

#[test]
fn loss_and_probabilities_are_within_their_stated_errors() {
    let mut random = Random::new(11);
    let (mut worst_share, mut worst_loss) = (0.0_f64, 0.0_f64);
    for classes in [2, 3, 7, 12, 100] {
        for limit in [0.01, 1.0, 8.0, 60.0] {
            for _ in 0..200 {
                let logits = random.vector(classes, limit);
                let label = random.below(classes);
                let (loss, shares) = exact(&logits, label);
                let (found_loss, found) = approximate(&logits, label);
                // Each exponential and their sum may be off by EXP_ERROR; near 1 the difference to the label counts.
                for (found, share) in found.iter().zip(&shares) {
                    let error = (found - share).abs();
                    worst_share = worst_share.max(error);
                    assert!(error <= 2.1 * EXP_ERROR * share + ROUNDING, "{found} for {share}");
                }
                let error = (found_loss - loss).abs();
                worst_loss = worst_loss.max(error);
                assert!(error <= LN_ERROR + EXP_ERROR + 1e-5, "{found_loss} for {loss}");
                let sum: f64 = found.iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "shares add up to {sum}");
            }
        }
    }
    println!("largest error of a probability {worst_share:.2e}, of a loss {worst_loss:.2e}");
}

/// Square roots and cosines stay exact: the ascent's length is rho, the schedule the same.
#[test]
fn what_is_not_approximated_stays_exact() {
    let tail = tail(&[13, 9, 4], Activation::Relu);
    let mut random = Random::new(12);
    let start = random.parameters(&tail);
    for step in 0..=20 {
        let exact = 0.2 * 0.5 * (1.0 + (std::f64::consts::PI * f64::from(step) / 20.0).cos());
        assert!((f64::from(Schedule::Cosine.rate(0.2, step, 20)) - exact).abs() < 1e-7);
    }
    // rho = 0 is SGD in every bit here, too.
    let samples = random.samples(&tail, 8);
    let run = |method| {
        let mut state = State::new(&start);
        let recipe = flatmin::Recipe { rho: 0.0, ..plain(method) };
        state.step(&tail, &recipe, 0.1, &samples).expect("finite");
        bits(&state.weights)
    };
    assert_eq!(run(Method::Asam), run(Method::Sgd));
}

/// One gradient: each delta is off by as much as its probability.
#[test]
fn gradients_stay_near() {
    let tail = tail(&[13, 5], Activation::None);
    let mut random = Random::new(13);
    let start = random.parameters(&tail);
    for sample in random.samples(&tail, 50) {
        let (_, gradient) = reference::gradient(&tail, &start, flatmin::BiasTreatment::Unit, &sample);
        let logits = reference::logits(&tail, &start, &sample.0);
        let (_, shares) = exact(&logits, sample.1);
        let delta = |class: usize| shares[class] - f64::from(u8::from(class == sample.1));
        // Weights `[outputs, inputs]`, then biases: d_weight = delta x, d_bias = delta.
        let weights = (0..5).flat_map(|o| sample.0.iter().map(move |&x| (o, f64::from(x))));
        let expected: Vec<f64> = weights.map(|(o, x)| delta(o) * x).chain((0..5).map(delta)).collect();
        let error = relative(gradient.iter().map(|&g| g.into()), expected);
        assert!(error <= 4.0 * EXP_ERROR, "{error}");
    }
}
