//! The chip's flash as far as tails are kept in it: sectors of 128 KiB. The HAL's own reads ask a register for the flash's
//! size, which QEMU does not have.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use stm32f4xx_hal::flash::UnlockedFlash;

/// Where the flash lies.
const ADDRESS: usize = 0x0800_0000;

pub struct Sectors<'a>(pub UnlockedFlash<'a>);

impl ErrorType for Sectors<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Sectors<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        for (byte, at) in bytes.iter_mut().zip(ADDRESS + offset as usize..) {
            // SAFETY: inside the flash, which is mapped there.
            *byte = unsafe { (at as *const u8).read_volatile() };
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        1 << 20
    }
}

impl NorFlash for Sectors<'_> {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = 128 << 10;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        for start in (from..to).step_by(Self::ERASE_SIZE) {
            // The first 128 KiB are sectors 0 to 4.
            let sector = start / Self::ERASE_SIZE as u32 + 4;
            if sector == 4 {
                return Err(NorFlashErrorKind::NotAligned);
            }
            self.0.erase(sector as u8).map_err(|_| NorFlashErrorKind::Other)?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        self.0.program(offset as usize, bytes.iter()).map_err(|_| NorFlashErrorKind::Other)
    }
}
