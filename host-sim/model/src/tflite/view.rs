//! Checked views of a flatbuffer: any bytes give values or an error.
//!
//! The runtime crate's own accessors are `unsafe` to call and to implement, so the few that a
//! model needs stand here. All offsets are little-endian and relative to where they are stored.
//! A table begins with an `i32`: its position minus its vtable's. The vtable holds `u16`s: its own
//! size, the table's size, then per field the offset from the table's beginning, 0 if absent.

use std::cell::Cell;
use std::ops::Range;

use super::ReadError;

/// How many times its own length a file may unfold to. Tensors may share a buffer, hence not 1;
/// a limit at all because a vector of offsets to one large thing would unfold without end.
const UNFOLD: usize = 8;

/// What a table counts for at least, since more than its bytes is kept of it.
const TABLE: usize = 32;

/// The bytes of a file, and how much more may still be read from them.
pub(super) struct File<'a> {
    bytes: &'a [u8],
    left: Cell<usize>,
}

/// One table; the position is in the file, the fields are checked as they are read.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    file: &'a File<'a>,
    what: &'static str,
    position: usize,
    /// The table's bytes, its leading `i32` included.
    body: &'a [u8],
    /// Offsets of the fields, two bytes each.
    slots: &'a [u8],
}

/// A number as it lies in the file.
pub(super) trait Scalar: Sized {
    const SIZE: usize;
    /// The number in the first bytes, if there are enough of them.
    fn first(bytes: &[u8]) -> Option<Self>;
}

macro_rules! scalars {
    ($($number:ty)*) => {$(
        impl Scalar for $number {
            const SIZE: usize = size_of::<$number>();
            fn first(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|&bytes| <$number>::from_le_bytes(bytes))
            }
        }
    )*};
}
scalars!(i8 u8 u16 i32 u32 i64 u64 f32);

impl<'a> File<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let left = Cell::new(bytes.len().saturating_mul(UNFOLD));
        Self { bytes, left }
    }

    /// The root table, after the identifier is found to be `expected`.
    pub fn root(&'a self, expected: &[u8; 4], what: &'static str) -> Result<Table<'a>, ReadError> {
        let length = self.bytes.len();
        let found = self.bytes.get(4..8).ok_or(ReadError::TooShort { length })?;
        if found != expected {
            let found = found.escape_ascii().to_string();
            return Err(ReadError::Identifier { found });
        }
        self.table(self.follow(0, what)?, what)
    }

    /// Bytes `position .. position + needed`; `what` they are is for the error alone.
    fn bytes(&self, position: u64, needed: u64, what: &'static str) -> Result<&'a [u8], ReadError> {
        let range = || {
            let end = position.checked_add(needed)?;
            let range = usize::try_from(position).ok()?..usize::try_from(end).ok()?;
            self.bytes.get(range)
        };
        range().ok_or(ReadError::Truncated { what, position, needed, length: self.bytes.len() })
    }

    /// The same for data that is kept: it counts against what the file may unfold to.
    pub fn data(&self, position: u64, size: u64, what: &'static str) -> Result<&'a [u8], ReadError> {
        let data = self.bytes(position, size, what)?;
        self.spend(data.len())?;
        Ok(data)
    }

    fn spend(&self, size: usize) -> Result<(), ReadError> {
        let limit = self.bytes.len().saturating_mul(UNFOLD);
        let left = self.left.get().checked_sub(size);
        self.left.set(left.ok_or(ReadError::Unfolds { limit })?);
        Ok(())
    }

    fn scalar<T: Scalar>(&self, position: usize, what: &'static str) -> Result<T, ReadError> {
        let (position, needed) = (position as u64, T::SIZE as u64);
        let bytes = self.bytes(position, needed, what)?;
        T::first(bytes).ok_or(ReadError::Truncated { what, position, needed, length: self.bytes.len() })
    }

    /// Where the offset at `position` leads; may lie past the end, which the next read finds out.
    fn follow(&self, position: usize, what: &'static str) -> Result<usize, ReadError> {
        let offset: u32 = self.scalar(position, what)?;
        Ok(position.saturating_add(offset as usize))
    }

    fn table(&'a self, position: usize, what: &'static str) -> Result<Table<'a>, ReadError> {
        let damaged = |problem| ReadError::Damaged { what, position, problem };
        let back: i32 = self.scalar(position, what)?;
        let vtable = position as i64 - i64::from(back);
        let vtable =
            usize::try_from(vtable).map_err(|_| damaged(format!("its vtable would be at byte {vtable}")))?;
        let vtable_size: u16 = self.scalar(vtable, what)?;
        let size: u16 = self.scalar(vtable.saturating_add(2), what)?;
        if vtable_size < 4 || !vtable_size.is_multiple_of(2) || size < 4 {
            let problem = format!("a vtable of {vtable_size} bytes and a table of {size}");
            return Err(damaged(problem));
        }
        let vtable = self.bytes(vtable as u64, vtable_size.into(), what)?;
        let body = self.bytes(position as u64, size.into(), what)?;
        self.spend(body.len().max(TABLE))?;
        Ok(Table { file: self, what, position, body, slots: vtable.get(4..).unwrap_or_default() })
    }

    /// The elements of the vector at `position`, `element` bytes each, and where they begin.
    fn vector(
        &self,
        position: usize,
        element: usize,
        what: &'static str,
    ) -> Result<(usize, &'a [u8]), ReadError> {
        let count: u32 = self.scalar(position, what)?;
        let start = position.saturating_add(4);
        let size = u64::from(count) * element as u64;
        Ok((start, self.data(start as u64, size, what)?))
    }
}

