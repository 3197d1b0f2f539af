//! Makes sure that a firmware holds the multiply-accumulate instructions that its kernels are written for: a build
//! that takes another path, or a compiler that loses it, must not pass unnoticed.
//!
//! The kernels' inner loops are functions of their own. Their machine code is read from the ELF file and searched for
//! the encodings of the Armv8-M Architecture Reference Manual (DDI 0553), section C2.4.

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSymbol};
use std::path::Path;

/// An instruction of 32 bits in Thumb: the bits that tell it from others, first halfword in the upper half.
#[derive(Debug, Clone, Copy)]
struct Encoding {
    name: &'static str,
    mask: u32,
    bits: u32,
}

/// SMLAD, encoding T1; SMUAD, which has no accumulator, is among them.
const SMLAD: Encoding = Encoding { name: "SMLAD", mask: 0xfff0_00e0, bits: 0xfb20_0000 };
/// SMLABB, SMLABT, SMLATB, SMLATT, encoding T1.
const SMLA_HALVES: Encoding = Encoding { name: "SMLABB", mask: 0xfff0_00c0, bits: 0xfb10_0000 };
/// VMLADAV.S8, the accumulating form, which VMLAVA.S8 is an alias of.
const VMLADAVA: Encoding = Encoding { name: "VMLADAVA.S8", mask: 0xfff1_0ff1, bits: 0xeef0_0f20 };
/// VMULLB.S16 and VMULLT.S16 are told apart by bit 12.
const VMULL: Encoding = Encoding { name: "VMULLB.S16", mask: 0xefb1_0f51, bits: 0xee11_0e00 };

/// VFMA and VFMS, then VFNMA and VFNMS, of registers of one or two words: Armv7-M Architecture Reference Manual (DDI 0403),
/// sections A7.7.229 and A7.7.231. They round once where the contract on bits rounds twice.
const FUSED: [Encoding; 4] = [
    Encoding { name: "VFMA", mask: 0xffb0_0e10, bits: 0xeea0_0a00 },
    Encoding { name: "VFNMA", mask: 0xffb0_0e10, bits: 0xee90_0a00 },
    // Helium's: of vectors, and of a vector and a scalar.
    Encoding { name: "VFMA.F32 of vectors", mask: 0xff91_1f51, bits: 0xef00_0c50 },
    Encoding { name: "VFMA.F32 by a scalar", mask: 0xffb1_0f70, bits: 0xee31_0e40 },
];

/// What a loop over f32 vectors holds: VLDRW.U32 with an offset, VMUL.F32 of vectors or by a scalar, VADD.F32 of vectors.
const VLDRW: Encoding = Encoding { name: "VLDRW", mask: 0xfe10_1f80, bits: 0xec10_1f00 };
const VMUL: [Encoding; 2] = [
    Encoding { name: "VMUL.F32", mask: 0xffb1_1f51, bits: 0xff00_0d50 },
    Encoding { name: "VMUL.F32 by a scalar", mask: 0xffb1_1ff0, bits: 0xee31_0e60 },
];
const VADD: Encoding = Encoding { name: "VADD.F32", mask: 0xffb1_1f51, bits: 0xef00_0d40 };
/// LE and LETP, the ends of low-overhead loops.
const LOOP_END: Encoding = Encoding { name: "LE", mask: 0xffef_f001, bits: 0xf00f_c001 };

/// Functions with an inner loop, what it multiplies with, and how often at least.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    function: &'static str,
    encoding: Encoding,
    least: usize,
}

/// The DSP extension's path.
pub const DSP: &[Expectation] = &[
    Expectation { function: "two_rows_in_assembly", encoding: SMLAD, least: 32 },
    Expectation { function: "four_rows_in_assembly", encoding: SMLAD, least: 32 },
    Expectation { function: "four_channels_in_assembly", encoding: SMLA_HALVES, least: 12 },
];

/// Helium's path.
pub const HELIUM: &[Expectation] = &[
    Expectation { function: "four_filters17h", encoding: VMLADAVA, least: 4 },
    Expectation { function: "four_filters_of_even_rows", encoding: VMLADAVA, least: 8 },
    Expectation { function: "four_filters_of_odd_rows", encoding: VMLADAVA, least: 12 },
    Expectation { function: "three_filters_with_offset", encoding: VMLADAVA, least: 3 },
    Expectation { function: "sixteen_channels", encoding: VMULL, least: 4 },
];

/// Functions of training that hold Helium's loops over f32 vectors, and how many loops at least.
pub const HELIUM_TRAINING: &[(&str, usize)] = &[
    ("5dense7forward17h", 1),
    ("5dense10accumulate17h", 2),
    ("5dense14backward_input17h", 1),
    ("6conv2d16backward_weights17h", 1),
    ("9depthwise16backward_weights17h", 1),
];
/// All of them in a firmware that trains every kind of layer.
pub const HELIUM_LOOPS: usize = 16;

