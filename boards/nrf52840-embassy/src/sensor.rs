//! The sensor's task: windows of acceleration and rotation, 50 frames a second, as the network takes them.

use crate::{WINDOWS, model};
use embassy_nrf::twim::{Error, Twim};
use embassy_time::{Duration, Ticker, Timer};
use flatmin::{Affine, Pack};

/// An input of the network.
pub type Window = [i8; model::SIZES.input_length];

/// Acceleration x, y, z, rotation x, y, z.
const CHANNELS: usize = 6;

const _: () =
    assert!(model::SIZES.input_length % CHANNELS == 0, "the model's input is no window of six axes");

const ADDRESS: u8 = 0x6A;

/// Registers and values: 104 measurements a second of 4 g and 500 degrees a second, of which every second one is read; both bytes
/// of a value of one measurement, addresses that count on.
const SET_UP: [[u8; 2]; 3] = [[0x10, 0x48], [0x11, 0x44], [0x12, 0x44]];

/// The first register of six values of 16 bits, rotation first.
const MEASURED: u8 = 0x22;

/// From a step to the units of the bundled network: 0.122 mg to g, 17.5 mdps to 2 rad/s.
const ACCELERATION: f32 = 0.122e-3;
const ROTATION: f32 = 17.5e-3 * core::f32::consts::PI / 180.0 / 2.0;

/// Reads windows for ever; without a sensor on the bus it asks again each second.
#[embassy_executor::task]
pub async fn read(mut bus: Twim<'static>) {
    let Ok(pack) = Pack::with_operators(model::PACK, &model::OPERATORS) else { return };
    let affine = pack.input().affine;
    loop {
        // A bus that fails is set up anew.
        let _ = windows(&mut bus, affine).await;
        Timer::after_secs(1).await;
    }
}

async fn windows(bus: &mut Twim<'static>, affine: Affine) -> Result<(), Error> {
    for pair in SET_UP {
        bus.write(ADDRESS, &pair).await?;
    }
    let mut frames = Ticker::every(Duration::from_hz(50));
    loop {
        let mut window: Window = [0; _];
        for frame in window.chunks_exact_mut(CHANNELS) {
            frames.next().await;
            let mut bytes = [0; 2 * CHANNELS];
            bus.write_read(ADDRESS, &[MEASURED], &mut bytes).await?;
            let (rotation, acceleration) = bytes.split_at(CHANNELS);
            let values = acceleration.chunks_exact(2).map(|pair| (pair, ACCELERATION));
            let values = values.chain(rotation.chunks_exact(2).map(|pair| (pair, ROTATION)));
            for (place, (pair, unit)) in frame.iter_mut().zip(values) {
                *place = affine.quantize(unit * f32::from(i16::from_le_bytes([pair[0], pair[1]])));
            }
        }
        // Where the tuning task has not come to the last one yet, this one is dropped.
        let _ = WINDOWS.try_send(window);
    }
}
