//! Writes memory.x and the constants of the board that `FLATMIN_BOARD` names (default: mps2-an386): QEMU's maps.

use std::{env, fs, path::PathBuf};

struct Machine {
    name: &'static str,
    flash: &'static str,
    ram: u32,
    ram_kib: u32,
    uart: u32,
    hertz: u32,
}

/// RAM for the stack, of which `RamBudget` announces 10.
const STACK_KIB: u32 = 16;

const MACHINES: [Machine; 4] = [
    Machine {
        name: "mps2-an386",
        flash: "0x00000000, LENGTH = 4M",
        ram: 0x2000_0000,
        ram_kib: 4096,
        uart: 0x4000_4000,
        hertz: 25_000_000,
    },
    Machine {
        name: "mps2-an500",
        flash: "0x00000000, LENGTH = 4M",
        ram: 0x2000_0000,
        ram_kib: 4096,
        uart: 0x4000_4000,
        hertz: 25_000_000,
    },
    // These two start in the secure state: secure addresses.
    Machine {
        name: "mps2-an505",
        flash: "0x10000000, LENGTH = 4M",
        ram: 0x3800_0000,
        ram_kib: 4096,
        uart: 0x5020_0000,
        hertz: 20_000_000,
    },
    Machine {
        name: "mps3-an547",
        flash: "0x00000000, LENGTH = 512K",
        ram: 0x3100_0000,
        ram_kib: 2048,
        uart: 0x5930_3000,
        hertz: 32_000_000,
    },
];

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let name = env::var("FLATMIN_BOARD").unwrap_or_else(|_| "mps2-an386".into());
    let machine = MACHINES.iter().find(|machine| machine.name == name);
    let Machine { flash, ram, ram_kib, uart, hertz, .. } =
        machine.unwrap_or_else(|| panic!("FLATMIN_BOARD={name}"));
    // The stack has the first bytes: below it is nothing, so an overflow is a fault, not a wrong weight.
    let memory = format!(
        "MEMORY\n{{\n  FLASH : ORIGIN = {flash}\n  RAM : ORIGIN = {ram:#x} + {STACK_KIB}K, LENGTH = {ram_kib}K - {STACK_KIB}K\n}}\n\
         _stack_start = ORIGIN(RAM);\n_stack_end = {ram:#x};\n"
    );
    fs::write(out.join("memory.x"), memory).expect("OUT_DIR can be written");
    let constants = format!("(\"{name}\", {uart:#x}, {hertz})");
    fs::write(out.join("board.rs"), constants).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg=-Tlink.x");
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo:rustc-link-arg=-Tdefmt.x");
    }
    println!("cargo:rerun-if-env-changed=FLATMIN_BOARD");
}