/// Checks that a firmware's training loops are low-overhead ones over f32 vectors: `all` in the firmware, and as many as
/// `functions` say.
///
/// # Errors
/// The message names the function that holds fewer.
pub fn check_vector_loops(executable: &Path, functions: &[(&str, usize)], all: usize) -> Result<()> {
    let file = std::fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
    for &(function, least) in functions {
        let code = code(&file, function)?
            .with_context(|| format!("{}: no function {function} was linked", executable.display()))?;
        let found = vector_loops(&code);
        ensure!(
            found >= least,
            "{function} holds {found} loops over f32 vectors, at least {least} are expected"
        );
    }
    let found: usize = thumb_code(&file)?.iter().map(|code| vector_loops(code)).sum();
    ensure!(found >= all, "the firmware holds {found} loops over f32 vectors, at least {all} are expected");
    Ok(())
}

/// How many low-overhead loops load vectors, multiply and add.
fn vector_loops(code: &[u8]) -> usize {
    let mut loops = 0;
    for (end, instruction) in instructions(code) {
        if instruction & LOOP_END.mask != LOOP_END.bits {
            continue;
        }
        // imm10:imm1:0 bytes back from behind this instruction.
        let back = (instruction >> 1 & 0x3ff) << 2 | (instruction >> 11 & 1) << 1;
        let Some(start) = (2 * end + 4).checked_sub(back as usize) else { continue };
        let body = code.get(start..2 * end).unwrap_or(&[]);
        let multiplies = VMUL.iter().any(|&encoding| count(body, encoding) > 0);
        loops += usize::from(multiplies && count(body, VLDRW) > 0 && count(body, VADD) > 0);
    }
    loops
}

/// Checks an executable.
///
/// # Errors
/// The message names the function and the instruction that is missing.
pub fn check(executable: &Path, expectations: &[Expectation]) -> Result<()> {
    let file = std::fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
    for Expectation { function, encoding, least } in expectations {
        let code = code(&file, function)?
            .with_context(|| format!("{}: no function {function} was linked", executable.display()))?;
        let found = count(&code, *encoding);
        let name = encoding.name;
        ensure!(found >= *least, "{function} holds {found} {name}, at least {least} are expected");
    }
    Ok(())
}

/// Checks that an executable for Cortex-M has no fused multiply-add.
///
/// # Errors
/// There is one, or no code: the file does not say where code and constants lie.
pub fn check_unfused(executable: &Path) -> Result<()> {
    let file = std::fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
    let code = thumb_code(&file)?;
    ensure!(!code.is_empty(), "{}: no Thumb code is marked", executable.display());
    for encoding in FUSED {
        let found: usize = code.iter().map(|code| count(code, encoding)).sum();
        ensure!(found == 0, "{}: {found} {}, which rounds once", executable.display(), encoding.name);
    }
    Ok(())
}

/// All stretches of Thumb code, by the mapping symbols that tell them from constants (ELF for the Arm Architecture, section
/// 5.5.5).
fn thumb_code(file: &[u8]) -> Result<Vec<Vec<u8>>> {
    use object::{ObjectSection, SectionKind};
    let elf = object::File::parse(file).context("the firmware is no ELF file")?;
    let mark = |symbol: object::Symbol| {
        let is_code = match symbol.name().ok()?.get(..2)? {
            "$t" => true,
            "$d" => false,
            _ => return None,
        };
        Some((symbol.address(), is_code))
    };
    let mut marks: Vec<(u64, bool)> = elf.symbols().filter_map(mark).collect();
    marks.sort_unstable();
    let mut stretches = Vec::new();
    for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
        let (start, end) = (section.address(), section.address() + section.size());
        let own: Vec<_> = marks.iter().filter(|(at, _)| (start..end).contains(at)).collect();
        for (place, &&(at, is_code)) in own.iter().enumerate() {
            let next = own.get(place + 1).map_or(end, |&&(next, _)| next);
            if is_code {
                stretches.extend(section.data_range(at, next - at)?.map(<[u8]>::to_vec));
            }
        }
    }
    Ok(stretches)
}

/// The machine code of the function whose symbol contains `name`.
fn code(file: &[u8], name: &str) -> Result<Option<Vec<u8>>> {
    use object::ObjectSection;
    let elf = object::File::parse(file).context("the firmware is no ELF file")?;
    let symbol = elf.symbols().find(|s| s.size() > 0 && s.name().is_ok_and(|n| n.contains(name)));
    let Some(symbol) = symbol else { return Ok(None) };
    let index = symbol.section_index().context("a function lies in a section")?;
    // The lowest bit of a function's address says that it is Thumb code.
    let bytes = elf.section_by_index(index)?.data_range(symbol.address() & !1, symbol.size())?;
    Ok(bytes.map(<[u8]>::to_vec))
}

