//! flatmin on a Raspberry Pi Pico 2 (RP2350, an Arm core): UART0 on GP0 and GP1 with 115,200 baud; the board's LED; a
//! button between GP15 and ground; tuned tails in the upper half of the flash; logs through RTT. 150 MHz.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embassy_rp::flash::{Blocking, Flash};
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::FLASH;
use embassy_rp::uart::{Config, Uart};
use embassy_rp::watchdog::Watchdog;
use embassy_time::{Duration, Instant, TICK_HZ};
use flatmin::store::Store;
use flatmin_app::{ActiveLow, Clock, Hardware, Serial, pages_after};
use flatmin_firmware::{run, slot_bytes, stack};
use panic_probe as _;

const FLASH_BYTES: usize = 4 << 20;

type Memory = Flash<'static, FLASH, Blocking, FLASH_BYTES>;

const STORE: Store = Store::new(2 << 20, slot_bytes::<Memory>(), 2);

const WATCHDOG: Duration = Duration::from_secs(4);

/// embassy-time's clock: the chip's own timer, as SysTick may be an RTOS's.
struct Time;

impl Clock for Time {
    fn ticks(&mut self) -> u32 {
        Instant::now().as_ticks() as u32
    }

    fn hertz(&self) -> u32 {
        TICK_HZ as u32
    }
}

#[entry]
fn main() -> ! {
    let chip = embassy_rp::init(Default::default());
    // 115,200 baud, 8 bits, no parity, one stop bit.
    let uart = Uart::new_blocking(chip.UART0, chip.PIN_0, chip.PIN_1, Config::default());
    let mut watchdog = Watchdog::new(chip.WATCHDOG);
    watchdog.pause_on_debug(true);
    watchdog.start(WATCHDOG);
    let mut board = Hardware::new("pico2", Time)
        .with_stack(stack::high_water_bytes)
        .with_store(STORE, Memory::new_blocking(chip.FLASH))
        .with_keys(pages_after::<Memory>(&STORE))
        .with_led(Output::new(chip.PIN_25, Level::Low))
        .with_button(ActiveLow(Input::new(chip.PIN_15, Pull::Up)))
        .with_watchdog(|| watchdog.feed(WATCHDOG));
    run(&mut Serial::new(uart), &mut board);
    loop {
        cortex_m::asm::wfi();
    }
}
