//! The firmware's loop: reads a request, carries it out, answers. Generic over the link and the clock; there is
//! no chip in it.

#![no_std]
#![deny(unsafe_code, missing_docs)]

use embedded_io::{Read, Write};
use flatmin::wire::{self, Request, Response};
use flatmin::{Pack, Tuner, Version};

/// What a board gives beside its link.
pub trait Board {
    /// A free-running clock; differences of neighbouring readings are meaningful.
    fn ticks(&mut self) -> u32;
    /// The largest stack seen so far, in bytes; 0 if the board cannot tell.
    fn stack_bytes(&mut self) -> u32;
}

/// Frame buffers, each of the network's input length plus [`wire::OVERHEAD`].
#[derive(Debug)]
pub struct Buffers<'a> {
    /// The frame that comes in.
    pub incoming: &'a mut [u8],
    /// The message that goes out, before it is framed.
    pub body: &'a mut [u8],
    /// The frame that goes out.
    pub outgoing: &'a mut [u8],
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
    let Buffers { incoming, body, outgoing } = buffers;
    let mut length = 0;
    loop {
        let mut byte = [0];
        if link.read(&mut byte)? == 0 {
            return Ok(());
        }
        if let Some(place) = incoming.get_mut(length) {
            *place = byte[0];
        }
        length += 1;
        if byte[0] != 0 {
            continue;
        }
        // A frame that did not fit is answered as damaged: its checksum cannot match.
        let frame = incoming.get_mut(..length).unwrap_or(&mut []);
        length = 0;
        let response = match wire::decode::<Request>(frame) {
            Ok(request) => answer(&pack, tuner, board, request).unwrap_or_else(refusal),
            Err(_) => Response::Refused("damaged or unknown message"),
        };
        if let Ok(bytes) = wire::encode(&response, body, outgoing) {
            link.write_all(bytes)?;
            link.flush()?;
        }
    }
}

fn refusal(error: flatmin::TunerError) -> Response<'static> {
    use flatmin::TunerError as E;
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
            Response::Stepped { epoch, loss, epoch_finished, finished, ticks }
        }
        Request::Judge { label, input } => {
            let factory = largest(tuner.classify(int8(input), Version::Factory)?);
            let tuned_int8 = match tuner.classify(int8(input), Version::Tuned) {
                Ok(output) => Some(largest(output)),
                Err(flatmin::TunerError::NotTuned) => None,
                Err(error) => return Err(error),
            };
            let score = tuner.score(int8(input), label.into())?;
            Response::Judged { factory, tuned_f32: score.class as u16, tuned_int8, loss: score.loss }
        }
        Request::Summarize { rho } => Response::Summary {
            weights_crc32: tuner.weights_crc32(),
            macs: tuner.macs(),
            sharpness: tuner.evaluate(rho)?.sharpness,
            stack_bytes: board.stack_bytes(),
        },
        _ => Response::Refused("unknown request"),
    })
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
