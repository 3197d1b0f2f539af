//! Puts memory.x and the pack where the linker and the firmware find them.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("memory.x", out.join("memory.x")).expect("memory.x beside this file");
    let pack = env::var("FLATMIN_PACK").unwrap_or_else(|_| "../app/model.pack".into());
    fs::copy(&pack, out.join("model.pack"))
        .unwrap_or_else(|e| panic!("{pack}: {e}; make one with `flatmin pack`"));
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed={pack}");
    println!("cargo:rerun-if-env-changed=FLATMIN_PACK");
}
