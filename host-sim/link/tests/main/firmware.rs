//! The firmware on an emulated board: the desktop's bits, the announced RAM, no allocator, panics that are heard.
//!
//! Part of the slow tests: needs QEMU and the bare-metal targets.

use crate::skipping::emulating;
use flatmin::wire::Request;
use flatmin::{Method, Recipe};
use flatmin_app::STACK_BYTES;
use flatmin_link::device;
use flatmin_link::emulate::{Answer, BOARDS, Board, Device, Firmware, Image, Kind, LogSink, Options};
use flatmin_model::inspect::inspect;
use flatmin_sim::delta::{decode_int8, weights_crc32};
use flatmin_sim::report::TuningRun;
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, Tail, Training, sized, train, train_and_keep, tune, tune_as};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BOARD: &str = "mps2-an386";
const LAYERS: usize = 2;

/// A log in memory.
fn recorder() -> (LogSink, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let own = lines.clone();
    (LogSink::new(move |line| own.lock().unwrap().push(line.to_owned())), lines)
}

/// A wearer with a fifth of the labels flipped, and of the test set every ninth window.
fn subject() -> Subject {
    let mut subject = Subject::wearer(1, 9, 0.2, 1).unwrap();
    let test = std::mem::take(&mut subject.test);
    subject.test = test.into_iter().step_by(9).collect();
    subject
}

fn recipe(method: Method) -> Recipe {
    let rho = if method == Method::Sam { 0.05 } else { 0.5 };
    Recipe { method, rho, ..Recipe::DEFAULT }
}

/// What must be the same on the board and on the desktop, floating point by its bits.
fn result(run: &TuningRun) -> impl PartialEq + std::fmt::Debug {
    let bits = [run.loss, run.sharpness, run.accuracy_f32, run.accuracy_int8].map(f64::to_bits);
    let counts = (run.train_ram_bytes, run.memory.clone(), run.tail_parameters, run.macs);
    // The desktop has a point before the first epoch.
    let losses: Vec<(u32, u64)> = (run.curve.iter().filter(|point| point.epoch > 0))
        .map(|point| (point.epoch, point.adaptation_loss.to_bits()))
        .collect();
    (run.weights_crc32, bits, counts, losses, run.confusion_factory.clone(), run.confusion_tuned.clone())
}

