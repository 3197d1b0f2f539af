//! Integer loops over one row of weights: the inputs of one output.

use super::number::{Dither, Step, to_i16};

/// Products that an i32 holds: 2^7 times 2^15, 512 times.
const PIECE: usize = 512;

/// `sum_i q_i a_i`.
pub(super) fn dot(q: &[i8], a: &[i16]) -> i64 {
    let pieces = q.chunks(PIECE).zip(a.chunks(PIECE));
    pieces.fold(0, |sum, (q, a)| {
        let products = q.iter().zip(a).map(|(&q, &a)| i32::from(q) * i32::from(a));
        sum + i64::from(products.fold(0i32, i32::wrapping_add))
    })
}

/// `sum_i a_i b_i` of 16-bit integers.
pub(super) fn inner(a: &[i16], b: &[i16]) -> i64 {
    a.iter().zip(b).fold(0, |sum, (&a, &b)| sum + i64::from(i32::from(a) * i32::from(b)))
}

/// `T_q^2 = (|q| + 1)^2`: ASAM's normalization in steps of the weight, eta being one step; at most 2^14.
#[inline(always)]
pub(super) fn t_squared(q: i8) -> i32 {
    let t = i32::from(q.unsigned_abs()) + 1;
    t * t
}

/// `sum_i (|q_i| + 1)^2 p_i`.
pub(super) fn energy(q: &[i8], p: &[i16]) -> i64 {
    q.iter().zip(p).fold(0, |sum, (&q, &p)| sum + i64::from(t_squared(q) * i32::from(p)))
}

/// `sums_i += q_i d`.
pub(super) fn add_row(q: &[i8], d: i16, sums: &mut [i32]) {
    for (sum, &q) in sums.iter_mut().zip(q) {
        *sum = sum.wrapping_add(i32::from(q) * i32::from(d));
    }
}

/// `v_i = step v_i`, and with weight decay `+ decay m_i`.
pub(super) fn fade(step: Step, decay: Step, high: &[i8], low: &[i8], v: &mut [i16], dither: &mut Dither) {
    if decay.is_zero() {
        for v in v {
            *v = to_i16(step.apply((*v).into(), dither));
        }
        return;
    }
    for ((v, &high), &low) in v.iter_mut().zip(high).zip(low) {
        let decayed = decay.apply(master(high, low), dither);
        *v = to_i16(step.apply((*v).into(), dither).saturating_add(decayed));
    }
}

/// `v_i += step a_i`.
pub(super) fn add_gradient(step: Step, a: &[i16], v: &mut [i16], dither: &mut Dither) {
    for (v, &a) in v.iter_mut().zip(a) {
        *v = to_i16(i32::from(*v) + step.apply(a.into(), dither));
    }
}

/// `m_i -= step v_i`, saturating at 127 steps of the int8 weight.
pub(super) fn descend(step: Step, v: &[i16], high: &mut [i8], low: &mut [i8], dither: &mut Dither) {
    for ((high, low), &v) in high.iter_mut().zip(low).zip(v) {
        (*high, *low) = split(master(*high, *low) - step.apply(v.into(), dither));
    }
}

/// The 16-bit master: `256 high + low`.
#[inline(always)]
pub(super) fn master(high: i8, low: i8) -> i32 {
    256 * i32::from(high) + i32::from(low)
}

/// The int8 weight nearest to a master, and what is left of it; beyond 127 steps the master saturates.
#[inline(always)]
pub(super) fn split(master: i32) -> (i8, i8) {
    const LARGEST: i32 = 127 * 256 + 127;
    let master = master.clamp(-LARGEST, LARGEST);
    // From -127 to 127, and from -128 to 127.
    let high = (master + 128) >> 8;
    (high as i8, (master - 256 * high) as i8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_its_two_halves_and_saturates() {
        for m in -32_639..=32_639 {
            let (high, low) = split(m);
            assert_eq!(master(high, low), m);
            assert!((f64::from(m) / 256.0 - f64::from(high)).abs() <= 0.5 && high >= -127, "{m}");
        }
        for (m, expected) in [(32_640, (127, 127)), (i32::MAX, (127, 127)), (-40_000, (-127, -127))] {
            assert_eq!(split(m), expected);
        }
    }

    #[test]
    fn a_weight_at_127_does_not_wrap() {
        let mut dither = Dither::new(3, 0);
        for sign in [1i16, -1] {
            let (mut high, mut low) = split(32_600 * i32::from(sign));
            let step = Step::new(1.0, &mut dither);
            let v = [-32_000 * sign];
            descend(step, &v, core::slice::from_mut(&mut high), core::slice::from_mut(&mut low), &mut dither);
            assert_eq!((i16::from(high), i16::from(low)), (127 * sign, 127 * sign));
            let mut v = [32_000 * sign];
            add_gradient(step, &[30_000 * sign], &mut v, &mut dither);
            assert_eq!(v, [if sign > 0 { i16::MAX } else { i16::MIN }]);
        }
    }

    /// 10,000 small gradients, each far below one step of the velocity, most updates below one of the weight.
    #[test]
    fn ten_thousand_small_updates_do_not_drift() {
        const WEIGHTS: usize = 512;
        let mut random = 5u32;
        let mut uniform = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(random >> 8) / f64::from(1 << 23) - 1.0
        };
        // A gradient's mean: none, and one that rounding to nearest would lose or double.
        for mean in [0.0, 0.01, -0.01] {
            let (mut high, mut low, mut v) = ([0i8; WEIGHTS], [0i8; WEIGHTS], [0i16; WEIGHTS]);
            let mut exact = 0.0;
            let mut velocity = 0.0;
            let inputs: std::vec::Vec<i16> = (0..WEIGHTS as i16).map(|i| 100 + i % 2).collect();
            for round in 0..10_000 {
                let mut dither = Dither::new(round, 1);
                // In steps of the velocity for an input of 100.
                let gradient = mean + 0.3 * uniform();
                let momentum = Step::new(0.9, &mut dither);
                fade(momentum, Step::new(0.0, &mut dither), &high, &low, &mut v, &mut dither);
                add_gradient(Step::new((gradient / 100.0) as f32, &mut dither), &inputs, &mut v, &mut dither);
                descend(Step::new(0.25, &mut dither), &v, &mut high, &mut low, &mut dither);
                velocity = 0.9 * velocity + gradient;
                exact -= 0.25 * velocity;
            }
            let drift: std::vec::Vec<f64> = (0..WEIGHTS)
                .map(|i| f64::from(master(high[i], low[i])) - exact * f64::from(inputs[i]) / 100.0)
                .collect();
            let average = drift.iter().sum::<f64>() / WEIGHTS as f64;
            let variance = drift.iter().map(|d| (d - average).powi(2)).sum::<f64>() / (WEIGHTS - 1) as f64;
            let error = (variance / WEIGHTS as f64).sqrt();
            std::println!("drift {average:.3} +- {error:.3} of {exact:.1}, in 1/256 of a step");
            // The gradient's own factor is good to 2^-15, and so is 0.9 of a velocity that is ten times it.
            assert!(average.abs() < 3.0 * error + exact.abs() * 4e-4, "{average} +- {error} of {exact}");
        }
    }
}
