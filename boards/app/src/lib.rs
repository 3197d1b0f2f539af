//! The firmware's loop: reads a request, carries it out, answers. Generic over the link and the clock; there is
//! no chip in it.

#![no_std]

mod fmt;
mod ram;

use embedded_io::{Read, Write};
use flatmin::store::{Record, Recovery, StoreError};
use flatmin::wire::{self, Request, Response, WireError};
use flatmin::{Tuner, TunerError, Version};
use fmt::{debug, info, warn};
pub use ram::{Buffers, FIXED_BYTES, RamBudget, STACK_BYTES, link_bytes};

/// What a board gives beside its link.
///
/// A board with a store calls [`Tuner::restore`] at boot, and here keeps tails with [`Tuner::commit`], [`Tuner::roll_back`] and
/// [`Tuner::factory_reset_stored`]; one without leaves these three as they are.
pub trait Board {
    /// A free-running clock; differences of neighbouring readings are meaningful.
    fn ticks(&mut self) -> u32;
    /// The largest stack seen so far, in bytes; 0 if the board cannot tell.
    fn stack_bytes(&mut self) -> u32;
    /// Keeps the tuned tail; `None` without a store.
    fn commit(&mut self, _tuner: &Tuner) -> Option<Result<Record, TunerError>> {
        None
    }
    /// Takes the last commit back; `None` without a store.
    fn roll_back(&mut self, _tuner: &mut Tuner) -> Option<Result<Recovery, TunerError>> {
        None
    }
    /// Back to the factory tail.
    ///
    /// # Errors
    /// Those of the store.
    fn factory_reset(&mut self, tuner: &mut Tuner) -> Result<(), TunerError> {
        tuner.factory_reset();
        Ok(())
    }
}

/// Answers requests until the link ends.
///
/// # Errors
/// Those of the link.
pub fn serve<L: Read + Write>(
    tuner: &mut Tuner,
    link: &mut L,
    board: &mut impl Board,
    buffers: Buffers,
) -> Result<(), L::Error> {
    info!("ready: pack {=u32:#010x}, arena of {} bytes", tuner.pack().crc32(), tuner.arena_bytes());
    let mut endpoint = Endpoint::new(tuner, board, buffers);
    loop {
        let mut byte = [0];
        if link.read(&mut byte)? == 0 {
            return Ok(());
        }
        if let Some(frame) = endpoint.take(byte[0]) {
            link.write_all(frame)?;
            link.flush()?;
        }
    }
}

/// Bytes of a framed [`Response::Damaged`].
const DAMAGED_BYTES: usize = 16;

/// The device's end of the link, byte by byte: keeps the rules of [`wire`].
#[derive(Debug)]
pub struct Endpoint<'a, 'p, B> {
    tuner: &'a mut Tuner<'p>,
    board: &'a mut B,
    buffers: Buffers<'a>,
    /// Bytes of the frame that is coming in; beyond the buffer, they are counted alone.
    length: usize,
    /// Number and length of the answer that lies in the buffer.
    answered: Option<(u32, usize)>,
    damaged: [u8; DAMAGED_BYTES],
}

impl<'a, 'p, B: Board> Endpoint<'a, 'p, B> {
    /// An endpoint in front of `tuner`.
    pub fn new(tuner: &'a mut Tuner<'p>, board: &'a mut B, buffers: Buffers<'a>) -> Self {
        Self { tuner, board, buffers, length: 0, answered: None, damaged: [0; DAMAGED_BYTES] }
    }

    /// The tuner behind it.
    pub fn tuner(&self) -> &Tuner<'p> {
        self.tuner
    }

    /// Takes a byte from the line; returns what is to be sent, if anything.
    pub fn take(&mut self, byte: u8) -> Option<&[u8]> {
        if let Some(place) = self.buffers.request.get_mut(self.length) {
            *place = byte;
        }
        self.length = self.length.saturating_add(1);
        if byte != 0 {
            return None;
        }
        let length = core::mem::take(&mut self.length);
        if length == 1 {
            return None;
        }
        // One that opens a session is carried out again.
        let answered = self.answered.map(|(last, _)| last).filter(|&last| last != wire::OPENING);
        // A frame that did not fit is answered as damaged: an empty one.
        let received = self.buffers.request.get_mut(..length).unwrap_or(&mut []);
        let (sequence, response) = match wire::decode::<Request>(received) {
            Ok((sequence, _)) | Err(WireError::Unknown { sequence }) if answered == Some(sequence) => {
                return self.last_answer();
            }
            Ok((wire::OPENING, request)) if request != Request::Identify => {
                (wire::OPENING, Response::Refused("a session begins with identify"))
            }
            Ok((sequence, request)) => {
                let response = answer(self.tuner, self.board, request, self.buffers.body);
                (sequence, response.unwrap_or_else(refusal))
            }
            Err(WireError::Unknown { sequence }) => (sequence, Response::Refused("unknown request")),
            Err(error) => {
                warn!("a request was not understood: {}", error);
                let mut scratch = [0; DAMAGED_BYTES];
                let frame = wire::encode(wire::OPENING, &Response::Damaged, &mut scratch, &mut self.damaged);
                return frame.ok().map(|frame| &*frame);
            }
        };
        let frame = wire::encode(sequence, &response, self.buffers.body, self.buffers.response);
        self.answered = Some((sequence, frame.map_or(0, |frame| frame.len())));
        self.last_answer()
    }

    fn last_answer(&self) -> Option<&[u8]> {
        self.answered.and_then(|(_, length)| self.buffers.response.get(..length))
    }
}

