//! The constants of the recipe, in flash: computed in f64 when the crate is compiled, for `libm`'s functions are not `const`.

use super::{BANDS, COEFFICIENTS, FFT, FRAME, SAMPLE_RATE_HZ};
use core::f64::consts::PI;

/// The periodic Hann window, `(1 - cos(2 pi n / 480)) / 2`.
pub static HANN: [f32; FRAME] = {
    let (mut window, mut n) = ([0.0; FRAME], 0);
    while n < FRAME {
        window[n] = (0.5 - 0.5 * cosine(n, FRAME)) as f32;
        n += 1;
    }
    window
};

/// `2 / sqrt(80) cos(pi k (2 n + 1) / 80)`, of every coefficient k and band n.
pub static WAVES: [[f32; BANDS]; COEFFICIENTS] = {
    // 80 / 4 is 4.47...^2.
    const HALF_ROOT: f64 = 4.472_135_954_999_579;
    let (mut waves, mut k) = ([[0.0; BANDS]; COEFFICIENTS], 0);
    while k < COEFFICIENTS {
        let mut n = 0;
        while n < BANDS {
            waves[k][n] = (cosine(k * (2 * n + 1), 4 * BANDS) / HALF_ROOT) as f32;
            n += 1;
        }
        k += 1;
    }
    waves
};

/// Lines of the spectrum that lie in a triangle: from the first on, to 4,000 Hz, where the last triangle ends.
pub const LINES: usize = 127;
const LOWEST_HZ: f64 = 20.0;
const HIGHEST_HZ: f64 = 4000.0;
const LINE_HZ: f64 = SAMPLE_RATE_HZ as f64 / FFT as f64;
const _: () = assert!(LINE_HZ > LOWEST_HZ && (LINES + 1) as f64 * LINE_HZ == HIGHEST_HZ);

/// Between which two triangles' peaks each line from 1 on lies: 0 before the first, 40 after the last.
pub static SEGMENT: [u8; LINES] = {
    let (mut segments, mut i) = ([0; LINES], 0);
    while i < LINES {
        // At most 40.
        segments[i] = place(i + 1) as u8;
        i += 1;
    }
    segments
};

/// Weight of each line from 1 on in the falling triangle; 1 less that is the one in the rising.
pub static FALLING: [f32; LINES] = {
    let (mut falling, mut i) = ([0.0; LINES], 0);
    while i < LINES {
        let place = place(i + 1);
        falling[i] = (1.0 - (place - place as usize as f64)) as f32;
        i += 1;
    }
    falling
};

/// Where a line lies, counted in distances of peaks from the first triangle's beginning.
const fn place(line: usize) -> f64 {
    let low = mel(LOWEST_HZ);
    (mel(line as f64 * LINE_HZ) - low) / (mel(HIGHEST_HZ) - low) * (BANDS + 1) as f64
}

/// But for the factor 1127, which cancels.
const fn mel(hertz: f64) -> f64 {
    ln(1.0 + hertz / 700.0)
}

/// `ln y = 2 artanh((y - 1) / (y + 1))`, by its series; 6.8 is the largest that is asked for.
const fn ln(y: f64) -> f64 {
    let z = (y - 1.0) / (y + 1.0);
    let (mut sum, mut power, mut i) = (0.0, z, 1);
    while i < 140 {
        sum += power / i as f64;
        power *= z * z;
        i += 2;
    }
    2.0 * sum
}

/// The cosine of `numerator / denominator` turns, by its series around half a turn.
const fn cosine(numerator: usize, denominator: usize) -> f64 {
    let x = 2.0 * PI * ((numerator % denominator) as f64 / denominator as f64) - PI;
    let (mut sum, mut term, mut i) = (0.0, 1.0, 1);
    while i < 40 {
        sum += term;
        term *= -x * x / (i * (i + 1)) as f64;
        i += 2;
    }
    -sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formulas as they are written, with the functions of `std`; triangles as TensorFlow computes them.
    #[test]
    fn tables_are_those_of_the_recipe() {
        for (n, &weight) in HANN.iter().enumerate() {
            let expected = 0.5 - 0.5 * (2.0 * PI * n as f64 / 480.0).cos();
            assert!((f64::from(weight) - expected).abs() < 6e-8, "{n}");
        }
        for (k, wave) in WAVES.iter().enumerate() {
            for (n, &value) in wave.iter().enumerate() {
                let expected = 2.0 / 80f64.sqrt() * (PI * k as f64 * (2.0 * n as f64 + 1.0) / 80.0).cos();
                assert!((f64::from(value) - expected).abs() < 2e-8, "{k} {n}");
            }
        }
        let mel = |hertz: f64| 1127.0 * (hertz / 700.0).ln_1p();
        let edge = |i: usize| mel(20.0) + (mel(4000.0) - mel(20.0)) * i as f64 / 41.0;
        for line in 0..257usize {
            let own = mel(31.25 * line as f64);
            for band in 0..40 {
                let rising = (own - edge(band)) / (edge(band + 1) - edge(band));
                let falling = (edge(band + 2) - own) / (edge(band + 2) - edge(band + 1));
                let expected = if line == 0 { 0.0 } else { rising.min(falling).max(0.0) };
                let found = match line.checked_sub(1).filter(|&i| i < LINES) {
                    Some(i) if usize::from(SEGMENT[i]) == band + 1 => f64::from(FALLING[i]),
                    Some(i) if usize::from(SEGMENT[i]) == band => 1.0 - f64::from(FALLING[i]),
                    _ => 0.0,
                };
                assert!((found - expected).abs() < 1e-7, "line {line}, band {band}: {found}, {expected}");
            }
        }
    }
}
