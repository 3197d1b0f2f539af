//! The machine's second pflash: two 16-bit chips side by side behind 32-bit words, with Intel's command set (CFI 0001;
//! "Common Flash Memory Interface", JEDEC JEP137). Every command goes to both chips.

use core::ptr::{read_volatile, write_volatile};
use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

const READ_ARRAY: u32 = 0x00FF_00FF;
const PROGRAM: u32 = 0x0040_0040;
const ERASE: u32 = 0x0020_0020;
const CONFIRM: u32 = 0x00D0_00D0;
const CLEAR_STATUS: u32 = 0x0050_0050;
const READY: u32 = 0x0080_0080;
/// Erasing, programming, voltage, locked block.
const FAILED: u32 = 0x003A_003A;

pub struct CfiFlash {
    base: usize,
}

impl CfiFlash {
    const BYTES: usize = 32 << 20;

    /// The second of the machine's two; the first could hold the firmware.
    pub fn second() -> Self {
        Self { base: 0x2200_0000 }
    }

    /// A word inside the flash: offsets have been checked.
    fn word(&self, offset: u32) -> *mut u32 {
        (self.base + offset as usize) as *mut u32
    }

    fn command(&self, offset: u32, command: u32) {
        // SAFETY: inside the chips' range, aligned; nothing else uses them.
        unsafe { write_volatile(self.word(offset), command) };
    }

    fn read_word(&self, offset: u32) -> u32 {
        // SAFETY: as above.
        unsafe { read_volatile(self.word(offset)) }
    }

    /// Gives a command of two words, and waits until it is done.
    fn carry_out(&self, offset: u32, first: u32, second: u32) -> Result<(), NorFlashErrorKind> {
        self.command(offset, first);
        self.command(offset, second);
        let status = loop {
            let status = self.read_word(offset);
            if status & READY == READY {
                break status;
            }
        };
        if status & FAILED == 0 { Ok(()) } else { Err(NorFlashErrorKind::Other) }
    }

    /// Back to reading what is stored.
    fn read_array(&self, offset: u32) {
        self.command(offset, CLEAR_STATUS);
        self.command(offset, READ_ARRAY);
    }
}

impl ErrorType for CfiFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for CfiFlash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        for (word, at) in bytes.as_chunks_mut::<4>().0.iter_mut().zip((offset..).step_by(4)) {
            *word = self.read_word(at).to_le_bytes();
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        Self::BYTES
    }
}

impl NorFlash for CfiFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 256 << 10;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        let mut blocks = (from..to).step_by(Self::ERASE_SIZE);
        let outcome = blocks.try_for_each(|block| self.carry_out(block, ERASE, CONFIRM));
        self.read_array(from);
        outcome
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let mut words = bytes.as_chunks::<4>().0.iter().zip((offset..).step_by(4));
        let outcome = words.try_for_each(|(word, at)| self.carry_out(at, PROGRAM, u32::from_le_bytes(*word)));
        self.read_array(offset);
        outcome
    }
}
