//! flatmin on ST's Nucleo-H743ZI2: USART3 on PD8 and PD9, which the board's debugger makes a USB serial port, with 115,200
//! baud; LED 1, the blue button; tuned tails in the last two flash sectors; logs through RTT. 400 MHz, from the chip's own
//! oscillator.
//!
//! Instructions are cached. Data are not: what was erased or written would be read from the cache.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[allow(unsafe_code)] // reads the flash where it is mapped, with faults off
mod corrected;

use corrected::Corrected;
use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embassy_stm32::Config;
use embassy_stm32::flash::Flash;
use embassy_stm32::gpio::{Input, Level, Output, Pull, Speed};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale,
};
use embassy_stm32::usart::{self, Uart};
use embassy_stm32::wdg::IndependentWatchdog;
use flatmin::store::Store;
use flatmin_app::{Hardware, Serial};
use flatmin_firmware::{run, slot_bytes, stack};
use flatmin_systick::SysTick;
use panic_probe as _;

/// The last two sectors, a slot each.
const STORE: Store = Store::new(1792 << 10, slot_bytes::<Corrected>(), 2);

/// Between two feeds lies at most one sector of flash, which takes up to 4 s to erase.
const WATCHDOG_US: u32 = 8_000_000;

fn clocks() -> Config {
    let mut config = Config::default();
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    config
}

#[entry]
fn main() -> ! {
    let chip = embassy_stm32::init(clocks());
    let uart = Uart::new_blocking(chip.USART3, chip.PD9, chip.PD8, usart::Config::default());
    if let (Some(mut core), Ok(uart)) = (cortex_m::Peripherals::take(), uart) {
        core.SCB.enable_icache();
        let mut watchdog = IndependentWatchdog::new(chip.IWDG1, WATCHDOG_US);
        watchdog.unleash();
        let mut board = Hardware::new("nucleo-h743zi", SysTick::new(core.SYST, 400_000_000))
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, Corrected(Flash::new_blocking(chip.FLASH)))
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
