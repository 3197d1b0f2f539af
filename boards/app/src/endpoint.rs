//! The device's end of the link, byte by byte.

use crate::answer::Application;
use crate::fmt::warn;
use crate::{Board, Buffers};
use embedded_io::{Read, ReadReady, Write};
use flatmin::wire::{self, Request, Response, TAIL_PART_BYTES, WireError};
use flatmin::{Arithmetic, Tuner};

/// Bytes of a framed [`Response::Damaged`].
const DAMAGED_BYTES: usize = 16;

/// What there was on the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attended {
    /// Nothing.
    Silence,
    /// A byte.
    Byte,
    /// Its end.
    Ended,
}

/// Keeps the rules of [`wire`].
#[derive(Debug)]
pub struct Endpoint<'a, T, B> {
    application: Application<'a, T, B>,
    buffers: Buffers<'a>,
    /// Bytes of the frame that is coming in; beyond the buffer, they are counted alone.
    length: usize,
    /// Number, signedness and length of the answer in the buffer.
    answered: Option<(u32, bool, usize)>,
    damaged: [u8; DAMAGED_BYTES],
}

impl<'a, 'p, A: Arithmetic<'p>, B: Board> Endpoint<'a, Tuner<'p, A>, B> {
    /// An endpoint in front of `tuner`, with the newest whole tail of the board's store in force. The log says which,
    /// and of each slot why.
    pub fn new(tuner: &'a mut Tuner<'p, A>, board: &'a mut B, buffers: Buffers<'a>) -> Self {
        let application = Application::new(tuner, board);
        Self { application, buffers, length: 0, answered: None, damaged: [0; DAMAGED_BYTES] }
    }

    /// Its tuner.
    pub fn tuner(&self) -> &Tuner<'p, A> {
        self.application.tuner()
    }

    /// Feeds the board's watchdog.
    pub fn feed(&mut self) {
        self.application.feed();
    }

    /// What has come into force without a request: a record of the store, or a tail that is kept nowhere.
    pub fn in_force(&mut self, sequence: Option<u32>) {
        self.application.sequence = sequence;
    }

    /// Lets `work` be done between two bytes, with the memory that heads are solved in and the label that came over the link
    /// last.
    pub fn between<R>(
        &mut self,
        work: impl FnOnce(&mut Tuner<'p, A>, &mut B, &mut [u32], Option<u16>) -> R,
    ) -> R {
        self.application.between(self.buffers.solving, work)
    }

    /// Takes a byte from the link if one is there, and answers if it was a request's last. Feeds the board's watchdog.
    ///
    /// # Errors
    /// Those of the link.
    pub fn attend<L: Read + ReadReady + Write>(&mut self, link: &mut L) -> Result<Attended, L::Error> {
        self.feed();
        if !link.read_ready()? {
            return Ok(Attended::Silence);
        }
        let mut byte = [0];
        if link.read(&mut byte)? == 0 {
            return Ok(Attended::Ended);
        }
        if let Some(frame) = self.take(byte[0]) {
            link.write_all(frame)?;
            link.flush()?;
        }
        Ok(Attended::Byte)
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
        let last = self.answered.map(|(last, signed, _)| (last, signed));
        let answered = last.filter(|&(last, _)| last != wire::OPENING);
        // A frame that did not fit is answered as damaged: an empty one.
        let received = self.buffers.request.get_mut(..length).unwrap_or(&mut []);
        let mut part = [0; TAIL_PART_BYTES];
        let (sequence, kept, response) = match wire::decode::<Request>(received) {
            // A request that was not signed does not stand for one that was.
            Ok((sequence, request)) if answered == Some((sequence, is_signed(&request))) => {
                return self.last_answer();
            }
            Err(WireError::Unknown { sequence }) if answered == Some((sequence, false)) => {
                return self.last_answer();
            }
            Ok((wire::OPENING, request)) if request != Request::Identify => {
                (wire::OPENING, Some(false), Response::Refused("a session begins with identify"))
            }
            Ok((sequence, mut request)) => {
                let signed = is_signed(&request);
                match self.application.admit(sequence, &mut request) {
                    None => {
                        let (body, solving) = (&mut *self.buffers.body, &mut *self.buffers.solving);
                        (sequence, Some(signed), self.application.answer(&request, body, &mut part, solving))
                    }
                    // Forgotten: else the numbers of who is let in would be used up by who is not.
                    Some(refusal @ Response::Refused(_)) => (sequence, None, refusal),
                    Some(answer) => (sequence, Some(signed), answer),
                }
            }
            Err(WireError::Unknown { sequence }) => {
                (sequence, Some(false), Response::Refused("unknown request"))
            }
            Err(error) => {
                warn!("a request was not understood: {}", error);
                let mut scratch = [0; DAMAGED_BYTES];
                let frame = wire::encode(wire::OPENING, &Response::Damaged, &mut scratch, &mut self.damaged);
                return frame.ok().map(|frame| &*frame);
            }
        };
        let frame = wire::encode(sequence, &response, self.buffers.body, self.buffers.response);
        let length = frame.map_or(0, |frame| frame.len());
        self.answered = kept.map(|signed| (sequence, signed, length));
        self.buffers.response.get(..length)
    }

    fn last_answer(&self) -> Option<&[u8]> {
        self.answered.and_then(|(_, _, length)| self.buffers.response.get(..length))
    }
}

#[cfg(feature = "signed")]
fn is_signed(request: &Request) -> bool {
    matches!(request, Request::Signed { .. })
}

#[cfg(not(feature = "signed"))]
fn is_signed(_: &Request) -> bool {
    false
}
