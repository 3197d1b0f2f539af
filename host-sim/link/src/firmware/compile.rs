//! The cargo that builds firmware: sources, toolchain, and what the compiler is told.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `cargo build` for a crate in `boards`, as a release, into `target_folder`: for rustc's target and its name of the
/// processor, empty for the target's own. What all firmware is compiled with is said in `boards/.cargo/config.toml`.
///
/// # Errors
/// A missing target, or a folder that cannot be made.
pub fn cargo(
    sources: &Path,
    package: &str,
    target: &str,
    cpu: &str,
    target_folder: &Path,
) -> Result<Command> {
    std::fs::create_dir_all(target_folder)?;
    let mut cargo = Command::new("cargo");
    cargo.args(toolchain(target)?);
    // The host's own flags and toolchain must not reach the firmware.
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTC"] {
        cargo.env_remove(variable);
    }
    let flags = processor_flags(cpu).join(" ");
    if !flags.is_empty() {
        // Unlike RUSTFLAGS, joined to those of the configuration.
        let triple = target.to_uppercase().replace(['-', '.'], "_");
        cargo.env(format!("CARGO_TARGET_{triple}_RUSTFLAGS"), flags);
    }
    cargo
        .args(["build", "--release", "--quiet", "--target", target])
        .current_dir(sources.join("boards").join(package))
        .env("CARGO_TARGET_DIR", target_folder);
    Ok(cargo)
}

/// What rustc is told of a processor, by its own name for it; nothing for the target's own, an empty name.
fn processor_flags(cpu: &str) -> Vec<String> {
    let mut flags = Vec::new();
    if !cpu.is_empty() {
        flags.push(format!("-Ctarget-cpu={cpu}"));
    }
    if ["cortex-m52", "cortex-m55", "cortex-m85"].contains(&cpu) {
        // Helium's floating point flushes subnormal numbers, and results would have other bits.
        flags.push("-Ctarget-feature=-mve.fp".into());
    }
    flags
}

/// The folder of flatmin's sources, which firmware is built from: `FLATMIN_SOURCES`, or a folder around the current one or
/// around this program. `what` needs them.
///
/// # Errors
/// Sources that are nowhere, with what needs them and what to do.
pub fn sources(what: &str) -> Result<PathBuf> {
    let is_root = |folder: &Path| folder.join("boards/firmware/Cargo.toml").is_file();
    if let Some(named) = std::env::var_os("FLATMIN_SOURCES") {
        let named = PathBuf::from(named);
        ensure!(is_root(&named), "FLATMIN_SOURCES: {} has no boards/firmware/Cargo.toml", named.display());
        return Ok(named.canonicalize()?);
    }
    let starts = [std::env::current_dir(), std::env::current_exe()].into_iter().flatten();
    let found = starts
        .flat_map(|start| start.ancestors().map(Path::to_owned).collect::<Vec<_>>())
        .find(|f| is_root(f));
    found.with_context(|| {
        format!(
            "{what} needs flatmin's sources, which firmware is built from, and they are not here: run it in a \
             checkout, or name one in FLATMIN_SOURCES"
        )
    })
}

/// The toolchain argument for cargo: none if the default one has the target, `+embedded` if a toolchain of that
/// name has it.
pub fn toolchain(target: &str) -> Result<Option<&'static str>> {
    for argument in [None, Some("+embedded")] {
        let mut rustc = Command::new("rustc");
        rustc.env_remove("RUSTUP_TOOLCHAIN").args(argument);
        rustc.args(["--print", "target-libdir", "--target", target]);
        let output = rustc.stderr(Stdio::null()).output().context("cannot start rustc")?;
        let folder = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && Path::new(folder.trim()).is_dir() {
            return Ok(argument);
        }
    }
    bail!("no toolchain has the target {target}: `rustup target add {target}`")
}
