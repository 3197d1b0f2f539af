//! Commands, each in a file with its arguments.

mod add_class;
mod auto;
mod device;
mod doctor;
mod emulate;
mod export;
mod inspect;
mod laboratory;
mod new_board;
mod pack;
mod plan;
mod run;
mod sensors;
mod shell;
mod tune;
mod wearers;

use crate::answer::Verbosity;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Fine-tunes the last layers of int8 networks with SAM and ASAM, by the code that runs on the microcontroller.
///
/// Without a command: tunes the bundled model for each of ten held-out wearers with SGD, SAM and ASAM, prints
/// one table and writes an HTML report.
#[derive(Debug, Parser)]
#[command(
    name = "flatmin",
    version,
    // Options in front of a command would be read and have no effect.
    args_conflicts_with_subcommands = true,
    mut_arg("report", |own| own.help("Write the HTML report here (default: flatmin-report.html unless --json)")),
    mut_arg("label_noise", |own| own.help("Share of adaptation labels to flip, 0 to 1 (default: 0, 0.2 and 0.4)")),
    mut_arg("layers", |own| own.help("Layers with weights to train, counted from the end (default: the last, two and all)")),
    after_help = "Examples:\n  flatmin\n  flatmin --label-noise 0.2 --report report.html"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: wearers::Arguments,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Debug, Subcommand)]
enum Command {
    Tune(tune::Arguments),
    AddClass(add_class::Arguments),
    Export(export::Arguments),
    Emulate(emulate::Arguments),
    Device(device::Arguments),
    NewBoard(new_board::Arguments),
    Sensors(sensors::Arguments),
    Inspect(inspect::Arguments),
    Plan(plan::Arguments),
    Pack(pack::Arguments),
    Bench(laboratory::Bench),
    Experiment(laboratory::Experiment),
    Run(run::Arguments),
    Doctor(doctor::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
    Schema(shell::Schema),
}

impl Cli {
    /// Carries out the command.
    pub fn run(self) -> Result<ExitCode> {
        self.verbosity.set();
        match self.command {
            None => wearers::run(&self.options.read()?),
            Some(Command::Tune(arguments)) => tune::run(arguments),
            Some(Command::AddClass(arguments)) => add_class::run(arguments),
            Some(Command::Export(arguments)) => export::run(arguments),
            Some(Command::Emulate(arguments)) => emulate::run(arguments),
            Some(Command::Device(arguments)) => device::run(&arguments),
            Some(Command::NewBoard(arguments)) => new_board::run(&arguments),
            Some(Command::Sensors(arguments)) => sensors::run(arguments),
            Some(Command::Inspect(arguments)) => inspect::run(&arguments),
            Some(Command::Plan(arguments)) => plan::run(arguments),
            Some(Command::Pack(arguments)) => pack::run(arguments),
            Some(Command::Run(arguments)) => run::run(&arguments),
            Some(Command::Completions(completions)) => completions.run(),
            Some(Command::Man(man)) => man.run(),
            Some(Command::Schema(schema)) => schema.run(),
            Some(Command::Doctor(arguments)) => return doctor::run(&arguments),
            Some(Command::Bench(bench)) => return bench.run(),
            Some(Command::Experiment(experiment)) => return experiment.run(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}
