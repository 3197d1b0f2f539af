//! Every pass with AVX against the portable loops, bit by bit, over generated shapes.

use super::{Sink, conv2d, depthwise};
use crate::cpu::x86_64::portable;
use crate::op::ConvShape;
use crate::op::{Shape, Window};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec;
use std::vec::Vec;

/// Values that are no numbers, have no size, or whose sums overflow.
const SPECIAL: [f32; 8] =
    [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE / 4.0, f32::MAX, -1e-30];

fn values(random: &mut Pcg32, length: usize, rare: u32) -> Vec<f32> {
    let value = |random: &mut Pcg32| match random.next_u32() % rare {
        0 => SPECIAL[random.next_u32() as usize % SPECIAL.len()],
        _ => random.next_u32() as f32 / u32::MAX as f32 - 0.5,
    };
    (0..length).map(|_| value(random)).collect()
}

/// Bits, but for the many that stand for no number.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// Asserts that `pass` leaves the same bits in `start` with AVX and without.
fn assert_same(what: &str, shape: &ConvShape, start: &[f32], pass: impl Fn(&mut [f32])) {
    let (mut found, mut expected) = (start.to_vec(), start.to_vec());
    pass(&mut found);
    portable::only(|| pass(&mut expected));
    assert_eq!(bits(&found), bits(&expected), "{what}: {shape:?}");
}

/// Any of the extents, as large as windows and blocks differ.
fn shape(random: &mut Pcg32, pointwise: bool, depthwise: bool) -> Option<ConvShape> {
    let mut below = |limit: u32| (random.next_u32() % limit) as usize;
    let channels = [1, 2, 3, 5, 6, 7, 8, 9, 12, 16, 17, 24, 31, 33, 40, 67];
    let inputs = channels[below(channels.len() as u32)];
    let outputs = if depthwise { inputs * if below(5) == 0 { 2 } else { 1 } } else { channels[below(16)] };
    let input = Shape { height: 1 + below(7), width: 1 + below(9), channels: inputs };
    let one = Window { filter: [1; 2], stride: [1; 2], dilation: [1; 2], padding: [0; 2] };
    if pointwise {
        return ConvShape::new(input, Shape { channels: outputs, ..input }, one).ok();
    }
    let mut pair = |limit: u32| [1 + below(limit), 1 + below(limit)];
    let (filter, stride, dilation) = (pair(5), pair(3), pair(2));
    let [top, left] = pair(5);
    let padding = [top - 1, left - 1];
    let extents = [input.height, input.width];
    let along = |axis: usize| {
        let reach = (filter[axis] - 1) * dilation[axis];
        (extents[axis] + 2 * padding[axis]).checked_sub(reach + 1).map_or(1, |room| room / stride[axis] + 1)
    };
    let output = Shape { height: along(0), width: along(1), channels: outputs };
    ConvShape::new(input, output, Window { filter, stride, dilation, padding }).ok()
}

type Forward = fn(&ConvShape, &[f32], &[f32], &[f32], &mut [f32]);
type Weights = fn(&ConvShape, f32, &[f32], &[f32], &mut [f32]);
type Input = fn(&ConvShape, &[f32], &[f32], Sink, &mut [f32]);

fn check(
    random: &mut Pcg32,
    shape: &ConvShape,
    weights: usize,
    (forward, of_weights, of_input): (Forward, Weights, Input),
) {
    let rare = if random.next_u32().is_multiple_of(2) { 20 } else { u32::MAX };
    let outputs = shape.output().channels;
    let w = values(random, weights, rare);
    let x = values(random, shape.input_length(), rare);
    let mut delta = values(random, shape.output_length(), rare);
    // As ReLU leaves them.
    delta.iter_mut().step_by(3).for_each(|delta| *delta = 0.0);
    let biases = values(random, outputs, rare);
    for biases in [&biases[..], &[]] {
        let start = vec![7.0; shape.output_length()];
        assert_same("forward", shape, &start, |y| forward(shape, &w, biases, &x, y));
    }
    let mut start = values(random, weights, rare);
    start[weights / 2] = -0.0;
    assert_same("weights", shape, &start, |d| of_weights(shape, 0.3, &x, &delta, d));
    let start = values(random, outputs, rare);
    assert_same("biases", shape, &start, |d| conv2d::backward_biases(shape, 0.3, &delta, d));
    for sink in [Sink::Overwrite, Sink::Add] {
        let start = values(random, shape.input_length(), rare);
        assert_same("input", shape, &start, |d| of_input(shape, &w, &delta, sink, d));
    }
    // What is too short panics in neither.
    for short in [1, x.len() / 2, x.len()] {
        let (x, start) = (&x[..x.len() - short], vec![0.0; shape.output_length()]);
        assert_same("too short", shape, &start, |y| forward(shape, &w, &biases, x, y));
    }
}

const CONV: (Forward, Weights, Input) =
    (conv2d::forward::<f32>, conv2d::backward_weights, conv2d::backward_input::<f32>);
const DEPTHWISE: (Forward, Weights, Input) =
    (depthwise::forward::<f32>, depthwise::backward_weights, depthwise::backward_input::<f32>);

#[test]
fn convolutions_keep_their_bits() {
    let mut random = Pcg32::seed_from_u64(3);
    for _ in 0..1_500 {
        let Some(shape) = shape(&mut random, false, false) else { continue };
        check(&mut random, &shape, conv2d::weights(&shape), CONV);
    }
}

#[test]
fn pointwise_layers_keep_their_bits() {
    let mut random = Pcg32::seed_from_u64(4);
    for _ in 0..1_500 {
        let Some(shape) = shape(&mut random, true, false) else { continue };
        check(&mut random, &shape, conv2d::weights(&shape), CONV);
    }
}

#[test]
fn depthwise_layers_keep_their_bits() {
    let mut random = Pcg32::seed_from_u64(5);
    for _ in 0..1_500 {
        let Some(shape) = shape(&mut random, false, true) else { continue };
        check(&mut random, &shape, depthwise::weights(&shape), DEPTHWISE);
    }
}
