//! Flash with one interface: a driver that waits ([`Blocking`]) or one that is awaited ([`Awaited`]). What a store does with
//! it is written once, for both.

use super::{Operation, StoreError};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use embedded_storage::nor_flash::{NorFlash, NorFlashError};

/// Bytes of the buffers between a store and its flash: a multiple of every word size up to itself.
pub(crate) const CHUNK: usize = 128;

/// What a store asks of its flash.
pub(crate) trait Access {
    /// The larger of what is written and what is read at once: what records are laid out in.
    const UNIT: usize;
    /// Bytes that are erased at once.
    const PAGE: usize;
    fn capacity(&self) -> usize;
    async fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), StoreError>;
    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), StoreError>;
    async fn erase(&mut self, from: u32, to: u32) -> Result<(), StoreError>;
}

/// Holds at compile time for a flash that the store can use.
pub(crate) const fn usable<A: Access>() -> bool {
    A::UNIT > 0 && CHUNK.is_multiple_of(A::UNIT) && A::PAGE.is_multiple_of(A::UNIT)
}

fn failed<E: NorFlashError>(operation: Operation) -> impl Fn(E) -> StoreError {
    move |error| StoreError::Flash { operation, kind: error.kind() }
}

const fn larger(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// A driver that returns when the work is done.
pub(crate) struct Blocking<'f, F>(pub &'f mut F);

impl<F: NorFlash> Access for Blocking<'_, F> {
    const UNIT: usize = larger(F::WRITE_SIZE, F::READ_SIZE);
    const PAGE: usize = F::ERASE_SIZE;

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    async fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.0.read(at, bytes).map_err(failed(Operation::Read))
    }

    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write(at, bytes).map_err(failed(Operation::Write))
    }

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), StoreError> {
        self.0.erase(from, to).map_err(failed(Operation::Erase))
    }
}

/// A driver whose work is awaited.
#[cfg(feature = "async")]
pub(crate) struct Awaited<'f, F>(pub &'f mut F);

#[cfg(feature = "async")]
impl<F: embedded_storage_async::nor_flash::NorFlash> Access for Awaited<'_, F> {
    const UNIT: usize = larger(F::WRITE_SIZE, F::READ_SIZE);
    const PAGE: usize = F::ERASE_SIZE;

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    async fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.0.read(at, bytes).await.map_err(failed(Operation::Read))
    }

    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.write(at, bytes).await.map_err(failed(Operation::Write))
    }

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), StoreError> {
        self.0.erase(from, to).await.map_err(failed(Operation::Erase))
    }
}

/// The outcome of a future over [`Blocking`]: nothing in it ever waits.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
            return outcome;
        }
    }
}
