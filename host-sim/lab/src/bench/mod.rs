//! `flatmin bench`: instructions of kernels, operators and training on emulated boards, nanoseconds on this
//! machine.

mod board;
mod code;
mod cycles;
mod grid;
mod host;
mod host_train;
mod instructions;
mod tails;
mod train;
mod tuners;

pub use board::{BOARDS, BoardReport, Emulated, Extras};
pub use code::CodeSize;
pub use grid::Grid;
pub use host::{HostReport, measure as measure_host};
pub use host_train::{HostTrainReport, measure as measure_host_training};
pub use train::{TrainReport, measure as measure_training};

use anyhow::{Context, Result};
use flatmin_model::model::Model;
use flatmin_model::packer::PackFile;
use std::fmt;

/// One kernel or operator as it ran on the desktop: what a board must reproduce.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    name: String,
    shape: String,
    macs: u64,
    crc32: String,
}

/// The desktop as a board: its lines are the reference, it has no clock.
#[derive(Default)]
struct Desktop(String);

impl fmt::Write for Desktop {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        Ok(())
    }
}

impl flatmin_bench::Board for Desktop {
    fn ticks(&mut self) -> u64 {
        0
    }
}

/// One line of a board's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// Ticks of measuring nothing.
    Empty(u64),
    /// A kernel or operator: name or index, ticks, CRC-32 of its output.
    Measured(String, u64, String),
    /// Input and output do not fit into the board.
    Skipped(String),
    /// A generated case: CRC-32 of its output.
    Case(String),
    /// A part of the front end: its name, ticks, CRC-32 of the features, 0 before there are any.
    FrontEnd(String, u64, String),
    /// A model of the grid: its place, its output's place, CRC-32 of all samples of that output.
    Grid(usize, usize, String),
    /// A run that was resumed at so many slice boundaries: CRC-32 of its weights in one piece, and in pieces.
    Resumed(u32, [String; 2]),
    /// All is done.
    End,
}

fn parse(output: &str) -> Result<Vec<Line>> {
    let line = |line: &str| -> Option<Line> {
        Some(match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["empty", ticks] => Line::Empty(ticks.parse().ok()?),
            ["kernel" | "operator", name, ticks, crc] => {
                Line::Measured((*name).to_owned(), ticks.parse().ok()?, (*crc).to_owned())
            }
            ["skipped", name] => Line::Skipped((*name).to_owned()),
            ["case", _, crc] => Line::Case((*crc).to_owned()),
            ["front-end", part, ticks, crc] => {
                Line::FrontEnd((*part).to_owned(), ticks.parse().ok()?, (*crc).to_owned())
            }
            ["grid", model, output, crc] => {
                Line::Grid(model.parse().ok()?, output.parse().ok()?, (*crc).to_owned())
            }
            ["resumed", _, boundaries, whole, resumed] => {
                Line::Resumed(boundaries.parse().ok()?, [whole, resumed].map(|crc| (*crc).to_owned()))
            }
            ["end"] => Line::End,
            _ => return None,
        })
    };
    output.lines().map(|l| line(l).with_context(|| format!("the board says `{l}`"))).collect()
}

/// What the desktop computes for the four shapes.
fn kernel_references() -> Result<Vec<Reference>> {
    let mut desktop = Desktop::default();
    flatmin_bench::run_kernels(&mut desktop, &mut vec![0; 1 << 16])?;
    let measured = parse(&desktop.0)?.into_iter().filter_map(|line| match line {
        Line::Measured(_, _, crc32) => Some(crc32),
        _ => None,
    });
    let reference = |(kernel, crc32): (&flatmin_bench::Kernel, String)| Reference {
        name: kernel.name.to_owned(),
        shape: kernel.shape.to_owned(),
        macs: kernel.macs(),
        crc32,
    };
    Ok(flatmin_bench::KERNELS.iter().zip(measured).map(reference).collect())
}

/// What the desktop computes for every operator of `model`.
fn operator_references(model: &Model, file: &PackFile) -> Result<Vec<Reference>> {
    let pack = file.pack();
    let mut desktop = Desktop::default();
    flatmin_bench::run_model(&mut desktop, &pack, &mut vec![0; pack.sizes().arena_bytes])?;
    let mut references = Vec::new();
    for line in parse(&desktop.0)? {
        let Line::Measured(index, _, crc32) = line else { continue };
        let index: u16 = index.parse()?;
        let op = pack.operator(index);
        let extent = |tensor: u16| {
            let t = pack.tensor(tensor);
            format!("{}x{}x{}", t.height, t.width, t.channels)
        };
        let step = model.network.steps.get(usize::from(index));
        references.push(Reference {
            name: format!("{index} {}", step.map_or("?", |s| s.name.as_str())),
            shape: format!("{} -> {}", extent(op.input), extent(op.output)),
            macs: pack.operator_macs(&op),
            crc32,
        });
    }
    Ok(references)
}

/// What the desktop computes for the generated cases.
fn case_references() -> Vec<String> {
    (0..flatmin_bench::CASES).map(|index| format!("{:08x}", flatmin_bench::run_case(index))).collect()
}

/// What the desktop computes for the front end: name and CRC-32 of each part.
fn front_end_references() -> Result<Vec<(String, String)>> {
    let mut desktop = Desktop::default();
    flatmin_bench::run_front_end(&mut desktop)?;
    let parts = parse(&desktop.0)?.into_iter().filter_map(|line| match line {
        Line::FrontEnd(part, _, crc32) => Some((part, crc32)),
        _ => None,
    });
    Ok(parts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_says_something_else_is_refused() {
        let lines = parse("empty 3\nkernel a 12 0f\nskipped b\ncase 0 ff\nend\n").unwrap();
        assert_eq!(lines[1], Line::Measured("a".into(), 12, "0f".into()));
        for garbage in ["kernel a x 0f", "panicked at main.rs", "kernel"] {
            assert!(parse(garbage).unwrap_err().to_string().contains(garbage));
        }
    }
}
