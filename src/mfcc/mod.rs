//! The front end of a microphone: 16 kHz PCM to the features that MLPerf Tiny's keyword spotting network (DS-CNN) reads.
//! After the feature `mfcc`, which takes the FFT of `microfft` along; it is here, and no crate of its own, because it shares
//! [`crate::Affine`], the one set of transcendentals and the order of reductions that give the same bits on every target.
//!
//! The recipe of the benchmark (Banbury et al. 2021, *MLPerf Tiny Benchmark*, reference implementation of keyword spotting;
//! TensorFlow's `tf.signal`), for a second of audio `x`, 16,000 samples:
//!
//! 1. `x / max(x)`, the maximum with its sign.
//! 2. 49 frames of 480 samples, 320 apart, times a periodic Hann window, padded to 512.
//! 3. Magnitudes of the discrete Fourier transform, weighted into 40 triangles that are equally spaced from 20 to 4,000 Hz on
//!    the scale `mel(f) = 1127 ln(1 + f / 700)`.
//! 4. `ln(. + 1e-6)`, then the first 10 coefficients of the DCT-II, `2 / sqrt(80) sum_n l[n] cos(pi k (2 n + 1) / 80)`.
//! 5. Int8: `v / scale + zero_point`, cut off towards zero and saturated.
//!
//! # A stream, not a clip
//! The first step wants the whole second before anything else can begin. But magnitudes are linear: what is kept is each
//! frame's 40 sums of the samples as they came, 7,840 bytes in place of 32,000 of PCM, and the maximum of each [`HOP`]; the
//! division comes last. So features of the last second may be asked for after every hop, 20 ms apart, and a clip is a stream
//! of 50 hops. Of sums that are divided early or late the bits differ; the int8 features differ where a value lies within
//! 1e-6 or so of a step's edge.

mod tables;

use crate::quant::Affine;
use crate::{cpu::lanes, math};
use tables::{FALLING, HANN, LINES, SEGMENT, WAVES};

/// Samples a second that the tables are made for.
/// [`Mfcc`] has an example.
pub const SAMPLE_RATE_HZ: usize = 16_000;
/// Samples between the beginnings of neighbouring frames: 20 ms.
/// [`Mfcc`] has an example.
pub const HOP: usize = 320;
/// Samples in a frame: 30 ms.
/// [`Mfcc`] has an example.
pub const FRAME: usize = 480;
/// Frames in a second.
/// [`Mfcc`] has an example.
pub const FRAMES: usize = 49;
/// Coefficients of a frame.
/// [`Mfcc`] has an example.
pub const COEFFICIENTS: usize = 10;
/// Features of a second: frame after frame, its coefficients one after another.
/// [`Mfcc`] has an example.
pub const FEATURES: usize = FRAMES * COEFFICIENTS;

const HOPS: usize = SAMPLE_RATE_HZ / HOP;
const FFT: usize = 512;
const BANDS: usize = 40;
/// Keeps the logarithm of silence finite.
const FLOOR: f32 = 1e-6;

/// The last second of audio, as sums of bands; [`Self::BYTES`] of RAM, and no more than 512 of stack beside it.
///
/// ```
/// use flatmin::{Affine, mfcc::{FEATURES, HOP, Mfcc}};
/// let input = Affine { scale: 0.5847029, zero_point: 83 }; // of the network: `Pack::input`
/// let mut mfcc = Mfcc::new();
/// let mut features = [0; FEATURES];
/// let hum = core::array::from_fn(|i| if i / 16 % 2 == 0 { 3000 } else { -3000 }); // 500 Hz
/// for _ in 0..50 {
///     mfcc.push(&hum); // 20 ms from the microphone
/// }
/// mfcc.features(input, &mut features);
/// assert_eq!(features[10..20], features[20..30], "a steady sound");
/// mfcc.clip(&[0; 4000]);
/// mfcc.features(input, &mut features);
/// assert_eq!(features[..2], [-128, 83], "silence");
/// ```
#[derive(Debug, Clone)]
pub struct Mfcc {
    /// The oldest frame is the next to be written; so is the oldest hop's maximum.
    bands: [[f32; BANDS]; FRAMES],
    frame: usize,
    maxima: [i16; HOPS],
    hop: usize,
    /// A frame is a hop and half of the next.
    last: [i16; HOP],
    transform: [f32; FFT],
}

impl Default for Mfcc {
    fn default() -> Self {
        Self::new()
    }
}

