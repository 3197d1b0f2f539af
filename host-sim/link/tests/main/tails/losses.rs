//! Losses beside cross-entropy: gradients against the f64 reference, and whole runs.

use super::{arena, check, input, kitchen_sink};
use crate::skipping::shared;
use flatmin::Loss;
use flatmin::Policy;
use flatmin::{Affine, Method, Recipe, Tuner, TunerError, Version, internals::metrics};
use flatmin_model::graph::{Activation, Unary};
use flatmin_model::model::Model;
use flatmin_model::packer::{Network, PackFile, TailPlan, Trains, lower, pack, pack_tail};

pub fn autoencoder() -> Network {
    let mut network = lower(&kitchen_sink::autoencoder(3, 12, None)).unwrap();
    network.loss = Some(Loss::SquaredError);
    network
}

#[test]
fn gradients_of_a_squared_error_are_those_of_the_reference() {
    let network = autoencoder();
    for layers in 1..=4 {
        assert!(pack(&network, 0, layers).unwrap().pack().tail_is_chain());
        check("autoencoder", &network, &TailPlan::of(layers));
        let trains = vec![Trains::Biases; layers];
        check("autoencoder", &network, &TailPlan { layers, trains });
    }
    // Of what a logistic function or a tanh gives, and of an output without a softmax of its own.
    for end in [Unary::Logistic, Unary::Tanh, Unary::Clamp(Activation::Relu6)] {
        let mut network = lower(&kitchen_sink::autoencoder(4, 12, Some(end))).unwrap();
        network.loss = Some(Loss::SquaredError);
        for layers in 1..=4 {
            assert!(!pack(&network, 0, layers).unwrap().pack().tail_is_chain());
            check("autoencoder with an end", &network, &TailPlan::of(layers));
        }
    }
}

#[test]
fn gradients_of_binary_cross_entropy_are_those_of_the_reference() {
    // The logistic function at the end belongs to the loss, as the packer finds.
    for (outputs, end) in [(1, Some(Unary::Logistic)), (5, Some(Unary::Logistic)), (5, None)] {
        let mut network = lower(&kitchen_sink::autoencoder(5, outputs, end)).unwrap();
        if end.is_none() {
            assert_eq!(network.loss(), Loss::CrossEntropy);
            network.loss = Some(Loss::BinaryCrossEntropy);
        }
        for layers in 1..=4 {
            let file = pack(&network, 0, layers).unwrap();
            assert_eq!(file.pack().loss(), Loss::BinaryCrossEntropy);
            assert!(file.pack().tail_is_chain());
            check("questions", &network, &TailPlan::of(layers));
        }
        let trains = vec![Trains::Biases, Trains::Nothing, Trains::All];
        check("questions", &network, &TailPlan { layers: 3, trains });
    }
    let network = lower(&kitchen_sink::autoencoder(5, 17, Some(Unary::Logistic))).unwrap();
    let refused = pack(&network, 0, 1).unwrap_err().to_string();
    assert_eq!(refused, "cannot train 17 outputs with binary cross-entropy: a label has 16 bits");
    // Without a tail it may have as many as it likes.
    assert!(pack(&network, 0, 0).is_ok());
}

/// MLPerf Tiny's anomaly detection.
#[test]
fn tails_of_a_published_autoencoder() {
    let Some(path) = shared("models/mlperf-tiny/anomaly_detection/ad01_int8.tflite") else { return };
    let model = Model::open(&path).unwrap();
    let model = model.with_loss(Some(Loss::SquaredError));
    for layers in [1, 2, 3, 5] {
        check(&model.name, &model.network, &TailPlan::of(layers));
    }
}

const RECIPE: Recipe = Recipe {
    method: Method::Sgd,
    learning_rate: 0.05,
    weight_decay: 0.0,
    epochs: 60,
    minibatch: 4,
    replay_capacity: 24,
    ..Recipe::DEFAULT
};

fn tuner<'a>(file: &'a PackFile, recipe: Recipe, words: &'a mut Vec<u128>) -> Tuner<'a> {
    *words = arena(file.pack().sizes().train_bytes(&recipe));
    Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(words)).unwrap()
}

/// Samples of two factors: what an autoencoder with four units inside can learn.
fn alike(seed: u64) -> Vec<i8> {
    let factors = super::pseudo_random(2, seed);
    let [a, b] = [factors[0], factors[1]].map(f32::from);
    (0..12).map(|i| (0.3 * a + 0.3 * b * (i as f32 / 6.0 - 1.0)).round() as i8).collect()
}

fn mean_f64(errors: &[f32]) -> f64 {
    errors.iter().copied().map(f64::from).sum::<f64>() / errors.len() as f64
}

