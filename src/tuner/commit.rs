//! The tuned tail into flash and back.

use super::arithmetic::Arithmetic;
use super::bytes::Layers;
use super::{Tuner, TunerError};
#[cfg(feature = "async")]
use crate::store::Awaited;
use crate::store::{Access, Blocking, Contents, Description, Record, Recovery, Store, StoreError, now};
use embedded_storage::nor_flash::NorFlash;
#[cfg(feature = "async")]
use embedded_storage_async::nor_flash::NorFlash as AsyncNorFlash;

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Keeps the tuned tail in flash: what [`Self::requantize`] made last and, where a slot is large enough
    /// ([`crate::Sizes::slot_bytes`] of [`Contents::Int8AndF32`], of a [`crate::CompactTuner`] of
    /// [`Contents::Int8AndCompact`]), the weights as they are now. After a power cut at any moment
    /// [`Self::restore`] finds this tail or the one before, whole. Blocks for as long as the flash takes to erase
    /// and write a slot.
    ///
    /// # Errors
    /// [`TunerError::NotTuned`] before [`Self::requantize`]; [`TunerError::Store`].
    #[inline(never)] // Keeps the future's frame off the caller's stack.
    pub fn commit<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<Record, TunerError> {
        now(self.committed(store, &mut Blocking(flash)))
    }

    /// At boot: puts the newest committed tail of this very pack in force, or, where there is none that is whole,
    /// the factory tail. Says which, and of each slot why. A run under way is abandoned, the samples stay.
    ///
    /// From a record with this tuner's weights both [`Self::classify`] and further tuning go on with the same
    /// bits. From one of [`Contents::Int8`], or with the weights of another arithmetic, the first does; tuning starts
    /// from what the int8 weights stand for.
    ///
    /// # Errors
    /// [`TunerError::Store`], with the tuner as it was, for a store that does not fit the flash. What is wrong
    /// with a slot is no error, but a reason in the [`Recovery`].
    #[inline(never)] // Keeps the future's frame off the caller's stack.
    pub fn restore<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<Recovery, TunerError> {
        now(self.restored(store, &mut Blocking(flash)))
    }

    /// Takes the newest commit back, in flash and here: [`Store::roll_back`], then [`Self::restore`].
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`] and others in [`TunerError::Store`]. After [`StoreError::Flash`] flash
    /// and tuner may differ: [`Self::restore`] puts that right.
    #[inline(never)] // Keeps the future's frame off the caller's stack.
    pub fn roll_back<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<Recovery, TunerError> {
        now(self.rolled_back(store, &mut Blocking(flash)))
    }

    /// [`Self::factory_reset`] that outlasts a power cut: erases the store, too.
    ///
    /// # Errors
    /// [`TunerError::Store`]. After [`StoreError::Flash`] flash and tuner may differ: [`Self::restore`] puts that
    /// right.
    #[inline(never)] // Keeps the future's frame off the caller's stack.
    pub fn factory_reset_stored<F: NorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<(), TunerError> {
        now(self.reset_stored(store, &mut Blocking(flash)))
    }

    /// [`Self::commit`]. The tuner is lent until the flash is done: nothing is tuned meanwhile.
    ///
    /// # Errors
    /// [`TunerError::NotTuned`] before [`Self::requantize`]; [`TunerError::Store`].
    #[cfg(feature = "async")]
    pub async fn commit_async<F: AsyncNorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<Record, TunerError> {
        self.committed(store, &mut Awaited(flash)).await
    }

    /// [`Self::restore`]. Dropped before it is done, it leaves the factory tail in force.
    ///
    /// # Errors
    /// [`TunerError::Store`], with the tuner as it was.
    #[cfg(feature = "async")]
    pub async fn restore_async<F: AsyncNorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<Recovery, TunerError> {
        self.restored(store, &mut Awaited(flash)).await
    }

    /// [`Self::roll_back`].
    ///
    /// # Errors
    /// As [`Self::roll_back`].
    #[cfg(feature = "async")]
    pub async fn roll_back_async<F: AsyncNorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<Recovery, TunerError> {
        self.rolled_back(store, &mut Awaited(flash)).await
    }

    /// [`Self::factory_reset_stored`].
    ///
    /// # Errors
    /// As [`Self::factory_reset_stored`].
    #[cfg(feature = "async")]
    pub async fn factory_reset_stored_async<F: AsyncNorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<(), TunerError> {
        self.reset_stored(store, &mut Awaited(flash)).await
    }

    async fn committed<F: Access>(&mut self, store: &Store, flash: &mut F) -> Result<Record, TunerError> {
        if self.tuned.is_empty() {
            return Err(TunerError::NotTuned);
        }
        self.check_weights()?;
        if self.run.is_none() {
            self.check_range()?;
        }
        let layers = self.tuned.layer_bytes(&self.pack);
        let whole = store.fits_in::<F>(self.pack.sizes().payload_bytes(A::CONTENTS));
        let contents = if whole { A::CONTENTS } else { Contents::Int8 };
        let (pack_crc32, weights_crc32) = (self.pack.crc32(), self.weights_crc32());
        let description = Description { pack_crc32, contents, weights_crc32 };
        let [words, int8] = self.tuned.int8_parts();
        let [a, b, c, d] = if whole { self.payload_parts() } else { [&[][..]; 4] };
        let payload = [layers.as_bytes(), words, int8, a, b, c, d];
        let record = store.committed(flash, &description, &payload).await?;
        self.release();
        crate::fmt::info!("committed tail {} to slot {}", record.sequence, record.slot);
        Ok(record)
    }

    async fn restored(&mut self, store: &Store, flash: &mut impl Access) -> Result<Recovery, TunerError> {
        let mut recovery = store.recovered(flash, self.pack.crc32()).await?;
        self.factory_reset();
        while let Some(record) = recovery.in_force() {
            let mut loading = Loading { tuner: self, whole: false };
            loading.whole = loading.tuner.load(store, flash, &record).await.is_ok();
            if loading.whole {
                loading.tuner.release();
                crate::fmt::info!("tail {} of slot {} in force", record.sequence, record.slot);
                return Ok(recovery);
            }
            recovery.reject(&record);
        }
        crate::fmt::info!("factory tail in force");
        Ok(recovery)
    }

    async fn rolled_back(&mut self, store: &Store, flash: &mut impl Access) -> Result<Recovery, TunerError> {
        store.rolled_back(flash, self.pack.crc32()).await?;
        self.restored(store, flash).await
    }

    async fn reset_stored(&mut self, store: &Store, flash: &mut impl Access) -> Result<(), TunerError> {
        store.reset(flash, self.pack.crc32()).await?;
        self.factory_reset();
        Ok(())
    }

    async fn load(
        &mut self,
        store: &Store,
        flash: &mut impl Access,
        record: &Record,
    ) -> Result<(), StoreError> {
        let mut layers = Layers::empty(&self.pack);
        let [words, int8, a, b, c, d] = self.places(record.contents);
        store.read_into(flash, record, &mut [layers.as_bytes_mut(), words, int8, a, b, c, d]).await?;
        if self.adopt(layers.as_bytes(), record.contents == A::CONTENTS) {
            Ok(())
        } else {
            Err(StoreError::Damaged { slot: record.slot })
        }
    }
}

/// A tail on its way into the tuner: what is not whole in the end gives way to the factory tail, even where an awaited
/// driver is given up in the middle.
struct Loading<'t, 'a, A: Arithmetic<'a>> {
    tuner: &'t mut Tuner<'a, A>,
    whole: bool,
}

impl<'a, A: Arithmetic<'a>> Drop for Loading<'_, 'a, A> {
    fn drop(&mut self) {
        if !self.whole {
            self.tuner.factory_reset();
        }
    }
}
