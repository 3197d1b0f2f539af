//! Tunes the network of model.tflite on the device, as recipe.toml says, and prints what came of it.

#![no_std]
#![no_main]

mod samples;

/// The pack and its constants: what build.rs makes of model.tflite and recipe.toml.
mod model {
    include!(concat!(env!("OUT_DIR"), "/model.rs"));
}

use flatmin::{Arena, Pack, TunerError};
use semihosting::{println, process};
use static_cell::ConstStaticCell;

static ARENA: ConstStaticCell<Arena<{ model::ARENA_BYTES }>> = ConstStaticCell::new(Arena::new());
static SOLVING: ConstStaticCell<[u32; model::SOLVE_BYTES / 4]> = ConstStaticCell::new([0; _]);

#[cortex_m_rt::entry]
fn main() -> ! {
    let pack = Pack::with_operators(model::PACK, &model::OPERATORS).expect("a pack as it was built");
    let outcome = adapt(pack, ARENA.take().bytes());
    outcome.unwrap_or_else(|error| println!("{error}"));
    process::exit(outcome.is_err().into())
}

fn adapt(pack: Pack, arena: &mut [u8]) -> Result<(), TunerError> {
    let mut tuner = model::Tuner::in_arena(pack, model::RECIPE, arena)?;
    for (input, label) in samples::labelled() {
        tuner.observe(input, label)?; // the backbone runs once; its feature is kept
    }
    if model::SOLVES {
        tuner.solve(model::RECIPE, SOLVING.take(), &mut || {})?; // the last layer in closed form
    }
    if model::STEPS {
        tuner.start(model::RECIPE)?;
        while !tuner.step()?.finished {} // or `poll`, between other work
    }
    let verdict = tuner.accept()?; // the tuned tail is taken if the samples speak for it
    let (factory, tuned) = (verdict.factory, verdict.candidate);
    println!("{} of {} judged samples right, {} before", tuned.right, tuned.samples, factory.right);
    let (accepted, why) = (verdict.accepted, verdict.evidence);
    println!("accepted: {accepted} ({why:?}), CRC-32 {:#010x}", tuner.weights_crc32());
    Ok(())
}
