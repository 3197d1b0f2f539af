//! What a firmware's loop and the desktop ask of a tuner, of whichever kind.

use crate::optim::Recipe;
use crate::pack::Pack;
use crate::{Acceptance, CompactTuner, Evaluation, Progress, Score, StepReport, Tuner, TunerError, Version};

/// The calls that [`Tuner`] and [`CompactTuner`] have in common; each is documented there.
///
/// ```
/// use flatmin::{StepReport, TunerError, Tunes};
/// /// Steps until the run is over.
/// fn finish<'p>(tuner: &mut impl Tunes<'p>) -> Result<StepReport, TunerError> {
///     loop {
///         let report = tuner.step()?;
///         if report.finished {
///             return Ok(report);
///         }
///     }
/// }
/// ```
#[allow(missing_docs)] // They say what the tuners' own say.
pub trait Tunes<'p> {
    /// The tuner with f32 weights, if it is that one: it alone keeps tails in flash and hands them out.
    fn full(&mut self) -> Option<&mut Tuner<'p>>;
    fn pack(&self) -> &Pack<'p>;
    fn arena_bytes(&self) -> usize;
    fn samples(&self) -> usize;
    fn capacity(&self) -> usize;
    fn epoch(&self) -> Option<u16>;
    fn is_tuned(&self) -> bool;
    fn weights_crc32(&self) -> u32;
    fn macs(&self) -> u64;
    fn factory_reset(&mut self);
    fn forget(&mut self);
    fn latent(&mut self, input: &[i8]) -> Result<&[i8], TunerError>;
    fn observe(&mut self, input: &[i8], label: usize) -> Result<(), TunerError>;
    fn start(&mut self, recipe: Recipe) -> Result<(), TunerError>;
    fn step(&mut self) -> Result<StepReport, TunerError>;
    fn poll(&mut self) -> Result<Progress, TunerError>;
    fn requantize_between(&mut self, between: impl FnMut()) -> Result<(), TunerError>;
    fn requantize(&mut self) -> Result<(), TunerError> {
        self.requantize_between(|| ())
    }
    fn accept_between(&mut self, between: impl FnMut()) -> Result<Acceptance, TunerError>;
    fn accept(&mut self) -> Result<Acceptance, TunerError> {
        self.accept_between(|| ())
    }
    fn classify(&mut self, input: &[i8], version: Version) -> Result<&[i8], TunerError>;
    fn classify_latent(&mut self, latent: &[i8], version: Version) -> Result<&[i8], TunerError>;
    fn score_latent(&mut self, latent: &[i8], label: usize) -> Result<Score, TunerError>;
    fn evaluate_between(&mut self, rho: f32, between: impl FnMut()) -> Result<Evaluation, TunerError>;
    fn evaluate(&mut self, rho: f32) -> Result<Evaluation, TunerError> {
        self.evaluate_between(rho, || ())
    }
    fn trace(&mut self, input: &[i8], see: impl FnMut(usize, u32)) -> Result<(), TunerError>;
}

/// Hands every call on to the tuner's own.
macro_rules! tunes {
    ($tuner:ident, $self:ident => $full:expr) => {
        impl<'p> Tunes<'p> for $tuner<'p> {
            fn full(&mut $self) -> Option<&mut Tuner<'p>> {
                $full
            }
            fn pack(&self) -> &Pack<'p> {
                self.pack()
            }
            fn arena_bytes(&self) -> usize {
                self.arena_bytes()
            }
            fn samples(&self) -> usize {
                self.samples()
            }
            fn capacity(&self) -> usize {
                self.capacity()
            }
            fn epoch(&self) -> Option<u16> {
                self.epoch()
            }
            fn is_tuned(&self) -> bool {
                self.is_tuned()
            }
            fn weights_crc32(&self) -> u32 {
                self.weights_crc32()
            }
            fn macs(&self) -> u64 {
                self.macs()
            }
            fn factory_reset(&mut self) {
                self.factory_reset();
            }
            fn forget(&mut self) {
                self.forget();
            }
            fn latent(&mut self, input: &[i8]) -> Result<&[i8], TunerError> {
                self.latent(input)
            }
            fn observe(&mut self, input: &[i8], label: usize) -> Result<(), TunerError> {
                self.observe(input, label)
            }
            fn start(&mut self, recipe: Recipe) -> Result<(), TunerError> {
                self.start(recipe)
            }
            fn step(&mut self) -> Result<StepReport, TunerError> {
                self.step()
            }
            fn poll(&mut self) -> Result<Progress, TunerError> {
                self.poll()
            }
            fn requantize_between(&mut self, between: impl FnMut()) -> Result<(), TunerError> {
                self.requantize_between(between)
            }
            fn accept_between(&mut self, between: impl FnMut()) -> Result<Acceptance, TunerError> {
                self.accept_between(between)
            }
            fn classify(&mut self, input: &[i8], version: Version) -> Result<&[i8], TunerError> {
                self.classify(input, version)
            }
            fn classify_latent(&mut self, latent: &[i8], version: Version) -> Result<&[i8], TunerError> {
                self.classify_latent(latent, version)
            }
            fn score_latent(&mut self, latent: &[i8], label: usize) -> Result<Score, TunerError> {
                self.score_latent(latent, label)
            }
            fn evaluate_between(
                &mut self,
                rho: f32,
                between: impl FnMut(),
            ) -> Result<Evaluation, TunerError> {
                self.evaluate_between(rho, between)
            }
            fn trace(&mut self, input: &[i8], see: impl FnMut(usize, u32)) -> Result<(), TunerError> {
                self.trace(input, see)
            }
        }
    };
}

tunes!(Tuner, self => Some(self));
tunes!(CompactTuner, self => None);
