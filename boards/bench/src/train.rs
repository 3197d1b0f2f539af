//! What training costs: the trainable layers' passes, and whole steps of a two-layer tail.

use crate::board::{Board, measured};
use crate::checksum::crc32_floats;
use crate::random::fill_uniform;
use flatmin::internals::op::Shape;
use flatmin::internals::step::{self, Buffers};
use flatmin::internals::tail::dense::DenseShape;
use flatmin::internals::{
    op::ConvShape,
    tail::kernels::{Sink, conv2d, depthwise},
};
use flatmin::internals::{op::Window, pack::Activation};
use flatmin::{Method, Optimizer, Recipe};
use flatmin::{TailError, internals::tail::DenseChain};

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub struct Training {
    /// What `flatmin bench --train` calls it.
    pub name: &'static str,
    /// Input and output as `flatmin bench` prints them.
    pub shape: &'static str,
    work: Work,
    /// Largest magnitude of a layer's input and bias; of a step's velocity, a hundredth.
    size: f32,
}

/// Turns numbers of the usual size into subnormal ones, or their products.
const SUBNORMAL: f32 = 1e-38;

#[derive(Debug, Clone, Copy)]
enum Work {
    Layer(Layer, Pass),
    Step { method: Method, optimizer: Optimizer, batch: usize },
}

#[derive(Debug, Clone, Copy)]
enum Layer {
    Conv3x3,
    Pointwise,
    Depthwise3x3,
}

#[derive(Debug, Clone, Copy)]
enum Pass {
    Forward,
    WeightGradient,
    InputGradient,
}

const fn layer(name: &'static str, shape: &'static str, layer: Layer, pass: Pass) -> Training {
    Training { name, shape, work: Work::Layer(layer, pass), size: 1.0 }
}

const fn step(name: &'static str, shape: &'static str, method: Method, batch: usize) -> Training {
    Training { name, shape, work: Work::Step { method, optimizer: Optimizer::Sgd, batch }, size: 1.0 }
}

const CONV: &str = "3x3, 8x8x16 -> 32, SAME";
const POINTWISE: &str = "1x1, 8x8x16 -> 32";
const DEPTHWISE: &str = "3x3, 8x8x16, SAME";
const ONE: &str = "64 -> 32 -> 10, 1 sample";
const SIXTEEN: &str = "64 -> 32 -> 10, 16 samples";

/// The name of runs that are saved and resumed.
pub const RESUMED: &str = "train_resumed";

/// All that is measured beside tails.
pub const TRAINING: [Training; 19] = [
    layer("train_conv3x3_8x8x16_32_forward", CONV, Layer::Conv3x3, Pass::Forward),
    layer("train_conv3x3_8x8x16_32_weight_gradient", CONV, Layer::Conv3x3, Pass::WeightGradient),
    layer("train_conv3x3_8x8x16_32_input_gradient", CONV, Layer::Conv3x3, Pass::InputGradient),
    layer("train_pointwise_8x8x16_32_forward", POINTWISE, Layer::Pointwise, Pass::Forward),
    layer("train_pointwise_8x8x16_32_weight_gradient", POINTWISE, Layer::Pointwise, Pass::WeightGradient),
    layer("train_pointwise_8x8x16_32_input_gradient", POINTWISE, Layer::Pointwise, Pass::InputGradient),
    layer("train_depthwise3x3_8x8x16_forward", DEPTHWISE, Layer::Depthwise3x3, Pass::Forward),
    layer("train_depthwise3x3_8x8x16_weight_gradient", DEPTHWISE, Layer::Depthwise3x3, Pass::WeightGradient),
    layer("train_depthwise3x3_8x8x16_input_gradient", DEPTHWISE, Layer::Depthwise3x3, Pass::InputGradient),
    step("train_dense_64_32_10_b1_sgd", ONE, Method::Sgd, 1),
    step("train_dense_64_32_10_b1_sam", ONE, Method::Sam, 1),
    step("train_dense_64_32_10_b1_asam", ONE, Method::Asam, 1),
    step("train_dense_64_32_10_b16_sgd", SIXTEEN, Method::Sgd, 16),
    step("train_dense_64_32_10_b16_sam", SIXTEEN, Method::Sam, 16),
    step("train_dense_64_32_10_b16_asam", SIXTEEN, Method::Asam, 16),
    step("train_dense_64_32_10_b16_sam_on", SIXTEEN, Method::SamOn, 16),
    Training {
        name: "train_dense_64_32_10_b16_adam",
        shape: SIXTEEN,
        work: Work::Step { method: Method::Sgd, optimizer: Optimizer::Adam, batch: 16 },
        size: 1.0,
    },
    // Vector units that flush subnormal numbers give other bits than scalar ones.
    Training {
        size: SUBNORMAL,
        ..layer("train_conv3x3_8x8x16_32_forward_subnormal", CONV, Layer::Conv3x3, Pass::Forward)
    },
    Training { size: SUBNORMAL, ..step("train_dense_64_32_10_b1_sgd_subnormal", ONE, Method::Sgd, 1) },
];

