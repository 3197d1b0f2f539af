//! `flatmin._native`: what Python's `flatmin` is made of. Arrays come in as the bytes of `.npy` files, so that one reader
//! judges what the command line and Python are given, and go out as NumPy arrays; reports go out as JSON.

mod device;
mod errors;
mod network;
mod recipe;
mod sweep;
mod tails;
mod tuned;
mod watching;

use pyo3::prelude::*;

/// The native half of `flatmin`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::device::Device;
    #[pymodule_export]
    use super::errors::Error;
    #[pymodule_export]
    use super::network::{Network, wearer};
    #[pymodule_export]
    use super::recipe::{read_recipe, recipe, write_recipe};
    #[pymodule_export]
    use super::sweep::{evaluate, space};
    #[pymodule_export]
    use super::tails::{features, head_scale, tail_of, tail_weights, with_sums};
    #[pymodule_export]
    use super::tuned::Tuned;
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
