//! Puts memory.x and the model's pack where the linker and the firmware find them.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("memory.x", out.join("memory.x")).expect("memory.x beside this file");
    // A file without a byte stands for none.
    for (variable, file) in [("FLATMIN_PACK", "model.pack"), ("FLATMIN_TUNERS", "tuners.pack")] {
        let pack = env::var(variable).map(|path| {
            println!("cargo:rerun-if-changed={path}");
            fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; make one with `flatmin pack`"))
        });
        fs::write(out.join(file), pack.unwrap_or_default()).expect("OUT_DIR is writable");
    }
    println!("cargo:rustc-link-search={}", out.display());
    // riscv-rt's script includes memory.x only where it is told.
    println!("cargo:rustc-link-arg=-Tmemory.x");
    println!("cargo:rustc-link-arg=-Tlink.x");
    println!("cargo:rerun-if-changed=memory.x");
    for variable in
        ["FLATMIN_PACK", "FLATMIN_TUNERS", "FLATMIN_CASES", "FLATMIN_GRID", "FLATMIN_TRAIN", "FLATMIN_ONLY"]
    {
        println!("cargo:rerun-if-env-changed={variable}");
    }
}
