//! The tuned tail into flash whose driver is awaited, and back.

use super::{Tuner, TunerError};
use crate::store::{Awaited, Record, Recovery, Store};
use embedded_storage_async::nor_flash::NorFlash;

impl Tuner<'_> {
    /// [`Self::commit`]. The tuner is lent until the flash is done: nothing is tuned meanwhile.
    ///
    /// # Errors
    /// [`TunerError::NotTuned`] before [`Self::requantize`]; [`TunerError::Store`].
    pub async fn commit_async<F: NorFlash>(
        &self,
        store: &Store,
        flash: &mut F,
    ) -> Result<Record, TunerError> {
        self.committed(store, &mut Awaited(flash)).await
    }

    /// [`Self::restore`]. Dropped before it is done, it leaves the factory tail in force.
    ///
    /// # Errors
    /// [`TunerError::Store`], with the tuner as it was.
    pub async fn restore_async<F: NorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<Recovery, TunerError> {
        self.restored(store, &mut Awaited(flash)).await
    }

    /// [`Self::roll_back`].
    ///
    /// # Errors
    /// Those of [`Self::roll_back`].
    pub async fn roll_back_async<F: NorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<Recovery, TunerError> {
        self.rolled_back(store, &mut Awaited(flash)).await
    }

    /// [`Self::factory_reset_stored`].
    ///
    /// # Errors
    /// Those of [`Self::factory_reset_stored`].
    pub async fn factory_reset_stored_async<F: NorFlash>(
        &mut self,
        store: &Store,
        flash: &mut F,
    ) -> Result<(), TunerError> {
        self.reset_stored(store, &mut Awaited(flash)).await
    }
}
