//! Writes memory.x for the board that FLATMIN_BOARD names, and puts the model's pack where the firmware finds it.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let board = env::var("FLATMIN_BOARD").unwrap_or_else(|_| "mps2-an386".into());
    // Vectors, code and constants first, then data: QEMU's memory maps of these machines.
    let (flash, ram) = match board.as_str() {
        "mps2-an386" => ("0x00000000, LENGTH = 4M", "0x20000000, LENGTH = 4M"),
        "mps2-an505" => ("0x10000000, LENGTH = 4M", "0x38000000, LENGTH = 4M"),
        "mps3-an547" => ("0x00000000, LENGTH = 512K", "0x21000000, LENGTH = 2M"),
        "microbit" => ("0x00000000, LENGTH = 256K", "0x20000000, LENGTH = 16K"),
        other => panic!("FLATMIN_BOARD={other}: no such board"),
    };
    let memory = format!("MEMORY\n{{\n  FLASH : ORIGIN = {flash}\n  RAM : ORIGIN = {ram}\n}}\n");
    fs::write(out.join("memory.x"), memory).expect("OUT_DIR is writable");
    // A file without a byte stands for none.
    for (variable, file) in [("FLATMIN_PACK", "model.pack"), ("FLATMIN_TUNERS", "tuners.pack")] {
        let pack = env::var(variable).map(|path| {
            println!("cargo:rerun-if-changed={path}");
            fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; make one with `flatmin pack`"))
        });
        fs::write(out.join(file), pack.unwrap_or_default()).expect("OUT_DIR is writable");
    }
    // What is left of the smallest board's RAM beside 4 KB of stack and statics.
    let most = if board == "microbit" { 12 << 10 } else { 1 << 20 };
    println!("cargo:rustc-env=FLATMIN_RAM_BYTES={most}");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg=-Tlink.x");
    for variable in [
        "FLATMIN_BOARD",
        "FLATMIN_PACK",
        "FLATMIN_TUNERS",
        "FLATMIN_CASES",
        "FLATMIN_GRID",
        "FLATMIN_TRAIN",
        "FLATMIN_ONLY",
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
}
