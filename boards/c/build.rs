//! Which operators are linked: those of the pack that `FLATMIN_PACK` names, else all.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(one_pack)");
    println!("cargo::rerun-if-env-changed=FLATMIN_PACK");
    let Ok(pack) = env::var("FLATMIN_PACK") else { return };
    println!("cargo::rerun-if-changed={pack}");
    let Ok(folder) = env::var("OUT_DIR") else { return };
    if let Err(error) = fs::copy(&pack, Path::new(&folder).join("model.pack")) {
        println!("cargo::error=FLATMIN_PACK: {pack}: {error}; make one with `flatmin pack`");
    }
    println!("cargo::rustc-cfg=one_pack");
}
