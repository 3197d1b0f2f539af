//! The firmware's application: restores the tail that flash holds, then reads a request, carries it out, answers.
//! Generic over link, clock, flash, LED and button; there is no chip in it.
//!
//! A board's crate makes a [`Hardware`] of its drivers, a link of its UART or USB, and calls [`serve`]; one with a
//! motion sensor may call `motion::adapt` instead (feature `motion`).

#![no_std]

mod answer;
mod board;
mod endpoint;
mod fed;
mod fmt;
mod guard;
#[cfg(feature = "signed")]
mod keys;
#[cfg(feature = "motion")]
pub mod motion;
mod ram;
mod run;
mod serial;
mod targets;

pub use board::{ActiveLow, Board, Clock, Hardware, NoFlash, NoPin, pages_after};
pub use endpoint::{Attended, Endpoint};
pub use ram::{
    ArenaPlan, Buffers, COMPACT_STACK_BYTES, FIXED_BYTES, INTEGER_STACK_BYTES, RamBudget, SOLVING,
    STACK_BYTES, link_bytes,
};
pub use serial::Serial;

use embedded_io::{Read, ReadReady, Write};
use flatmin::{Arithmetic, Tuner};

/// Restores what the board's store holds, then answers requests until the link ends. While a byte is waited for, the
/// board's watchdog is fed.
///
/// # Errors
/// Those of the link.
#[inline(never)] // else on top of what making the tuner takes
pub fn serve<'p, A: Arithmetic<'p>, L: Read + ReadReady + Write>(
    tuner: &mut Tuner<'p, A>,
    link: &mut L,
    board: &mut impl Board,
    buffers: Buffers,
) -> Result<(), L::Error> {
    fmt::info!("ready: pack {=u32:#010x}, arena of {} bytes", tuner.pack().crc32(), tuner.arena_bytes());
    let mut endpoint = Endpoint::new(tuner, board, buffers);
    while endpoint.attend(link)? != Attended::Ended {}
    Ok(())
}
