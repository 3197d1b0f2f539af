//! A tuned network back in the file it came from. That LiteRT answers as the device does is tested by
//! `tests/compare-litert.sh`; here: nothing else of the file changes, and what has no room is refused.

use crate::skipping::shared;
use flatmin::{Method, Recipe};
use flatmin_model::graph::Graph;
use flatmin_model::model::Model;
use flatmin_model::packer::{TailPlan, Trains};
use flatmin_model::tflite;
use flatmin_sim::export::export;
use flatmin_sim::report::CurvePoint;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuned::TunedNetwork;
use flatmin_sim::tuning::{Tail, Training, train, train_and_keep};
use flatmin_sim::watch::Watch;
use flatmin_sim::wearers::model_bytes;

const WEARER: usize = 3;

fn subject() -> Subject {
    Subject::wearer(WEARER, 9, 0.2, 1).unwrap()
}

/// The head in closed form leaves as a file that any runtime takes: its own answers, counted here, are those that `tune` counts.
#[test]
fn a_head_in_closed_form_is_exported() {
    let subject = subject().calibrated(WEARER).unwrap();
    let training = Training::closed_form(Recipe::DEFAULT);
    let tuned = train(&subject, 1, &training, || ()).unwrap();
    let exported = export(&subject, 1, &training, || ()).unwrap();
    let model = Model::parse("exported".into(), &exported.bytes).unwrap();
    let file = model.pack(0).unwrap();
    let mut arena = vec![0; file.pack().sizes().arena_bytes];
    let right = subject.test.iter().filter(|(input, label)| {
        let output = flatmin::infer(&file.pack(), input, &mut arena);
        output.iter().enumerate().max_by_key(|&(class, q)| (q, std::cmp::Reverse(class))).unwrap().0 == *label
    });
    let accuracy = right.count() as f64 / subject.test.len() as f64;
    assert_eq!(accuracy, tuned.accuracy_int8);
    assert!(accuracy > tuned.factory_accuracy, "{accuracy}");
}

/// Samples that are held out decide here as they do in a run: its tail is written, or nothing.
#[test]
fn held_out_samples_have_their_say() {
    let (mut written, mut refused) = (0, 0);
    for (label_noise, seed) in [(0.0, 1), (0.4, 1), (0.4, 2), (0.4, 3), (0.4, 4)] {
        let subject = Subject::wearer(WEARER, 9, label_noise, seed).unwrap();
        let recipe = Recipe { held_out: 0.2, ..Recipe::DEFAULT };
        let training = Training::steps(Tail::Full, recipe);
        let trained = train_and_keep(&subject, 2, &training, || ()).unwrap();
        let exported = export(&subject, 2, &training, || ());
        let Some(tail) = trained.tail else {
            let refusal = exported.unwrap_err().to_string();
            assert!(refusal.contains("nothing is written: of the "), "{refusal}");
            refused += 1;
            continue;
        };
        let tuned = TunedNetwork { model: subject.model.clone(), plan: 2.into(), tail: Some(tail) };
        assert_eq!(exported.unwrap().bytes, tuned.export(&subject.test, &|| ()).unwrap());
        written += 1;
    }
    assert!(written > 0 && refused > 0, "{written} written, {refused} refused");
}

/// A run's tail, kept apart from it, is the whole of what was tuned: the file is the one that tuning for it writes, and its
/// own answers are those that the run counts.
#[test]
fn a_kept_tail_is_exported_as_the_run_would_be() {
    let subject = subject();
    for (kind, layers) in [(Tail::Full, 2), (Tail::Compact, 2), (Tail::Integer, 7)] {
        let base = if kind == Tail::Integer {
            Recipe::INTEGER
        } else {
            Recipe { learning_rate: 0.02, ..Recipe::DEFAULT }
        };
        let training = Training::steps(kind, Recipe { epochs: 3, ..base });
        let trained = train_and_keep(&subject, layers, &training, || ()).unwrap();
        let tuned = TunedNetwork { model: subject.model.clone(), plan: layers.into(), tail: trained.tail };
        let bytes = tuned.export(&subject.test, &|| ()).unwrap();
        assert_eq!(bytes, export(&subject, layers, &training, || ()).unwrap().bytes);
        let inputs: Vec<_> = subject.test.iter().map(|(input, _)| input.clone()).collect();
        let answers = tuned.answer(&inputs, &|| ()).unwrap();
        assert_eq!(answers.labels, trained.answers);
        let right = answers.labels.iter().zip(&subject.test).filter(|(answer, (_, label))| *answer == label);
        assert_eq!(right.count() as f64 / subject.test.len() as f64, trained.run.accuracy_int8);
        let factory = TunedNetwork { tail: None, ..tuned };
        assert_ne!(factory.answer(&inputs, &|| ()).unwrap(), answers);
        let refusal = factory.export(&subject.test, &|| ()).unwrap_err().to_string();
        assert!(refusal.ends_with("nothing is written: the factory's tail is in force"), "{refusal}");
    }
}