const fn conv(layer: Layer) -> ConvShape {
    let (filter, channels) = match layer {
        Layer::Conv3x3 => (3, 32),
        Layer::Pointwise => (1, 32),
        Layer::Depthwise3x3 => (3, 16),
    };
    let input = Shape { height: 8, width: 8, channels: 16 };
    let output = Shape { channels, ..input };
    let window = Window { filter: [filter; 2], stride: [1; 2], dilation: [1; 2], padding: [filter / 2; 2] };
    match ConvShape::new(input, output, window) {
        Ok(shape) => shape,
        Err(_) => panic!("the extents above are valid"),
    }
}

const FEATURES: usize = 64;
const HIDDEN: usize = 32;
const CLASSES: usize = 10;
const PARAMETERS: usize = (FEATURES + 1) * HIDDEN + (HIDDEN + 1) * CLASSES;
const WORKSPACE: usize = DenseChain::workspace_length(FEATURES, HIDDEN + CLASSES);
const SAMPLES: usize = 16;

/// Floats that [`run_training`] takes: the largest layer's input, weights, biases and output, which is more than the
/// steps' parameters and samples.
pub const MEMORY: usize = 16 * 64 + 9 * 16 * 32 + 32 + 32 * 64;
const _: () = {
    let state = Recipe { optimizer: Optimizer::Adam, ..Recipe::DEFAULT }.velocity_floats(PARAMETERS);
    assert!(MEMORY >= PARAMETERS + state + SAMPLES * FEATURES + WORKSPACE);
};

fn tail() -> Result<DenseChain, TailError> {
    DenseChain::new(&[
        DenseShape { inputs: FEATURES, outputs: HIDDEN, activation: Activation::Relu },
        DenseShape { inputs: HIDDEN, outputs: CLASSES, activation: Activation::None },
    ])
}

impl Training {
    /// Multiply-adds, taps in the padding included where they pad. For a step those of plain gradient descent,
    /// twice that for SAM and ASAM, which compute two gradients.
    pub fn macs(&self) -> u64 {
        match self.work {
            Work::Layer(layer, _) => {
                let shape = conv(layer);
                let weights = match layer {
                    Layer::Depthwise3x3 => depthwise::weights(&shape),
                    _ => conv2d::weights(&shape),
                };
                (shape.output().height * shape.output().width * weights) as u64
            }
            Work::Step { method, batch, .. } => {
                let (first, second) = (FEATURES * HIDDEN, HIDDEN * CLASSES);
                let passes = if method == Method::Sgd { 1 } else { 2 };
                (passes * batch * (2 * first + 3 * second)) as u64
            }
        }
    }

    /// Runs it in `memory` of [`MEMORY`] floats; returns ticks and the result's CRC-32.
    fn run(&self, board: &mut impl Board, memory: &mut [f32]) -> Option<(u64, u32)> {
        match self.work {
            Work::Layer(layer, pass) => run_layer(board, layer, pass, self.size, memory),
            Work::Step { method, optimizer, batch } => {
                run_step(board, method, optimizer, (batch, self.size), memory)
            }
        }
    }
}

