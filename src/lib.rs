//! # flatmin
//!
//! Fine-tunes the last layers of a pretrained, quantized (int8) network on the microcontroller that runs it,
//! with SAM or ASAM (sharpness-aware minimization), in buffers whose size is known when the firmware is
//! linked. The same `no_std` code runs on the desktop, bit for bit.
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
//! ## Left out
//! Batch normalization (int8 networks have it folded), dynamic shapes, batches in the trunk.

#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(target_endian = "big")]
compile_error!("packs are little endian and used where they lie: big-endian targets are not supported");

pub mod closed_form;
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
mod quant;
mod random;
mod recipe;
pub mod replay;
mod requant;
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
pub use recipe::{Method, Optimizer, Recipe, RecipeError};
pub use requant::TunedLayer;
pub use trunk::infer;
pub use tuner::{
    Acceptance, Arithmetic, Best, Drift, Evaluation, Float, Judgement, Position, Progress, RUN_HEAD_BYTES,
    RUN_VERSION, Score, Solve, StepReport, Suspect, Tuner, TunerError, Version, Watch, Work,
};
