//! The chip's flash has an error-correcting code of its own for every 32 bytes: reading a word that a power cut left half
//! written raises a bus fault. Here it becomes an error, which for the store is a damaged slot. What the code noticed stays
//! in the flash's status register, where the HAL takes it for a failure of the next operation; it is cleared after a read, and
//! before an operation, as the processor may have read ahead.

use core::arch::asm;
use cortex_m::peripheral::SCB;
use embassy_stm32::flash::{Blocking, Error, Flash};
use embassy_stm32::pac;
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash, check_read};

/// Where the flash lies.
const ADDRESS: usize = 0x0800_0000;
/// Configuration and Control Register: data faults at priorities -1 and -2 are ignored (BFHFNMIGN).
const IGNORE_FAULTS: u32 = 1 << 8;
/// Configurable Fault Status Register: precise data bus error (PRECISERR), and its address is valid (BFARVALID).
const DATA_FAULT: u32 = 1 << 9;
const FAULT_ADDRESS: u32 = 1 << 15;

pub struct Corrected(pub Flash<'static, Blocking>);

/// Reads bytes where faults are ignored; false if there was one.
fn read_checked(from: usize, bytes: &mut [u8]) -> bool {
    let scb = SCB::PTR;
    // SAFETY: the System Control Block's registers, read and written as a whole, by this function alone; the flash is
    // mapped there, as far as the caller has checked; between `cpsid f` and `cpsie f` nothing else runs (Armv7-M
    // manual: FAULTMASK, CCR, CFSR).
    unsafe {
        (*scb).cfsr.write(DATA_FAULT | FAULT_ADDRESS);
        (*scb).ccr.modify(|ccr| ccr | IGNORE_FAULTS);
        asm!("cpsid f", "dsb", "isb");
        for (byte, at) in bytes.iter_mut().zip(from..) {
            *byte = (at as *const u8).read_volatile();
        }
        asm!("dsb", "cpsie f", "isb");
        (*scb).ccr.modify(|ccr| ccr & !IGNORE_FAULTS);
        let whole = (*scb).cfsr.read() & DATA_FAULT == 0;
        (*scb).cfsr.write(DATA_FAULT | FAULT_ADDRESS);
        whole
    }
}

/// Forgets what the code noticed, in both banks: one flipped bit, which it corrected, or two.
fn clear_noticed() {
    for bank in 0..2 {
        pac::FLASH.bank(bank).ccr().write(|clear| {
            clear.set_clr_sneccerr(true);
            clear.set_clr_dbeccerr(true);
        });
    }
}

impl ErrorType for Corrected {
    type Error = Error;
}

impl ReadNorFlash for Corrected {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        check_read(self, offset, bytes.len()).map_err(|_| Error::Size)?;
        let whole = read_checked(ADDRESS + offset as usize, bytes);
        clear_noticed();
        if whole { Ok(()) } else { Err(Error::Prog) }
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for Corrected {
    const WRITE_SIZE: usize = Flash::<Blocking>::WRITE_SIZE;
    const ERASE_SIZE: usize = Flash::<Blocking>::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Error> {
        clear_noticed();
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        clear_noticed();
        self.0.write(offset, bytes)
    }
}
