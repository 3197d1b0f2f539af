//! The application of a motion sensor, an alternative to [`crate::serve`]: reads windows, keeps those that a label is given
//! for, tunes when there are enough, keeps the tuned tail in flash, and classifies all the while.
//!
//! The sensor's driver is the crate `lsm6dso` (embedded-hal 1.0, no allocation, one transaction a reading). Windows are
//! quantized frame by frame into the one buffer of the network's input. Everything advances by [`Motion::poll`], which
//! does one thing of bounded length: a frame, a window through the network, a slice of a tuning step, or a head in closed
//! form, which takes about as long as a few steps and feeds the watchdog in between.

mod imu;

pub use imu::{CHANNELS, Imu, ImuError};

use crate::fmt::{info, warn};
use crate::{Attended, Board, Buffers, Endpoint};
use embedded_hal::i2c::I2c;
use embedded_io::{Read, ReadReady, Write};
use flatmin::{Affine, Arithmetic, Progress, Recipe, Sizes, Tuner, TunerError, Version};

/// Frames a second, those of the recordings that the bundled model was trained on.
pub const FRAMES_A_SECOND: u32 = 50;

/// When the device tunes itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Labelled windows that it waits for, and after a run for as many new ones. 0 counts as 1.
    pub windows: u16,
    /// How it tunes. With [`Recipe::held_out`] above 0 a tail is taken if [`Tuner::accept`] says so.
    pub recipe: Recipe,
    /// Whether a run begins with the last layer solved in closed form ([`Tuner::solve`]), in front of it the factory's layers;
    /// else with the tail in force.
    pub solves: bool,
}

impl Plan {
    /// Gradient steps by this recipe after every three windows of each class, and a tail that is taken if the gate says so,
    /// by a fifth of the windows unless the recipe holds out another share.
    pub const fn steps(recipe: Recipe, classes: u16) -> Self {
        let held_out = if recipe.held_out > 0.0 { recipe.held_out } else { 0.2 };
        Self { windows: 3 * classes, recipe: Recipe { held_out, ..recipe }, solves: false }
    }

    /// The plan that ships. Where the firmware has a solver, the last layer is solved in closed form at every run, and gradient
    /// steps go on from there ([`Recipe::FROM_CLOSED_FORM`]). `recipe` is the one that the arena was made for.
    pub const fn shipped(recipe: Recipe, sizes: &Sizes, has_solver: bool) -> Self {
        // Below 65,536: labels are no wider.
        let steps = Self::steps(recipe, sizes.output_length as u16);
        if !has_solver {
            return steps;
        }
        let Recipe { learning_rate, label_smoothing, .. } = Recipe::FROM_CLOSED_FORM;
        let recipe = Recipe { learning_rate, label_smoothing, ..steps.recipe };
        Self { recipe, solves: true, ..steps }
    }
}

/// What a poll did.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// It is not time for the next frame, and there is nothing to tune.
    Idle,
    /// A frame was read; the window is not whole yet.
    Framed,
    /// A window without a label: its class, the first among equals.
    Classified {
        /// The class.
        class: u16,
        /// By the tuned tail.
        tuned: bool,
    },
    /// A labelled window was kept.
    Kept {
        /// Its label.
        label: u16,
        /// Windows held now.
        samples: u16,
    },
    /// A slice of a tuning run.
    Underway,
    /// A run has ended.
    Tuned {
        /// The tuned tail is in force.
        accepted: bool,
        /// CRC-32 of the f32 weights.
        weights_crc32: u32,
        /// Number of its record in flash, if it was kept there.
        sequence: Option<u32>,
    },
    /// The sensor gave nothing, or frames were missed: the window begins anew.
    Gap(Option<ImuError>),
}

/// Sensor, window and labels.
#[allow(missing_debug_implementations)] // The driver's has none.
pub struct Motion<'w, I> {
    imu: Imu<I>,
    window: &'w mut [i8],
    /// Values in it.
    filled: usize,
    /// Ticks at which the last frame was due.
    last: Option<u32>,
    plan: Plan,
    /// Labelled windows since the last run.
    fresh: u16,
    tuning: bool,
    /// Given from outside.
    given: Option<u16>,
    /// What the button stands for: its next press, the next class.
    class: u16,
    pressed: bool,
    label: Option<u16>,
}