#[test]
fn an_autoencoder_learns_what_is_normal_and_tells_what_is_not() {
    let network = autoencoder();
    for layers in [1, 4] {
        for method in [Method::Sgd, Method::Sam, Method::Asam] {
            let file = pack(&network, 0, layers).unwrap();
            let rho = if method == Method::Asam { 0.05 } else { 0.01 };
            let recipe = Recipe { method, rho, held_out: 0.2, keep_best: true, ..RECIPE };
            let mut words = Vec::new();
            let mut tuner = tuner(&file, recipe, &mut words);
            let (normal, anomalous): (Vec<_>, Vec<_>) =
                ((0..18).map(alike).collect(), (100..106).map(|s| input(&network, s)).collect());
            for sample in &normal {
                tuner.observe_itself(sample).unwrap();
            }
            for sample in &anomalous {
                tuner.observe_anomaly(sample).unwrap();
            }
            let before = tuner.judge(Version::Factory).unwrap();
            // The mean over the normal ones, by the definition, from int8 outputs alone.
            let affines = [tuner.output_affine(Version::Factory), file.pack().input().affine];
            let by_hand: Vec<f32> = normal
                .iter()
                .map(|sample| {
                    let output = tuner.infer(sample, Version::Factory).unwrap();
                    let value = |affine: Affine, q: i8| {
                        f64::from(affine.scale) * f64::from(i32::from(q) - affine.zero_point)
                    };
                    let pairs = output.iter().zip(sample);
                    let squares = pairs.map(|(&y, &x)| (value(affines[0], y) - value(affines[1], x)).powi(2));
                    (squares.sum::<f64>() / 12.0) as f32
                })
                .collect();
            assert_eq!((before.samples, before.right), (18, 0));
            assert!((f64::from(before.loss) / mean_f64(&by_hand) - 1.0).abs() < 1e-5);

            tuner.start(recipe).unwrap();
            assert_eq!(tuner.held_out().count(), 4); // the third and a fifth from there, of 18
            assert!(tuner.held_out().all(|slot| slot < 18), "an anomaly judges");
            assert_eq!(tuner.auc(Version::Factory), Err(TunerError::Running));
            assert_eq!(tuner.observe_anomaly(&anomalous[0]), Err(TunerError::Running));
            while !tuner.step().unwrap().finished {}
            let accepted = tuner.accept().unwrap();
            assert!(accepted.accepted, "{layers} {method:?}: {accepted:?}");
            assert!(
                accepted.candidate.loss < (if layers == 1 { 0.9 } else { 0.7 }) * accepted.factory.loss,
                "{layers} {method:?}: {accepted:?}"
            );
            // The area over the samples, by hand from the errors of each.
            let mut errors = |samples: &[Vec<i8>]| -> Vec<f32> {
                samples.iter().map(|s| tuner.error(s, None, Version::Tuned).unwrap()).collect()
            };
            let (low, high) = (errors(&normal), errors(&anomalous));
            let held: Vec<f32> = tuner.held_out().map(|slot| low[slot]).collect();
            let mut samples = 0;
            let area = tuner.auc_between(Version::Tuned, || samples += 1).unwrap();
            assert_eq!((area, samples), (metrics::auc(&high, &held).unwrap(), high.len() + held.len()));
            assert!(tuner.evaluate(0.01).unwrap().accuracy.is_nan());
            assert_eq!(tuner.suspects().count(), 0);
        }
    }
}

/// An anomaly changes nothing of a run.
#[test]
fn anomalies_are_never_trained_on() {
    let file = pack(&autoencoder(), 0, 4).unwrap();
    let crc = |anomalies: u64, policy: Policy| {
        let mut words = Vec::new();
        let recipe = Recipe { replay_policy: policy, ..RECIPE };
        let mut tuner = tuner(&file, recipe, &mut words);
        for sample in 0..12 {
            if sample < anomalies {
                tuner.observe_anomaly(&input(&autoencoder(), sample)).unwrap();
            }
            tuner.observe_itself(&alike(sample)).unwrap();
        }
        assert_eq!(tuner.samples() as u64, 12 + anomalies);
        tuner.start(recipe).unwrap();
        while !tuner.step().unwrap().finished {}
        tuner.weights_crc32()
    };
    // The order of the samples is that of the normal ones.
    for policy in [Policy::Oldest, Policy::Balanced] {
        assert_eq!(crc(0, policy), crc(7, policy));
    }
}

/// One of four patterns, by the bits of the label, and some noise.
fn questioned(seed: u64) -> (Vec<i8>, usize) {
    let noise = super::pseudo_random(12, 500 + seed);
    let label = (seed % 4) as usize;
    let sign = |bit: usize| if label >> bit & 1 == 1 { 50.0 } else { -50.0 };
    let value = |(i, &n): (usize, &i8)| sign(0) + sign(1) * (i as f32 / 6.0 - 1.0) + f32::from(n) / 10.0;
    (noise.iter().enumerate().map(|x| value(x).clamp(-128.0, 127.0) as i8).collect(), label)
}

