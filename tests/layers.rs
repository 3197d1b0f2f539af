//! The trainable convolutions over generated shapes against candle's automatic differentiation in f64 and finite
//! differences: small integers, for which every order of operations is exact, and reals within rounding.

use candle_core::{DType, Device, Result, Tensor, Var};
use flatmin::internals::op::Shape;
use flatmin::internals::op::Window;
use flatmin::internals::{
    op::ConvShape,
    tail::kernels::{Sink, conv2d, depthwise},
};

mod reference;
use reference::Random;

const CASES: usize = 300;
const SCALE: f32 = 0.5;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Conv,
    Depthwise,
}

#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    shape: ConvShape,
    weights: Vec<f32>,
    biases: Vec<f32>,
    x: Vec<f32>,
    /// Gradient of the loss by the output: the loss is `sum delta * y`.
    delta: Vec<f32>,
}

/// Output and gradients.
#[derive(Debug, Clone, PartialEq)]
struct Found<T> {
    y: Vec<T>,
    d_weights: Vec<T>,
    d_biases: Vec<T>,
    d_x: Vec<T>,
}

impl Case {
    fn new(kind: Kind, seed: u64, mut value: impl FnMut(&mut Random) -> f32) -> Self {
        let mut random = Random::new(seed);
        let mut pick = |low: usize, high: usize| low + random.below(high + 1 - low);
        let window = Window {
            filter: [pick(1, 4), pick(1, 4)],
            stride: [pick(1, 3), pick(1, 3)],
            dilation: if pick(0, 1) == 0 { [1; 2] } else { [pick(1, 3), pick(1, 3)] },
            padding: [pick(0, 3), pick(0, 3)],
        };
        let input = Shape { height: pick(1, 7), width: pick(1, 7), channels: pick(1, 21) };
        let channels =
            if kind == Kind::Conv { pick(1, 11) } else { input.channels * [1, 1, 2, 3][pick(0, 3)] };
        let output = Shape { height: pick(1, 5), width: pick(1, 5), channels };
        let shape = ConvShape::new(input, output, window).expect("extents of 1 and more");
        let weights = if kind == Kind::Conv { conv2d::weights(&shape) } else { depthwise::weights(&shape) };
        let mut vector = |length| (0..length).map(|_| value(&mut random)).collect::<Vec<f32>>();
        Self {
            kind,
            shape,
            weights: vector(weights),
            biases: vector(channels),
            x: vector(shape.input_length()),
            delta: vector(shape.output_length()),
        }
    }

    fn forward(&self) -> Vec<f32> {
        // What must be overwritten is NaN.
        let mut y = vec![f32::NAN; self.shape.output_length()];
        match self.kind {
            Kind::Conv => conv2d::forward(&self.shape, &self.weights, &self.biases, &self.x, &mut y),
            Kind::Depthwise => depthwise::forward(&self.shape, &self.weights, &self.biases, &self.x, &mut y),
        }
        y
    }

    /// The kernels; gradients of the parameters come on top of `before`.
    fn found(&self, before: f32) -> Found<f32> {
        let (shape, x, delta) = (&self.shape, &self.x, &self.delta);
        let mut d_weights = vec![before; self.weights.len()];
        let mut d_biases = vec![before; self.biases.len()];
        let mut d_x = vec![f32::NAN; x.len()];
        match self.kind {
            Kind::Conv => {
                conv2d::backward_weights(shape, SCALE, x, delta, &mut d_weights);
                conv2d::backward_biases(shape, SCALE, delta, &mut d_biases);
                conv2d::backward_input(shape, &self.weights, delta, Sink::Overwrite, &mut d_x);
            }
            Kind::Depthwise => {
                depthwise::backward_weights(shape, SCALE, x, delta, &mut d_weights);
                depthwise::backward_biases(shape, SCALE, delta, &mut d_biases);
                depthwise::backward_input(shape, &self.weights, delta, Sink::Overwrite, &mut d_x);
            }
        }
        Found { y: self.forward(), d_weights, d_biases, d_x }
    }

    fn candle(&self) -> Found<f64> {
        self.differentiate().expect("candle")
    }

    /// Pads, and adds up one product a tap: what the tap sees, gathered, times its weights.
    fn differentiate(&self) -> Result<Found<f64>> {
        let device = Device::Cpu;
        let (input, output, window) = (self.shape.input(), self.shape.output(), self.shape.window());
        let wide = |values: &[f32], shape: &[usize]| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &device)?.to_dtype(DType::F64)?)
        };
        let [height, width] = window.filter;
        let weights_shape = match self.kind {
            Kind::Conv => [output.channels, height, width, input.channels],
            Kind::Depthwise => [1, height, width, output.channels],
        };
        let weights = wide(&self.weights, &weights_shape)?;
        let biases = wide(&self.biases, &[1, output.channels])?;
        let x = wide(&self.x, &[input.height, input.width, input.channels])?;
        let delta = wide(&self.delta, &[output.height * output.width, output.channels])?;
        let mut padded = x.as_tensor().clone();
        for (axis, extent) in [(0, output.height), (1, output.width)] {
            // Below and to the right as far as the last window reaches.
            let reach = (extent - 1) * window.stride[axis] + window.filter[axis] * window.dilation[axis];
            padded = padded.pad_with_zeros(axis, window.padding[axis], reach)?;
        }
        let mut y = biases.broadcast_as((output.height * output.width, output.channels))?;
        for i in 0..height {
            for j in 0..width {
                let places = |extent: usize, axis: usize, tap: usize| {
                    let place = |r| (r * window.stride[axis] + tap * window.dilation[axis]) as u32;
                    Tensor::from_vec((0..extent).map(place).collect::<Vec<_>>(), extent, &device)
                };
                let seen = padded.index_select(&places(output.height, 0, i)?, 0)?;
                let seen = seen.index_select(&places(output.width, 1, j)?, 1)?;
                let seen = seen.reshape((output.height * output.width, input.channels))?;
                let own = weights
                    .narrow(1, i, 1)?
                    .narrow(2, j, 1)?
                    .reshape((weights_shape[0], weights_shape[3]))?;
                let product = match self.kind {
                    Kind::Conv => seen.matmul(&own.t()?)?,
                    Kind::Depthwise => {
                        let multiplier = output.channels / input.channels;
                        let pixels = output.height * output.width;
                        let shape = (pixels, input.channels, multiplier);
                        let seen = seen.reshape((pixels, input.channels, 1))?.broadcast_as(shape)?;
                        seen.reshape((pixels, output.channels))?.broadcast_mul(&own)?
                    }
                };
                y = (y + product)?;
            }
        }
        let gradients = y.mul(&delta)?.sum_all()?.backward()?;
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f64>();
        let of = |variable: &Var| match gradients.get(variable) {
            Some(gradient) => flat(gradient),
            None => Ok(vec![0.0; variable.elem_count()]),
        };
        Ok(Found { y: flat(&y)?, d_weights: of(&weights)?, d_biases: of(&biases)?, d_x: of(&x)? })
    }

    fn loss(&self) -> f64 {
        self.forward().iter().zip(&self.delta).map(|(&y, &d)| f64::from(y) * f64::from(d)).sum()
    }
}

