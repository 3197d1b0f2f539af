//! Whole int8 layers with AVX2 against the portable loops, over generated shapes.

use super::portable;
use crate::kernels::{Requantization, Scales, conv2d, depthwise_conv2d, fully_connected};
use crate::op::{Shape, Window};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec;
use std::vec::Vec;

/// Any values, the ends often.
fn values(random: &mut Pcg32, length: usize) -> Vec<i8> {
    let value = |random: &mut Pcg32| match random.next_u32() % 4 {
        0 => -128,
        1 => 127,
        _ => random.next_u32() as i8,
    };
    (0..length).map(|_| value(random)).collect()
}

/// Biases, mantissas and shifts; a few shifts are to the left.
fn multipliers(random: &mut Pcg32, outputs: usize) -> [Vec<i32>; 3] {
    let any = |random: &mut Pcg32, of: fn(u32) -> i32| (0..outputs).map(|_| of(random.next_u32())).collect();
    [
        any(random, |bits| bits.cast_signed() >> 12),
        any(random, |bits| (bits >> 2 | 1 << 30).cast_signed()),
        any(random, |bits| if bits.is_multiple_of(40) { 1 } else { -((bits % 16).cast_signed()) }),
    ]
}

fn assert_same(what: &str, length: usize, run: impl Fn(&mut [i8])) {
    let (mut found, mut expected) = (vec![0; length], vec![0; length]);
    run(&mut found);
    portable::only(|| run(&mut expected));
    assert_eq!(found, expected, "{what}");
}

#[test]
fn integer_layers_keep_their_bytes() {
    let mut random = Pcg32::seed_from_u64(6);
    for round in 0..800 {
        let mut below = |limit: u32| (random.next_u32() % limit) as usize;
        let sizes = [1, 3, 4, 8, 15, 16, 17, 24, 32, 33, 64, 70];
        let (inputs, outputs) = (sizes[below(12)], sizes[below(12)]);
        let input = Shape { height: 1 + below(6), width: 1 + below(6), channels: inputs };
        let filter = [1 + below(4), 1 + below(4)];
        let window = Window {
            filter,
            stride: [1 + below(2), 1 + below(2)],
            dilation: [1 + below(2), 1 + below(2)],
            padding: [below(filter[0] as u32), below(filter[1] as u32)],
        };
        let output = Shape { height: 1 + below(6), width: 1 + below(6), channels: outputs };
        let [input_zero_point, output_zero_point] = [0, 1].map(|_| below(256) as i32 - 128);
        let clamp = if round % 2 == 0 { [-128, 127] } else { [-100, 90] };
        let [biases, mantissas, shifts] = multipliers(&mut random, inputs.max(outputs));
        let requantization = Requantization {
            input_zero_point,
            output_zero_point,
            biases: &biases,
            mantissas: &mantissas,
            shifts: &shifts,
            clamp,
        };
        let x = values(&mut random, input.height * input.width * inputs);
        let w = values(&mut random, filter[0] * filter[1] * inputs * outputs);
        let what = std::format!("{input:?} {window:?} {output:?}");
        let pixels = output.height * output.width;
        assert_same(&what, pixels * outputs, |y| {
            conv2d(&x, input, &window, &w, &requantization.outputs(0, outputs), y, output);
        });
        let own = Shape { channels: inputs, ..output };
        assert_same(&what, pixels * inputs, |y| {
            depthwise_conv2d(&x, input, &window, 1, &w, &requantization.outputs(0, inputs), y, own);
        });
        let rows = w.get(..x.len() * (w.len() / x.len())).unwrap_or(&[]);
        let count = (rows.len() / x.len()).min(outputs);
        let scales = Scales { input: 0.1, weights: &[0.02], output: 0.3 };
        assert_same(&what, count, |y| {
            fully_connected(&x, &rows[..count * x.len()], &requantization.outputs(0, count), &scales, y);
        });
    }
}