impl Mfcc {
    /// Bytes of RAM.
    /// [`Self::new`] takes them.
    pub const BYTES: usize = size_of::<Self>();
    /// Bytes of RAM by purpose; they add up to [`Self::BYTES`].
    /// [`Self::new`] takes them.
    pub const BYTES_BY_PURPOSE: [(&'static str, usize); 4] = [
        ("sums of bands, 49 frames", size_of::<[[f32; BANDS]; FRAMES]>()),
        ("transform", size_of::<[f32; FFT]>()),
        ("last hop of PCM", size_of::<[i16; HOP]>()),
        ("maxima of hops, positions", size_of::<[i16; HOPS]>() + 2 * size_of::<usize>()),
    ];

    /// A front end that has heard one second of silence.
    pub const fn new() -> Self {
        Self {
            bands: [[0.0; BANDS]; FRAMES],
            frame: 0,
            maxima: [0; HOPS],
            hop: 0,
            last: [0; HOP],
            transform: [0.0; FFT],
        }
    }

    /// Takes the next 20 ms: one frame's window, transform and bands.
    pub fn push(&mut self, hop: &[i16; HOP]) {
        let samples = self.last.iter().chain(hop);
        for ((place, &sample), weight) in self.transform.iter_mut().zip(samples).zip(&HANN) {
            *place = f32::from(sample) * weight;
        }
        self.transform.iter_mut().skip(FRAME).for_each(|place| *place = 0.0);
        let spectrum = microfft::real::rfft_512(&mut self.transform);
        // One more below and above: what lies outside of the triangles.
        let mut sums = [0.0; BANDS + 2];
        for ((line, &segment), &falling) in spectrum.iter().skip(1).zip(&SEGMENT).zip(&FALLING) {
            let magnitude = math::sqrt(line.re * line.re + line.im * line.im);
            let segment = usize::from(segment);
            if let Some([below, above]) = sums.get_mut(segment..segment + 2) {
                *below += falling * magnitude;
                *above += (1.0 - falling) * magnitude;
            }
        }
        if let Some(bands) = self.bands.get_mut(self.frame) {
            bands.iter_mut().zip(sums.iter().skip(1)).for_each(|(band, sum)| *band = *sum);
        }
        if let Some(maximum) = self.maxima.get_mut(self.hop) {
            *maximum = hop.iter().copied().max().unwrap_or(0);
        }
        (self.frame, self.hop) = ((self.frame + 1) % FRAMES, (self.hop + 1) % HOPS);
        self.last = *hop;
    }

    /// Forgets what was heard and takes the first second of a clip; silence follows a shorter one.
    pub fn clip(&mut self, samples: &[i16]) {
        // In place: a new one would take its size of stack.
        self.bands.iter_mut().for_each(|bands| bands.fill(0.0));
        self.maxima.fill(0);
        self.last.fill(0);
        (self.frame, self.hop) = (0, 0);
        let mut hops = samples.chunks(HOP);
        for _ in 0..HOPS {
            let mut hop = [0; HOP];
            let samples = hops.next().unwrap_or(&[]);
            hop.iter_mut().zip(samples).for_each(|(place, &sample)| *place = sample);
            self.push(&hop);
        }
    }

    /// The features of the last second at the quantization of a network's input. Before a second was heard, silence stands
    /// for what is missing.
    ///
    /// A second without any sample above 0, of which the benchmark's recipe says nothing, is divided by the sample nearest
    /// to 0, or by 1.
    pub fn features(&self, input: Affine, features: &mut [i8; FEATURES]) {
        let peak = match self.maxima.iter().copied().max().unwrap_or(0) {
            0 => 1.0,
            maximum => f32::from(maximum).abs(),
        };
        let (newer, older) = self.bands.split_at_checked(self.frame).unwrap_or_default();
        let frames = features.as_chunks_mut::<COEFFICIENTS>().0;
        for (coefficients, bands) in frames.iter_mut().zip(older.iter().chain(newer)) {
            let logarithms = bands.map(|band| math::ln_of_any(band / peak + FLOOR));
            for (coefficient, wave) in coefficients.iter_mut().zip(&WAVES) {
                let value = lanes::dot(&logarithms, wave);
                // A float cast cuts off and saturates, as the benchmark does.
                *coefficient = (value / input.scale + input.zero_point as f32) as i8;
            }
        }
    }
}

const _: () = {
    let (mut total, mut i) = (0, 0);
    while i < Mfcc::BYTES_BY_PURPOSE.len() {
        total += Mfcc::BYTES_BY_PURPOSE[i].1;
        i += 1;
    }
    assert!(total <= Mfcc::BYTES && Mfcc::BYTES < total + align_of::<Mfcc>());
    assert!(FRAME < 2 * HOP && (FRAMES - 1) * HOP + FRAME <= SAMPLE_RATE_HZ && LINES < FFT / 2);
};
