//! Affine int8 quantization as TensorFlow Lite specifies it: `real = scale * (q - zero_point)`, and the
//! fixed-point multiplier that carries an int32 accumulator to the output's scale.
//!
//! Source: TensorFlow Lite 8-bit quantization specification and its reference kernels, as LiteRT builds them.

use crate::math;
use crate::sound;

/// Scale and zero point of one int8 tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Affine {
    /// Real value of one step; finite and above 0.
    pub scale: f32,
    /// The quantized value that stands for 0, in -128..=127.
    pub zero_point: i32,
}

impl Affine {
    /// Quantizes `x`, rounding half away from zero and saturating to int8. NaN gives the zero point.
    ///
    /// ```
    /// let affine = flatmin::Affine { scale: 0.5, zero_point: 3 };
    /// assert_eq!(affine.quantize(1.25), 6); // 2.5 rounds to 3
    /// assert_eq!(affine.quantize(1e9), 127);
    /// ```
    pub fn quantize(&self, x: f32) -> i8 {
        if x.is_nan() {
            return saturate(self.zero_point);
        }
        // A float cast saturates; the sum cannot overflow after the clamp.
        let steps = math::round(x / self.scale).clamp(-1024.0, 1024.0) as i32;
        saturate(steps + self.zero_point.clamp(-128, 127))
    }

    /// The real value of `q`.
    ///
    /// ```
    /// let affine = flatmin::Affine { scale: 0.5, zero_point: 3 };
    /// assert_eq!(affine.dequantize(6), 1.5);
    /// ```
    pub fn dequantize(&self, q: i8) -> f32 {
        self.scale * (i32::from(q) - self.zero_point) as f32
    }

    /// The parameters that cover `[low, high]` and zero in 256 steps, zero being exact (the specification's
    /// requirement, so that padding and ReLU cost no error). An empty or non-finite range gives scale 1; a step is at
    /// most 2^20.
    ///
    /// ```
    /// let affine = flatmin::Affine::covering(0.0, 25.5);
    /// assert_eq!((affine.scale, affine.zero_point), (0.1, -128));
    /// ```
    pub fn covering(low: f32, high: f32) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        if !scale.is_normal() || scale < sound::SMALLEST_SCALE {
            return Self { scale: 1.0, zero_point: -128 };
        }
        let scale = scale.min(sound::LARGEST_SCALE);
        let zero_point = math::round(-128.0 - low / scale).clamp(-128.0, 127.0) as i32;
        Self { scale, zero_point }
    }
}

/// Bytes as the int8 values that they are.
///
/// ```
/// assert_eq!(flatmin::as_int8(&[0, 127, 255]), [0, 127, -1]);
/// ```
pub fn as_int8(bytes: &[u8]) -> &[i8] {
    bytemuck::must_cast_slice(bytes)
}

/// Clamps to the int8 range.
pub fn saturate(x: i32) -> i8 {
    x.clamp(-128, 127) as i8
}

/// A positive real factor as `mantissa * 2^(shift - 31)`, the mantissa in `[2^30, 2^31)` or 0.
///
/// ```
/// use flatmin::internals::Multiplier;
/// let half = Multiplier::from_real(0.5);
/// assert_eq!((half.mantissa, half.shift), (1 << 30, 0));
/// assert_eq!(half.apply(7), 4); // 3.5 rounds away from zero
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Multiplier {
    /// Q31 mantissa.
    pub mantissa: i32,
    /// Power of two, positive to the left; in -31..=30.
    pub shift: i32,
}

impl Multiplier {
    /// Quantizes a factor (TFLite's `QuantizeMultiplier`). Factors below 2^-32 become 0; negative, infinite
    /// and NaN factors too; factors of 2^30 and above saturate.
    pub fn from_real(real: f64) -> Self {
        const ZERO: Multiplier = Multiplier { mantissa: 0, shift: 0 };
        if !real.is_normal() || real < 0.0 {
            return ZERO;
        }
        let bits = real.to_bits();
        // real = significand * 2^(exponent - 53), the significand in [2^52, 2^53): frexp's mantissa is
        // significand / 2^53, so that rounding it to Q31 drops 22 bits.
        let exponent = (bits >> 52) as i32 - 1022;
        let significand = (bits & ((1 << 52) - 1)) | (1 << 52);
        let rounded = (significand + (1 << 21)) >> 22;
        let (mantissa, shift) =
            if rounded == 1 << 31 { (1 << 30, exponent + 1) } else { (rounded as i32, exponent) };
        match shift {
            ..-31 => ZERO,
            31.. => Self { mantissa: i32::MAX, shift: 30 },
            _ => Self { mantissa, shift },
        }
    }

