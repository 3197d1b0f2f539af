//! What a firmware's loop and the desktop ask of a tuner, of whichever kind.

use crate::optim::Recipe;
use crate::pack::Pack;
use crate::store::{Contents, Record, Recovery, Store};
use crate::tuner::stored::Stored;
use crate::{
    Acceptance, CompactTuner, Drift, Evaluation, Progress, Score, StepReport, Tuner, TunerError, Version,
    Watch,
};
use embedded_storage::nor_flash::NorFlash;

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
    /// The tuner with f32 weights, if it is that one: it alone takes targets.
    fn full(&mut self) -> Option<&mut Tuner<'p>>;
    fn pack(&self) -> &Pack<'p>;
    fn arena_bytes(&self) -> usize;
    fn samples(&self) -> usize;
    fn capacity(&self) -> usize;
    fn classes(&self) -> usize;
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
    /// What a payload of its tail with the weights is.
    fn contents(&self) -> Contents;
    fn commit<F: NorFlash>(&self, store: &Store, flash: &mut F) -> Result<Record, TunerError>;
    fn restore<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<Recovery, TunerError>;
    fn roll_back<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<Recovery, TunerError>;
    fn factory_reset_stored<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<(), TunerError>;
    fn tail_bytes(&self) -> usize;
    fn read_tail(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError>;
    fn write_tail(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError>;
    fn adopt_tail(&mut self, layers: &[u8], crc32: u32) -> Result<(), TunerError>;
    fn run_bytes(&self) -> usize;
    fn save_run(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError>;
    fn resume_run(&mut self, bytes: &[u8]) -> Result<(), TunerError>;
    fn expect_run(&mut self, head: &[u8]) -> Result<usize, TunerError>;
    fn write_run(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError>;
    fn adopt_run(&mut self, head: &[u8]) -> Result<(), TunerError>;
    fn watch(&mut self, watch: Option<Watch>);
    fn drift(&self) -> Option<Drift>;
    fn confusion_row(
        &mut self,
        version: Version,
        label: usize,
        first: usize,
        into: &mut [u16],
    ) -> Result<(), TunerError>;
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
            fn classes(&self) -> usize {
                self.classes()
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
            fn contents(&self) -> Contents {
                Self::WHOLE
            }
            fn commit<F: NorFlash>(&self, store: &Store, flash: &mut F) -> Result<Record, TunerError> {
                self.commit(store, flash)
            }
            fn restore<F: NorFlash>(
                &mut self,
                store: &Store,
                flash: &mut F,
            ) -> Result<Recovery, TunerError> {
                self.restore(store, flash)
            }
            fn roll_back<F: NorFlash>(
                &mut self,
                store: &Store,
                flash: &mut F,
            ) -> Result<Recovery, TunerError> {
                self.roll_back(store, flash)
            }
            fn factory_reset_stored<F: NorFlash>(
                &mut self,
                store: &Store,
                flash: &mut F,
            ) -> Result<(), TunerError> {
                self.factory_reset_stored(store, flash)
            }
            fn tail_bytes(&self) -> usize {
                self.tail_bytes()
            }
            fn read_tail(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
                self.read_tail(offset, into)
            }
            fn write_tail(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
                self.write_tail(offset, bytes)
            }
            fn adopt_tail(&mut self, layers: &[u8], crc32: u32) -> Result<(), TunerError> {
                self.adopt_tail(layers, crc32)
            }
            fn run_bytes(&self) -> usize {
                self.run_bytes()
            }
            fn save_run(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
                self.save_run(offset, into)
            }
            fn resume_run(&mut self, bytes: &[u8]) -> Result<(), TunerError> {
                self.resume_run(bytes)
            }
            fn expect_run(&mut self, head: &[u8]) -> Result<usize, TunerError> {
                self.expect_run(head)
            }
            fn write_run(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
                self.write_run(offset, bytes)
            }
            fn adopt_run(&mut self, head: &[u8]) -> Result<(), TunerError> {
                self.adopt_run(head)
            }
            fn watch(&mut self, watch: Option<Watch>) {
                self.watch(watch);
            }
            fn drift(&self) -> Option<Drift> {
                self.drift()
            }
            fn confusion_row(
                &mut self,
                version: Version,
                label: usize,
                first: usize,
                into: &mut [u16],
            ) -> Result<(), TunerError> {
                self.confusion_row(version, label, first, into)
            }
        }
    };
}

tunes!(Tuner, self => Some(self));
tunes!(CompactTuner, self => None);
