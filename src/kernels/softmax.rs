//! SOFTMAX in fixed point.
//!
//! The arithmetic is gemmlowp's, which TensorFlow Lite's reference kernel prescribes: `Qn` below is an int32
//! with n integer bits, 31 - n fractional bits and a sign.

use crate::quant::{Multiplier, divide_by_power_of_two, doubling_high_multiply as multiply, saturate};

/// Integer bits of the scaled difference to the largest logit.
const DIFFERENCE_BITS: u32 = 5;
/// Integer bits of the sum of exponentials.
const SUM_BITS: u32 = 12;

/// What softmax needs to know of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax {
    multiplier: Multiplier,
    /// Differences below this have a probability of 0.
    lowest_difference: i32,
}

impl Softmax {
    /// For logits of this scale, multiplied by `beta` (TFLite's `PreprocessSoftmaxScaling`).
    pub fn new(scale: f32, beta: f32) -> Self {
        let unit = f64::from(1u32 << (31 - DIFFERENCE_BITS));
        let real = (f64::from(beta) * f64::from(scale) * unit).min(f64::from(i32::MAX));
        let multiplier = Multiplier::from_real(real);
        // Scales below 2^-26, which nothing meaningful has, would give a negative shift.
        let shift = multiplier.shift.clamp(0, 30);
        let radius = (i64::from((1u32 << DIFFERENCE_BITS) - 1) << (31 - DIFFERENCE_BITS)) >> shift;
        let radius = i32::try_from(radius).unwrap_or(i32::MAX);
        Self { multiplier: Multiplier { shift, ..multiplier }, lowest_difference: -radius }
    }

    /// `exp(beta * scale * difference)` in Q0, or `None` where it counts as 0.
    fn exponential(&self, difference: i32) -> Option<i32> {
        let scaled =
            || multiply(difference.wrapping_shl(self.multiplier.shift as u32), self.multiplier.mantissa);
        (difference >= self.lowest_difference).then(|| exp_of_negative(scaled()))
    }
}

/// `y = softmax(beta x)` over groups of `channels`, quantized to scale 1/256 and zero point -128.
pub fn softmax(input: &[i8], channels: usize, softmax: &Softmax, output: &mut [i8]) {
    let groups = input.chunks_exact(channels.max(1)).zip(output.chunks_exact_mut(channels.max(1)));
    for (x, y) in groups {
        let largest = x.iter().copied().map(i32::from).max().unwrap_or(0);
        let exponential = |x: i8| softmax.exponential(i32::from(x) - largest);
        let sum = x
            .iter()
            .filter_map(|&x| exponential(x))
            .fold(0i32, |sum, e| sum.saturating_add(divide_by_power_of_two(e, SUM_BITS)));
        let (reciprocal, bits_over_unit) = reciprocal(sum);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = exponential(x).map_or(-128, |e| {
                let shift = bits_over_unit + 31 - 8;
                saturate(divide_by_power_of_two(multiply(reciprocal, e), shift.clamp(0, 31) as u32) - 128)
            });
        }
    }
}

/// [`softmax`] of one group, of whose channels the first `classes` are classes; the others, spare, get a probability of 0.
pub(crate) fn softmax_of_classes(input: &[i8], classes: usize, of: &Softmax, output: &mut [i8]) {
    let (y, spare) = output.split_at_mut(classes.min(output.len()));
    spare.fill(-128);
    softmax(input.get(..y.len()).unwrap_or(&[]), y.len(), of, y);
}

