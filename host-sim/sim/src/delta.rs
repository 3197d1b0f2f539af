//! A tuned tail as a small file: what differs from the factory's.
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | magic | 8 | `flatdelt` |
//! | version | 2 | 1 |
//! | pack | 4 | CRC-32 of the pack: [`flatmin::Pack::crc32`] |
//! | model | 4 | CRC-32 of the file that the pack was made from |
//! | tail | 4 | CRC-32 of the payload |
//! | difference | the rest but 4 | DEFLATE, in zlib's wrapping, of payload minus reference, byte by byte, modulo 256 |
//! | CRC | 4 | CRC-32 of all before it |
//!
//! Numbers are little endian. The payload is that of [`Contents::Int8`]: quantization of the layers, biases,
//! multipliers, int8 weights. The reference is the payload that the factory weights make on a sample of zeros, which
//! the pack alone decides. The weights beside them are not in it: tuning goes on from
//! those that the int8 tail stands for, f32 or compact.

use crate::tuning::{Tail, with_holder};
use anyhow::{Context, Result, bail, ensure};
use flatmin::Loss;
use flatmin::store::Contents;
use flatmin::store::LAYER_BYTES;
use flatmin::{Arithmetic, CompactTuner, IntegerTuner, Recipe, Tuner, crc32};
use flatmin_model::packer::PackFile;

/// First bytes of every delta.
pub const MAGIC: [u8; 8] = *b"flatdelt";

const VERSION: u16 = 1;
const HEAD_BYTES: usize = 22;

/// Most bytes that a payload may have: a damaged file must not fill the memory.
const LARGEST: usize = 1 << 26;

fn payload_bytes(pack: &PackFile) -> usize {
    pack.pack().sizes().payload_bytes(Contents::Int8)
}

fn read_tail<'p, A: Arithmetic<'p>>(tuner: &Tuner<'p, A>, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    ensure!(tuner.read_tail(0, &mut bytes)? == length, "the tail is shorter than its format says");
    Ok(bytes)
}

fn reference(pack: &PackFile) -> Result<Vec<u8>> {
    with_holder!(pack, |tuner| {
        blank(pack, tuner)?;
        read_tail(tuner, payload_bytes(pack))
    })
}

/// Puts the tail in force that the factory's weights make on a sample of zeros.
fn blank<'p, A: Arithmetic<'p>>(pack: &PackFile, tuner: &mut Tuner<'p, A>) -> Result<()> {
    let (sizes, loss) = (pack.pack().sizes(), pack.pack().loss());
    let zeros = vec![0; sizes.input_length];
    match loss {
        Loss::SquaredError => tuner.observe_target(&zeros, &vec![0; sizes.output_length])?,
        _ => tuner.observe(&zeros, 0)?,
    }
    Ok(tuner.requantize()?)
}

/// Whether a file is a delta.
pub fn is_delta(file: &[u8]) -> bool {
    file.starts_with(&MAGIC)
}

/// The delta of a tuned tail; of `tail`, which is [`flatmin::Tuner::read_tail`]'s, it takes the int8 part.
///
/// # Errors
/// A tail that is shorter than this pack's.
pub fn encode(pack: &PackFile, tail: &[u8]) -> Result<Vec<u8>> {
    let payload = tail.get(..payload_bytes(pack)).context("the tail is too short for this pack")?;
    let differences: Vec<u8> =
        payload.iter().zip(reference(pack)?).map(|(own, factory)| own.wrapping_sub(factory)).collect();
    let mut file = MAGIC.to_vec();
    file.extend(VERSION.to_le_bytes());
    for crc in [pack.pack().crc32(), pack.pack().model_crc32(), crc32(payload)] {
        file.extend(crc.to_le_bytes());
    }
    file.extend(miniz_oxide::deflate::compress_to_vec_zlib(&differences, 10));
    file.extend(crc32(&file).to_le_bytes());
    Ok(file)
}

