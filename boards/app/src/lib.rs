//! The firmware's loop: reads a request, carries it out, answers. Generic over the link and the clock; there is
//! no chip in it.

#![no_std]

mod fmt;
mod ram;

use embedded_io::{Read, Write};
use flatmin::wire::{self, Request, Response};
use flatmin::{Pack, Tuner, Version};
use fmt::{debug, info, warn};
pub use ram::{Buffers, FIXED_BYTES, RamBudget, STACK_BYTES, link_bytes};

/// What a board gives beside its link.
pub trait Board {
    /// A free-running clock; differences of neighbouring readings are meaningful.
    fn ticks(&mut self) -> u32;
    /// The largest stack seen so far, in bytes; 0 if the board cannot tell.
    fn stack_bytes(&mut self) -> u32;
}

/// Answers requests until the link ends.
///
/// # Errors
/// Those of the link.
pub fn serve<L: Read + Write>(
    pack: Pack,
    tuner: &mut Tuner,
    link: &mut L,
    board: &mut impl Board,
    buffers: Buffers,
) -> Result<(), L::Error> {
    let Buffers { request, body, response: frame } = buffers;
    info!("ready: pack {=u32:#010x}, arena of {} bytes", pack.crc32(), tuner.arena_bytes());
    let mut length = 0;
    loop {
        let mut byte = [0];
        if link.read(&mut byte)? == 0 {
            return Ok(());
        }
        if let Some(place) = request.get_mut(length) {
            *place = byte[0];
        }
        length = length.saturating_add(1);
        if byte[0] != 0 {
            continue;
        }
        // A frame that did not fit is answered as damaged: an empty one.
        let received = request.get_mut(..length).unwrap_or(&mut []);
        length = 0;
        let response = match wire::decode::<Request>(received) {
            Ok(request) => answer(&pack, tuner, board, request, body).unwrap_or_else(refusal),
            Err(error) => {
                warn!("a request was not understood: {}", error);
                Response::Refused("damaged or unknown message")
            }
        };
        if let Ok(bytes) = wire::encode(&response, body, frame) {
            link.write_all(bytes)?;
            link.flush()?;
        }
    }
}

fn refusal(error: flatmin::TunerError) -> Response<'static> {
    use flatmin::TunerError as E;
    warn!("refused: {}", error);
    Response::Refused(match error {
        E::InputLength { .. } => "input of the wrong length",
        E::Label { .. } => "label out of range",
        E::NoSamples => "no samples to tune on",
        E::NotRunning => "no tuning run under way",
        E::NotTuned => "no tuned tail yet",
        E::Step(_) => "loss or gradient not finite",
        E::Recipe(_) => "recipe out of range",
        E::ArenaTooSmall { .. } => "arena too small for this recipe",
        _ => "refused",
    })
}

fn answer(
    pack: &Pack,
    tuner: &mut Tuner,
    board: &mut impl Board,
    request: Request,
    latent: &mut [u8],
) -> Result<Response<'static>, flatmin::TunerError> {
    let start = board.ticks();
    let mut done = |_: ()| Response::Done { ticks: board.ticks().wrapping_sub(start) };
    Ok(match request {
        Request::Identify => Response::Identity {
            version: wire::VERSION,
            pack_crc32: pack.crc32(),
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
        _ => Response::Refused("unknown request"),
    })
}

/// All that is asked of a test sample, from one run of the trunk; `keep` holds a latent.
fn judge(
    tuner: &mut Tuner,
    label: u16,
    input: &[i8],
    keep: &mut [u8],
) -> Result<Response<'static>, flatmin::TunerError> {
    let latent = tuner.latent(input)?;
    let keep = keep.get_mut(..latent.len()).unwrap_or(&mut []);
    for (keep, &value) in keep.iter_mut().zip(latent) {
        *keep = value.cast_unsigned();
    }
    let latent = int8(keep);
    let factory = largest(tuner.classify_latent(latent, Version::Factory)?);
    let tuned_int8 = match tuner.classify_latent(latent, Version::Tuned) {
        Ok(output) => Some(largest(output)),
        Err(flatmin::TunerError::NotTuned) => None,
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
