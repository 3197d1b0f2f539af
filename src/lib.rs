//! # flatmin
//!
//! Fine-tunes the last layers of a pretrained, quantized (int8) network on the microcontroller that runs it,
//! with SAM or ASAM (sharpness-aware minimization), in buffers whose size is known when the firmware is
//! linked. The same `no_std` code runs on the desktop, bit for bit, on every processor that keeps subnormal numbers: with
//! FPSCR.FZ, or MXCSR's FTZ or DAZ, set no run starts.
//!
//! Words: the *backbone*, in code the `trunk`, are the frozen layers, which run in int8; the *tail* are the last layers, which
//! are tuned; a *feature*, or *latent* where it is meant as int8, is what the backbone gives the tail for one sample. Data
//! flows in this order:
//!
//! 1. A [`Pack`] is the network as it lies in flash: made on the desktop by `flatmin pack`, checked once, never copied.
//!    [`Sizes`] reads its header at compile time, [`Operators`] links the kernels that it needs.
//! 2. A [`Recipe`] has the hyperparameters: method, rho, learning rate, epochs, minibatch, how many samples are kept.
//!    [`MemoryPlan`], a `const fn` of both, divides one [`Arena`] that the caller owns.
//! 3. [`Tuner::observe`] takes a sample with its label. The backbone runs once, bit-exact with TensorFlow Lite's reference
//!    kernels, and its feature is kept in the arena's replay, where every epoch finds it again.
//! 4. [`Tuner::start`] and [`Tuner::step`] (or [`Tuner::poll`], in slices) train the tail's f32 weights minibatch by
//!    minibatch: forward, backward, the ascent of SAM or ASAM, the descent of SGD or AdamW.
//! 5. [`Tuner::accept`] quantizes the tail to int8 again and takes it if the held-out samples and the labels speak for it;
//!    [`Tuner::classify`] answers with the tail in force.
//! 6. A [`store`] keeps it in flash, where it outlasts a power cut: [`Tuner::commit`], [`Tuner::restore`].
//!
//! [`CompactTuner`] does the same in fewer bytes and in integers. Features of this crate: `wire`, the serial protocol and
//! saved runs; `mfcc`, the front end of a microphone; `async`, flash drivers that are awaited; `defmt`, formatted errors
//! and reports; `micromath`, smaller approximations of transcendental functions, with other bits.
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
//!     tuner.accept()?; // the tuned tail is taken if the samples speak for it
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
// What packs networks, and steps that are taken one by one, lie in their rooms, and `host-sim` alone calls them.
#![cfg_attr(not(feature = "_internals"), allow(dead_code, unused_imports))]

#[cfg(any(test, feature = "_test"))]
extern crate std;

#[cfg(target_endian = "big")]
compile_error!("packs are little endian and used where they lie: big-endian targets are not supported");

mod closed_form;
#[cfg(feature = "wire")]
mod cobs;
mod compact;
mod cpu;
#[cfg(feature = "_test")]
#[doc(hidden)]
pub mod flash;
mod fmt;
mod integer;
mod kernels;
mod label;
mod linked;
mod math;
mod memory;
mod metrics;
#[cfg(feature = "mfcc")]
pub mod mfcc;
mod op;
mod optim;
mod pack;
mod part;
mod quant;
mod random;
mod recipe;
mod replay;
mod requant;
mod sound;
mod step;
pub mod store;
mod tail;
mod trunk;
mod tuner;
#[cfg(feature = "wire")]
pub mod wire;

pub use compact::{Compact, CompactPlan, CompactTuner};
pub use integer::{Integer, IntegerPlan, IntegerTuner};
pub use label::Loss;
pub use memory::{Arena, MemoryPlan};
pub use optim::{BiasTreatment, Schedule};
pub use pack::{Aligned, Operators, Pack, PackError, Sizes, TensorRecord, crc32};
pub use quant::{Affine, as_int8};
pub use recipe::{Method, Optimizer, Recipe, RecipeError, RhoUnit};
pub use replay::Policy;
pub use step::{Phase, StepError};
pub use tail::TailError;
pub use trunk::infer;
pub use tuner::{
    Acceptance, Answer, Arithmetic, Best, Criterion, Drift, Evaluation, Evidence, Float, Judgement, Labels,
    Pairs, Position, Progress, Score, StepReport, Suspect, Tuner, TunerError, Version, Watch, Work,
};
#[cfg(feature = "wire")]
pub use tuner::{RUN_HEAD_BYTES, RUN_VERSION};

/// Int8 inference alone, of networks with any number of inputs and outputs; [`infer`] is the short way of one of each.
pub mod inference {
    pub use crate::trunk::{load, output, reset, run};
}

/// The rooms, for `host-sim`, benchmarks and this crate's own tests. No part of the public face: what is in here changes
/// without notice.
#[cfg(feature = "_internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::quant::Multiplier;
    pub use crate::recipe::Ascent;
    pub use crate::requant::TunedLayer;

    pub mod closed_form {
        pub use crate::closed_form::*;
    }
    pub mod kernels {
        pub use crate::kernels::*;
    }
    pub mod label {
        pub use crate::label::*;
    }
    pub mod metrics {
        pub use crate::metrics::*;
    }
    pub mod op {
        pub use crate::op::*;
    }
    pub mod optim {
        pub use crate::optim::*;
    }
    pub mod pack {
        pub use crate::pack::*;
    }
    pub mod record {
        pub use crate::store::record::*;
    }
    pub mod replay {
        pub use crate::replay::*;
    }
    pub mod requant {
        pub use crate::requant::{Range, TunedTail};
    }
    pub mod step {
        pub use crate::step::*;
    }
    pub mod tail {
        pub use crate::tail::*;
    }
    pub mod trunk {
        pub use crate::trunk::*;
    }
}
