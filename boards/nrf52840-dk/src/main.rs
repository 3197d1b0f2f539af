//! flatmin on Nordic's nRF52840-DK: UARTE0 on P0.06 and P0.08, which the board's debugger makes a USB serial port, with
//! 115,200 baud; LED 1, button 1; tuned tails in the upper half of the flash; logs through RTT. 64 MHz.

#![no_std]
#![no_main]
#![deny(unsafe_code)]

use cortex_m_rt::entry;
#[cfg(feature = "defmt")]
use defmt_rtt as _;
use embassy_futures::block_on;
use embassy_nrf::buffered_uarte::{BufferedUarte, Error, InterruptHandler};
use embassy_nrf::config::{Config, HfclkSource};
use embassy_nrf::gpio::{Input, Level, Output, OutputDrive, Pull};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::uarte::{self, Baudrate};
use embassy_nrf::wdt::{self, HaltConfig, Watchdog};
use embassy_nrf::{bind_interrupts, peripherals};
use embedded_io::{ErrorType, Read, ReadReady, Write};
use flatmin::store::Store;
use flatmin_app::{ActiveLow, Hardware};
use flatmin_firmware::{run, slot_bytes, stack};
use flatmin_systick::SysTick;
use panic_probe as _;
use static_cell::ConstStaticCell;

bind_interrupts!(struct Interrupts {
    UARTE0 => InterruptHandler<peripherals::UARTE0>;
});

const STORE: Store = Store::new(512 << 10, slot_bytes::<Nvmc>(), 2);

/// The watchdog's period in ticks of 32,768 Hz: 4 s.
const WATCHDOG_TICKS: u32 = 4 << 15;

/// What comes while a request is carried out.
static INCOMING: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
static OUTGOING: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);

/// The HAL's UART, waited for.
struct Link(BufferedUarte<'static>);

impl ErrorType for Link {
    type Error = Error;
}

impl ReadReady for Link {
    fn read_ready(&mut self) -> Result<bool, Error> {
        embedded_io_async::ReadReady::read_ready(&mut self.0)
    }
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        loop {
            // Bytes that came too fast are a damaged frame: the desktop sends it again.
            if let Ok(count) = block_on(self.0.read(bytes)) {
                return Ok(count);
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        block_on(self.0.write(bytes))
    }

    fn flush(&mut self) -> Result<(), Error> {
        block_on(self.0.flush())
    }
}

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
            .with_led(ActiveLow(Output::new(chip.P0_13, Level::High, OutputDrive::Standard)))
            .with_button(ActiveLow(Input::new(chip.P0_11, Pull::Up)))
            .with_watchdog(|| watchdog.iter_mut().for_each(|handle| handle.pet()));
        let _why = run(&mut Link(uart), &mut board);
        #[cfg(feature = "defmt")]
        defmt::error!("cannot go on: {}", _why);
    }
    loop {
        cortex_m::asm::wfi();
    }
}
