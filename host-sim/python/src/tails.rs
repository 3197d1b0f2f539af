//! Tails as numbers, and sums of features: what a fleet's server works with.

use crate::errors::raised;
use crate::network::{Network, array};
use anyhow::{Result, ensure};
use flatmin_model::packer::PackFile;
use flatmin_model::packer::statistics::Sums;
use flatmin_sim::calibration;
use flatmin_sim::tail_weights::{TailWeights, head_scale as scale};
use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

fn pack(network: &Network, layers: Option<usize>, trains: &[String]) -> Result<PackFile> {
    network.model.pack(&network.tail(layers, trains)?)
}

/// Weights and ranges of a tail's bytes, or of the factory's tail.
#[pyfunction]
#[pyo3(signature = (network, layers, trains, tail = None))]
pub fn tail_weights(
    py: Python<'_>,
    network: &Network,
    layers: Option<usize>,
    trains: Vec<String>,
    tail: Option<PyBackedBytes>,
) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    let numbers = || {
        let pack = pack(network, layers, &trains)?;
        match &tail {
            Some(tail) => TailWeights::of(&pack, tail),
            None => TailWeights::factory(&pack),
        }
    };
    let TailWeights { weights, ranges } = py.detach(numbers).map_err(raised)?;
    let count = ranges.len();
    let ranges = array(py, ranges.into_flattened(), &[count, 2])?;
    Ok((weights.into_pyarray(py).into_any().unbind(), ranges.unbind()))
}

/// A tail's bytes, int8 and f32, of weights and of ranges, low and high of each layer.
#[pyfunction]
pub fn tail_of<'py>(
    py: Python<'py>,
    network: &Network,
    layers: Option<usize>,
    trains: Vec<String>,
    weights: PyReadonlyArray1<'py, f32>,
    ranges: PyReadonlyArray1<'py, f32>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (weights, ranges) = (weights.as_slice()?.to_vec(), ranges.as_slice()?.as_chunks().0.to_vec());
    let tail = || TailWeights { weights, ranges }.tail(&pack(network, layers, &trains)?);
    Ok(PyBytes::new(py, &py.detach(tail).map_err(raised)?))
}

/// What the last layer reads for samples, in steps above the zero point, shape (N, features).
#[pyfunction]
pub fn features(py: Python<'_>, network: &Network, x: PyBackedBytes) -> PyResult<Py<PyAny>> {
    let read = || calibration::features(&network.model, &crate::network::inputs(&network.model, &x)?);
    let rows = py.detach(read).map_err(raised)?;
    let shape = [rows.len(), rows.first().map_or(0, Vec::len)];
    Ok(array(py, rows.concat(), &shape)?.unbind())
}

/// Units of the f32 tail in one step of what the last layer reads.
#[pyfunction]
pub fn head_scale(network: &Network) -> PyResult<f32> {
    pack(network, Some(1), &[]).and_then(|pack| scale(&pack)).map_err(raised)
}

/// A copy whose factory statistics are those of these sums: counts by class, sums of features by class, and sums of
/// products of two features.
#[pyfunction]
pub fn with_sums<'py>(
    network: &Network,
    counts: PyReadonlyArray1<'py, i64>,
    sums: PyReadonlyArray1<'py, i64>,
    products: PyReadonlyArray1<'py, i64>,
) -> PyResult<Network> {
    let [counts, sums, products] =
        [counts.as_slice()?, sums.as_slice()?, products.as_slice()?].map(<[i64]>::to_vec);
    let own = || {
        let features = sums.len() / counts.len().max(1);
        ensure!(
            features > 0 && sums.len() == features * counts.len() && products.len() == features * features,
            "sums of other classes or features than those counted"
        );
        calibration::of_sums(network.model.clone(), &Sums { counts, sums, products })
    };
    Ok(network.with_model(own().map_err(raised)?))
}
