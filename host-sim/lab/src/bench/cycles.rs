//! An estimate of a Cortex-M4's cycles from a trace of every executed instruction.
//!
//! Costs are those of the Cortex-M4 Technical Reference Manual (DDI 0439), tables 3-1 and 7-1, with memory without
//! wait states: a load 2, or 1 right behind another single load or store; a store 1; a multiple load or store 1 and
//! one a register; a branch 1, and 2 more to refill the pipeline where it is taken; an integer division 7 of its
//! 2 to 12; `vmla` and its kin 3; `vdiv` and `vsqrt` 14; all else 1. Not modelled: that floating-point arithmetic takes
//! a cycle longer where the very next instruction uses its result. It is no measurement on a chip.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

/// What an instruction is to the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// One cycle.
    Simple,
    /// A load of one register.
    Load,
    /// A store of one register.
    Store,
    /// Loads or stores of so many words.
    Multiple(u8),
    /// Integer division.
    Divide,
    /// `vmla`, `vmls`, `vnmla`, `vnmls`.
    MultiplyAdd,
    /// `vfma` and its kin, which round once: never to be used.
    Fused,
    /// `vdiv`, `vsqrt`.
    FloatDivide,
}

impl Class {
    fn cycles(self, before: Option<Self>) -> u64 {
        match self {
            Self::Simple | Self::Store => 1,
            Self::Load if matches!(before, Some(Self::Load | Self::Store)) => 1,
            Self::Load => 2,
            Self::Multiple(words) => 1 + u64::from(words),
            Self::Divide => 7,
            Self::MultiplyAdd | Self::Fused => 3,
            Self::FloatDivide => 14,
        }
    }
}

/// Whether the first halfword begins an instruction of two.
fn is_wide(first: u16) -> bool {
    first >> 11 >= 0b11101
}

/// Encodings of 16 bits: Armv7-M Architecture Reference Manual (DDI 0403), section A5.2.
fn narrow(code: u16) -> Class {
    let registers = |mask: u16| Class::Multiple((code & mask).count_ones() as u8);
    match code >> 12 {
        0b0100 if code & 0xf800 == 0x4800 => Class::Load,
        0b0101 if code >> 9 & 7 >= 3 => Class::Load,
        0b0101 => Class::Store,
        0b0110..=0b1001 if code & 0x0800 != 0 => Class::Load,
        0b0110..=0b1001 => Class::Store,
        // PUSH and POP; bit 8 is LR or PC.
        0b1011 if code & 0x0600 == 0x0400 => registers(0x01ff),
        0b1100 => registers(0x00ff),
        _ => Class::Simple,
    }
}

/// Encodings of 32 bits: section A5.3; floating point: A6.
fn wide(first: u16, second: u16) -> Class {
    let load = first & 0x10 != 0;
    let single = if load { Class::Load } else { Class::Store };
    if first & 0xec00 == 0xec00 {
        if !matches!(second >> 8 & 15, 10 | 11) {
            return Class::Simple;
        }
        let words = (second & 0xff) as u8;
        return match () {
            // VMOV between two core registers and the FPU.
            () if first & 0xffe0 == 0xec40 => Class::Multiple(1),
            () if first & 0xff20 == 0xed00 => single,
            () if first & 0xee00 == 0xec00 => Class::Multiple(words),
            // VMOV, VMRS.
            () if second & 0x10 != 0 => Class::Simple,
            () => match first >> 4 & 0b1011 {
                0 | 1 => Class::MultiplyAdd,
                0b1001 | 0b1010 => Class::Fused,
                0b1000 => Class::FloatDivide,
                0b1011 if first & 0xf == 1 && second & 0xc0 == 0xc0 => Class::FloatDivide,
                _ => Class::Simple,
            },
        };
    }
    match first >> 9 & 0x3f {
        // LDM, STM; LDRD, STRD and their kin.
        0b110100 if first & 0x40 == 0 => Class::Multiple(second.count_ones() as u8),
        // TBB, TBH: a load, and a branch.
        0b110100 if first & 0xfff0 == 0xe8d0 => Class::Load,
        0b110100 => Class::Multiple(2),
        0b111100 if first & 0x0100 == 0 => single,
        0b111101 if first & 0x01d0 == 0x0190 && second & 0xf0 == 0xf0 => Class::Divide,
        _ => Class::Simple,
    }
}

/// What a stretch of a trace took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Instructions.
    pub instructions: u64,
    /// Estimated cycles.
    pub cycles: u64,
}

/// A firmware's code, and the clock that it reads around what is measured.
pub struct Tracer {
    code: HashMap<u32, (u8, Class)>,
    clock: Range<u32>,
}