    /// The multiplier of a layer with weights: `input * weight / output` in double precision and in this order, which
    /// is that of LiteRT for convolutions (`PopulateConvolutionQuantizationParams`) and fully connected layers
    /// alike, per channel and per tensor. Another order rounds differently.
    pub fn of_scales(input: f32, weight: f32, output: f32) -> Self {
        Self::from_real(Self::real(input, weight, output))
    }

    /// The factor that [`Self::of_scales`] quantizes. The product is exact: its factors have 24 bits each.
    pub(crate) fn real(input: f32, weight: f32, output: f32) -> f64 {
        f64::from(input) * f64::from(weight) / f64::from(output)
    }

    /// `x` times the factor: high half of the doubled product rounded, then a rounding right shift, ties as
    /// gemmlowp breaks them (TFLite's `MultiplyByQuantizedMultiplier`). Convolutions use it.
    #[inline(always)]
    pub fn apply(self, x: i32) -> i32 {
        let left = self.shift.clamp(0, 30);
        let right = (-self.shift).clamp(0, 31);
        divide_by_power_of_two(
            doubling_high_multiply(x.wrapping_shl(left as u32), self.mantissa),
            right as u32,
        )
    }

    /// `x * real` in double precision, rounded half away from zero and saturating, where `self` is
    /// `from_real(real)`: what LiteRT's reference fully connected layer computes. Integers decide it unless
    /// the product lies so close to a half that the bits that the mantissa dropped matter; `real` is called
    /// then alone.
    ///
    /// ```
    /// let half = flatmin::internals::Multiplier::from_real(0.5);
    /// assert_eq!([7, -7, 6].map(|x| half.apply_as_double(x, || 0.5)), [4, -4, 3]); // 3.5, -3.5, 3
    /// ```
    #[inline(always)]
    pub fn apply_as_double(self, x: i32, real: impl FnOnce() -> f64) -> i32 {
        let shift = (31 - self.shift).clamp(1, 62) as u32;
        let half = 1i64 << (shift - 1);
        // Below 2^62, and half at most 2^61: no overflow.
        let product = (i64::from(x) * i64::from(self.mantissa)).abs();
        let from_half = ((product & (2 * half - 1)) - half).abs();
        // The mantissa is off by at most 1/2, and the rounding of a double product by less than another 1/2^21,
        // both times |x|.
        if from_half < i64::from(x).abs() {
            // A float cast saturates.
            return math::round_double(f64::from(x) * real()) as i32;
        }
        let magnitude = (product + half) >> shift;
        let scaled = if (x < 0) != (self.mantissa < 0) { -magnitude } else { magnitude };
        scaled.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }
}

/// gemmlowp's `SaturatingRoundingDoublingHighMul`.
#[inline(always)]
pub(crate) fn doubling_high_multiply(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    // The quotient fits: |a * b| < 2^62 was excluded above at its one exception. Division, not a shift,
    // because gemmlowp truncates toward zero here.
    ((product + nudge) / (1 << 31)) as i32
}

