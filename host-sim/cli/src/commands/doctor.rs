//! `flatmin doctor`: what this machine has of what firmware, emulators, Python and C need.

use crate::answer::{print, print_json};
use anyhow::Result;
use clap::{Args, ValueEnum};
use flatmin_link::doctor::{Finding, Purpose, State, examine};
use flatmin_model::table::Table;
use std::process::ExitCode;

/// Look for QEMU, bare-metal targets, probe-rs, Python and the C compiler: what is there, what is missing, how to get it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  flatmin doctor\n  flatmin doctor --for emulate --json")]
pub struct Arguments {
    /// Only what this needs; the exit code is 1 if any of it is missing
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    purpose: Option<PurposeArgument>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PurposeArgument {
    /// Firmware in QEMU
    Emulate,
    /// Firmware on a board
    Device,
    /// The Python package
    Python,
    /// Firmware in C
    C,
}

impl PurposeArgument {
    fn purpose(self) -> Purpose {
        match self {
            Self::Emulate => Purpose::Emulate,
            Self::Device => Purpose::Device,
            Self::Python => Purpose::Python,
            Self::C => Purpose::C,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let purpose = arguments.purpose.map(PurposeArgument::purpose);
    let mut findings = examine();
    findings.retain(|own| purpose.is_none_or(|purpose| own.needed_for.contains(&purpose)));
    let stopped = purpose.is_some_and(|purpose| findings.iter().any(|own| own.stops(purpose)));
    let code = if stopped { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if arguments.json {
        print_json(serde_json::json!({ "findings": findings, "missing": stopped }))?;
        return Ok(code);
    }
    print(table(&findings))?;
    for own in &findings {
        if let Some(remedy) = &own.remedy {
            print(format_args!(" {}: {remedy}", own.name))?;
        }
    }
    print(match (purpose, stopped) {
        (Some(purpose), true) => format!(" {purpose}: not yet"),
        (Some(purpose), false) => format!(" {purpose}: ready"),
        (None, _) => summary(&findings),
    })?;
    Ok(code)
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(4, ["", "name", "found", "needed for"]);
    for own in findings {
        let state = match own.state {
            State::Found => "found",
            State::Old => "too old",
            State::Missing => "missing",
        };
        let purposes: Vec<String> = own.needed_for.iter().map(ToString::to_string).collect();
        let mut needed = purposes.join(", ");
        if !own.only_for.is_empty() {
            needed += &format!(" ({})", own.only_for);
        }
        table.add_row([state, &own.name, own.found.as_deref().unwrap_or("–"), &needed]);
    }
    table
}

/// What can be done on this machine.
fn summary(findings: &[Finding]) -> String {
    let purposes = [Purpose::Emulate, Purpose::Device, Purpose::Python, Purpose::C];
    let (stopped, ready): (Vec<_>, Vec<_>) =
        purposes.into_iter().partition(|purpose| findings.iter().any(|own| own.stops(*purpose)));
    let list = |purposes: &[Purpose]| purposes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (ready.as_slice(), stopped.as_slice()) {
        (ready, []) => format!(" ready: {}", list(ready)),
        ([], stopped) => format!(" not yet: {}; the desktop needs none of it", list(stopped)),
        (ready, stopped) => format!(" ready: {}; not yet: {}", list(ready), list(stopped)),
    }
}
