//! Both against their definitions, one value after the other.

use super::{add_rank_ones, avx, dense};
use crate::cpu::block::TOGETHER;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec;
use std::vec::Vec;

/// Values of every size, and those that are no numbers or have no size.
const SPECIAL: [f32; 8] =
    [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MIN_POSITIVE / 4.0, f32::MAX, -1e-30];

/// A special value every `rare` values.
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

/// Calls `each(inputs, outputs, samples, rarity of special values)`.
fn shapes(mut each: impl FnMut(usize, usize, usize, u32)) {
    if !avx::get() {
        return std::eprintln!("SKIPPED: no AVX here");
    }
    for inputs in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 130, 520, 1_030] {
        for outputs in [1, 2, 3, 4, 5, 6, 8, 9, 13] {
            for samples in 1..=TOGETHER {
                each(
                    inputs,
                    outputs,
                    samples,
                    if (inputs + outputs + samples) % 2 == 0 { 40 } else { u32::MAX },
                );
            }
        }
    }
}

#[test]
fn a_layer_has_the_bits_of_four_lanes() {
    let mut random = Pcg32::seed_from_u64(1);
    shapes(|inputs, outputs, samples, rare| {
        let w = values(&mut random, inputs * outputs, rare);
        let biases = values(&mut random, outputs, rare);
        let x: Vec<_> = (0..samples).map(|_| values(&mut random, inputs, rare)).collect();
        let mut z = vec![vec![7.0; outputs]; samples];
        let mut ends: Vec<_> = x.iter().zip(&mut z).map(|(x, z)| (&x[..], &mut z[..])).collect();
        assert_eq!(dense(&w, &biases, &mut ends), samples);
        for (x, z) in x.iter().zip(&z) {
            let expected: Vec<f32> = (w.chunks(inputs).zip(&biases))
                .map(|(row, bias)| {
                    let mut lanes = [0.0f32; 4];
                    for i in 0..inputs {
                        lanes[i % 4] += row[i] * x[i];
                    }
                    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]) + bias
                })
                .collect();
            assert_eq!(bits(z), bits(&expected), "{inputs} to {outputs}, {samples} samples");
        }
    });
}

#[test]
fn a_gradient_takes_one_sample_after_the_other() {
    let mut random = Pcg32::seed_from_u64(2);
    shapes(|inputs, outputs, samples, rare| {
        let mut d = values(&mut random, inputs * outputs, rare);
        let mut terms: Vec<_> = (0..samples)
            .map(|_| (values(&mut random, outputs, rare), values(&mut random, inputs, rare)))
            .collect();
        // As ReLU leaves them; -0 in the gradient tells whether they were added.
        terms.iter_mut().for_each(|(delta, _)| delta[outputs / 2] = 0.0);
        d[outputs / 2 * inputs] = -0.0;
        let mut expected = d.clone();
        for (delta, x) in &terms {
            for o in (0..outputs).filter(|&o| delta[o] != 0.0) {
                for i in 0..inputs {
                    expected[o * inputs + i] += (0.3 * delta[o]) * x[i];
                }
            }
        }
        let terms: Vec<_> = terms.iter().map(|(delta, x)| (&delta[..], &x[..])).collect();
        assert_eq!(add_rank_ones(&mut d, 0.3, &terms), samples);
        assert_eq!(bits(&d), bits(&expected), "{inputs} to {outputs}, {samples} samples");
    });
}

#[test]
fn what_does_not_fit_together_is_left_alone() {
    let (w, biases, x) = ([1.0; 12], [1.0; 3], [1.0; 5]);
    let (mut z, mut short) = ([7.0; 3], [7.0; 2]);
    for (w, x) in [(&w[..11], &x[..4]), (&w, &x), (&w, &x[..3]), (&[], &[])] {
        assert_eq!(dense(w, &biases, &mut [(x, &mut z)]), 0);
    }
    assert_eq!(dense(&w, &biases, &mut [(&x[..4], &mut z), (&x[..4], &mut short)]), 0);
    assert_eq!(dense(&w, &biases, &mut [(&x[..4], &mut z), (&x[..3], &mut short)]), 0);
    assert_eq!((z, short), ([7.0; 3], [7.0; 2]));
    let mut d = [7.0; 12];
    let terms = [(&biases[..], &x[..4]); TOGETHER + 1];
    for terms in [&terms[..], &[], &[terms[0], (&biases[..2], &x[..4])], &[terms[0], (&biases, &x[..3])]] {
        assert_eq!(add_rank_ones(&mut d, 1.0, terms), 0);
    }
    assert_eq!(add_rank_ones(&mut d[..11], 1.0, &terms[..1]), 0);
    assert_eq!(d, [7.0; 12]);
}
