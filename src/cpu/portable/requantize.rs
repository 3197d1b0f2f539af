//! Sums back to int8.

use crate::cpu::int8::Requantization;
use crate::quant::Multiplier;

/// `output[o] = clamp(zero_point + sums[o] * multiplier[o])`, rounded twice as convolutions round
/// ([`Multiplier::apply`]). Biases are in the sums.
#[derive(Debug)]
pub struct Requantizer<'a>(Requantization<'a>);

impl<'a> Requantizer<'a> {
    /// Prepares what every pixel needs.
    pub fn new(requantization: Requantization<'a>) -> Self {
        Self(requantization)
    }

    /// Scales one pixel's sums.
    pub fn run(&mut self, sums: &[i32], output: &mut [i8]) {
        #[cfg(flatmin_avx)]
        let (sums, output, requantization) = {
            let done = crate::cpu::x86_64::requantize(sums, &self.0, output);
            let (sums, output) = (sums.get(done..).unwrap_or(&[]), output.get_mut(done..).unwrap_or(&mut []));
            (sums, output, &self.0.outputs(done, sums.len()))
        };
        #[cfg(not(flatmin_avx))]
        let requantization = &self.0;
        finish(sums, requantization, output, apply);
    }
}

/// The same, in double precision as fully connected layers ([`Multiplier::apply_as_double`]); `real` is an output's
/// factor.
pub fn requantize_as_double(
    sums: &[i32],
    requantization: &Requantization,
    real: impl Fn(usize) -> f64,
    output: &mut [i8],
) {
    let mut place = 0..;
    finish(sums, requantization, output, |x, mantissa, shift| {
        let output = place.next().unwrap_or(0);
        apply_as_double(x, mantissa, shift, || real(output))
    });
}

#[inline(always)]
fn finish(
    sums: &[i32],
    requantization: &Requantization,
    output: &mut [i8],
    mut scale: impl FnMut(i32, i32, i32) -> i32,
) {
    let zero_point = requantization.output_zero_point;
    // Clamped before the zero point is added, so that nothing overflows.
    let [low, high] = requantization.clamp.map(|bound| i32::from(bound).wrapping_sub(zero_point));
    let multipliers = requantization.mantissas.iter().zip(requantization.shifts);
    for ((y, &sum), (&mantissa, &shift)) in output.iter_mut().zip(sums).zip(multipliers) {
        let steps = scale(sum, mantissa, shift).max(low).min(high);
        // In the clamp's range, which is int8.
        *y = steps.wrapping_add(zero_point) as i8;
    }
}

/// [`Multiplier::apply`] in fewer instructions: for a mantissa that is not negative and a shift to the right by
/// `e` bits. The doubled high product rounds half up, `(p + 2^30) >> 31`: gemmlowp's nudge and truncation come to
/// the same for products of either sign. It is above -2^31 and below 2^31 - 1, so that the second rounding, half
/// away from zero, can be `(((x - (x < 0)) >> (e - 1)) + 1) >> 1` without overflow.
#[inline(always)]
fn apply(x: i32, mantissa: i32, shift: i32) -> i32 {
    if !(-31..0).contains(&shift) {
        return Multiplier { mantissa, shift }.apply(x);
    }
    let high = ((i64::from(x) * i64::from(mantissa) + (1 << 30)) >> 31) as i32;
    let toward_zero = high.wrapping_add(high >> 31);
    // !shift is e - 1, at most 30.
    (toward_zero >> (!shift & 31)).wrapping_add(1) >> 1
}

/// [`Multiplier::apply_as_double`] in fewer instructions: the product's high word decides, unless the product lies
/// within 2^32 of a half. `|x|` is at most 2^31, so that the double product need not be asked before.
#[inline(always)]
fn apply_as_double(x: i32, mantissa: i32, shift: i32, real: impl FnOnce() -> f64) -> i32 {
    // Bits of the high word after the point.
    let bits = -1 - shift;
    if (1..=30).contains(&bits) {
        let high = ((i64::from(x) * i64::from(mantissa)) >> 32) as i32;
        // At most 2^30 and 2^29.
        let raised = high.wrapping_add(1 << (bits - 1));
        let mask = (1 << bits) - 1;
        if raised.wrapping_add(1) & mask > 1 {
            return raised >> bits;
        }
    }
    exactly(x, Multiplier { mantissa, shift }, real)
}

/// Apart, so that what is rarely needed takes no registers.
#[cold]
#[inline(never)]
fn exactly(x: i32, multiplier: Multiplier, real: impl FnOnce() -> f64) -> i32 {
    multiplier.apply_as_double(x, real)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accumulators around every tie of a multiplier, and the ends.
    fn accumulators(multiplier: Multiplier) -> impl Iterator<Item = i32> {
        let ties = (-40i64..40).flat_map(move |n| {
            let scale = i64::from(multiplier.mantissa.max(1));
            let tie = ((2 * n + 1) << (30 - multiplier.shift).clamp(0, 61)) / scale;
            (-2..3).map(move |d| (tie + d).clamp(i32::MIN.into(), i32::MAX.into()) as i32)
        });
        let ends = [i32::MIN, i32::MIN + 1, i32::MAX, i32::MAX - 1, -1, 0, 1, 1 << 30, -(1 << 30)];
        ties.chain(ends)
    }

    #[test]
    fn short_scalings_equal_the_specified_ones() {
        let mantissas = [0, 1 << 30, (1 << 30) + 1, 0x5555_5555, 0x6000_0000, i32::MAX - 1, i32::MAX];
        for shift in -31..=30 {
            for mantissa in mantissas {
                let multiplier = Multiplier { mantissa, shift };
                for x in accumulators(multiplier) {
                    assert_eq!(apply(x, mantissa, shift), multiplier.apply(x), "{x} {multiplier:?}");
                    // The mantissa is the nearest to the factor, not the factor itself.
                    let bits = if mantissa == 0 { 0.0 } else { f64::from(mantissa) + 0.3 };
                    let real = bits * libm::exp2(f64::from(shift - 31));
                    let expected = multiplier.apply_as_double(x, || real);
                    let found = apply_as_double(x, mantissa, shift, || real);
                    assert_eq!(found, expected, "{x} {multiplier:?}");
                }
            }
        }
    }
}
