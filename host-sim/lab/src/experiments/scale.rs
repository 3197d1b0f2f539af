//! Packs whose latents keep the model's own scale, for comparison: `flatmin pack` gives all the same.

use anyhow::{Context, Result};
use flatmin::internals::pack::format::header;
use flatmin_model::packer::PackFile;

/// The same network with the features' unit that it has in int8.
///
/// # Errors
/// The runtime refuses it.
pub fn unfolded(file: &PackFile) -> Result<PackFile> {
    let unit = file.pack().feature().affine.scale;
    let mut bytes = file.bytes().to_vec();
    bytes[header::FEATURE_UNIT..header::FEATURE_UNIT + 4].copy_from_slice(&unit.to_le_bytes());
    let crc = flatmin::crc32(&bytes[header::CHECKED_FROM..]);
    bytes[header::CRC..header::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    let changed = PackFile::new(&bytes);
    flatmin::Pack::new(changed.bytes()).context("a pack with another unit")?;
    Ok(changed)
}
