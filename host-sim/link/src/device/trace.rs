//! Where a device and the simulation part: the checksums of all operators' outputs, side by side.

use super::Device;
use crate::link::Answer;
use anyhow::{Result, bail, ensure};
use flatmin::wire::Request;
use flatmin_model::packer::PackFile;
use flatmin_sim::subject::Labelled;
use flatmin_sim::with_holder;
use serde::Serialize;

/// One operator on one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Checksum {
    /// The operator, from 0.
    pub operator: usize,
    /// Its code in the pack.
    pub kind: u16,
    /// CRC-32 of its output on the device.
    #[serde(rename = "device_crc32")]
    pub device: u32,
    /// And here.
    #[serde(rename = "simulation_crc32")]
    pub simulation: u32,
}

/// Runs `sample` on the device and here.
///
/// # Errors
/// A device with another pack.
pub fn diff(device: &mut Device, pack: &PackFile, sample: &Labelled) -> Result<Vec<Checksum>> {
    let (found, own) = (device.identify()?.pack_crc32, pack.pack().crc32());
    ensure!(
        found == own,
        "the device holds another pack ({found:#010x}) than this model makes ({own:#010x})"
    );
    let mut rows = Vec::new();
    let see = |operator, simulation| {
        let kind = pack.pack().operator(operator as u16).kind;
        rows.push(Checksum { operator, kind, device: 0, simulation });
    };
    with_holder!(pack, |tuner| tuner.trace(&sample.0, see)?);
    let input = bytemuck::cast_slice(&sample.0);
    let mut known = 0;
    while known < rows.len() {
        let request = Request::Trace { first: u16::try_from(known)?, input };
        let Answer::Checksums { operators, crc32s } = device.ask(&request)? else {
            bail!("the device did not answer with checksums");
        };
        let here = rows.len();
        ensure!(usize::from(operators) == here, "the device runs {operators} operators, here are {here}");
        ensure!(!crc32s.is_empty(), "the device sends no checksum of operator {known}");
        for (row, crc32) in rows.iter_mut().skip(known).zip(crc32s) {
            row.device = crc32;
            known += 1;
        }
    }
    Ok(rows)
}
