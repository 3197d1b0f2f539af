//! Tunes a network on gestures that it has never seen, and classifies with it: `cargo run --example tune`.

mod gestures;

use flatmin::{Arena, Pack, Recipe, Sizes, Tuner, include_pack};

const PACK: &[u8] = include_pack!("motion.pack");
const RECIPE: Recipe = Recipe { held_out: 0.2, learning_rate: 0.05, ..Recipe::DEFAULT };
const ARENA_BYTES: usize = Sizes::of(PACK).train_bytes(&RECIPE);

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut arena = Arena::<ARENA_BYTES>::new();
    let mut tuner = Tuner::new(Pack::new(PACK)?, RECIPE, arena.bytes())?;
    for (window, label) in gestures::recorded(60) {
        tuner.observe(&window, label)?;
    }
    tuner.start(RECIPE)?;
    while !tuner.step()?.finished {}
    let verdict = tuner.accept()?;
    println!("held-out windows: {:?} as packed, {:?} tuned", verdict.factory, verdict.candidate);
    for (window, label) in gestures::recorded(9) {
        println!("gesture {label} is taken for {:?}", tuner.classify(&window)?);
    }
    Ok(())
}
