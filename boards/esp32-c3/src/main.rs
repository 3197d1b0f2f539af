//! flatmin on an ESP32-C3-DevKitM-1: UART0, which the board makes a USB serial port, with 115,200 baud; the button BOOT;
//! tuned tails in a partition of their own; logs through the chip's own USB (GPIO18 and GPIO19). 160 MHz.
//!
//! The HAL watches a word at the end of the stack: an overflow is a panic, and that ends with the watchdog's reset.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::panic::PanicInfo;
use embedded_io::{ErrorType, Read, ReadReady, Write};
use esp_hal::Blocking;
use esp_hal::clock::CpuClock;
use esp_hal::gpio::{Input, InputConfig, Pull};
use esp_hal::time::{Duration, Instant};
use esp_hal::timer::timg::{MwdtStage, TimerGroup};
use esp_hal::uart::{Config, IoError, Uart};
#[cfg(feature = "defmt")]
use esp_println as _;
use esp_storage::FlashStorage;
use flatmin::store::Store;
use flatmin_app::{ActiveLow, Clock, Hardware, pages_after};
use flatmin_firmware::{run, slot_bytes, stack};

#[allow(unsafe_code)] // a static that the second-stage boot loader reads
mod description {
    esp_bootloader_esp_idf::esp_app_desc!();
}

/// The partition `tails` of partitions.csv.
const STORE: Store = Store::new(0x0011_0000, slot_bytes::<FlashStorage>(), 2);

const WATCHDOG: Duration = Duration::from_secs(4);

struct Microseconds;

impl Clock for Microseconds {
    fn ticks(&mut self) -> u32 {
        Instant::now().duration_since_epoch().as_micros() as u32
    }

    fn hertz(&self) -> u32 {
        1_000_000
    }
}

struct Link(Uart<'static, Blocking>);

impl ErrorType for Link {
    type Error = IoError;
}

impl ReadReady for Link {
    fn read_ready(&mut self) -> Result<bool, IoError> {
        Ok(self.0.read_ready())
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, IoError> {
        loop {
            // A byte that came too late or with noise is a damaged frame: the desktop sends it again.
            if let Ok(count) = self.0.read(bytes) {
                return Ok(count);
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, IoError> {
        Ok(self.0.write(bytes)?)
    }

    fn flush(&mut self) -> Result<(), IoError> {
        Ok(self.0.flush()?)
    }
}

#[esp_hal::main]
fn main() -> ! {
    stack::paint();
    let chip = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let mut watchdog = TimerGroup::new(chip.TIMG0).wdt;
    watchdog.set_timeout(MwdtStage::Stage0, WATCHDOG);
    watchdog.enable();
    if let Ok(uart) = Uart::new(chip.UART0, Config::default()) {
        let button = Input::new(chip.GPIO9, InputConfig::default().with_pull(Pull::Up));
        let mut board = Hardware::new("esp32-c3", Microseconds)
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, FlashStorage::new(chip.FLASH))
            .with_keys(pages_after::<FlashStorage>(&STORE))
            .with_button(ActiveLow(button))
            .with_watchdog(|| watchdog.feed());
        let mut link = Link(uart.with_rx(chip.GPIO20).with_tx(chip.GPIO21));
        run(&mut link, &mut board);
    }
    // Until the watchdog resets the chip.
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(_why: &PanicInfo) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("{}", defmt::Display2Format(_why));
    loop {
        core::hint::spin_loop();
    }
}
