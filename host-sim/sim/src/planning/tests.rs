use super::*;

fn candidate(layers: usize) -> Candidate {
    let method = NamedMethod::Steps(Recipe::DEFAULT.method);
    Candidate::usual(&RecipeFile::default(), TailPlan::of(layers), method, Start::Factory)
}

/// A candidate that has met a whole split of 20 samples, the first of which it gets right.
fn measured(layers: usize, ram_bytes: usize, loss: f64, right: usize) -> Measured {
    let mut own = Measured::new(candidate(layers), Cost { ram_bytes, step_macs: 1, parameters: 1 }, 20);
    for fold in 0..FOLDS {
        let judges = (0..20).filter(|sample| sample % FOLDS == fold);
        let right: Vec<(usize, bool)> = judges.map(|sample| (sample, sample < right)).collect();
        let samples = right.len() as f64;
        own.add(&findings::Outcome { right, factory_loss: samples, loss: loss * samples });
    }
    own
}

#[test]
fn trials_add_up() {
    let own = measured(2, 100, 0.25, 15);
    assert_eq!((own.trials, own.accuracy, own.factory_loss, own.loss), (3, 0.75, 1.0, 0.25));
    assert_eq!(own.evidence(&measured(2, 100, 0.5, 9)), Evidence::Better);
    assert_eq!(own.evidence_over(&[true; 20]), Evidence::Worse);
}

#[test]
fn the_frontier_holds_what_nothing_cheaper_beats() {
    let all = [(300, 0.2), (100, 0.5), (200, 0.6), (150, 0.4), (400, 0.2), (150, 0.3)];
    let mut all = all.map(|(ram, loss)| measured(1, ram, loss, 10)).to_vec();
    // What has met one part of the samples alone is not compared with the others.
    let mut lucky = Measured::new(candidate(1), Cost { ram_bytes: 50, step_macs: 1, parameters: 1 }, 20);
    lucky.add(&findings::Outcome { right: vec![(0, true)], factory_loss: 1.0, loss: 0.1 });
    all.push(lucky);
    let found: Vec<_> = findings::frontier(&all).iter().map(|own| (own.ram_bytes, own.loss)).collect();
    let rounded = found.iter().map(|(ram, loss)| (*ram, (loss * 10.0).round() as usize)).collect::<Vec<_>>();
    assert_eq!(rounded, [(100, 5), (150, 3), (300, 2)]);
    // A head in closed form may have more right answers at a greater loss.
    all.push(measured(1, 180, 0.9, 15));
    all.push(measured(1, 190, 0.9, 15));
    let found: Vec<usize> = findings::frontier(&all).iter().map(|own| own.ram_bytes).collect();
    assert_eq!(found, [100, 150, 180, 300]);
}

#[test]
fn frozen_layers_in_front_shorten_the_tail() {
    let [all, none] = [Trains::All, Trains::Nothing];
    assert_eq!(plan_of(&[none, all, all]), TailPlan::of(2));
    let sparse = plan_of(&[none, Trains::Scales, none, all]);
    assert_eq!(sparse, TailPlan { layers: 3, trains: vec![Trains::Scales, none, all] });
}

#[test]
fn the_default_gives_way_to_what_is_shown_to_be_better_alone() {
    let own = |layers: usize, right: usize| measured(layers, 100, 0.5, right);
    let factory: Vec<bool> = (0..20).map(|sample| sample < 9).collect();
    // Two standard deviations of four samples are four, of five they are 4.5.
    let [default, four_more, five_more] = [own(2, 10), own(3, 14), own(4, 15)];
    let chosen = |all: &[Measured], default: bool| {
        choose(all, all.first().filter(|_| default), &factory).map(|own| own.layers)
    };
    assert_eq!(chosen(&[default.clone(), four_more.clone()], true), Some(2));
    assert_eq!(chosen(&[default, four_more.clone(), five_more.clone()], true), Some(4));
    assert_eq!(chosen(&[four_more, five_more.clone()], false), Some(4), "the default is beyond the budget");
    assert_eq!(chosen(&[], false), None);
    assert_eq!(chosen(&[own(2, 4)], true), None, "worse than the factory's");
    assert_eq!(chosen(&[own(2, 4), five_more], true), Some(4));
    // Surer than it should be, and right more often: the factory's loss is 1.
    let [sure, no_better] = [measured(1, 100, 1.2, 18), measured(1, 100, 1.2, 10)];
    assert_eq!(chosen(&[own(2, 10), sure], true), Some(1));
    assert_eq!(chosen(&[no_better], true), None);
}

#[test]
fn folds_share_no_sample_and_every_class_alike() {
    let samples: Vec<Labelled> = (0..36).map(|index| (Vec::new(), index % 4)).collect();
    let folds = folds(&samples, 4, 7);
    let mut judged = [0; 36];
    for (own, other) in &folds {
        assert_eq!((own.len(), other.len()), (24, 12));
        assert!(own.iter().all(|index| !other.contains(index)));
        other.iter().for_each(|&index| judged[index] += 1);
        for class in 0..4 {
            assert_eq!(other.iter().filter(|&&index| samples[index].1 == class).count(), 3);
        }
    }
    assert!(judged.iter().all(|&times| times == 1));
}

#[test]
fn what_learns_is_chosen_before_what_wrecks() {
    let subject = Subject::wearer(3, 9, 0.0, 1).unwrap();
    let objective = Objective::new(&subject, Budget::default(), &Recipe::DEFAULT).unwrap();
    let with_rate =
        |learning_rate| Candidate { recipe: Recipe { learning_rate, ..Recipe::DEFAULT }, ..candidate(2) };
    let [good, wrecked] = [0.002, 50.0].map(|rate| objective.evaluate(&with_rate(rate)).unwrap());
    assert!(good.accuracy > wrecked.accuracy + 0.1 && good.gain() > 0.0, "{good:?} {wrecked:?}");
    assert_eq!(good.trials, 6);
}

#[test]
fn draws_are_recipes_of_the_device_and_keep_what_is_given() {
    let space = Space::new(3);
    let given = RecipeFile::parse("version = 1\n[recipe]\nmethod = \"asam\"\nepochs = 7").unwrap();
    let mut random = SplitMix64::new(1);
    for _ in 0..200 {
        let own = space.draw(&mut random, &RecipeFile::default(), &TailPlan::of(2), Start::Factory);
        assert!(own.recipe.check().is_ok() && own.file(Limits::default(), 63).to_text().is_ok());
        let own = space.draw(&mut random, &given, &TailPlan::of(2), Start::Factory);
        assert_eq!((own.recipe.method, own.recipe.epochs), (flatmin::Method::Asam, 7));
    }
}

/// One seed gives one answer, in no more trials than asked for, except the default's and those that are named.
#[test]
fn a_search_is_repeated_by_its_seed() {
    let subject = Subject::wearer(2, 4, 0.0, 1).unwrap();
    let base = RecipeFile::parse("version = 1\n[recipe]\nepochs = 2").unwrap();
    let found = |trials| {
        let budget = Budget { ram_bytes: Some(72 << 10), step_macs: None };
        search(&subject, &base, &Tails::Within(3), budget, trials, &ProgressBar::hidden()).unwrap()
    };
    let [first, again] = [found(40), found(40)].map(|found| serde_json::to_string(&found).unwrap());
    assert_eq!(first, again);
    let found = found(40);
    assert!((20..=40).contains(&found.trials), "{}", found.trials);
    assert!(found.measured.iter().all(|own| own.ram_bytes <= 72 << 10));
}
