//! Puts the pack and the recipe where the firmware finds them.
//!
//! `FLATMIN_PACK` names a pack; `FLATMIN_REPLAY_CAPACITY`, `FLATMIN_SHARPNESS_BATCH` and `FLATMIN_KEEP_BEST` (0 or 1)
//! are the recipe's fields that decide the arena's size (defaults: those of `Recipe::DEFAULT`).

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let pack = env::var("FLATMIN_PACK").unwrap_or_else(|_| "../app/model.pack".into());
    fs::copy(&pack, out.join("model.pack"))
        .unwrap_or_else(|e| panic!("{pack}: {e}; make one with `flatmin pack`"));
    let fields = ["replay_capacity", "sharpness_batch", "keep_best"].map(field).concat();
    let recipe = format!("Recipe {{ {fields}..Recipe::DEFAULT }}");
    fs::write(out.join("recipe.rs"), recipe).expect("OUT_DIR can be written");
    println!("cargo:rerun-if-changed={pack}");
    println!("cargo:rerun-if-env-changed=FLATMIN_PACK");
}

/// A field of the recipe, if its environment variable is set.
fn field(name: &str) -> String {
    let variable = format!("FLATMIN_{}", name.to_uppercase());
    println!("cargo:rerun-if-env-changed={variable}");
    let Ok(text) = env::var(&variable) else { return String::new() };
    let number: u16 = text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}"));
    if name == "keep_best" { format!("{name}: {}, ", number > 0) } else { format!("{name}: {number}, ") }
}
