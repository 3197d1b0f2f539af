//! Flash that feeds the watchdog between pages and between writes.

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// `flash`, which is erased page by page.
pub(crate) struct Fed<'a, F, W> {
    pub flash: &'a mut F,
    pub feed: &'a mut W,
}

impl<F: NorFlash, W: FnMut()> ErrorType for Fed<'_, F, W> {
    type Error = F::Error;
}

impl<F: NorFlash, W: FnMut()> ReadNorFlash for Fed<'_, F, W> {
    const READ_SIZE: usize = F::READ_SIZE;

    #[inline(never)] // else in every place of the store's code
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        (self.feed)();
        self.flash.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

impl<F: NorFlash, W: FnMut()> NorFlash for Fed<'_, F, W> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    #[inline(never)]
    fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        let page = u32::try_from(F::ERASE_SIZE).unwrap_or(u32::MAX).max(1);
        let mut at = from;
        while at < to {
            (self.feed)();
            let end = at.saturating_add(page).min(to);
            self.flash.erase(at, end)?;
            at = end;
        }
        (self.feed)();
        Ok(())
    }

    #[inline(never)]
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        (self.feed)();
        self.flash.write(offset, bytes)
    }
}
