//! Against the portable loops, which LiteRT's outputs are compared with.

use super::{Column, Filters, Scratch, Taps, accumulate, accumulate_two, depthwise};
use crate::cpu::{int8::ColumnShape, portable};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec;
use std::vec::Vec;

fn values(random: &mut Pcg32, length: usize) -> Vec<i8> {
    (0..length).map(|_| random.next_u32() as i8).collect()
}

#[test]
fn rows_and_columns_equal_the_portable_sums() {
    let random = &mut Pcg32::seed_from_u64(3);
    for outputs in [1, 2, 3, 4, 5, 8, 9, 13, 17] {
        for (rows, row_length, row_stride) in [(1, 1, 1), (1, 7, 7), (3, 5, 11), (2, 16, 20), (3, 48, 50)] {
            for (offset, from) in [(0, 0), (-77, 0), (128, 3)] {
                let length = rows * row_length;
                let weights = values(random, outputs * (length + from));
                let start: Vec<i32> = (0..outputs).map(|_| random.next_u32() as i32).collect();
                let filters = Filters::new(&weights, length + from, &start, offset).expect("as many weights");
                let shape = ColumnShape::new(rows, row_length, row_stride);
                let x = [values(random, rows * row_stride), values(random, rows * row_stride)];
                let columns: Vec<Column> = x.iter().map(|x| shape.of(x).expect("long enough")).collect();
                let begun: Vec<i32> = (0..outputs).map(|_| random.next_u32() as i32).collect();
                let mut expected = [begun.clone(), begun.clone()];
                for (column, sums) in columns.iter().zip(&mut expected) {
                    portable::accumulate(&mut Scratch, &filters, *column, from, sums);
                }
                let mut one = begun.clone();
                accumulate(&mut Scratch, &filters, columns[0], from, &mut one);
                assert_eq!(one, expected[0], "{outputs} of {rows}x{row_length}");
                let mut two = [begun.clone(), begun];
                let [a, b] = &mut two;
                accumulate_two(&mut Scratch, &filters, [columns[0], columns[1]], from, [a, b]);
                assert_eq!(two, expected, "{outputs} of {rows}x{row_length}");
            }
        }
    }
}

#[test]
fn channels_equal_the_portable_sums() {
    let random = &mut Pcg32::seed_from_u64(4);
    for channels in [1, 3, 4, 7, 8, 9, 16, 21] {
        for (rows, columns) in [(1, 1), (3, 3), (2, 3), (5, 1)] {
            let (line, width) = (columns * channels + 6, columns * channels);
            let (input, weights) = (values(random, rows * line), values(random, rows * width));
            let taps = Taps {
                input: &input,
                weights: &weights,
                rows,
                columns,
                row_stride: [line, width],
                column_stride: [channels; 2],
            };
            let start: Vec<i32> = (0..channels).map(|_| random.next_u32() as i32).collect();
            let (mut expected, mut found) = (vec![0; channels], vec![0; channels]);
            portable::depthwise(taps, -3, &start, &mut expected);
            assert_eq!(depthwise(taps, -3, &start, &mut found), channels);
            assert_eq!(found, expected, "{channels} channels, {rows}x{columns}");
        }
    }
}
