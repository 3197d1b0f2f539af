//! Firmware: the boards that it is built for, its image, and the machine that runs it in QEMU with its log.

mod board;
mod image;
mod log;
mod machine;

pub use board::{BOARDS, Board, processor_flags};
pub use image::{Image, Kind, sources, toolchain};
pub use log::LogSink;
pub use machine::{Machine, Options};
