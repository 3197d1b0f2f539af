//! ST's Nucleo-F767ZI and Nucleo-H743ZI2: USART3 on PD8 and PD9, which the board's debugger makes a USB serial port, with
//! 115,200 baud; LED 1, the blue button; tuned tails in the last two flash sectors; logs through RTT. Instructions and data
//! are cached.

#[allow(unsafe_code)] // invalidates lines of the data cache
mod cached;
#[cfg(feature = "nucleo-f767zi")]
#[path = "f767zi.rs"]
mod chip;
#[cfg(feature = "nucleo-h743zi")]
#[path = "h743zi.rs"]
mod chip;
#[cfg(feature = "nucleo-h743zi")]
#[allow(unsafe_code)] // reads the flash where it is mapped, with faults off
mod corrected;

use cached::Cached;
use chip::{HERTZ, Memory, NAME, SLOTS};
use embassy_stm32::gpio::{Input, Level, Output, Pull, Speed};
use embassy_stm32::usart::{self, Uart};
use embassy_stm32::wdg::IndependentWatchdog;
use flatmin::store::Store;
use flatmin_app::{Hardware, Serial};
use flatmin_firmware::{run, slot_bytes, stack};
use flatmin_systick::SysTick;

/// The last two sectors, a slot each.
const STORE: Store = Store::new(SLOTS, slot_bytes::<Cached<Memory>>(), 2);

/// Between two feeds lies at most one sector of flash, which takes up to 4 s to erase.
const WATCHDOG_US: u32 = 8_000_000;

/// Runs the application for as long as it lasts.
pub fn serve() {
    let chip = embassy_stm32::init(chip::clocks());
    let uart = Uart::new_blocking(chip.USART3, chip.PD9, chip.PD8, usart::Config::default());
    if let (Some(core), Ok(uart)) = (cortex_m::Peripherals::take(), uart) {
        #[cfg(feature = "nucleo-f767zi")]
        let mut watchdog = IndependentWatchdog::new(chip.IWDG, WATCHDOG_US);
        #[cfg(feature = "nucleo-h743zi")]
        let mut watchdog = IndependentWatchdog::new(chip.IWDG1, WATCHDOG_US);
        watchdog.unleash();
        let flash = Cached::new(chip::memory(chip.FLASH), core.SCB, core.CPUID);
        let mut board = Hardware::new(NAME, SysTick::new(core.SYST, HERTZ))
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, flash)
            .with_led(Output::new(chip.PB0, Level::Low, Speed::Low))
            .with_button(Input::new(chip.PC13, Pull::None))
            .with_watchdog(|| watchdog.pet());
        run(&mut Serial::new(uart), &mut board);
    }
}
