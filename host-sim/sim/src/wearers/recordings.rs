//! The recordings file (`data/README.md`), read where it lies.

use super::{CHANNELS, DATA, EXERCISES, SAMPLE_RATE_HZ, WEARERS, WINDOW, WINDOW_VALUES, WearersError};

/// One recording: a wearer repeats one exercise with one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recording<'a> {
    /// 1 to [`WEARERS`].
    pub wearer: usize,
    /// 0 left, 1 right.
    pub side: usize,
    /// Index into [`EXERCISES`].
    pub exercise: usize,
    /// Little-endian i16, [`CHANNELS`] a sample.
    samples: &'a [u8],
    /// From i16 to the unit of the model's input.
    factor: [f32; CHANNELS],
}

impl Recording<'_> {
    /// Bytes of one sample in the file.
    const SAMPLE_BYTES: usize = 2 * CHANNELS;

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len() / Self::SAMPLE_BYTES
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// First samples of the windows that lie wholly in `begin..end`.
    pub(super) fn starts(begin: usize, end: usize, stride: usize) -> impl Iterator<Item = usize> {
        (begin..(end + 1).saturating_sub(WINDOW).max(begin)).step_by(stride.max(1))
    }

    /// The window that begins with sample `start`; zeros stand for samples after the end.
    pub(super) fn window(&self, start: usize) -> [f32; WINDOW_VALUES] {
        let mut window = [0.0; WINDOW_VALUES];
        let bytes = self.samples.get(start * Self::SAMPLE_BYTES..).unwrap_or(&[]);
        for (i, (value, raw)) in window.iter_mut().zip(bytes.chunks_exact(2)).enumerate() {
            // The factors are powers of two: the product is exact.
            *value = f32::from(i16::from_le_bytes([raw[0], raw[1]])) * self.factor[i % CHANNELS];
        }
        window
    }
}

/// All recordings of a file, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Recordings<'a> {
    pub(super) recordings: Vec<Recording<'a>>,
}

/// Where the header's fields stand, as `data/README.md` lists them.
mod field {
    pub const MAGIC: &[u8; 4] = b"IMUR";
    pub const VERSION: usize = 4;
    pub const HEADER_BYTES: usize = 6;
    pub const SAMPLE_RATE_HZ: usize = 8;
    pub const CHANNELS: usize = 10;
    pub const CLASSES: usize = 11;
    pub const WEARERS: usize = 12;
    pub const SIDES: usize = 13;
    pub const RECORDINGS: usize = 14;
    pub const SAMPLES: usize = 16;
    pub const SCALE: usize = 20;
    pub const GAIN: usize = 44;
    /// Bytes of one entry of the record table.
    pub const RECORD: usize = 8;
    /// Bytes of a header for seven exercises.
    pub const HEADER: usize = 124;
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Recordings<'static> {
    /// The bundled recordings.
    pub fn bundled() -> Result<Self, WearersError> {
        Self::parse(DATA)
    }
}

impl<'a> Recordings<'a> {
    /// Reads a recordings file (`data/README.md`), without copying its samples.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WearersError> {
        if bytes.get(..4) != Some(field::MAGIC) {
            return Err(WearersError::NotARecordingsFile);
        }
        if bytes.len() < field::HEADER {
            return Err(WearersError::Length { found: bytes.len(), expected: field::HEADER });
        }
        for (name, found, supported) in [
            ("version", u16_at(bytes, field::VERSION), 1),
            ("header length", u16_at(bytes, field::HEADER_BYTES), field::HEADER),
            ("sample rate", u16_at(bytes, field::SAMPLE_RATE_HZ), SAMPLE_RATE_HZ),
            ("number of channels", usize::from(bytes[field::CHANNELS]), CHANNELS),
            ("number of exercises", usize::from(bytes[field::CLASSES]), EXERCISES.len()),
            ("number of wearers", usize::from(bytes[field::WEARERS]), WEARERS),
            ("number of sides", usize::from(bytes[field::SIDES]), 2),
        ] {
            if found != supported {
                return Err(WearersError::Unsupported { field: name, found, supported });
            }
        }
        let factor = core::array::from_fn(|channel| {
            f32_at(bytes, field::SCALE + 4 * channel) * f32_at(bytes, field::GAIN + 4 * channel)
        });

        let count = u16_at(bytes, field::RECORDINGS);
        let samples_at = field::HEADER + count * field::RECORD;
        let expected = u32_at(bytes, field::SAMPLES)
            .checked_mul(Recording::SAMPLE_BYTES)
            .and_then(|body| body.checked_add(samples_at));
        if expected != Some(bytes.len()) {
            return Err(WearersError::Length {
                found: bytes.len(),
                expected: expected.unwrap_or(usize::MAX),
            });
        }

        let mut rest = &bytes[samples_at..];
        let mut recordings = Vec::with_capacity(count);
        for (index, record) in bytes[field::HEADER..samples_at].chunks_exact(field::RECORD).enumerate() {
            let [wearer, side, exercise] = [0, 1, 2].map(|i| usize::from(record[i]));
            let own =
                u32_at(record, 4).checked_mul(Recording::SAMPLE_BYTES).and_then(|n| rest.split_at_checked(n));
            match own {
                Some((samples, after))
                    if (1..=WEARERS).contains(&wearer) && side < 2 && exercise < EXERCISES.len() =>
                {
                    recordings.push(Recording { wearer, side, exercise, samples, factor });
                    rest = after;
                }
                _ => return Err(WearersError::BadRecord { index }),
            }
        }
        if !rest.is_empty() {
            return Err(WearersError::Length { found: bytes.len(), expected: bytes.len() - rest.len() });
        }
        Ok(Self { recordings })
    }

    /// All recordings, in the order of the file.
    pub fn all(&self) -> &[Recording<'a>] {
        &self.recordings
    }

    /// The windows of every recording, in the order of the file, `stride` samples apart (0 counts as 1).
    ///
    /// Both halves, and windows over the cut: for comparisons of implementations, not for accuracy.
    pub fn windows_in_file_order(&self, stride: usize) -> impl Iterator<Item = [f32; WINDOW_VALUES]> {
        self.recordings.iter().flat_map(move |recording| {
            Recording::starts(0, recording.len(), stride).map(|start| recording.window(start))
        })
    }
}
