//! Integer arithmetic with a real factor: to nearest, or to either neighbour by chance.

/// Bits of a [`Step`]'s mantissa.
const STEP_BITS: i32 = 15;
/// Most bits that a [`Step`] drops: its products stay below 2^31.
const LONGEST_SHIFT: i32 = 30;

/// Random bits by counting: the n-th word depends on the seed and n alone (a Weyl sequence, each word mixed by one
/// multiplication between two shifted exclusive ors).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dither(u32);

impl Dither {
    /// The words of one purpose: of a row, of a step.
    pub fn new(seed: u32, purpose: u32) -> Self {
        Self(mix(mix(seed) ^ purpose.wrapping_mul(0x85eb_ca6b)))
    }

    #[inline(always)]
    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        mix(self.0)
    }

    /// A number of `bits` bits, from 1 to 31, all equally likely.
    #[inline(always)]
    pub fn bits(&mut self, bits: u32) -> i32 {
        (self.word() >> (32 - bits)).cast_signed()
    }

    fn wide_bits(&mut self, bits: u32) -> i64 {
        let wide = (u64::from(self.word()) << 32) | u64::from(self.word());
        (wide >> (64 - bits)).cast_signed()
    }
}

#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad);
    x ^ (x >> 15)
}

/// A finite f32 as `mantissa * 2^-shift`, the mantissa of 24 bits; what is below the normal numbers as 0.
fn decode(real: f32) -> (i32, i32) {
    let bits = real.to_bits();
    let exponent = ((bits >> 23) & 0xFF).cast_signed();
    if exponent == 0 {
        return (0, 0);
    }
    // 24 bits: the sign is free.
    let mantissa = ((bits & 0x7F_FFFF) | 0x80_0000).cast_signed();
    (if bits >> 31 == 0 { mantissa } else { -mantissa }, 150 - exponent)
}

fn to_i32(x: i64) -> i32 {
    x.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// A real factor of wide integers, exact to f32's 24 bits. Infinity and NaN saturate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Factor {
    mantissa: i32,
    shift: i32,
}

impl Factor {
    pub fn new(real: f32) -> Self {
        let (mantissa, shift) = decode(real);
        Self { mantissa, shift }
    }

    /// `x` times the factor with `half` or chance added, rounded down; `None` where all bits drop.
    #[inline(always)]
    fn product(self, x: i64, round: impl FnOnce(u32) -> i64) -> i32 {
        /// With 24 bits of mantissa below 2^62.
        const LARGEST: i64 = 1 << 38;
        let product = x.clamp(-LARGEST, LARGEST) * i64::from(self.mantissa);
        match self.shift {
            1..=62 => to_i32((product + round(self.shift.cast_unsigned())) >> self.shift),
            63.. => 0,
            _ => to_i32(product.saturating_mul(1i64 << (-self.shift).clamp(0, 62))),
        }
    }

    /// `x` times the factor, to nearest, saturating.
    #[inline(always)]
    pub fn apply(self, x: i64) -> i32 {
        self.product(x, |shift| 1 << (shift - 1))
    }

    /// `x` times the factor, to either neighbour by chance, so that the mean is exact; saturating.
    pub fn apply_by_chance(self, x: i64, dither: &mut Dither) -> i32 {
        self.product(x, |shift| dither.wide_bits(shift))
    }
}

/// A real factor of 16-bit integers: a mantissa of up to 2^15 and a shift of 1 to 30 bits to the right. The result is
/// rounded to either neighbour by chance: nothing is lost in the mean, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    mantissa: i32,
    shift: u32,
}

impl Step {
    /// The factor, to a relative 2^-15. Factors of 2^14 and above saturate.
    pub fn new(real: f32, dither: &mut Dither) -> Self {
        let (mantissa, shift) = decode(real);
        Self::settle((mantissa + (1 << 8)) >> 9, shift - 9, dither)
    }

    /// The factor `real * d`.
    pub fn scaled((mantissa, shift): (i32, i32), d: i16, dither: &mut Dither) -> Self {
        let product = mantissa * i32::from(d);
        let drop = (32 - product.unsigned_abs().leading_zeros()).cast_signed() - STEP_BITS;
        if drop < 1 {
            return Self::settle(product, shift, dither);
        }
        Self::settle((product + (1 << (drop - 1))) >> drop, shift - drop, dither)
    }

    /// What [`Self::scaled`] takes: a mantissa of 15 bits, a shift.
    pub fn parts(real: f32) -> (i32, i32) {
        let (mantissa, shift) = decode(real);
        ((mantissa + (1 << 8)) >> 9, shift - 9)
    }

