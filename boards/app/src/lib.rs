//! The firmware's application: restores the tail that flash holds, then reads a request, carries it out, answers.
//! Generic over link, clock, flash, LED and button; there is no chip in it.
//!
//! A board's crate makes a [`Hardware`] of its drivers, a link of its UART or USB, and calls [`serve`]; one with a
//! motion sensor may call `motion::adapt` instead (feature `motion`).

#![no_std]

mod answer;
mod board;
mod endpoint;
mod fmt;
#[cfg(feature = "motion")]
pub mod motion;
mod ram;
mod run;
mod targets;

pub use board::{ActiveLow, Board, Clock, Hardware, NoFlash, NoPin};
pub use endpoint::Endpoint;
pub use ram::{ArenaPlan, Buffers, COMPACT_STACK_BYTES, FIXED_BYTES, RamBudget, STACK_BYTES, link_bytes};

use embedded_io::{Read, Write};
use flatmin::Tunes;

/// Restores what the board's store holds, then answers requests until the link ends.
///
/// # Errors
/// Those of the link.
#[inline(never)] // else on top of what making the tuner takes
pub fn serve<'p, L: Read + Write>(
    tuner: &mut impl Tunes<'p>,
    link: &mut L,
    board: &mut impl Board,
    buffers: Buffers,
) -> Result<(), L::Error> {
    fmt::info!("ready: pack {=u32:#010x}, arena of {} bytes", tuner.pack().crc32(), tuner.arena_bytes());
    let mut endpoint = Endpoint::new(tuner, board, buffers);
    loop {
        let mut byte = [0];
        if link.read(&mut byte)? == 0 {
            return Ok(());
        }
        if let Some(frame) = endpoint.take(byte[0]) {
            link.write_all(frame)?;
            link.flush()?;
        }
    }
}
