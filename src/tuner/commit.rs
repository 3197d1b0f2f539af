//! The tuned tail into flash and back.

use super::payload::Layers;
use super::stored::{Places, Stored};
use super::{Tuner, TunerError};
use crate::CompactTuner;
use crate::store::{Access, Blocking, Contents, Description, Record, Recovery, Store, StoreError, now};
use embedded_storage::nor_flash::NorFlash;

/// Calls of both tuners.
macro_rules! store_calls {
    ($tuner:ident) => {
        impl $tuner<'_> {
            /// Keeps the tuned tail in flash: what [`Self::requantize`] made last and, where a slot is large enough
            /// ([`crate::Sizes::slot_bytes`] of [`Contents::Int8AndF32`], of a [`CompactTuner`] of
            /// [`Contents::Int8AndCompact`]), the weights as they are now. After a power cut at any moment
            /// [`Self::restore`] finds this tail or the one before, whole. Blocks for as long as the flash takes to erase
            /// and write a slot.
            ///
            /// # Errors
            /// [`TunerError::NotTuned`] before [`Self::requantize`]; [`TunerError::Store`].
            #[inline(never)] // what the future takes is the callee's
            pub fn commit<F: NorFlash>(&self, store: &Store, flash: &mut F) -> Result<Record, TunerError> {
                now(committed(self, store, &mut Blocking(flash)))
            }

            /// At boot: puts the newest committed tail of this very pack in force, or, where there is none that is whole,
            /// the factory tail. Says which, and of each slot why. A run under way is abandoned, the samples stay.
            ///
            /// From a record with this tuner's weights both [`Self::classify`] and further tuning go on with the same
            /// bits. From one of [`Contents::Int8`], or with the weights of the other tuner, the first does; tuning starts
            /// from what the int8 weights stand for.
            ///
            /// # Errors
            /// [`TunerError::Store`], with the tuner as it was, for a store that does not fit the flash. What is wrong
            /// with a slot is no error, but a reason in the [`Recovery`].
            #[inline(never)] // what the future takes is the callee's
            pub fn restore<F: NorFlash>(
                &mut self,
                store: &Store,
                flash: &mut F,
            ) -> Result<Recovery, TunerError> {
                now(restored(self, store, &mut Blocking(flash)))
            }

            /// Takes the newest commit back, in flash and here: [`Store::roll_back`], then [`Self::restore`].
            ///
            /// # Errors
            /// [`StoreError::NothingToRollBack`] and others in [`TunerError::Store`]. After [`StoreError::Flash`] flash
            /// and tuner may differ: [`Self::restore`] puts that right.
            #[inline(never)] // what the future takes is the callee's
            pub fn roll_back<F: NorFlash>(
                &mut self,
                store: &Store,
                flash: &mut F,
            ) -> Result<Recovery, TunerError> {
                now(rolled_back(self, store, &mut Blocking(flash)))
            }

            /// [`Self::factory_reset`] that outlasts a power cut: erases the store, too.
            ///
            /// # Errors
            /// [`TunerError::Store`]. After [`StoreError::Flash`] flash and tuner may differ: [`Self::restore`] puts that
            /// right.
            #[inline(never)] // what the future takes is the callee's
            pub fn factory_reset_stored<F: NorFlash>(
                &mut self,
                store: &Store,
                flash: &mut F,
            ) -> Result<(), TunerError> {
                now(reset_stored(self, store, &mut Blocking(flash)))
            }
        }
    };
}

store_calls!(Tuner);
store_calls!(CompactTuner);

pub(super) async fn committed<T: Stored, A: Access>(
    tuner: &T,
    store: &Store,
    flash: &mut A,
) -> Result<Record, TunerError> {
    if tuner.tuned().is_empty() {
        return Err(TunerError::NotTuned);
    }
    tuner.check_weights()?;
    let layers = tuner.tuned().layer_bytes(tuner.pack());
    let whole = store.fits_in::<A>(tuner.pack().sizes().payload_bytes(T::WHOLE));
    let contents = if whole { T::WHOLE } else { Contents::Int8 };
    let (pack_crc32, weights_crc32) = (tuner.pack().crc32(), tuner.weights_crc32());
    let description = Description { pack_crc32, contents, weights_crc32 };
    let [words, int8] = tuner.tuned().int8_parts();
    let [a, b, c, d] = if whole { tuner.weight_parts() } else { [&[][..]; 4] };
    let payload = [layers.as_bytes(), words, int8, a, b, c, d];
    let record = store.committed(flash, &description, &payload).await?;
    crate::fmt::info!("committed tail {} to slot {}", record.sequence, record.slot);
    Ok(record)
}

pub(super) async fn restored<T: Stored>(
    tuner: &mut T,
    store: &Store,
    flash: &mut impl Access,
) -> Result<Recovery, TunerError> {
    let mut recovery = store.recovered(flash, tuner.pack().crc32()).await?;
    tuner.reset();
    while let Some(record) = recovery.in_force() {
        let mut loading = Loading { tuner, whole: false };
        loading.whole = load(loading.tuner, store, flash, &record).await.is_ok();
        if loading.whole {
            crate::fmt::info!("tail {} of slot {} in force", record.sequence, record.slot);
            return Ok(recovery);
        }
        recovery.reject(&record);
    }
    crate::fmt::info!("factory tail in force");
    Ok(recovery)
}

pub(super) async fn rolled_back<T: Stored>(
    tuner: &mut T,
    store: &Store,
    flash: &mut impl Access,
) -> Result<Recovery, TunerError> {
    store.rolled_back(flash, tuner.pack().crc32()).await?;
    restored(tuner, store, flash).await
}

pub(super) async fn reset_stored<T: Stored>(
    tuner: &mut T,
    store: &Store,
    flash: &mut impl Access,
) -> Result<(), TunerError> {
    store.reset(flash, tuner.pack().crc32()).await?;
    tuner.reset();
    Ok(())
}

async fn load<T: Stored>(
    tuner: &mut T,
    store: &Store,
    flash: &mut impl Access,
    record: &Record,
) -> Result<(), StoreError> {
    let mut layers = Layers::empty(tuner.pack());
    let Places { int8: [words, int8], weights: [a, b, c, d] } = tuner.places(record.contents);
    store.read_into(flash, record, &mut [layers.as_bytes_mut(), words, int8, a, b, c, d]).await?;
    if tuner.adopt(layers.as_bytes(), record.contents == T::WHOLE) {
        Ok(())
    } else {
        Err(StoreError::Damaged { slot: record.slot })
    }
}

/// A tail on its way into the tuner: what is not whole in the end gives way to the factory tail, even where an awaited
/// driver is given up in the middle.
struct Loading<'t, T: Stored> {
    tuner: &'t mut T,
    whole: bool,
}

impl<T: Stored> Drop for Loading<'_, T> {
    fn drop(&mut self) {
        if !self.whole {
            self.tuner.reset();
        }
    }
}
