//! The command line of `flatmin`.

mod adaptation;
mod arguments;
mod auto_command;
mod device_command;
mod sensors_command;
mod tune_options;

use anyhow::{Context, Result, bail};
use adaptation::calibrated;
use arguments::{Cli, Command};
use clap::Parser;
use flatmin::{Method, Recipe};
use host_sim::emulate::{Firmware, LogSink};
use host_sim::experiments;
use host_sim::inference::{self, Values};
use host_sim::model::Model;
use host_sim::new_board::NewBoard;
use host_sim::output::write_file;
use host_sim::packer::{TailPlan, Trains};
use host_sim::planning::{self, Budget};
use host_sim::report::{Report, TuningRun};
use host_sim::samples::{Samples, write_npy_f32, write_npy_i8, write_npy_u8};
use host_sim::tuning::{Subject, method_name, sized, solve, tune_as};
use host_sim::{adding, bench, delta, export, inspect, wearers};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use tune_options::{LossArgument, TuneOptions};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flatmin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The answer, on standard output. Whoever reads it may stop at any line.
fn print(answer: impl std::fmt::Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{answer}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        None => {
            let options = cli.options;
            let subjects = (1..=wearers::WEARERS).map(|w| options.wearer(w)).collect::<Result<Vec<_>>>()?;
            let page = if options.json { None } else { Some(PathBuf::from("flatmin-report.html")) };
            let page = options.report.clone().or(page);
            tune_all(&subjects, "Held-out wearers, bundled model", &options, page.as_deref())
        }
        Some(Command::Tune { model, adaptation, auto: Some(seconds), options }) => {
            options.without_closed_form()?;
            let subject = adaptation.subject(model.as_deref(), &options)?;
            auto_command::run(&subject, seconds, &options, options.report.as_deref())
        }
        Some(Command::Tune { model, adaptation, options, .. }) => {
            let subject = adaptation.subject(model.as_deref(), &options)?;
            let bundled = "A held-out wearer, bundled model".to_owned();
            let title = model.map_or(bundled, |path| path.display().to_string());
            tune_all(&[subject], &title, &options, options.report.as_deref())
        }
        Some(Command::AddClass { model, adaptation, leave_out, options }) => {
            options.without_acceptance()?;
            options.without_closed_form()?;
            options.without_compact()?;
            options.without_spare_classes()?;
            if options.report.is_some() {
                bail!("add-class writes no report: leave out --report");
            }
            let subject = adaptation.subject(model.as_deref(), &options)?.leaving_out(leave_out)?;
            let recipes: Vec<Recipe> = options.methods().into_iter().map(|m| options.recipe(m)).collect();
            let addition = adding::add(&subject, &options.tail(&subject)?, &recipes)?;
            if options.json { print(serde_json::to_string_pretty(&addition)?) } else { print(addition) }
        }
        Some(Command::Export { model, adaptation, output, delta, options }) => {
            options.without_acceptance()?;
            options.without_closed_form()?;
            options.without_compact()?;
            let subject = adaptation.subject(model.as_deref(), &options)?;
            export_tuned(&subject, &output, delta.as_deref(), &options)
        }
        Some(Command::Emulate { board, model, log, adaptation, options }) => {
            options.without_closed_form()?;
            let subject = adaptation.subject(model.as_deref(), &options)?;
            let tail = options.tail(&subject)?;
            let methods = options.methods();
            let bar = ProgressBar::new(methods.len() as u64 * u64::from(options.epochs));
            bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} epochs, {eta} left")?);
            let sink = log_sink(log.as_deref(), &bar)?;
            // One firmware for all methods, with the arena of the one that takes most: of a chain, of any of them.
            let sizes = subject.model.pack(&tail)?.pack().sizes();
            let recipes = methods.iter().map(|&method| options.recipe(method));
            let largest = recipes.max_by_key(|recipe| sizes.train_bytes(recipe));
            let recipe = sized(&subject, largest.context("one method at least is asked for")?)?;
            let firmware = Firmware::build_as(options.tuner(), &board, &subject.model, &tail, &recipe, sink)?;
            let runs = (methods.par_iter())
                .map(|&m| {
                    let tuned = firmware.tune(&subject, options.recipe(m), || bar.inc(1));
                    tuned.with_context(|| format!("tuning with {} on {board}", method_name(m)))
                })
                .collect::<Result<_>>()?;
            bar.finish_and_clear();
            let title = format!("{board} in QEMU, {}", subject.name);
            show(
                Report { title, classes: subject.classes, settings: options.settings(&tail), runs },
                &options,
                options.report.as_deref(),
            )
        }
        Some(Command::Device(arguments)) => device_command::run(&arguments),
        Some(Command::NewBoard { name, chip, flash, ram, target, pack, folder, json }) => {
            let board = NewBoard::new(&name, &chip, target.as_deref(), [flash, ram], pack.as_deref())?;
            let written = board.write(folder.as_deref())?;
            let (target, capacity) = (board.target(), board.capacity());
            if json {
                let object =
                    serde_json::json!({ "folder": written, "target": target, "replay_capacity": capacity });
                return print(object);
            }
            print(format_args!(
                "{}: {target}, room for {capacity} samples; what is left says TO DO\n\
                 there, `cargo run --release` builds and flashes it",
                written.display()
            ))
        }
        Some(Command::Sensors(arguments)) => sensors_command::run(arguments),
        Some(Command::Inspect { model, replay_capacity, sharpness_batch, json }) => {
            let recipe = Recipe { replay_capacity, sharpness_batch, ..Recipe::DEFAULT };
            let inspection = inspect::inspect(&Model::open(&model)?, &recipe)?;
            if json { print(serde_json::to_string_pretty(&inspection)?) } else { print(inspection) }
        }
        Some(Command::Plan { model, ram, macs, adaptation, options }) => {
            options.without_choice()?;
            options.without_closed_form()?;
            let subject = adaptation.subject(model.as_deref(), &options)?;
            plan(&subject, Budget { ram_bytes: ram, step_macs: macs }, &options)
        }
        Some(Command::Pack { model, layers, train, loss, spare_classes, calibration, output, json }) => {
            let model = Model::open(&model)?.with_loss(loss.map(LossArgument::loss));
            let model = calibrated(model, &calibration)?.with_spare_classes(spare_classes)?;
            pack(&model, layers, &train, &output, json)
        }
        Some(Command::Bench { board, train: true, only, json, .. }) if board == "host" => {
            let report = bench::measure_host_training(&only)?;
            if json { print(serde_json::to_string_pretty(&report)?) } else { print(report) }
        }
        Some(Command::Bench { board, train: true, only, without_cycles, json, .. }) => {
            let board = bench::Emulated::named(&board)?;
            let report = bench::measure_training(&board, &only, !without_cycles)?;
            if json { print(serde_json::to_string_pretty(&report)?) } else { print(report) }
        }
        Some(Command::Bench { board, model, cases, grid, json, train: false, .. }) => {
            run_bench(&board, model.as_deref(), cases, grid.as_deref(), json)
        }
        Some(Command::Experiment { name, quick, json, seed, shard, data_folder, output }) => {
            let options = experiments::Options { quick, seed, shard, folder: output, data: data_folder };
            experiment(name, &options, json)
        }
        Some(Command::Run { model, input, output, json }) => infer(&model, &input, &output, json),
    }
}

