//! The bundled task: which of seven physiotherapy exercises does a wearer do whom the factory model never saw?
//!
//! `data/watch_dataset.bin` holds 140 recordings of a wrist-worn inertial sensor (10 wearers, 2 sides,
//! 7 exercises; 50 Hz; acceleration and rotation on three axes), `models/wearerNN.tflite` the factory model
//! that was pretrained on the nine other wearers. The README next to each says how it was made.
//!
//! # Protocol
//!
//! Each recording of the held-out wearer is cut in the middle, at sample `length / 2`. The **first half** gives
//! the adaptation windows, the **second half** the test windows; no window reaches over the cut.
//!
//! - Adaptation candidates do not overlap ([`ADAPTATION_STRIDE`] samples apart): at least 9 a class and wearer
//!   (wearers 3 and 4; 12 or more for all others), at most 24; both sides together.
//! - Test windows start [`TEST_STRIDE`] samples apart, so neighbours share half of their samples: 136 to 270 a
//!   wearer, and their number overstates how many independent observations there are.
//!
//! A window is `[f32; WINDOW_VALUES]` in the order of the model's input, `[1, 100, 1, 6]`: all channels of the
//! first sample, then of the second. Values are in the unit of the model's input, before quantization:
//! acceleration in g, rotation in units of 2 rad/s.

use core::fmt;

/// Exercises by label, as the source abbreviates them: pendulum, abduction, forward elevation, internal
/// rotation, external rotation, trapezius, row.
pub const EXERCISES: [&str; 7] = ["PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"];
/// Wearers are numbered 1 to this.
pub const WEARERS: usize = 10;
/// Samples a second.
pub const SAMPLE_RATE_HZ: usize = 50;
/// Samples in a window: two seconds.
pub const WINDOW: usize = 100;
/// Values in a sample: acceleration x, y, z, rotation x, y, z.
pub const CHANNELS: usize = 6;
/// Values in a window.
pub const WINDOW_VALUES: usize = WINDOW * CHANNELS;
/// Distance between the first samples of neighbouring adaptation candidates: they do not overlap.
pub const ADAPTATION_STRIDE: usize = WINDOW;
/// Distance between the first samples of neighbouring test windows: they overlap by half.
pub const TEST_STRIDE: usize = WINDOW / 2;

static DATA: &[u8] = include_bytes!("../data/watch_dataset.bin");

static MODELS: [&[u8]; WEARERS] = [
    include_bytes!("../models/wearer01.tflite"),
    include_bytes!("../models/wearer02.tflite"),
    include_bytes!("../models/wearer03.tflite"),
    include_bytes!("../models/wearer04.tflite"),
    include_bytes!("../models/wearer05.tflite"),
    include_bytes!("../models/wearer06.tflite"),
    include_bytes!("../models/wearer07.tflite"),
    include_bytes!("../models/wearer08.tflite"),
    include_bytes!("../models/wearer09.tflite"),
    include_bytes!("../models/wearer10.tflite"),
];

/// The factory model that never saw this wearer (1 to [`WEARERS`]), as `.tflite`.
pub fn model_bytes(wearer: usize) -> Option<&'static [u8]> {
    MODELS.get(wearer.checked_sub(1)?).copied()
}

/// What can be wrong with a recordings file or a request for windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WearersError {
    /// The file does not begin with `IMUR`.
    NotARecordingsFile,
    /// A header field has a value that this reader does not support.
    Unsupported {
        /// Name of the field.
        field: &'static str,
        /// Value in the file.
        found: usize,
        /// Supported value.
        supported: usize,
    },
    /// The file's length differs from what its header says.
    Length {
        /// Bytes in the file.
        found: usize,
        /// Bytes by the header.
        expected: usize,
    },
    /// A record names a wearer, side or exercise out of range.
    BadRecord {
        /// Position in the record table.
        index: usize,
    },
    /// No such wearer.
    NoSuchWearer {
        /// Requested number.
        wearer: usize,
    },
    /// More windows of a class were requested than there are.
    TooFewWindows {
        /// The class.
        class: usize,
        /// Windows requested.
        requested: usize,
        /// Windows available.
        available: usize,
    },
}

impl fmt::Display for WearersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotARecordingsFile => {
                write!(f, "not a recordings file: it does not begin with IMUR")
            }
            Self::Unsupported { field, found, supported } => {
                write!(f, "unsupported recordings file: {field} is {found}, supported is {supported}")
            }
            Self::Length { found, expected } => {
                write!(f, "the recordings file has {found} bytes, its header says {expected}")
            }
            Self::BadRecord { index } => {
                write!(f, "record {index} names a wearer, side or exercise out of range")
            }
            Self::NoSuchWearer { wearer } => {
                write!(f, "there is no wearer {wearer}: wearers are 1 to {WEARERS}")
            }
            Self::TooFewWindows { class, requested, available } => {
                write!(f, "{requested} adaptation windows of class {class} requested, {available} available")
            }
        }
    }
}