#[test]
fn tuning_on_the_board_is_the_desktops_and_within_the_announced_ram() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let subject = subject();
    let sized = sized(&subject, Recipe::DEFAULT).unwrap();
    let (sink, lines) = recorder();
    let firmware = Firmware::build(BOARD, &subject.model, LAYERS, &sized, sink).unwrap();
    let runs: Vec<TuningRun> = std::thread::scope(|scope| {
        let methods = [Method::Sgd, Method::Sam, Method::Asam];
        let run = |method| {
            let (firmware, subject) = (&firmware, &subject);
            scope.spawn(move || firmware.tune(subject, recipe(method), || {}).unwrap())
        };
        methods.map(run).into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    for (emulated, method) in runs.iter().zip([Method::Sgd, Method::Sam, Method::Asam]) {
        let desktop = tune(&subject, LAYERS, recipe(method), || {}).unwrap();
        assert_eq!(result(emulated), result(&desktop), "{method:?}");
        // As many points, of which the desktop alone has accuracies; JSON knows no NaN.
        let json = serde_json::to_value(emulated).unwrap();
        assert_eq!(json["curve"].as_array().unwrap().len(), usize::from(Recipe::DEFAULT.epochs));
        assert!(json["curve"][0].get("test_accuracy").is_none());
    }

    // One step takes more work than SGD's with SAM, and still more with ASAM.
    let steps: Vec<u64> = runs.iter().map(|run| run.instructions_step.unwrap()).collect();
    assert!(steps[0] < steps[1] && steps[1] < steps[2], "{steps:?}");
    // A multiply-add takes an instruction at least, and the whole run is its parts.
    let cut = &inspect(&subject.model, &sized).unwrap().cuts[LAYERS - 1];
    for run in &runs {
        let (trunk, step) = (run.instructions_trunk.unwrap(), run.instructions_step.unwrap());
        assert!(trunk >= cut.trunk_macs && step >= 16 * cut.sgd_macs);
        let steps = 30 * subject.adaptation.len().div_ceil(16) as u64;
        let parts = trunk * subject.adaptation.len() as u64 + step * steps;
        let whole = run.instructions.unwrap();
        assert!(parts.abs_diff(whole) < whole / 20, "{parts} in parts, {whole} in all");
    }

    // RAM: the linker's figure and the painted stack against what inspect announces.
    let linked = firmware.image().static_ram_bytes().unwrap();
    assert!(linked > cut.train_ram_bytes, "{linked} bytes linked: the arena is among them");
    for run in &runs {
        let stack = run.ram.iter().find(|(purpose, _)| purpose == "stack, measured").unwrap().1;
        assert!((512..64 << 10).contains(&stack), "a stack of {stack} bytes");
        let taken = linked + stack;
        assert_eq!(run.ram.iter().map(|(_, bytes)| bytes).sum::<usize>(), taken);
        let announced = cut.firmware_ram_bytes;
        assert!(taken <= announced, "{taken} bytes taken, {announced} announced");
        assert!(announced - taken < announced * 15 / 100, "{taken} bytes taken, {announced} announced");
        println!("{}: {linked} linked + {stack} stack = {taken} of {announced} bytes", run.method);
    }

    let log = lines.lock().unwrap().join("\n");
    let starts = log.matches("info  tuning on 63 samples, 30 epochs").count();
    assert_eq!(starts, 3, "{log}");
    for run in &runs {
        assert!(log.contains(&format!("tuned: weights {:#010x}", run.weights_crc32)), "{log}");
    }
}

/// Every board: the desktop's bits through its own UART, within the RAM that is announced.
#[test]
fn every_board_ends_with_the_desktops_weights() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let mut subject = subject();
    subject.adaptation.truncate(35);
    let recipe = Recipe { epochs: 4, ..recipe(Method::Asam) };
    let desktop = tune(&subject, LAYERS, recipe, || {}).unwrap();
    // A tail in f32 does not fit into the microbit.
    for board in BOARDS.into_iter().filter(|board| board.name != "microbit") {
        let sized = sized(&subject, recipe).unwrap();
        let firmware = Firmware::build(board.name, &subject.model, LAYERS, &sized, recorder().0).unwrap();
        let run = firmware.tune(&subject, recipe, || {}).unwrap();
        assert_eq!(result(&run), result(&desktop), "{}", board.name);
        let stack = run.ram.iter().find(|(purpose, _)| purpose == "stack, measured").unwrap().1;
        // The log's own buffer of 1 KiB is within the total.
        assert!((512..=STACK_BYTES).contains(&stack), "{}: a stack of {stack} bytes", board.name);
        let linked = firmware.image().static_ram_bytes().unwrap();
        let announced = run.ram_announced_bytes.unwrap();
        assert!(linked + stack <= announced, "{}: {linked} + {stack} of {announced} bytes", board.name);
        println!("{}: {linked} linked + {stack} stack of {announced} bytes", board.name);
    }
}

/// The compact tail: the desktop's bits with and without FPU, on the microbit in 16 KiB.
#[test]
fn a_compact_tail_ends_with_the_desktops_weights_on_every_core() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let subject = subject();
    let recipe = Recipe { epochs: 2, ..recipe(Method::Asam) };
    let sized = sized(&subject, recipe).unwrap();
    let desktop = tune_as(Tail::Compact, &subject, 1, recipe, || {}).unwrap();
    for board in ["microbit", BOARD, "mps2-an386-m0plus", "mps3-an547", "riscv32-virt"] {
        let (model, sink) = (&subject.model, recorder().0);
        let firmware = Firmware::build_as(Tail::Compact, board, model, 1, &sized, sink).unwrap();
        let run = firmware.tune(&subject, recipe, || {}).unwrap();
        assert_eq!(result(&run), result(&desktop), "{board}");
        let stack = run.ram.iter().find(|(purpose, _)| purpose == "stack, measured").unwrap().1;
        let linked = firmware.image().static_ram_bytes().unwrap();
        let announced = run.ram_announced_bytes.unwrap();
        println!("{board}: {linked} linked + {stack} stack of {announced} bytes");
        assert!(linked + stack <= announced, "{board}: {linked} + {stack} of {announced} bytes");
        assert!(board != "microbit" || announced <= 16 << 10);
    }
}

