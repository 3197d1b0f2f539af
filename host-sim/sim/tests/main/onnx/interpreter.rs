//! A graph's meaning in double precision, operator by operator from its formula: slow, and nothing of the runtime.

use flatmin_model::graph::{
    Activation, Binary, Element, Graph, Kind, Operator, Padding, Tensor, Unary, Window,
};

/// Numbers as stored in each tensor: integers of int8 tensors, reals of float32 ones; the last axis fastest.
pub struct Interpreter<'a> {
    graph: &'a Graph,
    stored: Vec<Option<Vec<f64>>>,
}

fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The index along each axis of element `place`.
fn unravel(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = place % shape[axis];
        place /= shape[axis];
    }
    index
}

fn ravel(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |place, (i, extent)| place * extent + i)
}

/// The element that broadcasting takes from a tensor of `shape` for `index`.
fn broadcast(index: &[usize], shape: &[usize]) -> usize {
    let missing = index.len() - shape.len();
    let own: Vec<usize> =
        shape.iter().zip(&index[missing..]).map(|(&e, &i)| if e == 1 { 0 } else { i }).collect();
    ravel(&own, shape)
}

fn clamp(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::ReluN1To1 => x.clamp(-1.0, 1.0),
    }
}

impl<'a> Interpreter<'a> {
    pub fn new(graph: &'a Graph, inputs: &[Vec<f64>]) -> Self {
        let constant = |tensor: &Tensor| {
            let data = tensor.data.as_ref()?;
            Some(match tensor.element {
                Element::I8 => data.iter().map(|b| f64::from(b.cast_signed())).collect(),
                Element::I32 => {
                    data.as_chunks::<4>().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect()
                }
                other => panic!("a constant of {other:?}"),
            })
        };
        let mut stored: Vec<_> = graph.tensors.iter().map(constant).collect();
        for (&tensor, values) in graph.inputs.iter().zip(inputs) {
            assert_eq!(count(&graph.tensors[tensor].shape), values.len());
            stored[tensor] = Some(values.clone());
        }
        let mut interpreter = Self { graph, stored };
        for operator in &graph.operators {
            interpreter.run(operator);
        }
        interpreter
    }

    /// What the numbers of a tensor stand for.
    pub fn meaning(&self, tensor: usize) -> Vec<f64> {
        let numbers = self.stored[tensor].as_ref().expect("computed");
        let Some(q) = &self.graph.tensors[tensor].quantization else { return numbers.clone() };
        numbers.iter().map(|x| (x - q.zero_points[0] as f64) * f64::from(q.scales[0])).collect()
    }

