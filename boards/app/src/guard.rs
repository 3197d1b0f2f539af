//! Who may change the device over its link: anybody, or the holder of its key (feature `signed`).

use crate::Board;
use flatmin::wire::{Access, Request, Response};

/// Lets requests through, or says why not.
#[cfg(not(feature = "signed"))]
#[derive(Debug)]
pub(crate) struct Guard;

#[cfg(not(feature = "signed"))]
impl Guard {
    pub fn new(_: &mut impl Board) -> Self {
        Self
    }

    pub fn access(&self) -> Access {
        Access::Anybody
    }

    #[inline(always)] // nothing on the stack
    pub fn admit(&mut self, _: &mut impl Board, _: u32, _: &mut Request) -> Option<Response<'static>> {
        None
    }
}

#[cfg(feature = "signed")]
pub(crate) use signed::Guard;

#[cfg(feature = "signed")]
mod signed {
    use super::*;
    use crate::keys::{Broken, Keys};
    use flatmin::wire::read_body;
    use flatmin::wire::signed::{Key, NONCE_BYTES, Nonce, Sessions};

    const BROKEN: Response = Response::Refused("the flash for this device's key cannot be used");

    #[derive(Debug)]
    enum Lock {
        /// The board has no pages for a key.
        Open,
        Unclaimed,
        Key(Key),
        Broken,
    }

    impl From<Result<Option<Key>, Broken>> for Lock {
        fn from(found: Result<Option<Key>, Broken>) -> Self {
            match found {
                Ok(Some(key)) => Self::Key(key),
                Ok(None) => Self::Unclaimed,
                Err(Broken) => Self::Broken,
            }
        }
    }

    /// Lets requests through, or says why not.
    #[derive(Debug)]
    pub(crate) struct Guard {
        lock: Lock,
        /// Number of this start of the device, once a session was asked for.
        start: Option<u32>,
        /// Sessions that were asked for since.
        asked: u32,
        sessions: Sessions,
    }

    impl Guard {
        pub fn new(board: &mut impl Board) -> Self {
            let lock = Keys::of(board).map_or(Lock::Open, |mut keys| keys.key().into());
            Self { lock, start: None, asked: 0, sessions: Sessions::default() }
        }

        pub fn access(&self) -> Access {
            match self.lock {
                Lock::Open => Access::Anybody,
                Lock::Unclaimed => Access::Unclaimed,
                Lock::Key(_) => Access::KeyHolder,
                Lock::Broken => Access::Nobody,
            }
        }

        /// Makes of a request what the frame with this number asks for, where it may; else the answer.
        #[inline(never)] // off the stack of all that is carried out
        pub fn admit(
            &mut self,
            board: &mut impl Board,
            sequence: u32,
            request: &mut Request,
        ) -> Option<Response<'static>> {
            match (&self.lock, *request) {
                (Lock::Open, _) => None,
                (Lock::Key(key), Request::Challenge { nonce }) => {
                    let key = *key;
                    Some(self.challenge(board, &key, &nonce).unwrap_or(BROKEN))
                }
                (Lock::Unclaimed, Request::Provision { key }) => Some(self.provision(board, Key::new(key))),
                (Lock::Key(_), Request::Signed { tag, request: body }) => {
                    if !self.sessions.takes(sequence, body, &tag) {
                        return Some(Response::Refused("not signed by the key's holder in this session"));
                    }
                    match read_body::<Request>(body) {
                        Some(Request::Provision { key }) => Some(self.provision(board, Key::new(key))),
                        Some(asked) => {
                            *request = asked;
                            None
                        }
                        None => Some(Response::Refused("unknown request")),
                    }
                }
                (_, request) if request.is_open() => None,
                (Lock::Key(_), _) => Some(Response::Refused("only the key's holder may ask for that: --key")),
                (Lock::Unclaimed, _) => {
                    Some(Response::Refused("this device has no key yet: `device provision`"))
                }
                (Lock::Broken, _) => Some(BROKEN),
            }
        }

        #[inline(never)]
        fn provision(&mut self, board: &mut impl Board, key: Key) -> Response<'static> {
            match Keys::of(board).map(|mut keys| keys.keep(&key)) {
                Some(Ok(())) => {
                    // Sessions of a key before it are over.
                    (self.lock, self.sessions) = (Lock::Key(key), Sessions::default());
                    Response::Done { ticks: 0 }
                }
                _ => BROKEN,
            }
        }

        #[inline(never)]
        fn challenge(
            &mut self,
            board: &mut impl Board,
            key: &Key,
            asked: &Nonce,
        ) -> Option<Response<'static>> {
            let drawn = self.nonce(board)?;
            self.sessions.challenge(key.session(asked, &drawn));
            Some(Response::Challenged { nonce: drawn, proof: key.proof(asked, &drawn) })
        }

        /// A nonce that never comes again: this start's number, which flash counts, and how many came since. The clock makes
        /// it hard to foresee.
        fn nonce(&mut self, board: &mut impl Board) -> Option<Nonce> {
            let start = match self.start {
                Some(start) => start,
                None => Keys::of(board)?.next_start().ok()?,
            };
            self.start = Some(start);
            self.asked = self.asked.checked_add(1)?;
            let words = [start, self.asked, board.ticks(), 0].map(u32::to_le_bytes);
            let mut nonce = [0; NONCE_BYTES];
            nonce.iter_mut().zip(words.as_flattened()).for_each(|(place, byte)| *place = *byte);
            Some(nonce)
        }
    }
}
