//! `flatmin bench` and `flatmin experiment`: what another program does.

use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Instructions of the kernels, or of a model's operators, on an emulated board; nanoseconds on this machine: by the
/// program flatmin-lab
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Bench {
    /// Arguments of `flatmin-lab bench`; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Measure what SAM and ASAM do for a device that fine-tunes, and write tables and figures: by the program flatmin-lab
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Experiment {
    /// Arguments of `flatmin-lab experiment`; --help lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Bench {
    pub fn run(&self) -> Result<ExitCode> {
        lab("bench", &self.arguments)
    }
}

impl Experiment {
    pub fn run(&self) -> Result<ExitCode> {
        lab("experiment", &self.arguments)
    }
}

/// Runs a command of the laboratory, whose program lies beside this one or on the path: neither is built with the other.
fn lab(command: &str, arguments: &[OsString]) -> Result<ExitCode> {
    const NAME: &str = "flatmin-lab";
    let beside =
        std::env::current_exe()?.with_file_name(NAME).with_extension(std::env::consts::EXE_EXTENSION);
    let program = if beside.is_file() { beside } else { PathBuf::from(NAME) };
    let status = std::process::Command::new(&program).arg(command).args(arguments).status();
    let status = status.with_context(|| {
        format!("`{command}` is the program {NAME}, which is not here: in a checkout, `cargo build --release -p {NAME}` makes it")
    })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
