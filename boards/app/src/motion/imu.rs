//! An LSM6DSO or LSM6DSOX on I2C, in the units of the network.

use embedded_hal::i2c::I2c;
use lsm6dso::{AccelerometerOutput, AccelerometerScale, GyroscopeFullScale, GyroscopeOutput, Lsm6dso};

/// Values of a frame: acceleration x, y, z, rotation x, y, z.
pub const CHANNELS: usize = 6;

/// From the driver's m/s^2 and rad/s to the bundled model's units: g, and 2 rad/s.
const GAINS: [f32; CHANNELS] = [1.0 / 9.80665, 1.0 / 9.80665, 1.0 / 9.80665, 0.5, 0.5, 0.5];

/// Block data update, so that both bytes of a value are of one measurement, which the driver leaves off; and register
/// addresses that count on, as after power-up.
const CTRL3_C: [u8; 2] = [0x12, 0x44];

/// Why the sensor gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ImuError {
    /// No answer on the bus: wires, pull-ups and the address.
    Bus,
    /// Another chip answered: its WHO_AM_I is not an LSM6DSO's.
    OtherChip,
    /// A register held what it cannot.
    Register,
}

impl core::fmt::Display for ImuError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.write_str(match self {
            Self::Bus => "no answer on the bus; check wires, pull-ups and the address",
            Self::OtherChip => "another chip than an LSM6DSO answers at this address",
            Self::Register => "a register of the sensor holds what it cannot",
        })
    }
}

impl core::error::Error for ImuError {}

impl<E: core::fmt::Debug> From<lsm6dso::Error<E>> for ImuError {
    fn from(error: lsm6dso::Error<E>) -> Self {
        match error {
            lsm6dso::Error::CommunicationError(_) => Self::Bus,
            lsm6dso::Error::ChipDetectFailed => Self::OtherChip,
            lsm6dso::Error::RegisterReadFailed => Self::Register,
        }
    }
}

/// The sensor: 4 g, 500 degrees a second, 104 measurements a second, of which the application reads every second one.
#[allow(missing_debug_implementations)] // The driver's has none.
pub struct Imu<I>(Lsm6dso<I>);

impl<I: I2c> Imu<I> {
    /// The address with the pin SDO low.
    pub const ADDRESS: u8 = 0x6A;

    /// Checks that it is there, and starts it.
    ///
    /// # Errors
    /// Those of the bus, or another chip at `address`.
    pub fn new(mut i2c: I, address: u8) -> Result<Self, ImuError> {
        i2c.write(address, &CTRL3_C).map_err(|_| ImuError::Bus)?;
        let mut driver = Lsm6dso::new(i2c, address);
        driver.check()?;
        driver.set_accelerometer_scale(AccelerometerScale::G04)?;
        driver.set_gyroscope_scale(GyroscopeFullScale::Dps500)?;
        driver.set_accelerometer_output(AccelerometerOutput::Rate104)?;
        driver.set_gyroscope_output(GyroscopeOutput::Rate104)?;
        Ok(Self(driver))
    }

    /// The latest measurement: acceleration in g, rotation in units of 2 rad/s.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn read(&mut self) -> Result<[f32; CHANNELS], ImuError> {
        let data = self.0.read_all()?;
        let mut frame = [data.accel_x, data.accel_y, data.accel_z, data.gyro_x, data.gyro_y, data.gyro_z];
        frame.iter_mut().zip(GAINS).for_each(|(value, gain)| *value *= gain);
        Ok(frame)
    }
}
