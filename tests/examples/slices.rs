//! Tunes in slices between other work, as a firmware's main loop does: `cargo run --example slices`.

mod gestures;

use flatmin::{Arena, Pack, Progress, Recipe, Sizes, Tuner, include_pack};

const PACK: &[u8] = include_pack!("motion.pack");
const RECIPE: Recipe = Recipe { learning_rate: 0.05, ..Recipe::DEFAULT };
const ARENA_BYTES: usize = Sizes::of(PACK).train_bytes(&RECIPE);

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut arena = Arena::<ARENA_BYTES>::new();
    let mut tuner = Tuner::new(Pack::new(PACK)?, RECIPE, arena.bytes())?;
    for (window, label) in gestures::recorded(48) {
        tuner.observe(&window, label)?;
    }
    tuner.start(RECIPE)?;
    let mut arriving = gestures::recorded(usize::MAX);
    let mut slices = 0;
    loop {
        // A slice is one sample's forward and backward pass, or one sweep over the weights.
        slices += 1;
        if let Progress::Stepped(report) = tuner.poll()?
            && report.epoch_finished
        {
            // Other work goes on meanwhile: the tail in force answers, here the one that was packed.
            let (window, label) = arriving.next().ok_or("no window")?;
            let answer = tuner.classify(&window)?.label;
            println!("{slices} slices, loss {:.3}; gesture {label} is taken for {answer}", report.loss);
            if report.finished {
                break;
            }
        }
    }
    tuner.requantize()?;
    for (window, label) in arriving.take(3) {
        println!("tuned: gesture {label} is taken for {}", tuner.classify(&window)?.label);
    }
    Ok(())
}
