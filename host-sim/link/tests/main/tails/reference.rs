//! A tail's loss in double precision, straight from the lowered network: naive loops, no plan, no workspace.

use flatmin::internals::op::{Mean, Move};
use flatmin::internals::pack::Function;
use flatmin::internals::pack::format::operator as code;
use flatmin_model::packer::{Activations, Network, Step, TailPlan, Trains};
use std::collections::HashMap;

/// Values by storage.
type Values = HashMap<usize, Vec<f64>>;

fn dequantized(tensor: &Activations, q: &[i8]) -> Vec<f64> {
    let zero = tensor.affine.zero_point;
    q.iter().map(|&q| f64::from(tensor.affine.scale) * f64::from(i32::from(q) - zero)).collect()
}

fn apply(function: Function, x: f64, alpha: f64) -> f64 {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Function::Identity => x,
        Function::Relu => x.max(0.0),
        Function::Relu6 => x.clamp(0.0, 6.0),
        Function::ReluN1To1 => x.clamp(-1.0, 1.0),
        Function::Logistic => logistic(x),
        Function::Tanh => x.tanh(),
        Function::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Function::LeakyRelu => x.max(0.0) + alpha * x.min(0.0),
    }
}

/// Taps `(row, column, tap)` of a window that lie inside the input.
fn taps(step: &Step, input: [usize; 4], row: usize, column: usize) -> Vec<(usize, usize, usize)> {
    let w = &step.window;
    let mut all = Vec::new();
    for i in 0..w.filter[0] {
        for j in 0..w.filter[1] {
            let r = (row * w.stride[0] + i * w.dilation[0]) as i64 - w.padding[0] as i64;
            let c = (column * w.stride[1] + j * w.dilation[1]) as i64 - w.padding[1] as i64;
            if (0..input[1] as i64).contains(&r) && (0..input[2] as i64).contains(&c) {
                all.push((r as usize, c as usize, i * w.filter[1] + j));
            }
        }
    }
    all
}

/// Weights and biases: trained ones from `parameters`, which it moves on, frozen ones as packed.
fn weights(network: &Network, step: &Step, trains: Trains, parameters: &mut &[f64]) -> (Vec<f64>, Vec<f64>) {
    let c = &step.constants;
    let outputs = c.biases.len();
    let scale = |o: usize| f64::from(c.scales[if c.scales.len() > 1 { o } else { 0 }]);
    let channel = |i: usize| {
        if step.kind == code::DEPTHWISE_CONV_2D { i % outputs } else { i / (c.weights.len() / outputs) }
    };
    let mut take = |count: usize| {
        let (own, rest) = parameters.split_at(count);
        *parameters = rest;
        own.to_vec()
    };
    let packed = || c.weights.iter().enumerate().map(|(i, &w)| scale(channel(i)) * f64::from(w)).collect();
    let input = f64::from(network.tensors[step.input].affine.scale);
    let taps = c.weights.len() / outputs;
    let own_weights = match trains {
        Trains::All => take(c.weights.len()),
        Trains::Scales => {
            let gains = take(c.scales.len());
            let gain = |o: usize| gains[if gains.len() > 1 { o } else { 0 }];
            let packed: Vec<f64> = packed();
            packed.iter().enumerate().map(|(i, w)| w * gain(channel(i))).collect()
        }
        Trains::Percent(_) | Trains::Channels(_) => {
            let mut own: Vec<f64> = packed();
            for o in chosen(&own, taps, trains.channels(outputs)) {
                own[o * taps..(o + 1) * taps].copy_from_slice(&take(taps));
            }
            own
        }
        Trains::Inputs(_) => unreachable!("integers alone train shares of inputs"),
        Trains::Biases | Trains::Nothing => packed(),
    };
    let biases = match trains {
        Trains::Nothing => (0..outputs).map(|o| input * scale(o) * f64::from(c.biases[o])).collect(),
        _ => take(outputs),
    };
    (own_weights, biases)
}

