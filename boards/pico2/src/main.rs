//! flatmin on a Raspberry Pi Pico 2 (RP2350, an Arm core): UART0 on GP0 and GP1 with 115,200 baud; the board's LED; a
//! button between GP15 and ground; tuned tails in the upper half of the flash; logs through RTT. 150 MHz.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embassy_rp::clocks::clk_sys_freq;
use embassy_rp::flash::{Blocking, Flash};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::FLASH;
use embassy_rp::uart::{self, Config, Error, Uart};
use embedded_io::{ErrorType, Read, Write};
use flatmin::store::Store;
use flatmin_app::{ActiveLow, Hardware};
use flatmin_firmware::{run, slot_bytes, stack};
use flatmin_systick::SysTick;
use panic_probe as _;

const FLASH_BYTES: usize = 4 << 20;

type Memory = Flash<'static, FLASH, Blocking, FLASH_BYTES>;

const STORE: Store = Store::new(2 << 20, slot_bytes::<Memory>(), 2);

/// The HAL's UART, byte by byte; its FIFO holds 32.
struct Link(Uart<'static, uart::Blocking>);

impl ErrorType for Link {
    type Error = Error;
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        let Some(first) = bytes.first_mut() else { return Ok(0) };
        // A byte that came too late or with noise is a damaged frame: the desktop sends it again.
        while self.0.blocking_read(core::slice::from_mut(first)).is_err() {}
        Ok(1)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.blocking_write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.0.blocking_flush()
    }
}

#[entry]
fn main() -> ! {
    let chip = embassy_rp::init(Default::default());
    if let Some(core) = cortex_m::Peripherals::take() {
        // 115,200 baud, 8 bits, no parity, one stop bit.
        let uart = Uart::new_blocking(chip.UART0, chip.PIN_0, chip.PIN_1, Config::default());
        let mut board = Hardware::new("pico2", SysTick::new(core.SYST, clk_sys_freq()))
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, Memory::new_blocking(chip.FLASH))
            .with_led(Output::new(chip.PIN_25, Level::Low))
            .with_button(ActiveLow(Input::new(chip.PIN_15, Pull::Up)));
        let _why = run(&mut Link(uart), &mut board);
        #[cfg(feature = "defmt")]
        defmt::error!("cannot go on: {}", defmt::Debug2Format(&_why));
    }
    loop {
        cortex_m::asm::wfi();
    }
}
