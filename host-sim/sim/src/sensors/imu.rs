//! An LSM6DSO as it is seen from the bus: registers, and measurements of what it is moved by.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// The chip's registers, by the names of its data sheet.
mod register {
    pub const WHO_AM_I: u8 = 0x0F;
    pub const CTRL1_XL: u8 = 0x10;
    pub const CTRL2_G: u8 = 0x11;
    pub const OUT_TEMP_L: u8 = 0x20;
    pub const OUTX_L_G: u8 = 0x22;
    pub const OUTX_L_A: u8 = 0x28;
    pub const END: usize = 0x80;
}

const ID: u8 = 0x6C;

/// Acceleration in g and rotation in rad/s, x, y, z.
pub type Movement = [f32; 6];

/// Movements that are still to come; the chip takes one a reading and stays with the last.
pub type Movements = Rc<RefCell<VecDeque<Movement>>>;

/// The chip on a bus of its own.
#[derive(Debug, Clone)]
pub struct Lsm6dso {
    address: u8,
    registers: [u8; register::END],
    movements: Movements,
    /// What fails next, for as many transactions.
    failures: Rc<RefCell<u32>>,
}

impl Lsm6dso {
    /// Powered up.
    pub fn new(address: u8, movements: Movements) -> Self {
        let mut registers = [0; register::END];
        registers[usize::from(register::WHO_AM_I)] = ID;
        Self { address, registers, movements, failures: Rc::default() }
    }

    /// How many transactions are not acknowledged from now on.
    pub fn failures(&self) -> Rc<RefCell<u32>> {
        Rc::clone(&self.failures)
    }

    /// The size of a step: g and rad/s, by the ranges that the registers choose.
    fn steps(&self) -> (f64, f64) {
        let [xl, g] = [register::CTRL1_XL, register::CTRL2_G].map(|at| self.registers[usize::from(at)]);
        // The data sheet's sensitivities: mg, and thousandths of a degree a second.
        let mg = [0.061, 0.488, 0.122, 0.244][usize::from(xl >> 2 & 3)];
        let mdps = if g & 2 != 0 { 4.375 } else { [8.75, 17.5, 35.0, 70.0][usize::from(g >> 2 & 3)] };
        (mg / 1000.0, f64::to_radians(mdps / 1000.0))
    }

    /// Nothing is measured while an output rate is zero.
    fn measure(&mut self) {
        let Some(movement) = self.movements.borrow_mut().pop_front() else { return };
        let (g, turn) = self.steps();
        let on = [register::CTRL1_XL, register::CTRL2_G].map(|at| self.registers[usize::from(at)] >> 4 != 0);
        for (i, value) in movement.into_iter().enumerate() {
            let (first, step, on) =
                if i < 3 { (register::OUTX_L_A, g, on[0]) } else { (register::OUTX_L_G, turn, on[1]) };
            let counts = if on { (f64::from(value) / step).round() as i16 } else { 0 };
            let at = usize::from(first) + 2 * (i % 3);
            self.registers[at..at + 2].copy_from_slice(&counts.to_le_bytes());
        }
    }
}

impl ErrorType for Lsm6dso {
    type Error = ErrorKind;
}

impl I2c for Lsm6dso {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        let failing = *self.failures.borrow() > 0;
        if address != self.address || failing {
            let left = self.failures.borrow().saturating_sub(1);
            self.failures.replace(left);
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        let mut at = 0;
        for operation in operations {
            match operation {
                Operation::Write([]) => {}
                Operation::Write([first, values @ ..]) => {
                    at = usize::from(*first);
                    for &value in values.iter() {
                        *self.registers.get_mut(at).ok_or(ErrorKind::Other)? = value;
                        at += 1;
                    }
                }
                Operation::Read(values) => {
                    if at == usize::from(register::OUT_TEMP_L) {
                        self.measure();
                    }
                    for value in values.iter_mut() {
                        *value = *self.registers.get(at).ok_or(ErrorKind::Other)?;
                        at += 1;
                    }
                }
            }
        }
        Ok(())
    }
}
