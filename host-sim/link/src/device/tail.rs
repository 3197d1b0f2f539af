//! A device's tuned tail as a file: the record that a store would keep, byte by byte as `flatmin::internals::record`
//! specifies it for words of 4 bytes. It is the difference to the pack alone, and useless without it.

use super::Device;
use crate::link::Answer;
use anyhow::{Context, Result, bail, ensure};
use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::Flash;
use flatmin::internals::pack::MAX_LAYERS;
use flatmin::store::LAYER_BYTES;
use flatmin::wire::{Request, TAIL_PART_BYTES};
use flatmin::{
    internals::record,
    store::{Contents, Description, Store},
};
use flatmin_model::packer::PackFile;
use flatmin_sim::delta;
use flatmin_sim::tuning::Tail;

type Pages = Flash<4, 4096>;

/// Two slots, each large enough for a record of so many bytes; the first holds the file.
fn pages(record_bytes: usize) -> (Store, Pages) {
    let slot = record_bytes.next_multiple_of(Pages::ERASE_SIZE);
    (Store::new(0, slot as u32, 2), Pages::new(2 * slot / Pages::ERASE_SIZE))
}

/// Bytes of a record around a payload of `length` bytes.
fn record_bytes(length: usize) -> usize {
    (record::header::BYTES + length).next_multiple_of(Pages::WRITE_SIZE) + record::TRAILER_BYTES
}

/// Pulls bytes part by part, up to `most`.
pub(super) fn pull(
    device: &mut Device,
    most: usize,
    request: impl Fn(u32) -> Request<'static>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<u8>> {
    let mut pulled = Vec::new();
    loop {
        let Answer::Tail { length, bytes } = device.ask(&request(u32::try_from(pulled.len())?))? else {
            bail!("the device did not answer with the bytes that were asked for");
        };
        pulled.extend_from_slice(&bytes);
        let length = usize::try_from(length)?.min(most);
        progress(pulled.len().min(length), length);
        if pulled.len() >= length {
            pulled.truncate(length);
            return Ok(pulled);
        }
        ensure!(!bytes.is_empty(), "the device's bytes end at {} of {length}", pulled.len());
    }
}

/// Pulls the tuned tail as a [`delta`]; `pack` is the one that the device holds.
///
/// # Errors
/// A device without a tuned tail, or with another pack.
pub fn backup_delta(
    device: &mut Device,
    pack: &PackFile,
    progress: impl FnMut(usize, usize),
) -> Result<Vec<u8>> {
    let (own, found) = (pack.pack().crc32(), device.identify()?.pack_crc32);
    ensure!(
        own == found,
        "the device holds another pack ({found:#010x}) than this model makes ({own:#010x})"
    );
    let length = pack.pack().sizes().payload_bytes(Contents::Int8);
    let tail = pull(device, length, |offset| Request::PullTail { offset }, progress)?;
    delta::encode(pack, &tail)
}

/// Pushes the tail of a [`delta`]; the CRC-32 of its weights.
///
/// # Errors
/// A damaged file, one of another pack, and what the device refuses.
pub fn restore_delta(
    device: &mut Device,
    pack: &PackFile,
    file: &[u8],
    progress: impl FnMut(usize, usize),
) -> Result<u32> {
    let payload = delta::decode_int8(pack, file)?;
    let weights_crc32 = delta::weights_crc32(pack, &payload, Tail::of(device.identify()?.contents))?;
    push(device, &payload, Some(weights_crc32), progress)
}

/// Pulls the tuned tail as the device holds it: [`flatmin::Tuner::read_tail`]'s bytes, or the int8 ones of `pack` alone.
///
/// # Errors
/// A device without a tuned tail.
pub fn pull_tail(device: &mut Device, int8_of: Option<&PackFile>) -> Result<Vec<u8>> {
    let most = int8_of.map_or(usize::MAX, |pack| pack.pack().sizes().payload_bytes(Contents::Int8));
    pull(device, most, |offset| Request::PullTail { offset }, |_, _| ())
}