fn run_bench(board: &str, model: Option<&Path>, cases: bool, grid: Option<&Path>, json: bool) -> Result<()> {
    let model = model.map(Model::open).transpose()?;
    if board == "host" {
        anyhow::ensure!(!cases && grid.is_none(), "--cases and --grid are for emulated boards");
        let model = model.map_or_else(bundled_model, Ok)?;
        let report = bench::measure_host(&model)?;
        return if json { print(serde_json::to_string_pretty(&report)?) } else { print(report) };
    }
    let board = bench::Emulated::named(board)?;
    let grid = grid.map(bench::Grid::open).transpose()?;
    let report = board.measure(model.as_ref(), bench::Extras { cases, grid: grid.as_ref() })?;
    if json { print(serde_json::to_string_pretty(&report)?) } else { print(report) }
}

/// The bundled model that never saw the first wearer.
fn bundled_model() -> Result<Model> {
    let bytes = wearers::model_bytes(1).context("there is a first wearer")?;
    Model::bundled("the bundled model of wearer 1".to_owned(), bytes)
}

/// Where the firmware's log lines go: a file, or standard error without disturbing the progress bar.
fn log_sink(path: Option<&Path>, bar: &ProgressBar) -> Result<LogSink> {
    let Some(path) = path else {
        let bar = bar.clone();
        return Ok(LogSink::new(move |line| bar.suspend(|| eprintln!("{line}"))));
    };
    let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let file = Mutex::new(file);
    Ok(LogSink::new(move |line| {
        // A log that cannot be written is no reason to stop the run.
        if let Ok(mut file) = file.lock() {
            let _ = writeln!(file, "{line}");
        }
    }))
}

fn tune_all(subjects: &[Subject], title: &str, options: &TuneOptions, page: Option<&Path>) -> Result<()> {
    show(tuned(subjects, title, options)?, options, page)
}

