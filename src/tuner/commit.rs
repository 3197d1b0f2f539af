//! The tuned tail into flash and back.

use super::parts::bytes_mut;
use super::payload::Layers;
use super::{Tuner, TunerError};
use crate::store::{Access, Blocking, Contents, Description, Record, Recovery, Store, StoreError, now};
use embedded_storage::nor_flash::NorFlash;

impl Tuner<'_> {
    /// Keeps the tuned tail in flash: what [`Self::requantize`] made last and, where a slot is large enough
    /// ([`crate::Sizes::slot_bytes`] of [`Contents::Int8AndF32`]), the f32 weights as they are now. After a power
    /// cut at any moment [`Self::restore`] finds this tail or the one before, whole. Blocks for as long as the flash
    /// takes to erase and write a slot.
    ///
    /// # Errors
    /// [`TunerError::NotTuned`] before [`Self::requantize`]; [`TunerError::Store`].
    #[inline(never)] // what the future takes is the callee's
    pub fn commit<F: NorFlash>(&self, store: &Store, flash: &mut F) -> Result<Record, TunerError> {
        now(self.committed(store, &mut Blocking(flash)))
    }

    pub(super) async fn committed<A: Access>(
        &self,
        store: &Store,
        flash: &mut A,
    ) -> Result<Record, TunerError> {
        if self.tuned.is_empty() {
            return Err(TunerError::NotTuned);
        }
        self.check_weights()?;
        let layers = self.tuned.layer_bytes(&self.pack);
        let sizes = self.pack.sizes();
        let full = store.fits_in::<A>(sizes.payload_bytes(Contents::Int8AndF32));
        let contents = if full { Contents::Int8AndF32 } else { Contents::Int8 };
        let description =
            Description { pack_crc32: self.pack.crc32(), contents, weights_crc32: self.weights_crc32() };
        // The crate builds for little-endian targets alone: memory is what the format says.
        let (words, weights) = self.tuned.parts();
        let f32_weights = if full { self.weights() } else { &[] };
        let payload = [
            layers.as_bytes(),
            bytemuck::try_cast_slice(words).unwrap_or(&[]),
            bytemuck::try_cast_slice(weights).unwrap_or(&[]),
            bytemuck::try_cast_slice(f32_weights).unwrap_or(&[]),
        ];
        let record = store.committed(flash, &description, &payload).await?;
        crate::fmt::info!("committed tail {} to slot {}", record.sequence, record.slot);
        Ok(record)
    }

    /// At boot: puts the newest committed tail of this very pack in force, or, where there is none that is whole, the
    /// factory tail. Says which, and of each slot why. A run under way is abandoned, the samples stay.
    ///
    /// From a record of [`Contents::Int8AndF32`] both [`Self::classify`] and further tuning go on with the same bits.
    /// From one of [`Contents::Int8`] the first does; tuning starts from the dequantized int8 weights.
    ///
    /// # Errors
    /// [`TunerError::Store`], with the tuner as it was, for a store that does not fit the flash. What is wrong
    /// with a slot is no error, but a reason in the [`Recovery`].
    #[inline(never)] // what the future takes is the callee's
    pub fn restore<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<Recovery, TunerError> {
        now(self.restored(store, &mut Blocking(flash)))
    }

    pub(super) async fn restored(
        &mut self,
        store: &Store,
        flash: &mut impl Access,
    ) -> Result<Recovery, TunerError> {
        let mut recovery = store.recovered(flash, self.pack.crc32()).await?;
        self.factory_reset();
        while let Some(record) = recovery.in_force() {
            let mut loading = Loading { tuner: self, whole: false };
            loading.whole = loading.tuner.load(store, flash, &record).await.is_ok();
            if loading.whole {
                crate::fmt::info!("tail {} of slot {} in force", record.sequence, record.slot);
                return Ok(recovery);
            }
            recovery.reject(&record);
        }
        crate::fmt::info!("factory tail in force");
        Ok(recovery)
    }

    /// Takes the newest commit back, in flash and here: [`Store::roll_back`], then [`Self::restore`].
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`] and others in [`TunerError::Store`]. After [`StoreError::Flash`] flash and
    /// tuner may differ: [`Self::restore`] puts that right.
    #[inline(never)] // what the future takes is the callee's
    pub fn roll_back<F: NorFlash>(&mut self, store: &Store, flash: &mut F) -> Result<Recovery, TunerError> {
        now(self.rolled_back(store, &mut Blocking(flash)))
    }

    pub(super) async fn rolled_back(
        &mut self,
        store: &Store,
        flash: &mut impl Access,
    ) -> Result<Recovery, TunerError> {
        store.rolled_back(flash, self.pack.crc32()).await?;
        self.restored(store, flash).await
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
        now(self.reset_stored(store, &mut Blocking(flash)))
    }

    pub(super) async fn reset_stored(
        &mut self,
        store: &Store,
        flash: &mut impl Access,
    ) -> Result<(), TunerError> {
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
        let own_layers = layers.as_bytes_mut();
        let [words, weights] = self.tuned.int8_parts_mut();
        match record.contents {
            Contents::Int8 => store.read_into(flash, record, &mut [own_layers, words, weights]).await?,
            Contents::Int8AndF32 => {
                let f32_weights = bytes_mut(self.weights);
                store.read_into(flash, record, &mut [own_layers, words, weights, f32_weights]).await?;
            }
        }
        if !self.tuned.adopt_layers(&self.pack, layers.as_bytes()) {
            return Err(StoreError::Damaged { slot: record.slot });
        }
        if record.contents == Contents::Int8 {
            self.tuned.dequantize(&self.pack, self.weights);
        }
        Ok(())
    }
}

/// A tail on its way into the tuner: what is not whole in the end gives way to the factory tail, even where an awaited
/// driver is given up in the middle.
struct Loading<'t, 'p> {
    tuner: &'t mut Tuner<'p>,
    whole: bool,
}

impl Drop for Loading<'_, '_> {
    fn drop(&mut self) {
        if !self.whole {
            self.tuner.factory_reset();
        }
    }
}
