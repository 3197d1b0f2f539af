//! flatmin on STM32s, one of which the features choose: see the modules `stm32f405` and `nucleo`.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[cfg(any(feature = "nucleo-f767zi", feature = "nucleo-h743zi"))]
#[path = "nucleo/mod.rs"]
mod board;
#[cfg(feature = "stm32f405")]
#[path = "stm32f405/mod.rs"]
mod board;

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use panic_probe as _;

#[entry]
fn main() -> ! {
    board::serve();
    loop {
        cortex_m::asm::wfi();
    }
}