fn refusal(error: TunerError) -> Response<'static> {
    use TunerError as E;
    warn!("refused: {}", error);
    Response::Refused(match error {
        E::InputLength { .. } => "input of the wrong length",
        E::Label { .. } => "label out of range",
        E::NoSamples => "no samples to tune on",
        E::NotRunning => "no tuning run under way",
        E::NotTuned => "no tuned tail yet",
        E::Step(_) => "loss or gradient not finite",
        E::Recipe(_) => "recipe out of range",
        E::Store(StoreError::NothingToRollBack) => "nothing was committed that could be rolled back",
        E::Store(StoreError::SlotTooSmall { .. }) => "the store's slots are too small for this tail",
        E::Store(StoreError::WornOut { .. }) => "the store's flash is worn out",
        E::Store(_) => "the store's flash failed",
        E::ArenaTooSmall { .. } => "arena too small for this recipe",
        _ => "refused",
    })
}

fn answer(
    tuner: &mut Tuner,
    board: &mut impl Board,
    request: Request,
    latent: &mut [u8],
) -> Result<Response<'static>, TunerError> {
    let start = board.ticks();
    let mut done = |_: ()| Response::Done { ticks: board.ticks().wrapping_sub(start) };
    Ok(match request {
        Request::Identify => Response::Identity {
            version: wire::VERSION,
            pack_crc32: tuner.pack().crc32(),
            arena_bytes: tuner.arena_bytes() as u32,
        },
        Request::Observe { label, input } => done(tuner.observe(int8(input), label.into())?),
        Request::Start(recipe) => done(tuner.start(recipe)?),
        Request::Requantize => done(tuner.requantize()?),
        Request::Step => {
            let report = tuner.step()?;
            let ticks = board.ticks().wrapping_sub(start);
            let (epoch, loss) = (report.epoch, report.loss);
            let (epoch_finished, finished) = (report.epoch_finished, report.finished);
            if epoch_finished {
                debug!("epoch {}: loss {=f32} in its last minibatch", epoch, loss);
            }
            if finished {
                info!("tuned: weights {=u32:#010x}", tuner.weights_crc32());
            }
            Response::Stepped { epoch, loss, epoch_finished, finished, ticks }
        }
        Request::Judge { label, input } => judge(tuner, label, int8(input), latent)?,
        Request::Summarize { rho } => Response::Summary {
            weights_crc32: tuner.weights_crc32(),
            macs: tuner.macs(),
            sharpness: tuner.evaluate(rho)?.sharpness,
            stack_bytes: board.stack_bytes(),
        },
        Request::Commit => match board.commit(tuner) {
            Some(record) => in_force(Some(record?.sequence), tuner, board, start),
            None => NO_STORE,
        },
        Request::RollBack => match board.roll_back(tuner) {
            Some(recovery) => {
                in_force(recovery?.in_force().map(|record| record.sequence), tuner, board, start)
            }
            None => NO_STORE,
        },
        Request::FactoryReset => {
            board.factory_reset(tuner)?;
            in_force(None, tuner, board, start)
        }
        _ => Response::Refused("unknown request"),
    })
}

const NO_STORE: Response = Response::Refused("this board has no store");

fn in_force(sequence: Option<u32>, tuner: &Tuner, board: &mut impl Board, start: u32) -> Response<'static> {
    let ticks = board.ticks().wrapping_sub(start);
    Response::InForce { sequence, weights_crc32: tuner.weights_crc32(), ticks }
}

/// All that is asked of a test sample, from one run of the trunk; `keep` holds a latent.
fn judge(
    tuner: &mut Tuner,
    label: u16,
    input: &[i8],
    keep: &mut [u8],
) -> Result<Response<'static>, TunerError> {
    let latent = tuner.latent(input)?;
    let keep = keep.get_mut(..latent.len()).unwrap_or(&mut []);
    for (keep, &value) in keep.iter_mut().zip(latent) {
        *keep = value.cast_unsigned();
    }
    let latent = int8(keep);
    let factory = largest(tuner.classify_latent(latent, Version::Factory)?);
    let tuned_int8 = match tuner.classify_latent(latent, Version::Tuned) {
        Ok(output) => Some(largest(output)),
        Err(TunerError::NotTuned) => None,
        Err(error) => return Err(error),
    };
    let score = tuner.score_latent(latent, label.into())?;
    Ok(Response::Judged { factory, tuned_f32: score.class as u16, tuned_int8, loss: score.loss })
}

fn int8(bytes: &[u8]) -> &[i8] {
    flatmin::as_int8(bytes)
}

/// The class of the largest output; the first among equals.
fn largest(output: &[i8]) -> u16 {
    let mut best = (0, i8::MIN);
    for (class, &value) in (0u16..).zip(output) {
        if value > best.1 {
            best = (class, value);
        }
    }
    best.0
}