impl<'w, I: I2c> Motion<'w, I> {
    /// With the buffer of a window: as many values as the network's input has, frames of [`CHANNELS`].
    pub fn new(imu: Imu<I>, window: &'w mut [i8], plan: Plan) -> Self {
        Self {
            imu,
            window,
            filled: 0,
            last: None,
            plan,
            fresh: 0,
            tuning: false,
            given: None,
            class: 0,
            pressed: false,
            label: None,
        }
    }

    /// What is seen from now on: a class, or what the button says. While it is pressed it stands for class 0; pressed again,
    /// for class 1, and so on.
    pub fn give(&mut self, label: Option<u16>) {
        self.given = label;
    }

    /// Begins a new window.
    pub fn restart(&mut self) {
        (self.filled, self.last) = (0, None);
    }

    /// A frame if one is due, and what a whole window is for; else a slice of tuning. Heads are solved in `solving`, where
    /// the arena has no room for that ([`Sizes::solve_bytes`]).
    ///
    /// # Errors
    /// Those of the tuner: a recipe that does not fit, a label out of range, a loss that is not finite. The next poll goes on,
    /// without the run.
    pub fn poll<'p, A: Arithmetic<'p>>(
        &mut self,
        tuner: &mut Tuner<'p, A>,
        board: &mut impl Board,
        solving: &mut [u32],
    ) -> Result<Event, TunerError> {
        self.relabel(tuner, board);
        let now = board.ticks();
        let period = (board.hertz() / FRAMES_A_SECOND).max(1);
        match self.last.map(|last| now.wrapping_sub(last)) {
            Some(late) if late < period => return self.tune(tuner, board, solving),
            // Of three that are due two are lost.
            Some(late) if late / 3 >= period && self.filled > 0 => {
                self.restart();
                return Ok(Event::Gap(None));
            }
            Some(late) if late / 3 < period => self.last = self.last.map(|last| last.wrapping_add(period)),
            _ => self.last = Some(now),
        }
        let frame = match self.imu.read() {
            Ok(frame) => frame,
            Err(error) => {
                self.filled = 0;
                return Ok(Event::Gap(Some(error)));
            }
        };
        self.push(frame, tuner.pack().input().affine);
        if self.filled < self.window.len() {
            return Ok(Event::Framed);
        }
        self.whole(tuner)
    }

    /// Windows of one label alone are kept: with another, a new one begins.
    fn relabel<'p, A: Arithmetic<'p>>(&mut self, tuner: &Tuner<'p, A>, board: &mut impl Board) {
        let pressed = board.pressed();
        if self.pressed && !pressed {
            self.class = self.class.saturating_add(1);
            if usize::from(self.class) >= tuner.pack().sizes().output_length {
                self.class = 0;
            }
        }
        self.pressed = pressed;
        let label = self.given.or(pressed.then_some(self.class));
        if label != self.label {
            self.label = label;
            self.filled = 0;
            board.busy(label.is_some() || self.tuning);
        }
    }

    fn push(&mut self, frame: [f32; CHANNELS], affine: Affine) {
        for (place, value) in self.window.iter_mut().skip(self.filled).zip(frame) {
            *place = affine.quantize(value);
        }
        self.filled = self.filled.saturating_add(CHANNELS);
    }

    fn whole<'p, A: Arithmetic<'p>>(&mut self, tuner: &mut Tuner<'p, A>) -> Result<Event, TunerError> {
        let Some(label) = self.label else { return self.classify(tuner) };
        self.filled = 0;
        tuner.observe(self.window, label.into())?;
        self.fresh = self.fresh.saturating_add(1);
        let samples = u16::try_from(tuner.samples()).unwrap_or(u16::MAX);
        info!("kept a window of class {}, {} held", label, samples);
        Ok(Event::Kept { label, samples })
    }

    /// Neighbouring windows overlap by half.
    fn classify<'p, A: Arithmetic<'p>>(&mut self, tuner: &mut Tuner<'p, A>) -> Result<Event, TunerError> {
        let answer = tuner.classify(self.window);
        let half = (self.window.len() / 2).next_multiple_of(CHANNELS).min(self.window.len());
        self.window.rotate_left(half);
        self.filled = self.window.len().saturating_sub(half);
        let answer = answer.inspect_err(|_| self.filled = 0)?;
        let class = u16::try_from(answer.label).unwrap_or(u16::MAX);
        info!("class {}", class);
        Ok(Event::Classified { class, tuned: answer.version == Version::Tuned })
    }

