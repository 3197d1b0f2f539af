//! flatmin on Nordic's nRF52840-DK: UARTE0 on P0.06 and P0.08, which the board's debugger makes a USB serial port, with
//! 115,200 baud; LED 1, button 1; tuned tails in the upper half of the flash; logs through RTT. 64 MHz.
//!
//! With the feature `motion` an LSM6DSO or LSM6DSOX is at TWIM1, SDA on P0.26 and SCL on P0.27, 400 kHz, SDO low: button 1 or
//! the link labels, LED 1 is lit while a labelled window is read and while the device tunes itself.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod link;

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embassy_nrf::buffered_uarte::{BufferedUarte, InterruptHandler};
use embassy_nrf::config::{Config, HfclkSource};
use embassy_nrf::gpio::{Input, Level, Output, OutputDrive, Pull};
use embassy_nrf::nvmc::Nvmc;
#[cfg(feature = "motion")]
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::uarte::{self, Baudrate};
use embassy_nrf::wdt::{self, HaltConfig, Watchdog};
use embassy_nrf::{bind_interrupts, peripherals};
use flatmin::store::Store;
use flatmin_app::{ActiveLow, Hardware, pages_after};
#[cfg(feature = "motion")]
use flatmin_firmware::motion::run_motion;
#[cfg(not(feature = "motion"))]
use flatmin_firmware::run;
use flatmin_firmware::{slot_bytes, stack};
use flatmin_systick::SysTick;
use link::Link;
use panic_probe as _;
use static_cell::ConstStaticCell;

bind_interrupts!(struct Interrupts {
    UARTE0 => InterruptHandler<peripherals::UARTE0>;
});
#[cfg(feature = "motion")]
bind_interrupts!(struct BusInterrupts {
    TWISPI1 => twim::InterruptHandler<peripherals::TWISPI1>;
});

const STORE: Store = Store::new(512 << 10, slot_bytes::<Nvmc>(), 2);

/// The watchdog's period in ticks of 32,768 Hz: 4 s.
const WATCHDOG_TICKS: u32 = 4 << 15;

/// What comes while a request is carried out.
static INCOMING: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
static OUTGOING: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
/// What is written to the sensor, where DMA reaches it.
#[cfg(feature = "motion")]
static TO_SENSOR: ConstStaticCell<[u8; 16]> = ConstStaticCell::new([0; 16]);

/// The sensor's address with SDO low.
#[cfg(feature = "motion")]
const SENSOR: u8 = 0x6A;

#[entry]
fn main() -> ! {
    let mut config = Config::default();
    // The chip's own oscillator is too far off for a UART.
    config.hfclk_source = HfclkSource::ExternalXtal;
    let chip = embassy_nrf::init(config);
    let mut settings = uarte::Config::default();
    settings.baudrate = Baudrate::Baud115200;
    if let Some(core) = cortex_m::Peripherals::take() {
        let uart = BufferedUarte::new(
            chip.UARTE0,
            chip.TIMER0,
            chip.PPI_CH0,
            chip.PPI_CH1,
            chip.PPI_GROUP0,
            chip.P0_08,
            chip.P0_06,
            Interrupts,
            settings,
            INCOMING.take(),
            OUTGOING.take(),
        );
        let mut period = wdt::Config::default();
        period.timeout_ticks = WATCHDOG_TICKS;
        period.action_during_debug_halt = HaltConfig::Pause;
        // It refuses while one of another period runs, which a reset of the debugger does not stop: that is not fed, and
        // ends with a reset that stops it.
        let mut watchdog = Watchdog::try_new::<_, 1>(chip.WDT, period).ok().map(|(_, [handle])| handle);
        let mut board = Hardware::new("nrf52840-dk", SysTick::new(core.SYST, 64_000_000))
            .with_stack(stack::high_water_bytes)
            .with_store(STORE, Nvmc::new(chip.NVMC))
            .with_keys(pages_after::<Nvmc>(&STORE))
            .with_led(ActiveLow(Output::new(chip.P0_13, Level::High, OutputDrive::Standard)))
            .with_button(ActiveLow(Input::new(chip.P0_11, Pull::Up)))
            .with_watchdog(|| watchdog.iter_mut().for_each(|handle| handle.pet()));
        #[cfg(not(feature = "motion"))]
        run(&mut Link(uart), &mut board);
        #[cfg(feature = "motion")]
        {
            let mut settings = twim::Config::default();
            settings.frequency = twim::Frequency::K400;
            let (sda, scl) = (chip.P0_26, chip.P0_27);
            let bus = Twim::new(chip.TWISPI1, BusInterrupts, sda, scl, settings, TO_SENSOR.take());
            run_motion(bus, SENSOR, &mut Link(uart), &mut board);
        }
    }
    loop {
        cortex_m::asm::wfi();
    }
}
