//! Changes to stores in many states.

use embedded_storage::nor_flash::NorFlash;
use flatmin::flash::{Flash, Partial};
use flatmin::{
    internals::record,
    store::{Contents, Description, Store, StoreError},
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

pub const PACK: u32 = 0x1234_5678;
pub const OTHER_PACK: u32 = 0x9abc_def0;

pub type Tail = Option<Vec<u8>>;

/// A payload of its own for every number, of changing length; the values that flash treats in its own way are among
/// its bytes.
pub fn payload(number: u32) -> Vec<u8> {
    let mut random = Pcg32::seed_from_u64(number.into());
    let length = [301, 160, 222, 90][number as usize % 4];
    (0..length)
        .map(|_| match random.next_u32() % 4 {
            0 => 0xFF,
            1 => 0,
            _ => random.next_u32() as u8,
        })
        .collect()
}

pub fn commit_of<F: NorFlash>(
    store: &Store,
    flash: &mut F,
    pack: u32,
    number: u32,
) -> Result<(), StoreError> {
    let payload = payload(number);
    let (front, back) = payload.split_at(payload.len() / 3);
    let description = Description { pack_crc32: pack, contents: Contents::Int8, weights_crc32: number };
    let record = store.commit(flash, &description, &[front, &[], back])?;
    assert_eq!((record.length as usize, record.weights_crc32), (payload.len(), number));
    Ok(())
}

pub fn commit<F: NorFlash>(store: &Store, flash: &mut F, number: u32) -> Result<(), StoreError> {
    commit_of(store, flash, PACK, number)
}

/// What a boot finds; `None` is the factory tail.
pub fn boot<F: NorFlash>(store: &Store, flash: &mut F) -> Tail {
    let record = store.recover(flash, PACK).unwrap().in_force()?;
    let mut payload = vec![0; record.length as usize];
    store.read(flash, &record, &mut [&mut payload]).unwrap();
    Some(payload)
}

/// What is done to a store.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// The tail with this number.
    Commit(u32),
    RollBack,
    Reset,
}

impl Change {
    pub fn act<F: NorFlash>(self, store: &Store, flash: &mut F) -> Result<(), StoreError> {
        match self {
            Self::Commit(number) => commit(store, flash, number),
            Self::RollBack => store.roll_back(flash, PACK).map(drop),
            Self::Reset => store.factory_reset(flash, PACK),
        }
    }
}

/// One change to a store in a state, and the tails in force before and after.
pub struct Case<const W: usize, const E: usize, const R: usize> {
    pub name: &'static str,
    pub flash: Flash<W, E, R>,
    pub change: Change,
    pub old: Tail,
    pub new: Tail,
}

/// Sets a u32 of the header of the record in a slot, and the CRCs, as the format's description says.
pub fn patch<const W: usize, const E: usize, const R: usize>(
    flash: &mut Flash<W, E, R>,
    start: usize,
    field: usize,
    to: u32,
) {
    use record::header;
    let crc32c = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let unit = W.max(R);
    let bytes = &mut flash.bytes_mut()[start..];
    bytes[field..field + 4].copy_from_slice(&to.to_le_bytes());
    let crc = flatmin::crc32(&bytes[..header::CRC]);
    bytes[header::CRC..header::CRC + 4].copy_from_slice(&crc.to_le_bytes());
    if field == header::LENGTH {
        return;
    }
    let length = u32::from_le_bytes(bytes[header::LENGTH..header::LENGTH + 4].try_into().unwrap());
    let body = (header::BYTES + length as usize).next_multiple_of(unit);
    let crc = crc32c.checksum(&bytes[..body]);
    assert_eq!(bytes[body + 4..body + 8], record::COMMIT.to_le_bytes());
    bytes[body..body + 4].copy_from_slice(&crc.to_le_bytes());
}

pub fn cases<const W: usize, const E: usize, const R: usize>(
    store: &Store,
    blank: &Flash<W, E, R>,
) -> Vec<Case<W, E, R>> {
    let after = |numbers: &[u32]| {
        let mut flash = blank.clone();
        numbers.iter().for_each(|&number| commit(store, &mut flash, number).unwrap());
        flash
    };
    let tail = |number| Some(payload(number));
    let (next, roll_back, reset) = (Change::Commit(9), Change::RollBack, Change::Reset);

    let mut garbage = blank.clone();
    Pcg32::seed_from_u64(1).fill_bytes(garbage.bytes_mut());
    let mut zeros = blank.clone();
    zeros.bytes_mut().fill(0);
    let mut foreign = blank.clone();
    (0..store.slots()).for_each(|n| commit_of(store, &mut foreign, OTHER_PACK, n as u32).unwrap());
    let mut rolled_back = after(&[1, 2]);
    store.roll_back(&mut rolled_back, PACK).unwrap();
    let mut wrapping = after(&[1, 2]);
    let slot_bytes = store.slot_bytes() as usize;
    let start = wrapping.bytes().len() - slot_bytes * store.slots();
    patch(&mut wrapping, start, record::header::SEQUENCE, u32::MAX - 1);
    patch(&mut wrapping, start + slot_bytes, record::header::SEQUENCE, u32::MAX);

    let case = |name, flash, change, old, new| Case { name, flash, change, old, new };
    vec![
        case("first commit", blank.clone(), next, None, tail(9)),
        case("first commit over garbage", garbage, next, None, tail(9)),
        case("first commit over zeros", zeros, next, None, tail(9)),
        case("first commit over another pack's", foreign, next, None, tail(9)),
        case("second commit", after(&[1]), next, tail(1), tail(9)),
        case("third commit", after(&[1, 2]), next, tail(2), tail(9)),
        case("fourth commit", after(&[3, 1, 2]), next, tail(2), tail(9)),
        case("commit after a roll back", rolled_back, next, tail(1), tail(9)),
        case("commit at the wrap-around", wrapping.clone(), next, tail(2), tail(9)),
        case("roll back", after(&[1, 2]), roll_back, tail(2), tail(1)),
        case("roll back to the factory tail", after(&[1]), roll_back, tail(1), None),
        case("roll back at the wrap-around", wrapping, roll_back, tail(2), tail(1)),
        case("factory reset", after(&[1, 2, 3]), reset, tail(3), None),
        case("factory reset after one commit", after(&[1]), reset, tail(1), None),
    ]
}

pub const PARTIALS: [Partial; 9] = [
    Partial::Clean,
    Partial::Prefix(40),
    Partial::Prefix(128),
    Partial::Prefix(230),
    Partial::Suffix(128),
    Partial::Random(0),
    Partial::Random(1),
    Partial::Random(2),
    Partial::Random(3),
];

/// A seed of its own for every cut.
pub fn mixed(partial: Partial, n: u64) -> Partial {
    match partial {
        Partial::Random(seed) => Partial::Random(n << 8 | seed),
        other => other,
    }
}

pub fn pages<const W: usize, const E: usize, const R: usize>(slots: usize) -> (Store, Flash<W, E, R>) {
    let slot_pages = 512usize.div_ceil(E);
    // The store does not start where the flash does.
    let flash = Flash::new(1 + slots * slot_pages).write_once();
    (Store::new(E as u32, (slot_pages * E) as u32, slots), flash)
}
