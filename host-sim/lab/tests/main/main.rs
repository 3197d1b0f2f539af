//! Experiments and benchmarks: one program for all tests.

mod bench;
mod experiments;
mod kernels;
