//! `flatmin bench`: instructions of kernels, operators and training on emulated boards, nanoseconds on this
//! machine.

mod board;
mod code;
mod cycles;
mod grid;
mod host;
mod host_train;
mod instructions;
mod lines;
mod references;
mod row;
mod tails;
mod train;
mod tuners;

pub use board::{BOARDS, BoardReport, Emulated, Extras};
pub use code::CodeSize;
pub use grid::Grid;
pub use host::{HostReport, measure as measure_host};
pub use host_train::{HostTrainReport, measure as measure_host_training};
pub use train::{TrainReport, measure as measure_training};
