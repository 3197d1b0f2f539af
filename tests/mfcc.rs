//! The microphone's front end against the recipe in f64: a discrete Fourier transform by its sum, triangles by their
//! formula, and the whole clip divided by its maximum before anything else.

use flatmin::Affine;
use flatmin::mfcc::{FEATURES, HOP, Mfcc};
use std::f64::consts::PI;

/// Of MLPerf Tiny's DS-CNN.
const INPUT: Affine = Affine { scale: 0.584_702_9, zero_point: 83 };

/// Real-valued features in steps of the quantization.
fn reference(clip: &[i16]) -> Vec<f64> {
    let maximum = f64::from(clip.iter().take(16_000).copied().max().unwrap_or(0));
    let maximum = if maximum == 0.0 { 1.0 } else { maximum };
    let mut x: Vec<f64> = clip.iter().take(16_000).map(|&sample| f64::from(sample) / maximum).collect();
    x.resize(16_000, 0.0);
    let mel = |hertz: f64| 1127.0 * (1.0 + hertz / 700.0).ln();
    let edges: Vec<f64> =
        (0..42).map(|i| mel(20.0) + (mel(4000.0) - mel(20.0)) * f64::from(i) / 41.0).collect();
    let turns: Vec<(f64, f64)> = (0..512).map(|i| (2.0 * PI * f64::from(i) / 512.0).sin_cos()).collect();
    let mut features = Vec::new();
    for frame in (0..49).map(|i| &x[320 * i..320 * i + 480]) {
        let windowed: Vec<f64> = (frame.iter().enumerate())
            .map(|(n, x)| x * (0.5 - 0.5 * (2.0 * PI * n as f64 / 480.0).cos()))
            .collect();
        let magnitudes: Vec<f64> = (0..257)
            .map(|line| {
                let (mut re, mut im) = (0.0, 0.0);
                for (n, x) in windowed.iter().enumerate() {
                    let (sin, cos) = turns[line * n % 512];
                    re += x * cos;
                    im -= x * sin;
                }
                re.hypot(im)
            })
            .collect();
        let logarithms: Vec<f64> = (edges.windows(3))
            .map(|edge| {
                let weight = |line: usize| {
                    let own = mel(line as f64 * 16_000.0 / 512.0);
                    let rising = (own - edge[0]) / (edge[1] - edge[0]);
                    rising.min((edge[2] - own) / (edge[2] - edge[1])).max(0.0)
                };
                ((1..257).map(|line| weight(line) * magnitudes[line]).sum::<f64>() + 1e-6).ln()
            })
            .collect();
        for k in 0..10 {
            let wave = |n: usize| (PI * k as f64 * (n as f64 + 0.5) / 40.0).cos();
            let sum: f64 = logarithms.iter().enumerate().map(|(n, l)| 2.0 * l * wave(n)).sum();
            features.push(sum / 80f64.sqrt() / f64::from(INPUT.scale) + f64::from(INPUT.zero_point));
        }
    }
    features
}

fn features(mfcc: &Mfcc) -> [i8; FEATURES] {
    let mut features = [0; FEATURES];
    mfcc.features(INPUT, &mut features);
    features
}

/// From -1 to 1.
fn noise(state: &mut u32) -> f64 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    f64::from(*state >> 8) / 8_388_608.0 - 1.0
}

fn clip(length: usize, wave: impl FnMut(f64) -> f64) -> Vec<i16> {
    (0..length).map(|n| n as f64 / 16_000.0).map(wave).map(|value| value.round() as i16).collect()
}

fn clips() -> Vec<(&'static str, Vec<i16>)> {
    let (mut a, mut b, mut c) = (1, 2, 3);
    let word = |t: f64| (-40.0 * (t - 0.4).powi(2)).exp() * (2.0 * PI * 180.0 * t).sin();
    vec![
        ("silence", clip(16_000, |_| 0.0)),
        ("nothing at all", Vec::new()),
        ("one tick", clip(16_000, |t| if t == 0.5 { 1.0 } else { 0.0 })),
        ("noise", clip(16_000, |_| 900.0 * noise(&mut a))),
        ("full scale", clip(16_000, |t| 40_000.0 * (2.0 * PI * 997.0 * t).sin())),
        ("a sweep", clip(16_000, |t| 8000.0 * (2.0 * PI * (50.0 * t + 3900.0 * t * t)).sin())),
        ("a vowel in noise", clip(16_000, |t| 9000.0 * word(t).powi(3) + 20.0 * noise(&mut b))),
        ("short", clip(7_001, |t| 5000.0 * (2.0 * PI * 440.0 * t).sin() + 3.0 * noise(&mut c))),
        ("long", clip(20_000, |t| 20_000.0 * t * (2.0 * PI * 300.0 * t).sin())),
        ("below zero", clip(16_000, |t| -3000.0 - 2000.0 * (2.0 * PI * 700.0 * t).sin())),
    ]
}

/// Within one step of the recipe, and exact but for values that lie at a step's edge, where sums of f32 fall on either side:
/// so do all coefficients of silence but the first, which are 0 plus a rounding error.
#[test]
fn features_are_those_of_the_recipe() {
    let (mut mfcc, mut exact, mut all) = (Mfcc::new(), 0, 0);
    for (name, clip) in clips() {
        mfcc.clip(&clip);
        for (i, (&found, expected)) in features(&mfcc).iter().zip(reference(&clip)).enumerate() {
            let step = i16::from(found) - i16::from(expected as i8);
            assert!(step.abs() <= 1, "{name} {i}: {found}, {expected}");
            exact += usize::from([-2e-4, 2e-4].map(|edge| (expected + edge) as i8).contains(&found));
            all += 1;
        }
    }
    assert!(all - exact <= all / 1000, "{exact} of {all}");
}

/// Whatever was heard before the last second is forgotten, wherever the rings stand.
#[test]
fn a_stream_gives_the_features_of_its_last_second() {
    let mut seed = 7;
    let samples = clip(16_000 + 137 * HOP, |t| 3000.0 * (1.0 + (5.0 * t).sin()) * noise(&mut seed));
    let (mut stream, mut fresh) = (Mfcc::new(), Mfcc::new());
    let mut compared = 0;
    for (count, hop) in samples.as_chunks::<HOP>().0.iter().enumerate() {
        stream.push(hop);
        let heard = (count + 1) * HOP;
        if let Some(start) = heard.checked_sub(16_000) {
            fresh.clip(&samples[start..heard]);
            assert_eq!(features(&stream), features(&fresh), "after {heard} samples");
            compared += 1;
        }
    }
    assert_eq!(compared, 138);
}

/// A clip's loudness is no feature: a power of two changes no bit.
#[test]
fn loudness_cancels() {
    let mut seed = 9;
    let quiet = clip(16_000, |_| 4000.0 * noise(&mut seed));
    let loud: Vec<i16> = quiet.iter().map(|sample| sample * 8).collect();
    let [quiet, loud] = [quiet, loud].map(|clip| {
        let mut mfcc = Mfcc::new();
        mfcc.clip(&clip);
        features(&mfcc)
    });
    assert_eq!(quiet, loud);
}
