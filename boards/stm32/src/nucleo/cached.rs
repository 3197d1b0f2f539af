//! Flash that a Cortex-M7 reads through its data cache. What was erased or written would be read as it was before: the cache's
//! lines are invalidated. No line of the flash is ever dirty: with the default memory map (the MPU is off) the code region is
//! write-through, so that the stores which program the flash reach it as well (Armv7-M manual, B3.1).

use cortex_m::peripheral::{CPUID, SCB};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// Where the flash lies.
const ADDRESS: usize = 0x0800_0000;
/// Bytes of a cache line.
const LINE: usize = 32;

/// A flash whose reads are cached.
pub struct Cached<F> {
    flash: F,
    cache: SCB,
}

impl<F> Cached<F> {
    /// Turns the caches of instructions and of data on.
    pub fn new(flash: F, mut cache: SCB, mut cpuid: CPUID) -> Self {
        cache.enable_icache();
        cache.enable_dcache(&mut cpuid);
        Self { flash, cache }
    }

    /// Forgets what was read from `from` up to `to`.
    fn forget(&mut self, from: u32, to: u32) {
        let start = (ADDRESS + from as usize) / LINE * LINE;
        let end = (ADDRESS + to as usize).next_multiple_of(LINE);
        // SAFETY: whole lines, of flash alone, none of which is dirty: no write is lost.
        unsafe { self.cache.invalidate_dcache_by_address(start, end.saturating_sub(start)) };
    }
}

impl<F: ErrorType> ErrorType for Cached<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Cached<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.flash.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

// Lines are forgotten after a failure, too: part of the flash may have changed, and a line may hold what was to be written.
impl<F: NorFlash> NorFlash for Cached<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        let done = self.flash.erase(from, to);
        self.forget(from, to);
        done
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        let done = self.flash.write(offset, bytes);
        self.forget(offset, offset.saturating_add(bytes.len() as u32));
        done
    }
}
