//! The gate over the ten wearers: how often it takes a tail that is better on the test samples, and how often one that is
//! worse; and that the planner's advice, the default and the factory are in this order.

use flatmin::{Evidence, Method, Optimizer, Recipe, Version};
use flatmin_model::recipe_file::{Hyperparameters, RecipeFile};
use flatmin_sim::planning::{self, Budget, TRIALS, Tails};
use flatmin_sim::subject::{Subject, input_affine};
use flatmin_sim::tuning::{Start, Tail, Training, train, tune, tuner_arena};
use indicatif::ProgressBar;
use rayon::prelude::*;

/// What became of a run: accuracies on the test samples in percent, and what the gate said.
#[derive(Debug)]
struct Judged {
    gain: f64,
    accepted: bool,
    evidence: Evidence,
}

/// What is judged: gradient steps in two layers, or the head in closed form alone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Steps(Recipe),
    ClosedForm,
}

/// Tunes, asks the gate, and measures what it was asked about.
fn judged(wearer: usize, seed: u64, noise: f64, way: Way, held_out: f32) -> Judged {
    judged_of(Subject::wearer(wearer, 9, noise, seed).unwrap(), (wearer, seed), way, held_out)
}

fn judged_of(subject: Subject, (wearer, seed): (usize, u64), way: Way, held_out: f32) -> Judged {
    let (subject, recipe) = match way {
        Way::Steps(recipe) => (subject, recipe),
        Way::ClosedForm => (subject.calibrated(wearer).unwrap(), Recipe::DEFAULT),
    };
    let recipe = Recipe { seed, replay_capacity: 63, held_out, ..recipe };
    let file = subject.model.pack(2).unwrap();
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = flatmin::Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    for (input, label) in &subject.adaptation {
        tuner.observe(input, *label).unwrap();
    }
    let test = |tuner: &mut flatmin::Tuner| {
        let right = |(input, label): &&(Vec<i8>, usize)| tuner.classify(input).unwrap().label == *label;
        100.0 * subject.test.iter().filter(right).count() as f64 / subject.test.len() as f64
    };
    let factory = test(&mut tuner);
    let train = |tuner: &mut flatmin::Tuner| match way {
        Way::Steps(_) => {
            tuner.start(recipe).unwrap();
            while !tuner.step().unwrap().finished {}
        }
        Way::ClosedForm => tuner.solve(recipe, &mut [], &mut || ()).unwrap(),
    };
    train(&mut tuner);
    let acceptance = tuner.accept().unwrap();
    let outputs = |tuner: &mut flatmin::Tuner, version| -> Vec<(usize, Vec<i8>)> {
        let of = |(input, label): &(Vec<i8>, usize)| (*label, tuner.infer(input, version).unwrap().to_vec());
        subject.adaptation.iter().map(of).collect()
    };
    let factory_outputs = outputs(&mut tuner, Version::Factory);
    if !acceptance.accepted {
        // The same run again, taken in any case.
        train(&mut tuner);
        tuner.requantize().unwrap();
    }
    if held_out == 0.0 {
        let gain = by_hand(&factory_outputs, &outputs(&mut tuner, Version::Tuned));
        // Within rounding of a sample's 1/4096.
        let near = gain.abs() < 0.01;
        assert!(
            near || acceptance.accepted == (gain > 0.0),
            "wearer {wearer}, draw {seed}: {gain}, {acceptance:?}"
        );
    }
    Judged { gain: test(&mut tuner) - factory, accepted: acceptance.accepted, evidence: acceptance.evidence }
}

