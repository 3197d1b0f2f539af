//! Labelled samples: recorded ones, in place of a sensor and of somebody who labels.

/// Bytes of the header of an .npy file.
const HEADER: usize = 128;
/// [63, 100, 6] values, int8 in the network's quantization.
static X: &[u8] = include_bytes!("../x.npy");
/// [63] labels, one byte each.
static Y: &[u8] = include_bytes!("../y.npy");

/// The element type in an array's header. Build errors say what these files must be; see host-sim/docs/firmware.md.
const fn holds(array: &[u8], element: &[u8; 3]) -> bool {
    array[21] == element[0] && array[22] == element[1] && array[23] == element[2]
}
const _: () = assert!(holds(X, b"|i1"), "x.npy: int8 is expected, quantized as the network takes it");
const _: () = assert!(holds(Y, b"|u1"), "y.npy: one byte each is expected: save y.astype(np.uint8)");
const _: () = assert!(
    X.len() - HEADER == (Y.len() - HEADER) * crate::model::SIZES.input_length,
    "x.npy and y.npy: as many samples as labels are expected, each of the network's input"
);

/// Inputs as the network takes them, and their labels.
pub fn labelled() -> impl Iterator<Item = (&'static [i8], usize)> {
    let (x, y) = (&X[HEADER..], &Y[HEADER..]);
    let rows = x.chunks_exact(crate::model::SIZES.input_length);
    rows.map(bytemuck::cast_slice).zip(y.iter().map(|&label| label.into()))
}
