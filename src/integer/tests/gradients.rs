//! Integer gradients against double precision: products, pools, moves, sums.

use super::layer;
use crate::integer::backward::{
    Deltas, SCALE_BITS, Share, channel_gradient, input_rows, input_rows_in_turns, shift_of, write_multipliers,
};
use crate::integer::gradient::Writer;
use crate::integer::layer_weights::{Ascent, LayerWeights};
use crate::integer::pointwise::{Windows, by_mean, by_resized, gather, move_back, product_at};
use crate::op::{ConvShape, Move, Shape, Window};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec::Vec;
use std::{format, vec};

pub(super) fn below(random: &mut Pcg32, limit: usize) -> usize {
    random.next_u32() as usize % limit
}

/// From -127 to 127; every third one 0 where `sparse`, as activations leave gradients.
fn bytes(random: &mut Pcg32, length: usize, sparse: bool) -> Vec<i8> {
    let value = |random: &mut Pcg32| (below(random, 255) as i32 - 127) as i8;
    (0..length).map(|i| if sparse && i % 3 == 0 { 0 } else { value(random) }).collect()
}

/// Some of so many channels, rising; none at times.
fn chosen(random: &mut Pcg32, channels: usize) -> Vec<u16> {
    (0..channels).filter(|_| below(random, 3) == 0).map(|channel| u16::try_from(channel).unwrap()).collect()
}

/// Windows of any stride, dilation and padding.
fn shape(random: &mut Pcg32, depthwise: bool) -> Option<ConvShape> {
    let channels = 1 + below(random, 9);
    let outputs = if depthwise { channels * (1 + below(random, 2)) } else { 1 + below(random, 9) };
    let extents = [1 + below(random, 6), 1 + below(random, 7)];
    let mut pair = |limit: usize| [1 + below(random, limit), 1 + below(random, limit)];
    let (filter, stride, dilation) = (pair(4), pair(3), pair(2));
    let padding = pair(4).map(|own| own - 1);
    let along = |axis: usize| {
        let reach = (filter[axis] - 1) * dilation[axis] + 1;
        (extents[axis] + 2 * padding[axis]).checked_sub(reach).map_or(1, |room| room / stride[axis] + 1)
    };
    let input = Shape { height: extents[0], width: extents[1], channels };
    let output = Shape { height: along(0), width: along(1), channels: outputs };
    ConvShape::new(input, output, Window { filter, stride, dilation, padding }).ok()
}