/// All layers in integers: the desktop's bits on every kind of core, within the RAM that is announced.
#[test]
fn all_layers_in_integers_end_with_the_desktops_weights_on_every_core() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let mut subject = subject();
    subject.adaptation.truncate(12);
    subject.test.truncate(6);
    let recipe = |method| Recipe { method, epochs: 1, ..Recipe::INTEGER };
    let (model, methods) = (&subject.model, [Method::Sgd, Method::Asam]);
    let arena = sized(&subject, recipe(Method::Asam)).unwrap();
    for board in [BOARD, "mps2-an505", "mps3-an547", "mps2-an386-m0plus", "riscv32-virt"] {
        let firmware = Firmware::build_as(Tail::Integer, board, model, 7, &arena, recorder().0).unwrap();
        let linked = firmware.image().static_ram_bytes().unwrap();
        for method in methods {
            let recipe = recipe(method);
            let run = firmware.train(&subject, &Training::steps(Tail::Integer, recipe), || {}).unwrap();
            let desktop = tune_as(Tail::Integer, &subject, 7, recipe, || {}).unwrap();
            assert_eq!(run.weights_crc32, desktop.weights_crc32, "{board}, {method:?}");
            assert_eq!(run.confusion_tuned, desktop.confusion_tuned, "{board}, {method:?}");
            assert_eq!((run.train_ram_bytes, run.macs), (desktop.train_ram_bytes, desktop.macs), "{board}");
            let stack = run.ram.iter().find(|(purpose, _)| purpose == "stack, measured").unwrap().1;
            assert_eq!(run.ram.iter().map(|(_, bytes)| bytes).sum::<usize>(), linked + stack);
            let announced = run.ram_announced_bytes.unwrap();
            println!("{board}, {}: {linked} linked + {stack} stack of {announced} bytes", run.method);
            assert!(linked + stack <= announced, "{board}: {linked} + {stack} of {announced} bytes");
        }
    }
}

#[test]
fn a_compact_tail_outlasts_a_power_cut_and_travels() {
    if emulating("qemu-system-riscv32") {
        outlasts_a_power_cut_and_travels(
            Tail::Compact,
            1,
            subject(),
            Recipe { epochs: 1, ..recipe(Method::Asam) },
        );
    }
}

#[test]
fn a_tail_of_all_layers_in_integers_outlasts_a_power_cut_and_travels() {
    if emulating("qemu-system-riscv32") {
        let mut subject = subject();
        subject.adaptation.truncate(25);
        let recipe = Recipe { method: Method::Asam, epochs: 1, ..Recipe::INTEGER };
        outlasts_a_power_cut_and_travels(Tail::Integer, 7, subject, recipe);
    }
}

