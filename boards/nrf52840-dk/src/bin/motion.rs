//! The motion sensor's application on Nordic's nRF52840-DK: an LSM6DSO or LSM6DSOX at TWIM0, SDA on P0.26 and SCL on P0.27,
//! 400 kHz, SDO low; button 1 labels, LED 1 is lit while a labelled window is read and while the device tunes itself;
//! tuned tails in the upper half of the flash; classes through RTT. 64 MHz.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embassy_nrf::config::{Config, HfclkSource};
use embassy_nrf::gpio::{Input, Level, Output, OutputDrive, Pull};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::{bind_interrupts, peripherals};
use flatmin::store::Store;
use flatmin_app::{ActiveLow, Hardware};
use flatmin_firmware::motion::run_motion;
use flatmin_firmware::{slot_bytes, stack};
use flatmin_systick::SysTick;
use panic_probe as _;
use static_cell::ConstStaticCell;

bind_interrupts!(struct Interrupts {
    TWISPI0 => twim::InterruptHandler<peripherals::TWISPI0>;
});

const STORE: Store = Store::new(512 << 10, slot_bytes::<Nvmc>(), 2);

/// The sensor's address with SDO low.
const ADDRESS: u8 = 0x6A;

/// What is written to the bus, where DMA reaches it.
static OUTGOING: ConstStaticCell<[u8; 16]> = ConstStaticCell::new([0; 16]);

#[entry]
fn main() -> ! {
    let mut config = Config::default();
    config.hfclk_source = HfclkSource::ExternalXtal;
    let chip = embassy_nrf::init(config);
    let mut settings = twim::Config::default();
    settings.frequency = twim::Frequency::K400;
    if let Some(core) = cortex_m::Peripherals::take() {
        let bus = Twim::new(chip.TWISPI0, Interrupts, chip.P0_26, chip.P0_27, settings, OUTGOING.take());
        let mut board = Hardware::new("nrf52840-dk", SysTick::new(core.SYST, 64_000_000))
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, Nvmc::new(chip.NVMC))
            .with_led(ActiveLow(Output::new(chip.P0_13, Level::High, OutputDrive::Standard)))
            .with_button(ActiveLow(Input::new(chip.P0_11, Pull::Up)));
        let _why = run_motion(bus, ADDRESS, &mut board);
        #[cfg(feature = "defmt")]
        defmt::error!("cannot begin: {}", _why);
    }
    loop {
        cortex_m::asm::wfi();
    }
}
