//! The boards that can be emulated.

use anyhow::{Result, bail};
use flatmin::{Recipe, Sizes};
use flatmin_app::{COMPACT_STACK_BYTES, RamBudget, STACK_BYTES};
use flatmin_sim::tuning::Tail;

/// A board that QEMU emulates and a crate in `boards` runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Board {
    /// What `--board` calls it.
    pub name: &'static str,
    /// Its processor, for people.
    pub processor: &'static str,
    /// The crate, by its folder in `boards`.
    pub package: &'static str,
    /// The crate's features that choose the board.
    pub(crate) features: &'static [&'static str],
    /// The Rust target.
    pub target: &'static str,
    /// rustc's name of the processor; empty for the target's own.
    pub(crate) cpu: &'static str,
    /// The emulator, QEMU's name of the machine, and what else it is to be told.
    pub(crate) qemu: &'static [&'static str],
    /// Bytes of the flash that a file can stand for; 0 without any.
    pub(crate) flash_bytes: u64,
    /// RAM for arena, link frames and statics.
    pub ram_bytes: usize,
    /// RAM of its own for the stack: not part of the other.
    pub stack_apart: bool,
    /// Serial ports of the machine in front of the one that the firmware uses.
    pub(crate) other_ports: usize,
    /// Ticks a second of the board's clock in QEMU, where that does not follow what the firmware sets; else `None`.
    pub(crate) hertz: Option<u32>,
}

const ARM_M4F: &str = "thumbv7em-none-eabihf";
const ARM_V6M: &str = "thumbv6m-none-eabi";
const ARM_V8M: &str = "thumbv8m.main-none-eabihf";

/// What most boards have in common.
const MPS2: Board = Board {
    name: "mps2-an386",
    processor: "Cortex-M4F",
    package: "qemu-cortex-m",
    features: &[],
    target: ARM_M4F,
    cpu: "",
    qemu: &["qemu-system-arm", "mps2-an386"],
    flash_bytes: 0,
    ram_bytes: 4 << 20,
    stack_apart: false,
    other_ports: 0,
    hertz: None,
};

/// The very executable that these boards are flashed with. QEMU lets the core run at 168 MHz.
const STM32F405: Board = Board {
    processor: "Cortex-M4F, STM32F405",
    package: "stm32",
    features: &["stm32f405"],
    ram_bytes: 128 << 10,
    stack_apart: true,
    other_ports: 1,
    hertz: Some(168_000_000),
    ..MPS2
};

/// All of them: a board that is added here and has its crate in `boards` can be emulated.
pub const BOARDS: [Board; 9] = [
    MPS2,
    Board { name: "mps2-an500", processor: "Cortex-M7", qemu: &["qemu-system-arm", "mps2-an500"], ..MPS2 },
    Board {
        name: "mps2-an505",
        processor: "Cortex-M33",
        target: ARM_V8M,
        cpu: "cortex-m33",
        qemu: &["qemu-system-arm", "mps2-an505"],
        ..MPS2
    },
    Board {
        name: "mps3-an547",
        processor: "Cortex-M55",
        target: ARM_V8M,
        cpu: "cortex-m55",
        qemu: &["qemu-system-arm", "mps3-an547"],
        ram_bytes: 2 << 20,
        ..MPS2
    },
    Board {
        name: "microbit",
        processor: "Cortex-M0, nRF51822",
        target: ARM_V6M,
        cpu: "cortex-m0",
        qemu: &["qemu-system-arm", "microbit"],
        ram_bytes: 16 << 10,
        ..MPS2
    },
    // The code of a Cortex-M0+ runs on an M4, too, instruction by instruction.
    Board {
        name: "mps2-an386-m0plus",
        processor: "Cortex-M0+'s code on a Cortex-M4F",
        target: ARM_V6M,
        cpu: "cortex-m0plus",
        ..MPS2
    },
    Board { name: "netduinoplus2", qemu: &["qemu-system-arm", "netduinoplus2"], ..STM32F405 },
    Board { name: "olimex-stm32-h405", qemu: &["qemu-system-arm", "olimex-stm32-h405"], ..STM32F405 },
    Board {
        name: "riscv32-virt",
        processor: "riscv32imafc",
        package: "qemu-riscv32",
        target: "riscv32imafc-unknown-none-elf",
        qemu: &["qemu-system-riscv32", "virt", "-bios", "none"],
        flash_bytes: 32 << 20,
        ram_bytes: 1 << 20,
        ..MPS2
    },
];

impl Board {
    /// The RAM by purpose of a firmware that tunes with `tail`.
    pub fn budget(&self, tail: Tail, sizes: &Sizes, recipe: &Recipe) -> RamBudget {
        let stack = if self.target == ARM_V6M { COMPACT_STACK_BYTES } else { STACK_BYTES };
        match tail {
            Tail::Full => RamBudget::new(sizes, recipe),
            Tail::Integer => RamBudget::integer(sizes, recipe),
            Tail::Compact => RamBudget::compact(sizes, recipe, stack),
        }
    }

    /// QEMU's `-icount shift=` and what it makes of an instruction: 2^shift nanoseconds.
    pub(super) const ICOUNT_SHIFT: u32 = 6;

    /// The board called `name`.
    ///
    /// # Errors
    /// An unknown name, with those that are known.
    pub fn named(name: &str) -> Result<Self> {
        match BOARDS.iter().find(|board| board.name == name) {
            Some(board) => Ok(*board),
            None => {
                let known = BOARDS.map(|board| format!("{} ({})", board.name, board.processor));
                bail!("no board `{name}`; there are {}", known.join(", "))
            }
        }
    }

    /// Instructions that ran in so many ticks of a clock of so many hertz, to about 2 ticks.
    pub(crate) fn instructions(ticks: u64, hertz: u32) -> u64 {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(hertz.max(1));
        (nanoseconds >> Self::ICOUNT_SHIFT) as u64
    }
}