/// Left shift by `bits`, saturating.
fn shift_left(x: i32, bits: u32) -> i32 {
    (i64::from(x) << bits).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// `exp(a)` in Q0 for `a <= 0` in Q5: Taylor's polynomial on (-1/4, 0], then one factor a binary digit.
pub(crate) fn exp_of_negative(a: i32) -> i32 {
    const FRACTION: u32 = 31 - DIFFERENCE_BITS;
    const QUARTER: i32 = 1 << (FRACTION - 2);
    /// exp(-1/4), exp(-1/2), exp(-1), ... exp(-16) in Q0.
    const FACTORS: [i32; 7] =
        [1_672_461_947, 1_302_514_674, 790_015_084, 290_630_308, 39_332_535, 720_401, 242];
    if a == 0 {
        return i32::MAX;
    }
    let rest = (a & (QUARTER - 1)) - QUARTER;
    let mut result = exp_near_zero(shift_left(rest, DIFFERENCE_BITS));
    let remainder = rest.wrapping_sub(a);
    for (factor, digit) in FACTORS.into_iter().zip(FRACTION - 2..) {
        if remainder & (1 << digit) != 0 {
            result = multiply(result, factor);
        }
    }
    result
}

/// `exp(a)` in Q0 for `a` in [-1/4, 0) in Q0: Taylor's polynomial of degree 4 around -1/8.
fn exp_near_zero(a: i32) -> i32 {
    /// exp(-1/8).
    const CENTER: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = a.wrapping_add(1 << 28);
    let square = multiply(x, x);
    let cube = multiply(square, x);
    let fourth_over_4 = divide_by_power_of_two(multiply(square, square), 2);
    // (x^4 / 4 + x^3) / 3 + x^2, halved: x^2/2 + x^3/6 + x^4/24.
    let higher =
        divide_by_power_of_two(multiply(fourth_over_4.wrapping_add(cube), THIRD).wrapping_add(square), 1);
    CENTER.wrapping_add(multiply(CENTER, x.wrapping_add(higher)))
}

/// `1 / sum` of a Q12 sum: a Q0 mantissa and how many bits the sum lies above 1.
fn reciprocal(sum: i32) -> (i32, i32) {
    let headroom = sum.leading_zeros().min(31);
    let bits_over_unit = SUM_BITS as i32 - headroom as i32;
    let fraction = (sum.cast_unsigned() << headroom).wrapping_sub(1 << 31).cast_signed();
    (one_over_one_plus(fraction), bits_over_unit)
}

/// `1 / (1 + a)` in Q0 for `a` in [0, 1) in Q0: three steps of Newton-Raphson on half the denominator, in Q2.
fn one_over_one_plus(a: i32) -> i32 {
    const FORTY_EIGHT_SEVENTEENTHS: i32 = 1_515_870_810;
    const MINUS_THIRTY_TWO_SEVENTEENTHS: i32 = -1_010_580_540;
    const ONE: i32 = 1 << 29;
    let sum = i64::from(a) + i64::from(i32::MAX);
    // Rounded half sum; both are at least 0.
    let half_denominator = ((sum + 1) / 2) as i32;
    let mut x =
        FORTY_EIGHT_SEVENTEENTHS.wrapping_add(multiply(half_denominator, MINUS_THIRTY_TWO_SEVENTEENTHS));
    for _ in 0..3 {
        let error = ONE.wrapping_sub(multiply(half_denominator, x));
        x = x.wrapping_add(shift_left(multiply(x, error), 2));
    }
    shift_left(x, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_one_step_of_the_real_function() {
        let softmax_of = Softmax::new(0.1, 1.0);
        let x = [-128i8, -20, 0, 13, 127, 126, 100];
        let mut y = [0; 7];
        softmax(&x, 7, &softmax_of, &mut y);
        let e: [f64; 7] = x.map(|x| libm::exp(0.1 * (f64::from(x) - 127.0)));
        let sum: f64 = e.iter().sum();
        for (y, e) in y.into_iter().zip(e) {
            assert!((f64::from(y) + 128.0 - 256.0 * e / sum).abs() <= 1.0, "{y} {e}");
        }
    }

    #[test]
    fn total_for_any_scale() {
        for scale in [f32::MIN_POSITIVE, 1e-9, 1e-3, 1.0, 1e9, f32::MAX] {
            let mut y = [0; 4];
            softmax(&[-128, 0, 5, 127], 4, &Softmax::new(scale, 1.0), &mut y);
            assert!(y[3] >= y[0]);
        }
    }
}
