//! The four shapes that other libraries' figures exist for, and means over an image. Weights lie in flash, as in a pack.

use crate::random::{fill, int8s, integers, mantissas, scales};
use flatmin::Aligned;
use flatmin::internals::op::Window;
use flatmin::internals::{
    Multiplier,
    kernels::{self, Requantization, Scales},
    op::{Mean, Shape},
};

/// A layer with its constants.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// What `flatmin bench` calls it.
    pub name: &'static str,
    /// Input and output as `flatmin bench` prints them.
    pub shape: &'static str,
    operator: Operator,
    input: Shape,
    output: Shape,
    window: Window,
    weights: &'static [i8],
    requantization: Requantization<'static>,
    scales: Scales<'static>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Dense,
    Conv,
    Depthwise,
    AveragePool,
    Mean(Mean),
}

const fn window(filter: usize) -> Window {
    Window { filter: [filter; 2], stride: [1; 2], dilation: [1; 2], padding: [filter / 2; 2] }
}

const fn shape(height: usize, width: usize, channels: usize) -> Shape {
    Shape { height, width, channels }
}

/// Constants of a layer: weights, biases, mantissas and shifts around `$shift`, all from one seed.
macro_rules! constants {
    ($name:ident, $seed:expr, weights: $weights:expr, outputs: $outputs:expr, shift: $shift:expr) => {
        mod $name {
            use super::*;
            pub static WEIGHTS: Aligned<[i8; $weights]> = Aligned(int8s($seed));
            static BIASES: [i32; $outputs] = integers($seed + 1, -9000, 9000);
            static MANTISSAS: [i32; $outputs] = mantissas($seed + 2);
            static SHIFTS: [i32; $outputs] = integers($seed + 3, $shift - 1, $shift);
            static SCALES: [f32; $outputs] = scales(&MANTISSAS, &SHIFTS);
            pub const FACTORS: Scales<'static> = Scales { input: 1.0, weights: &SCALES, output: 1.0 };
            pub const REQUANTIZATION: Requantization<'static> = Requantization {
                input_zero_point: 5,
                output_zero_point: -4,
                biases: &BIASES,
                mantissas: &MANTISSAS,
                shifts: &SHIFTS,
                clamp: [-128, 127],
            };
        }
    };
}

constants!(dense, 101, weights: 640 * 128, outputs: 128, shift: -10);
constants!(conv, 201, weights: 16 * 9 * 16, outputs: 16, shift: -9);
constants!(depthwise, 301, weights: 9 * 64, outputs: 64, shift: -7);
constants!(pointwise, 401, weights: 64 * 64, outputs: 64, shift: -9);

/// All of them.
pub const KERNELS: [Kernel; 6] = [
    Kernel {
        name: "dense_640_128",
        shape: "640 -> 128",
        operator: Operator::Dense,
        input: shape(1, 1, 640),
        output: shape(1, 1, 128),
        window: window(1),
        weights: &dense::WEIGHTS.0,
        requantization: dense::REQUANTIZATION,
        scales: dense::FACTORS,
    },
    Kernel {
        name: "conv3x3_16x16x16_16",
        shape: "3x3, 16x16x16 -> 16, SAME",
        operator: Operator::Conv,
        input: shape(16, 16, 16),
        output: shape(16, 16, 16),
        window: window(3),
        weights: &conv::WEIGHTS.0,
        requantization: conv::REQUANTIZATION,
        scales: conv::FACTORS,
    },
    Kernel {
        name: "depthwise3x3_25x5x64",
        shape: "3x3, 25x5x64, SAME",
        operator: Operator::Depthwise,
        input: shape(25, 5, 64),
        output: shape(25, 5, 64),
        window: window(3),
        weights: &depthwise::WEIGHTS.0,
        requantization: depthwise::REQUANTIZATION,
        scales: depthwise::FACTORS,
    },
    Kernel {
        name: "pointwise_25x5x64_64",
        shape: "1x1, 25x5x64 -> 64",
        operator: Operator::Conv,
        input: shape(25, 5, 64),
        output: shape(25, 5, 64),
        window: window(1),
        weights: &pointwise::WEIGHTS.0,
        requantization: pointwise::REQUANTIZATION,
        scales: pointwise::FACTORS,
    },
    Kernel {
        name: "average_pool_25x5x64",
        shape: "whole image, 25x5x64",
        operator: Operator::AveragePool,
        window: Window { filter: [25, 5], padding: [0; 2], ..window(1) },
        ..OF_AN_IMAGE
    },
    Kernel { name: "mean_25x5x64", shape: "whole image, 25x5x64", ..OF_AN_IMAGE },
];

/// 1 / 125 as mantissa and shift.
const OF_125: Multiplier = Multiplier { mantissa: 1_099_511_628, shift: -6 };

const OF_AN_IMAGE: Kernel = Kernel {
    name: "",
    shape: "",
    operator: Operator::Mean(Mean { multiplier: OF_125, axes: [false, true, true, false] }),
    input: shape(25, 5, 64),
    output: shape(1, 1, 64),
    window: window(1),
    weights: &[],
    requantization: pointwise::REQUANTIZATION,
    scales: pointwise::FACTORS,
};

impl Kernel {
    /// Multiply-adds, taps in the padding included where they pad: what CMSIS-NN's figures count, output
    /// elements times filter taps; a depthwise tap is one, and so is an element of a mean.
    pub fn macs(&self) -> u64 {
        if let Operator::Mean(_) = self.operator {
            return (self.input.height * self.input.width * self.input.channels) as u64;
        }
        let outputs = (self.output.height * self.output.width * self.output.channels) as u64;
        let taps = self.window.filter[0] * self.window.filter[1];
        let is_dense = matches!(self.operator, Operator::Dense | Operator::Conv);
        outputs * (if is_dense { taps * self.input.channels } else { taps }) as u64
    }

    /// Divides `memory` into the kernel's input, filled, and its output; `None` if it is too small.
    pub fn place<'a>(&self, memory: &'a mut [i8]) -> Option<(&'a [i8], &'a mut [i8])> {
        let elements = |s: Shape| s.height * s.width * s.channels;
        let (input, rest) = memory.split_at_mut_checked(elements(self.input))?;
        let output = rest.get_mut(..elements(self.output))?;
        fill(self.name.len() as u32, input);
        output.fill(0);
        Some((input, output))
    }

    /// The layer.
    pub fn run(&self, input: &[i8], output: &mut [i8]) {
        let (from, to, window, weights) = (self.input, self.output, &self.window, self.weights);
        let requantization = &self.requantization;
        match self.operator {
            Operator::Dense => {
                kernels::fully_connected(input, weights, requantization, &self.scales, output);
            }
            Operator::Conv => kernels::conv2d(input, from, window, weights, requantization, output, to),
            Operator::Depthwise => {
                kernels::depthwise_conv2d(input, from, window, 1, weights, requantization, output, to);
            }
            Operator::AveragePool => {
                kernels::average_pool2d(input, from, window, requantization.clamp, output, to);
            }
            Operator::Mean(mean) => {
                let extents = [1, from.height, from.width, from.channels];
                kernels::mean(input, extents, &mean, [5, -4], output);
            }
        }
    }
}
