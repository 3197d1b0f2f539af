//! The firmware's application: restores the tail that flash holds, then reads a request, carries it out, answers.
//! Generic over link, clock, flash, LED and button; there is no chip in it.
//!
//! A board's crate makes a [`Hardware`] of its drivers, a link of its UART or USB, and calls [`serve`].

#![no_std]

mod answer;
mod board;
mod endpoint;
mod fed;
mod fmt;
mod ram;
mod run;
mod serial;

pub use board::{ActiveLow, Board, Clock, Hardware, NoFlash, NoPin};
pub use endpoint::Endpoint;
pub use ram::{Buffers, FIXED_BYTES, RamBudget, STACK_BYTES, link_bytes};
pub use serial::Serial;

use embedded_io::{Read, ReadReady, Write};
use flatmin::Tuner;

/// Restores what the board's store holds, then answers requests until the link ends. While a byte is waited for, the
/// board's watchdog is fed.
///
/// # Errors
/// Those of the link.
pub fn serve<L: Read + ReadReady + Write>(
    tuner: &mut Tuner,
    link: &mut L,
    board: &mut impl Board,
    buffers: Buffers,
) -> Result<(), L::Error> {
    fmt::info!("ready: pack {=u32:#010x}, arena of {} bytes", tuner.pack().crc32(), tuner.arena_bytes());
    let mut endpoint = Endpoint::new(tuner, board, buffers);
    loop {
        endpoint.feed();
        if !link.read_ready()? {
            continue;
        }
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