/// How many more answers of a tail than of the factory's are right, as far as that is known without held-out samples: from
/// labels and softmax outputs, in f64, by the formulas at the head of src/tuner/beliefs.rs.
fn by_hand(factory: &[(usize, Vec<i8>)], tuned: &[(usize, Vec<i8>)]) -> f64 {
    let classes = factory[0].1.len();
    let all = classes as f64;
    let first_largest = |output: &[i8]| (0..classes).rev().max_by_key(|&class| output[class]).unwrap();
    let probability = |q: i8| (f64::from(q) + 128.0).max(0.5) / 256.0;
    let x: Vec<Vec<f64>> = (factory.iter())
        .map(|(_, output)| output.iter().map(|&q| probability(q).ln().max(-6.25)).collect())
        .collect();
    let mean = |of: &dyn Fn(usize) -> bool, prior: Option<&[f64]>| -> Option<Vec<f64>> {
        let rows: Vec<&[f64]> =
            (0..x.len()).filter(|&i| of(i)).map(|i| x[i].as_slice()).chain(prior).collect();
        let sum = |k: usize| rows.iter().map(|row| row[k]).sum::<f64>() / rows.len() as f64;
        (!rows.is_empty()).then(|| (0..classes).map(sum).collect())
    };
    let of_all = mean(&|_| true, None).unwrap();
    let before: Vec<Vec<f64>> = (0..classes)
        .map(|class| mean(&|i| first_largest(&factory[i].1) == class, Some(&of_all)).unwrap())
        .collect();
    // Probabilities by the class means without the sample itself, two samples being at the factory's.
    let own: Vec<Vec<f64>> = (0..x.len())
        .map(|i| {
            let near = |class: usize| {
                let count = (0..x.len()).filter(|&j| j != i && factory[j].0 == class).count() as f64;
                let labelled = mean(&|j| j != i && factory[j].0 == class, None).unwrap_or(vec![0.0; classes]);
                let off = |k: usize| x[i][k] - (2.0 * before[class][k] + count * labelled[k]) / (2.0 + count);
                (-0.5 * (0..classes).map(|k| off(k).powi(2)).sum::<f64>()).exp()
            };
            let p: Vec<f64> = (0..classes).map(near).collect();
            p.iter().map(|p_c| p_c / p.iter().sum::<f64>()).collect()
        })
        .collect();
    let mut share = 0.5;
    for _ in 0..4 {
        let by_means = |i: usize| {
            let [own, factory] =
                [own[i][factory[i].0], probability(factory[i].1[factory[i].0])].map(|p| 0.9 * p + 0.1 / all);
            share * own / (share * own + (1.0 - share) * factory)
        };
        share = ((0..x.len()).map(by_means).sum::<f64>() / x.len() as f64).max(0.5);
    }
    let p = |i: usize, class: usize| share * own[i][class] + (1.0 - share) * probability(factory[i].1[class]);
    let believed_most = |i: usize| (0..classes).max_by(|&a, &b| p(i, a).total_cmp(&p(i, b))).unwrap();
    let others = (0..x.len()).filter(|&i| believed_most(i) != factory[i].0).count() as f64;
    let wrong = (others / x.len() as f64 * all / (all - 1.0)).clamp(0.1, 1.0);
    let right = |i: usize, answer: usize| {
        let label = factory[i].0;
        let given = (1.0 - wrong) * p(i, label);
        (wrong / all * p(i, answer) + if answer == label { given } else { 0.0 }) / (given + wrong / all)
    };
    let gain = |i: usize| right(i, first_largest(&tuned[i].1)) - right(i, first_largest(&factory[i].1));
    (0..x.len()).map(gain).sum()
}

/// A wearer whose watch is turned about the axis of its display: accelerations and rates alike, in quantized steps.
fn turned(mut subject: Subject, degrees: f64) -> Subject {
    let zero_point = f64::from(input_affine(&subject.model).unwrap().zero_point);
    let (sin, cos) = degrees.to_radians().sin_cos();
    for (input, _) in subject.adaptation.iter_mut().chain(&mut subject.test) {
        for axes in input.chunks_exact_mut(3) {
            let [along, across] = [axes[0], axes[1]].map(|q| f64::from(q) - zero_point);
            let turned = [cos * along - sin * across, sin * along + cos * across];
            [axes[0], axes[1]] = turned.map(|value| (value + zero_point).round().clamp(-128.0, 127.0) as i8);
        }
    }
    subject
}

/// A factory that answers one window in five right is the very one whose owner needs another head, and it calls most right labels
/// wrong: the samples' own agreement has to speak for them.
#[test]
fn a_factory_that_no_longer_fits_does_not_keep_itself_in_force() {
    for (noise, least) in [(0.0, 0.9), (0.2, 0.8)] {
        let work: Vec<(usize, u64)> =
            (1..=10).flat_map(|wearer| [(wearer, 2_201), (wearer, 2_202)]).collect();
        let runs: Vec<Judged> = (work.par_iter())
            .map(|&(wearer, seed)| {
                let subject = turned(Subject::wearer(wearer, 9, noise, seed).unwrap(), 90.0);
                judged_of(subject, (wearer, seed), Way::ClosedForm, 0.0)
            })
            .collect();
        let ([better, _], [helped, _], mean) = shares(&runs);
        println!("{noise} flipped: {better:.2} of {helped} that help are taken, {mean:+.1} points");
        assert!(
            helped >= 15 && better >= least && mean > 15.0,
            "{noise} flipped: {better} of {helped}, {mean:+.1} points"
        );
    }
    let random: Vec<Judged> = (1..=10)
        .map(|wearer| {
            let subject = turned(Subject::wearer(wearer, 9, 6.0 / 7.0, 2_203).unwrap(), 90.0);
            judged_of(subject, (wearer, 2_203), Way::ClosedForm, 0.0)
        })
        .collect();
    let taken = random.iter().filter(|run| run.accepted).count();
    assert!(taken <= 1, "{taken} of 10 tails that learnt random labels are taken");
}

