//! A [`Store`] in flash whose driver is awaited: the same operations, the same bytes.
//!
//! A future that is dropped before it is done is a power cut, and leaves the old tail or the new.

use super::{Awaited, Description, Record, Recovery, Store, StoreError};
use embedded_storage_async::nor_flash::NorFlash;

impl Store {
    /// [`Self::commit`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn commit_async<F: NorFlash>(
        &self,
        flash: &mut F,
        description: &Description,
        payload: &[&[u8]],
    ) -> Result<Record, StoreError> {
        self.committed(&mut Awaited(flash), description, payload).await
    }

    /// [`Self::recover`].
    ///
    /// # Errors
    /// [`StoreError`] for slots that do not fit the flash.
    pub async fn recover_async<F: NorFlash>(
        &self,
        flash: &mut F,
        pack_crc32: u32,
    ) -> Result<Recovery, StoreError> {
        self.recovered(&mut Awaited(flash), pack_crc32).await
    }

    /// [`Self::read`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`], with anything in the parts; [`StoreError::PayloadLength`].
    pub async fn read_async<F: NorFlash>(
        &self,
        flash: &mut F,
        record: &Record,
        parts: &mut [&mut [u8]],
    ) -> Result<(), StoreError> {
        self.read_into(&mut Awaited(flash), record, parts).await
    }

    /// [`Self::roll_back`].
    ///
    /// # Errors
    /// [`StoreError::NothingToRollBack`] if the factory tail is in force.
    pub async fn roll_back_async<F: NorFlash>(
        &self,
        flash: &mut F,
        pack_crc32: u32,
    ) -> Result<Recovery, StoreError> {
        self.rolled_back(&mut Awaited(flash), pack_crc32).await
    }

    /// [`Self::factory_reset`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn factory_reset_async<F: NorFlash>(
        &self,
        flash: &mut F,
        pack_crc32: u32,
    ) -> Result<(), StoreError> {
        self.reset(&mut Awaited(flash), pack_crc32).await
    }
}