fn run_layer(
    board: &mut impl Board,
    layer: Layer,
    pass: Pass,
    size: f32,
    memory: &mut [f32],
) -> Option<(u64, u32)> {
    let shape = conv(layer);
    let shape = &shape;
    let depthwise = matches!(layer, Layer::Depthwise3x3);
    let count = if depthwise { depthwise::weights(shape) } else { conv2d::weights(shape) };
    let (x, rest) = memory.split_at_mut_checked(shape.input_length())?;
    let (w, rest) = rest.split_at_mut_checked(count)?;
    let (b, rest) = rest.split_at_mut_checked(shape.output().channels)?;
    let y = rest.get_mut(..shape.output_length())?;
    for (seed, limit, values) in
        [(11, size, &mut *x), (12, 1.0, &mut *w), (13, size, &mut *b), (14, 1.0, &mut *y)]
    {
        fill_uniform(seed, limit, values);
    }
    // `y` is the output or its gradient.
    let (ticks, result) = match (pass, depthwise) {
        (Pass::Forward, false) => (measured(board, || conv2d::forward(shape, w, b, x, y)), &*y),
        (Pass::Forward, true) => (measured(board, || depthwise::forward(shape, w, b, x, y)), &*y),
        (Pass::WeightGradient, false) => {
            (measured(board, || conv2d::backward_weights(shape, 0.5, x, y, w)), &*w)
        }
        (Pass::WeightGradient, true) => {
            (measured(board, || depthwise::backward_weights(shape, 0.5, x, y, w)), &*w)
        }
        (Pass::InputGradient, false) => {
            (measured(board, || conv2d::backward_input(shape, w, y, Sink::Overwrite, x)), &*x)
        }
        (Pass::InputGradient, true) => {
            (measured(board, || depthwise::backward_input(shape, w, y, Sink::Overwrite, x)), &*x)
        }
    };
    Some((ticks, crc32_floats(result)))
}

fn run_step(
    board: &mut impl Board,
    method: Method,
    optimizer: Optimizer,
    (batch, size): (usize, f32),
    memory: &mut [f32],
) -> Option<(u64, u32)> {
    let tail = tail().ok()?;
    let recipe = Recipe {
        method,
        optimizer,
        momentum: 0.9,
        weight_decay: 0.0,
        label_smoothing: 0.0,
        ..Recipe::DEFAULT
    };
    let state = recipe.velocity_floats(PARAMETERS);
    let (weights, rest) = memory.split_at_mut_checked(PARAMETERS)?;
    let (velocity, rest) = rest.split_at_mut_checked(state)?;
    let (features, rest) = rest.split_at_mut_checked(SAMPLES * FEATURES)?;
    let workspace = rest.get_mut(..WORKSPACE)?;
    // A run under way: weights of the usual size for the fan-in, a velocity of former steps; Adam's first.
    let (sum, moments) = velocity.split_at_mut_checked(PARAMETERS)?;
    moments.fill(0.0);
    for (seed, limit, values) in [(21, 0.2, &mut *weights), (22, 0.01 * size, sum), (23, 1.0, &mut *features)]
    {
        fill_uniform(seed, limit, values);
    }
    let (features, _) = features.as_chunks::<FEATURES>();
    let mut done = false;
    let ticks = measured(board, || {
        let buffers =
            Buffers { weights: &mut *weights, velocity: &mut *velocity, gradient: &mut [], workspace };
        let outcome = step::minibatch(&tail, &recipe, 0.05, buffers, batch, |sample, own| {
            if let Some(features) = features.get(sample)
                && own.len() == FEATURES
            {
                own.copy_from_slice(features);
            }
            sample % CLASSES
        });
        done = outcome.is_ok();
    });
    // Weights and velocity lie side by side.
    let result = memory.get(..PARAMETERS + state)?;
    done.then(|| (ticks, crc32_floats(result)))
}

/// Prints `empty TICKS`, then for everything in [`TRAINING`] `kernel NAME TICKS CRC`, or `skipped NAME` if `memory`
/// is shorter than [`MEMORY`]; then the tails in `packs`, and those in `tuned`, with both tuners and, unless `only` asks for
/// something else, saved and resumed, in `arena`: of both there may be none. Only of names that contain `only`; the tails have
/// none here.
///
/// # Errors
/// Those of the line.
pub fn run_training(
    board: &mut impl Board,
    packs: &[u8],
    memory: &mut [f32],
    (tuned, arena): (&[u8], &mut [u8]),
    only: &str,
) -> core::fmt::Result {
    let ticks = measured(board, || ());
    writeln!(board, "empty {ticks}")?;
    for training in TRAINING.iter().filter(|training| training.name.contains(only)) {
        match training.run(board, memory) {
            None => writeln!(board, "skipped {}", training.name)?,
            Some((ticks, crc)) => writeln!(board, "kernel {} {ticks} {crc:08x}", training.name)?,
        }
    }
    crate::tails::run_tails(board, packs, memory)?;
    crate::tuners::run_tuners(board, tuned, arena)?;
    // Last, as the trace ends before it.
    if RESUMED.contains(only) {
        crate::resumed::run_resumed(board, tuned, arena)?;
    }
    writeln!(board, "end")
}