/// Shares of the runs that are better by 2 points or more, and worse by 2 or more, that were taken; how many there are; and
/// the mean gain of what is then in force.
fn shares(runs: &[Judged]) -> ([f64; 2], [usize; 2], f64) {
    let of =
        |better: bool| runs.iter().filter(move |run| if better { run.gain >= 2.0 } else { run.gain <= -2.0 });
    let counts = [true, false].map(|better| of(better).count());
    let taken = [true, false].map(|better| of(better).filter(|run| run.accepted).count());
    let mean = runs.iter().filter(|run| run.accepted).map(|run| run.gain).sum::<f64>() / runs.len() as f64;
    ([0, 1].map(|kind| taken[kind] as f64 / counts[kind].max(1) as f64), counts, mean)
}

/// Two draws of each wearer, none, a fifth and two fifths of the labels flipped: the default, steps ten times too large, and
/// the head in closed form, which is best judged without any sample held out. Against what the test samples say, at bounds
/// that leave room for few runs.
#[test]
fn the_gate_takes_what_helps_and_refuses_most_of_what_harms() {
    let hot = Recipe { learning_rate: 10.0 * Recipe::DEFAULT.learning_rate, ..Recipe::DEFAULT };
    let ways = [
        ("default", Way::Steps(Recipe::DEFAULT), 0.2),
        ("steps too large", Way::Steps(hot), 0.2),
        ("closed form", Way::ClosedForm, 0.0),
    ];
    let mut all = Vec::new();
    for (name, way, held_out) in ways {
        let mut work = Vec::new();
        for wearer in 1..=10 {
            for seed in [2_001, 2_002] {
                work.extend([0.0, 0.2, 0.4].map(|noise| (wearer, seed, noise)));
            }
        }
        let runs: Vec<Judged> = (work.par_iter())
            .map(|&(wearer, seed, noise)| judged(wearer, seed, noise, way, held_out))
            .collect();
        let ([better, worse], [helped, harmed], mean) = shares(&runs);
        let always = runs.iter().map(|run| run.gain).sum::<f64>() / runs.len() as f64;
        println!(
            "{name}: takes {:.0} % of {helped} that help, {:.0} % of {harmed} that harm; {mean:+.2} points, {always:+.2} without it",
            100.0 * better,
            100.0 * worse
        );
        assert!(helped >= 8, "no test of what helps");
        assert!(better >= 0.65, "{name}: {better} of those that help are taken");
        // The gate does not cost the mean, and what is then in force is better than the factory's.
        assert!(mean > always - 0.3 && mean > 0.5, "{name}: {mean}, {always} without the gate");
        all.extend(runs);
    }
    let ([_, worse], [_, harmed], _) = shares(&all);
    assert!(harmed >= 20 && worse <= 0.15, "{worse} of {harmed} that harm are taken");
    let few = all.iter().filter(|run| run.evidence == Evidence::TooFew).count();
    assert!(few > 0, "the samples always tell");
}

/// Labels of another class, all of them: whatever the recipe, the factory's tail stays.
#[test]
fn labels_at_random_are_never_learnt() {
    for wearer in 1..=10 {
        for held_out in [0.0, 0.2] {
            let run = judged(wearer, 2_003, 6.0 / 7.0, Way::Steps(Recipe::DEFAULT), held_out);
            assert!(!run.accepted && run.gain < -5.0, "wearer {wearer}: {run:?}");
        }
    }
}

