//! Writes memory.x and the constants of the board that `FLATMIN_BOARD` names (default: mps2-an386): QEMU's maps.

use std::{env, fs, path::PathBuf};

struct Machine {
    name: &'static str,
    flash: &'static str,
    ram: u32,
    ram_kib: u32,
    uart: u32,
    /// The UART is an nRF51's, not Arm's.
    nrf51: bool,
    hertz: u32,
}

/// RAM for the stack, of which `RamBudget` announces 10 KiB.
const STACK_BYTES: u32 = 16 << 10;
/// The same of 16 KiB in all: what is announced.
const SMALL_STACK_BYTES: u32 = 5696;

const MACHINES: [Machine; 6] = [
    Machine {
        name: "mps2-an386",
        flash: "0x00000000, LENGTH = 4M",
        ram: 0x2000_0000,
        ram_kib: 4096,
        uart: 0x4000_4000,
        nrf51: false,
        hertz: 25_000_000,
    },
    Machine {
        name: "mps2-an500",
        flash: "0x00000000, LENGTH = 4M",
        ram: 0x2000_0000,
        ram_kib: 4096,
        uart: 0x4000_4000,
        nrf51: false,
        hertz: 25_000_000,
    },
    // The code of a Cortex-M0+ on the same machine: QEMU's only Armv6-M board has 16 KiB of RAM.
    Machine {
        name: "mps2-an386-m0plus",
        flash: "0x00000000, LENGTH = 4M",
        ram: 0x2000_0000,
        ram_kib: 4096,
        uart: 0x4000_4000,
        nrf51: false,
        hertz: 25_000_000,
    },
    // These two start in the secure state: secure addresses.
    Machine {
        name: "mps2-an505",
        flash: "0x10000000, LENGTH = 4M",
        ram: 0x3800_0000,
        ram_kib: 4096,
        uart: 0x5020_0000,
        nrf51: false,
        hertz: 20_000_000,
    },
    Machine {
        name: "mps3-an547",
        flash: "0x00000000, LENGTH = 512K",
        ram: 0x3100_0000,
        ram_kib: 2048,
        uart: 0x5930_3000,
        nrf51: false,
        hertz: 32_000_000,
    },
    Machine {
        name: "microbit",
        flash: "0x00000000, LENGTH = 256K",
        ram: 0x2000_0000,
        ram_kib: 16,
        uart: 0x4000_2000,
        nrf51: true,
        hertz: 16_000_000,
    },
];

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let name = env::var("FLATMIN_BOARD").unwrap_or_else(|_| "mps2-an386".into());
    let machine = MACHINES.iter().find(|machine| machine.name == name);
    let Machine { flash, ram, ram_kib, uart, nrf51, hertz, .. } =
        machine.unwrap_or_else(|| panic!("FLATMIN_BOARD={name}"));
    // The stack has the first bytes: below it is nothing, so an overflow is a fault, not a wrong weight.
    let stack = if *nrf51 { SMALL_STACK_BYTES } else { STACK_BYTES };
    let memory = format!(
        "MEMORY\n{{\n  FLASH : ORIGIN = {flash}\n  RAM : ORIGIN = {ram:#x} + {stack}, LENGTH = {ram_kib}K - {stack}\n}}\n\
         _stack_start = ORIGIN(RAM);\n_stack_end = {ram:#x};\n"
    );
    fs::write(out.join("memory.x"), memory).expect("OUT_DIR can be written");
    let constants = format!("(\"{name}\", {uart:#x}, {hertz})");
    fs::write(out.join("board.rs"), constants).expect("OUT_DIR can be written");
    println!("cargo:rustc-check-cfg=cfg(nrf51)");
    if *nrf51 {
        println!("cargo:rustc-cfg=nrf51");
    }
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg=-Tlink.x");
    if env::var_os("CARGO_FEATURE_DEFMT").is_some() {
        println!("cargo:rustc-link-arg=-Tdefmt.x");
    }
    println!("cargo:rerun-if-env-changed=FLATMIN_BOARD");
}