/// How many instructions of `code` have this encoding.
fn count(code: &[u8], encoding: Encoding) -> usize {
    let found = instructions(code).into_iter();
    found.filter(|(_, instruction)| instruction & encoding.mask == encoding.bits).count()
}

/// The instructions of two halfwords in `code`, and at which halfword each begins.
fn instructions(code: &[u8]) -> Vec<(usize, u32)> {
    let halfwords: Vec<u32> =
        code.as_chunks::<2>().0.iter().map(|h| u32::from(u16::from_le_bytes(*h))).collect();
    let (mut at, mut found) = (0, Vec::new());
    while at < halfwords.len() {
        let first = halfwords[at];
        // 0b11101, 0b11110 and 0b11111 begin instructions of two halfwords.
        if first >> 11 < 0b11101 {
            at += 1;
            continue;
        }
        let Some(second) = halfwords.get(at + 1) else { break };
        found.push((at, first << 16 | second));
        at += 2;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Machine code as an assembler writes it, each beside its text.
    #[test]
    fn instructions_are_told_apart() {
        let smlad = [0x26, 0xfb, 0x04, 0x00]; // smlad r0, r6, r4, r0
        let smlatt = [0x19, 0xfb, 0x3b, 0x66]; // smlatt r6, r9, r11, r6
        let vmlava = [0xf0, 0xee, 0x22, 0x4f]; // vmlava.s8 r4, q0, q1
        let vaddva = [0xf1, 0xee, 0x22, 0x2f]; // vaddva.s8 r2, q1
        let vmullb = [0x19, 0xee, 0x0a, 0xce]; // vmullb.s16 q6, q4, q5
        let vmullt = [0x19, 0xee, 0x0a, 0xfe]; // vmullt.s16 q7, q4, q5
        let nop = [0x00, 0xbf];
        let code =
            [&nop[..], &smlad, &vaddva, &nop, &smlatt, &vmlava, &nop, &vmullb, &smlad, &vmullt].concat();
        let counts = [SMLAD, SMLA_HALVES, VMLADAVA, VMULL].map(|encoding| count(&code, encoding));
        assert_eq!(counts, [2, 1, 1, 2]);
        let fused = [0xa0, 0xee, 0x81, 0x0a, 0xa0, 0xee, 0xc1, 0x0a]; // vfma.f32 and vfms.f32 s0, s1, s2
        let negated = [0x90, 0xee, 0xc1, 0x0a, 0x90, 0xee, 0x81, 0x0a]; // vfnma.f32 and vfnms.f32 s0, s1, s2
        let chained = [0x00, 0xee, 0x81, 0x0a, 0x20, 0xee, 0x81, 0x0a]; // vmla.f32 and vmul.f32 s0, s1, s2
        let code = [fused, chained, negated].concat();
        assert_eq!(FUSED.map(|encoding| count(&code, encoding)), [2, 2, 0, 0]);
        // vfma.f32 q0, q1, q2; vfms.f32 q0, q1, q2; vfma.f32 q0, q1, r2
        let vectors = [0x02, 0xef, 0x54, 0x0c, 0x22, 0xef, 0x54, 0x0c, 0x33, 0xee, 0x42, 0x0e];
        assert_eq!(FUSED.map(|encoding| count(&vectors, encoding)), [0, 0, 2, 1]);
        let load = [0xb1, 0xec, 0x04, 0x9f, 0x99, 0xed, 0x0c, 0xff]; // vldrw.32 q4, [r1], #16 and q7, [r9, #48]
        let multiply = [0x0a, 0xff, 0x58, 0xad, 0x3d, 0xee, 0x6c, 0xee]; // vmul.f32 q5, q5, q4 and q7, q6, r12
        let add = [0x00, 0xef, 0x4a, 0x0d]; // vadd.f32 q0, q0, q5
        assert_eq!(count(&load, VLDRW), 2);
        assert_eq!(VMUL.map(|encoding| count(&multiply, encoding)), [1, 1]);
        let end = |back: u8| [0x1f, 0xf0, 0x01 | back / 2, 0xc0]; // letp lr, so many bytes back, a multiple of 4
        let whole = [&nop[..], &nop, &load, &multiply, &add, &end(24)].concat();
        assert_eq!([vector_loops(&whole), count(&whole, LOOP_END)], [1, 1]);
        // A loop that begins behind the loads.
        let shorter = [&load[..], &multiply, &add, &end(16)].concat();
        assert_eq!([vector_loops(&shorter), count(&shorter, LOOP_END)], [0, 1]);
        // Half an instruction is none.
        assert_eq!(count(&smlad[..2], SMLAD), 0);
    }
}