/// The rows of `taps` weights that are longest; rising.
pub fn chosen(weights: &[f64], taps: usize, count: usize) -> Vec<usize> {
    let norm = |row: &[f64]| row.iter().map(|w| w * w).sum::<f64>();
    let norms: Vec<f64> = weights.chunks(taps).map(norm).collect();
    let beaten_by =
        |o: usize| (0..norms.len()).filter(|&p| norms[p] > norms[o] || norms[p] == norms[o] && p < o).count();
    (0..norms.len()).filter(|&o| beaten_by(o) < count).collect()
}

fn run(network: &Network, step: &Step, values: &Values, own: Option<(Vec<f64>, Vec<f64>)>, y: &mut [f64]) {
    let tensor = |index: usize| &network.tensors[index];
    let value = |index: usize| match &tensor(index).constant {
        Some(q) => dequantized(tensor(index), q),
        None => values[&tensor(index).storage].clone(),
    };
    let (from, to) = (tensor(step.input).shape, tensor(step.output).shape);
    let at = |[_, _, width, channels]: [usize; 4], r: usize, c: usize| (r * width + c) * channels;
    let pixels = (0..to[1]).flat_map(|r| (0..to[2]).map(move |c| (r, c)));
    match step.kind {
        code::CONV_2D | code::DEPTHWISE_CONV_2D => {
            let (x, (w, b)) = (value(step.input), own.unwrap());
            let deep = step.kind == code::DEPTHWISE_CONV_2D;
            let area = step.window.filter[0] * step.window.filter[1];
            for (row, column) in pixels {
                for o in 0..to[3] {
                    let mut sum = b[o];
                    for (r, c, tap) in taps(step, from, row, column) {
                        let x = &x[at(from, r, c)..at(from, r, c) + from[3]];
                        sum += match deep {
                            true => x[o / step.depth_multiplier] * w[tap * to[3] + o],
                            false => (0..from[3]).map(|k| x[k] * w[(o * area + tap) * from[3] + k]).sum(),
                        };
                    }
                    y[at(to, row, column) + o] = sum;
                }
            }
        }
        code::FULLY_CONNECTED => {
            let (x, (w, b)) = (value(step.input), own.unwrap());
            let inputs = w.len() / b.len();
            for (x, y) in x.chunks(inputs).zip(y.chunks_mut(b.len())) {
                for (o, y) in y.iter_mut().enumerate() {
                    *y = b[o] + (0..inputs).map(|k| x[k] * w[o * inputs + k]).sum::<f64>();
                }
            }
        }
        code::AVERAGE_POOL_2D | code::MAX_POOL_2D => {
            let x = value(step.input);
            for (row, column) in pixels {
                for channel in 0..to[3] {
                    let taps = taps(step, from, row, column);
                    let under = taps.iter().map(|&(r, c, _)| x[at(from, r, c) + channel]);
                    y[at(to, row, column) + channel] = match step.kind {
                        code::MAX_POOL_2D => under.fold(f64::NEG_INFINITY, f64::max),
                        _ => under.sum::<f64>() / taps.len() as f64,
                    };
                }
            }
        }
        code::MEAN => {
            let (x, mean) = (value(step.input), Mean::read(&step.parameters).unwrap());
            let mut counts = vec![0.0; y.len()];
            y.fill(0.0);
            for (index, x) in x.iter().enumerate() {
                let mut rest = index;
                let mut place = [0; 4];
                for axis in (0..4).rev() {
                    (place[axis], rest) = (rest % from[axis], rest / from[axis]);
                }
                let kept = (0..4).filter(|&axis| !mean.axes[axis]);
                let to = kept.fold(0, |at, axis| at * from[axis] + place[axis]);
                y[to] += x;
                counts[to] += 1.0;
            }
            y.iter_mut().zip(counts).for_each(|(y, count)| *y /= count);
        }
        code::ADD | code::SUB | code::MUL | code::PRELU => {
            let (a, b) = (value(step.input), value(step.second_input.unwrap()));
            let other = tensor(step.second_input.unwrap()).shape;
            for (index, y) in y.iter_mut().enumerate() {
                let mut rest = index;
                let mut place = [0; 4];
                for axis in (0..4).rev() {
                    (place[axis], rest) = (rest % to[axis], rest / to[axis]);
                }
                let read = |shape: [usize; 4]| {
                    (0..4)
                        .fold(0, |at, axis| at * shape[axis] + if shape[axis] == 1 { 0 } else { place[axis] })
                };
                let (a, b) = (a[read(from)], b[read(other)]);
                *y = match step.kind {
                    code::SUB => a - b,
                    code::MUL => a * b,
                    code::PRELU => a.max(0.0) + b * a.min(0.0),
                    _ => a + b,
                };
            }
        }
        code::LOOKUP => {
            let function = step.function.unwrap();
            let alpha = f64::from(step.beta);
            y.iter_mut().zip(value(step.input)).for_each(|(y, x)| *y = apply(function, x, alpha));
        }
        code::MOVE => {
            let (x, m) = (value(step.input), Move::read(&step.parameters).unwrap());
            let [a, b, c, d] = m.extents;
            for (i, j, k, l) in
                (0..a * b * c * d).map(|n| (n / (b * c * d), n / (c * d) % b, n / d % c, n % d))
            {
                let go = |first: usize, s: [isize; 4]| {
                    let steps = [i, j, k, l].map(usize::cast_signed);
                    (0..4).fold(first.cast_signed(), |at, axis| at + s[axis] * steps[axis]).cast_unsigned()
                };
                y[go(m.to, m.to_strides)] = x[go(m.from, m.from_strides)];
            }
        }
        code::FILL => {
            let q = i8::try_from(step.parameters[0]).unwrap();
            y.fill(dequantized(tensor(step.output), &[q])[0]);
        }
        code::RESIZE_NEAREST => {
            let x = value(step.input);
            let (rows, columns) = step.parameters.split_at(to[1]);
            for (r, c) in pixels {
                let source = at(from, rows[r] as usize, columns[c] as usize);
                let place = at(to, r, c);
                y[place..place + to[3]].copy_from_slice(&x[source..source + to[3]]);
            }
        }
        kind => panic!("kind {kind}"),
    }
    if step.kind != code::LOOKUP {
        y.iter_mut().for_each(|y| *y = apply(step.function.unwrap(), *y, 0.0));
    }
}

