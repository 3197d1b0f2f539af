//! Samples that a run suspects of a wrong label, on the bundled task with a known share of flipped labels.

use flatmin::{Method, Recipe, Tuner, TunerError};
use flatmin_sim::subject::Subject;

const RECIPE: Recipe = Recipe {
    method: Method::Asam,
    rho: 0.5,
    learning_rate: 0.005,
    label_smoothing: 0.0,
    sample_losses: true,
    ..Recipe::DEFAULT
};

fn suspects<T>(subject: &Subject, recipe: Recipe, see: impl FnOnce(&mut Tuner) -> T) -> T {
    let file = subject.model.pack(2).unwrap();
    let mut words = vec![0u128; file.pack().sizes().train_bytes(&recipe).div_ceil(16)];
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    subject.adaptation.iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
    see(&mut tuner)
}

/// The mean of the losses that scoring every sample after every epoch finds, and those above ln 7.
#[test]
fn mean_losses_are_the_means_of_the_scores_after_each_epoch() {
    let recipe = Recipe { epochs: 5, held_out: 0.2, ..RECIPE };
    let subject = Subject::wearer(2, 4, 0.2, 1).unwrap();
    suspects(&subject, recipe, |tuner| {
        let mut sums = vec![0.0; subject.adaptation.len()];
        assert_eq!((tuner.suspects().count(), tuner.mean_loss(0)), (0, None));
        tuner.start(recipe).unwrap();
        loop {
            let report = tuner.step().unwrap();
            if report.epoch_finished {
                for (sum, (input, label)) in sums.iter_mut().zip(&subject.adaptation) {
                    *sum += f64::from(tuner.score(input, *label).unwrap().loss);
                }
            }
            if report.finished {
                break;
            }
        }
        let mut found = tuner.suspects().collect::<Vec<_>>().into_iter();
        for (slot, sum) in sums.iter().enumerate() {
            let mean = sum / 5.0;
            assert!((f64::from(tuner.mean_loss(slot).unwrap()) - mean).abs() < 1e-5 * (1.0 + mean));
            if mean > 7f64.ln() {
                let suspect = found.next().unwrap();
                assert_eq!((suspect.slot, usize::from(suspect.label)), (slot, subject.adaptation[slot].1));
            }
        }
        assert_eq!(found.next(), None);
        // What comes after the run is not suspected.
        tuner.observe(&subject.test[0].0, 0).unwrap();
        assert_eq!(tuner.mean_loss(sums.len()), None);
        tuner.forget();
        assert_eq!((tuner.suspects().count(), tuner.mean_loss(0)), (0, None));
    });
}

/// Bits of the weights are the same with and without the losses taken.
#[test]
fn taking_losses_changes_no_weight_and_wants_its_bytes() {
    let subject = Subject::wearer(9, 4, 0.2, 1).unwrap();
    let crc = |recipe: Recipe| {
        suspects(&subject, recipe, |tuner| {
            tuner.start(recipe).unwrap();
            while !tuner.step().unwrap().finished {}
            tuner.weights_crc32()
        })
    };
    let plain = Recipe { sample_losses: false, epochs: 3, ..RECIPE };
    assert_eq!(crc(plain), crc(Recipe { sample_losses: true, ..plain }));
    suspects(&subject, plain, |tuner| {
        let (found, needed) = (tuner.arena_bytes(), tuner.pack().sizes().train_bytes(&RECIPE));
        assert_eq!(needed, found + 4 * usize::from(plain.replay_capacity));
        assert_eq!(tuner.start(RECIPE), Err(TunerError::ArenaTooSmall { needed, found }));
    });
}

/// A fifth of the labels flipped: a suspect drawn by chance would be flipped in 1 of 5 cases.
#[test]
fn suspects_are_mostly_the_flipped_ones() {
    for (method, rho) in [(Method::Sgd, 0.0), (Method::Sam, 0.05), (Method::Asam, 0.5)] {
        let (mut flipped, mut suspected, mut both, mut total) = (0, 0, 0, 0);
        for (wearer, seed) in (1..=10).flat_map(|wearer| (1..=3).map(move |seed| (wearer, seed))) {
            let clean = Subject::wearer(wearer, 9, 0.0, seed).unwrap();
            let noisy = Subject::wearer(wearer, 9, 0.2, seed).unwrap();
            let wrong = |slot: usize| clean.adaptation[slot].1 != noisy.adaptation[slot].1;
            let recipe = Recipe { method, rho, seed, ..RECIPE };
            let found: Vec<usize> = suspects(&noisy, recipe, |tuner| {
                tuner.start(recipe).unwrap();
                while !tuner.step().unwrap().finished {}
                tuner.suspects().map(|suspect| suspect.slot).collect()
            });
            total += noisy.adaptation.len();
            flipped += (0..noisy.adaptation.len()).filter(|&slot| wrong(slot)).count();
            suspected += found.len();
            both += found.iter().filter(|&&slot| wrong(slot)).count();
        }
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        let (precision, recall) = (share(both, suspected), share(both, flipped));
        println!(
            "{method:?}: {flipped} of {total} labels flipped, {suspected} suspected, {both} of them rightly: \
             precision {precision:.3}, recall {recall:.3}"
        );
        // By chance precision is the share flipped, 0.2, and recall the share suspected.
        assert!(precision > 0.6 && recall > 0.6, "{method:?}: precision {precision}, recall {recall}");
        assert!(recall > 2.0 * share(suspected, total));
    }
}