impl core::error::Error for WearersError {}

/// A labelled window.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// [`WINDOW_VALUES`] values, time-major.
    pub samples: Vec<f32>,
    /// Index into [`EXERCISES`].
    pub label: usize,
}

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
    fn starts(begin: usize, end: usize, stride: usize) -> impl Iterator<Item = usize> {
        (begin..(end + 1).saturating_sub(WINDOW).max(begin)).step_by(stride.max(1))
    }

    /// First samples of the adaptation candidates: windows of the first half.
    fn adaptation_starts(&self) -> impl Iterator<Item = usize> {
        Self::starts(0, self.len() / 2, ADAPTATION_STRIDE)
    }

    /// First samples of the test windows: windows of the second half.
    fn test_starts(&self) -> impl Iterator<Item = usize> {
        Self::starts(self.len() / 2, self.len(), TEST_STRIDE)
    }

    /// The window that begins with sample `start`; zeros stand for samples after the end.
    fn window(&self, start: usize) -> [f32; WINDOW_VALUES] {
        let mut window = [0.0; WINDOW_VALUES];
        let bytes = self.samples.get(start * Self::SAMPLE_BYTES..).unwrap_or(&[]);
        for (i, (value, raw)) in window.iter_mut().zip(bytes.chunks_exact(2)).enumerate() {
            // The factors are powers of two: the product is exact.
            *value = f32::from(i16::from_le_bytes([raw[0], raw[1]])) * self.factor[i % CHANNELS];
        }
        window
    }

    fn labelled(&self, start: usize) -> Window {
        Window { samples: self.window(start).to_vec(), label: self.exercise }
    }
}

/// All recordings of a file, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Recordings<'a> {
    recordings: Vec<Recording<'a>>,
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

    fn of_wearer(&self, wearer: usize) -> Result<impl Iterator<Item = &Recording<'a>>, WearersError> {
        if !(1..=WEARERS).contains(&wearer) {
            return Err(WearersError::NoSuchWearer { wearer });
        }
        Ok(self.recordings.iter().filter(move |recording| recording.wearer == wearer))
    }

    /// Every test window of a wearer, in the order of the file.
    pub fn test(&self, wearer: usize) -> Result<Vec<Window>, WearersError> {
        Ok(self
            .of_wearer(wearer)?
            .flat_map(|recording| recording.test_starts().map(|start| recording.labelled(start)))
            .collect())
    }

    /// Draws `windows_per_class` adaptation windows of each exercise, both sides together.
    ///
    /// For each exercise in turn, its candidates in the order of the file are shuffled (Fisher and Yates,
    /// [`SplitMix64`] seeded with `seed`, one stream for all exercises). The result takes one window of each
    /// exercise, then the next of each, and so on: with the same seed, fewer windows are a prefix of more.
    pub fn adaptation(
        &self,
        wearer: usize,
        windows_per_class: usize,
        seed: u64,
    ) -> Result<Vec<Window>, WearersError> {
        let mut random = SplitMix64::new(seed);
        let mut shuffled = Vec::with_capacity(EXERCISES.len());
        for class in 0..EXERCISES.len() {
            let mut candidates: Vec<_> = self
                .of_wearer(wearer)?
                .filter(|recording| recording.exercise == class)
                .flat_map(|recording| recording.adaptation_starts().map(move |start| (recording, start)))
                .collect();
            if candidates.len() < windows_per_class {
                return Err(WearersError::TooFewWindows {
                    class,
                    requested: windows_per_class,
                    available: candidates.len(),
                });
            }
            random.shuffle(&mut candidates);
            shuffled.push(candidates);
        }
        Ok((0..windows_per_class)
            .flat_map(|round| shuffled.iter().filter_map(move |class| class.get(round)))
            .map(|(recording, start)| recording.labelled(*start))
            .collect())
    }
}

/// Gives `round(share * n)` of the `n` labels another class, drawn uniformly from the `classes - 1` others.
///
/// Which labels is drawn without replacement, from [`SplitMix64`] seeded with `seed`. A share outside 0 to 1 is
/// taken as the nearer of the two; with fewer than two classes nothing changes.
pub fn flip_labels(labels: &mut [usize], classes: usize, share: f64, seed: u64) {
    if classes < 2 {
        return;
    }
    let mut random = SplitMix64::new(seed);
    let mut order: Vec<usize> = (0..labels.len()).collect();
    random.shuffle(&mut order);
    let flips = (share.clamp(0.0, 1.0) * labels.len() as f64).round() as usize;
    for index in order.into_iter().take(flips) {
        let drawn = random.below(classes - 1);
        labels[index] = drawn + usize::from(drawn >= labels[index]);
    }
}

