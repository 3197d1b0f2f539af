//! Shares of input channels in integers: a list of all is no list, the others' weights stay, runs go on with the same bits, and
//! what is no list is refused.

use crate::bundled::{arena, observe, packed, run, samples, saved};
use flatmin::internals::pack::format::{INPUTS_VERSION, STATE_VERSION, header, node};
use flatmin::{IntegerTuner, Method, Pack, Progress, Recipe, Tuner, TunerError, Version};
use flatmin_model::model::Model;
use flatmin_model::packer::{PackFile, TailPlan, Trains};
use flatmin_model::tflite;
use flatmin_sim::delta;
use flatmin_sim::export::export;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Tail, Training, train};
use flatmin_sim::wearers::model_bytes;

const RECIPE: Recipe = Recipe { epochs: 2, replay_capacity: 20, ..Recipe::INTEGER };
const LAYERS: usize = 7;

/// All seven layers, two of them depthwise: this of each but the last, which is whole.
fn plan(trains: Trains) -> TailPlan {
    TailPlan { layers: LAYERS, trains: vec![trains; LAYERS - 1] }
}

fn shared(trains: Trains) -> PackFile {
    Model::bundled("wearer 1".into(), model_bytes(1).unwrap()).unwrap().pack(plan(trains)).unwrap()
}

fn tuner<'a>(file: &'a PackFile, recipe: Recipe, words: &'a mut [u128]) -> IntegerTuner<'a> {
    let mut tuner = IntegerTuner::in_arena(file.pack(), recipe, bytemuck::cast_slice_mut(words)).unwrap();
    observe(&mut tuner, &samples(&file.pack(), 6));
    tuner
}

#[test]
fn a_list_of_all_input_channels_is_none() {
    let (all, listed) = (packed(LAYERS), shared(Trains::Inputs(100)));
    for method in [Method::Sgd, Method::Sam, Method::Asam] {
        let recipe = Recipe { method, ..RECIPE };
        let of = |file: &PackFile| {
            let mut words = arena(Tail::Integer, &file.pack(), &recipe);
            let mut tuner = tuner(file, recipe, &mut words);
            run(&mut tuner, recipe);
            let mut tail = vec![0; tuner.tail_bytes()];
            tuner.read_tail(0, &mut tail).unwrap();
            let outputs: Vec<_> = (samples(&file.pack(), 20).iter())
                .map(|(input, _)| tuner.infer(input, Version::Tuned).unwrap().to_vec())
                .collect();
            (tuner.weights_crc32(), tail, outputs)
        };
        assert_eq!(of(&all), of(&listed), "{method:?}");
    }
}

#[test]
fn a_saved_run_of_shares_goes_on_with_the_same_bits() {
    let file = shared(Trains::Inputs(30));
    for method in [Method::Sgd, Method::Asam] {
        let recipe = Recipe { method, ..RECIPE };
        let new = || arena(Tail::Integer, &file.pack(), &recipe);
        let (mut words, mut own_words) = (new(), new());
        let mut whole = tuner(&file, recipe, &mut words);
        run(&mut whole, recipe);
        let mut own = tuner(&file, recipe, &mut own_words);
        own.start(recipe).unwrap();
        loop {
            let bytes = saved(&own);
            let mut other_words = new();
            let mut other = tuner(&file, recipe, &mut other_words);
            other.resume_run(&bytes).unwrap();
            while !other.step().unwrap().finished {}
            assert_eq!(other.weights_crc32(), whole.weights_crc32(), "{method:?}");
            if matches!(own.poll().unwrap(), Progress::Stepped(report) if report.finished) {
                break;
            }
        }
    }
}

/// What a tail answers is what its file answers, and a delta of it brings it back; unchosen columns are the factory's.
#[test]
fn unchosen_weights_stay_in_the_exported_file() {
    let mut subject = Subject::wearer(1, 9, 0.0, 1).unwrap();
    subject.test.truncate(60);
    let factory = tflite::read(model_bytes(1).unwrap()).unwrap();
    for trains in [Trains::Inputs(25), Trains::Biases] {
        let plan = plan(trains);
        let recipe = Recipe { method: Method::Sgd, epochs: 2, ..Recipe::INTEGER };
        let training = Training::steps(Tail::Integer, recipe);
        let tuned = export(&subject, &plan, &training, || ()).unwrap();
        assert_eq!(tuned.checked, 60);
        let graph = tflite::read(&tuned.bytes).unwrap();
        let network = &subject.model.network;
        let file = subject.model.pack(&plan).unwrap();
        let layers: Vec<_> = file.pack().trained_layers().filter(|layer| layer.outputs > 0).collect();
        assert_eq!(layers.len(), LAYERS);
        for layer in &layers[..LAYERS - 1] {
            let step = &network.steps[usize::from(layer.index)];
            let inputs = &factory.operators[step.index].inputs;
            let data = |graph: &flatmin_model::graph::Graph, place: usize| {
                graph.tensors[inputs[place].unwrap()].data.clone().unwrap()
            };
            let (before, after) = (data(&factory, 1), data(&graph, 1));
            let chosen = file.pack().chosen_inputs(layer);
            // Channels come last in OHWI and in 1HWC; those of a depthwise layer are outputs.
            let extent = if layer.rows_are_contiguous() {
                network.tensors[step.input].shape[3]
            } else {
                layer.outputs
            };
            let channels = if step.name == "FULLY_CONNECTED" { layer.taps } else { extent };
            let moved: Vec<usize> =
                (0..before.len()).filter(|&at| before[at] != after[at]).map(|at| at % channels).collect();
            assert_eq!(moved.is_empty(), trains == Trains::Biases, "{}", step.name);
            assert!(moved.iter().all(|&channel| chosen.contains(&u16::try_from(channel).unwrap())));
            assert_ne!(data(&factory, 2), data(&graph, 2), "biases");
        }
        let bytes = delta::encode(&file, &tuned.tail).unwrap();
        assert!(delta::decode_int8(&file, &bytes).unwrap() == tuned.tail);
    }
}

