//! Functions of one byte as tables, computed with the arithmetic of TensorFlow Lite's reference kernels as
//! LiteRT builds them, so that every entry is the byte that they would give.

use flatmin::{Affine, internals::Multiplier};

/// 256 output bytes, by the input's byte.
pub type Table = [u8; 256];

/// Scale, zero point and signedness of one side of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// Scale and zero point.
    pub affine: Affine,
    /// uint8 in place of int8.
    pub unsigned: bool,
}

impl Side {
    /// The type's lowest and highest value.
    fn range(&self) -> [i32; 2] {
        if self.unsigned { [0, 255] } else { [-128, 127] }
    }

    fn value(&self, byte: u8) -> i32 {
        if self.unsigned { byte.into() } else { byte.cast_signed().into() }
    }

    /// Saturated to the type, then to the clamp.
    fn byte(&self, value: i32, clamp: [i32; 2]) -> u8 {
        let [low, high] = self.range();
        let value = value.clamp(low, high).clamp(clamp[0], clamp[1]);
        // Two's complement: the low byte of either type.
        value.to_le_bytes()[0]
    }
}

const OPEN: [i32; 2] = [i32::MIN, i32::MAX];

/// A table of `function`, which takes an input's distance from its zero point and gives the output's from its own.
fn table(input: Side, output: Side, clamp: [i32; 2], function: impl Fn(i32) -> i32) -> Table {
    std::array::from_fn(|byte| {
        // 256 bytes.
        let x = input.value(byte as u8) - input.affine.zero_point;
        output.byte(function(x).saturating_add(output.affine.zero_point), clamp)
    })
}

/// QUANTIZE from one quantization to another.
pub fn requantize(input: Side, output: Side) -> Table {
    let factor = Multiplier::from_real(f64::from(input.affine.scale) / f64::from(output.affine.scale));
    table(input, output, OPEN, |x| factor.apply(x))
}

/// RELU and its kin as operators of their own; `clamp` as for a fused activation.
pub fn clamped(input: Side, output: Side, clamp: [i8; 2]) -> Table {
    let factor = Multiplier::from_real(f64::from(input.affine.scale / output.affine.scale));
    table(input, output, clamp.map(i32::from), |x| factor.apply(x))
}

/// LEAKY_RELU. Where `alpha` is negative the reference negates the scaled value, not the factor: ties differ.
pub fn leaky_relu(input: Side, output: Side, alpha: f32) -> Table {
    let (from, to) = (input.affine.scale, output.affine.scale);
    let identity = Multiplier::from_real(f64::from(from / to));
    let slope = Multiplier::from_real(f64::from((from * alpha / to).abs()));
    table(input, output, OPEN, |x| match x {
        0.. => identity.apply(x),
        _ if alpha < 0.0 => -slope.apply(x),
        _ => slope.apply(x),
    })
}

/// A function of a real number, evaluated in single precision.
fn real(input: Side, output: Side, function: impl Fn(f32) -> f32) -> Table {
    let inverse = 1.0 / output.affine.scale;
    // A float cast saturates.
    table(input, output, OPEN, |x| (function(x as f32 * input.affine.scale) * inverse).round() as i32)
}

/// LOGISTIC.
pub fn logistic(input: Side, output: Side) -> Table {
    real(input, output, |x| 1.0 / (1.0 + f64::from(-x).exp() as f32))
}

/// TANH, by the platform's `tanhf`, as the reference: double precision differs from it in one byte of a million.
pub fn tanh(input: Side, output: Side) -> Table {
    real(input, output, f32::tanh)
}

/// ELU.
pub fn elu(input: Side, output: Side) -> Table {
    real(input, output, |x| if x > 0.0 { x } else { x.exp_m1() })
}

/// GELU, exact or by tanh.
pub fn gelu(input: Side, output: Side, approximate: bool) -> Table {
    use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    real(input, output, |x| {
        let share = if approximate {
            (FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (x + 0.044715 * (x * x * x))).tanh()
        } else {
            libm::erff(x * FRAC_1_SQRT_2)
        };
        0.5 * x * (1.0 + share)
    })
}

/// EXP.
pub fn exp(input: Side, output: Side) -> Table {
    real(input, output, f32::exp)
}

/// LOG; of what has no logarithm the reference gives the lowest byte.
pub fn log(input: Side, output: Side) -> Table {
    real(input, output, |x| if x > 0.0 { x.ln() } else { f32::NEG_INFINITY })
}

