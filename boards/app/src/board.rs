//! What the application wants of a board, and what it makes do without.

use crate::fed::Fed;
use core::convert::Infallible;
use core::ops::Range;
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use embedded_storage::nor_flash::{self, NorFlash, ReadNorFlash};
use flatmin::store::Store;

/// What a board gives beside its link. [`Hardware`] makes one of the parts that a chip's crates give.
pub trait Board {
    /// The board's name, for people; up to 32 bytes.
    fn name(&self) -> &'static str;
    /// A free-running clock; differences of neighbouring readings are meaningful.
    fn ticks(&mut self) -> u32;
    /// Ticks a second of that clock.
    fn hertz(&self) -> u32;
    /// The largest stack seen so far, in bytes; 0 if the board cannot tell.
    fn stack_bytes(&mut self) -> u32 {
        0
    }
    /// Where tuned tails are kept. The flash feeds the watchdog, too: erasing takes long.
    fn store(&mut self) -> Option<(Store, impl NorFlash)> {
        None::<(Store, NoFlash)>
    }
    /// Pages of flash, two or more, for the link's key (feature `signed`); nothing else lies there. Without them, or without
    /// the feature, anybody on the line changes the device.
    fn keys(&mut self) -> Option<(Range<u32>, impl NorFlash)> {
        None::<(Range<u32>, NoFlash)>
    }
    /// Feeds the watchdog. Called while a byte is waited for and between slices of work, the longest of which are one
    /// sample through the trunk, one of a step, and one page that is erased.
    fn feed(&mut self) {}
    /// Work begins or has ended: for a status LED.
    fn busy(&mut self, _busy: bool) {}
    /// Whether the button for labels is pressed.
    fn pressed(&mut self) -> bool {
        false
    }
}

/// The two pages after the store, for [`Hardware::with_keys`].
///
/// ```
/// use flatmin::flash::Flash;
/// use flatmin::store::Store;
/// let store = Store::new(0, 8192, 2);
/// assert_eq!(flatmin_app::pages_after::<Flash<4, 4096>>(&store), 16_384..24_576);
/// ```
pub const fn pages_after<F: NorFlash>(store: &Store) -> Range<u32> {
    let start = store.end() as u32;
    start..start.saturating_add(2 * F::ERASE_SIZE as u32)
}

/// A free-running clock.
pub trait Clock {
    /// Ticks so far, wrapping.
    fn ticks(&mut self) -> u32;
    /// Ticks a second.
    fn hertz(&self) -> u32;
}

/// A [`Board`] of drivers: a clock, and what else there is.
///
/// ```
/// use flatmin_app::{Board, Clock, Hardware};
/// struct Timer(u32);
/// impl Clock for Timer {
///     fn ticks(&mut self) -> u32 {
///         self.0 += 1;
///         self.0
///     }
///     fn hertz(&self) -> u32 {
///         1_000_000
///     }
/// }
/// let mut board = Hardware::new("bare", Timer(0));
/// assert!(board.store().is_none() && !board.pressed());
/// assert_eq!(board.ticks(), 1);
/// ```
#[derive(Debug)]
pub struct Hardware<C, F = NoFlash, L = NoPin, B = NoPin, W = fn()> {
    name: &'static str,
    clock: C,
    stack: fn() -> u32,
    store: Option<(Store, F)>,
    keys: Option<Range<u32>>,
    led: L,
    button: B,
    feed: W,
}

impl<C: Clock> Hardware<C> {
    /// A board with a clock and nothing else.
    pub fn new(name: &'static str, clock: C) -> Self {
        Self { name, clock, stack: || 0, store: None, keys: None, led: NoPin, button: NoPin, feed: || () }
    }
}

impl<C, F, L, B, W> Hardware<C, F, L, B, W> {
    /// With what tells the largest stack so far, in bytes.
    pub fn with_stack(self, stack: fn() -> u32) -> Self {
        Self { stack, ..self }
    }

    /// With flash that keeps tuned tails, where `store` says.
    pub fn with_store<G: NorFlash>(self, store: Store, flash: G) -> Hardware<C, G, L, B, W> {
        let Self { name, clock, stack, keys, led, button, feed, .. } = self;
        Hardware { name, clock, stack, store: Some((store, flash)), keys, led, button, feed }
    }

