//! Tuning on the desktop, as a whole: one program for all tests.

mod accept;
mod bundled;
mod compact;
mod compact_resume;
mod compact_store;
mod dead_channels;
mod export;
mod golden_outputs;
mod keywords;
mod onnx;
mod skipping;
mod store;
mod store_tuner;
mod suspects;
mod tuner;
