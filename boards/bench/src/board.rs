//! A board, and the time that something takes on it.

use core::fmt::Write;

/// What a board gives: a line to the desktop and a clock.
pub trait Board: Write {
    /// A free-running clock; it does not wrap during a benchmark.
    fn ticks(&mut self) -> u64;
}

/// Ticks from before `work` to after it.
pub(crate) fn measured(board: &mut impl Board, work: impl FnOnce()) -> u64 {
    let start = board.ticks();
    work();
    board.ticks().wrapping_sub(start)
}
