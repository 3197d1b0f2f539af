//! Finds what the firmware is built around: the Rust file that `FLATMIN_MODEL` names, as `flatmin pack --recipe` writes it beside
//! its pack; the bundled one without it.

use std::{env, fs};

fn main() {
    let model = env::var("FLATMIN_MODEL").unwrap_or_else(|_| "../app/model.rs".into());
    println!("cargo::rerun-if-env-changed=FLATMIN_MODEL");
    match fs::canonicalize(&model) {
        Ok(path) => println!("cargo::rustc-env=FLATMIN_MODEL_FILE={}", path.display()),
        Err(why) => println!("cargo::error=FLATMIN_MODEL: {model}: {why}; `flatmin pack --recipe` makes one"),
    }
}