    fn tensor(&self, operator: &Operator, input: usize) -> &'a Tensor {
        &self.graph.tensors[operator.inputs[input].unwrap()]
    }

    fn numbers(&self, operator: &Operator, input: usize) -> &[f64] {
        self.stored[operator.inputs[input].unwrap()].as_ref().expect("computed before")
    }

    /// What the numbers stand for.
    fn real(&self, operator: &Operator, input: usize) -> Vec<f64> {
        let (tensor, numbers) = (self.tensor(operator, input), self.numbers(operator, input));
        let Some(q) = &tensor.quantization else { return numbers.to_vec() };
        let run: usize = tensor.shape[(q.axis + 1).min(tensor.shape.len())..].iter().product();
        let slice = |place: usize| if q.scales.len() == 1 { 0 } else { place / run % q.scales.len() };
        let real = |(place, x): (usize, &f64)| {
            (x - q.zero_points[slice(place)] as f64) * f64::from(q.scales[slice(place)])
        };
        numbers.iter().enumerate().map(real).collect()
    }

    fn run(&mut self, operator: &Operator) {
        let output = &self.graph.tensors[operator.outputs[0]];
        let moved = |numbers: Vec<f64>| (numbers, false);
        let (values, real) = match &operator.kind {
            Kind::Conv2d(window, activation) => {
                let inputs = self.tensor(operator, 1).shape[3];
                let groups = self.tensor(operator, 0).shape[3] / inputs;
                let per_group = output.shape[3] / groups;
                (
                    self.convolve(operator, window, *activation, |o, i| {
                        (o / per_group * inputs + i, [o, i], inputs)
                    }),
                    true,
                )
            }
            Kind::DepthwiseConv2d(window, activation, multiplier) => {
                (self.convolve(operator, window, *activation, |o, _| (o / multiplier, [0, o], 1)), true)
            }
            Kind::FullyConnected(activation) => (self.dense(operator, *activation), true),
            Kind::AveragePool2d(window, activation, filter) => {
                let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
                let values = self.pool(operator, &self.real(operator, 0), window, *filter, mean);
                (values.into_iter().map(|x| clamp(*activation, x)).collect(), true)
            }
            Kind::MaxPool2d(window, _, filter) => {
                let largest = |x: &[f64]| x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                moved(self.pool(operator, self.numbers(operator, 0), window, *filter, largest))
            }
            Kind::Mean { axes } => (self.mean(operator, axes), true),
            Kind::Reshape => moved(self.numbers(operator, 0).to_vec()),
            Kind::Softmax(beta) => (self.softmax(operator, *beta), true),
            Kind::Binary(function, activation) => (self.binary(operator, *function, *activation), true),
            Kind::Unary(function) => {
                let f = |x: f64| match *function {
                    Unary::Logistic => 1.0 / (1.0 + (-x).exp()),
                    Unary::Tanh => x.tanh(),
                    Unary::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
                    Unary::Clamp(activation) => clamp(activation, x),
                    Unary::Elu if x < 0.0 => x.exp() - 1.0,
                    Unary::Elu => x,
                    Unary::Gelu { approximate: false } => x / 2.0 * (1.0 + libm::erf(x / f64::sqrt(2.0))),
                    Unary::Gelu { approximate: true } => {
                        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                        x / 2.0 * (1.0 + inner.tanh())
                    }
                    Unary::Exp => x.exp(),
                    Unary::Log => x.ln(),
                    Unary::Abs => x.abs(),
                    Unary::Neg => -x,
                    Unary::Sqrt => x.sqrt(),
                    Unary::Rsqrt => x.sqrt().recip(),
                    Unary::LeakyRelu(alpha) => {
                        if x < 0.0 {
                            x * f64::from(alpha)
                        } else {
                            x
                        }
                    }
                };
                (self.real(operator, 0).into_iter().map(f).collect(), true)
            }
            Kind::Prelu => {
                let (x, slopes) = (self.real(operator, 0), self.real(operator, 1));
                let (shape, own) = (&output.shape, &self.tensor(operator, 1).shape);
                let f = |(place, x): (usize, f64)| {
                    if x < 0.0 { x * slopes[broadcast(&unravel(place, shape), own)] } else { x }
                };
                (x.into_iter().enumerate().map(f).collect(), true)
            }
            Kind::Pad { amounts, value } => moved(self.pad(operator, amounts, *value)),
            Kind::Transpose { permutation } => moved(self.gather(operator, |index| {
                let mut from = vec![0; index.len()];
                permutation.iter().zip(index).for_each(|(&axis, &i)| from[axis] = i);
                from
            })),
            Kind::Slice { begin, stride, extent } => {
                assert_eq!(&output.shape, extent);
                moved(self.gather(operator, |index| {
                    let along = |axis: usize| begin[axis] as i64 + index[axis] as i64 * stride[axis];
                    (0..index.len()).map(|axis| usize::try_from(along(axis)).unwrap()).collect()
                }))
            }
            &Kind::ResizeNearest { align_corners, half_pixel_centers } => {
                let from = &self.tensor(operator, 0).shape;
                moved(self.gather(operator, |index| {
                    let source = |axis: usize| {
                        let (input, output) = (from[axis] as f64, output.shape[axis] as f64);
                        let corners = align_corners && output > 1.0;
                        let scale = if corners { (input - 1.0) / (output - 1.0) } else { input / output };
                        let x = (index[axis] as f64 + if half_pixel_centers { 0.5 } else { 0.0 }) * scale;
                        (if align_corners { x.round() } else { x.floor() }.min(input - 1.0)) as usize
                    };
                    vec![0, source(1), source(2), index[3]]
                }))
            }
            Kind::Concatenation { axis } => moved(self.concatenate(operator, *axis)),
            Kind::Split { input, axis } => return self.split(operator, *input, *axis),
            Kind::Quantize | Kind::Dequantize => (self.real(operator, 0), true),
            Kind::Unsupported(reason) => panic!("{reason}"),
            other => panic!("ONNX files are not read as {other:?}"),
        };
        assert_eq!(values.len(), count(&output.shape), "{operator:?}");
        let values = match &output.quantization {
            Some(q) if real => {
                let (low, high) = if output.element == Element::U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
                let quantize = |x: f64| (x / f64::from(q.scales[0])).round() + q.zero_points[0] as f64;
                values.into_iter().map(|x| quantize(x).clamp(low, high)).collect()
            }
            _ => values,
        };
        if !real {
            // Numbers that only move keep their meaning.
            let input = self.tensor(operator, operator.inputs.iter().position(Option::is_some).unwrap());
            assert_eq!(input.quantization, output.quantization, "{operator:?}");
        }
        self.stored[operator.outputs[0]] = Some(values);
    }

    fn gather(&self, operator: &Operator, from: impl Fn(&[usize]) -> Vec<usize>) -> Vec<f64> {
        let shape = &self.graph.tensors[operator.outputs[0]].shape;
        let (own, numbers) = (&self.tensor(operator, 0).shape, self.numbers(operator, 0));
        (0..count(shape)).map(|place| numbers[ravel(&from(&unravel(place, shape)), own)]).collect()
    }

    /// The input's pixel under each tap of a window, `None` outside the image.
    fn taps(
        &self,
        operator: &Operator,
        window: &Window,
        filter: [usize; 2],
        [row, column]: [usize; 2],
    ) -> Vec<Option<[usize; 2]>> {
        let input = &self.tensor(operator, 0).shape;
        let output = &self.graph.tensors[operator.outputs[0]].shape;
        let front = |axis: usize| match window.padding {
            Padding::Valid => 0,
            Padding::Explicit(front) => front[axis],
            Padding::Same => {
                let reach = (filter[axis] - 1) * window.dilation[axis] + 1;
                let covered = (output[axis + 1] - 1) * window.stride[axis] + reach;
                covered.saturating_sub(input[axis + 1]) / 2
            }
        };
        let along = |axis: usize, out: usize, tap: usize| {
            let place = out * window.stride[axis] + tap * window.dilation[axis];
            place.checked_sub(front(axis)).filter(|&p| p < input[axis + 1])
        };
        let mut taps = Vec::new();
        for y in 0..filter[0] {
            for x in 0..filter[1] {
                taps.push(along(0, row, y).zip(along(1, column, x)).map(|(y, x)| [y, x]));
            }
        }
        taps
    }

    /// `channel(o, i)`: input channel, filter's first and last index, and how many `i` there are.
    fn convolve(
        &self,
        operator: &Operator,
        window: &Window,
        activation: Activation,
        channel: impl Fn(usize, usize) -> (usize, [usize; 2], usize),
    ) -> Vec<f64> {
        let (x, w) = (self.real(operator, 0), self.real(operator, 1));
        let bias = (operator.inputs.len() > 2).then(|| self.real_bias(operator));
        let (input, filter) = (&self.tensor(operator, 0).shape, &self.tensor(operator, 1).shape);
        let output = &self.graph.tensors[operator.outputs[0]].shape;
        let mut values = Vec::new();
        for place in 0..count(output) {
            let index = unravel(place, output);
            let o = index[3];
            let mut sum = bias.as_ref().map_or(0.0, |bias| bias[o]);
            let taps = self.taps(operator, window, [filter[1], filter[2]], [index[1], index[2]]);
            for (tap, pixel) in taps.iter().enumerate() {
                let Some([row, column]) = *pixel else { continue };
                for i in 0..channel(o, 0).2 {
                    let (from, [first, last], _) = channel(o, i);
                    let weight = [first, tap / filter[2], tap % filter[2], last];
                    sum += x[ravel(&[0, row, column, from], input)] * w[ravel(&weight, filter)];
                }
            }
            values.push(clamp(activation, sum));
        }
        values
    }

    /// The bias in steps of input scale times weight scale, which is what the integers mean.
    fn real_bias(&self, operator: &Operator) -> Vec<f64> {
        let scale = |input: usize| &self.tensor(operator, input).quantization.as_ref().unwrap().scales;
        let (input, weights) = (f64::from(scale(0)[0]), scale(1));
        let step = |channel: usize| f64::from(weights[if weights.len() == 1 { 0 } else { channel }]) * input;
        self.numbers(operator, 2).iter().enumerate().map(|(channel, q)| q * step(channel)).collect()
    }

    fn dense(&self, operator: &Operator, activation: Activation) -> Vec<f64> {
        let (x, w) = (self.real(operator, 0), self.real(operator, 1));
        let bias = (operator.inputs.len() > 2).then(|| self.real_bias(operator));
        let row = |(o, row): (usize, &[f64])| {
            let dot: f64 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
            clamp(activation, dot + bias.as_ref().map_or(0.0, |bias| bias[o]))
        };
        w.chunks(x.len()).enumerate().map(row).collect()
    }

    fn pool(
        &self,
        operator: &Operator,
        x: &[f64],
        window: &Window,
        filter: [usize; 2],
        of: impl Fn(&[f64]) -> f64,
    ) -> Vec<f64> {
        let input = &self.tensor(operator, 0).shape;
        let output = &self.graph.tensors[operator.outputs[0]].shape;
        let value = |place: usize| {
            let index = unravel(place, output);
            let taps = self.taps(operator, window, filter, [index[1], index[2]]);
            let inside = taps.into_iter().flatten().map(|[y, c]| x[ravel(&[0, y, c, index[3]], input)]);
            of(&inside.collect::<Vec<_>>())
        };
        (0..count(output)).map(value).collect()
    }

    fn mean(&self, operator: &Operator, axes: &[usize]) -> Vec<f64> {
        let (x, shape) = (self.real(operator, 0), &self.tensor(operator, 0).shape);
        let kept: Vec<usize> =
            (0..shape.len()).map(|a| if axes.contains(&a) { 1 } else { shape[a] }).collect();
        let mut sums = vec![0.0; count(&kept)];
        for (place, x) in x.iter().enumerate() {
            sums[broadcast(&unravel(place, shape), &kept)] += x;
        }
        let each = (x.len() / sums.len()) as f64;
        sums.into_iter().map(|sum| sum / each).collect()
    }

    fn softmax(&self, operator: &Operator, beta: f32) -> Vec<f64> {
        let x = self.real(operator, 0);
        let row = |row: &[f64]| {
            let e: Vec<f64> = row.iter().map(|x| (x * f64::from(beta)).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.into_iter().map(move |e| e / sum)
        };
        x.chunks(*self.tensor(operator, 0).shape.last().unwrap()).flat_map(row).collect()
    }

    fn binary(&self, operator: &Operator, function: Binary, activation: Activation) -> Vec<f64> {
        let sides = [self.real(operator, 0), self.real(operator, 1)];
        let shapes = [&self.tensor(operator, 0).shape, &self.tensor(operator, 1).shape];
        let output = &self.graph.tensors[operator.outputs[0]].shape;
        let value = |place: usize| {
            let index = unravel(place, output);
            let [a, b] = [0, 1].map(|side| sides[side][broadcast(&index, shapes[side])]);
            clamp(
                activation,
                match function {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::SquaredDifference => (a - b) * (a - b),
                },
            )
        };
        (0..count(output)).map(value).collect()
    }

    fn pad(&self, operator: &Operator, amounts: &[[usize; 2]], value: Option<i64>) -> Vec<f64> {
        let output = &self.graph.tensors[operator.outputs[0]];
        let (input, numbers) = (&self.tensor(operator, 0).shape, self.numbers(operator, 0));
        let padding = value.unwrap_or_else(|| output.quantization.as_ref().unwrap().zero_points[0]) as f64;
        let number = |place: usize| {
            let index = unravel(place, &output.shape);
            let inside = |axis: usize| index[axis].checked_sub(amounts[axis][0]).filter(|&i| i < input[axis]);
            let from: Option<Vec<usize>> = (0..index.len()).map(inside).collect();
            from.map_or(padding, |from| numbers[ravel(&from, input)])
        };
        (0..count(&output.shape)).map(number).collect()
    }

    fn concatenate(&self, operator: &Operator, axis: usize) -> Vec<f64> {
        let output = &self.graph.tensors[operator.outputs[0]];
        let mut values = vec![f64::NAN; count(&output.shape)];
        let mut start = 0;
        for input in 0..operator.inputs.len() {
            let tensor = self.tensor(operator, input);
            assert_eq!(tensor.quantization, output.quantization);
            for (place, &x) in self.numbers(operator, input).iter().enumerate() {
                let mut index = unravel(place, &tensor.shape);
                index[axis] += start;
                values[ravel(&index, &output.shape)] = x;
            }
            start += tensor.shape[axis];
        }
        values
    }

    fn split(&mut self, operator: &Operator, input: usize, axis: usize) {
        let (shape, numbers) = (&self.tensor(operator, input).shape, self.numbers(operator, input).to_vec());
        let mut start = 0;
        for &output in &operator.outputs {
            let tensor = &self.graph.tensors[output];
            let number = |place: usize| {
                let mut index = unravel(place, &tensor.shape);
                index[axis] += start;
                numbers[ravel(&index, shape)]
            };
            let part = (0..count(&tensor.shape)).map(number).collect();
            start += tensor.shape[axis];
            self.stored[output] = Some(part);
        }
    }
}