impl<'a> Table<'a> {
    /// Offset of a field in the table, `None` if the field is absent.
    fn slot(&self, field: usize) -> Option<usize> {
        let slot = self.slots.get(field.checked_mul(2)?..)?;
        u16::first(slot).map(usize::from).filter(|&offset| offset != 0)
    }

    fn present<T: Scalar>(&self, field: usize) -> Result<Option<(usize, T)>, ReadError> {
        let Some(offset) = self.slot(field) else {
            return Ok(None);
        };
        let value = self.body.get(offset..).and_then(T::first);
        let value = value.ok_or_else(|| {
            let size = self.body.len();
            let problem = format!("field {field} at offset {offset} of a table of {size} bytes");
            ReadError::Damaged { what: self.what, position: self.position, problem }
        })?;
        Ok(Some((self.position + offset, value)))
    }

    /// A number, or the schema's `default` for it.
    pub fn scalar<T: Scalar>(&self, field: usize, default: T) -> Result<T, ReadError> {
        Ok(self.present(field)?.map_or(default, |(_, value)| value))
    }

    fn target(&self, field: usize) -> Result<Option<usize>, ReadError> {
        let offset = self.present::<u32>(field)?;
        Ok(offset.map(|(position, offset)| position.saturating_add(offset as usize)))
    }

    /// A table.
    pub fn table(&self, field: usize, what: &'static str) -> Result<Option<Table<'a>>, ReadError> {
        let target = self.target(field)?;
        target.map(|at| self.file.table(at, what)).transpose()
    }

    /// A vector of tables, empty if absent.
    pub fn tables(&self, field: usize, what: &'static str) -> Result<Vec<Table<'a>>, ReadError> {
        let Some(at) = self.target(field)? else {
            return Ok(Vec::new());
        };
        let (start, offsets) = self.file.vector(at, 4, what)?;
        (0..offsets.len())
            .step_by(4)
            .map(|i| self.file.table(self.file.follow(start + i, what)?, what))
            .collect()
    }

    /// A vector of numbers, empty if absent.
    pub fn scalars<T: Scalar>(&self, field: usize) -> Result<Vec<T>, ReadError> {
        let bytes = self.elements(field, T::SIZE)?;
        Ok(bytes.chunks_exact(T::SIZE).filter_map(T::first).collect())
    }

    /// A vector of bytes, empty if absent.
    pub fn bytes(&self, field: usize) -> Result<&'a [u8], ReadError> {
        self.elements(field, 1)
    }

    /// Where in the file the offset to a vector or a table is stored; `None` if absent.
    pub fn reference(&self, field: usize) -> Result<Option<usize>, ReadError> {
        Ok(self.present::<u32>(field)?.map(|(position, _)| position))
    }

    /// Where in the file the elements of a vector lie, `element` bytes each; `None` if absent.
    pub fn place(&self, field: usize, element: usize) -> Result<Option<Range<usize>>, ReadError> {
        let Some(at) = self.target(field)? else {
            return Ok(None);
        };
        let (start, bytes) = self.file.vector(at, element, self.what)?;
        Ok(Some(start..start + bytes.len()))
    }

    /// A string, empty if absent; what is not UTF-8 is replaced.
    pub fn string(&self, field: usize) -> Result<String, ReadError> {
        Ok(String::from_utf8_lossy(self.bytes(field)?).into_owned())
    }

    fn elements(&self, field: usize, size: usize) -> Result<&'a [u8], ReadError> {
        let Some(at) = self.target(field)? else {
            return Ok(&[]);
        };
        Ok(self.file.vector(at, size, self.what)?.1)
    }
}
