//! Tails of any layers against an f64 reference that knows nothing of plans and workspaces: the loss, and the gradient
//! by finite differences.

mod kitchen_sink;
mod losses;
mod over_the_link;
mod reference;
use crate::skipping;

use crate::skipping::shared;
use flatmin::internals::pack::format::node::UNIT_INPUT;
use flatmin::internals::pack::format::operator::{DEPTHWISE_CONV_2D, FULLY_CONNECTED};
use flatmin::internals::pack::format::{UNIT_VERSION, VERSION, header};
use flatmin::internals::pack::{TailNode, TrainedLayer};
use flatmin::{BiasTreatment, MemoryPlan, Method, Pack, Recipe, Tuner, Version};
use flatmin::{
    Loss,
    internals::{
        label::Target,
        tail::{PackedTail, Tail},
    },
};
use flatmin_model::model::Model;
use flatmin_model::packer::{Network, TailPlan, Trains, lower, pack_tail};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

const LABEL: usize = 1;

fn arena(bytes: usize) -> Vec<u128> {
    vec![0; bytes.div_ceil(16)]
}

fn input(network: &Network, seed: u64) -> Vec<i8> {
    pseudo_random(network.tensors[network.inputs[0].tensor].len(), seed)
}

fn pseudo_random(length: usize, seed: u64) -> Vec<i8> {
    let mut random = Pcg32::seed_from_u64(seed);
    (0..length).map(|_| random.next_u32().to_le_bytes()[3].cast_signed()).collect()
}

/// The features' tensors in the order of the latent: found by their places, which are as different as they are alive.
fn features(network: &Network, pack: &Pack, latent: &[i8]) -> Vec<(usize, Vec<i8>)> {
    let plan = flatmin_model::packer::plan(network);
    let mut rest = latent;
    let cut = usize::from(pack.trunk_operators());
    pack.features()
        .map(|feature| {
            let (own, behind) = rest.split_at(feature.len());
            rest = behind;
            let read = network.steps[cut..].iter().flat_map(|s| s.inputs().chain([s.output]));
            let tensor = read
                .filter(|&t| network.tensors[t].constant.is_none())
                .find(|&t| plan.offsets[t] == feature.arena_offset && network.tensors[t].len() == own.len());
            (tensor.expect("the feature is read"), own.to_vec())
        })
        .collect()
}

/// Whether a feature is in the pack's unit, and not in real values.
fn in_units(pack: &Pack, feature: usize) -> bool {
    let reads = |node: TailNode| {
        node.is(UNIT_INPUT) && node.input.is_some_and(|input| usize::from(input.index) == feature)
    };
    pack.tail_is_chain() || pack.nodes().any(reads)
}