impl Tracer {
    /// Reads an ELF file with a function `ticks`.
    ///
    /// # Errors
    /// No ELF file, or no such function.
    pub fn new(file: &[u8]) -> Result<Self> {
        let elf = object::File::parse(file).context("the firmware is no ELF file")?;
        let mut code = HashMap::new();
        let mut clock = None;
        for symbol in elf.symbols().filter(|s| s.size() > 0 && s.kind() == object::SymbolKind::Text) {
            let name = symbol.name().unwrap_or_default();
            let start = (symbol.address() & !1) as u32;
            if name.contains("ticks") {
                clock = Some(start..start + symbol.size() as u32);
            }
            let Some(index) = symbol.section_index() else { continue };
            let section = elf.section_by_index(index)?;
            let bytes = section.data_range(u64::from(start), symbol.size())?.unwrap_or_default();
            let halfwords: Vec<u16> =
                bytes.as_chunks::<2>().0.iter().map(|h| u16::from_le_bytes(*h)).collect();
            // Constants between instructions may pair up wrongly with what follows: every place is decoded.
            for (i, &first) in halfwords.iter().enumerate() {
                let decoded = match halfwords.get(i + 1) {
                    Some(&second) if is_wide(first) => (4, wide(first, second)),
                    _ => (2, narrow(first)),
                };
                code.insert(start + 2 * i as u32, decoded);
            }
        }
        Ok(Self { code, clock: clock.context("the firmware has no function `ticks`")? })
    }

    /// Reads QEMU's log of `-d exec,nochain`, an instruction a block. Costs of the stretches between two readings
    /// of the clock, every other one of which is measured work.
    ///
    /// No more than `measurements` of them: what follows may be long.
    ///
    /// # Errors
    /// A fused multiply-add was executed in measured work: it breaks the contract on bits.
    pub fn read(&self, log: impl BufRead, measurements: usize) -> Result<Vec<Cost>> {
        let mut stretches = Vec::new();
        let (mut cost, mut in_clock) = (Cost::default(), false);
        let mut before: Option<(u32, u8, Class)> = None;
        for line in log.lines() {
            let line = line?;
            let Some(address) = address(&line) else { continue };
            if self.clock.contains(&address) {
                // An interrupt's end may lead back into it: that is no second reading.
                if !in_clock && address == self.clock.start {
                    stretches.push(cost);
                    if stretches.len() / 2 == measurements {
                        break;
                    }
                }
                (cost, in_clock, before) = (Cost::default(), true, None);
                continue;
            }
            in_clock = false;
            let Some(&(size, class)) = self.code.get(&address) else {
                before = None;
                continue;
            };
            if class == Class::Fused && self.is_measured(&stretches) {
                bail!("the firmware executes a fused multiply-add at {address:#x}, which rounds once");
            }
            cost.instructions += 1;
            cost.cycles += class.cycles(before.map(|(_, _, class)| class));
            if before.is_some_and(|(address_before, size, _)| address_before + u32::from(size) != address) {
                cost.cycles += 2;
            }
            before = Some((address, size, class));
        }
        // What was before the first reading, and between one measurement and the next, is no measurement.
        Ok(stretches.into_iter().skip(1).step_by(2).collect())
    }

    fn is_measured(&self, stretches: &[Cost]) -> bool {
        stretches.len() % 2 == 1
    }
}

/// The address of `Trace 0: 0x7f5648000100 [00800408/0000000000000400/00000110/ff022201] Reset`.
fn address(line: &str) -> Option<u32> {
    let fields = line.strip_prefix("Trace")?.split_once('[')?.1;
    u32::try_from(u64::from_str_radix(fields.split('/').nth(1)?, 16).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Machine code as an assembler writes it, beside what the manual's tables say.
    #[test]
    fn instructions_cost_what_the_manual_says() {
        for (code, cycles) in [
            ([0x6808, 0], 2),       // ldr r0, [r1]
            ([0x6008, 0], 1),       // str r0, [r1]
            ([0xb5f0, 0], 6),       // push {r4-r7, lr}
            ([0x1840, 0], 1),       // adds r0, r0, r1
            ([0xecb0, 0x8a08], 9),  // vldmia r0!, {s16-s23}
            ([0xed90, 0x0a00], 2),  // vldr s0, [r0]
            ([0xee00, 0x0a81], 3),  // vmla.f32 s0, s1, s2
            ([0xee20, 0x0a81], 1),  // vmul.f32 s0, s1, s2
            ([0xee30, 0x0a81], 1),  // vadd.f32 s0, s1, s2
            ([0xee80, 0x0a81], 14), // vdiv.f32 s0, s1, s2
            ([0xeeb1, 0x0ac0], 14), // vsqrt.f32 s0, s0
            ([0xfbb0, 0xf0f1], 7),  // udiv r0, r0, r1
            ([0xe9d1, 0x0200], 3),  // ldrd r0, r2, [r1]
        ] {
            let class = if is_wide(code[0]) { wide(code[0], code[1]) } else { narrow(code[0]) };
            assert_eq!(class.cycles(None), cycles, "{code:x?} is {class:?}");
        }
        assert_eq!(wide(0xeea0, 0x0a81), Class::Fused); // vfma.f32 s0, s1, s2
        assert_eq!(Class::Load.cycles(Some(Class::Load)), 1);
    }

    #[test]
    fn a_log_is_cut_at_the_clock() {
        let code = (0..64).map(|i| (2 * i, (2, Class::Simple))).collect();
        let tracer = Tracer { code, clock: 100..104 };
        let log: String = [0, 2, 100, 102, 4, 6, 20, 100, 102, 8, 100, 10, 12, 100, 14]
            .map(|address: u32| format!("Trace 0: 0x7f56 [0/{address:016x}/0/0] f\n"))
            .concat();
        let costs = tracer.read(log.as_bytes(), usize::MAX).unwrap();
        // Three instructions, of which one was jumped to; then two.
        assert_eq!(costs, [Cost { instructions: 3, cycles: 5 }, Cost { instructions: 2, cycles: 2 }]);
    }
}
