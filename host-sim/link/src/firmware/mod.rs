//! Firmware: the boards that it is built for, its image, and the machine that runs it in QEMU with its log.

mod board;
mod compile;
mod image;
mod log;
mod machine;

pub use board::{BOARDS, Board};
pub use compile::{cargo, sources, toolchain};
pub use image::{Image, Kind};
pub use log::LogSink;
pub use machine::{Machine, Options};
