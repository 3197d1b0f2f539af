//! flatmin on Arm's MPS boards and the micro:bit in QEMU: the application over the first UART, logs by semihosting.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(unsafe_code)] // a handler for faults is declared so
mod fault;
#[cfg(nrf51)]
#[allow(unsafe_code)] // registers
mod nrf51;
#[cfg(not(nrf51))]
#[allow(unsafe_code)] // registers
mod uart;

use cortex_m::Peripherals;
use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_semihosting as _;
use flatmin_app::Hardware;
use flatmin_firmware::{run, stack};
use flatmin_systick::SysTick;
#[cfg(nrf51)]
use nrf51::Uart;
#[cfg(not(nrf51))]
use uart::Uart;

/// The board's name, the address of its first UART, ticks a second of its processor: from the build script.
const BOARD: (&str, usize, u32) = include!(concat!(env!("OUT_DIR"), "/board.rs"));

#[entry]
fn main() -> ! {
    let (name, uart, hertz) = BOARD;
    let Some(peripherals) = Peripherals::take() else { fault::end() };
    let clock = SysTick::new(peripherals.SYST, hertz);
    let mut board = Hardware::new(name, clock).with_stack(stack::high_water_bytes);
    run(&mut Uart::new(uart), &mut board);
    fault::end()
}
