//! A workspace with room for several samples: the same step, bit for bit, and the same refusals.

mod reference;

use flatmin::internals::tail::DenseChain;
use flatmin::{BiasTreatment, Method, Recipe, internals::pack::Activation};
use flatmin::{
    StepError,
    internals::step::{self, Buffers, Outcome},
};
use reference::{Random, Sample, bits, tail};

/// Workspaces, in samples that fit.
const ROOM: [usize; 6] = [1, 2, 3, 7, 8, 20];

/// What three steps leave in weights and velocity, and what the last one saw; the workspace is longer than so many
/// samples by `more` floats.
fn steps(
    tail: &DenseChain,
    recipe: &Recipe,
    start: &[f32],
    samples: &[Sample],
    room: usize,
    more: usize,
) -> (Vec<u32>, Vec<u32>, Result<Outcome, StepError>) {
    let (mut weights, mut velocity) = (start.to_vec(), vec![0.0; start.len()]);
    let mut gradient = vec![f32::NAN; start.len()];
    let mut workspace = vec![f32::NAN; reference::workspace(tail).len() * room + more];
    let mut step = || {
        let buffers = Buffers {
            weights: &mut weights,
            velocity: &mut velocity,
            gradient: &mut gradient,
            workspace: &mut workspace,
        };
        step::minibatch(tail, recipe, 0.05, buffers, samples.len(), |i, features| {
            features.copy_from_slice(&samples[i].0);
            samples[i].1
        })
    };
    let outcome = step().and_then(|_| step()).and_then(|_| step());
    (bits(&weights), bits(&velocity), outcome)
}

fn recipes() -> impl Iterator<Item = Recipe> {
    let plain = Recipe { momentum: 0.9, weight_decay: 1e-3, label_smoothing: 0.1, ..Recipe::DEFAULT };
    [
        (Method::Sgd, 1),
        (Method::Sam, 1),
        (Method::Sam, 3),
        (Method::Sam, 16),
        (Method::Asam, 1),
        (Method::Asam, 16),
    ]
    .into_iter()
    .flat_map(move |(method, sharpness_batch)| {
        [BiasTreatment::Unit, BiasTreatment::Frozen].map(|bias| Recipe {
            method,
            sharpness_batch,
            bias,
            ..plain
        })
    })
}

#[test]
fn samples_taken_together_end_with_the_bits_of_one_after_the_other() {
    let mut random = Random::new(1);
    for (widths, hidden) in [
        (&[64, 32, 10][..], Activation::Relu),
        (&[1_100, 9], Activation::None),
        (&[37, 13, 11, 5], Activation::Relu6),
        (&[1, 1, 2], Activation::Relu),
    ] {
        let tail = tail(widths, hidden);
        let start = random.parameters(&tail);
        for count in [1, 2, 4, 11, 16] {
            let samples = random.samples(&tail, count);
            for recipe in recipes() {
                let alone = steps(&tail, &recipe, &start, &samples, 1, 0);
                assert!(alone.2.is_ok());
                assert_ne!(alone.0, bits(&start));
                for room in ROOM {
                    let together = steps(&tail, &recipe, &start, &samples, room, 1);
                    assert_eq!(together, alone, "{widths:?}, {count} samples, room for {room}: {recipe:?}");
                }
            }
        }
    }
}

#[test]
fn the_first_sample_that_is_refused_is_the_one_reported() {
    let tail = tail(&[9, 6, 4], Activation::Relu);
    let mut random = Random::new(2);
    let (start, samples) = (random.parameters(&tail), random.samples(&tail, 8));
    let non_finite = |sample| StepError::NonFinite { sample };
    let label = |sample| StepError::Label { sample, label: 4, classes: 4 };
    // Samples with a NaN, samples with a label too high, what is reported.
    for (nans, labels, expected) in [
        (&[5][..], &[][..], non_finite(5)),
        (&[7, 2], &[], non_finite(2)),
        (&[], &[6, 3], label(3)),
        (&[3], &[4], non_finite(3)),
        (&[4], &[3], label(3)),
        (&[4], &[4], label(4)),
        (&[], &[0], label(0)),
    ] {
        let mut samples = samples.clone();
        nans.iter().for_each(|&i: &usize| samples[i].0[2] = f32::NAN);
        labels.iter().for_each(|&i: &usize| samples[i].1 = 4);
        for recipe in recipes() {
            for room in ROOM {
                let (weights, _, outcome) = steps(&tail, &recipe, &start, &samples, room, 0);
                assert_eq!(outcome, Err(expected), "room for {room}: {recipe:?}");
                assert_eq!(weights, bits(&start));
            }
        }
    }
}
