//! Devices: sessions over a line, and firmware, built and run in an emulator.

pub mod device;
pub mod doctor;
pub mod emulate;
pub mod firmware;
pub mod key;
pub mod link;
pub mod new_board;
