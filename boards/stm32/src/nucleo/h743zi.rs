//! The STM32H743ZI: 400 MHz, from the chip's own oscillator.

use super::corrected::Corrected;
use embassy_stm32::flash::Flash;
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale,
};
use embassy_stm32::{Config, Peri, peripherals};

pub const NAME: &str = "nucleo-h743zi";
pub const HERTZ: u32 = 400_000_000;
/// Where the last two sectors of 128 KiB begin.
pub const SLOTS: u32 = 1792 << 10;

pub type Memory = Corrected;

pub fn memory(flash: Peri<'static, peripherals::FLASH>) -> Memory {
    Corrected(Flash::new_blocking(flash))
}

pub fn clocks() -> Config {
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
