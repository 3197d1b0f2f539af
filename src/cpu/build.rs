//! Tells the kernels which instructions the core has: integer ones, an FPU's, and those that a desktop may have. rustc keeps Arm's target features from a stable
//! `cfg`, so that they are read from where they come from: the target's name and the compiler's flags.

use std::env;

/// Cores with Helium (M-profile vector extension), which include the DSP extension.
const HELIUM_CORES: [&str; 3] = ["cortex-m52", "cortex-m55", "cortex-m85"];
/// Armv8-M cores with the DSP extension.
const DSP_CORES: [&str; 3] = ["cortex-m33", "cortex-m35p", "star-mc1"];

fn main() {
    println!("cargo:rerun-if-changed=src/cpu/build.rs");
    println!(
        "cargo:rustc-check-cfg=cfg(flatmin_dsp, flatmin_helium, flatmin_vfp, flatmin_vmla, flatmin_plain, flatmin_thumb1, flatmin_avx)"
    );
    let target = env::var("TARGET").unwrap_or_default();
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    // Flags come as `-Cname=value` and as `-C`, `name=value`; the last one counts.
    let values = |name: &str| {
        let flags = flags.split('\x1f').map(|flag| flag.trim_start_matches("-C"));
        flags.filter_map(|flag| flag.strip_prefix(name)?.strip_prefix('=')).collect::<Vec<_>>()
    };
    let core = values("target-cpu").last().copied().unwrap_or_default();
    let feature = |name: &str| {
        let listed = values("target-feature").into_iter().flat_map(|list| list.split(','));
        let own = listed.filter(|f| f.strip_prefix(['+', '-']) == Some(name));
        own.fold(None, |_, f| Some(f.starts_with('+')))
    };
    // What a processor has of AVX is asked for at run time; without an operating system its registers may be off.
    if target.starts_with("x86_64-") && !target.ends_with("-none") {
        println!("cargo:rustc-cfg=flatmin_avx");
    }
    // Microcontrollers that come to neither of the branches below.
    let thumb1 = target.starts_with("thumbv6m") || target.starts_with("thumbv8m.base");
    if thumb1 || target.starts_with("riscv32") {
        println!("cargo:rustc-cfg=flatmin_plain");
    }
    if thumb1 {
        println!("cargo:rustc-cfg=flatmin_thumb1");
    }
    let arm_v8 = target.starts_with("thumbv8m.main");
    let vectors = feature("mve").unwrap_or(HELIUM_CORES.contains(&core));
    // Helium's floats flush subnormal numbers, scalar ones and every other core keep them: where the compiler may use them,
    // a run's bits are not the desktop's.
    if vectors && target.starts_with("thumb") && feature("mve.fp") != Some(false) {
        println!(
            "cargo::error=a core with Helium needs the compiler flag -Ctarget-feature=-mve.fp: Helium's floating point \
             flushes subnormal numbers, and a tuning run would end with other bits than on the desktop. Integers keep \
             Helium."
        );
    }
    let helium = arm_v8 && vectors;
    let dsp = target.starts_with("thumbv7em")
        || arm_v8 && (helium || feature("dsp").unwrap_or(DSP_CORES.contains(&core)));
    if helium {
        println!("cargo:rustc-cfg=flatmin_helium");
    } else if dsp {
        println!("cargo:rustc-cfg=flatmin_dsp");
    }
    // The hardware's calling convention says that there is an FPU.
    if dsp && target.ends_with("eabihf") {
        println!("cargo:rustc-cfg=flatmin_vfp");
        // As the compiler does it: one instruction for a product and its sum, unless it knows better of the core. No
        // timing is published of cores with Helium: they take the shorter code.
        if core.is_empty() || helium {
            println!("cargo:rustc-cfg=flatmin_vmla");
        }
    }
}
