//! flatmin in an embassy application, on an nRF52840-DK: three tasks on one executor. The sensor's reads windows of motion, the
//! tuning task keeps those that have a label, tunes on them slice by slice and classifies meanwhile, the link's takes commands
//! and tells what came of them.
//!
//! An LSM6DSO or LSM6DSOX is at TWIM1, SDA on P0.26 and SCL on P0.27, SDO low. The link is UARTE0 on P0.06 and P0.08, 115,200 baud,
//! in letters: `0` to `9` labels what is seen from now on, `-` ends that, `t` tunes.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod link;
mod sensor;
mod tuning;

/// The pack and its constants: what build.rs makes of the network and recipe.toml.
mod model {
    include!(concat!(env!("OUT_DIR"), "/model.rs"));
}

use embassy_executor::Spawner;
use embassy_nrf::config::{Config, HfclkSource};
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::uarte::{self, Baudrate, Uarte};
use embassy_nrf::{bind_interrupts, peripherals};
use embassy_sync::blocking_mutex::raw::ThreadModeRawMutex;
use embassy_sync::channel::Channel;
use panic_halt as _;
use static_cell::ConstStaticCell;

bind_interrupts!(struct Interrupts {
    TWISPI1 => twim::InterruptHandler<peripherals::TWISPI1>;
    UARTE0 => uarte::InterruptHandler<peripherals::UARTE0>;
});

/// From task to task. Whoever finds its channel full waits, but for the sensor, which drops a window.
type To<T, const N: usize> = Channel<ThreadModeRawMutex, T, N>;

static WINDOWS: To<sensor::Window, 1> = Channel::new();
static COMMANDS: To<link::Command, 4> = Channel::new();
static NEWS: To<tuning::News, 4> = Channel::new();

/// What is written to the sensor, where DMA reaches it.
static TO_SENSOR: ConstStaticCell<[u8; 16]> = ConstStaticCell::new([0; 16]);

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let mut config = Config::default();
    // The chip's own oscillator is too far off for a UART.
    config.hfclk_source = HfclkSource::ExternalXtal;
    let chip = embassy_nrf::init(config);
    let mut settings = uarte::Config::default();
    settings.baudrate = Baudrate::Baud115200;
    let uart = Uarte::new(chip.UARTE0, chip.P0_08, chip.P0_06, Interrupts, settings);
    let mut settings = twim::Config::default();
    settings.frequency = twim::Frequency::K400;
    let bus = Twim::new(chip.TWISPI1, Interrupts, chip.P0_26, chip.P0_27, settings, TO_SENSOR.take());
    // Refused would be a task that runs already.
    if let (Ok(sensor), Ok(link)) = (sensor::read(bus), link::serve(uart)) {
        spawner.spawn(sensor);
        spawner.spawn(link);
    }
    tuning::run().await;
}