/// Checks one tail; returns how many parameters were checked.
fn check(name: &str, network: &Network, plan: &TailPlan) -> usize {
    let file = pack_tail(network, 0, plan).unwrap_or_else(|e| panic!("{name} {plan:?}: {e}"));
    let pack = file.pack();
    let recipe = Recipe { replay_capacity: 2, ..Recipe::DEFAULT };
    let mut words = arena(MemoryPlan::new(&pack.sizes(), &recipe).total_bytes());
    let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    let latent = tuner.latent(&input(network, 7)).unwrap().to_vec();
    let mut parameters = tuner.weights().to_vec();
    if !plan.trains.is_empty() {
        // Away from the factory: gains begin at 1, where a factor too many or too few does not show.
        let mut random = Pcg32::seed_from_u64(5);
        let mut factor = || 0.8 + 0.4 * (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
        parameters.iter_mut().for_each(|w| *w *= factor());
    }
    let tail = PackedTail::of(&pack).unwrap();
    assert_eq!(tail.segments().map(|s| s.length).sum::<usize>(), parameters.len());

    let units: Vec<f32> = pack
        .features()
        .enumerate()
        .flat_map(|(index, t)| {
            let unit = if in_units(&pack, index) { pack.feature_unit() } else { t.affine.scale };
            vec![(unit, t.affine.zero_point); t.len()]
        })
        .zip(&latent)
        .map(|((unit, zero), &q)| unit * (i32::from(q) - zero) as f32)
        .collect();
    let mut workspace = vec![f32::NAN; tail.workspace_floats()];
    workspace[..units.len()].copy_from_slice(&units);
    // A target of an autoencoder that was asked for a copy of something else.
    let output = pack.output();
    let values = pseudo_random(output.len(), 21);
    let (target, exact_target) = match pack.loss() {
        Loss::CrossEntropy => (Target::from(LABEL), reference::Target::Class(LABEL)),
        Loss::BinaryCrossEntropy => (Target::from(LABEL), reference::Target::Bits(LABEL)),
        Loss::SquaredError => {
            let affine = output.affine;
            let exact = |&q: &i8| f64::from(affine.scale) * f64::from(i32::from(q) - affine.zero_point);
            let exact = values.iter().map(exact).collect();
            (Target::Values { values: &values, affine }, reference::Target::Values(exact))
        }
    };
    let loss = f64::from(tail.forward_loss(&parameters, target, &mut workspace));
    let logits = tail.output(&workspace).to_vec();
    let mut gradient = vec![0.0; parameters.len()];
    tail.backward(&parameters, 1.0, BiasTreatment::Unit, &mut workspace, &mut gradient);

    // The weights that features in the pack's unit meet have the scale folded in: the reference wants them bare.
    let folded: Vec<_> =
        pack.trained_layers().filter(|layer| layer.unit_input && layer.trains_weights).collect();
    let factor = |i: usize| {
        let own = |layer: &&TrainedLayer| {
            (layer.parameters..layer.parameters + layer.trained_weights()).contains(&i)
        };
        let scale = folded.iter().find(own).map(|layer| f64::from(layer.input.scale));
        scale.map_or(1.0, |scale| f64::from(pack.feature_unit()) / scale)
    };
    let wide: Vec<f64> = parameters.iter().enumerate().map(|(i, &w)| f64::from(w) * factor(i)).collect();
    let features = features(network, &pack, &latent);
    let of =
        |wide: &[f64]| reference::loss(&reference::logits(network, plan, &features, wide), &exact_target);
    let exact = of(&wide);
    assert!(
        (loss - exact).abs() < 2e-5 * exact.abs().max(1.0),
        "{name} {plan:?}: loss {loss}, reference {exact}"
    );
    let exact_logits = reference::logits(network, plan, &features, &wide);
    let largest = exact_logits.iter().fold(1e-3f64, |m, z| m.max(z.abs()));
    for (z, exact) in logits.iter().zip(exact_logits) {
        assert!(
            (f64::from(*z) - exact).abs() < 2e-5 * largest,
            "{name} {plan:?}: logit {z}, reference {exact}"
        );
    }

    let scale = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
    let mut random = Pcg32::seed_from_u64(11);
    let (mut checked, mut kinks) = (0, 0);
    // Some of every segment: large layers must not hide small ones.
    let mut start = 0;
    for segment in tail.segments() {
        for _ in 0..segment.length.min(6) {
            let i = start + random.next_u32() as usize % segment.length;
            let difference = |h: f64| {
                let mut moved = wide.clone();
                moved[i] += h;
                let above = of(&moved);
                moved[i] -= 2.0 * h;
                (above - of(&moved)) / (2.0 * h)
            };
            let h = 1e-5 * wide[i].abs().max(0.02);
            let (near, far) = (difference(h), difference(2.0 * h));
            // Between two steps that disagree lies a kink of a ReLU.
            if (near - far).abs() > 1e-4 * f64::from(scale) {
                kinks += 1;
                continue;
            }
            let found = f64::from(gradient[i]) / factor(i);
            let bound = 5e-4 * f64::from(scale) / factor(i).min(1.0) + 1e-7;
            assert!(
                (found - near).abs() < bound,
                "{name} {plan:?}: parameter {i}: {found}, differences say {near}"
            );
            checked += 1;
        }
        start += segment.length;
    }
    assert!(
        checked > 0 && kinks * 5 <= checked + 5,
        "{name} {plan:?}: {kinks} kinks beside {checked} parameters"
    );
    checked
}

#[test]
fn every_operator_of_a_tail_hands_its_gradient_down() {
    for seed in 1..=3 {
        let network = lower(&kitchen_sink::graph(seed)).unwrap();
        let all = network.trainable_layers();
        assert_eq!(all, 9);
        for layers in 1..=all {
            check("kitchen sink", &network, &TailPlan::of(layers));
        }
        // Sparse: some layers frozen, some with their biases alone.
        let mixed = |first: usize| {
            (0..all).map(|i| [Trains::Biases, Trains::Nothing, Trains::All][(i + first) % 3]).collect()
        };
        for first in 0..3 {
            check("kitchen sink", &network, &TailPlan { layers: all, trains: mixed(first) });
        }
        // The first layer reads the features, in whichever unit.
        for layers in (2..=all).filter(|_| seed == 1) {
            for first in [Trains::Nothing, Trains::Biases, Trains::Scales, Trains::Percent(40)] {
                let mut plan = sparse(&network, layers, &[first]);
                plan.trains.truncate(1);
                check("kitchen sink", &network, &plan);
            }
        }
        for trains in [Trains::Biases, Trains::Scales] {
            check("kitchen sink", &network, &TailPlan { layers: all, trains: vec![trains; all] });
        }
        for (first, others) in [
            (Trains::Percent(30), Trains::Scales),
            (Trains::Channels(2), Trains::All),
            (Trains::Channels(1), Trains::Nothing),
        ] {
            check("kitchen sink", &network, &sparse(&network, all, &[first, others]));
            check("kitchen sink", &network, &sparse(&network, all, &[others, first]));
        }
    }
}

/// What the layers of a tail are trained in turn; depthwise ones, which have no shares, their scales instead.
fn sparse(network: &Network, layers: usize, turns: &[Trains]) -> TailPlan {
    let weighted = network.steps[network.cut(layers)..].iter().filter(|step| step.has_weights());
    let trains = weighted.enumerate().map(|(layer, step)| match turns[layer % turns.len()] {
        Trains::Percent(_) | Trains::Channels(_) if step.kind == DEPTHWISE_CONV_2D => Trains::Scales,
        trains => trains,
    });
    TailPlan { layers, trains: trains.collect() }
}

#[test]
fn a_share_of_a_depthwise_layer_is_refused() {
    let network = lower(&kitchen_sink::graph(1)).unwrap();
    let plan = TailPlan { layers: 9, trains: vec![Trains::Channels(1); 9] };
    let refused = pack_tail(&network, 0, &plan).unwrap_err().to_string();
    assert!(refused.ends_with("train all, its scales or its biases"), "{refused}");
}

#[test]
fn a_tail_of_frozen_layers_is_refused() {
    let network = lower(&kitchen_sink::graph(1)).unwrap();
    let plan = TailPlan { layers: 2, trains: vec![Trains::Nothing; 2] };
    assert_eq!(
        pack_tail(&network, 0, &plan).unwrap_err().to_string(),
        "cannot train nothing: name a layer to train, weights or biases"
    );
}

/// Tunes on samples of one class; the int8 tail must take to it, and untouched it must answer as packed.
#[test]
fn tuning_any_depth_lowers_the_loss_and_survives_rounding() {
    let network = lower(&kitchen_sink::graph(1)).unwrap();
    let shares = sparse(&network, 9, &[Trains::Percent(40), Trains::Scales]);
    let plans = [1, 3, 6, 9].map(TailPlan::of).into_iter().chain([shares]);
    for (plan, layers) in plans.map(|plan| (plan.clone(), plan.layers)) {
        for method in [Method::Sgd, Method::Sam, Method::Asam] {
            let file = pack_tail(&network, 0, &plan).unwrap();
            let pack = file.pack();
            let rho = if method == Method::Asam { 0.02 } else { 0.005 };
            let recipe = Recipe {
                method,
                rho,
                label_smoothing: 0.0,
                learning_rate: 0.01,
                epochs: 40,
                minibatch: 4,
                replay_capacity: 8,
                ..Recipe::DEFAULT
            };
            let mut words = arena(pack.sizes().train_bytes(&recipe));
            let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
            for sample in 0..8 {
                tuner.observe(&input(&network, sample), usize::from(sample % 2 == 0) * 3).unwrap();
            }
            // Requantized as it was, the tail answers like the factory's, but for the new ranges' rounding.
            tuner.requantize().unwrap();
            for sample in 0..8 {
                let factory = tuner.infer(&input(&network, sample), Version::Factory).unwrap().to_vec();
                let tuned = tuner.infer(&input(&network, sample), Version::Tuned).unwrap();
                let largest =
                    factory.iter().zip(tuned).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max();
                assert!(largest.unwrap() <= 24, "{layers} layers: {factory:?} {tuned:?}");
            }
            let before = tuner.evaluate(0.01).unwrap();
            tuner.start(recipe).unwrap();
            while !tuner.step().unwrap().finished {}
            let after = tuner.evaluate(0.01).unwrap();
            assert!(
                after.loss < before.loss * if layers == 1 { 0.9 } else { 0.7 },
                "{layers} {method:?}: {} after {}",
                after.loss,
                before.loss
            );
            assert!(before.rise > 0.0 || method == Method::Sgd, "{before:?}");
            tuner.requantize().unwrap();
            let right = (0..8).filter(|&sample| {
                let answer = tuner.infer(&input(&network, sample), Version::Tuned).unwrap();
                let largest = answer.iter().enumerate().max_by_key(|(_, q)| **q).unwrap().0;
                largest == usize::from(sample % 2 == 0) * 3
            });
            let right = right.count() as f32 / 8.0;
            assert!(
                right >= after.accuracy - 0.13,
                "{layers} {method:?}: int8 {right}, f32 {}",
                after.accuracy
            );
        }
    }
}

/// The weights after one step on some samples.
fn stepped(network: &Network, plan: &TailPlan, recipe: Recipe) -> (bool, Vec<f32>) {
    let file = pack_tail(network, 0, plan).unwrap();
    let pack = file.pack();
    assert_ne!(pack.feature().affine.scale, 1.0 / 128.0, "the features' scale is the unit by chance");
    let mut words = arena(pack.sizes().train_bytes(&recipe));
    let mut tuner = Tuner::new(pack, recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    for sample in 0..8 {
        tuner.observe(&input(network, sample), usize::from(sample % 2 == 0) * 3).unwrap();
    }
    tuner.start(recipe).unwrap();
    tuner.step().unwrap();
    (pack.tail_is_chain(), tuner.weights().to_vec())
}

#[test]
fn a_layer_takes_the_same_step_in_a_chain_and_in_a_graph() {
    let network = lower(&kitchen_sink::graph(1)).unwrap();
    let last = network.steps.iter().rfind(|step| step.has_weights()).unwrap();
    let outputs = last.constants.biases.len();
    for method in [Method::Sgd, Method::Sam, Method::Asam] {
        let recipe = Recipe {
            method,
            sharpness_batch: 8,
            rho: 0.05,
            learning_rate: 0.1,
            label_smoothing: 0.0,
            epochs: 1,
            minibatch: 8,
            replay_capacity: 8,
            held_out: 0.0,
            ..Recipe::DEFAULT
        };
        let share = |trains| TailPlan { layers: 1, trains: vec![trains] };
        let (is_chain, chain) = stepped(&network, &TailPlan::of(1), recipe);
        let (also_chain, graph) = stepped(&network, &share(Trains::Percent(100)), recipe);
        assert!(is_chain && !also_chain);
        let biases = chain.len() - outputs;
        let alike = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                assert!((a - b).abs() <= 1e-5 * a.abs().max(1e-2), "{method:?}, parameter {i}: {a} and {b}");
            }
        };
        alike(&chain, &graph);
        if method == Method::Sgd {
            // Only the biases are compared: the weights are frozen in one of the two.
            let (_, bare) = stepped(&network, &share(Trains::Biases), recipe);
            alike(&chain[biases..], &bare);
        }
    }
}

