//! Lines that a board answers with, and the desktop as a board.

use anyhow::{Context, Result};
use std::fmt;

/// The desktop as a board: its lines are the reference, it has no clock.
#[derive(Default)]
pub(super) struct Desktop(pub(super) String);

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
pub(super) enum Line {
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

pub(super) fn parse(output: &str) -> Result<Vec<Line>> {
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
