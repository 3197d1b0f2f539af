//! Puts the pack and the recipe where the firmware finds them.
//!
//! `FLATMIN_PACK` names a pack; `FLATMIN_REPLAY_CAPACITY`, `FLATMIN_SHARPNESS_BATCH`, `FLATMIN_KEEP_BEST`, `FLATMIN_ADAM` and
//! `FLATMIN_SGD` (0 or 1) are the recipe's fields that decide the arena's size (defaults: those of `Recipe::DEFAULT`); with
//! `FLATMIN_SGD` there is no room for the ascent of a tail that is no chain. `FLATMIN_COMPACT` takes the compact tuner,
//! `FLATMIN_INTEGER` that of a tail of any layers in integers, whose other fields are those of `Recipe::INTEGER`.
//! `FLATMIN_SOLVER` links the solver of heads in closed form, which a pack with statistics (`flatmin pack --calibration`) brings
//! along anyhow.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let pack = env::var("FLATMIN_PACK").unwrap_or_else(|_| "../app/model.pack".into());
    fs::copy(&pack, out.join("model.pack"))
        .unwrap_or_else(|e| panic!("{pack}: {e}; make one with `flatmin pack`"));
    let fields = ["replay_capacity", "sharpness_batch", "keep_best", "adam", "sgd"].map(field).concat();
    let [compact, integer, _] = ["compact", "integer", "solver"].map(switch);
    assert!(!(compact && integer), "FLATMIN_COMPACT and FLATMIN_INTEGER: a firmware has one tuner");
    let base = if integer { "INTEGER" } else { "DEFAULT" };
    let recipe = format!("Recipe {{ {fields}..Recipe::{base} }}");
    fs::write(out.join("recipe.rs"), recipe).expect("OUT_DIR can be written");
    println!("cargo:rerun-if-changed={pack}");
    println!("cargo:rerun-if-env-changed=FLATMIN_PACK");
}

/// Sets `cfg(name)` where its environment variable is set, and says whether it is.
fn switch(name: &str) -> bool {
    let variable = format!("FLATMIN_{}", name.to_uppercase());
    println!("cargo:rustc-check-cfg=cfg({name})");
    println!("cargo:rerun-if-env-changed={variable}");
    let on = env::var_os(&variable).is_some();
    if on {
        println!("cargo:rustc-cfg={name}");
    }
    on
}

/// A field of the recipe, if its environment variable is set.
fn field(name: &str) -> String {
    let variable = format!("FLATMIN_{}", name.to_uppercase());
    println!("cargo:rerun-if-env-changed={variable}");
    let Ok(text) = env::var(&variable) else { return String::new() };
    let number: u16 = text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}"));
    match name {
        "keep_best" => format!("{name}: {}, ", number > 0),
        "adam" if number > 0 => "optimizer: flatmin::Optimizer::Adam, ".into(),
        "sgd" if number > 0 => "method: flatmin::Method::Sgd, ".into(),
        "adam" | "sgd" => String::new(),
        _ => format!("{name}: {number}, "),
    }
}
