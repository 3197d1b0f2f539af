//! The STM32F767ZI: 216 MHz, from the debugger's clock. Its flash is one bank, as delivered (option bit nDBANK).

use embassy_stm32::flash::{Blocking, Flash};
use embassy_stm32::rcc::{APBPrescaler, Hse, HseMode, Pll, PllMul, PllPDiv, PllPreDiv, PllSource, Sysclk};
use embassy_stm32::time::mhz;
use embassy_stm32::{Config, Peri, peripherals};

pub const NAME: &str = "nucleo-f767zi";
pub const HERTZ: u32 = 216_000_000;
/// Where sectors 10 and 11 of 256 KiB begin.
pub const SLOTS: u32 = 1536 << 10;

pub type Memory = Flash<'static, Blocking>;

pub fn memory(flash: Peri<'static, peripherals::FLASH>) -> Memory {
    Flash::new_blocking(flash)
}

pub fn clocks() -> Config {
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
