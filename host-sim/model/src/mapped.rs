//! Files as bytes: large ones by memory map, so that only what is read of them takes memory.

#![allow(unsafe_code)]

use memmap2::Mmap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Files from this size on are mapped.
const LARGE_BYTES: u64 = 1 << 20;

/// Calls `function` with the contents of a file.
///
/// ```
/// let length = flatmin_model::mapped::with_file("Cargo.toml".as_ref(), <[u8]>::len)?;
/// assert!(length > 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Whatever opening, mapping or reading says.
pub fn with_file<T>(path: &Path, function: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.is_file() && about.len() >= LARGE_BYTES {
        // SAFETY: the map is read-only and lives for this call alone. A file that another process cuts short
        // meanwhile ends this process with a signal, as it would any program that maps it; readers take the
        // bytes as they come and trust none of them.
        let map = unsafe { Mmap::map(&file)? };
        return Ok(function(&map));
    }
    Ok(function(&fs::read(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_files_alike() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 5] {
            let path = folder.path().join("file");
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            assert!(with_file(&path, |found| found == bytes).unwrap(), "{length}");
        }
        assert!(with_file(folder.path(), <[u8]>::len).is_err());
    }
}
