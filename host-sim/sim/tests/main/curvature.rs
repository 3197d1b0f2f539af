//! lambda_max beside the explicit Hessian of the bundled network's last layer, worked out in f64.

use crate::bundled::{Labelled, arena, observe, packed, samples};
use flatmin::{Method, Recipe, Tuner};
use flatmin_sim::curvature::largest_eigenvalue;
use flatmin_sim::tuning::Tail;

/// Hessian of a softmax's mean cross-entropy by the weights and bias of outputs `a` and `b`: the mean of
/// `(p_a [a = b] - p_a p_b) (x, 1) (x, 1)^T`.
fn hessian(weights: &[f32], samples: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let inputs = samples[0].len();
    let classes = weights.len() / (inputs + 1);
    let row = |class: usize| -> Vec<f64> {
        let own = weights[class * inputs..][..inputs].iter().map(|&w| f64::from(w));
        own.chain([f64::from(weights[classes * inputs + class])]).collect()
    };
    let rows: Vec<Vec<f64>> = (0..classes).map(row).collect();
    let width = inputs + 1;
    let mut hessian = vec![vec![0.0; classes * width]; classes * width];
    for x in samples {
        let x: Vec<f64> = x.iter().copied().chain([1.0]).collect();
        let z = rows.iter().map(|row| row.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>().exp());
        let z: Vec<f64> = z.collect();
        let p: Vec<f64> = z.iter().map(|e| e / z.iter().sum::<f64>()).collect();
        for (a, b) in (0..classes).flat_map(|a| (0..classes).map(move |b| (a, b))) {
            let own = if a == b { p[a] } else { 0.0 };
            let factor = (own - p[a] * p[b]) / samples.len() as f64;
            for (i, j) in (0..width).flat_map(|i| (0..width).map(move |j| (i, j))) {
                hessian[a * width + i][b * width + j] += factor * x[i] * x[j];
            }
        }
    }
    hessian
}

/// Largest eigenvalue of a symmetric matrix without negative ones: `tr(H^q)^(1 / q)`, q = 2^12, which is above it by 0.2 % at most where it has 455
/// rows.
fn largest_of(mut matrix: Vec<Vec<f64>>) -> f64 {
    let size = matrix.len();
    let (mut logarithm, mut power) = (0.0, 1.0);
    for _ in 0..12 {
        let trace: f64 = (0..size).map(|i| matrix[i][i]).sum();
        logarithm += trace.ln() / power;
        let scaled: Vec<Vec<f64>> =
            matrix.iter().map(|row| row.iter().map(|x| x / trace).collect()).collect();
        // Symmetric: the product of two rows.
        let entry = |i: usize, j: usize| scaled[i].iter().zip(&scaled[j]).map(|(a, b)| a * b).sum::<f64>();
        matrix = (0..size).map(|i| (0..size).map(|j| entry(i, j)).collect()).collect();
        power *= 2.0;
    }
    let trace: f64 = (0..size).map(|i| matrix[i][i]).sum();
    (logarithm + trace.ln() / power).exp()
}

#[test]
fn lambda_max_is_that_of_the_explicit_hessian() {
    let file = packed(1);
    let pack = file.pack();
    let data: Vec<Labelled> = samples(&pack, 14);
    let recipe = Recipe { method: Method::Sam, epochs: 5, replay_capacity: 14, ..Recipe::DEFAULT };
    let mut words = arena(Tail::Full, &pack, &recipe);
    let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    observe(&mut tuner, &data);
    let (unit, zero) = (f64::from(pack.feature_unit()), i32::from(pack.feature().affine.zero_point as i8));
    for trained in [false, true] {
        if trained {
            tuner.start(recipe).unwrap();
            while !tuner.step().unwrap().finished {}
        }
        let features: Vec<Vec<f64>> = (data.iter())
            .map(|(input, _)| tuner.latent(input).unwrap().to_vec())
            .map(|latent| latent.iter().map(|&q| unit * f64::from(i32::from(q) - zero)).collect())
            .collect();
        let expected = largest_of(hessian(tuner.weights(), &features));
        let found = largest_eigenvalue(&mut tuner, &data).unwrap().unwrap();
        assert!((found / expected - 1.0).abs() < 0.01, "{found}, expected {expected}");
    }
}
