//! A rho in nats: what a run makes of it, and that no default ascent wrecks a deep tail.

use crate::bundled::{Labelled, arena, observe, packed, samples, saved};
use flatmin::{
    Arithmetic, CompactTuner, IntegerTuner, Method, Progress, Recipe, RhoUnit, Tuner, TunerError, Work,
};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Tail, Training, train};
use rayon::prelude::*;

/// `||T g||^2` of the bundled network's last layer in f64, where of a softmax's cross-entropy the gradient is `(p - t) x^T`, and the
/// label's probability.
fn norm_squared(weights: &[f32], x: &[f64], label: usize, eta: Option<f64>) -> (f64, f64) {
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
    (rows.iter().enumerate().map(of_row).sum(), z[label].exp() / sum)
}

/// Three labels in four wrong, or none: little that is believed, or most.
fn labelled(data: &[Labelled], wrong: bool, classes: usize) -> Vec<Labelled> {
    let label =
        |at: usize, label: usize| if wrong && !at.is_multiple_of(4) { (label + 1) % classes } else { label };
    data.iter().enumerate().map(|(at, (input, own))| (input.clone(), label(at, *own))).collect()
}

#[test]
fn a_radius_is_rho_over_the_root_of_the_mean_square_of_wrong_labels_gradients() {
    let file = packed(1);
    let (pack, classes) = (file.pack(), file.pack().output().len());
    for (method, eta, wrong) in [
        (Method::Sam, None, false),
        (Method::Asam, Some(0.01), false),
        (Method::Sam, None, true),
        (Method::Asam, Some(0.01), true),
    ] {
        let data = labelled(&samples(&pack, 12), wrong, classes);
        let recipe =
            Recipe { method, rho: 0.25, rho_unit: RhoUnit::Nats, replay_capacity: 12, ..Recipe::DEFAULT };
        let mut words = arena(Tail::Full, &pack, &recipe);
        let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
        observe(&mut tuner, &data);
        let (unit, zero) =
            (f64::from(pack.feature_unit()), i32::from(pack.feature().affine.zero_point as i8));
        let (mut sum, mut believed) = (0.0, 0.0);
        for (turn, (input, label)) in data.iter().enumerate() {
            let latent = tuner.latent(input).unwrap().to_vec();
            let x: Vec<f64> = latent.iter().map(|&q| unit * f64::from(i32::from(q) - zero)).collect();
            let other = (label + 1 + turn % (classes - 1)) % classes;
            sum += norm_squared(tuner.weights(), &x, other, eta).0;
            believed += norm_squared(tuner.weights(), &x, *label, eta).1 / data.len() as f64;
        }
        // The little that is believed beyond a guess.
        let guess = 1.0 / classes as f64;
        let beyond = (believed - guess) / (1.0 - guess);
        assert!(if wrong { (0.01..0.25).contains(&beyond) } else { beyond > 0.25 }, "{beyond}");
        let share = if wrong { beyond } else { 1.0 };
        let expected = 0.25 * share / (sum / data.len() as f64).sqrt();
        let before = tuner.weights_crc32();
        tuner.start(recipe).unwrap();
        for sample in 0..data.len() {
            let at = tuner.position().unwrap();
            assert_eq!((at.work, at.sample, tuner.radius()), (Work::Radius, sample, None));
            tuner.poll().unwrap();
        }
        let found = f64::from(tuner.radius().unwrap());
        assert!((found / expected - 1.0).abs() < 1e-4, "{method:?}: {found}, expected {expected}");
        assert_eq!(tuner.weights_crc32(), before);
        if wrong {
            continue;
        }
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

/// A run that believes few of its labels, whole and saved and resumed at every slice, ends with the same bits; it measures again
/// after 4 and 8 steps, and nothing where labels are believed.
fn measures_again<'p, A: Arithmetic<'p>>(tuners: [Tuner<'p, A>; 3], data: &[Labelled], recipe: Recipe) {
    let [mut whole, first, second] = tuners;
    let mut pair = [first, second];
    let classes = whole.pack().output().len();
    for wrong in [true, false] {
        let own = labelled(data, wrong, classes);
        for tuner in pair.iter_mut().chain([&mut whole]) {
            tuner.factory_reset();
            tuner.forget();
            observe(tuner, &own);
        }
        whole.start(recipe).unwrap();
        while !whole.step().unwrap().finished {}
        pair[0].start(recipe).unwrap();
        let (mut running, mut measured) = (0, Vec::new());
        loop {
            let bytes = saved(&pair[running]);
            running = 1 - running;
            pair[running].resume_run(&bytes).unwrap();
            assert!(saved(&pair[running]) == bytes);
            let at = pair[running].position().unwrap();
            if at.work == Work::Radius && at.sample == 0 {
                measured.push(at.step);
            }
            match pair[running].poll().unwrap() {
                Progress::Stepped(report) if report.finished => break,
                _ => {}
            }
        }
        assert_eq!(measured, if wrong { vec![0, 4, 8] } else { vec![0] });
        assert_eq!(pair[running].poll(), Err(TunerError::NotRunning));
        let ends = [&whole, &pair[running]].map(|tuner| (tuner.weights_crc32(), tuner.macs()));
        assert_eq!(ends[0], ends[1]);
    }
}

#[test]
fn a_run_that_knows_little_measures_again_with_the_same_bits_in_all_tuners() {
    let steps =
        Recipe { epochs: 5, minibatch: 4, replay_capacity: 8, learning_rate: 0.01, ..Recipe::DEFAULT };
    for method in [Method::Sam, Method::Asam] {
        for layers in [1, 3] {
            let file = packed(layers);
            let (pack, recipe) = (file.pack(), Recipe { method, ..steps });
            let mut arenas = [(); 3].map(|()| arena(Tail::Full, &pack, &recipe));
            let tuners = arenas
                .each_mut()
                .map(|words| Tuner::new(pack, recipe, bytemuck::cast_slice_mut(words)).unwrap());
            measures_again(tuners, &samples(&pack, 8), recipe);
        }
        let file = packed(2);
        let (pack, recipe) = (file.pack(), Recipe { method, ..steps });
        let mut arenas = [(); 3].map(|()| arena(Tail::Compact, &pack, &recipe));
        let tuners = arenas
            .each_mut()
            .map(|words| CompactTuner::in_arena(pack, recipe, bytemuck::cast_slice_mut(words)).unwrap());
        measures_again(tuners, &samples(&pack, 8), recipe);

        let file = packed(7);
        let recipe = Recipe { method, epochs: 2, replay_capacity: 8, ..Recipe::INTEGER };
        let pack = file.pack();
        let mut arenas = [(); 3].map(|()| arena(Tail::Integer, &pack, &recipe));
        let tuners = arenas
            .each_mut()
            .map(|words| IntegerTuner::in_arena(pack, recipe, bytemuck::cast_slice_mut(words)).unwrap());
        measures_again(tuners, &samples(&pack, 8), recipe);
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