    /// Starts a run, carries it on by a slice, or ends it.
    fn tune<'p, A: Arithmetic<'p>>(
        &mut self,
        tuner: &mut Tuner<'p, A>,
        board: &mut impl Board,
        solving: &mut [u32],
    ) -> Result<Event, TunerError> {
        let Plan { windows, recipe, solves } = self.plan;
        if !self.tuning {
            if self.fresh < windows.max(1) {
                return Ok(Event::Idle);
            }
            self.fresh = 0;
            board.busy(true);
            make_room(tuner, board);
            if solves {
                let solved = tuner.solve(recipe, solving, &mut || board.feed());
                solved.inspect_err(|_| self.end(board))?;
            }
            tuner.start_between(recipe, || board.feed()).inspect_err(|_| self.end(board))?;
            self.tuning = true;
            return Ok(Event::Underway);
        }
        let progress = tuner.poll().inspect_err(|_| self.end(board))?;
        if !matches!(progress, Progress::Stepped(report) if report.finished) {
            return Ok(Event::Underway);
        }
        let ended = self.take(tuner, board);
        self.end(board);
        ended
    }

    fn end(&mut self, board: &mut impl Board) {
        self.tuning = false;
        board.busy(self.label.is_some());
    }

    /// Takes the tuned tail if it is the better one, and keeps it in flash.
    fn take<'p, A: Arithmetic<'p>>(
        &mut self,
        tuner: &mut Tuner<'p, A>,
        board: &mut impl Board,
    ) -> Result<Event, TunerError> {
        let accepted = if self.plan.recipe.held_out > 0.0 {
            tuner.accept_between(|| board.feed())?.accepted
        } else {
            tuner.requantize_between(|| board.feed())?;
            true
        };
        let weights_crc32 = tuner.weights_crc32();
        let mut sequence = None;
        if accepted && let Some((store, mut flash)) = board.store() {
            // The tail is in force all the same.
            match tuner.commit(&store, &mut flash) {
                Ok(record) => sequence = Some(record.sequence),
                Err(error) => warn!("the tuned tail is not kept: {}", error),
            }
        }
        if !accepted {
            make_room(tuner, board);
        }
        info!("tuned: weights {=u32:#010x}, in force: {}", weights_crc32, accepted);
        Ok(Event::Tuned { accepted, weights_crc32, sequence })
    }
}

/// Makes room for a run that takes the place of the tail in force: keeps that in flash, or brings back one that is lost with
/// its place.
fn make_room<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>, board: &mut impl Board) {
    let (commits, restores) = (tuner.is_only_copy(), tuner.awaits_restore());
    let Some((store, mut flash)) = board.store().filter(|_| commits || restores) else { return };
    let done = match restores {
        true => tuner.restore(&store, &mut flash).map(|_| ()),
        false => tuner.commit(&store, &mut flash).map(|_| ()),
    };
    if let Err(error) = done {
        warn!("no tail is kept or brought back: {}", error);
    }
}

/// Puts in force what the board's store holds, then polls, and answers requests of the link in between: a label that comes
/// over it is what is seen from then on. Returns when the link ends.
///
/// # Errors
/// Those of the link.
pub fn adapt<'p, A: Arithmetic<'p>, L: Read + ReadReady + Write>(
    tuner: &mut Tuner<'p, A>,
    motion: &mut Motion<impl I2c>,
    link: &mut L,
    board: &mut impl Board,
    buffers: Buffers,
) -> Result<(), L::Error> {
    let mut endpoint = Endpoint::new(tuner, board, buffers);
    loop {
        match endpoint.attend(link)? {
            Attended::Ended => return Ok(()),
            Attended::Byte => continue,
            Attended::Silence => {}
        }
        let polled = endpoint.between(|tuner, board, solving, label| {
            motion.give(label);
            motion.poll(tuner, board, solving)
        });
        match polled {
            Ok(Event::Tuned { accepted: true, sequence, .. }) => endpoint.in_force(sequence),
            Ok(Event::Gap(Some(error))) => warn!("the sensor: {}", error),
            Ok(_) => {}
            Err(error) => warn!("the tuner: {}", error),
        }
    }
}
