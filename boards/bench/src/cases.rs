//! Generated layers: odd channel counts, one-pixel outputs, every stride, dilation, padding and clamp, and
//! accumulators that wrap. The same layers everywhere.

use crate::checksum::crc32;
use crate::random::{Random, scale};
use flatmin::internals::op::Window;
use flatmin::internals::{
    kernels::{self, Requantization, Scales},
    op::Shape,
};

/// How many cases there are.
pub const CASES: u32 = 500;

/// Room for each array of a case.
const INPUT: usize = 6 * 1024;
const WEIGHTS: usize = 12 * 1024;
const OUTPUTS: usize = 6 * 1024;
const CHANNELS: usize = 160;

/// The operator of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// FULLY_CONNECTED.
    Dense,
    /// CONV_2D.
    Conv,
    /// DEPTHWISE_CONV_2D with its depth multiplier.
    Depthwise(usize),
}

/// One generated layer with its data.
#[derive(Debug, Clone)]
pub struct Case {
    /// The operator.
    pub layer: Layer,
    /// Extent of the input.
    pub input_shape: Shape,
    /// Extent of the output.
    pub output_shape: Shape,
    /// Geometry.
    pub window: Window,
    /// Of the input.
    pub input_zero_point: i32,
    /// Of the output.
    pub output_zero_point: i32,
    /// Lowest and highest output.
    pub clamp: [i8; 2],
    input: [i8; INPUT],
    weights: [i8; WEIGHTS],
    biases: [i32; CHANNELS],
    mantissas: [i32; CHANNELS],
    shifts: [i32; CHANNELS],
    scales: [f32; CHANNELS],
}

fn elements(shape: Shape) -> usize {
    shape.height * shape.width * shape.channels
}

/// Number of outputs along one axis; 0 if the window does not fit.
fn extent(input: usize, filter: usize, stride: usize, dilation: usize, same: bool) -> (usize, usize) {
    let reach = (filter - 1) * dilation + 1;
    if same {
        let outputs = input.div_ceil(stride);
        (outputs, ((outputs - 1) * stride + reach).saturating_sub(input) / 2)
    } else {
        ((input + stride).saturating_sub(reach) / stride, 0)
    }
}

impl Case {
    /// Case `index`; the same everywhere.
    pub fn new(index: u32) -> Self {
        let mut random = Random::new(index.wrapping_mul(0x9e37_79b9) ^ 0x0bad_cafe);
        // Neighbouring seeds start alike.
        for _ in 0..8 {
            random.next();
        }
        loop {
            if let Some(case) = Self::draw(&mut random, index) {
                return case;
            }
        }
    }

    fn draw(random: &mut Random, index: u32) -> Option<Self> {
        let mut pick = |low: i32, high: i32| random.between(low, high) as usize;
        let layer = match index % 5 {
            0 => Layer::Dense,
            1 | 2 => Layer::Conv,
            3 => Layer::Depthwise(1),
            _ => Layer::Depthwise(pick(2, 5)),
        };
        let wide = pick(0, 3) == 0;
        let pointwise = layer == Layer::Conv && pick(0, 3) == 0;
        let filter = if pointwise { [1; 2] } else { [pick(1, 5), pick(1, 5)] };
        let stride = [pick(1, 3), pick(1, 3)];
        let dilation = if pick(0, 2) == 0 { [pick(1, 3), pick(1, 3)] } else { [1; 2] };
        let same = pick(0, 1) == 1;
        let mut input_shape = Shape {
            height: pick(1, 9),
            width: pick(1, 9),
            channels: match pick(0, 4) {
                0 => 16 * pick(1, 4),
                _ if wide => pick(17, 80),
                _ => pick(1, 17),
            },
        };
        let mut window = Window { filter, stride, dilation, padding: [0; 2] };
        let mut output_shape = Shape { height: 1, width: 1, channels: pick(1, if wide { 140 } else { 12 }) };
        if layer == Layer::Dense {
            input_shape = Shape { height: 1, width: 1, channels: pick(1, if wide { 700 } else { 90 }) };
            output_shape.channels = pick(1, if wide { 17 } else { 130 });
            window = Window { filter: [1; 2], stride: [1; 2], dilation: [1; 2], padding: [0; 2] };
        } else {
            let [rows, columns] = [(0, input_shape.height), (1, input_shape.width)]
                .map(|(axis, input)| extent(input, filter[axis], stride[axis], dilation[axis], same));
            window.padding = [rows.1, columns.1];
            (output_shape.height, output_shape.width) = (rows.0, columns.0);
            if let Layer::Depthwise(multiplier) = layer {
                output_shape.channels = input_shape.channels * multiplier;
            }
        }
        let taps = window.filter[0] * window.filter[1];
        let each = if matches!(layer, Layer::Depthwise(_)) { taps } else { taps * input_shape.channels };
        let fits = (1..=INPUT).contains(&elements(input_shape))
            && (1..=OUTPUTS).contains(&elements(output_shape))
            && each * output_shape.channels <= WEIGHTS
            && output_shape.channels <= CHANNELS;
        fits.then(|| Self::with_data(random, layer, input_shape, output_shape, window, each))
    }

