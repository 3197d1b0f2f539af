//! FULLY_CONNECTED.

use super::Requantization;
use crate::cpu::int8::{self, Column, Filters};
use crate::quant::Multiplier;

/// The scales that a layer's multipliers were quantized from.
#[derive(Debug, Clone, Copy)]
pub struct Scales<'a> {
    /// Scale of the input.
    pub input: f32,
    /// Scales of the weights: one, or one per output.
    pub weights: &'a [f32],
    /// Scale of the output.
    pub output: f32,
}

impl Scales<'_> {
    /// The factor of `output`'s accumulator; 0 without scales.
    fn real(&self, output: usize) -> f64 {
        let weight = match *self.weights {
            [one] => one,
            ref each => each.get(output).copied().unwrap_or(0.0),
        };
        Multiplier::real(self.input, weight, self.output)
    }
}

/// Outputs summed before they are scaled.
const OUTPUTS: usize = 64;

/// `y[o] = clamp(round((bias[o] + sum_i (x[i] - zero_point) * w[o,i]) * factor[o]) + zero_point)`, weights
/// `[out, in]` without a zero point of their own, per tensor or per channel. Unlike convolutions, the reference
/// kernel multiplies in double precision and rounds once, half away from zero.
// Its buffers are on the stack: inlined, they would be there for as long as the caller's.
#[inline(never)]
pub fn fully_connected(
    input: &[i8],
    weights: &[i8],
    requantization: &Requantization,
    scales: &Scales,
    output: &mut [i8],
) {
    let offset = -requantization.input_zero_point;
    let mut scratch = int8::Scratch::EMPTY;
    let mut sums = [0i32; OUTPUTS];
    for (block, y) in output.chunks_mut(OUTPUTS).enumerate() {
        let first = block * OUTPUTS;
        let own = requantization.outputs(first, y.len());
        let Some(sums) = sums.get_mut(..own.biases.len()) else { return };
        let rows = weights.get(first * input.len()..(first + y.len()) * input.len()).unwrap_or(&[]);
        let Some(filters) = Filters::new(rows, input.len(), own.biases, offset) else { return };
        int8::accumulate(&mut scratch, &filters, Column::contiguous(input), 0, sums);
        int8::requantize_as_double(sums, &own, |o| scales.real(first + o), y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_outputs_by_hand() {
        // x - zp = [3, -1]; sums 3*10 - 5 = 25 and -3*7 + 2*-1... each plus bias, times 1/2 and 1/4.
        let requantization = Requantization {
            input_zero_point: -1,
            output_zero_point: 4,
            biases: &[10, 100],
            mantissas: &[1 << 30, 1 << 30],
            shifts: &[0, -1],
            clamp: [-128, 20],
        };
        let scales = Scales { input: 0.5, weights: &[1.0, 0.5], output: 1.0 };
        let mut y = [0; 2];
        fully_connected(&[2, -2], &[10, 5, -7, 2], &requantization, &scales, &mut y);
        // (30 - 5 + 10) / 2 = 17.5 -> 18, + 4 = 22, clamped to 20; (-21 - 2 + 100) / 4 = 19.25 -> 19, + 4 = 23 -> 20.
        assert_eq!(y, [20, 20]);
        let open = Requantization { clamp: [-128, 127], ..requantization };
        fully_connected(&[2, -2], &[10, 5, -7, 2], &open, &scales, &mut y);
        assert_eq!(y, [22, 23]);
    }
}
