//! The linker scripts of HAL and logger.

fn main() {
    println!("cargo:rustc-link-arg=-Tlinkall.x");
    if std::env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo:rustc-link-arg=-Tdefmt.x");
    }
    // The lowest word of the stack that may change: above the HAL's guard, which is 60 bytes from its end.
    println!("cargo:rustc-link-arg=--defsym=__estack=_stack_end+64");
    println!("cargo:rerun-if-changed=build.rs");
}
