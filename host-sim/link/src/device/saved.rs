//! A device's run in mid-air: pulled into a file, and put back.

use super::Device;
use super::tail::pull;
use crate::link::Answer;
use anyhow::{Context, Result, bail};
use flatmin::RUN_HEAD_BYTES;
use flatmin::wire::{Request, TAIL_PART_BYTES};

/// Pulls the run under way, which stays on the device: the bytes of [`flatmin::Tuner::save_run`].
///
/// # Errors
/// A device on which no run is under way.
pub fn pause(device: &mut Device, progress: impl FnMut(usize, usize)) -> Result<Vec<u8>> {
    pull(device, usize::MAX, |offset| Request::PullRun { offset }, progress)
}

/// Puts a run that [`pause`] pulled in place of the device's own, which must hold the same samples.
///
/// # Errors
/// A damaged file, one of another pack or other samples, and what else the device refuses.
pub fn resume(device: &mut Device, file: &[u8], mut progress: impl FnMut(usize, usize)) -> Result<()> {
    let (head, body) = file.split_at_checked(RUN_HEAD_BYTES).context("the file is too short for a run")?;
    device.ask(&Request::ExpectRun { head })?;
    for (index, bytes) in body.chunks(TAIL_PART_BYTES).enumerate() {
        let offset = RUN_HEAD_BYTES + index * TAIL_PART_BYTES;
        device.ask(&Request::PushRun { offset: u32::try_from(offset)?, bytes })?;
        progress(offset + bytes.len(), file.len());
    }
    match device.ask(&Request::AdoptRun { head })? {
        Answer::Done(_) => Ok(()),
        other => bail!("the device answers {other:?} instead of going on with the run"),
    }
}

/// Steps to the run's end; how many that took.
///
/// # Errors
/// What the device refuses.
pub fn finish(device: &mut Device) -> Result<u32> {
    let mut steps = 0;
    loop {
        let Answer::Stepped { finished, .. } = device.ask(&Request::Step)? else {
            bail!("the device did not answer with a step");
        };
        steps += 1;
        if finished {
            return Ok(steps);
        }
    }
}

/// The confusion matrix over the device's held-out samples, or all: rows are labels.
///
/// # Errors
/// What the device refuses: no tuned tail.
pub fn confusion(device: &mut Device, version: flatmin::Version) -> Result<Vec<Vec<u16>>> {
    let mut rows: Vec<Vec<u16>> = Vec::new();
    loop {
        let (label, mut row) = (u16::try_from(rows.len())?, Vec::new());
        let classes = loop {
            let first = u16::try_from(row.len())?;
            let Answer::Counts { classes, counts } =
                device.ask(&Request::Confusion { version, label, first })?
            else {
                bail!("the device did not answer with counts");
            };
            row.extend_from_slice(&counts);
            if counts.is_empty() || row.len() >= classes.into() {
                break usize::from(classes);
            }
        };
        rows.push(row);
        if rows.len() >= classes {
            return Ok(rows);
        }
    }
}
