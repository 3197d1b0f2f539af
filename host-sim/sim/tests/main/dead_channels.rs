//! Channels whose int8 weights have scales as small as those of MLPerf Tiny's visual wake words: hundreds of that network's
//! are below 1e-6, the smallest 9e-12, where an update divided by the squared scale would be of the order of 1e22. The
//! compact tail leaves their weights as they are, names them, and learns with the others.

use flatmin::store::LAYER_BYTES;
use flatmin::{CompactTuner, Method, Recipe, Version, internals::Multiplier};
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;
use flatmin_sim::subject::Subject;
use std::path::Path;

/// Some of its 974, from the smallest to the largest.
const DEAD: [f32; 8] = [
    9.074871e-12,
    6.0595073e-10,
    1.3027259e-9,
    2.7985985e-9,
    4.519603e-9,
    9.054798e-9,
    1.2169673e-8,
    9.305701e-7,
];

const RECIPE: Recipe =
    Recipe { replay_capacity: 63, epochs: 4, label_smoothing: 0.0, learning_rate: 0.01, ..Recipe::DEFAULT };

/// The bundled network, with a scale for each output of its last hidden layer, of which those given are dead.
fn subject(dead: &[(usize, f32)]) -> Subject {
    let mut subject = Subject::wearer(1, 9, 0.0, 1).unwrap();
    let network = &mut subject.model.network;
    let fully_connected = flatmin::internals::pack::format::operator::FULLY_CONNECTED;
    let hidden = network.steps.iter().rev().filter(|step| step.kind == fully_connected).nth(1).unwrap();
    let (index, input, output) = (hidden.index, hidden.input, hidden.output);
    let [input, output] = [input, output].map(|tensor| network.tensors[tensor].affine.scale);
    let step = network.steps.iter_mut().find(|step| step.index == index).unwrap();
    let constants = &mut step.constants;
    let own = constants.scales.clone();
    let mut scales: Vec<f32> =
        (0..constants.biases.len()).map(|o| own.get(o).copied().unwrap_or(own[0])).collect();
    for &(o, scale) in dead {
        scales[o] = scale;
    }
    constants.per_channel = true;
    constants.multipliers = (scales.iter())
        .map(|&scale| Multiplier::of_scales(input, scale, output))
        .map(|multiplier| (multiplier.mantissa, multiplier.shift))
        .collect();
    constants.scales = scales;
    subject
}

/// Weights and residuals of all layers, out of the tail's bytes.
fn masters(tuner: &CompactTuner) -> Vec<i32> {
    let sizes = tuner.pack().sizes();
    let mut tail = vec![0; tuner.tail_bytes()];
    tuner.read_tail(0, &mut tail).unwrap();
    let start = LAYER_BYTES * sizes.tail_layers + 16 * sizes.tail_outputs + sizes.tail_weights;
    let (high, rest) = tail[start..].split_at(sizes.tail_weights);
    high.iter().zip(rest).map(|(&h, &l)| 256 * i32::from(h as i8) + i32::from(l as i8)).collect()
}