/// What the planner advises within 160 KiB, the default through the gate, the default, and the factory, on the same draws: mean
/// accuracies of the int8 tails in percent, and the mean differences with their standard errors.
fn order(wearers: &[usize], seeds: &[u64], depth: usize, trials: usize) {
    let work: Vec<(usize, u64)> =
        wearers.iter().flat_map(|&wearer| seeds.iter().map(move |&seed| (wearer, seed))).collect();
    let runs: Vec<[f64; 4]> = (work.par_iter())
        .map(|&(wearer, seed)| {
            let subject = Subject::wearer(wearer, 9, 0.0, seed).unwrap().calibrated(wearer).unwrap();
            let recipe = Hyperparameters { seed: Some(seed), ..Hyperparameters::default() };
            let base = RecipeFile { recipe, ..RecipeFile::default() };
            let budget = Budget { ram_bytes: Some(160 << 10), step_macs: None };
            let hidden = ProgressBar::hidden();
            let found =
                planning::search(&subject, &base, &Tails::Within(depth), budget, trials, &hidden).unwrap();
            let default = tune(&subject, 2, Recipe { seed, ..Recipe::DEFAULT }, || ()).unwrap();
            let chosen = found.chosen.as_ref();
            let advised = chosen.and_then(|own| own.test_accuracy).unwrap_or(default.factory_accuracy);
            println!(
                "wearer {wearer}, draw {seed}: {:.1}, default {:.1}: {} {}",
                100.0 * advised,
                100.0 * default.accuracy_int8,
                chosen.map_or(String::new(), |own| own.options()),
                chosen.map_or("factory", |own| &own.recipe)
            );
            let gate = judged(wearer, seed, 0.0, Way::Steps(Recipe::DEFAULT), 0.2);
            let [advised, default, factory] =
                [advised, default.accuracy_int8, default.factory_accuracy].map(|share| 100.0 * share);
            [advised, default, if gate.accepted { factory + gate.gain } else { factory }, factory]
        })
        .collect();
    let n = runs.len() as f64;
    let mean = |of: &dyn Fn(&[f64; 4]) -> f64| runs.iter().map(of).sum::<f64>() / n;
    let [advised, default, gated, factory] = [0, 1, 2, 3].map(|place| mean(&|run| run[place]));
    println!(
        "{n} draws: advised {advised:.2}, default {default:.2}, gated {gated:.2}, factory {factory:.2} %"
    );
    for (better, worse, name) in
        [(0, 1, "advice against default"), (1, 3, "default against factory"), (2, 3, "gate against factory")]
    {
        let difference = mean(&|run| run[better] - run[worse]);
        let variance = mean(&|run| (run[better] - run[worse] - difference).powi(2)) * n / (n - 1.0);
        let error = (variance / n).sqrt();
        println!("{name}: {difference:+.2} +- {error:.2}");
        assert!(difference >= -error.max(0.5), "{name}: {difference:+.2} +- {error:.2}");
    }
}

#[test]
fn advice_default_and_factory_are_in_this_order() {
    order(&[1, 5, 9], &[1], 2, 40);
}

/// The whole of it takes minutes: `cargo test --release -p flatmin-sim -- --ignored order`.
#[test]
#[ignore = "takes minutes"]
fn the_order_holds_over_ten_wearers_and_three_draws() {
    order(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[1, 2, 3], 8, TRIALS);
}

/// Nothing tuned, nothing held out, nothing refused: the head in closed form, and with SAM all seven layers from it, on draws
/// that had no say in any choice. Mean accuracy in int8 over the wearers, by share of flipped labels.
#[test]
fn the_default_is_not_below_the_factory() {
    for noise in [0.0, 0.4] {
        let gains: Vec<[f64; 2]> = (1..=10)
            .into_par_iter()
            .map(|wearer| {
                let subject = Subject::wearer(wearer, 9, noise, 2_101).unwrap().calibrated(wearer).unwrap();
                let recipe = Start::ClosedForm.recipe(Method::Sam, Optimizer::Sgd);
                let steps = Training::steps(Tail::Full, recipe);
                let steps = Training { start: Start::ClosedForm, curve: false, ..steps };
                [Training::closed_form(Recipe::DEFAULT), steps].map(|training| {
                    let run = train(&subject, 7, &training, || ()).unwrap();
                    100.0 * (run.accuracy_int8 - run.factory_accuracy)
                })
            })
            .collect();
        for (way, name) in ["closed form", "SAM"].into_iter().enumerate() {
            let mean = gains.iter().map(|own| own[way]).sum::<f64>() / gains.len() as f64;
            println!("{name}, {noise} flipped: {mean:+.2} points over the factory");
            assert!(mean > 0.5, "{name}, {noise} flipped: {mean:+.2} points over the factory");
        }
    }
}