/// The logits for `features`, int8 tensors by index.
pub fn logits(
    network: &Network,
    plan: &TailPlan,
    features: &[(usize, Vec<i8>)],
    parameters: &[f64],
) -> Vec<f64> {
    let mut values = Values::new();
    for (tensor, q) in features {
        let tensor = &network.tensors[*tensor];
        values.insert(tensor.storage, dequantized(tensor, q));
    }
    let (mut rest, mut layer, mut last) = (parameters, 0, 0);
    for step in &network.steps[network.cut(plan.layers)..] {
        // What belongs to the loss.
        if network.head().is_some_and(|head| std::ptr::eq(head, step)) {
            break;
        }
        let own = step.has_weights().then(|| {
            layer += 1;
            weights(network, step, plan.trains(layer - 1), &mut rest)
        });
        let output = &network.tensors[step.output];
        // In place, or a tensor that several operators put together: what is there stays.
        let mut y = values.get(&output.storage).cloned().unwrap_or_default();
        y.resize(output.len(), 0.0);
        run(network, step, &values, own, &mut y);
        values.insert(output.storage, y);
        last = output.storage;
    }
    assert!(rest.is_empty());
    values.remove(&last).unwrap()
}

/// What an output is compared with.
pub enum Target {
    Class(usize),
    Bits(usize),
    Values(Vec<f64>),
}

/// Softmax cross-entropy, binary cross-entropy, mean squared error: from their definitions.
pub fn loss(outputs: &[f64], target: &Target) -> f64 {
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    match target {
        Target::Class(label) => cross_entropy(outputs, *label),
        Target::Bits(bits) => {
            let p = |bit: usize, z: f64| if bits >> bit & 1 == 1 { sigmoid(z) } else { sigmoid(-z) };
            outputs.iter().enumerate().map(|(bit, &z)| -p(bit, z).ln()).sum()
        }
        Target::Values(values) => {
            let squares = outputs.iter().zip(values).map(|(y, t)| (y - t).powi(2));
            squares.sum::<f64>() / values.len() as f64
        }
    }
}

fn cross_entropy(logits: &[f64], label: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
    sum.ln() - (logits[label] - largest)
}
