//! What is told beside the answer, on standard error.

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::ffi::OsString;
use std::sync::OnceLock;

/// How much is told beside the answer.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Verbosity {
    /// On standard error only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Output")]
    quiet: bool,
    /// On standard error also what the run was asked for, option by option
    #[arg(short, long, global = true, help_heading = "Output")]
    pub verbose: bool,
}

/// Set once, by the command line.
static VERBOSITY: OnceLock<Verbosity> = OnceLock::new();

impl Verbosity {
    /// Holds from now on.
    pub fn set(self) {
        VERBOSITY.get_or_init(|| self);
    }

    /// What holds.
    pub fn current() -> Self {
        VERBOSITY.get().copied().unwrap_or_default()
    }
}

/// The arguments with `-q` and `-v` in front of a command put after its name: the only options that all commands have, and clap
/// takes none in front of a command.
pub fn after_the_command(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let is_own = |argument: &&OsString| {
        ["-q", "--quiet", "-v", "--verbose"].iter().any(|own| argument.as_os_str() == *own)
    };
    let leading = arguments.iter().skip(1).take_while(is_own).count();
    let command = arguments.get(1 + leading);
    if command.is_some_and(|name| !name.as_encoded_bytes().starts_with(b"-")) {
        arguments[1..2 + leading].rotate_left(leading);
    }
    arguments
}

/// What is good to know beside the answer, on standard error; nothing under `--quiet`.
pub fn note(text: impl std::fmt::Display) {
    if !Verbosity::current().quiet {
        eprintln!("{text}");
    }
}

/// Progress on standard error, of so many `what`; none under `--quiet`.
pub fn bar(length: u64, what: &str) -> Result<ProgressBar> {
    let hidden = Verbosity::current().quiet;
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.set_style(ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {what}"))?);
    Ok(bar)
}