#[test]
fn a_quarter_of_the_inputs_gains_most_of_what_all_gain_in_less_memory() {
    let (mut all, mut quarter, mut biases) = (0.0, 0.0, 0.0);
    for wearer in [1, 3] {
        let subject = Subject::wearer(wearer, 9, 0.0, 1).unwrap();
        let of = |plan: TailPlan, points: &mut f64| {
            let recipe = Recipe { method: Method::Sgd, ..Recipe::INTEGER };
            let training = Training { curve: false, ..Training::steps(Tail::Integer, recipe) };
            let run = train(&subject, plan, &training, || ()).unwrap();
            *points += 50.0 * (run.accuracy_int8 - run.factory_accuracy);
            // What is trained is what runs.
            assert!((run.accuracy_int8 - run.accuracy_f32).abs() < 0.02);
            run.train_ram_bytes
        };
        let whole = of(TailPlan::of(LAYERS), &mut all);
        let shared = of(plan(Trains::Inputs(25)), &mut quarter);
        let bare = of(plan(Trains::Biases), &mut biases);
        assert!(bare < shared && shared + 10_000 < whole, "{bare} {shared} {whole}");
    }
    println!("all {all:.1}, a quarter {quarter:.1}, biases {biases:.1} points");
    assert!(quarter > all - 4.0 && biases > 2.0, "{quarter} {biases} of {all}");
}

#[test]
fn f32_tails_refuse_shares_of_inputs_by_name() {
    let file = shared(Trains::Inputs(25));
    let mut words = arena(Tail::Full, &file.pack(), &Recipe::DEFAULT);
    let refused = Tuner::new(file.pack(), Recipe::DEFAULT, bytemuck::cast_slice_mut(&mut words)).unwrap_err();
    assert!(matches!(refused, TunerError::LeftOut { what } if what.contains("input channels")), "{refused}");
}

#[test]
fn what_is_no_list_is_refused() {
    let file = shared(Trains::Inputs(30));
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let nodes = word(file.bytes(), header::NODES);
    let record = (0..usize::from(file.bytes()[header::NODE_COUNT]))
        .map(|index| nodes + index * node::BYTES)
        .find(|&record| file.bytes()[record + node::CHANNEL_COUNT] > 1)
        .unwrap();
    let list = word(file.bytes(), record + node::CHANNELS);
    let refusal = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = file.bytes().to_vec();
        change(&mut bytes);
        let crc = flatmin::crc32(&bytes[header::CHECKED_FROM..]);
        bytes[header::CRC..][..4].copy_from_slice(&crc.to_le_bytes());
        PackFile::new(&bytes).check().map_err(|error| error.to_string())
    };
    assert_eq!(refusal(&|_| ()), Ok(()));
    assert_eq!(file.bytes()[header::VERSION], INPUTS_VERSION.to_le_bytes()[0]);
    type Change<'c> = &'c dyn Fn(&mut [u8]);
    let cases: [(Change, &str); 6] = [
        (&|bytes| bytes.swap(list, list + 2), "rising"),
        (&|bytes| bytes.copy_within(list..list + 2, list + 2), "rising"),
        (&|bytes| bytes[list..list + 2].copy_from_slice(&u16::MAX.to_le_bytes()), "rising"),
        (&|bytes| bytes[record + node::CHANNELS + 3] = 0x7f, "rising"),
        (&|bytes| bytes[record + node::CHOSEN_OUTPUTS + 2] = 0x7f, "overlaps in the workspace"),
        (&|bytes| bytes[header::VERSION] = STATE_VERSION.to_le_bytes()[0], "in a version without"),
    ];
    for (change, what) in cases {
        let refused = refusal(change).unwrap_err();
        assert!(refused.contains(what), "{refused}");
    }
    assert!(Pack::new(file.bytes()).unwrap().is_for_integers());
}
