//! Requests that only the holder of a device's key can make: HMAC-SHA-256 (RFC 2104, FIPS 180-4), its first 16 bytes.
//!
//! The desktop draws a nonce and asks for a [`Challenge`](super::Request::Challenge); the device answers with its own nonce and a
//! proof that it has the key. Both derive the session's key from the two nonces. Every further request that changes the device, or
//! gives away what it has learned, travels inside of a [`Signed`](super::Request::Signed), whose tag covers the frame's number and
//! the request. Numbers of one session only rise, so that no request is taken twice, and a nonce of the device's never comes
//! again, so that no session is.
//!
//! [`Key::new`] and [`Sessions::takes`] have examples.
//!
//! | what | HMAC-SHA-256 under | over |
//! | --- | --- | --- |
//! | the device's proof | the device's key | `flatmin device 1`, the desktop's nonce, the device's |
//! | the session's key | the device's key | `flatmin session1`, the desktop's nonce, the device's |
//! | a request's tag | the session's key | the frame's number (4 bytes, little endian), the request in postcard's encoding |

use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a [`Key`].
/// [`Key::new`] takes or gives them.
pub const KEY_BYTES: usize = 32;

/// Bytes of a nonce.
/// [`Key::session`] takes or gives them.
pub const NONCE_BYTES: usize = 16;

/// Bytes of a tag or a proof.
/// [`Key::sign`] takes or gives them.
pub const TAG_BYTES: usize = 16;

/// What a nonce is made of: bytes that no other session of this device has.
/// [`Key::session`] takes two.
pub type Nonce = [u8; NONCE_BYTES];

/// A device's key, or a session's. Its bytes are shown nowhere.
#[derive(Clone, Copy)]
pub struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key")
    }
}

impl Key {
    /// The key of these bytes; random ones.
    ///
    /// ```
    /// use flatmin::wire::signed::Key;
    /// let (device, desktop) = (Key::new([7; 32]), Key::new([7; 32]));
    /// let (asked, drawn) = ([1; 16], [2; 16]);
    /// assert!(desktop.proves(&asked, &drawn, &device.proof(&asked, &drawn)));
    /// let tag = desktop.session(&asked, &drawn).sign(9, b"request");
    /// assert!(device.session(&asked, &drawn).signed(9, b"request", &tag));
    /// assert!(!device.session(&asked, &drawn).signed(8, b"request", &tag));
    /// ```
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be kept.
    /// [`Self::new`] takes them again.
    pub const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// A device's proof that it has this key: to the nonce that was `asked` with, and the one that it has `drawn`.
    pub fn proof(&self, asked: &Nonce, drawn: &Nonce) -> [u8; TAG_BYTES] {
        first(self.mac([b"flatmin device 1", asked, drawn]))
    }

    /// Whether `proof` is that of a device with this key. Takes the same time whatever it is.
    pub fn proves(&self, asked: &Nonce, drawn: &Nonce, proof: &[u8; TAG_BYTES]) -> bool {
        self.mac([b"flatmin device 1", asked, drawn]).verify_truncated_left(proof).is_ok()
    }

    /// The key of the session that the two nonces make.
    pub fn session(&self, asked: &Nonce, drawn: &Nonce) -> Self {
        Self(self.mac([b"flatmin session1", asked, drawn]).finalize().into_bytes().into())
    }

    /// The tag, under a session's key, of a request with this number.
    pub fn sign(&self, sequence: u32, request: &[u8]) -> [u8; TAG_BYTES] {
        first(self.mac([&sequence.to_le_bytes(), request, &[]]))
    }

    /// Whether `tag` is the one that [`Self::sign`] gives. Takes the same time whatever it is.
    pub fn signed(&self, sequence: u32, request: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.mac([&sequence.to_le_bytes(), request, &[]]).verify_truncated_left(tag).is_ok()
    }

    #[inline(never)] // one copy of SHA-256's rounds
    fn mac(&self, parts: [&[u8]; 3]) -> Hmac<Sha256> {
        // RFC 2104, section 2: a shorter key is filled up with zeros to a block of 64 bytes.
        let mut block = [0; 64];
        for (place, byte) in block.iter_mut().zip(self.0) {
            *place = byte;
        }
        let mut mac = Hmac::<Sha256>::new(&block.into());
        parts.into_iter().for_each(|part| mac.update(part));
        mac
    }
}

