//! flatmin on QEMU's riscv32 `virt` machine: the application over its UART, tuned tails in its second pflash, logs by
//! semihosting.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(unsafe_code)] // registers
mod cfi;
#[allow(unsafe_code)] // a handler for faults is declared so
mod fault;
#[allow(unsafe_code)] // registers
mod uart;

use cfi::CfiFlash;
#[cfg(feature = "defmt")]
use defmt_semihosting as _;
use flatmin::store::Store;
use flatmin_app::{Clock, Hardware, pages_after};
use flatmin_firmware::{run, slot_bytes, stack};
use riscv_rt::entry;
use uart::Uart;

/// Two slots at the start of the second pflash.
const STORE: Store = Store::new(0, slot_bytes::<CfiFlash>(), 2);

/// The machine's timer: 10 MHz.
struct Time;

impl Clock for Time {
    fn ticks(&mut self) -> u32 {
        riscv::register::time::read() as u32
    }

    fn hertz(&self) -> u32 {
        10_000_000
    }
}

#[entry]
fn main() -> ! {
    stack::paint();
    let mut board = Hardware::new("riscv32-virt", Time)
        .with_stack(stack::high_water_bytes)
        .with_store(STORE, CfiFlash::second())
        .with_keys(pages_after::<CfiFlash>(&STORE));
    run(&mut Uart, &mut board);
    fault::end()
}
