//! Sessions, devices and emulated firmware: one program for all tests.

#[path = "../../../sim/tests/main/bundled/mod.rs"]
mod bundled;
mod classes;
mod firmware;
mod histories;
mod power_cuts;
mod session;
mod signed;
#[path = "../../../sim/tests/main/skipping/mod.rs"]
mod skipping;
mod slices;
mod tails;
