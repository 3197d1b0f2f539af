//! Flash whose driver is C.

use core::ffi::c_void;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use flatmin::store::Store;

/// NOR flash, as its driver gives it. Offsets count from the flash's start. Functions return 0 when they have done it, any other
/// number when they have not.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct flatmin_flash {
    /// Handed to each function; may be null.
    pub context: *mut c_void,
    /// Bytes of the flash.
    pub bytes: u32,
    /// Bytes that are erased at once: a multiple of 32.
    pub page_bytes: u32,
    /// Reads `length` bytes. Not null.
    pub read: Option<extern "C" fn(context: *mut c_void, offset: u32, into: *mut u8, length: u32) -> i32>,
    /// Writes `length` bytes into erased flash. Both numbers are multiples of 32. Not null.
    pub write: Option<extern "C" fn(context: *mut c_void, offset: u32, bytes: *const u8, length: u32) -> i32>,
    /// Erases `length` bytes: whole pages. Not null.
    pub erase: Option<extern "C" fn(context: *mut c_void, offset: u32, length: u32) -> i32>,
}

/// Where kept tails lie in the flash: slots of whole pages, one after the other.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flatmin_store {
    /// Offset of the first slot: a multiple of the flash's pages.
    pub start: u32,
    /// Bytes of a slot: a multiple of the flash's pages. `flatmin inspect` says what a pack's record takes.
    pub slot_bytes: u32,
    /// Slots, 2 to 16.
    pub slots: u32,
}

impl flatmin_store {
    pub(crate) fn read(&self) -> Store {
        Store::new(self.start, self.slot_bytes, self.slots as usize)
    }
}

/// Every program unit up to 32 bytes divides it, so one constant serves all chips; records are laid out in it.
const UNIT: usize = 32;

/// A driver whose functions are there.
pub(crate) struct Flash {
    context: *mut c_void,
    bytes: u32,
    page_bytes: u32,
    read: extern "C" fn(*mut c_void, u32, *mut u8, u32) -> i32,
    write: extern "C" fn(*mut c_void, u32, *const u8, u32) -> i32,
    erase: extern "C" fn(*mut c_void, u32, u32) -> i32,
}

impl Flash {
    /// `None` where a function is missing.
    pub(crate) fn new(of: &flatmin_flash) -> Option<Self> {
        let (read, write, erase) = (of.read?, of.write?, of.erase?);
        Some(Self { context: of.context, bytes: of.bytes, page_bytes: of.page_bytes, read, write, erase })
    }

    /// Whether start and slots are in whole pages, which [`Store`] cannot know: its page is a constant.
    pub(crate) fn has_whole_pages(&self, store: &flatmin_store) -> bool {
        let page = self.page_bytes;
        page > 0
            && (page as usize).is_multiple_of(UNIT)
            && store.start.is_multiple_of(page)
            && store.slot_bytes.is_multiple_of(page)
    }
}

fn outcome(code: i32) -> Result<(), NorFlashErrorKind> {
    if code == 0 { Ok(()) } else { Err(NorFlashErrorKind::Other) }
}

fn length(of: usize) -> Result<u32, NorFlashErrorKind> {
    u32::try_from(of).map_err(|_| NorFlashErrorKind::OutOfBounds)
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, into: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        outcome((self.read)(self.context, offset, into.as_mut_ptr(), length(into.len())?))
    }

    fn capacity(&self) -> usize {
        self.bytes as usize
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = UNIT;
    const ERASE_SIZE: usize = UNIT;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let bytes = to.checked_sub(from).ok_or(NorFlashErrorKind::OutOfBounds)?;
        // The store knows UNIT alone; a slot has whole pages, so that this stays inside of it.
        let whole = bytes.checked_next_multiple_of(self.page_bytes).ok_or(NorFlashErrorKind::OutOfBounds)?;
        outcome((self.erase)(self.context, from, whole))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        outcome((self.write)(self.context, offset, bytes.as_ptr(), length(bytes.len())?))
    }
}
