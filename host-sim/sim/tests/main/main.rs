//! Tuning on the desktop, as a whole: one program for all tests.

mod accept;
mod added;
mod bundled;
mod closed_form;
mod compact;
mod compact_resume;
mod compact_store;
mod dead_channels;
mod export;
mod foreign_bytes;
mod gate;
mod golden_outputs;
mod incoming;
mod integer;
mod keywords;
mod normalized;
mod one_copy;
mod onnx;
mod radius;
mod random_sequences;
mod shares;
mod skipping;
mod store_tuner;
mod stored_before;
mod suspects;
mod tuner;
