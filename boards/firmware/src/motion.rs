//! The application of a motion sensor with the firmware's model and memory.

use crate::{ARENA, OPERATORS, PACK, RECIPE, SIZES};
use embedded_hal::i2c::I2c;
use flatmin::{Pack, PackError, Recipe, Tuner, TunerError};
use flatmin_app::Board;
use flatmin_app::motion::{CHANNELS, Imu, ImuError, Motion, Plan, adapt};
use static_cell::ConstStaticCell;

const _: () = assert!(SIZES.input_length % CHANNELS == 0, "the model's input is no window of six axes");
static WINDOW: ConstStaticCell<[i8; SIZES.input_length]> = ConstStaticCell::new([0; SIZES.input_length]);

/// Tunes after every third window of each class, and takes the tail only if it is better on a fifth of them.
const PLAN: Plan =
    Plan { windows: 3 * SIZES.output_length as u16, recipe: Recipe { held_out: 0.2, ..RECIPE } };

/// Why [`run_motion`] has not begun.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NotBegun {
    /// The pack that the firmware was built with is damaged.
    #[error("the pack: {0}")]
    Pack(PackError),
    /// The pack cannot be trained.
    #[error("the tuner: {0}")]
    Tuner(TunerError),
    /// The sensor does not answer.
    #[error("the sensor: {0}")]
    Sensor(ImuError),
    /// Called a second time.
    #[error("the application runs once")]
    Twice,
}

/// Reads the LSM6DSO at `address`, tunes and classifies for ever.
pub fn run_motion(i2c: impl I2c, address: u8, board: &mut impl Board) -> NotBegun {
    let pack = match Pack::with_operators(PACK, &OPERATORS) {
        Ok(pack) => pack,
        Err(error) => return NotBegun::Pack(error),
    };
    let (Some(arena), Some(window)) = (ARENA.try_take(), WINDOW.try_take()) else { return NotBegun::Twice };
    let mut tuner = match Tuner::new(pack, RECIPE, arena.bytes()) {
        Ok(tuner) => tuner,
        Err(error) => return NotBegun::Tuner(error),
    };
    let imu = match Imu::new(i2c, address) {
        Ok(imu) => imu,
        Err(error) => return NotBegun::Sensor(error),
    };
    adapt(&mut tuner, &mut Motion::new(imu, window, PLAN), board)
}
