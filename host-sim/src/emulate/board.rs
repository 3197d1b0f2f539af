//! The boards that can be emulated.

use anyhow::{Result, bail};

/// A board that QEMU emulates and a crate in `boards` runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Board {
    /// QEMU's name of the machine.
    pub machine: &'static str,
    /// Its processor, for people.
    pub processor: &'static str,
    /// The crate, by its folder in `boards`.
    pub package: &'static str,
    /// The Rust target.
    pub target: &'static str,
    /// Nanoseconds that a tick of the firmware's clock takes.
    pub nanoseconds_a_tick: u64,
}

/// All of them: a board that is added here and has its crate in `boards` can be emulated.
pub const BOARDS: [Board; 2] = [
    Board {
        machine: "mps2-an386",
        processor: "Cortex-M4F",
        package: "qemu-mps2",
        target: "thumbv7em-none-eabihf",
        nanoseconds_a_tick: 40,
    },
    Board {
        machine: "mps2-an500",
        processor: "Cortex-M7",
        package: "qemu-mps2",
        target: "thumbv7em-none-eabihf",
        nanoseconds_a_tick: 40,
    },
];

impl Board {
    /// QEMU's `-icount shift=` and what it makes of an instruction: 2^shift nanoseconds.
    pub(super) const ICOUNT_SHIFT: u32 = 6;

    /// The board that QEMU calls `machine`.
    ///
    /// # Errors
    /// An unknown name, with those that are known.
    pub fn named(machine: &str) -> Result<Self> {
        match BOARDS.iter().find(|board| board.machine == machine) {
            Some(board) => Ok(*board),
            None => {
                let known = BOARDS.map(|board| format!("{} ({})", board.machine, board.processor));
                bail!("no board `{machine}`; there are {}", known.join(", "))
            }
        }
    }

    /// Instructions that ran in so many ticks of the firmware's clock, to about 2 ticks.
    pub(super) fn instructions(&self, ticks: u64) -> u64 {
        (ticks * self.nanoseconds_a_tick) >> Self::ICOUNT_SHIFT
    }
}
