//! Never worse than before: held-out samples judge, acceptance, and the best weights of a run, on the bundled task.

use flatmin::Policy;
use flatmin::{Acceptance, Evidence, Judgement, Method, Recipe, Tuner, TunerError, Version};
use flatmin_sim::subject::{Labelled, Subject};
use std::collections::BTreeSet;

const METHODS: [Method; 3] = [Method::Sgd, Method::Sam, Method::Asam];
const RECIPE: Recipe = Recipe {
    method: Method::Asam,
    rho: 0.5,
    learning_rate: 0.005,
    label_smoothing: 0.0,
    epochs: 10,
    held_out: 0.2,
    ..Recipe::DEFAULT
};

/// Observes `samples` and hands the tuner over, not yet started.
fn with_tuner<T>(
    subject: &Subject,
    recipe: Recipe,
    samples: &[Labelled],
    see: impl FnOnce(&mut Tuner) -> T,
) -> T {
    let file = subject.model.pack(2).unwrap();
    let mut words = vec![0u128; file.pack().sizes().train_bytes(&recipe).div_ceil(16)];
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    observe(&mut tuner, samples);
    see(&mut tuner)
}

fn observe(tuner: &mut Tuner, samples: &[Labelled]) {
    samples.iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
}

fn run(tuner: &mut Tuner, recipe: Recipe) {
    tuner.start(recipe).unwrap();
    while !tuner.step().unwrap().finished {}
}

/// What a judgement has to be, from the answers to each input: in f64, from the softmax's definition of its bytes.
fn judged_by_hand<'s>(
    tuner: &mut Tuner,
    samples: impl Iterator<Item = &'s Labelled>,
    version: Version,
) -> (u32, u32, f64) {
    let (mut count, mut right, mut loss) = (0, 0, 0.0);
    for (input, label) in samples {
        let output = tuner.infer(input, version).unwrap();
        let first_largest = (0..output.len()).find(|&c| output.iter().all(|&q| q <= output[c])).unwrap();
        let p = (f64::from(output[*label]) + 128.0).max(0.5) / 256.0;
        count += 1;
        right += u32::from(first_largest == *label);
        loss -= p.ln();
    }
    (count, right, loss / f64::from(count))
}

fn assert_same(judgement: Judgement, (samples, right, loss): (u32, u32, f64)) {
    assert_eq!((judgement.samples, judgement.right), (samples, right));
    // Losses are summed in steps of 1/4096.
    let bound = if cfg!(feature = "micromath") { 1e-3 } else { 1.0 / 8192.0 + 1e-5 };
    assert!((f64::from(judgement.loss) - loss).abs() < bound, "{judgement:?}: {loss}");
}

/// The answer of `version`: the first of the largest outputs, a softmax's probability of 1/256 per step from -128.
fn assert_classified(tuner: &mut Tuner, input: &[i8], version: Version) {
    let output = tuner.infer(input, version).unwrap();
    let label = (0..output.len()).find(|&c| output.iter().all(|&q| q <= output[c])).unwrap();
    let score = (f32::from(output[label]) + 128.0) / 256.0;
    let answer = tuner.classify(input).unwrap();
    assert_eq!((answer.label, answer.score, answer.version), (label, score, version));
}

#[test]
fn judgements_are_what_the_answers_to_the_held_out_inputs_come_to() {
    let subject = Subject::wearer(3, 9, 0.0, 1).unwrap();
    let samples = &subject.adaptation;
    with_tuner(&subject, RECIPE, samples, |tuner| {
        // Nothing is held out before a run: all of them judge.
        let all = judged_by_hand(tuner, samples.iter(), Version::Factory);
        assert_same(tuner.judge(Version::Factory).unwrap(), all);
        assert_eq!(tuner.judge(Version::Tuned), Err(TunerError::NotTuned));
        run(tuner, RECIPE);
        tuner.requantize().unwrap();
        let slots: BTreeSet<usize> = tuner.held_out().collect();
        // 9 of each of 7 classes: the third and the eighth.
        assert_eq!(slots, (14..21).chain(49..56).collect());
        for version in [Version::Factory, Version::Tuned] {
            let expected = judged_by_hand(tuner, slots.iter().map(|&slot| &samples[slot]), version);
            assert_same(tuner.judge(version).unwrap(), expected);
        }
        let (mut right, mut loss) = (0, 0.0);
        for &slot in &slots {
            let score = tuner.score(&samples[slot].0, samples[slot].1).unwrap();
            right += u32::from(score.class == samples[slot].1);
            loss += f64::from(score.loss) / slots.len() as f64;
        }
        assert_same(tuner.judge_weights().unwrap(), (14, right, loss));
        tuner.forget();
        assert_eq!(
            (tuner.judge(Version::Factory), tuner.held_out().count()),
            (Err(TunerError::NoSamples), 0)
        );
        assert_eq!(tuner.accept(), Err(TunerError::NoSamples));
    });
}