    fn with_data(
        random: &mut Random,
        layer: Layer,
        input_shape: Shape,
        output_shape: Shape,
        window: Window,
        products: usize,
    ) -> Self {
        let zero_point = |random: &mut Random| match random.between(0, 4) {
            0 => -128,
            1 => 127,
            _ => random.between(-128, 127),
        };
        let mut case = Self {
            layer,
            input_shape,
            output_shape,
            window,
            input_zero_point: zero_point(random),
            output_zero_point: zero_point(random),
            clamp: [-128, 127],
            input: [0; INPUT],
            weights: [0; WEIGHTS],
            biases: [0; CHANNELS],
            mantissas: [0; CHANNELS],
            shifts: [0; CHANNELS],
            scales: [0.0; CHANNELS],
        };
        if random.between(0, 1) == 1 {
            let (a, b) = (random.int8(), random.int8());
            case.clamp = [a.min(b), a.max(b)];
        }
        // Now and then nothing but the extremes: sums as large as they get.
        let extreme = random.between(0, 7) == 0;
        let value = |random: &mut Random| if extreme { -128 } else { random.int8() };
        case.input.fill_with(|| value(random));
        case.weights.fill_with(|| value(random));
        // The usual shift brings sums into the output's range; the others saturate it or give its zero point.
        let usual = 6 - ((128 * 128 * products) as f32).to_bits().wrapping_shr(23) as i32 + 127;
        let wild = random.between(0, 5) == 0;
        for channel in 0..CHANNELS {
            case.biases[channel] = if wild { random.next() as i32 } else { random.between(-20_000, 20_000) };
            case.mantissas[channel] = match random.between(0, 15) {
                0 => 0,
                1 => 1 << 30,
                2 => i32::MAX,
                _ => random.between(1 << 30, i32::MAX),
            };
            // What a scale of single precision can say, for the factor itself.
            case.mantissas[channel] &= !0x7f;
            case.shifts[channel] = if wild { random.between(-31, 30) } else { usual + random.between(-1, 3) };
            case.scales[channel] = scale(case.mantissas[channel], case.shifts[channel]);
        }
        case
    }

    /// The input, HWC.
    pub fn input(&self) -> &[i8] {
        &self.input[..elements(self.input_shape)]
    }

    /// The weights: `[out, in]`, OHWI or 1HWC.
    pub fn weights(&self) -> &[i8] {
        let taps = self.window.filter[0] * self.window.filter[1];
        let each = if matches!(self.layer, Layer::Depthwise(_)) { 1 } else { self.input_shape.channels };
        &self.weights[..taps * each * self.output_shape.channels]
    }

    /// Biases, multipliers, zero points, clamp.
    pub fn requantization(&self) -> Requantization<'_> {
        let channels = self.output_shape.channels;
        Requantization {
            input_zero_point: self.input_zero_point,
            output_zero_point: self.output_zero_point,
            biases: &self.biases[..channels],
            mantissas: &self.mantissas[..channels],
            shifts: &self.shifts[..channels],
            clamp: self.clamp,
        }
    }

    /// Scales whose factors are exactly those of [`Self::requantization`].
    pub fn scales(&self) -> Scales<'_> {
        Scales { input: 1.0, weights: &self.scales[..self.output_shape.channels], output: 1.0 }
    }

    /// Runs the kernel and hands its output to `look`.
    pub fn run<R>(&self, look: impl FnOnce(&[i8]) -> R) -> R {
        let mut memory = [0; OUTPUTS];
        let output = &mut memory[..elements(self.output_shape)];
        let (from, to, window) = (self.input_shape, self.output_shape, &self.window);
        let (input, weights, requantization) = (self.input(), self.weights(), self.requantization());
        match self.layer {
            Layer::Dense => {
                kernels::fully_connected(input, weights, &requantization, &self.scales(), output);
            }
            Layer::Conv => kernels::conv2d(input, from, window, weights, &requantization, output, to),
            Layer::Depthwise(m) => {
                kernels::depthwise_conv2d(input, from, window, m, weights, &requantization, output, to);
            }
        }
        look(output)
    }
}

/// CRC-32 of case `index`'s output.
pub fn run_case(index: u32) -> u32 {
    Case::new(index).run(crc32)
}
