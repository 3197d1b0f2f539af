//! The kernels against the formula, in wide integers, without blocks, folding or gathering: generated layers with
//! every stride, dilation, padding, zero point and clamp.

use flatmin_bench::{CASES, Case, Layer};

/// gemmlowp's two roundings, as TensorFlow Lite's specification has them for convolutions.
fn twice_rounded(x: i32, mantissa: i32, shift: i32) -> i64 {
    // The left shift wraps in 32 bits.
    let shifted = x.wrapping_shl(shift.max(0) as u32);
    let product = i64::from(shifted) * i64::from(mantissa);
    // To nearest, ties up: gemmlowp nudges by 2^30 or 1 - 2^30 and truncates.
    let nudged = product + if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    let high = nudged / (1 << 31);
    half_away(i128::from(high), (-shift).max(0) as u32)
}

/// `x / 2^bits` to nearest, ties away from zero.
fn half_away(x: i128, bits: u32) -> i64 {
    let magnitude = (x.abs() + ((1 << bits) >> 1)) >> bits;
    i64::try_from(if x < 0 { -magnitude } else { magnitude }).unwrap()
}

/// Every output by the definition.
fn reference(case: &Case) -> Vec<i8> {
    let (from, to, window) = (case.input_shape, case.output_shape, case.window);
    let requantization = case.requantization();
    let (input, weights) = (case.input(), case.weights());
    let mut outputs = Vec::new();
    for row in 0..to.height {
        for column in 0..to.width {
            for o in 0..to.channels {
                let mut sum = i64::from(requantization.biases[o]);
                for i in 0..window.filter[0] {
                    for j in 0..window.filter[1] {
                        let place = |axis: usize, output: usize, tap: usize| {
                            (output * window.stride[axis] + tap * window.dilation[axis])
                                .checked_sub(window.padding[axis])
                        };
                        let (Some(y), Some(x)) = (place(0, row, i), place(1, column, j)) else { continue };
                        if y >= from.height || x >= from.width {
                            continue;
                        }
                        let tap = i * window.filter[1] + j;
                        let mut add = |channel: usize, weight: usize| {
                            let value = input[(y * from.width + x) * from.channels + channel];
                            let offset = i64::from(value) - i64::from(case.input_zero_point);
                            sum += offset * i64::from(weights[weight]);
                        };
                        match case.layer {
                            Layer::Depthwise(multiplier) => add(o / multiplier, tap * to.channels + o),
                            _ => (0..from.channels).for_each(|c| {
                                let taps = window.filter[0] * window.filter[1];
                                add(c, (o * taps + tap) * from.channels + c);
                            }),
                        }
                    }
                }
                // Accumulators have 32 bits and wrap.
                let sum = sum as i32;
                let (mantissa, shift) = (requantization.mantissas[o], requantization.shifts[o]);
                let scaled = match case.layer {
                    Layer::Dense =>
                    // In double precision, rounded half away from zero, as LiteRT's reference kernel.
                    {
                        i64::from((f64::from(sum) * f64::from(case.scales().weights[o])).round() as i32)
                    }
                    _ => twice_rounded(sum, mantissa, shift),
                };
                let [low, high] = case.clamp.map(i64::from);
                outputs.push((scaled + i64::from(case.output_zero_point)).clamp(low, high) as i8);
            }
        }
    }
    outputs
}

#[test]
fn generated_layers_equal_the_formula() {
    // More than the boards run.
    for index in 0..4 * CASES {
        let case = Case::new(index);
        let expected = reference(&case);
        case.run(|output| {
            let (layer, shape, window) = (case.layer, case.input_shape, case.window);
            assert_eq!(output, expected, "case {index}: {layer:?} {shape:?} {window:?}");
        });
    }
}

/// The generator reaches what is hard, on the boards too.
#[test]
fn generated_layers_cover_the_hard_ones() {
    let cases: Vec<Case> = (0..CASES).map(Case::new).collect();
    let products = |c: &Case| c.window.filter.iter().product::<usize>() * c.input_shape.channels;
    let some = |what: &str, condition: &dyn Fn(&Case) -> bool| {
        let count = cases.iter().filter(|c| condition(c)).count();
        assert!(count >= 5, "{what}: {count}");
    };
    let conv = |c: &Case| c.layer == Layer::Conv;
    some("gathered in pieces", &|c| conv(c) && products(c) > 256);
    some("blocks of outputs", &|c| conv(c) && c.output_shape.channels > 64);
    some("odd outputs", &|c| conv(c) && c.output_shape.channels % 2 == 1);
    some("one pixel", &|c| conv(c) && c.output_shape.height * c.output_shape.width == 1);
    some("odd products", &|c| conv(c) && products(c) % 4 != 0);
    some("padded", &|c| conv(c) && c.window.padding != [0, 0]);
    some("dilated", &|c| conv(c) && c.window.dilation[1] > 1 && c.window.filter[1] > 1);
    some("pointwise", &|c| conv(c) && c.window.filter == [1, 1]);
    some("whole vectors", &|c| conv(c) && c.window.filter[0] > 1 && c.input_shape.channels % 16 == 0);
    some("blocks of channels", &|c| c.layer == Layer::Depthwise(1) && c.input_shape.channels > 16);
    some("three taps a row", &|c| c.layer == Layer::Depthwise(1) && c.window.filter[1] == 3);
    some("depth multiplier", &|c| matches!(c.layer, Layer::Depthwise(2..)));
    some("long rows", &|c| c.layer == Layer::Dense && c.input_shape.channels > 256);
    some("left shifts", &|c| c.requantization().shifts.iter().any(|&s| s > 0));
    some("narrow clamps", &|c| c.clamp != [-128, 127]);
    some("extreme zero points", &|c| c.input_zero_point == -128 || c.input_zero_point == 127);
}
