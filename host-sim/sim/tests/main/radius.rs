//! A rho in nats: what a run makes of it, and that no default ascent wrecks a deep tail.

use crate::bundled::{arena, observe, packed, samples};
use flatmin::{Method, Recipe, RhoUnit, Tuner, Work};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Tail, Training, train};
use rayon::prelude::*;

/// `||T g||^2` of the bundled network's last layer in f64: of a softmax's cross-entropy the gradient is `(p - t) x^T`.
fn norm_squared(weights: &[f32], x: &[f64], label: usize, eta: Option<f64>) -> f64 {
    let (inputs, classes) = (x.len(), weights.len() / (x.len() + 1));
    let (matrix, biases) = weights.split_at(classes * inputs);
    let rows: Vec<Vec<f64>> =
        matrix.chunks(inputs).map(|row| row.iter().map(|&w| f64::from(w)).collect()).collect();
    let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    let z: Vec<f64> = rows.iter().zip(biases).map(|(row, &b)| dot(row) + f64::from(b)).collect();
    let sum: f64 = z.iter().map(|z| z.exp()).sum();
    let of_row = |(class, row): (usize, &Vec<f64>)| {
        let delta = z[class].exp() / sum - f64::from(u8::from(class == label));
        let t = |w: f64| eta.map_or(1.0, |eta| w.abs() + eta);
        delta * delta * (row.iter().zip(x).map(|(w, x)| (t(*w) * x).powi(2)).sum::<f64>() + 1.0)
    };
    rows.iter().enumerate().map(of_row).sum()
}

#[test]
fn a_radius_is_rho_over_the_root_of_the_mean_square_of_wrong_labels_gradients() {
    let file = packed(1);
    let (pack, classes) = (file.pack(), file.pack().output().len());
    let data = samples(&pack, 12);
    for (method, eta) in [(Method::Sam, None), (Method::Asam, Some(0.01))] {
        let recipe =
            Recipe { method, rho: 0.25, rho_unit: RhoUnit::Nats, replay_capacity: 12, ..Recipe::DEFAULT };
        let mut words = arena(Tail::Full, &pack, &recipe);
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
        observe(&mut tuner, &data);
        let (unit, zero) =
            (f64::from(pack.feature_unit()), i32::from(pack.feature().affine.zero_point as i8));
        let mut sum = 0.0;
        for (turn, (input, label)) in data.iter().enumerate() {
            let latent = tuner.latent(input).unwrap().to_vec();
            let x: Vec<f64> = latent.iter().map(|&q| unit * f64::from(i32::from(q) - zero)).collect();
            let wrong = (label + 1 + turn % (classes - 1)) % classes;
            sum += norm_squared(tuner.weights(), &x, wrong, eta);
        }
        let expected = 0.25 / (sum / data.len() as f64).sqrt();
        let before = tuner.weights_crc32();
        tuner.start(recipe).unwrap();
        for sample in 0..data.len() {
            let at = tuner.position().unwrap();
            assert_eq!((at.work, at.sample, tuner.radius()), (Work::Radius, sample, None));
            tuner.poll().unwrap();
        }
        let found = f64::from(tuner.radius().unwrap());
        assert!((found / expected - 1.0).abs() < 1e-5, "{method:?}: {found}, expected {expected}");
        assert_eq!(tuner.weights_crc32(), before);
        // In units of the weights nothing is measured, and the same radius gives the same run.
        while !tuner.step().unwrap().finished {}
        let in_nats = tuner.weights_crc32();
        tuner.factory_reset();
        tuner.start(Recipe { rho: found as f32, rho_unit: RhoUnit::Weights, ..recipe }).unwrap();
        assert_eq!(tuner.radius(), Some(found as f32));
        while !tuner.step().unwrap().finished {}
        assert_eq!(tuner.weights_crc32(), in_nats);
    }
}

/// With a radius in units of the weights ASAM's usual 0.5 took these tails 10 points below their factory's.
#[test]
fn the_default_ascents_keep_up_with_sgd_in_all_seven_layers_from_the_factory() {
    let accuracies = |method: Method| -> Vec<f64> {
        let training = Training::steps(Tail::Full, Recipe { method, ..Recipe::DEFAULT });
        let training = Training { curve: false, ..training };
        (1..=3usize)
            .into_par_iter()
            .map(|wearer| {
                let subject = Subject::wearer(wearer, 9, 0.0, 1).unwrap();
                train(&subject, 7, &training, || {}).unwrap().accuracy_int8
            })
            .collect()
    };
    let mean = |method| 100.0 * accuracies(method).iter().sum::<f64>() / 3.0;
    let sgd = mean(Method::Sgd);
    for method in [Method::Sam, Method::Asam] {
        let own = mean(method);
        assert!(own >= sgd - 2.0, "{method:?}: {own:.1} %, SGD {sgd:.1} %");
    }
}