/// Whoever watches a run ends it, wherever it is, and is told why it ended.
#[test]
fn a_watcher_ends_a_run() {
    struct Pauses<'c>(&'c std::cell::Cell<usize>);
    impl Watch for Pauses<'_> {
        fn pause(&self) -> anyhow::Result<()> {
            self.0.set(self.0.get().checked_sub(1).ok_or_else(|| anyhow::anyhow!("enough"))?);
            Ok(())
        }
        fn epoch(&self, _: Option<&CurvePoint>) -> anyhow::Result<()> {
            Ok(())
        }
    }
    let subject = subject();
    let training = Training::steps(Tail::Full, Recipe { epochs: 2, ..Recipe::DEFAULT });
    let left = std::cell::Cell::new(usize::MAX);
    train(&subject, 1, &training, Pauses(&left)).unwrap();
    let taken = usize::MAX - left.get();
    assert!(taken > 2 * (subject.test.len() + subject.adaptation.len()), "{taken}");
    for count in [0, subject.test.len() + 1, taken / 2, taken - 1] {
        left.set(count);
        let error = train(&subject, 1, &training, Pauses(&left)).unwrap_err();
        assert!(format!("{error:#}").contains("enough"), "{error:#}");
    }
}

#[test]
fn every_method_and_depth_reads_back_as_the_tuned_device() {
    let subject = subject();
    let original = model_bytes(WEARER).unwrap();
    let factory = tflite::read(original).unwrap();
    for layers in [1, 2] {
        for method in [Method::Sgd, Method::Sam, Method::Asam] {
            let recipe = Recipe { method, rho: 0.05, epochs: 3, ..Recipe::DEFAULT };
            // The comparison with the tuned device is export's own: it fails where an output differs.
            let tuned = export(&subject, layers, &Training::steps(Tail::Full, recipe), || ()).unwrap();
            assert_eq!((tuned.bytes.len(), tuned.checked), (original.len(), subject.test.len()));
            let graph = tflite::read(&tuned.bytes).unwrap();
            let kinds = |graph: &Graph| {
                graph.operators.iter().map(|op| (op.kind.clone(), op.inputs.clone())).collect::<Vec<_>>()
            };
            assert_eq!(kinds(&graph), kinds(&factory));
            // What is in front of the tuned layers is the factory's.
            let dense: Vec<_> = graph.operators.iter().filter(|op| op.name == "FULLY_CONNECTED").collect();
            let first = dense[dense.len() - layers];
            let feature = first.inputs[0].unwrap();
            let changed = |index: usize| graph.tensors[index] != factory.tensors[index];
            assert!(!changed(feature) && !changed(graph.inputs[0]));
            assert!(changed(first.inputs[1].unwrap()), "the weights were tuned");
            let touched: Vec<_> = dense[dense.len() - layers..]
                .iter()
                .flat_map(|op| op.inputs.iter().flatten().chain(&op.outputs))
                .collect();
            assert!((0..graph.tensors.len()).all(|index| !changed(index) || touched.contains(&&index)));
        }
    }
}

#[test]
fn convolutions_are_exported_too_and_frozen_weights_stay() {
    let subject = subject();
    let factory = tflite::read(model_bytes(WEARER).unwrap()).unwrap();
    let plans = [
        [Trains::Biases, Trains::All, Trains::Nothing, Trains::Biases, Trains::All],
        [Trains::Percent(25), Trains::Scales, Trains::Scales, Trains::Channels(8), Trains::Scales],
        [Trains::Nothing, Trains::Scales, Trains::Percent(25), Trains::All, Trains::Channels(3)],
    ];
    for trains in plans {
        exports(&subject, &factory, TailPlan { layers: 5, trains: trains.into() });
    }
}