    /// With pages for the link's key, by their addresses, in the flash of [`Self::with_store`] and outside of the store.
    pub fn with_keys(self, pages: Range<u32>) -> Self {
        Self { keys: Some(pages), ..self }
    }

    /// With a status LED that is lit by a high pin while there is work; see [`ActiveLow`].
    pub fn with_led<M: OutputPin>(self, led: M) -> Hardware<C, F, M, B, W> {
        let Self { name, clock, stack, store, keys, button, feed, .. } = self;
        Hardware { name, clock, stack, store, keys, led, button, feed }
    }

    /// With a button that makes its pin high; see [`ActiveLow`].
    pub fn with_button<M: InputPin>(self, button: M) -> Hardware<C, F, L, M, W> {
        let Self { name, clock, stack, store, keys, led, feed, .. } = self;
        Hardware { name, clock, stack, store, keys, led, button, feed }
    }

    /// With what feeds a watchdog; see [`Board::feed`].
    pub fn with_watchdog<V: FnMut()>(self, feed: V) -> Hardware<C, F, L, B, V> {
        let Self { name, clock, stack, store, keys, led, button, .. } = self;
        Hardware { name, clock, stack, store, keys, led, button, feed }
    }
}

impl<C: Clock, F: NorFlash, L: OutputPin, B: InputPin, W: FnMut()> Board for Hardware<C, F, L, B, W> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ticks(&mut self) -> u32 {
        self.clock.ticks()
    }

    fn hertz(&self) -> u32 {
        self.clock.hertz()
    }

    fn stack_bytes(&mut self) -> u32 {
        (self.stack)()
    }

    fn store(&mut self) -> Option<(Store, impl NorFlash)> {
        let feed = &mut self.feed;
        self.store.as_mut().map(|(store, flash)| (*store, Fed { flash, feed }))
    }

    fn keys(&mut self) -> Option<(Range<u32>, impl NorFlash)> {
        let (feed, pages) = (&mut self.feed, self.keys.clone()?);
        self.store.as_mut().map(|(_, flash)| (pages, Fed { flash, feed }))
    }

    fn feed(&mut self) {
        (self.feed)();
    }

    fn busy(&mut self, busy: bool) {
        // A pin that fails is no reason to stop.
        let _ = self.led.set_state(busy.into());
    }

    fn pressed(&mut self) -> bool {
        self.button.is_high().unwrap_or(false)
    }
}

/// A pin whose low level means lit or pressed.
#[derive(Debug)]
pub struct ActiveLow<P>(
    /// The pin.
    pub P,
);

impl<P: ErrorType> ErrorType for ActiveLow<P> {
    type Error = P::Error;
}

impl<P: OutputPin> OutputPin for ActiveLow<P> {
    fn set_low(&mut self) -> Result<(), P::Error> {
        self.0.set_high()
    }

    fn set_high(&mut self) -> Result<(), P::Error> {
        self.0.set_low()
    }
}

impl<P: InputPin> InputPin for ActiveLow<P> {
    fn is_high(&mut self) -> Result<bool, P::Error> {
        self.0.is_low()
    }

    fn is_low(&mut self) -> Result<bool, P::Error> {
        self.0.is_high()
    }
}

/// No LED, or a button that is never pressed.
#[derive(Debug)]
pub struct NoPin;

impl ErrorType for NoPin {
    type Error = Infallible;
}

impl OutputPin for NoPin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl InputPin for NoPin {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(true)
    }
}

/// No flash to keep tails in: there is no value of this type.
#[derive(Debug)]
pub enum NoFlash {}

impl nor_flash::ErrorType for NoFlash {
    type Error = Infallible;
}

impl ReadNorFlash for NoFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), Infallible> {
        match *self {}
    }

    fn capacity(&self) -> usize {
        match *self {}
    }
}

impl NorFlash for NoFlash {
    const WRITE_SIZE: usize = 1;
    const ERASE_SIZE: usize = 1;

    fn erase(&mut self, _: u32, _: u32) -> Result<(), Infallible> {
        match *self {}
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), Infallible> {
        match *self {}
    }
}
