//! Tests compare with the portable loops.

use core::cell::Cell;

std::thread_local! {
    pub(super) static IS_ASKED_FOR: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` without AVX.
pub fn only<T>(work: impl FnOnce() -> T) -> T {
    IS_ASKED_FOR.set(true);
    let result = work();
    IS_ASKED_FOR.set(false);
    result
}
