//! The desktop's end of the link to a device: asks, waits, asks again where bytes were lost, and gives every request
//! to the device once. The rules are those of [`flatmin::wire`].

mod answers;

pub use answers::{Answer, Identity, Metrics};

use answers::answer;
use flatmin::wire::signed::{Key, NONCE_BYTES};
use flatmin::wire::{self, Access, Request, Response, WireError};
use std::io::{self, ErrorKind, Read, Write};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The device did not carry the request out.
    #[error("the device refuses: {0}")]
    Refused(String),
    /// The line has ended.
    #[error("the line has ended")]
    Ended(#[source] Option<io::Error>),
    /// No answer, however often asked.
    #[error("the device has not answered {0} times")]
    Silent(u32),
    /// Too many damaged frames in a row.
    #[error("of {0} frames none came through whole: check baud rate and wiring")]
    Noise(u32),
    /// The request does not fit into a frame.
    #[error(transparent)]
    Request(#[from] WireError),
    /// It takes the holder of a key, and none was given.
    #[error("this device is changed by the holder of its key alone: name the key's file with --key")]
    KeyMissing,
    /// It has another key, or is another device.
    #[error("the device does not prove that it has this key: it has another one, or is another device")]
    KeyDiffers,
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// A message of another version.
    #[error("the device speaks another version of the protocol; this one is {}", wire::VERSION)]
    Version,
}

/// A conversation over a line whose reads time out (`TimedOut` or `WouldBlock`) after the longest that an answer may
/// take.
///
/// An attempt costs the request's frame; a line that damages one byte in a thousand takes about two for a request of
/// 600 bytes.
#[derive(Debug)]
pub struct Session<L> {
    line: L,
    /// Of the last request.
    sequence: u32,
    open: bool,
    incoming: Vec<u8>,
    repeats: u64,
    key: Option<Key>,
    access: Access,
    /// The session's key, where requests are signed.
    session: Option<Key>,
}

impl<L: Read + Write> Session<L> {
    /// Times that one request is sent, at most.
    const ATTEMPTS: u32 = 100;

    /// Times in a row that silence is borne.
    const SILENCES: u32 = 8;

    /// Times in a row that silence is borne while the device works through all its samples: minutes on a slow core.
    const SILENCES_AT_WORK: u32 = 60;

    /// A session over `line`; the first request opens it.
    pub fn new(line: L) -> Self {
        Self {
            line,
            sequence: wire::OPENING,
            open: false,
            incoming: Vec::new(),
            repeats: 0,
            key: None,
            access: Access::Anybody,
            session: None,
        }
    }

    /// Signs what the device takes from the holder of its key alone.
    pub fn with_key(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The line.
    pub fn line(&self) -> &L {
        &self.line
    }

    /// The line, for what is not part of the conversation.
    pub fn line_mut(&mut self) -> &mut L {
        &mut self.line
    }

    /// Frames that had to be sent again, so far.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// See [`LinkError`]. Only after [`LinkError::Refused`] is it known what the device has done: nothing.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, LinkError> {
        if !self.open {
            let identity = self.exchange(wire::OPENING, &Request::Identify, Self::SILENCES)?;
            self.open = true;
            if let Answer::Identity(identity) = &identity {
                self.access = identity.access;
            }
            if *request == Request::Identify {
                return Ok(identity);
            }
        }
        if self.access != Access::KeyHolder || request.is_open() {
            return self.ask_plainly(request);
        }
        let session = match self.session {
            Some(session) => session,
            None => self.open_session()?,
        };
        let mut body = vec![0; carried_bytes(request) + wire::request_bytes(0)];
        let body = wire::write_body(request, &mut body)?;
        self.sequence = next(self.sequence);
        let tag = session.sign(self.sequence, body);
        let answer =
            self.exchange(self.sequence, &Request::Signed { tag, request: body }, Self::patience(request))?;
        if let Request::Provision { key } = request {
            (self.key, self.session) = (Some(Key::new(*key)), None);
        }
        Ok(answer)
    }

    fn ask_plainly(&mut self, request: &Request) -> Result<Answer, LinkError> {
        self.sequence = next(self.sequence);
        let answer = self.exchange(self.sequence, request, Self::patience(request))?;
        if let (Request::Provision { key }, Answer::Done(_)) = (request, &answer) {
            (self.key, self.access) = (Some(Key::new(*key)), Access::KeyHolder);
        }
        Ok(answer)
    }

    /// Times in a row that silence is borne after this request.
    fn patience(request: &Request) -> u32 {
        match request {
            Request::Solve(_)
            | Request::Start(_)
            | Request::Step
            | Request::Requantize
            | Request::Accept
            | Request::Measure { .. }
            | Request::Summarize { .. } => Self::SILENCES_AT_WORK,
            _ => Self::SILENCES,
        }
    }

    /// Begins a session in which requests are signed, with a device that proves that it has the key.
    fn open_session(&mut self) -> Result<Key, LinkError> {
        let key = self.key.ok_or(LinkError::KeyMissing)?;
        let mut asked = [0; NONCE_BYTES];
        getrandom::fill(&mut asked).map_err(|_| LinkError::Random)?;
        match self.ask_plainly(&Request::Challenge { nonce: asked })? {
            Answer::Challenged { nonce, proof } if key.proves(&asked, &nonce, &proof) => {
                let session = key.session(&asked, &nonce);
                self.session = Some(session);
                Ok(session)
            }
            Answer::Challenged { .. } => Err(LinkError::KeyDiffers),
            _ => Err(LinkError::Version),
        }
    }

    fn exchange(&mut self, sequence: u32, request: &Request, most: u32) -> Result<Answer, LinkError> {
        let bytes = wire::request_bytes(carried_bytes(request));
        let (mut scratch, mut frame) = (vec![0; bytes], vec![0; bytes]);
        let frame = wire::encode(sequence, request, &mut scratch, &mut frame)?;
        let mut silences = 0;
        for attempt in 0..Self::ATTEMPTS {
            if attempt > 0 {
                self.repeats += 1;
                // Ends whatever the device has half received.
                self.line.write_all(&[0]).map_err(|error| LinkError::Ended(Some(error)))?;
            }
            let sent = self.line.write_all(frame).and_then(|()| self.line.flush());
            sent.map_err(|error| LinkError::Ended(Some(error)))?;
            match self.await_answer(sequence)? {
                Arrival::Answer(answer) => return Ok(answer),
                Arrival::Damaged => silences = 0,
                Arrival::Silence => silences += 1,
            }
            if silences >= most {
                return Err(LinkError::Silent(silences));
            }
        }
        Err(LinkError::Noise(Self::ATTEMPTS))
    }

    fn await_answer(&mut self, sequence: u32) -> Result<Arrival, LinkError> {
        loop {
            if !self.read_frame()? {
                return Ok(Arrival::Silence);
            }
            // What is left of a frame whose end was seen before.
            if self.incoming == [0] {
                continue;
            }
            return match wire::decode::<Response>(&mut self.incoming) {
                Ok((_, Response::Damaged)) | Err(WireError::Damaged) => Ok(Arrival::Damaged),
                Ok((found, _)) | Err(WireError::Unknown { sequence: found }) if found != sequence => continue,
                Ok((_, response)) => answer(response).map(Arrival::Answer),
                Err(_) => Err(LinkError::Version),
            };
        }
    }

    /// Reads up to a zero; false if the line falls silent, with what came before lost.
    fn read_frame(&mut self) -> Result<bool, LinkError> {
        self.incoming.clear();
        // A line that never sends a zero does not fill the memory.
        while self.incoming.len() < 1 << 16 {
            let mut byte = [0];
            match self.line.read(&mut byte) {
                Ok(0) => return Err(LinkError::Ended(None)),
                Ok(_) => self.incoming.push(byte[0]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(false);
                }
                Err(error) => return Err(LinkError::Ended(Some(error))),
            }
            if byte[0] == 0 {
                return Ok(true);
            }
        }
        Ok(true)
    }
}

/// The number after this one; that with which sessions begin is left out.
fn next(sequence: u32) -> u32 {
    sequence.checked_add(1).unwrap_or(wire::OPENING + 1)
}

/// Bytes of what a request carries.
fn carried_bytes(request: &Request) -> usize {
    match request {
        Request::Observe { input, .. }
        | Request::Judge { input, .. }
        | Request::Classify { input }
        | Request::Trace { input, .. } => input.len(),
        Request::ObserveTarget { target, input, .. } | Request::JudgeTarget { target, input } => {
            input.len() + target.map_or(0, <[u8]>::len)
        }
        Request::AdoptTail { layers, .. } => layers.len(),
        Request::ExpectRun { head } | Request::AdoptRun { head } => head.len(),
        Request::Signed { request, .. } => request.len(),
        _ => 0,
    }
}

enum Arrival {
    Answer(Answer),
    Damaged,
    Silence,
}