/// Whatever stands in the held-out slots, the run's weights are the same.
#[test]
fn held_out_samples_have_no_say_in_the_weights() {
    let subject = Subject::wearer(5, 6, 0.0, 2).unwrap();
    let recipe = Recipe { epochs: 3, ..RECIPE };
    let weights = |recipe: Recipe, samples: &[Labelled]| {
        with_tuner(&subject, recipe, samples, |tuner| {
            run(tuner, recipe);
            (tuner.weights_crc32(), tuner.held_out().collect::<BTreeSet<_>>())
        })
    };
    let (crc, held_out) = weights(recipe, &subject.adaptation);
    let mut other = subject.adaptation.clone();
    for &slot in &held_out {
        other[slot].0 = subject.test[slot].0.clone();
    }
    assert_eq!(weights(recipe, &other), (crc, held_out.clone()));
    assert!(!held_out.contains(&0));
    other[0].0 = subject.test[0].0.clone();
    assert_ne!(weights(recipe, &other).0, crc, "a sample that is trained on");
    assert_ne!(weights(Recipe { held_out: 0.0, ..recipe }, &subject.adaptation).0, crc);
}

/// Held-out samples with their own labels, between others that all have a wrong one.
fn misled(subject: &Subject, classes: usize, shift: usize) -> Vec<Labelled> {
    let of = |class: usize| subject.adaptation.iter().filter(move |(_, label)| *label == class);
    let per_class = of(0).count();
    let mut samples = Vec::new();
    for rank in 0..per_class {
        for class in 0..classes {
            // At a share of 0.2: the third of a class, the eighth, ...
            let source = if rank % 5 == 2 { class } else { (class + shift) % classes };
            let (input, _) = of(source).nth(rank).unwrap();
            samples.push((input.clone(), class));
        }
    }
    samples
}

#[test]
fn a_run_on_labels_that_are_all_wrong_is_never_accepted() {
    for wearer in 1..=10 {
        let subject = Subject::wearer(wearer, 9, 0.0, wearer as u64).unwrap();
        let samples = misled(&subject, 7, 1 + wearer % 6);
        for method in METHODS {
            let recipe = Recipe { method, ..RECIPE };
            with_tuner(&subject, recipe, &samples, |tuner| {
                let factory = tuner.weights_crc32();
                run(tuner, recipe);
                assert_ne!(tuner.weights_crc32(), factory);
                let answer = tuner.accept().unwrap();
                assert!(!answer.accepted, "wearer {wearer} {method:?}: {answer:?}");
                assert!(answer.candidate.right < answer.factory.right, "{answer:?}");
                assert_eq!(tuner.weights_crc32(), factory);
                assert_eq!(tuner.infer(&samples[0].0, Version::Tuned), Err(TunerError::NotTuned));
            });
        }
    }
}

/// Runs of all kinds one after another, good and bad: what is in force is what the answer says, and a refusal changes no bit
/// of it.
#[test]
fn what_is_in_force_is_what_was_judged() {
    let (mut accepted, mut refused) = (0, 0);
    for wearer in 1..=10 {
        let subject = Subject::wearer(wearer, 9, 0.2, 7).unwrap();
        with_tuner(&subject, RECIPE, &subject.adaptation, |tuner| {
            let mut before: Option<Judgement> = None;
            for round in 0..6u16 {
                let recipe = Recipe {
                    method: METHODS[usize::from(round) % 3],
                    // From far too little over enough to far too much.
                    learning_rate: [0.005, 1e-4, 0.5, 0.02, 3.0, 0.002][usize::from(round)],
                    seed: u64::from(round),
                    epochs: 1 + round,
                    ..RECIPE
                };
                let bytes = answers(tuner, &subject.test[..20]);
                tuner.start(recipe).unwrap();
                while matches!(tuner.step(), Ok(report) if !report.finished) {}
                let by_factory = rights(tuner, &subject.adaptation, Version::Factory);
                let answer = tuner.accept().unwrap();
                let Acceptance { factory, running, candidate, evidence, labels, accepted: taken, .. } =
                    answer;
                // The samples and who of them judges have stayed: so has the running tail's judgement.
                assert_eq!(running, before.unwrap_or(factory));
                let in_force = if taken { candidate } else { running };
                assert_eq!(labels.samples, 63);
                assert_eq!(labels.agreed, by_factory.iter().map(|&right| u32::from(right)).sum::<u32>());
                assert!(taken || !matches!(evidence, Evidence::Better), "{answer:?}");
                assert!(!taken || !matches!(evidence, Evidence::Worse | Evidence::Unmoved), "{answer:?}");
                if taken || before.is_some() {
                    assert_eq!(tuner.judge(Version::Tuned), Ok(in_force));
                    before = Some(in_force);
                }
                if !taken {
                    assert_eq!(answers(tuner, &subject.test[..20]), bytes);
                }
                // A refusal leaves the tail of before in force, which need not be the factory's.
                let version = if before.is_some() { Version::Tuned } else { Version::Factory };
                for (input, _) in &subject.test[..20] {
                    assert_classified(tuner, input, version);
                }
                accepted += u32::from(taken);
                refused += u32::from(!taken);
            }
        });
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted >= 5 && refused >= 5, "{accepted} accepted, {refused} refused: no test of both");
}