/// Where a case keeps one of its vectors.
type Field = fn(&mut Case) -> &mut Vec<f32>;

fn cases(value: impl Fn(&mut Random) -> f32 + Copy) -> impl Iterator<Item = Case> {
    let kinds = [Kind::Conv, Kind::Depthwise];
    (0..CASES).map(move |i| Case::new(kinds[i % 2], i as u64, value))
}

fn small_integer(random: &mut Random) -> f32 {
    random.below(9) as f32 - 4.0
}

#[test]
fn integers_give_candles_results_exactly() {
    for case in cases(small_integer) {
        let expected = case.candle();
        let narrow = |values: &[f64], factor: f64, before: f64| {
            values.iter().map(|v| (v * factor + before) as f32).collect::<Vec<_>>()
        };
        // The gradients of the parameters are scaled and added.
        let expected = Found {
            y: narrow(&expected.y, 1.0, 0.0),
            d_weights: narrow(&expected.d_weights, f64::from(SCALE), 3.0),
            d_biases: narrow(&expected.d_biases, f64::from(SCALE), 3.0),
            d_x: narrow(&expected.d_x, 1.0, 0.0),
        };
        assert_eq!(case.found(3.0), expected, "{case:?}");
    }
}

#[test]
fn integers_give_finite_differences_exactly() {
    for mut case in cases(small_integer).step_by(5) {
        let (found, at) = (case.found(0.0), case.loss());
        // The loss is linear in each, so that a step of 1 is as good as any.
        let fields: [(Field, &[f32], f64); 3] = [
            (|c| &mut c.weights, &found.d_weights, f64::from(SCALE)),
            (|c| &mut c.biases, &found.d_biases, f64::from(SCALE)),
            (|c| &mut c.x, &found.d_x, 1.0),
        ];
        for (field, gradient, scale) in fields {
            for (i, &d) in gradient.iter().enumerate().step_by(7) {
                field(&mut case)[i] += 1.0;
                let slope = case.loss() - at;
                field(&mut case)[i] -= 1.0;
                assert_eq!(f64::from(d), slope * scale, "element {i} of {case:?}");
            }
        }
    }
}

/// `n` rounded additions of rounded products are off by at most `n * 2^-24 / (1 - n * 2^-24)` of the sum of
/// magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
#[test]
fn reals_are_within_rounding() {
    for case in cases(|random| random.uniform(1.0)) {
        let (found, exact) = (case.found(0.0), case.candle());
        let mut magnitudes = case.clone();
        for field in
            [&mut magnitudes.weights, &mut magnitudes.biases, &mut magnitudes.x, &mut magnitudes.delta]
        {
            field.iter_mut().for_each(|v| *v = v.abs());
        }
        let magnitude = magnitudes.candle();
        let [height, width] = case.shape.window().filter;
        let pixels = case.shape.output().height * case.shape.output().width;
        let channels = case.shape.input().channels.max(case.shape.output().channels);
        let additions = (height * width * channels).max(pixels) as f64 + 2.0;
        let bound = additions * f64::from(f32::EPSILON) / 2.0 * 1.01;
        let check = |what: &str, found: &[f32], exact: &[f64], magnitude: &[f64], scale: f64| {
            assert_eq!(found.len(), exact.len());
            for ((&found, exact), magnitude) in found.iter().zip(exact).zip(magnitude) {
                let error = (f64::from(found) - scale * exact).abs();
                assert!(error <= bound * scale * magnitude, "{what}: {found} for {exact}: {case:?}");
            }
        };
        check("y", &found.y, &exact.y, &magnitude.y, 1.0);
        check("d_weights", &found.d_weights, &exact.d_weights, &magnitude.d_weights, f64::from(SCALE));
        check("d_biases", &found.d_biases, &exact.d_biases, &magnitude.d_biases, f64::from(SCALE));
        check("d_x", &found.d_x, &exact.d_x, &magnitude.d_x, 1.0);
    }
}

#[test]
fn short_slices_write_nothing_beyond_themselves_and_never_panic() {
    for case in cases(small_integer).step_by(11) {
        for keep in [0, 1, 5] {
            let mut short = case.clone();
            for field in [&mut short.weights, &mut short.biases, &mut short.x, &mut short.delta] {
                field.truncate(keep);
            }
            short.found(0.0);
        }
    }
}
