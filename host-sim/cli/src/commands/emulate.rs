//! `flatmin emulate`: the firmware in QEMU, with the desktop's data and seed.

use crate::answer::{bar, show};
use crate::arguments::{Adaptation, TuneArguments};
use anyhow::{Context, Result};
use clap::Args;
use flatmin_link::emulate::{Firmware, Kind, LogSink};
use flatmin_sim::report::Report;
use flatmin_sim::tuning::{Start, with_replay};
use indicatif::ProgressBar;
use rayon::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Build the firmware, run it in QEMU with the same data and seed, and compare it with the desktop
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin emulate --board mps2-an386 --method sam --json\n  \
    flatmin emulate model.tflite --data x.npy y.npy --layers 1 --method closed-form")]
pub struct Arguments {
    /// A board of docs/boards.md that runs in QEMU; mps2-an386-m0plus is a Cortex-M0+ there
    #[arg(long, default_value = "mps2-an386")]
    board: String,
    /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
    #[arg(requires = "data")]
    model: Option<PathBuf>,
    /// Write the firmware's log here (default: standard error)
    #[arg(long)]
    log: Option<PathBuf>,
    #[command(flatten)]
    adaptation: Adaptation,
    #[command(flatten)]
    options: TuneArguments,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let Arguments { board, model, log, adaptation, options } = arguments;
    let options = options.read()?;
    options.without_compact_closed_form()?;
    let subject = adaptation.calibrated_subject(model.as_deref(), &options)?.labelled("emulate")?;
    let subject = subject.of_single_hops("emulate")?;
    let tail = options.tail(&subject)?;
    let options = options.for_tail(&subject, &tail)?;
    let (start, trainings) = options.trainings_on_device(&subject, &tail, options.tuner())?;
    let epochs = trainings.iter().map(|own| if own.steps { options.epochs() } else { 1 });
    let bar = bar(epochs.sum(), "epochs, {eta} left")?;
    let sink = log_sink(log.as_deref(), &bar)?;
    // One firmware for all methods, with the arena of the one that takes most: of a chain, of any of them.
    let sizes = subject.model.pack(&tail)?.pack().sizes();
    let recipes = trainings.iter().map(|own| own.recipe);
    let largest = recipes.max_by_key(|recipe| options.tuner().arena_bytes(&sizes, recipe));
    let recipe = largest.context("one method at least is asked for")?;
    let recipe = with_replay(&subject, recipe, options.recipe_file.recipe.replay_capacity)?;
    let solver = trainings.iter().any(|own| own.start == Start::ClosedForm);
    let kind = Kind { tail: options.tuner(), solver, ..Kind::default() };
    let firmware = Firmware::build_as(kind, &board, &subject.model, &tail, &recipe, sink)?;
    let runs = (trainings.par_iter())
        .map(|own| {
            let tuned = firmware.train(&subject, own, || bar.inc(1));
            tuned.with_context(|| format!("tuning with {} on {board}", own.name()))
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let title = format!("{board} in QEMU, {}", subject.name);
    show(
        Report::new(title, std::slice::from_ref(&subject), options.settings(&tail, start), runs),
        &options,
        options.report.as_deref(),
    )
}

/// Where the firmware's log lines go: a file, or standard error without disturbing the progress bar.
pub fn log_sink(path: Option<&Path>, bar: &ProgressBar) -> Result<LogSink> {
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