/// A device's tail: over a power cut, and through a file or a delta into a device that has lost it.
fn outlasts_a_power_cut_and_travels(kind: Tail, layers: usize, subject: Subject, recipe: Recipe) {
    let sized = sized(&subject, recipe).unwrap();
    let (model, sink) = (&subject.model, recorder().0);
    let firmware = Firmware::build_as(kind, "riscv32-virt", model, layers, &sized, sink).unwrap();
    let (pack, folder) = (subject.model.pack(layers).unwrap(), tempfile::tempdir().unwrap());
    let flash = folder.path().join("pflash.bin");
    let boot = || {
        let options = Options { flash: Some(&flash), count_instructions: false };
        Device::emulated(firmware.image(), options, recorder().0).unwrap()
    };
    let mut device = boot();
    let factory = device.identify().unwrap();
    assert_eq!((Tail::of(factory.contents), factory.tuned), (kind, false));
    let training = Training::steps(kind, recipe);
    let run = device::train(&mut device, &pack, &subject, &training, true, |_| {}).unwrap().run;
    let desktop = train_and_keep(&subject, layers, &training, || {}).unwrap();
    let tuned = run.weights_crc32;
    assert_eq!(tuned, desktop.run.weights_crc32);
    let file = device::backup(&mut device, |_, _| {}).unwrap();
    device.ask(&Request::Commit).unwrap();
    drop(device);
    let mut device = boot();
    let identity = device.identify().unwrap();
    // An int8 tail is all that an integer tuner of any layers keeps: its weights are those that go on.
    let int8 = desktop.tail.unwrap();
    let kept = if kind == Tail::Integer { weights_crc32(&pack, &int8, kind).unwrap() } else { tuned };
    assert_eq!((identity.weights_crc32, identity.tuned, identity.sequence), (kept, true, Some(1)));

    let delta = device::backup_delta(&mut device, &pack, |_, _| {}).unwrap();
    println!("file of {} bytes, delta of {}", file.len(), delta.len());
    assert!(delta.len() * if kind == Tail::Integer { 1 } else { 3 } < file.len());
    assert_eq!(decode_int8(&pack, &delta).unwrap(), int8);
    let classes = |device: &mut Device| {
        let samples = subject.test.iter().step_by(5);
        let asked = samples.map(|(input, _)| {
            match device.ask(&Request::Classify { input: bytemuck::cast_slice(input) }).unwrap() {
                Answer::Classified { class, output, tuned, .. } => (class, output, tuned),
                other => panic!("{other:?}"),
            }
        });
        asked.collect::<Vec<_>>()
    };
    let expected = classes(&mut device);
    device.ask(&Request::FactoryReset).unwrap();
    assert_eq!(device.identify().unwrap().weights_crc32, factory.weights_crc32);
    assert_eq!(device::restore(&mut device, &file, |_, _| {}).unwrap(), kept);
    assert_eq!(classes(&mut device), expected);
    device.ask(&Request::FactoryReset).unwrap();
    // Its weights are those that the int8 tail stands for, as the desktop has them.
    device::restore_delta(&mut device, &pack, &delta, |_, _| {}).unwrap();
    assert_eq!(classes(&mut device), expected);
    device.ask(&Request::Commit).unwrap();
    device.ask(&Request::RollBack).unwrap();
    assert_eq!(device.identify().unwrap().weights_crc32, factory.weights_crc32);

    // Stopped in the midst of a step, switched off, and resumed.
    let observe = |device: &mut Device| {
        device.ask(&Request::Forget).unwrap();
        for (input, label) in &subject.adaptation {
            let (label, input) = (u16::try_from(*label).unwrap(), bytemuck::cast_slice(input));
            device.ask(&Request::Observe { label, input }).unwrap();
        }
    };
    observe(&mut device);
    device.ask(&Request::Start(recipe)).unwrap();
    let slices = subject.adaptation.len() + 15;
    (0..slices).for_each(|_| _ = device.ask(&Request::Poll).unwrap());
    let run = device::pause(&mut device, |_, _| {}).unwrap();
    drop(device);
    let mut device = boot();
    observe(&mut device);
    device::resume(&mut device, &run, |_, _| {}).unwrap();
    device::finish(&mut device).unwrap();
    assert_eq!(device.identify().unwrap().weights_crc32, tuned);
}

#[test]
fn no_allocator_is_linked() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let subject = subject();
    let firmware =
        Firmware::build(BOARD, &subject.model, LAYERS, &recipe(Method::Asam), recorder().0).unwrap();
    let symbols = firmware.image().symbols().unwrap();
    for present in ["main", "Reset"] {
        assert!(symbols.iter().any(|s| s == present), "no symbol `{present}`: is the table there?");
    }
    let allocators =
        ["__rust_alloc", "__rg_alloc", "__rdl_alloc", "malloc", "calloc", "realloc", "GLOBAL_ALLOC"];
    let allocates = |symbol: &&String| allocators.iter().any(|name| symbol.contains(name));
    assert_eq!(symbols.iter().find(allocates), None);
}

/// The head in closed form of the last two layers, and steps from it in three, on cores with DSP and FPU, with an FPU alone,
/// and with neither: a device's owner gets the desktop's answer, which is better than the factory's.
#[test]
fn a_head_solved_on_the_board_is_the_desktops_and_better_than_the_factorys() {
    if !emulating("qemu-system-arm") || !emulating("qemu-system-riscv32") {
        return;
    }
    let mut subject = Subject::wearer(8, 9, 0.2, 1).unwrap().calibrated(8).unwrap();
    subject.test = subject.test.into_iter().step_by(3).collect();
    let sized = sized(&subject, Recipe::DEFAULT).unwrap();
    let from_head = Recipe { epochs: 1, ..Recipe::FROM_CLOSED_FORM };
    let steps = Training { start: Start::ClosedForm, ..Training::steps(Tail::Full, from_head) };
    let solved = Training::closed_form(Recipe::DEFAULT);
    for (board, layers, training) in [
        (BOARD, LAYERS, solved),
        ("mps2-an386-m0plus", LAYERS, solved),
        ("riscv32-virt", LAYERS, solved),
        (BOARD, 3, steps),
    ] {
        let firmware = Firmware::build(board, &subject.model, layers, &sized, recorder().0).unwrap();
        let emulated = firmware.train(&subject, &training, || {}).unwrap();
        let desktop = train(&subject, layers, &training, || {}).unwrap();
        assert_eq!(result(&emulated), result(&desktop), "{board}, {layers} layers");
        assert_eq!(emulated.method, desktop.method);
        let (factory, tuned) = (emulated.factory_accuracy, emulated.accuracy_int8);
        assert!(tuned > factory + 0.01, "{board}, {layers} layers: {factory} before, {tuned} after");
    }
}

