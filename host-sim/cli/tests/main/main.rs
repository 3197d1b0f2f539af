//! The binary as users run it: one program for all tests.

mod circles;
mod cli;
mod device;
mod installed;
mod motion;
mod operator_grid;
#[path = "../../../sim/tests/main/skipping/mod.rs"]
mod skipping;