/// The int8 tail of a delta: the payload of [`Contents::Int8`].
///
/// # Errors
/// A damaged file, one of another version, or of another pack than this.
pub fn decode_int8(pack: &PackFile, file: &[u8]) -> Result<Vec<u8>> {
    ensure!(is_delta(file), "not a delta: it does not begin with \"flatdelt\"");
    let split = file.split_last_chunk::<4>();
    let (covered, crc) = split.filter(|(covered, _)| covered.len() >= HEAD_BYTES).context("cut short")?;
    ensure!(crc32(covered) == u32::from_le_bytes(*crc), "damaged: its checksum does not match");
    let version = u16::from_le_bytes([covered[8], covered[9]]);
    ensure!(version == VERSION, "a delta of version {version}; this is version {VERSION}");
    let word = |at: usize| covered[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let (own, found) = (pack.pack().crc32(), word(10));
    ensure!(
        own == found,
        "a delta to pack {found:#010x}, this is {own:#010x}: give the model and --layers that it was made with"
    );
    let differences =
        miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&covered[HEAD_BYTES..], LARGEST);
    let Ok(differences) = differences else { bail!("damaged: its difference cannot be unpacked") };
    let factory = reference(pack)?;
    ensure!(
        differences.len() == factory.len(),
        "a delta of {} bytes, not {}",
        differences.len(),
        factory.len()
    );
    let payload: Vec<u8> =
        differences.iter().zip(factory).map(|(own, factory)| own.wrapping_add(factory)).collect();
    ensure!(crc32(&payload) == word(18), "damaged: the tail's checksum does not match");
    Ok(payload)
}

/// Puts an int8 tail in force.
pub(crate) fn adopt<'p, A: Arithmetic<'p>>(
    pack: &PackFile,
    tuner: &mut Tuner<'p, A>,
    payload: &[u8],
) -> Result<()> {
    let (layers, rest) = payload
        .split_at_checked(pack.pack().sizes().tail_layers * LAYER_BYTES)
        .context("the tail is too short for this pack")?;
    tuner.write_tail(layers.len(), rest)?;
    tuner.adopt_tail(layers, crc32(payload)).context("no tail of this pack")
}

/// The CRC-32 of the weights that a tuner has once an int8 tail was given to it.
///
/// # Errors
/// What is no tail of this pack.
pub fn weights_crc32(pack: &PackFile, payload: &[u8], kind: Tail) -> Result<u32> {
    let usual = if kind == Tail::Integer { Recipe::INTEGER } else { Recipe::DEFAULT };
    let recipe = Recipe { replay_capacity: 1, ..usual };
    let mut words = kind.arena(pack, &recipe);
    let arena = bytemuck::cast_slice_mut(&mut words);
    match kind {
        Tail::Full => {
            let mut tuner = Tuner::new(pack.pack(), recipe, arena)?;
            adopt(pack, &mut tuner, payload).map(|()| tuner.weights_crc32())
        }
        Tail::Compact => {
            let mut tuner = CompactTuner::in_arena(pack.pack(), recipe, arena)?;
            adopt(pack, &mut tuner, payload).map(|()| tuner.weights_crc32())
        }
        Tail::Integer => {
            let mut tuner = IntegerTuner::in_arena(pack.pack(), recipe, arena)?;
            adopt(pack, &mut tuner, payload).map(|()| tuner.weights_crc32())
        }
    }
}

/// Weights of the factory's tail in f32.
pub(crate) fn factory_weights(pack: &PackFile) -> Result<Vec<f32>> {
    weights_after(pack, |tuner| blank(pack, tuner))
}

/// Weights in f32 of a tail, which may be the int8 part alone.
pub(crate) fn weights(pack: &PackFile, tail: &[u8]) -> Result<Vec<f32>> {
    weights_after(pack, |tuner| adopt(pack, tuner, tail))
}

fn weights_after(pack: &PackFile, act: impl FnOnce(&mut Tuner) -> Result<()>) -> Result<Vec<f32>> {
    let recipe = Recipe { replay_capacity: 1, ..Recipe::DEFAULT };
    let mut words = Tail::Full.arena(pack, &recipe);
    let mut tuner = Tuner::new(pack.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    act(&mut tuner)?;
    let whole = read_tail(&tuner, tuner.tail_bytes())?;
    let (floats, _) = whole[payload_bytes(pack)..].as_chunks::<4>();
    Ok(floats.iter().map(|&own| f32::from_le_bytes(own)).collect())
}

/// The whole tail of a delta, as [`flatmin::Tuner::read_tail`] gives it once the delta is in force, and the CRC-32 of
/// its weights.
///
/// # Errors
/// Those of [`decode_int8`].
pub fn decode(pack: &PackFile, file: &[u8]) -> Result<(Vec<u8>, u32)> {
    let payload = decode_int8(pack, file)?;
    with_holder!(pack, |tuner| {
        adopt(pack, tuner, &payload)?;
        Ok((read_tail(tuner, tuner.tail_bytes())?, tuner.weights_crc32()))
    })
}