/// Calls `each(output element, input element, weight)` for every product of a convolution.
fn products(shape: &ConvShape, depthwise: bool, mut each: impl FnMut(usize, usize, usize)) {
    let (input, output, window) = (shape.input(), shape.output(), shape.window());
    let inside = |at: usize, tap: usize, axis: usize, extent: usize| {
        let place = at * window.stride[axis] + tap * window.dilation[axis];
        place.checked_sub(window.padding[axis]).filter(|&place| place < extent)
    };
    for r in 0..output.height {
        for c in 0..output.width {
            for o in 0..output.channels {
                for i in 0..window.filter[0] {
                    for j in 0..window.filter[1] {
                        let (Some(row), Some(column)) =
                            (inside(r, i, 0, input.height), inside(c, j, 1, input.width))
                        else {
                            continue;
                        };
                        let y = (r * output.width + c) * output.channels + o;
                        let x = (row * input.width + column) * input.channels;
                        let tap = i * window.filter[1] + j;
                        if depthwise {
                            let channel = o / (output.channels / input.channels);
                            each(y, x + channel, tap * output.channels + o);
                            continue;
                        }
                        for k in 0..input.channels {
                            let area = window.filter[0] * window.filter[1];
                            each(y, x + k, (o * area + tap) * input.channels + k);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn gradients_by_inputs_are_those_of_double_precision_to_their_formats() {
    let mut random = Pcg32::seed_from_u64(11);
    let (mut tested, mut added, mut shared) = (0, 0, 0);
    while tested < 400 {
        let depthwise = tested % 2 == 0;
        let Some(shape) = shape(&mut random, depthwise) else { continue };
        let (output, area) = (shape.output(), shape.window().filter.iter().product::<usize>());
        let each = if depthwise { area } else { area * shape.input().channels };
        let packed = bytes(&mut random, each * output.channels, false);
        // Some input channels have other weights than those in flash.
        let channels = chosen(&mut random, if depthwise { 0 } else { shape.input().channels });
        let own = bytes(&mut random, channels.len() * area * output.channels, false);
        let mut weights = packed.clone();
        for (at, &q) in own.iter().enumerate() {
            let (tap, channel) = (at / channels.len(), channels[at % channels.len()]);
            weights[tap * shape.input().channels + usize::from(channel)] = q;
        }
        let share = (!channels.is_empty()).then_some(Share { channels: &channels, weights: &own });
        let delta = bytes(&mut random, shape.output_length(), true);
        let scales: Vec<f32> =
            (0..output.channels).map(|_| 0.001 + below(&mut random, 1_000) as f32 * 1e-5).collect();
        let unit = 10f32.powi(below(&mut random, 12) as i32 - 8);
        // What another branch left, much larger or smaller perhaps.
        let before = below(&mut random, 2) == 1;
        let other = unit * 10f32.powi(below(&mut random, 5) as i32 - 2);
        let start = bytes(&mut random, shape.input_length(), false);

        let mut multipliers = vec![0; output.channels];
        let largest = write_multipliers(&scales, &mut multipliers);
        let terms = if depthwise { area * 2 } else { area * output.channels };
        let shift = shift_of(terms);
        let step = unit * largest * (1u32 << shift) as f32 / (1u32 << SCALE_BITS) as f32;
        let mut found = start.clone();
        let mut writer = Writer::new(&mut found, step, 31, before.then_some(other * largest));
        let of = Deltas { delta: &delta, multipliers: &multipliers, shift };
        let mut sums = vec![0; shape.input().channels + channels.len()];
        shared += usize::from(share.is_some());
        input_rows(&shape, depthwise, (&packed, share), &of, &mut sums, &mut writer).unwrap();
        let unit_found = writer.finish();
        let found_unit = f64::from(unit_found);
        if !depthwise {
            // With weights made for one output channel, or for some, at a time nothing is another bit.
            let layer = layer(output.channels, each);
            let (deltas, zeros) = (vec![0; weights.len()], vec![0; output.channels]);
            let own = LayerWeights {
                layer: &layer,
                inputs: &[],
                packed: &weights,
                packed_biases: &zeros,
                deltas: &deltas,
                bits: &vec![7; output.channels],
                biases: &zeros,
                ascent: Ascent::NONE,
                ratios: &[],
            };
            let mut in_turns = start.clone();
            let mut writer = Writer::new(&mut in_turns, step, 31, before.then_some(other * largest));
            let mut room = vec![0; each * (1 + below(&mut random, 3))];
            let mut sums = vec![-1; shape.input_length()];
            input_rows_in_turns(&shape, &own, &of, (&mut room, &mut sums), &mut writer).unwrap();
            assert_eq!((writer.finish(), in_turns), (unit_found, found.clone()), "{shape:?}");
        }

        let old = if before { f64::from(other * largest) } else { 0.0 };
        let mut expected: Vec<f64> = start.iter().map(|&g| f64::from(g) * old).collect();
        // A product of gradient and scale is off by half a step and by the scale's rounding.
        let mut slack = vec![0.0; expected.len()];
        products(&shape, depthwise, |y, x, w| {
            let (g, w) = (f64::from(delta[y]), f64::from(weights[w]));
            expected[x] += g * f64::from(scales[y % output.channels]) * w * f64::from(unit);
            let rounded = 0.5 + g.abs() * 0.5 / f64::from(1u32 << shift);
            slack[x] += if g == 0.0 { 0.0 } else { rounded * w.abs() * f64::from(step) };
        });
        let size = expected.iter().fold(0.0f64, |most, g| most.max(g.abs()));
        for ((&g, &exact), &slack) in found.iter().zip(&expected).zip(&slack) {
            let off = (f64::from(g) * found_unit - exact).abs();
            // One step of the tensor, and f32's rounding of its unit.
            assert!(off <= slack + found_unit + 1e-5 * size, "{g} * {found_unit:e} for {exact:e}: {shape:?}");
        }
        // The bound proves nothing where the unit is larger than it has to be.
        let most = found.iter().map(|g| g.unsigned_abs()).max().unwrap_or(0);
        let exact = size / found_unit;
        assert!(
            most >= 60 || exact < 127.0 && found_unit <= f64::from(step) * 1.001 || before,
            "{most} {exact}"
        );
        (tested, added) = (tested + 1, added + usize::from(before));
    }
    assert!(added > 100 && shared > 100);
}

#[test]
fn gradients_by_weights_are_exact() {
    let mut random = Pcg32::seed_from_u64(12);
    let mut tested = 0;
    while tested < 400 {
        let depthwise = tested % 2 == 0;
        let Some(shape) = shape(&mut random, depthwise) else { continue };
        let (output, area) = (shape.output(), shape.window().filter.iter().product::<usize>());
        let each = if depthwise { area } else { area * shape.input().channels };
        let x = bytes(&mut random, shape.input_length(), false);
        let delta = bytes(&mut random, shape.output_length(), true);
        let zero_point = below(&mut random, 256) as i32 - 128;
        let mut expected = vec![0i64; each * output.channels];
        products(&shape, depthwise, |y, at, w| {
            expected[w] += i64::from(delta[y]) * (i64::from(x[at]) - i64::from(zero_point));
        });
        for o in 0..output.channels {
            let mut sums = vec![0; each];
            let bias = channel_gradient(
                &shape,
                depthwise.then(|| o / (output.channels / shape.input().channels)),
                o,
                (&delta, output.channels),
                (&x, zero_point),
                &mut sums,
            );
            let own = delta.iter().skip(o).step_by(output.channels).map(|&g| i32::from(g));
            assert_eq!(bias, own.sum::<i32>());
            for (k, &sum) in sums.iter().enumerate() {
                let at = if depthwise { k * output.channels + o } else { o * each + k };
                assert_eq!(i64::from(sum), expected[at], "{shape:?} {o} {k}");
            }
        }
        // A share of the input channels, of which alone the input is kept.
        let input = shape.input().channels;
        let channels = chosen(&mut random, input);
        let pixels = x.chunks_exact(input);
        let kept: Vec<i8> = pixels.flat_map(|x| channels.iter().map(|&c| x[usize::from(c)])).collect();
        let narrow = shape.of_inputs(channels.len());
        let multiplier = output.channels / input;
        for o in 0..output.channels {
            let place = channels.iter().position(|&channel| usize::from(channel) == o / multiplier.max(1));
            let length = match (depthwise, place) {
                (true, Some(_)) => area,
                (true, None) => 0,
                _ => area * channels.len(),
            };
            let mut sums = vec![0; length];
            let own = (&kept[..], zero_point);
            let channel = depthwise.then_some(place.unwrap_or(0));
            let bias = channel_gradient(&narrow, channel, o, (&delta, output.channels), own, &mut sums);
            let gradients = delta.iter().skip(o).step_by(output.channels).map(|&g| i32::from(g));
            assert_eq!(bias, gradients.sum::<i32>());
            for (k, &sum) in sums.iter().enumerate() {
                let at = match depthwise {
                    true => k * output.channels + o,
                    false => {
                        o * each + k / channels.len() * input + usize::from(channels[k % channels.len()])
                    }
                };
                assert_eq!(i64::from(sum), expected[at], "{narrow:?} {o} {k}");
            }
        }
        tested += 1;
    }
}

/// Whether every element is what it should be, to one step of the tensor, `slack` of its own and f32's rounding of units.
fn assert_near(found: &[i8], unit: f32, expected: &[f64], slack: &[f64], what: &str) {
    let unit = f64::from(unit);
    let size = expected.iter().fold(0.0f64, |most, g| most.max(g.abs()));
    for ((&g, &exact), &slack) in found.iter().zip(expected).zip(slack) {
        let off = (f64::from(g) * unit - exact).abs();
        assert!(off <= unit + slack + 1e-5 * size, "{what}: {g} * {unit:e} for {exact:e}");
    }
    // The bound proves nothing where the unit is larger than it has to be.
    assert!(size == 0.0 || size / unit > 30.0 || found.iter().any(|&g| g != 0), "{what}: {size} in {unit}");
}

/// A gradient that another branch left, or none, and the reference that it begins.
fn before(random: &mut Pcg32, length: usize, unit: f32) -> (Vec<i8>, Option<f32>, Vec<f64>) {
    let start = bytes(random, length, false);
    let other = unit * 10f32.powi(below(random, 5) as i32 - 2);
    let added = (below(random, 2) == 1).then_some(other);
    let expected =
        start.iter().map(|&g| added.map_or(0.0, |other| f64::from(g) * f64::from(other))).collect();
    (start, added, expected)
}

fn unit(random: &mut Pcg32) -> f32 {
    (1.0 + below(random, 100) as f32 / 100.0) * 10f32.powi(below(random, 10) as i32 - 8)
}

#[test]
fn gradients_through_pools_are_those_of_double_precision_to_their_formats() {
    let mut random = Pcg32::seed_from_u64(21);
    let mut tested = 0;
    while tested < 400 {
        let Some(shape) =
            shape(&mut random, true).filter(|own| own.output().channels == own.input().channels)
        else {
            continue;
        };
        let (input, output, window) = (shape.input(), shape.output(), shape.window());
        let area = window.filter[0] * window.filter[1];
        let windows = Windows { rows: shape.rows(), columns: shape.columns(), channels: input.channels };
        let x = bytes(&mut random, shape.input_length(), false);
        let delta = bytes(&mut random, shape.output_length(), true);
        let step = unit(&mut random);
        // Taps inside of each output's window, in their order.
        let mut taps = vec![Vec::new(); delta.len()];
        products(&shape, true, |y, at, _| taps[y].push(at));
        for largest in [false, true] {
            let (mut found, added, mut expected) = before(&mut random, x.len(), step);
            let mut slack = vec![0.0; x.len()];
            for (own, &g) in taps.iter().zip(&delta) {
                let g = f64::from(g) * f64::from(step);
                if largest {
                    // The first among equals.
                    let first = own.iter().copied().reduce(|a, b| if x[b] > x[a] { b } else { a });
                    first.into_iter().for_each(|at| expected[at] += g);
                    continue;
                }
                for &at in own {
                    expected[at] += g / own.len() as f64;
                    // A share is rounded down to a step of 2^-12, of all of the window's taps.
                    slack[at] += g.abs() / 4096.0 / area as f64;
                }
            }
            let (of, steps): (&dyn Fn(usize) -> i32, _) = if largest {
                (&|index| windows.by_largest(&x, &delta, index), (step, 24))
            } else {
                (&|index| windows.by_average(&delta, index), (windows.unit_of_shares(step), 30))
            };
            let mut room = vec![0; 1 + below(&mut random, 40)];
            let found_unit = gather((&mut found, &mut room), steps, added, of);
            assert_near(&found, found_unit, &expected, &slack, &format!("{largest} {window:?} {output:?}"));
        }
        tested += 1;
    }
}

/// `[n, h, w, c]` of each element, in their order.
fn places([n, h, w, c]: [usize; 4]) -> Vec<[usize; 4]> {
    let pixels = (0..n).flat_map(|i| (0..h).flat_map(move |j| (0..w).map(move |k| [i, j, k])));
    pixels.flat_map(|[i, j, k]| (0..c).map(move |l| [i, j, k, l])).collect()
}

#[test]
fn gradients_through_means_and_resizes_are_those_of_double_precision_to_their_formats() {
    let mut random = Pcg32::seed_from_u64(22);
    for case in 0..400 {
        let extents = [1, 1 + below(&mut random, 5), 1 + below(&mut random, 5), 1 + below(&mut random, 6)];
        let length = extents.iter().product();
        let step = unit(&mut random);
        let (mut found, added, mut expected) = before(&mut random, length, step);
        let mut room = vec![0; 1 + below(&mut random, 40)];
        let found_unit = if case % 2 == 0 {
            let axes =
                [false, below(&mut random, 2) == 1, below(&mut random, 2) == 1, below(&mut random, 2) == 1];
            let kept: [usize; 4] = std::array::from_fn(|axis| if axes[axis] { 1 } else { extents[axis] });
            let count = length / kept.iter().product::<usize>();
            let delta = bytes(&mut random, kept.iter().product(), true);
            let outputs = places(kept);
            for (expected, place) in expected.iter_mut().zip(places(extents)) {
                let own: [usize; 4] = std::array::from_fn(|axis| if axes[axis] { 0 } else { place[axis] });
                let at = outputs.iter().position(|output| *output == own).unwrap();
                *expected += f64::from(delta[at]) * f64::from(step) / count as f64;
            }
            let steps = (step / count as f32, 7);
            gather((&mut found, &mut room), steps, added, |index| by_mean(&delta, extents, axes, index))
        } else {
            let mut lines = |extent: usize| -> Vec<i32> {
                let count = 1 + below(&mut random, 9);
                (0..count).map(|_| below(&mut random, extent) as i32).collect()
            };
            let (rows, columns) = (lines(extents[1]), lines(extents[2]));
            let delta = bytes(&mut random, rows.len() * columns.len() * extents[3], true);
            for (place, &g) in places([1, rows.len(), columns.len(), extents[3]]).iter().zip(&delta) {
                let (row, column) = (rows[place[1]] as usize, columns[place[2]] as usize);
                let at = (row * extents[2] + column) * extents[3] + place[3];
                expected[at] += f64::from(g) * f64::from(step);
            }
            gather((&mut found, &mut room), (step, 24), added, |index| {
                by_resized(&delta, extents, [&rows, &columns], index)
            })
        };
        assert_near(&found, found_unit, &expected, &vec![0.0; length], &format!("{case} {extents:?}"));
    }
}

/// Pads, slices, concatenations, transpositions, reversals, and tiles, which read elements more than once.
#[test]
fn gradients_through_moves_are_those_of_double_precision_to_their_formats() {
    let mut random = Pcg32::seed_from_u64(23);
    let mut repeated = 0;
    for case in 0..400 {
        let extents: [usize; 4] = std::array::from_fn(|_| 1 + below(&mut random, 4));
        // The output's axes in any order with gaps; the input's may go backward, step wide or stand.
        let (mut to_strides, mut from_strides) = ([0isize; 4], [0isize; 4]);
        let (mut to_length, mut from_length) = (1, 1);
        let (mut from, to) = (0, below(&mut random, 3));
        let mut axes = [0, 1, 2, 3];
        for i in (1..4).rev() {
            axes.swap(i, below(&mut random, i + 1));
        }
        let stands = case % 3 == 0;
        for axis in axes {
            to_strides[axis] = to_length as isize;
            to_length *= extents[axis] + below(&mut random, 2);
        }
        axes.rotate_left(below(&mut random, 4));
        for axis in axes {
            if stands && below(&mut random, 2) == 0 {
                continue;
            }
            let stride = from_length * (1 + below(&mut random, 2));
            let back = below(&mut random, 2) == 1;
            from_strides[axis] = if back { -(stride as isize) } else { stride as isize };
            from += if back { stride * (extents[axis] - 1) } else { 0 };
            from_length = stride * extents[axis];
        }
        repeated += usize::from((0..4).any(|axis| from_strides[axis] == 0 && extents[axis] > 1));
        let movement = Move { extents, from, from_strides, to, to_strides };
        let (input, output) = (from_length + below(&mut random, 5), to + to_length + below(&mut random, 5));
        assert!(movement.fits(input, output));
        let delta = bytes(&mut random, output, true);
        let step = unit(&mut random);
        let (mut found, added, mut expected) = before(&mut random, input, step);
        for place in places(extents) {
            let at = |first: usize, strides: [isize; 4]| {
                let steps = place.iter().zip(strides).map(|(&own, stride)| own as isize * stride);
                (first as isize + steps.sum::<isize>()) as usize
            };
            expected[at(from, from_strides)] += f64::from(delta[at(to, to_strides)]) * f64::from(step);
        }
        let mut room = vec![0; 1 + below(&mut random, 40)];
        let found_unit = move_back(&movement, (&delta, step), (&mut found, &mut room), added);
        assert_near(&found, found_unit, &expected, &vec![0.0; input], &format!("{movement:?}"));
    }
    assert!(repeated > 50, "{repeated}");
}

/// ADD, SUB and MUL, of operands as large as the output, or of constants that are repeated.
#[test]
fn gradients_through_sums_and_products_are_those_of_double_precision_to_their_formats() {
    let mut random = Pcg32::seed_from_u64(24);
    for case in 0..600 {
        let extents: [usize; 4] =
            std::array::from_fn(|axis| if axis == 0 { 1 } else { 1 + below(&mut random, 5) });
        let length = extents.iter().product();
        let delta = bytes(&mut random, length, true);
        let [own, other, output] = [(); 3].map(|()| 0.001 + below(&mut random, 1_000) as f32 * 1e-4);
        let step = unit(&mut random);
        let by_output = step / output;
        let (mut found, added, mut expected) = before(&mut random, length, step);
        let mut room = vec![0; 1 + below(&mut random, 40)];
        let real = |g: i8| f64::from(g) * f64::from(step) / f64::from(output) * f64::from(own);
        let found_unit = if case % 3 < 2 {
            let sign = if case % 3 == 0 { 1 } else { -1 };
            expected.iter_mut().zip(&delta).for_each(|(to, &g)| *to += real(g) * f64::from(sign));
            let of = |index: usize| sign * i32::from(delta[index]);
            gather((&mut found, &mut room), (by_output * own, 7), added, of)
        } else {
            // One row of channels, one number, or all.
            let repeated = [extents, [1, 1, 1, extents[3]], [1; 4]][below(&mut random, 3)];
            let elements = bytes(&mut random, repeated.iter().product(), false);
            let zero_point = below(&mut random, 256) as i32 - 128;
            for ((to, &g), place) in expected.iter_mut().zip(&delta).zip(places(extents)) {
                let clipped: [usize; 4] = std::array::from_fn(|axis| place[axis].min(repeated[axis] - 1));
                let at = places(repeated).iter().position(|own| *own == clipped).unwrap();
                *to += real(g) * f64::from(other) * f64::from(i32::from(elements[at]) - zero_point);
            }
            let of = |index: usize| product_at(&delta, (&elements, repeated, zero_point), extents, index);
            gather((&mut found, &mut room), (by_output * own * other, 16), added, of)
        };
        assert_near(&found, found_unit, &expected, &vec![0.0; length], &format!("{case} {extents:?}"));
    }
}

#[test]
fn a_unit_grows_with_what_is_written() {
    let mut to = [0i8; 6];
    let mut writer = Writer::new(&mut to, 0.5, 31, None);
    writer.push(&mut [3, -100]);
    writer.push(&mut [1_000, -1_016]);
    // 1_016 / 8 is 127; what was there is three bits shorter, to nearest.
    writer.push(&mut [4, 0]);
    assert_eq!(writer.finish(), 4.0);
    assert_eq!(to, [0, -12, 125, -127, 1, 0]);
    // The extremes of 32 bits.
    let mut writer = Writer::new(&mut to, 1.0, 31, None);
    writer.push(&mut [i32::MAX, i32::MIN, 0, 0, 0, 0]);
    let unit = f64::from(writer.finish());
    assert!((f64::from(to[0]) * unit / f64::from(i32::MAX) - 1.0).abs() < 0.02);
    assert!((f64::from(to[1]) * unit / f64::from(i32::MIN) - 1.0).abs() < 0.02);
    // Zeros that are added to, and zeros that are added.
    let mut to = [0i8; 2];
    let mut writer = Writer::new(&mut to, 1e-6, 31, Some(1e6));
    writer.push(&mut [64, -3]);
    assert_eq!((writer.finish(), to), (1e-6, [64, -3]));
    // A branch with a much larger unit, but no gradient.
    let mut writer = Writer::new(&mut to, 10.0, 7, Some(1e-4));
    writer.push(&mut [0, 0]);
    let unit = writer.finish();
    assert!((f64::from(to[0]) * f64::from(unit) / 64e-4 - 1.0).abs() < 0.01, "{to:?} {unit}");
}
