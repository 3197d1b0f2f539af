//! Functions of one byte: 256 answers that the desktop computed as the reference kernels do.

use core::cell::Cell;

/// `y[i] = table[x[i] as u8]`; `y` may be `x`.
///
/// ```
/// use core::cell::Cell;
/// let mut values = [-1i8, 0, 3];
/// let mut table = [0u8; 256];
/// (table[255], table[0], table[3]) = (7, 8, 9);
/// let cells = Cell::from_mut(&mut values[..]).as_slice_of_cells();
/// flatmin::internals::kernels::lookup(cells, &table, cells);
/// assert_eq!(values, [7, 8, 9]);
/// ```
pub fn lookup(input: &[Cell<i8>], table: &[u8; 256], output: &[Cell<i8>]) {
    for (x, y) in input.iter().zip(output) {
        // A u8 indexes all of the table and no more.
        y.set(table[usize::from(x.get().cast_unsigned())].cast_signed());
    }
}
