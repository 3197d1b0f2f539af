//! A class that is added to a network of few features, which its known classes share.

use crate::normalized::{Builder, with_layers};
use flatmin::{Method, Recipe, Tuner, Version};
use flatmin_model::graph::{Activation, Graph, Kind};
use flatmin_model::model::Model;
use flatmin_model::packer::lower;
use flatmin_sim::subject::{Labelled, Origin, Subject};
use flatmin_sim::tuning::{observe_all, sized, tuner_arena};
use flatmin_sim::wearers::SplitMix64;

const CLASSES: usize = 5;
const INPUTS: usize = 24;

/// 24 inputs, so many hidden features, five classes; random.
fn graph(features: usize, seed: u64) -> Graph {
    let graph = Graph::default();
    let mut b = Builder { graph, random: SplitMix64::new(seed) };
    let input = b.activation(&[1, INPUTS], 0.03, 0);
    let to = b.activation(&[1, features], 0.025, -128);
    let x = b.weighted(Kind::FullyConnected(Activation::Relu), &[features, INPUTS], input, to);
    let to = b.activation(&[1, CLASSES], 0.1, 0);
    let logits = b.weighted(Kind::FullyConnected(Activation::None), &[CLASSES, features], x, to);
    let to = b.activation(&[1, CLASSES], 1.0 / 256.0, -128);
    let output = b.operator("SOFTMAX", Kind::Softmax(1.0), &[logits], to);
    (b.graph.inputs, b.graph.outputs) = (vec![input], vec![output]);
    b.graph
}

/// Classes about means of their own, and three directions in which all of them vary four times as far as their means lie apart.
struct Task {
    means: Vec<Vec<f64>>,
    shared: Vec<Vec<f64>>,
    random: SplitMix64,
}

impl Task {
    fn new(seed: u64) -> Self {
        let mut own = Self { means: vec![], shared: vec![], random: SplitMix64::new(seed) };
        own.means = (0..CLASSES).map(|_| own.draws(INPUTS)).collect();
        own.shared = (0..3).map(|_| own.draws(INPUTS)).collect();
        own
    }

    /// About normal, of variance 1.
    fn draws(&mut self, count: usize) -> Vec<f64> {
        let mut uniform = || (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
    }

    fn samples(&mut self, each: usize) -> Vec<Labelled> {
        (0..each * CLASSES)
            .map(|index| {
                let label = index % CLASSES;
                let (along, noise) = (self.draws(3), self.draws(INPUTS));
                let value = |i: usize| {
                    let shared: f64 = along.iter().zip(&self.shared).map(|(a, s)| 3.0 * a * s[i]).sum();
                    (9.0 * (self.means[label][i] + shared + 0.5 * noise[i])) as i8
                };
                ((0..INPUTS).map(value).collect(), label)
            })
            .collect()
    }
}

/// A trained network, and few samples of each class.
fn subject(features: usize, seed: u64, each: usize) -> Subject {
    let mut task = Task::new(1000 + seed);
    let network = lower(&graph(features, seed)).unwrap();
    let mut subject = Subject {
        name: format!("{features} features"),
        model: Model::of_network("generated".into(), network),
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        adaptation: task.samples(100),
        test: task.samples(100),
        origin: Origin::default(),
    };
    let recipe = Recipe {
        method: Method::Sgd,
        learning_rate: 0.02,
        epochs: 40,
        replay_capacity: 500,
        ..Recipe::DEFAULT
    };
    let file = subject.model.pack(2).unwrap();
    let recipe = sized(&subject, recipe).unwrap();
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    observe_all(&mut tuner, &subject, &|| ()).unwrap();
    tuner.start(recipe).unwrap();
    while !tuner.step().unwrap().finished {}
    tuner.requantize().unwrap();
    let tuned = with_layers(graph(features, seed), &subject.model.network, &tuner);
    subject.model = Model::of_network("trained".into(), lower(&tuned).unwrap());
    subject.adaptation = task.samples(each);
    subject
}

/// Shares of the old and the new classes' test samples that are right, before and after the class is added, in int8.
fn accuracies(subject: &Subject) -> [[f64; 2]; 2] {
    let file = subject.model.pack(1).unwrap();
    let recipe = sized(subject, Recipe { method: Method::Sgd, ..Recipe::DEFAULT }).unwrap();
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    for (input, label) in &subject.adaptation {
        tuner.observe(input, *label).unwrap();
    }
    tuner.add_class().unwrap();
    tuner.requantize().unwrap();
    [Version::Factory, Version::Tuned].map(|version| {
        let mut counts = [[0u32; 2]; 2];
        for (input, label) in &subject.test {
            let output = tuner.infer(input, version).unwrap().to_vec();
            let [right, all] = &mut counts[usize::from(*label == CLASSES - 1)];
            *right += u32::from(tuner.answer(&output, version) == *label);
            *all += 1;
        }
        counts.map(|[right, all]| f64::from(right) / f64::from(all))
    })
}

#[test]
fn the_old_classes_of_few_features_lose_little() {
    for features in [16, 32, 64] {
        for seed in 1..=3 {
            let subject = subject(features, seed, 10).leaving_out(1).unwrap();
            let [before, after] = accuracies(&subject);
            assert!(before[0] > 0.8, "{features} features, seed {seed}: {before:?}");
            assert!(after[0] > before[0] - 0.05, "{features} features, seed {seed}: {before:?}, {after:?}");
            assert!(after[1] > 0.8, "{features} features, seed {seed}: {after:?}");
        }
    }
}
