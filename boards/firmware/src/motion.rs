//! The application of a motion sensor with the firmware's model and memory.

use crate::{OPERATORS, RECIPE, SIZES, Stopped, ended, log, run_with};
use embedded_hal::i2c::I2c;
use embedded_io::{Read, ReadReady, Write};
use flatmin_app::Board;
use flatmin_app::motion::{CHANNELS, Imu, Motion, Plan, adapt};
use static_cell::ConstStaticCell;

const _: () = assert!(SIZES.input_length % CHANNELS == 0, "the model's input is no window of six axes");
static WINDOW: ConstStaticCell<[i8; SIZES.input_length]> = ConstStaticCell::new([0; SIZES.input_length]);

const _: () = assert!(SIZES.output_length <= 21_845, "the model has more classes than windows are counted");

/// What `flatmin sensors motion` simulates.
const PLAN: Plan = Plan::shipped(RECIPE, &SIZES, OPERATORS.has_solver());

/// Reads the LSM6DSO at `address`, tunes and classifies, and answers over `link` for as long as that lasts;
/// logs why it cannot go on.
pub fn run_motion<L: Read + ReadReady + Write>(
    i2c: impl I2c,
    address: u8,
    link: &mut L,
    board: &mut impl Board,
) -> Stopped {
    let Some(window) = WINDOW.try_take() else { return log(Stopped::Twice) };
    log(run_with(|tuner, buffers| match Imu::new(i2c, address) {
        Ok(imu) => ended(adapt(tuner, &mut Motion::new(imu, window, PLAN), link, board, buffers)),
        Err(error) => Stopped::Sensor(error),
    }))
}