fn exports(subject: &Subject, factory: &Graph, plan: TailPlan) {
    // A step that is felt by every layer's int8 weights.
    let recipe = Recipe {
        method: Method::Sam,
        rho: 0.02,
        learning_rate: 0.005,
        label_smoothing: 0.0,
        epochs: 2,
        ..Recipe::DEFAULT
    };
    let tuned = export(subject, &plan, &Training::steps(Tail::Full, recipe), || ()).unwrap();
    assert_eq!(tuned.checked, subject.test.len());
    let graph = tflite::read(&tuned.bytes).unwrap();
    let network = &subject.model.network;
    let layers = network.steps[network.cut(5)..].iter().filter(|step| step.has_weights());
    for (layer, step) in layers.enumerate() {
        let inputs = &factory.operators[step.index].inputs;
        let changed = |place: usize| {
            let tensor = inputs[place].unwrap();
            graph.tensors[tensor].data != factory.tensors[tensor].data
        };
        assert_eq!(changed(1), plan.trains(layer).trains_weights(), "weights of layer {layer}");
        assert_eq!(changed(2), plan.trains(layer) != Trains::Nothing, "biases of layer {layer}");
    }
}

#[test]
fn layers_without_room_are_refused() {
    // The bundled network ends in a softmax, and there is no operator 99.
    let bytes = model_bytes(WEARER).unwrap();
    let subject = subject();
    let weights = [0; 1];
    let file = subject.model.pack(1).unwrap();
    let softmax = subject.model.network.steps.last().unwrap().index;
    let layer = flatmin::internals::TunedLayer {
        layer: file.pack().trained_layers().next().unwrap(),
        weights: &weights,
        inputs: &[],
        biases: &[0],
        scales: &[1.0],
        per_channel: false,
        input: flatmin::Affine { scale: 1.0, zero_point: 0 },
        output: flatmin::Affine { scale: 1.0, zero_point: 0 },
    };
    for place in [softmax, 99] {
        let refused = tflite::replace_layers(bytes, &[place], [layer].into_iter()).unwrap_err();
        assert_eq!(refused.to_string(), format!("operator {place}: is not there"));
    }
    // The right place, but another layer's size.
    let dense = subject.model.network.steps.iter().find(|step| step.name == "FULLY_CONNECTED").unwrap().index;
    let refused = tflite::replace_layers(bytes, &[dense], [layer].into_iter()).unwrap_err().to_string();
    assert!(refused.contains("take 1 bytes, the file has"), "{refused}");
    let gone = Model::parse("in memory".into(), bytes).unwrap().with_file(<[u8]>::len).unwrap_err();
    assert!(gone.to_string().contains("in memory"), "{gone}");
}

/// The command's own check is that the exported file answers as the tuned device does, on every test sample.
#[test]
fn an_autoencoder_is_exported_with_the_scale_of_its_new_output() {
    let Some(path) = shared("models/mlperf-tiny/anomaly_detection/ad01_int8.tflite") else { return };
    let model = Model::open(&path).unwrap();
    let model = model.with_loss(Some(flatmin::Loss::SquaredError));
    let sample = |seed: usize| (0..640).map(|i| ((i * (seed + 3)) % 97) as i8 - 20).collect::<Vec<i8>>();
    let (adaptation, test) = (
        (0..8).map(|i| (sample(i), usize::from(i > 5))).collect(),
        (8..12).map(|i| (sample(i), 0)).collect(),
    );
    let classes = vec!["normal".into(), "anomalous".into()];
    let subject = Subject {
        name: "autoencoder".into(),
        model,
        classes,
        adaptation,
        test,
        origin: flatmin_sim::subject::Origin::default(),
    };
    let recipe = Recipe { method: Method::Sam, rho: 0.05, learning_rate: 1e-4, epochs: 2, ..Recipe::DEFAULT };
    let tuned = export(&subject, 2, &Training::steps(Tail::Full, recipe), || ()).unwrap();
    assert_eq!(tuned.checked, 4);
    let output = |graph: &Graph| graph.tensors[graph.outputs[0]].quantization.clone();
    let factory = tflite::read(&std::fs::read(&path).unwrap()).unwrap();
    assert_ne!(output(&tflite::read(&tuned.bytes).unwrap()), output(&factory));
}
