//! flatmin on the desktop: reads models and data, packs, tunes and emulates with the very code that the device
//! runs.

pub mod adding;
pub mod auto;
pub mod bench;
mod calibration;
pub mod delta;
pub mod device;
pub mod emulate;
pub mod experiments;
pub mod export;
pub mod flash;
pub mod fuzzing;
pub mod graph;
pub mod inference;
pub mod inspect;
pub mod link;
pub mod mapped;
pub mod model;
pub mod new_board;
pub mod objective;
pub mod onnx;
pub mod output;
pub mod packer;
pub mod planning;
pub mod report;
pub mod samples;
pub mod sensors;
pub mod tflite;
pub mod tuning;
pub mod wearers;
