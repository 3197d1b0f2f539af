//! Networks on the desktop: `.tflite` and `.onnx` are read into one graph, inspected, and packed for the device.

pub mod fuzzing;
pub mod graph;
pub mod inspect;
pub mod json;
pub mod mapped;
pub mod model;
pub mod onnx;
pub mod output;
pub mod packer;
pub mod recipe_file;
pub mod table;
pub mod tflite;
pub mod training;
