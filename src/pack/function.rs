//! Element-wise functions of the f32 tail.

use super::format::operator;
use crate::math;

/// A fused activation, or what a lookup stands for, in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Function {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `min(max(x, -1), 1)`.
    ReluN1To1,
    /// `1 / (1 + exp(-x))`.
    Logistic,
    /// The hyperbolic tangent.
    Tanh,
    /// `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `x` above 0, else `alpha x`; alpha is the operator's `BETA`.
    LeakyRelu,
}

impl Function {
    /// All of them; a function's code is its place.
    pub const ALL: [Self; 8] = [
        Self::Identity,
        Self::Relu,
        Self::Relu6,
        Self::ReluN1To1,
        Self::Logistic,
        Self::Tanh,
        Self::HardSwish,
        Self::LeakyRelu,
    ];

    /// The number that stands for it in a pack.
    pub fn code(self) -> u16 {
        // Eight of them.
        Self::ALL.iter().position(|&f| f == self).unwrap_or(0) as u16
    }

    pub(crate) fn from_code(code: u16) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Lowest and highest value of a clamp; `None` for the other functions.
    pub fn limits(self) -> Option<[f32; 2]> {
        match self {
            Self::Identity => Some([f32::NEG_INFINITY, f32::INFINITY]),
            Self::Relu => Some([0.0, f32::INFINITY]),
            Self::Relu6 => Some([0.0, 6.0]),
            Self::ReluN1To1 => Some([-1.0, 1.0]),
            _ => None,
        }
    }

    /// The activation that is fused to an operator of this kind; of a lookup it is the operator itself.
    pub(crate) fn fused(self, kind: u16) -> Self {
        if kind == operator::LOOKUP { Self::Identity } else { self }
    }

    /// Whether its slope needs the input, and not the output alone.
    pub fn needs_input(self) -> bool {
        matches!(self, Self::HardSwish | Self::LeakyRelu)
    }

    /// The function's value. NaN passes through, to be noticed in the loss.
    ///
    /// ```
    /// use flatmin::internals::pack::Function;
    /// assert_eq!(Function::HardSwish.of(1.0, 0.0), 1.0 * 4.0 / 6.0);
    /// assert_eq!(Function::LeakyRelu.of(-2.0, 0.1), -0.2);
    /// ```
    #[inline]
    pub fn of(self, x: f32, alpha: f32) -> f32 {
        let clamp = |x: f32, low: f32, high: f32| {
            if x < low {
                low
            } else if x > high {
                high
            } else {
                x
            }
        };
        match self {
            Self::Identity => x,
            Self::Relu => clamp(x, 0.0, f32::INFINITY),
            Self::Relu6 => clamp(x, 0.0, 6.0),
            Self::ReluN1To1 => clamp(x, -1.0, 1.0),
            Self::Logistic => logistic(x),
            // 1 - 2 / (e^2x + 1): no difference of large numbers at either end.
            Self::Tanh => 1.0 - 2.0 * logistic(-2.0 * x),
            Self::HardSwish => x * clamp(x + 3.0, 0.0, 6.0) / 6.0,
            Self::LeakyRelu if x < 0.0 => alpha * x,
            Self::LeakyRelu => x,
        }
    }

    /// The function's slope at `x`, where it is `y`; at a kink that of the flat side.
    #[inline]
    pub fn slope(self, x: f32, y: f32, alpha: f32) -> f32 {
        let inside = |inside: bool| if inside { 1.0 } else { 0.0 };
        match self {
            Self::Identity => 1.0,
            Self::Relu => inside(y > 0.0),
            Self::Relu6 => inside(y > 0.0 && y < 6.0),
            Self::ReluN1To1 => inside(y > -1.0 && y < 1.0),
            Self::Logistic => y * (1.0 - y),
            Self::Tanh => 1.0 - y * y,
            Self::HardSwish if x <= -3.0 => 0.0,
            Self::HardSwish if x >= 3.0 => 1.0,
            Self::HardSwish => (2.0 * x + 3.0) / 6.0,
            Self::LeakyRelu if x > 0.0 => 1.0,
            Self::LeakyRelu => alpha,
        }
    }
}

fn logistic(x: f32) -> f32 {
    // The exponential of a negative number does not overflow.
    let small = math::exp(-x.abs());
    if x < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// micromath's exponential is off by up to 2.39e-3 of itself.
    const BOUND: f64 = if cfg!(feature = "micromath") { 2.5e-3 } else { 1e-6 };

    #[test]
    fn slopes_are_the_limits_of_differences() {
        for function in Function::ALL {
            for step in -60..=60 {
                // Off the kinks, which lie on whole numbers.
                let x = f64::from(step) * 0.11 + 0.017;
                let exact = |x: f64| match function {
                    Function::Identity => x,
                    Function::Relu => x.max(0.0),
                    Function::Relu6 => x.clamp(0.0, 6.0),
                    Function::ReluN1To1 => x.clamp(-1.0, 1.0),
                    Function::Logistic => 1.0 / (1.0 + (-x).exp()),
                    Function::Tanh => x.tanh(),
                    Function::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
                    Function::LeakyRelu => x.max(0.0) + 0.2 * x.min(0.0),
                };
                let y = function.of(x as f32, 0.2);
                assert!((f64::from(y) - exact(x)).abs() < BOUND, "{function:?} {x}: {y}");
                let difference = (exact(x + 1e-5) - exact(x - 1e-5)) / 2e-5;
                let slope = function.slope(x as f32, y, 0.2);
                assert!((f64::from(slope) - difference).abs() < 10.0 * BOUND, "{function:?} {x}: {slope}");
            }
        }
    }

    #[test]
    fn codes_go_there_and_back() {
        for function in Function::ALL {
            assert_eq!(Function::from_code(function.code()), Some(function));
        }
        assert_eq!(Function::from_code(8), None);
    }
}