/// ABS.
pub fn abs(input: Side, output: Side) -> Table {
    let factor = Multiplier::from_real(f64::from(input.affine.scale / output.affine.scale));
    table(input, output, OPEN, |x| factor.apply(x.abs()))
}

/// NEG: the reference turns the byte's own sign, wherever the zero points are.
pub fn neg() -> Table {
    std::array::from_fn(|byte| (byte as u8).wrapping_neg())
}

/// SQRT: the reference cuts off the digits after the point. Values below 0, which it refuses, have none.
pub fn sqrt(input: Side, output: Side) -> Table {
    table(input, output, OPEN, |x| {
        let root = (x as f32 * input.affine.scale).sqrt();
        if x < 0 { i32::MIN / 2 } else { (root / output.affine.scale) as i32 }
    })
}

/// RSQRT in the reference kernel's fixed point. Of 0 it gives the highest output; values below 0 it refuses.
pub fn rsqrt(input: Side, output: Side) -> Table {
    /// Bits that keep the inverse root an integer.
    const SHIFT: i32 = 20;
    let (from, to) = (f64::from(input.affine.scale.sqrt()), f64::from(output.affine.scale));
    let factor = Multiplier::from_real(1.0 / (from * to));
    let factor = Multiplier { shift: factor.shift - SHIFT, ..factor };
    table(input, output, OPEN, |x| {
        let Some(inverse) = inverse_root(x) else { return i32::MAX / 2 };
        factor.apply(Multiplier { shift: inverse.shift + SHIFT, ..inverse }.apply(1))
    })
}

/// `1 / sqrt(x)` by five steps of Newton's method (TensorFlow Lite's `GetInvSqrtQuantizedMultiplierExp`); nothing of 0 and below.
fn inverse_root(x: i32) -> Option<Multiplier> {
    /// `sqrt(2) / 2` in Q31.
    const HALF_ROOT: i32 = 1_518_500_250;
    let product = |a: i32, b: i32| Multiplier { mantissa: b, shift: 0 }.apply(a);
    match x {
        ..=0 => return None,
        1 => return Some(Multiplier { mantissa: i32::MAX, shift: 0 }),
        _ => {}
    }
    // A byte's distance from a zero point: pairs of bits are left in front of it.
    let pairs = (x.leading_zeros() - 1) / 2 - 1;
    // Q28, three bits in front of the point.
    let scaled = (x << (2 * pairs)) >> 1;
    let half = divide(scaled, 1);
    let mut root = 1 << 28;
    for _ in 0..5 {
        let cube = product(product(root, root), root).saturating_mul(1 << 6);
        let step = product((1 << 28) + (1 << 27), root).wrapping_sub(product(half, cube));
        root = step.saturating_mul(1 << 3);
    }
    let shift = 11_i32.saturating_sub_unsigned(pairs);
    let mantissa = product(root, HALF_ROOT);
    Some(if shift < 0 {
        Multiplier { mantissa: mantissa << -shift, shift: 0 }
    } else {
        Multiplier { mantissa, shift: -shift }
    })
}

/// HARD_SWISH in the reference kernel's 16-bit fixed point.
pub fn hard_swish(input: Side, output: Side) -> Table {
    let fine = input.affine.scale * (1.0 / 128.0);
    let to_output = Multiplier::from_real(f64::from(fine / output.affine.scale));
    let to_relu = Multiplier::from_real(f64::from(fine / (3.0 / 32768.0)));
    table(input, output, OPEN, |x| {
        let fine = x * 128;
        let scaled = rounding_multiply(fine, upper_half(to_output.mantissa));
        let mut gate = fine;
        if to_relu.shift > 0 {
            gate = saturate(gate << (to_relu.shift - 1));
        }
        gate = rounding_multiply(gate, upper_half(to_relu.mantissa));
        if to_relu.shift > 0 {
            gate = saturate(gate << 1);
        }
        if to_relu.shift < 0 {
            gate = divide(gate, -to_relu.shift);
        }
        let gate = (gate + (1 << 15)) >> 1;
        divide(gate * scaled / (1 << 15), -to_output.shift)
    })
}

fn saturate(x: i32) -> i32 {
    x.clamp(-32768, 32767)
}

/// A Q31 mantissa as Q15.
fn upper_half(mantissa: i32) -> i32 {
    if mantissa >= i32::MAX - (1 << 15) { 32767 } else { (mantissa + (1 << 15)) >> 16 }
}