/// Which samples an int8 tail answers rightly, by its largest output.
fn rights(tuner: &mut Tuner, samples: &[Labelled], version: Version) -> Vec<bool> {
    let mut right = Vec::new();
    for (input, label) in samples {
        let output = tuner.infer(input, version).unwrap();
        let first_largest = (0..output.len()).find(|&c| output.iter().all(|&q| q <= output[c]));
        right.push(first_largest == Some(*label));
    }
    right
}

fn answers(tuner: &mut Tuner, samples: &[Labelled]) -> Vec<i8> {
    let mut all = Vec::new();
    for (input, _) in samples {
        all.extend_from_slice(tuner.infer(input, Version::Tuned).unwrap_or(&[]));
    }
    all
}

/// The weights that a run ends with are those after the epoch that judging each of them finds.
#[test]
fn a_run_that_keeps_the_best_ends_with_the_best_of_its_epochs() {
    let mut earlier = 0;
    for (wearer, method) in [(2, Method::Sgd), (4, Method::Sam), (7, Method::Asam)] {
        let subject = Subject::wearer(wearer, 9, 0.3, 3).unwrap();
        let plain = Recipe { method, learning_rate: 0.02, epochs: 12, ..RECIPE };
        let mut seen = Vec::new();
        with_tuner(&subject, plain, &subject.adaptation, |tuner| {
            tuner.start(plain).unwrap();
            seen.push((tuner.judge_weights().unwrap(), tuner.weights_crc32()));
            loop {
                let report = tuner.step().unwrap();
                if report.epoch_finished {
                    seen.push((tuner.judge_weights().unwrap(), tuner.weights_crc32()));
                }
                if report.finished {
                    break;
                }
            }
            assert_eq!(tuner.best(), None);
        });
        let key = |j: &Judgement| (core::cmp::Reverse(j.right), j.loss);
        let mut order: Vec<usize> = (0..seen.len()).collect();
        order.sort_by(|&a, &b| key(&seen[a].0).partial_cmp(&key(&seen[b].0)).unwrap());
        let recipe = Recipe { keep_best: true, ..plain };
        with_tuner(&subject, recipe, &subject.adaptation, |tuner| {
            run(tuner, recipe);
            let best = tuner.best().unwrap();
            assert_eq!(usize::from(best.epochs), order[0]);
            assert_eq!((best.judgement, tuner.weights_crc32()), seen[order[0]]);
        });
        earlier += usize::from(order[0] + 1 < seen.len());
    }
    assert!(earlier > 0, "every run was best at its end: no test");
}

#[test]
fn a_tuner_without_the_buffer_cannot_keep_the_best() {
    let subject = Subject::wearer(1, 3, 0.0, 1).unwrap();
    with_tuner(&subject, RECIPE, &subject.adaptation, |tuner| {
        let greedy = Recipe { keep_best: true, ..RECIPE };
        let (needed, found) = (tuner.pack().sizes().train_bytes(&greedy), tuner.arena_bytes());
        assert_eq!(needed - found, (tuner.weights().len() * 4).next_multiple_of(16));
        assert_eq!(tuner.start(greedy), Err(TunerError::ArenaTooSmall { needed, found }));
        for share in [-0.1, 0.51, f32::NAN] {
            let refusal = tuner.start(Recipe { held_out: share, ..RECIPE });
            assert!(matches!(refusal, Err(TunerError::Recipe(e)) if e.field == "held_out"));
        }
    });
}

/// One exercise after the other, in a replay too small for all: the first ones are still there.
#[test]
fn a_balanced_replay_keeps_the_classes_that_came_first() {
    let hits = |replay_policy| {
        let hits = (1..=10).map(|wearer| {
            let subject = Subject::wearer(wearer, 9, 0.0, 1).unwrap();
            let mut by_class = subject.adaptation.clone();
            by_class.sort_by_key(|(_, label)| *label);
            let recipe = Recipe { replay_policy, replay_capacity: 21, held_out: 0.0, epochs: 30, ..RECIPE };
            with_tuner(&subject, recipe, &by_class, |tuner| {
                run(tuner, recipe);
                let right = |(input, label): &&Labelled| tuner.score(input, *label).unwrap().class == *label;
                subject.test.iter().filter(|(_, label)| *label < 4).filter(right).count()
            })
        });
        hits.sum::<usize>()
    };
    let (oldest, balanced) = (hits(Policy::Oldest), hits(Policy::Balanced));
    println!("test windows of the first four exercises that are right: oldest {oldest}, balanced {balanced}");
    assert!(balanced > oldest + oldest / 20);
}
