//! # flatmin
//!
//! Fine-tunes the last layers of a pretrained, quantized (int8) network on the microcontroller that runs it,
//! with SAM or ASAM (sharpness-aware minimization), in buffers whose size is known when the firmware is
//! linked. The same `no_std` code runs on the desktop, bit for bit, on every processor that keeps subnormal numbers: with
//! FPSCR.FZ, or MXCSR's FTZ or DAZ, set no run starts.
//!
//! In the order in which data flows:
//!
//! 1. A [`Pack`] is the network as it lies in flash: made on the desktop by `flatmin pack`, validated once,
//!    used where it lies. [`Sizes`] reads its header at compile time.
//! 2. [`MemoryPlan`] divides one caller-owned [`Arena`]; it is a `const fn` of [`Sizes`] and [`Recipe`].
//! 3. The trunk, all operators in front of the cut, runs in int8 ([`kernels`]), bit-exact with TensorFlow
//!    Lite's reference kernels, once per sample; its output is kept as a latent in the [`replay`].
//! 4. The [`tail`], the layers behind the cut, is trained in f32 by [`step`]: forward, backward, the
//!    ascent of SAM or ASAM and the descent of SGD ([`optim`]).
//! 5. The tuned tail is requantized to int8, and classifies.
//! 6. The [`store`] keeps it in flash, where it outlasts a power cut.
//!
//! [`Tuner`] ties all of it together; [`wire`] carries it over a serial line. [`CompactTuner`] does the same in fewer
//! bytes, and without floating point where the work is: [`compact`].
//! In front of a network that listens stands `mfcc` (feature `mfcc`), which makes its input of a microphone's PCM.
//!
//! ```
//! use flatmin::{Arena, Operators, Pack, Recipe, Sizes, Tuner, include_pack};
//!
//! static MODEL: &[u8] = include_pack!("../tests/examples/motion.pack");
//! static OPERATORS: Operators = Operators::of(MODEL); // links the kernels of this model alone
//! const RECIPE: Recipe = Recipe { held_out: 0.2, learning_rate: 0.05, ..Recipe::DEFAULT };
//! const BYTES: usize = Sizes::of(MODEL).train_bytes(&RECIPE); // known when the firmware is compiled
//!
//! type Samples<'s> = &'s [([i8; 600], usize)]; // inputs as the network takes them, and their labels
//!
//! fn adapt(samples: Samples, unknown: &[i8], arena: &mut Arena<BYTES>) -> Result<usize, Box<dyn core::error::Error>> {
//!     let mut tuner = Tuner::new(Pack::with_operators(MODEL, &OPERATORS)?, RECIPE, arena.bytes())?;
//!     for (input, label) in samples {
//!         tuner.observe(input, *label)?; // the backbone runs once; its feature is kept
//!     }
//!     tuner.start(RECIPE)?;
//!     while !tuner.step()?.finished {} // or `poll`, between other work
//!     tuner.accept()?; // the tuned tail is taken if it is better on the held-out samples
//!     Ok(tuner.classify(unknown)?.label) // by the tail in force
//! }
//! # let shaken = |axis, at: usize| if at % 6 == axis { (at / 6 % 10) as i8 * 12 - 54 } else { 0 };
//! # let recorded = |index| (core::array::from_fn(|at| shaken(index % 3, at)), index % 3);
//! # let samples: [_; 30] = core::array::from_fn(recorded);
//! # for (window, label) in &samples[..3] {
//! #     assert_eq!(adapt(&samples, window, &mut Arena::new())?, *label);
//! # }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! ## Left out
//! Batch normalization (int8 networks have it folded), dynamic shapes, batches in the trunk.

#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(target_endian = "big")]
compile_error!("packs are little endian and used where they lie: big-endian targets are not supported");

mod cobs;
pub mod compact;
mod cpu;
mod fmt;
pub mod kernels;
mod label;
mod linked;
mod math;
mod memory;
pub mod metrics;
#[cfg(feature = "mfcc")]
pub mod mfcc;
mod op;
pub mod optim;
pub mod pack;
mod part;
mod quant;
mod random;
mod recipe;
pub mod replay;
mod requant;
mod sound;
pub mod step;
pub mod store;
pub mod tail;
pub mod trunk;
mod tuner;
pub mod wire;

pub use compact::{Compact, CompactPlan, CompactTuner};
pub use memory::{Arena, MemoryPlan, Region};
pub use optim::{BiasTreatment, Schedule};
pub use pack::{Activation, Aligned, Operators, Pack, PackError, Sizes, crc32};
pub use quant::{Affine, Multiplier, as_int8};
pub use recipe::{Ascent, Method, Optimizer, Recipe, RecipeError};
pub use requant::TunedLayer;
pub use trunk::infer;
pub use tuner::{
    Acceptance, Answer, Arithmetic, Best, Drift, Evaluation, Float, Judgement, Position, Progress,
    RUN_HEAD_BYTES, RUN_VERSION, Score, StepReport, Suspect, Tuner, TunerError, Version, Watch, Work,
};