/// gemmlowp's `SaturatingRoundingDoublingHighMul` on 16 bits.
fn rounding_multiply(a: i32, b: i32) -> i32 {
    let product = a * b;
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    saturate((product + nudge) / (1 << 15))
}

/// gemmlowp's `RoundingDivideByPOT`.
fn divide(x: i32, exponent: i32) -> i32 {
    // A multiplier of one and no mantissa's rounding: what is left is the shift.
    if exponent <= 0 {
        return x << (-exponent).min(15);
    }
    let mask = (1i64 << exponent.min(31)) - 1;
    let remainder = i64::from(x) & mask;
    let threshold = (mask >> 1) + i64::from(x < 0);
    (x >> exponent.min(31)) + i32::from(remainder > threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn side(scale: f32, zero_point: i32) -> Side {
        Side { affine: Affine { scale, zero_point }, unsigned: false }
    }

    /// The exact function, rounded once: fixed point may differ from it by one step.
    fn agrees(table: &Table, input: Side, output: Side, function: impl Fn(f64) -> f64) {
        for byte in 0..=255u8 {
            let x = f64::from(input.value(byte) - input.affine.zero_point) * f64::from(input.affine.scale);
            let exact = function(x) / f64::from(output.affine.scale) + f64::from(output.affine.zero_point);
            let found = f64::from(output.value(table[usize::from(byte)]));
            assert!((found - exact.clamp(-128.0, 127.0)).abs() <= 1.0, "{x}: {found}, exact {exact}");
        }
    }

    #[test]
    fn tables_are_their_functions_to_one_step() {
        let input = side(0.05, -3);
        let output = side(0.06, 5);
        agrees(&logistic(input, side(1.0 / 256.0, -128)), input, side(1.0 / 256.0, -128), |x| {
            1.0 / (1.0 + (-x).exp())
        });
        agrees(&tanh(input, side(1.0 / 128.0, 0)), input, side(1.0 / 128.0, 0), f64::tanh);
        agrees(&hard_swish(input, output), input, output, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0);
        agrees(&leaky_relu(input, output, 0.1), input, output, |x| {
            if x < 0.0 { x * f64::from(0.1f32) } else { x }
        });
        agrees(&elu(input, output), input, output, |x| if x > 0.0 { x } else { x.exp() - 1.0 });
        agrees(&exp(input, output), input, output, f64::exp);
        agrees(&log(input, output), input, output, |x| if x > 0.0 { x.ln() } else { f64::NEG_INFINITY });
        agrees(&abs(input, output), input, output, f64::abs);
        let positive = side(0.05, -128);
        agrees(&sqrt(positive, output), positive, output, f64::sqrt);
        agrees(&rsqrt(positive, output), positive, output, |x| 1.0 / x.sqrt());
        agrees(&neg(), side(0.05, 0), side(0.05, 0), |x| if x < -6.375 { -6.4 } else { -x });
        let exact = |x: f64| x / 2.0 * (1.0 + libm::erf(x / f64::sqrt(2.0)));
        agrees(&gelu(input, output, false), input, output, exact);
        // The approximation is off by 5e-4 at most, a hundredth of a step here.
        agrees(&gelu(input, output, true), input, output, exact);
        agrees(&leaky_relu(input, output, -0.5), input, output, |x| if x < 0.0 { x * -0.5 } else { x });
        agrees(&requantize(input, output), input, output, |x| x);
        agrees(&clamped(input, output, [5, 105]), input, output, |x| x.clamp(0.0, 6.0));
    }

    #[test]
    fn a_negative_slope_negates_the_rounded_value() {
        // -25 * 0.25 in two steps: -12.5 rounds up to -12, which halves to -6, negated 6. With the factor -0.25
        // 12.5 would round up to 13, and 6.5 to 7. LiteRT answers 6.
        let table = leaky_relu(side(1.0, 0), side(1.0, 0), -0.25);
        assert_eq!(table[usize::from((-25i8).cast_unsigned())], 6);
        assert_eq!(table[usize::from(25u8)], 25);
    }

    #[test]
    fn uint8_to_int8_moves_the_zero_point() {
        let input = Side { affine: Affine { scale: 0.1, zero_point: 128 }, unsigned: true };
        let table = requantize(input, side(0.1, 0));
        assert!((0..=255u8).all(|byte| table[usize::from(byte)] == byte ^ 0x80));
    }
}