/// The generator SplitMix64: add `0x9e3779b97f4a7c15` to the state, then mix the state into the output.
///
/// Its outputs are fixed by this definition and never change with a dependency's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Starts the stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next output.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `bound` (0 if `bound` is 0): the high word of `output * bound`.
    ///
    /// Its bias, at most `bound / 2^64`, is of no consequence here.
    pub const fn below(&mut self, bound: usize) -> usize {
        ((self.next_u64() as u128 * bound as u128) >> 64) as usize
    }

    /// Fisher and Yates, from the first element on: swaps element `i` with one drawn from `i` to the last.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in 0..items.len() {
            let chosen = i + self.below(items.len() - i);
            items.swap(i, chosen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundled() -> Recordings<'static> {
        Recordings::bundled().expect("the bundled recordings parse")
    }

    #[test]
    fn the_bundle_is_complete() {
        let recordings = bundled();
        assert_eq!(recordings.all().len(), WEARERS * 2 * EXERCISES.len());
        for wearer in 1..=WEARERS {
            for side in 0..2 {
                for exercise in 0..EXERCISES.len() {
                    let matching = recordings
                        .all()
                        .iter()
                        .filter(|r| (r.wearer, r.side, r.exercise) == (wearer, side, exercise))
                        .count();
                    assert_eq!(matching, 1, "wearer {wearer}, side {side}, exercise {exercise}");
                }
            }
        }
        let samples: usize = recordings.all().iter().map(Recording::len).sum();
        assert_eq!(samples, 244_102);
    }

    #[test]
    fn the_file_names_the_exercises() {
        for (i, name) in EXERCISES.iter().enumerate() {
            let stored = &DATA[68 + 8 * i..68 + 8 * (i + 1)];
            assert_eq!(stored, format!("{name:\0<8}").as_bytes());
        }
    }

    #[test]
    fn every_wearer_has_a_model() {
        for wearer in 1..=WEARERS {
            let model = model_bytes(wearer).expect("a model");
            assert_eq!(&model[4..8], b"TFL3");
            assert!(model.len() <= 64 * 1024);
        }
        assert_eq!(model_bytes(0), None);
        assert_eq!(model_bytes(WEARERS + 1), None);
    }

    #[test]
    fn no_window_reaches_over_the_cut_or_the_end() {
        for recording in bundled().all() {
            let cut = recording.len() / 2;
            let adaptation: Vec<_> = recording.adaptation_starts().collect();
            assert_eq!(adaptation.len(), cut / WINDOW);
            assert!(adaptation.iter().all(|start| start + WINDOW <= cut));
            let test: Vec<_> = recording.test_starts().collect();
            assert_eq!(test.len(), (recording.len() - cut - WINDOW) / TEST_STRIDE + 1);
            assert!(test.iter().all(|&start| start >= cut && start + WINDOW <= recording.len()));
        }
        assert_eq!(Recording::starts(5, 5 + WINDOW - 1, 1).count(), 0);
        assert_eq!(Recording::starts(5, 5 + WINDOW, 1).collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn windows_are_time_major_in_units_of_the_model() {
        // First sample of the first recording in the source: acceleration in g, rotation in rad/s.
        let source = [-1.083608, -0.018609, -0.02726, 0.41141 / 2.0, -1.603097 / 2.0, -2.488642 / 2.0];
        let window = bundled().windows_in_file_order(50).next().expect("a window");
        for (found, expected) in window.iter().zip(source) {
            assert!((found - expected).abs() <= 0.5 / 2048.0, "{found} for {expected}");
        }
        assert!((window[CHANNELS] - -1.077527).abs() <= 0.5 / 2048.0);
    }

    #[test]
    fn windows_in_file_order_are_as_many_as_fit() {
        let recordings = bundled();
        let expected: usize = recordings.all().iter().map(|r| (r.len() - WINDOW) / 50 + 1).sum();
        assert_eq!(recordings.windows_in_file_order(50).count(), expected);
        assert!(expected >= 1000);
    }

    /// Adaptation candidates of the scarcest and the most frequent class, and test windows, as documented.
    #[test]
    fn window_counts() {
        let recordings = bundled();
        let mut found = Vec::new();
        for wearer in 1..=WEARERS {
            let mut candidates = [0; EXERCISES.len()];
            for recording in recordings.all().iter().filter(|r| r.wearer == wearer) {
                candidates[recording.exercise] += recording.adaptation_starts().count();
            }
            let test = recordings.test(wearer).expect("test windows").len();
            let [fewest, most] =
                [candidates.iter().min(), candidates.iter().max()].map(|n| *n.expect("classes"));
            found.push((fewest, most, test));
        }
        assert_eq!(
            found,
            [
                (13, 24, 270),
                (12, 22, 259),
                (9, 12, 143),
                (9, 11, 136),
                (12, 21, 235),
                (12, 20, 228),
                (12, 23, 251),
                (14, 20, 229),
                (14, 21, 230),
                (12, 23, 248),
            ]
        );
    }

    #[test]
    fn adaptation_is_balanced_distinct_and_deterministic() {
        let recordings = bundled();
        for wearer in 1..=WEARERS {
            let nine = recordings.adaptation(wearer, 9, 7).expect("nine a class");
            for class in 0..EXERCISES.len() {
                assert_eq!(nine.iter().filter(|w| w.label == class).count(), 9);
            }
            for (i, window) in nine.iter().enumerate() {
                assert_eq!(window.samples.len(), WINDOW_VALUES);
                assert!(!nine[..i].contains(window), "wearer {wearer}: window {i} twice");
            }
            assert_eq!(recordings.adaptation(wearer, 9, 7).as_ref(), Ok(&nine));
            assert_eq!(recordings.adaptation(wearer, 4, 7).as_deref(), Ok(&nine[..4 * EXERCISES.len()]));
            assert_ne!(recordings.adaptation(wearer, 9, 8).as_ref(), Ok(&nine));
        }
    }

    #[test]
    fn impossible_requests_name_both_values() {
        let recordings = bundled();
        assert_eq!(recordings.test(0), Err(WearersError::NoSuchWearer { wearer: 0 }));
        assert_eq!(recordings.adaptation(11, 1, 0), Err(WearersError::NoSuchWearer { wearer: 11 }));
        let error = recordings.adaptation(3, 25, 0).expect_err("too many");
        assert_eq!(error, WearersError::TooFewWindows { class: 0, requested: 25, available: 10 });
        assert_eq!(error.to_string(), "25 adaptation windows of class 0 requested, 10 available");
    }

    #[test]
    fn flips_are_exactly_the_share() {
        let original: Vec<usize> = (0..70).map(|i| i % 7).collect();
        for (share, expected) in
            [(0.0, 0), (0.1, 7), (0.2, 14), (0.25, 18), (1.0, 70), (1.5, 70), (-0.5, 0), (f64::NAN, 0)]
        {
            let mut labels = original.clone();
            flip_labels(&mut labels, 7, share, 3);
            let changed = labels.iter().zip(&original).filter(|(a, b)| a != b).count();
            assert_eq!(changed, expected, "share {share}");
            assert!(labels.iter().all(|&label| label < 7));
            let mut again = original.clone();
            flip_labels(&mut again, 7, share, 3);
            assert_eq!(again, labels);
        }
        let mut single = vec![0; 4];
        flip_labels(&mut single, 1, 1.0, 0);
        assert_eq!(single, [0; 4]);
    }

    #[test]
    fn flips_reach_every_other_class() {
        let mut seen = [0; 7];
        for seed in 0..700 {
            let mut labels = [3];
            flip_labels(&mut labels, 7, 1.0, seed);
            seen[labels[0]] += 1;
        }
        assert_eq!(seen[3], 0);
        assert!(seen.iter().enumerate().all(|(class, &n)| class == 3 || (60..180).contains(&n)), "{seen:?}");
    }

    #[test]
    fn splitmix64_known_answers() {
        // The reference implementation's first outputs for seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let outputs: Vec<u64> = (0..5).map(|_| random.next_u64()).collect();
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn broken_files_are_errors() {
        assert_eq!(Recordings::parse(b"IMU"), Err(WearersError::NotARecordingsFile));
        assert_eq!(Recordings::parse(&DATA[..60]), Err(WearersError::Length { found: 60, expected: 124 }));
        assert_eq!(
            Recordings::parse(&DATA[..DATA.len() - 1]),
            Err(WearersError::Length { found: DATA.len() - 1, expected: DATA.len() })
        );
        let mut other = DATA.to_vec();
        other[4] = 2;
        assert_eq!(
            Recordings::parse(&other),
            Err(WearersError::Unsupported { field: "version", found: 2, supported: 1 })
        );
        let mut other = DATA.to_vec();
        other[124 + 8] = 11;
        assert_eq!(Recordings::parse(&other), Err(WearersError::BadRecord { index: 1 }));
        // Any single changed header byte is read or refused, without a panic.
        let mut other = DATA.to_vec();
        for at in 0..124 + 1120 {
            other[at] ^= 0xff;
            let _ = Recordings::parse(&other);
            other[at] ^= 0xff;
        }
    }
}
