//! Keeps a tuned tail in flash across a restart: `cargo run --example keep`.

mod gestures;

use flatmin::store::{Contents, Store};
use flatmin::{Arena, Pack, Recipe, Sizes, Tuner, include_pack};

const PACK: &[u8] = include_pack!("motion.pack");
const RECIPE: Recipe = Recipe { epochs: 5, ..Recipe::DEFAULT };
const SIZES: Sizes = Sizes::of(PACK);
/// A flash in memory, words of 4 bytes and pages of 4 KiB, where a firmware has its chip's driver.
type Flash = flatmin::flash::Flash<4, 4096>;
/// Two slots: one is written while the other is in force.
const STORE: Store = Store::new(0, SIZES.slot_bytes::<Flash>(Contents::Int8AndF32), 2);

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut flash = Flash::new(usize::try_from(STORE.end())? / 4096);
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