/// Puts a tail in force: [`flatmin::Tuner::read_tail`]'s bytes, or the int8 ones alone. The CRC-32 of its weights.
///
/// # Errors
/// What is no tail of the device's pack.
pub fn push_tail(device: &mut Device, tail: &[u8]) -> Result<u32> {
    push(device, tail, None, |_, _| ())
}

/// Pulls the tuned tail; the bytes of its file.
///
/// # Errors
/// A device without a tuned tail.
pub fn backup(device: &mut Device, progress: impl FnMut(usize, usize)) -> Result<Vec<u8>> {
    let identity = device.identify()?;
    let payload = pull(device, usize::MAX, |offset| Request::PullTail { offset }, progress)?;
    let bytes = record_bytes(payload.len());
    let (store, mut flash) = pages(bytes);
    let description = Description {
        pack_crc32: identity.pack_crc32,
        contents: identity.contents,
        weights_crc32: identity.weights_crc32,
    };
    let record = store.commit(&mut flash, &description, &[&payload])?;
    let start = record.slot * store.slot_bytes() as usize;
    Ok(flash.bytes()[start..start + bytes].to_vec())
}

/// Pushes the tail that [`backup`] made; the CRC-32 of its weights.
///
/// # Errors
/// A damaged file, one of another pack, and what the device refuses.
pub fn restore(device: &mut Device, file: &[u8], progress: impl FnMut(usize, usize)) -> Result<u32> {
    let identity = device.identify()?;
    let (store, mut flash) = pages(file.len().max(record_bytes(0)));
    flash.bytes_mut()[..file.len()].copy_from_slice(file);
    let recovery = store.recover(&mut flash, identity.pack_crc32)?;
    let Some(found) = recovery.in_force() else {
        bail!("no tail for this device: {}", recovery.slots()[0]);
    };
    ensure!(
        found.contents == identity.contents,
        "the file holds {}, the device's tail is {}: move a delta, of `flatmin device backup --delta`",
        described(found.contents),
        described(identity.contents)
    );
    let mut payload = vec![0; usize::try_from(found.length)?];
    store.read(&mut flash, &found, &mut [&mut payload])?;
    // An int8 tail alone stands for other weights than those that it was made of: tuning goes on from them.
    let weights_crc32 = (found.contents != Contents::Int8).then_some(found.weights_crc32);
    push(device, &payload, weights_crc32, progress)
}

fn described(contents: Contents) -> &'static str {
    match contents {
        Contents::Int8 => "an int8 tail alone",
        Contents::Int8AndF32 => "a tail with f32 weights",
        Contents::Int8AndCompact => "a compact tail",
    }
}

/// Pushes a payload, with weights or without; those that come of it must have this CRC-32, where one is known.
fn push(
    device: &mut Device,
    payload: &[u8],
    crc32_of_weights: Option<u32>,
    mut progress: impl FnMut(usize, usize),
) -> Result<u32> {
    // The description of the layers goes last: with it the tail comes into force.
    let layers = layer_bytes(device)?;
    let (front, rest) = payload.split_at_checked(layers).context("the file's tail is too short")?;
    for (index, bytes) in rest.chunks(TAIL_PART_BYTES).enumerate() {
        let offset = layers + index * TAIL_PART_BYTES;
        device.ask(&Request::PushTail { offset: u32::try_from(offset)?, bytes })?;
        progress(offset + bytes.len(), payload.len());
    }
    let crc32 = flatmin::crc32(payload);
    match device.ask(&Request::AdoptTail { layers: front, crc32 })? {
        Answer::InForce { weights_crc32, .. } if crc32_of_weights.is_none_or(|crc| crc == weights_crc32) => {
            Ok(weights_crc32)
        }
        other => bail!("the device answers {other:?} instead of the tail that it was given"),
    }
}

/// Bytes of the description in front of the tail: the device refuses a part that begins before its end, and what it
/// refuses changes nothing.
fn layer_bytes(device: &mut Device) -> Result<usize> {
    for bytes in (1..=MAX_LAYERS).map(|layers| layers * LAYER_BYTES) {
        if device.ask(&Request::PushTail { offset: bytes as u32, bytes: &[] }).is_ok() {
            return Ok(bytes);
        }
    }
    bail!("the device takes no tail")
}
