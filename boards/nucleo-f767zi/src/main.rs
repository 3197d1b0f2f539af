//! flatmin on ST's Nucleo-F767ZI: USART3 on PD8 and PD9, which the board's debugger makes a USB serial port, with 115,200
//! baud; LED 1, the blue button; tuned tails in the last two flash sectors; logs through RTT. 216 MHz, from the debugger's
//! clock. The flash is one bank, as delivered (option bit nDBANK).
//!
//! Instructions are cached. Data are not: what was erased or written would be read from the cache.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embassy_stm32::Config;
use embassy_stm32::flash::{Blocking, Flash};
use embassy_stm32::gpio::{Input, Level, Output, Pull, Speed};
use embassy_stm32::rcc::{APBPrescaler, Hse, HseMode, Pll, PllMul, PllPDiv, PllPreDiv, PllSource, Sysclk};
use embassy_stm32::time::mhz;
use embassy_stm32::usart::{self, Uart};
use embassy_stm32::wdg::IndependentWatchdog;
use flatmin::store::Store;
use flatmin_app::{Hardware, Serial};
use flatmin_firmware::{run, slot_bytes, stack};
use flatmin_systick::SysTick;
use panic_probe as _;

type Memory = Flash<'static, Blocking>;

/// Sectors 10 and 11, a slot each.
const STORE: Store = Store::new(1536 << 10, slot_bytes::<Memory>(), 2);

/// Between two feeds lies at most one sector of flash: one of 256 KiB takes up to 4 s to erase.
const WATCHDOG_US: u32 = 8_000_000;

fn clocks() -> Config {
    let mut config = Config::default();
    config.rcc.hse = Some(Hse { freq: mhz(8), mode: HseMode::Bypass });
    config.rcc.pll_src = PllSource::HSE;
    config.rcc.pll = Some(Pll {
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL216,
        divp: Some(PllPDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.apb1_pre = APBPrescaler::DIV4;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.sys = Sysclk::PLL1_P;
    config
}

#[entry]
fn main() -> ! {
    let chip = embassy_stm32::init(clocks());
    let uart = Uart::new_blocking(chip.USART3, chip.PD9, chip.PD8, usart::Config::default());
    if let (Some(mut core), Ok(uart)) = (cortex_m::Peripherals::take(), uart) {
        core.SCB.enable_icache();
        let mut watchdog = IndependentWatchdog::new(chip.IWDG, WATCHDOG_US);
        watchdog.unleash();
        let mut board = Hardware::new("nucleo-f767zi", SysTick::new(core.SYST, 216_000_000))
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, Memory::new_blocking(chip.FLASH))
            .with_led(Output::new(chip.PB0, Level::Low, Speed::Low))
            .with_button(Input::new(chip.PC13, Pull::None))
            .with_watchdog(|| watchdog.pet());
        let _why = run(&mut Serial::new(uart), &mut board);
        #[cfg(feature = "defmt")]
        defmt::error!("cannot go on: {}", _why);
    }
    loop {
        cortex_m::asm::wfi();
    }
}