/// Tunes with every method; `dead` rows of 192 weights stay as they are, and the rest learns.
fn check(dead: &[(usize, f32)]) {
    let subject = subject(dead);
    let file: PackFile = subject.model.pack(2).unwrap();
    let inputs = 192;
    for method in [Method::Sgd, Method::Sam, Method::Asam] {
        let rho = if method == Method::Sam { 0.05 } else { 0.5 };
        for weight_decay in [0.0, 1e-2] {
            let recipe = Recipe { method, rho, weight_decay, ..RECIPE };
            let mut words = vec![0u128; file.pack().sizes().compact_bytes(&recipe).div_ceil(16)];
            let arena = bytemuck::cast_slice_mut(&mut words);
            let mut tuner = CompactTuner::in_arena(file.pack(), recipe, arena).unwrap();
            let named: Vec<usize> = tuner.dead_channels().collect();
            assert_eq!(named, dead.iter().map(|&(o, _)| o).collect::<Vec<_>>());
            subject.adaptation.iter().for_each(|(input, label)| tuner.observe(input, *label).unwrap());
            tuner.requantize().unwrap();
            let (before, means) = (masters(&tuner), tuner.evaluate(0.05).unwrap());
            assert!(means.loss.is_finite() && means.sharpness.is_finite(), "{means:?}");
            tuner.start(recipe).unwrap();
            loop {
                let report = tuner.step().unwrap();
                assert!(report.loss.is_finite() && report.rise.is_finite(), "{method:?}: {report:?}");
                if report.finished {
                    break;
                }
            }
            tuner.requantize().unwrap();
            let (after, tuned) = (masters(&tuner), tuner.evaluate(0.05).unwrap());
            assert!(tuned.loss < means.loss, "{method:?}: {} from {}", tuned.loss, means.loss);
            let mut moved = 0;
            for (o, (before, after)) in before.chunks(inputs).zip(after.chunks(inputs)).enumerate().take(64) {
                if named.contains(&o) {
                    assert_eq!(before, after, "{method:?}: row {o} is dead");
                } else {
                    moved += usize::from(before != after);
                }
            }
            assert!(moved > 50 - named.len().min(50), "{method:?}: {moved} rows");
            // What it classifies with is sound: scales, and answers that are not all alike.
            let layers: Vec<_> = tuner.tuned_layers().flat_map(|layer| layer.scales.to_vec()).collect();
            assert!(layers.iter().all(|scale| scale.is_normal() && *scale > 0.0));
            let mut right = 0;
            for (input, label) in &subject.adaptation {
                let output = tuner.infer(input, Version::Tuned).unwrap();
                let best = output.iter().max().unwrap();
                right += usize::from(output.iter().position(|q| q == best) == Some(*label));
            }
            assert!(right * 10 > subject.adaptation.len() * 8, "{method:?}: {right}");
        }
    }
}

#[test]
fn dead_channels_are_named_and_left_and_the_others_learn() {
    check(&[]);
    check(&DEAD.iter().enumerate().map(|(i, &scale)| (3 * i + 1, scale)).collect::<Vec<_>>());
}

/// All scales below 1e-6 that the network itself has, a layer's width at a time; and its own head.
#[test]
fn so_are_all_of_visual_wake_words() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = shared.join("models/mlperf-tiny/visual_wake_words/vww_96_int8.tflite");
    if !path.exists() {
        return eprintln!("SKIPPED: {} is not there", path.display());
    }
    let model = Model::open(&path).unwrap();
    let scales = model.network.steps.iter().flat_map(|step| step.constants.scales.clone());
    let mut dead: Vec<f32> = scales.filter(|&scale| scale < 1e-6).collect();
    dead.sort_by(f32::total_cmp);
    println!("{} channels below 1e-6, {:e} to {:e}", dead.len(), dead[0], dead[dead.len() - 1]);
    assert!(dead.len() > 100);
    for chosen in dead.chunks(24) {
        check(&chosen.iter().enumerate().map(|(i, &scale)| (2 * i, scale)).collect::<Vec<_>>());
    }

    let file = model.pack(1).unwrap();
    let recipe = Recipe { replay_capacity: 4, ..RECIPE };
    let mut words = vec![0u128; file.pack().sizes().compact_bytes(&recipe).div_ceil(16)];
    let mut tuner =
        CompactTuner::in_arena(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
    assert_eq!(tuner.dead_channels().count(), 0, "its head is alive");
    for label in 0..2 {
        let input: Vec<i8> = (0..96 * 96 * 3).map(|i| (i % (7 + 5 * label)) as i8 * 9).collect();
        tuner.observe(&input, label).unwrap();
    }
    let before = tuner.evaluate(0.05).unwrap().loss;
    tuner.start(recipe).unwrap();
    while !tuner.step().unwrap().finished {}
    assert!(tuner.evaluate(0.05).unwrap().loss < before);
}
