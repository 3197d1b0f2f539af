//! Keeps a tuned tail in flash across a restart: `cargo run --example keep`.

mod gestures;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use embedded_storage::nor_flash::{check_erase, check_read, check_write};
use flatmin::store::{Contents, Store};
use flatmin::{Arena, Pack, Recipe, Sizes, Tuner, include_pack};

const PACK: &[u8] = include_pack!("motion.pack");
const RECIPE: Recipe = Recipe { epochs: 5, ..Recipe::DEFAULT };
const SIZES: Sizes = Sizes::of(PACK);
/// Two slots: one is written while the other is in force.
const STORE: Store = Store::new(0, SIZES.slot_bytes::<Ram>(Contents::Int8AndF32), 2);

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut flash = Ram(vec![0xff; usize::try_from(STORE.end())?]);
    let pack = Pack::new(PACK)?;

    let mut arena = Arena::<{ SIZES.train_bytes(&RECIPE) }>::new();
    let mut tuner = Tuner::new(pack, RECIPE, arena.bytes())?;
    for (window, label) in gestures::recorded(48) {
        tuner.observe(&window, label)?;
    }
    tuner.start(RECIPE)?;
    while !tuner.step()?.finished {}
    tuner.requantize()?;
    let record = tuner.commit(&STORE, &mut flash)?;
    println!("weights {:08x} are kept as record {}", tuner.weights_crc32(), record.sequence);

    // After a restart RAM holds nothing of it.
    let mut arena = Arena::<{ SIZES.train_bytes(&RECIPE) }>::new();
    let mut tuner = Tuner::new(pack, RECIPE, arena.bytes())?;
    tuner.restore(&STORE, &mut flash)?;
    println!("weights {:08x} are in force again: {}", tuner.weights_crc32(), tuner.is_tuned());
    Ok(())
}

/// A flash of pages of 4 KiB in memory, where a firmware has its chip's driver.
struct Ram(Vec<u8>);

impl ErrorType for Ram {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Ram {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for Ram {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        self.0[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        self.0[offset as usize..].iter_mut().zip(bytes).for_each(|(cell, byte)| *cell &= byte);
        Ok(())
    }
}
