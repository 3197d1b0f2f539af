//! The flash with a driver that is awaited: every operation lets others run first.

use super::{Flash, FlashError};
use core::future::poll_fn;
use core::task::Poll;
use embedded_storage::nor_flash as blocking;
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};

/// Waits once.
async fn others_run() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<const WRITE: usize, const ERASE: usize, const READ: usize> ReadNorFlash for Flash<WRITE, ERASE, READ> {
    const READ_SIZE: usize = READ;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        others_run().await;
        blocking::ReadNorFlash::read(self, offset, bytes)
    }

    fn capacity(&self) -> usize {
        blocking::ReadNorFlash::capacity(self)
    }
}

impl<const WRITE: usize, const ERASE: usize, const READ: usize> NorFlash for Flash<WRITE, ERASE, READ> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        others_run().await;
        blocking::NorFlash::erase(self, from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        others_run().await;
        blocking::NorFlash::write(self, offset, bytes)
    }
}
