//! What steps do to weights.

mod gradients;

use super::layer_weights::{Ascent, LayerWeights};
use super::weights::{ChannelStep, Parameters, Place, rate};
use crate::compact::number::Dither;
use crate::pack::TrainedLayer;
use gradients::below;
use rand_core::SeedableRng;
use rand_pcg::Pcg32;
use std::vec;
use std::vec::Vec;

/// A layer of fully connected outputs, for its parameters alone.
fn layer(outputs: usize, taps: usize) -> TrainedLayer {
    let bytes = crate::include_pack!("../../tests/examples/motion.pack");
    let pack = crate::Pack::new(bytes).unwrap();
    let layer = pack.trained_layers().last().unwrap();
    assert!(layer.rows_are_contiguous());
    TrainedLayer { outputs, taps, trains_weights: true, trains_biases: true, ..layer }
}

struct Held {
    deltas: Vec<i8>,
    bits: Vec<i8>,
    biases: Vec<i32>,
    squares: Vec<f32>,
}

impl Held {
    fn new(outputs: usize, taps: usize) -> Self {
        let mut own = Self {
            deltas: vec![0; outputs * taps],
            bits: vec![0; outputs],
            biases: vec![0; outputs],
            squares: vec![0.0; outputs],
        };
        own.parameters().reset();
        own
    }

    fn parameters(&mut self) -> Parameters<'_> {
        let Self { deltas, bits, biases, squares } = self;
        Parameters { count: deltas.len(), held: deltas, bits, biases, squares, in_force: false }
    }

    /// One step of one channel at a rate.
    fn step(
        &mut self,
        layer: &TrainedLayer,
        packed: &[i8],
        (sums, bias): (&[i32], i32),
        rate: f32,
        seed: u32,
    ) {
        let by = ChannelStep { unit: 0.01, rate, known: 1.0, one: 30.0 };
        let place = Place { weights: 0, outputs: 0 };
        let (mut sums, mut dither) = (sums.to_vec(), Dither::new(seed, 0));
        self.parameters().step((layer, place), (packed, &[]), 0, &by, (&mut sums, bias), &mut dither);
    }

    fn weights<'w>(&'w self, layer: &'w TrainedLayer, packed: &'w [i8]) -> LayerWeights<'w> {
        LayerWeights {
            layer,
            inputs: &[],
            packed,
            packed_biases: &[0],
            deltas: &self.deltas,
            bits: &self.bits,
            biases: &self.biases,
            ascent: Ascent::NONE,
            ratios: &[],
        }
    }

    fn written(&self, layer: &TrainedLayer, packed: &[i8]) -> Vec<i8> {
        let mut to = vec![0; packed.len()];
        self.weights(layer, packed).write(0, layer.outputs, &mut to);
        to
    }
}

#[test]
fn ten_thousand_small_steps_do_not_drift() {
    const STEPS: u32 = 10_000;
    let layer = layer(1, 64);
    let packed = vec![0i8; 64];
    let mut random = Pcg32::seed_from_u64(5);
    let mut held = Held::new(1, 64);
    // Exact places, in steps of q, of weights that all these steps move.
    let (mut exact, mut largest) = (vec![0.0f64; 64], 0.0f64);
    let mut square = 0.0f64;
    for step in 0..STEPS {
        let sums: Vec<i32> = (0..64).map(|_| below(&mut random, 4_001) as i32 - 2_000).collect();
        held.step(&layer, &packed, (&sums, 0), 0.001, step);
        let mean = sums.iter().map(|&g| (f64::from(g) * 0.01).powi(2)).sum::<f64>() / 64.0;
        square = 0.99 * square + 0.01 * mean;
        for (place, &g) in exact.iter_mut().zip(&sums) {
            *place -= 0.001 * f64::from(g) * 0.01 / square.sqrt();
            largest = largest.max(place.abs());
        }
    }
    assert_eq!(held.bits, [7]);
    let off: Vec<f64> =
        held.deltas.iter().zip(&exact).map(|(&d, &exact)| f64::from(d) / 128.0 - exact).collect();
    let mean = off.iter().sum::<f64>() / 64.0;
    let deviation = (off.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 63.0).sqrt();
    assert!(mean.abs() <= 3.0 * deviation / 8.0, "{mean} +- {}", deviation / 8.0);
    // Every rounding is by chance, of one step of d at most: variances of a quarter of one add up.
    assert!(deviation < (f64::from(STEPS) / 4.0).sqrt() / 128.0, "{deviation}, of {largest}");
}

#[test]
fn differences_that_have_no_room_give_up_bits_and_keep_their_place() {
    let layer = layer(1, 4);
    let packed = [0i8, 10, -100, 127];
    let mut held = Held::new(1, 4);
    // Every step takes the first weight up by about 4 of q.
    for step in 0..20 {
        held.step(&layer, &packed, (&[-3_000, 0, 0, 0], 0), 2.0, step);
        held.step(&layer, &packed, (&[0, 0, 0, -3_000], 0), 2.0, 1_000 + step);
    }
    assert!(held.bits[0] < 7 && held.parameters().are_sound(), "{:?}", held.bits);
    let written = held.written(&layer, &packed);
    assert!(written[0] > 60, "{written:?}");
    // The others stand where they were, to the rounding of the bits that are left; none passes the end.
    assert!(
        (i32::from(written[1]) - 10).abs() <= 1 && (i32::from(written[2]) + 100).abs() <= 1,
        "{written:?}"
    );
    assert_eq!(written[3], 127);
    // From one end to the other there is room.
    for step in 0..400 {
        held.step(&layer, &packed, (&[0, 0, -3_000, 3_000], 0), 2.0, 5_000 + step);
    }
    let written = held.written(&layer, &packed);
    // In steps of two.
    assert!(written[2] >= 126 && written[3] == -127, "{written:?} {:?}", held.bits);
    assert!(held.parameters().are_sound());
}

#[test]
fn no_gradient_moves_nothing() {
    let layer = layer(1, 8);
    let packed = [5i8; 8];
    let mut held = Held::new(1, 8);
    for step in 0..100 {
        held.step(&layer, &packed, (&[0; 8], 0), 2.2, step);
    }
    assert_eq!((held.deltas.as_slice(), held.biases[0]), (&[0i8; 8][..], 0));
    // An input of zeros: the bias has a gradient and the weights have none.
    held.step(&layer, &packed, (&[0; 8], 100), 2.2, 0);
    assert_eq!(held.deltas, [0; 8]);
    // Four rates, of 30 steps of the sums each, and 8 fractional bits.
    let expected = -4.0 * 2.2 * 30.0 * 256.0;
    assert!((f64::from(held.biases[0]) - expected).abs() <= 1.0, "{}", held.biases[0]);
}

#[test]
fn rates_fall_with_the_number_of_weights() {
    for taps in [1usize, 9, 64, 576] {
        let expected = 2.2 * (taps as f64).powf(-0.75);
        assert!((f64::from(rate(2.2, taps)) / expected - 1.0).abs() < 1e-5);
    }
}
