//! The application of a motion sensor with the firmware's model and memory.

use crate::{RECIPE, SIZES, Stopped, ended, run_with};
use embedded_hal::i2c::I2c;
use embedded_io::{Read, ReadReady, Write};
use flatmin::Recipe;
use flatmin_app::Board;
use flatmin_app::motion::{CHANNELS, Imu, Motion, Plan, adapt};
use static_cell::ConstStaticCell;

const _: () = assert!(SIZES.input_length % CHANNELS == 0, "the model's input is no window of six axes");
static WINDOW: ConstStaticCell<[i8; SIZES.input_length]> = ConstStaticCell::new([0; SIZES.input_length]);

/// Three windows of each class.
const WINDOWS: usize = 3 * SIZES.output_length;
const _: () = assert!(WINDOWS <= u16::MAX as usize, "the model has more classes than windows are counted");

/// Tunes after every so many windows, and takes the tail only if it is better on a fifth of them.
const PLAN: Plan = Plan { windows: WINDOWS as u16, recipe: Recipe { held_out: 0.2, ..RECIPE } };

/// Reads the LSM6DSO at `address`, tunes and classifies, and answers over `link` for as long as that lasts.
pub fn run_motion<L: Read + ReadReady + Write>(
    i2c: impl I2c,
    address: u8,
    link: &mut L,
    board: &mut impl Board,
) -> Stopped {
    let Some(window) = WINDOW.try_take() else { return Stopped::Twice };
    run_with(|tuner, buffers| match Imu::new(i2c, address) {
        Ok(imu) => ended(adapt(tuner, &mut Motion::new(imu, window, PLAN), link, board, buffers)),
        Err(error) => Stopped::Sensor(error),
    })
}
