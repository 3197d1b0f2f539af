//! The command line of the laboratory; `flatmin experiment` and `flatmin bench` are this program's.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use flatmin_lab::bench;
use flatmin_lab::experiments::{self, Experiment, ledger::Shard};
use flatmin_model::json::document;
use flatmin_model::model::Model;
use flatmin_sim::wearers;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measures what SAM and ASAM do for a device that fine-tunes, and what kernels and training cost.
#[derive(Debug, Parser)]
#[command(name = "flatmin-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Instructions of the kernels, or of a model's operators, on an emulated board; nanoseconds on this machine
    #[command(after_help = "Examples:\n  flatmin bench --board mps2-an386\n  \
        flatmin bench --board mps3-an547 model.tflite --json\n  flatmin bench --board host model.tflite\n  \
        flatmin bench --board mps3-an547 --grid target/operator-grid\n  \
        flatmin bench --board mps2-an386 --train --only b16_sgd\n  flatmin bench --board host --train   (beside PyTorch, if \
        FLATMIN_PYTHON names a Python that has it)")]
    Bench {
        /// mps2-an386 (Cortex-M4F), mps3-an547 (M55), mps2-an505 (M33), microbit (M0), cortex-m0plus, riscv32, or host
        #[arg(long)]
        board: String,
        /// A full-integer int8 .tflite or QDQ .onnx; without it four kernel shapes (host: and the bundled model)
        model: Option<PathBuf>,
        /// Also run the generated layers and compare their outputs with the desktop's
        #[arg(long)]
        cases: bool,
        /// Also run a folder of single-operator models and compare their outputs with LiteRT's, which lie there
        /// (host-sim/cli/tests/operators/generate.py makes it)
        #[arg(long, value_name = "FOLDER")]
        grid: Option<PathBuf>,
        /// What training costs instead: passes of trainable layers, and steps of SGD, SAM and ASAM
        #[arg(long, conflicts_with_all = ["model", "cases", "grid"])]
        train: bool,
        /// With --train: of that, what has a name that this is part of
        #[arg(long, value_name = "NAME", requires = "train", default_value = "", hide_default_value = true)]
        only: String,
        /// With --train on mps2-an386: minutes faster, without cycles, which take a trace of every instruction
        #[arg(long, requires = "train")]
        without_cycles: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Measure what SAM and ASAM do for a device that fine-tunes, and write tables and figures
    #[command(after_help = "Examples:\n  flatmin experiment noisy-labels --output results\n  \
        flatmin experiment finetune --data-folder data\n  \
        flatmin experiment noisy-labels --shard 2/8 --output results   (again when all shards are done: choices \
        come before results)")]
    Experiment {
        /// Which
        name: Experiment,
        /// Few wearers, draws and trials: for directions, not for digits
        #[arg(long)]
        quick: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Everything random derives from it
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Do this part of the runs alone, I of N; results of all parts merge by lying in one folder
        #[arg(long, value_name = "I/N")]
        shard: Option<Shard>,
        /// Folder of the data that are not bundled (fsdd, gas_drift, gesture_magic_wand, cifar10), which finetune,
        /// images, shipped, closed-form and scales read, and mnist1d (host-sim/evidence/make_mnist1d.py), which scratch, width and late read;
        /// what is not there is skipped
        #[arg(long, value_name = "FOLDER")]
        data_folder: Option<PathBuf>,
        /// Folder of the results; what is there is not computed again
        #[arg(long, default_value = "flatmin-experiments")]
        output: PathBuf,
    },
}

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
        Command::Bench { board, train: true, only, json, .. } if board == "host" => {
            let report = bench::measure_host_training(&only)?;
            if json { print(document(&report)?) } else { print(report) }
        }
        Command::Bench { board, train: true, only, without_cycles, json, .. } => {
            let board = bench::Emulated::named(&board)?;
            let report = bench::measure_training(&board, &only, !without_cycles)?;
            if json { print(document(&report)?) } else { print(report) }
        }
        Command::Bench { board, model, cases, grid, json, train: false, .. } => {
            run_bench(&board, model.as_deref(), cases, grid.as_deref(), json)
        }
        Command::Experiment { name, quick, json, seed, shard, data_folder, output } => {
            let options = experiments::Options { quick, seed, shard, folder: output, data: data_folder };
            experiment(name, &options, json)
        }
    }
}

fn run_bench(board: &str, model: Option<&Path>, cases: bool, grid: Option<&Path>, json: bool) -> Result<()> {
    let model = model.map(Model::open).transpose()?;
    if board == "host" {
        ensure!(!cases && grid.is_none(), "--cases and --grid are for emulated boards");
        let model = model.map_or_else(bundled_model, Ok)?;
        let report = bench::measure_host(&model)?;
        return if json { print(document(&report)?) } else { print(report) };
    }
    let board = bench::Emulated::named(board)?;
    let grid = grid.map(bench::Grid::open).transpose()?;
    let report = board.measure(model.as_ref(), bench::Extras { cases, grid: grid.as_ref() })?;
    if json { print(document(&report)?) } else { print(report) }
}

/// The bundled model that never saw the first wearer.
fn bundled_model() -> Result<Model> {
    let bytes = wearers::model_bytes(1).context("there is a first wearer")?;
    Model::bundled("the bundled model of wearer 1".to_owned(), bytes)
}

fn experiment(name: Experiment, options: &experiments::Options, json: bool) -> Result<()> {
    match experiments::run(name, options)? {
        Err(missing) if json => print(document(serde_json::json!({ "missing_runs": missing }))?),
        Err(missing) => print(format_args!(
            "{missing} runs are for other shards to do; run this again when their results are in {}",
            options.folder.display()
        )),
        Ok(findings) if json => print(document(experiments::json(&findings, options))?),
        Ok(findings) => {
            eprintln!("tables and figures: {}", options.folder.display());
            print(&findings.section)
        }
    }
}