/// gemmlowp's `RoundingDivideByPOT`: to nearest, ties away from zero; `exponent` at most 31.
#[inline(always)]
pub(crate) fn divide_by_power_of_two(x: i32, exponent: u32) -> i32 {
    if exponent == 0 {
        return x;
    }
    let mask = ((1i64 << exponent.min(31)) - 1) as i32;
    let remainder = x & mask;
    let threshold = (mask >> 1) + i32::from(x < 0);
    (x >> exponent.min(31)) + i32::from(remainder > threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplier_represents_its_factor_to_31_bits() {
        for real in [1e-6f64, 0.0003, 0.1, 0.5, 0.999_999_999_99, 1.0, 1.5, 77.25] {
            let m = Multiplier::from_real(real);
            let value = f64::from(m.mantissa) * libm::exp2(f64::from(m.shift - 31));
            assert!((value / real - 1.0).abs() < 1.0 / f64::from(1u32 << 30), "{real}: {value}");
        }
    }

    #[test]
    fn multiplier_edges() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-12] {
            assert_eq!(Multiplier::from_real(bad).apply(i32::MAX), 0, "{bad}");
        }
        assert_eq!(Multiplier::from_real(1e30).shift, 30);
        for x in [i32::MIN, -1, 0, 1, i32::MAX] {
            for real in [1e-9, 0.7, 1e12] {
                let _ = Multiplier::from_real(real).apply(x);
            }
        }
    }

    #[test]
    fn rounding_by_hand() {
        // x / 2^e to nearest, ties away from zero.
        for (x, e, expected) in
            [(5, 1, 3), (-5, 1, -3), (6, 2, 2), (-6, 2, -2), (4, 3, 1), (-4, 3, -1), (3, 3, 0)]
        {
            assert_eq!(divide_by_power_of_two(x, e), expected, "{x} / 2^{e}");
        }
        assert_eq!(divide_by_power_of_two(i32::MIN, 31), -1);
        assert_eq!(doubling_high_multiply(1 << 30, 1 << 30), 1 << 29);
        assert_eq!(doubling_high_multiply(i32::MIN, i32::MIN), i32::MAX);
    }

    /// Against the double product itself, most accumulators next to a half or on it.
    #[test]
    fn apply_as_double_is_the_double_product() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let (mut near, mut exact) = (0, 0);
        for round in 0..40_000 {
            let exponent = (random() % 40) as i32 - 36;
            let significand =
                if round % 4 == 0 { 1.0 } else { 0.5 + random() as f64 / f64::from(1u32 << 31) / 2.0 };
            let real = significand * libm::exp2(f64::from(exponent));
            let multiplier = Multiplier::from_real(real);
            let halves = (random() % 300) as f64 - 150.0 + 0.5;
            let next_to_a_half = (halves / real) as i32;
            for x in [
                next_to_a_half,
                next_to_a_half.wrapping_add(1),
                next_to_a_half.wrapping_sub(1),
                random() as i32,
            ] {
                let mut asked = false;
                let found = multiplier.apply_as_double(x, || {
                    asked = true;
                    real
                });
                let product = f64::from(x) * real;
                assert_eq!(found, libm::round(product) as i32, "{x} * {real}");
                near += usize::from(asked);
                exact += usize::from(libm::fabs(libm::trunc(product) - product) == 0.5);
            }
        }
        assert!(near > 1000 && exact > 1000, "{near} decided by the double product, {exact} exact halves");
    }

    #[test]
    fn covering_keeps_zero_exact() {
        for (low, high) in [(0.0, 6.0), (-3.1, 0.7), (-9.0, -2.0), (4.0, 5.0)] {
            let affine = Affine::covering(low, high);
            assert_eq!(affine.quantize(0.0), saturate(affine.zero_point));
            for x in [low, high] {
                assert!(
                    (affine.dequantize(affine.quantize(x)) - x).abs() <= affine.scale,
                    "{low} {high} {x}"
                );
            }
        }
        assert_eq!(Affine::covering(0.0, 0.0).scale, 1.0);
        assert_eq!(Affine::covering(f32::NAN, f32::INFINITY).scale, 1.0);
    }

    /// As TensorFlow Lite's reference `AffineQuantize`.
    #[test]
    fn quantize_rounds_halves_away_from_zero_and_clamps() {
        for (x, scale, zero_point, expected) in [
            (0.0, 0.5, 3, 3),
            (0.25, 0.5, 0, 1),
            (-0.25, 0.5, 0, -1),
            (0.75, 0.5, 0, 2),
            (0.249_999_99, 0.5, 0, 0),
            (63.4, 0.5, 0, 127),
            (-64.2, 0.5, 0, -128),
            (1.0, 1.0, 127, 127),
            (-1.0, 1.0, -128, -128),
            (f32::MAX, f32::MIN_POSITIVE, -128, 127),
            (f32::MIN, f32::MIN_POSITIVE, 127, -128),
            (-20.0, 0.584_702_9, 83, 49),
            (f32::NAN, 0.5, 9, 9),
        ] {
            let affine = Affine { scale, zero_point };
            assert_eq!(affine.quantize(x), expected, "{x} {affine:?}");
        }
    }

    /// Factors whose value depends on where the computation rounds: the product of the scales is exact, and the
    /// quotient alone is rounded.
    #[test]
    fn multiplier_of_scales_rounds_once() {
        // (1 + 2^-13) (1 - 2^-13) = 1 - 2^-26, which single precision takes for 1.
        let (input, weight) = (1.0 + 1.0 / 8192.0, 1.0 - 1.0 / 8192.0);
        let multiplier = Multiplier::of_scales(input, weight, 16.0);
        assert_eq!((multiplier.mantissa, multiplier.shift), (i32::MAX - 31, -4));
    }
}