fn first(mac: Hmac<Sha256>) -> [u8; TAG_BYTES] {
    let bytes: [u8; KEY_BYTES] = mac.finalize().into_bytes().into();
    *bytes.first_chunk().unwrap_or(&[0; TAG_BYTES])
}

/// What a device knows of its sessions: the one whose request was carried out last, and one that was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sessions {
    current: Option<Session>,
    /// Takes the other's place with its first request, so that nobody without the key ends a session.
    asked: Option<Session>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    key: Key,
    /// Number of the request that was taken last.
    last: u32,
}

impl Sessions {
    /// A session was asked for; `key` is [`Key::session`]'s.
    pub fn challenge(&mut self, key: Key) {
        self.asked = Some(Session { key, last: 0 });
    }

    /// Whether a request is to be carried out: one that the key's holder has signed in a session that is open, with a number
    /// above all before it.
    ///
    /// ```
    /// use flatmin::wire::signed::{Key, Sessions};
    /// let session = Key::new([7; 32]).session(&[1; 16], &[2; 16]);
    /// let tag = session.sign(5, b"commit");
    /// let mut device = Sessions::default();
    /// assert!(!device.takes(5, b"commit", &tag), "no session is open");
    /// device.challenge(session);
    /// assert!(device.takes(5, b"commit", &tag));
    /// assert!(!device.takes(5, b"commit", &tag), "the same request again");
    /// ```
    pub fn takes(&mut self, sequence: u32, request: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        let takes = |session: &Session| sequence > session.last && session.key.signed(sequence, request, tag);
        if let Some(session) = self.current.as_mut().filter(|session| takes(session)) {
            session.last = sequence;
            return true;
        }
        let Some(session) = self.asked.filter(takes) else { return false };
        *self = Self { current: Some(Session { last: sequence, ..session }), asked: None };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::new([
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
        28, 29, 30, 31,
    ]);
    const ASKED: Nonce = [0xA5; NONCE_BYTES];
    const DRAWN: Nonce = [0x3C; NONCE_BYTES];

    const PROOF: [u8; 16] = [34, 70, 28, 26, 184, 110, 234, 44, 130, 244, 63, 209, 124, 168, 45, 184];
    const SESSION: [u8; 32] = [
        62, 202, 60, 39, 85, 82, 201, 43, 168, 84, 3, 19, 25, 165, 170, 49, 76, 157, 38, 148, 184, 70, 28,
        94, 172, 64, 166, 55, 29, 205, 102, 91,
    ];
    const TAG: [u8; 16] = [236, 177, 8, 142, 42, 144, 78, 98, 67, 182, 150, 163, 215, 200, 143, 199];

    /// Python's hmac, by the table above: `hmac.new(bytes(range(32)), b"flatmin device 1" + b"\xa5" * 16 + b"\x3c" * 16,
    /// "sha256")` and so on.
    #[test]
    fn proofs_keys_and_tags_are_those_of_another_implementation() {
        assert_eq!(KEY.proof(&ASKED, &DRAWN), PROOF);
        let session = KEY.session(&ASKED, &DRAWN);
        assert_eq!(*session.bytes(), SESSION);
        assert_eq!(session.sign(0x0102_0304, b"request"), TAG);
    }

    /// A session that somebody without the key asks for does not end the one that is open; one that the holder opens does.
    #[test]
    fn a_session_ends_when_its_successor_is_used() {
        let (old, foreign, new) =
            (KEY.session(&ASKED, &DRAWN), Key::new([9; 32]), KEY.session(&DRAWN, &ASKED));
        let mut sessions = Sessions::default();
        sessions.challenge(old);
        assert!(sessions.takes(3, b"a", &old.sign(3, b"a")));
        sessions.challenge(foreign);
        assert!(sessions.takes(4, b"b", &old.sign(4, b"b")));
        sessions.challenge(new);
        assert!(sessions.takes(1, b"c", &new.sign(1, b"c")));
        assert!(!sessions.takes(5, b"d", &old.sign(5, b"d")));
        assert!(!sessions.takes(5, b"d", &foreign.sign(5, b"d")));
    }
}
