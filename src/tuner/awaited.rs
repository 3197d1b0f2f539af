//! The tuned tail into flash whose driver is awaited, and back.

use super::{Tuner, TunerError, commit};
use crate::CompactTuner;
use crate::store::{Awaited, Record, Recovery, Store};
use embedded_storage_async::nor_flash::NorFlash;

/// Calls of both tuners.
macro_rules! awaited_calls {
    ($tuner:ident) => {
        impl $tuner<'_> {
            /// [`Self::commit`]. The tuner is lent until the flash is done: nothing is tuned meanwhile.
            ///
            /// # Errors
            /// [`TunerError::NotTuned`] before [`Self::requantize`]; [`TunerError::Store`].
            pub async fn commit_async<F: NorFlash>(
                &self,
                store: &Store,
                flash: &mut F,
            ) -> Result<Record, TunerError> {
                commit::committed(self, store, &mut Awaited(flash)).await
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
                commit::restored(self, store, &mut Awaited(flash)).await
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
                commit::rolled_back(self, store, &mut Awaited(flash)).await
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
                commit::reset_stored(self, store, &mut Awaited(flash)).await
            }
        }
    };
}

awaited_calls!(Tuner);
awaited_calls!(CompactTuner);
