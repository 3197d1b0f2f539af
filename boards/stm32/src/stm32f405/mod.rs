//! An STM32F405 (Netduino Plus 2, Olimex STM32-H405): USART2 on PA2 and PA3 with 115,200 baud, tuned tails in the last two
//! flash sectors, logs through RTT. 16 MHz, from the chip's own oscillator. QEMU 10.0 crashes when firmware resets USART1, as
//! the HAL does, and has no oscillator but this one.

#[allow(unsafe_code)] // reads the flash where it is mapped
mod sectors;

use flatmin::store::Store;
use flatmin_app::{Hardware, Serial};
use flatmin_firmware::{run, slot_bytes, stack};
use flatmin_systick::SysTick;
use sectors::Sectors;
use stm32f4xx_hal::flash::{FlashExt, LockedFlash};
use stm32f4xx_hal::pac;
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc::Config;
use stm32f4xx_hal::serial;
use stm32f4xx_hal::watchdog::IndependentWatchdog;

/// Sectors 10 and 11, a slot each.
const STORE: Store = Store::new(0x000C_0000, slot_bytes::<Sectors>(), 2);

/// Between two feeds lies at most one sector of flash: one of 128 KiB takes up to 4 s to erase.
const WATCHDOG_MS: u32 = 8_000;

/// Runs the application for as long as it lasts.
pub fn serve() {
    if let (Some(chip), Some(core)) = (pac::Peripherals::take(), cortex_m::Peripherals::take()) {
        let mut rcc = chip.RCC.freeze(Config::hsi());
        let clock = SysTick::new(core.SYST, rcc.clocks.hclk().raw());
        let pins = chip.GPIOA.split(&mut rcc);
        let led = chip.GPIOC.split(&mut rcc).pc12.into_push_pull_output();
        let mut watchdog = IndependentWatchdog::new(chip.IWDG);
        let mut flash = LockedFlash::new(chip.FLASH);
        watchdog.start(WATCHDOG_MS.millis());
        let mut board = Hardware::new("stm32f405", clock)
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, Sectors(flash.unlocked()))
            .with_led(led)
            .with_watchdog(|| watchdog.feed());
        if let Ok(uart) = serial::Serial::new(chip.USART2, (pins.pa2, pins.pa3), 115_200.bps(), &mut rcc) {
            run(&mut Serial::new(uart), &mut board);
        }
    }
}
