//! Packs the network as recipe.toml says; memory.x tells the linker where flash and RAM are.

fn main() {
    flatmin_build::model("recipe.toml");
    println!("cargo::rustc-link-search={}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rustc-link-arg=-Tlink.x");
    println!("cargo::rerun-if-changed=memory.x");
}