#[test]
fn features_in_units_are_refused_in_a_version_without() {
    let network = lower(&kitchen_sink::graph(1)).unwrap();
    let file = pack_tail(&network, 0, &TailPlan { layers: 1, trains: vec![Trains::Percent(100)] }).unwrap();
    let mut words = arena(file.bytes().len());
    let bytes = &mut bytemuck::cast_slice_mut::<_, u8>(&mut words)[..file.bytes().len()];
    bytes.copy_from_slice(file.bytes());
    assert_eq!(bytes[header::VERSION..][..2], UNIT_VERSION.to_le_bytes());
    bytes[header::VERSION..][..2].copy_from_slice(&VERSION.to_le_bytes());
    let crc = flatmin::crc32(&bytes[header::CHECKED_FROM..]);
    bytes[header::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
    let refused = Pack::new(bytes).unwrap_err().to_string();
    assert!(refused.contains("features in units, in a version without"), "{refused}");
}

#[test]
fn features_that_others_read_keep_their_scale() {
    let network = lower(&kitchen_sink::graph(1)).unwrap();
    let kinds = (1..=network.trainable_layers()).map(|layers| {
        let file =
            pack_tail(&network, 0, &TailPlan { layers, trains: vec![Trains::Biases; layers] }).unwrap();
        let pack = file.pack();
        let folded: Vec<bool> =
            (0..pack.features().count()).map(|feature| in_units(&pack, feature)).collect();
        for node in pack.nodes().filter(|node| node.is(UNIT_INPUT)) {
            assert_eq!(node.operator.kind, FULLY_CONNECTED, "{layers}: {node:?}");
        }
        folded
    });
    let kinds: Vec<bool> = kinds.flatten().collect();
    assert!(kinds.contains(&true) && kinds.contains(&false), "{kinds:?}");
}

#[test]
fn tails_of_published_networks() {
    let Some(folder) = shared("models/mlperf-tiny") else { return };
    let mut seen = 0;
    let mut paths = vec![folder];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let Ok(model) = Model::open(&path) else { continue };
        for layers in [1, 2, 3, 5] {
            if layers <= model.network.trainable_layers() {
                check(&model.name, &model.network, &TailPlan::of(layers));
                if layers == 3 {
                    let plan = sparse(&model.network, layers, &[Trains::Percent(25)]);
                    check(&model.name, &model.network, &plan);
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 12, "{seen} tails");
}