    fn settle(mantissa: i32, shift: i32, dither: &mut Dither) -> Self {
        let drop = shift - LONGEST_SHIFT;
        if mantissa == 0 || drop > LONGEST_SHIFT {
            return Self { mantissa: 0, shift: 1 };
        }
        if drop > 0 {
            let mantissa = (mantissa + dither.bits(drop.cast_unsigned())) >> drop;
            return Self { mantissa, shift: LONGEST_SHIFT.cast_unsigned() };
        }
        if shift < 1 {
            let wide = i64::from(mantissa) << (1 - shift).min(STEP_BITS + 1);
            return Self { mantissa: wide.clamp(-(1 << STEP_BITS), 1 << STEP_BITS) as i32, shift: 1 };
        }
        Self { mantissa, shift: shift.cast_unsigned() }
    }

    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// `x` times the factor; `x` of 16 bits.
    #[inline(always)]
    pub fn apply(self, x: i32, dither: &mut Dither) -> i32 {
        // At most 2^30 and less than 2^30: no overflow. The shift is from 1 to 30.
        (x * self.mantissa + dither.bits(self.shift)) >> self.shift
    }
}

/// Clamps to 16 bits.
#[inline(always)]
pub(crate) fn to_i16(x: i32) -> i16 {
    x.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and standard error of many roundings of one product.
    fn mean(of: impl Fn(&mut Dither) -> i32) -> (f64, f64) {
        const DRAWS: u32 = 10_000;
        let draws: std::vec::Vec<f64> = (0..DRAWS).map(|n| f64::from(of(&mut Dither::new(7, n)))).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(DRAWS);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(DRAWS - 1);
        (mean, (variance / f64::from(DRAWS)).sqrt())
    }

    #[test]
    fn chance_keeps_the_mean_of_products_of_any_size_and_sign() {
        for real in [0.7f32, -0.7, 1e-3, -1e-3, 3e-5, 2e-7, 123.456, -1.0] {
            for x in [1i16, -1, 7, -333, 12_345, -32_768] {
                // The mantissa has 15 bits; beyond 16 bits of result nothing is asked.
                let exact = f64::from(real) * f64::from(x);
                let slack = exact.abs() * 2f64.powi(-15) + 1e-9;
                let (found, error) = mean(|dither| Step::new(real, dither).apply(x.into(), dither));
                let bound = 4.5 * error.max((exact.abs().min(0.25) / 1e4).sqrt()) + slack;
                assert!((found - exact).abs() <= bound, "{real} * {x}: {found}");
                // A factor of 2^14 and above saturates.
                if exact.abs() < 16_000.0 {
                    let scaled =
                        |dither: &mut Dither| Step::scaled(Step::parts(real), x, dither).apply(3, dither);
                    let (found, error) = mean(scaled);
                    let bound = 4.5 * error.max((exact.abs().min(0.25) / 1e4).sqrt()) + 6.0 * slack;
                    assert!((found - 3.0 * exact).abs() <= bound, "{real} * {x} * 3: {found}");
                }
                let (found, error) = mean(|dither| Factor::new(real).apply_by_chance(x.into(), dither));
                let bound = 4.5 * error.max((exact.abs().min(0.25) / 1e4).sqrt()) + slack;
                assert!((found - exact).abs() <= bound, "{real} * {x}, wide: {found}");
            }
        }
    }

    #[test]
    fn factors_round_to_nearest_and_saturate() {
        for (real, x, expected) in [
            (0.5f32, 7i64, 4),
            (0.5, -7, -3),
            (1e-30, 1 << 38, 0),
            (1e30, 1, i32::MAX),
            (-1e30, 1, i32::MIN),
            (f32::INFINITY, -1, i32::MIN),
            (1e-40, i64::MAX, 0),
            (1.0, i64::MIN, i32::MIN),
            (65_536.0, 3, 196_608),
        ] {
            assert_eq!(Factor::new(real).apply(x), expected, "{real} * {x}");
        }
        let mut dither = Dither::new(0, 0);
        for real in [f32::INFINITY, 1e38, 40_000.0] {
            assert!(Step::new(real, &mut dither).apply(4, &mut dither) >= 1 << 15, "{real}");
        }
        for real in [0.0, f32::MIN_POSITIVE, -1e-30, 1e-12] {
            assert!(Step::new(real, &mut dither).apply(-32_768, &mut dither).abs() <= 1, "{real}");
        }
    }
}
