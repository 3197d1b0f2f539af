//! The build script of every board whose memory is known before it is built: puts `memory.x` where the linker finds it.
//!
//! A crate of one chip has `memory.x` beside its Cargo.toml; one of several has `memory/CHIP.x`, of which it takes the one
//! whose feature is on.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let memory = memory();
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy(&memory, out.join("memory.x")).unwrap_or_else(|why| panic!("{}: {why}", memory.display()));
    println!("cargo:rustc-link-search={}", out.display());
    // riscv-rt's script includes memory.x only where it is told.
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch.starts_with("riscv")) {
        println!("cargo:rustc-link-arg=-Tmemory.x");
    }
    println!("cargo:rustc-link-arg=-Tlink.x");
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo:rustc-link-arg=-Tdefmt.x");
    }
    println!("cargo:rerun-if-changed={}", memory.display());
}

fn memory() -> PathBuf {
    let alone = Path::new("memory.x");
    if alone.is_file() {
        return alone.to_owned();
    }
    let files = fs::read_dir("memory").expect("memory.x or memory/CHIP.x");
    let paths = files.map(|file| file.expect("memory can be read").path());
    let chosen = paths.filter(|path| {
        let chip = path.file_stem().unwrap_or_default().to_string_lossy();
        env::var_os(format!("CARGO_FEATURE_{}", chip.to_uppercase().replace('-', "_"))).is_some()
    });
    match chosen.collect::<Vec<_>>().as_slice() {
        [one] => one.clone(),
        _ => panic!("choose one chip: a feature named as a file in memory"),
    }
}