/// Where the last layer's velocity is too small to solve in, the firmware has memory beside it; a firmware that solves nothing
/// has neither that nor the solver, and says so.
#[test]
fn the_solver_is_linked_where_it_is_asked_for() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let subject = subject();
    let recipe = sized(&subject, Recipe::DEFAULT).unwrap();
    let [plain, asked] = [false, true].map(|solver| {
        let kind = Kind { solver, ..Kind::default() };
        Firmware::build_as(kind, BOARD, &subject.model, 1, &recipe, recorder().0).unwrap()
    });
    let solves = |firmware: &Firmware| {
        let symbols = firmware.image().symbols().unwrap();
        symbols.iter().any(|symbol| symbol.contains("closed_form") && symbol.contains("solver"))
    };
    assert_eq!([&plain, &asked].map(solves), [false, true]);
    let solved = Training::closed_form(Recipe::DEFAULT);
    let error = plain.train(&subject, &solved, || {}).unwrap_err();
    assert!(format!("{error:#}").contains("solves no heads"), "{error:#}");
    // Without statistics: of the samples, and the factory's answers to them.
    let emulated = asked.train(&subject, &solved, || {}).unwrap();
    let desktop = train(&subject, 1, &solved, || {}).unwrap();
    assert_eq!(result(&emulated), result(&desktop));
    let needed = plain.pack().pack().sizes().solve_bytes(&recipe);
    let [before, after] = [&plain, &asked].map(|firmware| firmware.image().static_ram_bytes().unwrap());
    // The linker aligns what lies beside it otherwise.
    assert!(needed > 10_000 && (after - before).abs_diff(needed) < 64, "{before}, {after}");
    let purpose = |(name, bytes): &(String, usize)| name == "solving the head" && *bytes == needed;
    assert!(emulated.ram.iter().any(purpose), "{:?}", emulated.ram);
}

#[test]
fn a_panic_in_the_firmware_is_heard_at_once() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let pack = subject().model.pack(LAYERS).unwrap().bytes().to_vec();
    let (sink, lines) = recorder();
    // An executable of its own, whose pack's checksum does not match any more.
    let recipe = Recipe { replay_capacity: 17, ..Recipe::DEFAULT };
    let image = Image::build(Board::named(BOARD).unwrap(), &pack, &recipe).unwrap();
    let mut executable = std::fs::read(image.path()).unwrap();
    let place = executable.windows(pack.len()).position(|bytes| bytes == pack).expect("the pack is linked");
    executable[place + pack.len() - 1] ^= 1;
    std::fs::write(image.path(), executable).unwrap();
    let start = Instant::now();
    let mut device = Device::start(&image, sink).unwrap();
    let error = device.ask(&Request::Identify).unwrap_err().to_string();
    assert!(error.contains("the firmware has stopped") && error.contains("Checksum"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{error}");
    assert!(lines.lock().unwrap().iter().any(|line| line.starts_with("error")));
}

#[test]
fn what_the_device_refuses_is_named_and_logged() {
    if !emulating("qemu-system-arm") {
        return;
    }
    let model = subject().model;
    let (sink, lines) = recorder();
    let pack = model.pack(LAYERS).unwrap();
    let image = Image::build(Board::named(BOARD).unwrap(), pack.bytes(), &Recipe::DEFAULT).unwrap();
    let mut device = Device::start(&image, sink).unwrap();
    let error = device.ask(&Request::Observe { label: 0, input: &[1; 3] }).unwrap_err().to_string();
    assert!(error.contains("input of the wrong length"), "{error}");
    assert!(device.ask(&Request::Step).unwrap_err().to_string().contains("no tuning run under way"));
    // It goes on.
    assert!(device.ask(&Request::Identify).is_ok());
    drop(device);
    let log = lines.lock().unwrap().join("\n");
    assert!(log.contains("InputLength") && log.contains("600"), "{log}");
}

#[test]
fn an_unknown_board_is_refused_with_those_that_are_known() {
    let error = Board::named("mps3-an999").unwrap_err().to_string();
    assert!(error.contains("mps3-an999") && error.contains(BOARD), "{error}");
}