/// Two yes-or-no questions about every sample.
#[test]
fn questions_are_learnt_and_survive_rounding() {
    for end in [Some(Unary::Logistic), None] {
        let mut network = lower(&kitchen_sink::autoencoder(5, 2, end)).unwrap();
        network.loss = Some(Loss::BinaryCrossEntropy);
        let file = pack(&network, 0, 4).unwrap();
        let recipe = Recipe {
            method: Method::Sam,
            rho: 0.01,
            learning_rate: 0.004,
            epochs: 300,
            replay_policy: Policy::Balanced,
            ..RECIPE
        };
        let mut words = Vec::new();
        let mut tuner = tuner(&file, recipe, &mut words);
        let samples: Vec<_> = (0..24).map(questioned).collect();
        for (sample, label) in &samples {
            tuner.observe(sample, *label).unwrap();
        }
        let before = tuner.evaluate(0.01).unwrap();
        tuner.start(recipe).unwrap();
        while !tuner.step().unwrap().finished {}
        let after = tuner.evaluate(0.01).unwrap();
        assert!(after.loss < 0.3 * before.loss && after.accuracy > 0.8, "{before:?} {after:?}");
        tuner.requantize().unwrap();
        let judged = tuner.judge(Version::Tuned).unwrap();
        let right = samples.iter().filter(|(x, label)| {
            let output = tuner.infer(x, Version::Tuned).unwrap().to_vec();
            tuner.answer(&output, Version::Tuned) == *label
        });
        assert_eq!(right.count() as u32, judged.right);
        assert!(judged.right >= 20, "{judged:?}");
        // What a table stands behind keeps its scale.
        let [packed, tuned] = [Version::Factory, Version::Tuned].map(|v| tuner.output_affine(v));
        assert_eq!(packed == tuned, end.is_some());
    }
}

#[test]
fn targets_of_real_values_are_met() {
    // Three values of a regression, from targets of their own.
    let mut network = lower(&kitchen_sink::autoencoder(8, 3, None)).unwrap();
    network.loss = Some(Loss::SquaredError);
    let file = pack(&network, 0, 2).unwrap();
    let mut words = Vec::new();
    let recipe = Recipe { epochs: 200, learning_rate: 0.2, ..RECIPE };
    let mut tuner = tuner(&file, recipe, &mut words);
    for seed in 0..16 {
        let x = input(&network, seed);
        let mean = x.iter().map(|&q| f32::from(q)).sum::<f32>() / 12.0 / 40.0;
        let mut target = [0; 3];
        tuner.quantize_target(&[mean, -mean, 0.25], &mut target).unwrap();
        tuner.observe_target(&x, &target).unwrap();
    }
    let before = tuner.evaluate(0.01).unwrap().loss;
    tuner.start(recipe).unwrap();
    while !tuner.step().unwrap().finished {}
    assert!(tuner.evaluate(0.01).unwrap().loss < 0.3 * before, "{before}");
}

#[test]
fn what_is_no_target_is_refused() {
    let network = autoencoder();
    let file = pack(&network, 0, 1).unwrap();
    let mut words = Vec::new();
    let mut tuner = tuner(&file, RECIPE, &mut words);
    let x = input(&network, 1);
    let mut target = [0; 12];
    let mut values = [0.5; 12];
    values[7] = f32::NAN;
    assert_eq!(tuner.quantize_target(&values, &mut target), Err(TunerError::TargetValue { index: 7 }));
    values[7] = f32::INFINITY;
    assert_eq!(tuner.quantize_target(&values, &mut target), Err(TunerError::TargetValue { index: 7 }));
    let short = Err(TunerError::TargetLength { expected: 12, found: 11 });
    assert_eq!(tuner.quantize_target(&values[..11], &mut target), short);
    assert_eq!(tuner.observe_target(&x, &target[..11]), short);
    assert_eq!(tuner.observe_itself(&x[..11]), short);
    assert_eq!(tuner.observe(&x, 0), Err(TunerError::WantsTarget));
    assert_eq!(tuner.score(&x, 0), Err(TunerError::WantsTarget));
    assert_eq!(tuner.start(RECIPE), Err(TunerError::NoSamples));
    tuner.observe_anomaly(&x).unwrap();
    assert_eq!(tuner.start(RECIPE), Err(TunerError::NoSamples), "there are anomalies alone");
    assert_eq!(tuner.judge(Version::Factory), Err(TunerError::NoSamples));
    assert_eq!(tuner.auc(Version::Factory), Err(TunerError::OneKind));

    let network = lower(&kitchen_sink::autoencoder(5, 2, Some(Unary::Logistic))).unwrap();
    let file = pack(&network, 0, 1).unwrap();
    let mut words = Vec::new();
    let mut tuner = self::tuner(&file, RECIPE, &mut words);
    assert_eq!(tuner.observe(&x, 4), Err(TunerError::Label { label: 4, last: 3 }));
    assert_eq!(tuner.observe_itself(&x), Err(TunerError::WantsLabel));
    assert_eq!(tuner.observe_target(&x, &[0, 0]), Err(TunerError::WantsLabel));
    assert_eq!(tuner.auc(Version::Factory), Err(TunerError::OneKind), "two questions have two areas");
    // Trained without what the file ends in, a softmax has no gradient of its own.
    let mut softmax = lower(&kitchen_sink::graph(1)).unwrap();
    softmax.loss = Some(Loss::SquaredError);
    let refused = pack_tail(&softmax, 0, &TailPlan::of(1)).unwrap_err().to_string();
    assert!(refused.contains("cannot be trained"), "{refused}");
}
