//! Labelled samples: recorded ones, in place of a sensor and of somebody who labels.

/// Bytes of the header of an .npy file.
const HEADER: usize = 128;
/// [63, 100, 6] values, int8 in the network's quantization.
static X: &[u8] = include_bytes!("../x.npy");
/// [63] labels, one byte each.
static Y: &[u8] = include_bytes!("../y.npy");

/// Inputs as the network takes them, and their labels.
pub fn labelled() -> impl Iterator<Item = (&'static [i8], usize)> {
    let (x, y) = (&X[HEADER..], &Y[HEADER..]);
    let rows = x.chunks_exact(crate::model::SIZES.input_length);
    rows.map(bytemuck::cast_slice).zip(y.iter().map(|&label| label.into()))
}
