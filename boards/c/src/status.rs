//! What went wrong, as a code and as text.

use core::ffi::{CStr, c_char};
use flatmin::{PackError, RecipeError, TunerError};

/// What a call says. Unless a code says otherwise, the tuner is as it was before.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum flatmin_status {
    /// Done.
    FLATMIN_OK = 0,
    /// A pointer is null that must not be.
    FLATMIN_NULL = 1,
    /// Pack or memory does not begin on a 16-byte boundary.
    FLATMIN_MISALIGNED = 2,
    /// The bytes are no pack that this library reads, or it was built for another pack's operators.
    FLATMIN_PACK = 3,
    /// A value of the recipe is out of range.
    FLATMIN_RECIPE = 4,
    /// The memory is too small; flatmin_memory_bytes says what is needed.
    FLATMIN_MEMORY_TOO_SMALL = 5,
    /// The pack's tail cannot do what was asked: it cannot be trained, takes no labels, or has no head to solve.
    FLATMIN_UNSUPPORTED = 6,
    /// The input is not as long as the network's.
    FLATMIN_INPUT = 7,
    /// The network has no output for this label.
    FLATMIN_LABEL = 8,
    /// There is no labelled sample.
    FLATMIN_NO_SAMPLES = 9,
    /// A run is under way; poll until it is finished.
    FLATMIN_RUNNING = 10,
    /// No run is under way; start one.
    FLATMIN_NOT_RUNNING = 11,
    /// There is no tuned tail yet; accept or requantize one.
    FLATMIN_NOT_TUNED = 12,
    /// The run has diverged and has ended: tune with a smaller learning rate.
    FLATMIN_DIVERGED = 13,
    /// The store does not fit the flash: slots are whole pages inside of it, 2 to 16 of them, each large enough for a record.
    FLATMIN_STORE = 14,
    /// The flash failed or is worn out; restore, to see what is in force.
    FLATMIN_FLASH = 15,
    /// The processor flushes subnormal numbers to zero, and a run would end in other bits: clear FPSCR.FZ.
    FLATMIN_FLUSHES_TO_ZERO = 16,
    /// Refused for a reason that has no code of its own.
    FLATMIN_REFUSED = 17,
}

use flatmin_status::*;

/// All codes, each at its number.
const CODES: [flatmin_status; 18] = [
    FLATMIN_OK,
    FLATMIN_NULL,
    FLATMIN_MISALIGNED,
    FLATMIN_PACK,
    FLATMIN_RECIPE,
    FLATMIN_MEMORY_TOO_SMALL,
    FLATMIN_UNSUPPORTED,
    FLATMIN_INPUT,
    FLATMIN_LABEL,
    FLATMIN_NO_SAMPLES,
    FLATMIN_RUNNING,
    FLATMIN_NOT_RUNNING,
    FLATMIN_NOT_TUNED,
    FLATMIN_DIVERGED,
    FLATMIN_STORE,
    FLATMIN_FLASH,
    FLATMIN_FLUSHES_TO_ZERO,
    FLATMIN_REFUSED,
];

impl flatmin_status {
    fn text(self) -> &'static CStr {
        match self {
            FLATMIN_OK => c"done",
            FLATMIN_NULL => c"a pointer is null that must not be",
            FLATMIN_MISALIGNED => c"pack or memory does not begin on a 16-byte boundary",
            FLATMIN_PACK => {
                c"the bytes are no pack that this library reads, or it was built for another pack's operators"
            }
            FLATMIN_RECIPE => c"a value of the recipe is out of range",
            FLATMIN_MEMORY_TOO_SMALL => c"the memory is too small; flatmin_memory_bytes says what is needed",
            FLATMIN_UNSUPPORTED => c"the pack's tail cannot do that",
            FLATMIN_INPUT => c"the input is not as long as the network's",
            FLATMIN_LABEL => c"the network has no output for this label",
            FLATMIN_NO_SAMPLES => c"there is no labelled sample; observe some first",
            FLATMIN_RUNNING => c"a run is under way; poll until it is finished",
            FLATMIN_NOT_RUNNING => c"no run is under way; start one",
            FLATMIN_NOT_TUNED => c"there is no tuned tail yet; accept or requantize one",
            FLATMIN_DIVERGED => c"the run has diverged and has ended; tune with a smaller learning rate",
            FLATMIN_STORE => {
                c"the store does not fit the flash: 2 to 16 slots of whole pages, each with room for a record"
            }
            FLATMIN_FLASH => c"the flash failed or is worn out; restore, to see what is in force",
            FLATMIN_FLUSHES_TO_ZERO => c"the processor flushes subnormal numbers to zero; clear FPSCR.FZ",
            FLATMIN_REFUSED => c"refused",
        }
    }
}

impl From<TunerError> for flatmin_status {
    fn from(error: TunerError) -> Self {
        use flatmin::store::StoreError;
        match error {
            TunerError::ArenaTooSmall { .. } | TunerError::SolveRoom { .. } => FLATMIN_MEMORY_TOO_SMALL,
            TunerError::ArenaMisaligned => FLATMIN_MISALIGNED,
            TunerError::Recipe(_) => FLATMIN_RECIPE,
            TunerError::InputLength { .. } => FLATMIN_INPUT,
            TunerError::Label { .. } => FLATMIN_LABEL,
            TunerError::NoSamples => FLATMIN_NO_SAMPLES,
            TunerError::Running => FLATMIN_RUNNING,
            TunerError::NotRunning => FLATMIN_NOT_RUNNING,
            TunerError::NotTuned | TunerError::Store(StoreError::NothingToRollBack) => FLATMIN_NOT_TUNED,
            TunerError::Diverged | TunerError::Step(_) => FLATMIN_DIVERGED,
            TunerError::FlushesToZero => FLATMIN_FLUSHES_TO_ZERO,
            TunerError::Store(
                StoreError::Flash { .. } | StoreError::WornOut { .. } | StoreError::Damaged { .. },
            ) => FLATMIN_FLASH,
            TunerError::Store(_) => FLATMIN_STORE,
            TunerError::Tail(_)
            | TunerError::LeftOut { .. }
            | TunerError::WantsTarget
            | TunerError::NoHead
            | TunerError::NoSolver
            | TunerError::OneKind => FLATMIN_UNSUPPORTED,
            _ => FLATMIN_REFUSED,
        }
    }
}

impl From<Result<(), TunerError>> for flatmin_status {
    fn from(outcome: Result<(), TunerError>) -> Self {
        outcome.map_or_else(Self::from, |()| FLATMIN_OK)
    }
}

impl From<PackError> for flatmin_status {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Misaligned => FLATMIN_MISALIGNED,
            _ => FLATMIN_PACK,
        }
    }
}

impl From<RecipeError> for flatmin_status {
    fn from(_: RecipeError) -> Self {
        FLATMIN_RECIPE
    }
}

/// A status in words, in English; never null.
// A number: C may pass one that is no status, which an enum must not have in Rust.
#[unsafe(no_mangle)]
pub extern "C" fn flatmin_status_text(status: u32) -> *const c_char {
    let code = CODES.get(status as usize);
    code.map_or(c"no status of flatmin", |code| code.text()).as_ptr()
}