fn tuned(subjects: &[Subject], title: &str, options: &TuneOptions) -> Result<Report> {
    let tails = subjects.iter().map(|s| options.tail(s)).collect::<Result<Vec<_>>>()?;
    // The bundled models are all alike.
    let tail = tails.into_iter().next().unwrap_or_default();
    if options.is_closed_form() {
        return solved(subjects, title, options);
    }
    let methods = options.methods();
    let jobs: Vec<(&Subject, Method)> =
        subjects.iter().flat_map(|s| methods.iter().map(move |&m| (s, m))).collect();
    let bar = ProgressBar::new(jobs.len() as u64 * u64::from(options.epochs));
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} epochs, {eta} left")?);
    let runs: Vec<TuningRun> = jobs
        .par_iter()
        .map(|(subject, method)| {
            tune_as(options.tuner(), subject, &tail, options.recipe(*method), || bar.inc(1))
                .with_context(|| format!("tuning with {}", method_name(*method)))
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let classes = subjects.first().map(|s| s.classes.clone()).unwrap_or_default();
    Ok(Report { title: title.to_owned(), classes, settings: options.settings(&tail), runs })
}

/// The last layers in closed form.
fn solved(subjects: &[Subject], title: &str, options: &TuneOptions) -> Result<Report> {
    options.without_compact()?;
    let runs: Vec<TuningRun> = subjects
        .par_iter()
        .map(|subject| solve(subject, options.tail(subject)?, options.recipe(Method::Sgd)))
        .collect::<Result<_>>()?;
    let classes = subjects.first().map(|s| s.classes.clone()).unwrap_or_default();
    let kept = ["label noise", "windows a class", "seed", "held out", "spare classes"];
    let settings = options.settings(&TailPlan::of(1)).into_iter();
    let settings = settings.filter(|(name, _)| kept.contains(&name.as_str())).collect();
    Ok(Report { title: title.to_owned(), classes, settings, runs })
}

fn show(report: Report, options: &TuneOptions, page: Option<&Path>) -> Result<()> {
    if let Some(page) = page {
        report.write_html(page)?;
        eprintln!("report: {}", page.display());
    }
    if options.json { print(serde_json::to_string_pretty(&json(&report))?) } else { print(report.summary()) }
}

/// The table's fields: one entry a method, means over the subjects, with the subjects' own runs inside.
fn json(report: &Report) -> serde_json::Value {
    let summary = report.summary();
    let runs: Vec<_> = summary
        .methods
        .iter()
        .map(|m| {
            let own: Vec<_> = report.runs.iter().filter(|r| r.method == m.method).collect();
            let mut fields = serde_json::json!({
                "method": m.method, "rho": m.rho,
                "accuracy_f32": m.accuracy_f32.mean, "accuracy_int8": m.accuracy_int8.mean,
                "loss": m.loss.mean, "sharpness": m.sharpness.mean,
                "train_ram_bytes": m.train_ram_bytes, "memory": m.memory,
                "tail_parameters": m.tail_parameters, "macs": m.macs,
                "weights_crc32": m.weights_crc32, "instructions": m.instructions,
                "subjects": own,
            });
            if let Some((accepted, of)) = m.accepted {
                fields["accepted"] = accepted.into();
                fields["kept_factory"] = (of - accepted).into();
            }
            if m.instructions.is_some() {
                fields["instructions_trunk"] = m.instructions_trunk.into();
                fields["instructions_step"] = m.instructions_step.into();
                fields["ram"] = serde_json::json!(m.ram);
                fields["ram_announced_bytes"] = m.ram_announced_bytes.into();
            }
            fields
        })
        .collect();
    serde_json::json!({ "factory_accuracy": summary.factory_accuracy.mean, "runs": runs })
}

fn experiment(name: experiments::Experiment, options: &experiments::Options, json: bool) -> Result<()> {
    match experiments::run(name, options)? {
        Err(missing) if json => print(serde_json::json!({ "missing_runs": missing })),
        Err(missing) => print(format_args!(
            "{missing} runs are for other shards to do; run this again when their results are in {}",
            options.folder.display()
        )),
        Ok(findings) if json => print(serde_json::to_string_pretty(&experiments::json(&findings, options))?),
        Ok(findings) => {
            eprintln!("tables and figures: {}", options.folder.display());
            findings.iter().try_for_each(|own| print(&own.section))
        }
    }
}

fn pack(model: &Model, layers: Option<usize>, train: &[Trains], output: &Path, json: bool) -> Result<()> {
    let tail = if layers == Some(0) { TailPlan::default() } else { model.tail_plan(layers, train)? };
    let file = model.pack(&tail)?;
    let rust = output.with_extension("rs");
    if rust == output {
        bail!(
            "{}: the pack would be overwritten by its Rust file; choose another extension",
            output.display()
        );
    }
    let write = |path: &Path, bytes: &[u8]| {
        write_file(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    let constants = inspect::constants(&file, output)?;
    write(output, file.bytes())?;
    write(&rust, constants.as_bytes())?;
    let sizes = file.pack().sizes();
    if json {
        let object = serde_json::json!({
            "pack": output, "rust": rust, "bytes": file.bytes().len(), "crc32": file.pack().crc32(),
            "tail_parameters": sizes.tail_parameters, "feature_length": sizes.feature_length,
            "classes": file.pack().known_classes(), "spare_classes": file.pack().spare_classes(),
        });
        print(object)
    } else {
        let (bytes, parameters) = (file.bytes().len(), sizes.tail_parameters);
        let (output, rust) = (output.display(), rust.display());
        print(format_args!("{output}: {bytes} bytes, {parameters} trainable parameters\n{rust}: constants"))
    }
}

/// Layers that a plan looks back.
const PLANNED_LAYERS: u16 = 8;

/// With the default recipe's method unless another is asked for.
fn plan(subject: &Subject, budget: Budget, options: &TuneOptions) -> Result<()> {
    let method = options.one_method().unwrap_or(Recipe::DEFAULT.method);
    let depth = options.layers.unwrap_or(PLANNED_LAYERS);
    let bar = ProgressBar::new(1);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} plans tried, {eta} left")?);
    let findings = planning::search(subject, options.recipe(method), budget, depth.into(), &bar)?;
    bar.finish_and_clear();
    if let Some(page) = &options.report {
        let table = findings.to_string().replace('&', "&amp;").replace('<', "&lt;");
        let svg = findings.svg()?;
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>flatmin plan</title>\n{svg}\n\
             <pre>{table}</pre>\n</html>\n"
        );
        write_file(page, html.as_bytes()).with_context(|| format!("cannot write {}", page.display()))?;
        eprintln!("report: {}", page.display());
    }
    if options.json { print(serde_json::to_string_pretty(&findings)?) } else { print(findings) }
}

/// With the default recipe's method unless another is asked for.
fn export_tuned(subject: &Subject, output: &Path, delta: Option<&Path>, options: &TuneOptions) -> Result<()> {
    let method = options.one_method().unwrap_or(Recipe::DEFAULT.method);
    let tail = options.tail(subject)?;
    let bar = ProgressBar::new(u64::from(options.epochs));
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} epochs, {eta} left")?);
    let export = export::export(subject, &tail, options.recipe(method), || bar.inc(1))?;
    bar.finish_and_clear();
    write_file(output, &export.bytes).with_context(|| format!("cannot write {}", output.display()))?;
    let delta_bytes = match delta {
        Some(path) => {
            let file = subject.model.pack(&tail)?;
            let bytes = delta::encode(&file, &export.tail)?;
            write_file(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
            Some(bytes.len())
        }
        None => None,
    };
    let (bytes, checked, method) = (export.bytes.len(), export.checked, method_name(method));
    if options.json {
        print(serde_json::json!({
            "output": output, "bytes": bytes, "method": method, "layers": tail.layers, "samples_checked": checked,
            "delta": delta, "delta_bytes": delta_bytes,
        }))
    } else {
        let path = output.display();
        print(format_args!(
            "{path}: {bytes} bytes, {} layer(s) tuned with {method}; {checked} test samples answered as by the tuned device",
            tail.layers
        ))
    }
}

fn infer(model: &Path, inputs: &[PathBuf], outputs: &[PathBuf], json: bool) -> Result<()> {
    let model = Model::open(model)?;
    let network = &model.network;
    if inputs.len() != network.inputs.len() || outputs.len() != network.outputs.len() {
        bail!(
            "{}: {} input(s) and {} output(s) are expected, {} and {} given",
            model.name,
            network.inputs.len(),
            network.outputs.len(),
            inputs.len(),
            outputs.len()
        );
    }
    let batches = inputs
        .iter()
        .zip(&network.inputs)
        .map(|(path, border)| Samples::inputs_from_npy(path, border.sample_shape()))
        .collect::<Result<Vec<_>, _>>()?;
    let samples = batches.first().map_or(0, |batch| batch.count);
    let results = inference::run(&model, &batches)?;
    let mut shapes = Vec::new();
    for ((path, border), values) in outputs.iter().zip(&network.outputs).zip(&results) {
        let mut shape = vec![samples];
        shape.extend(border.sample_shape());
        match values {
            Values::I8(values) => write_npy_i8(path, values, &shape)?,
            Values::U8(values) => write_npy_u8(path, values, &shape)?,
            Values::F32(values) => write_npy_f32(path, values, &shape)?,
        }
        shapes.push(shape);
    }
    if json {
        print(serde_json::json!({ "samples": samples, "outputs": outputs, "shapes": shapes }))
    } else {
        let names: Vec<_> = outputs.iter().map(|path| path.display().to_string()).collect();
        print(format_args!("{}: {samples} samples", names.join(", ")))
    }
}
