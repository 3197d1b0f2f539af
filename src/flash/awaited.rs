//! The flash with a driver that is awaited: every operation lets others run first.

use super::{Flash, FlashError};
use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use embedded_storage::nor_flash as blocking;
use embedded_storage_async::nor_flash::{NorFlash, ReadNorFlash};

/// Polls a future that often at most; `None` if that was not enough.
pub fn poll<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

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
