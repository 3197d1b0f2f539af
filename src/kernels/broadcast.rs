//! Element-wise functions of two activations whose shapes broadcast: ADD, SUB, MUL, PRELU.

use core::cell::Cell;

/// Values that an element-wise function reads.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// In the activation arena; the output may lie in the same place.
    Activations(&'a [Cell<i8>]),
    /// In flash.
    Constant(&'a [i8]),
}

impl Operand<'_> {
    /// Element `index`; 0 past the end.
    #[inline]
    fn at(&self, index: usize) -> i8 {
        match self {
            Self::Activations(cells) => cells.get(index).map_or(0, Cell::get),
            Self::Constant(values) => values.get(index).copied().unwrap_or(0),
        }
    }
}

/// Steps from element to element along each axis of an operand, 0 along axes that it is repeated over.
fn strides(own: [usize; 4], extents: [usize; 4]) -> [usize; 4] {
    let [_, height, width, channels] = own;
    let whole = [height * width * channels, width * channels, channels, 1];
    core::array::from_fn(|axis| {
        let at = |values: [usize; 4]| values.get(axis).copied().unwrap_or(1);
        if at(own) == 1 && at(extents) != 1 { 0 } else { at(whole) }
    })
}

/// `y[n,h,w,c] = function(a[...], b[...])` over the output's `extents`, an axis of extent 1 of an operand being
/// repeated (numpy's rule, ranks filled with ones in front).
///
/// ```
/// use core::cell::Cell;
/// use flatmin::internals::kernels::{Operand, broadcast};
/// let mut y = [0; 4];
/// let cells = Cell::from_mut(&mut y[..]).as_slice_of_cells();
/// let (column, row) = (Operand::Constant(&[10, 20]), Operand::Constant(&[1, 2]));
/// broadcast(column, [1, 1, 2, 1], row, [1, 1, 1, 2], cells, [1, 1, 2, 2], |a, b| a + b);
/// assert_eq!(y, [11, 12, 21, 22]);
/// ```
pub fn broadcast(
    a: Operand,
    a_extents: [usize; 4],
    b: Operand,
    b_extents: [usize; 4],
    output: &[Cell<i8>],
    extents: [usize; 4],
    function: impl Fn(i8, i8) -> i8,
) {
    let (a_strides, b_strides) = (strides(a_extents, extents), strides(b_extents, extents));
    let [_, height, width, channels] = extents;
    for (row, cells) in output.chunks_exact(channels.max(1)).enumerate() {
        let place = [row / (height * width).max(1), row / width.max(1) % height.max(1), row % width.max(1)];
        let start = |strides: [usize; 4]| place.iter().zip(strides).map(|(p, s)| p * s).sum::<usize>();
        let (mut at_a, mut at_b) = (start(a_strides), start(b_strides));
        for cell in cells {
            cell.set(function(a.at(at_a), b.at(at_b)));
            at_a += a_strides[3];
            at_b += b_strides[3];
        }
    }
}
