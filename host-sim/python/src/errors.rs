//! Errors as Python's exceptions, with the texts of the command line.

use pyo3::create_exception;
use pyo3::exceptions::{PyFileNotFoundError, PyOSError, PyValueError};
use pyo3::prelude::*;
use std::io;

create_exception!(
    flatmin,
    Error,
    PyValueError,
    "What flatmin refuses: a model, samples or a recipe that it cannot work with."
);

/// The exception for an error: a callback's own, Ctrl-C's, one of the file system, or [`Error`].
pub fn raised(error: anyhow::Error) -> PyErr {
    let error = match error.downcast::<PyErr>() {
        Ok(own) => return own,
        Err(error) => error,
    };
    let text = format!("{error:#}");
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => PyFileNotFoundError::new_err(text),
        Some(_) => PyOSError::new_err(text),
        None => Error::new_err(text),
    }
}
