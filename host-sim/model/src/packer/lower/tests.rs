//! Operators that become others of the runtime, against their definitions, element by element.

use super::lower;
use crate::graph::{
    Activation, Element, Graph, Kind, Operator, Padding, Quantization, Tensor, Variable, Window,
};
use crate::packer::pack;

fn tensor(shape: &[usize], scale: f32, zero_point: i64, data: Option<Vec<u8>>, element: Element) -> Tensor {
    let quantization = Quantization { scales: vec![scale], zero_points: vec![zero_point], axis: 0 };
    Tensor { name: String::new(), element, shape: shape.to_vec(), quantization: Some(quantization), data }
}

fn pseudo_random(length: usize, seed: u64) -> Vec<i8> {
    let mut state = seed;
    let mut next = || {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0].cast_signed()
    };
    (0..length).map(|_| next()).collect()
}

/// What a graph of one operator answers; tensor 0 is its input, tensor 1 its output.
fn answer(kind: Kind, tensors: Vec<Tensor>, reads: &[usize], input: &[i8]) -> Vec<i8> {
    let inputs = reads.iter().map(|&index| Some(index)).collect();
    let operator = Operator { name: "it".into(), kind, inputs, outputs: vec![1] };
    let graph =
        Graph { tensors, operators: vec![operator], inputs: vec![0], outputs: vec![1], ..Graph::default() };
    let file = pack(&lower(&graph).unwrap(), 0, 0).unwrap();
    let pack = file.pack();
    let mut arena = vec![0; pack.sizes().arena_bytes];
    assert!(flatmin::inference::load(&pack, 0, input, &mut arena));
    flatmin::inference::run(&pack, &mut arena);
    flatmin::inference::output(&pack, 0, &arena).to_vec()
}

/// Every input pixel times the filter is added where the stride puts it; scales make the result a 64th of the sum.
#[test]
fn a_transposed_convolution_adds_filters_up() {
    let (filter, channels, outputs) = ([3, 4], 3, 2);
    for (stride, padding, image, size) in [
        ([2, 2], Padding::Valid, [3, 2], [7, 6]),
        ([2, 2], Padding::Same, [3, 4], [6, 8]),
        ([1, 1], Padding::Same, [4, 5], [4, 5]),
        ([3, 5], Padding::Valid, [2, 2], [6, 9]),
    ] {
        let [(h, w), (rows, columns)] = [image, size].map(|[a, b]| (a, b));
        let input = pseudo_random(h * w * channels, 1);
        let weights = pseudo_random(outputs * filter[0] * filter[1] * channels, 2);
        let (zero, out_zero, bias) = (-3, 5, [700, -900]);
        let mut sums = vec![bias; rows * columns];
        // What SAME takes off in front.
        let cut = |axis: usize| match padding {
            Padding::Same => ((image[axis] - 1) * stride[axis] + filter[axis]).saturating_sub(size[axis]) / 2,
            _ => 0,
        };
        for (place, pixel) in input.chunks_exact(channels).enumerate() {
            for (at, tap) in weights.chunks_exact(channels).enumerate() {
                let (output, tap_at) = (at / (filter[0] * filter[1]), at % (filter[0] * filter[1]));
                let row = (place / w * stride[0] + tap_at / filter[1]).checked_sub(cut(0));
                let column = (place % w * stride[1] + tap_at % filter[1]).checked_sub(cut(1));
                let (Some(row), Some(column)) = (row, column) else { continue };
                if row < rows && column < columns {
                    let products = pixel.iter().zip(tap).map(|(&x, &t)| (i32::from(x) - zero) * i32::from(t));
                    sums[row * columns + column][output] += products.sum::<i32>();
                }
            }
        }
        let byte = |sum: &i32| (f64::from(*sum) / 64.0).round() as i32 + out_zero;
        let expected: Vec<i8> = sums.iter().flatten().map(|sum| byte(sum).clamp(-128, 127) as i8).collect();

        let bytes = |values: &[i8]| values.iter().map(|x| x.cast_unsigned()).collect();
        let words = |values: &[i32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensors = vec![
            tensor(&[1, h, w, channels], 0.5, zero.into(), None, Element::I8),
            tensor(&[1, rows, columns, outputs], 8.0, out_zero.into(), None, Element::I8),
            tensor(
                &[4],
                1.0,
                0,
                Some(words(&[1, rows as i32, columns as i32, outputs as i32])),
                Element::I32,
            ),
            tensor(&[outputs, filter[0], filter[1], channels], 0.25, 0, Some(bytes(&weights)), Element::I8),
            tensor(&[outputs], 0.125, 0, Some(words(&bias)), Element::I32),
        ];
        let kind = Kind::TransposeConv2d(Window { padding, stride, dilation: [1; 2] }, Activation::None);
        assert_eq!(answer(kind, tensors, &[2, 3, 0, 4], &input), expected, "{stride:?} {padding:?}");
    }
}

#[test]
fn extremes_are_the_highest_and_the_lowest() {
    let input = pseudo_random(2 * 5 * 7, 3);
    let plain = |shape: &[usize]| tensor(shape, 0.1, 7, None, Element::I8);
    for lowest in [false, true] {
        let best =
            |values: &mut dyn Iterator<Item = i8>| if lowest { values.min() } else { values.max() }.unwrap();
        let over_rows: Vec<i8> = (0..2)
            .flat_map(|image| (0..7).map(move |channel| (image, channel)))
            .map(|(image, channel)| best(&mut (0..5).map(|row| input[(image * 5 + row) * 7 + channel])))
            .collect();
        let kind = Kind::ReduceExtreme { axes: vec![2], lowest };
        let tensors = vec![plain(&[1, 2, 5, 7]), plain(&[1, 2, 7])];
        assert_eq!(answer(kind, tensors, &[0], &input), over_rows);

        let row = pseudo_random(7, 4);
        let beside: Vec<i8> =
            input.iter().zip(row.iter().cycle()).map(|(&a, &b)| best(&mut [a, b].into_iter())).collect();
        let constant = row.iter().map(|x| x.cast_unsigned()).collect();
        let tensors = vec![
            plain(&[1, 2, 5, 7]),
            plain(&[1, 2, 5, 7]),
            tensor(&[7], 0.1, 7, Some(constant), Element::I8),
        ];
        assert_eq!(answer(Kind::Extreme { lowest }, tensors, &[0, 2], &input), beside);
    }
}

/// `a, b = b, x` after `y = (a, b)`: each value is read where its variable lies, or copied before it is overwritten.
#[test]
fn variables_that_follow_one_another() {
    let int8 = |shape: &[usize], data| tensor(shape, 1.0, 0, data, Element::I8);
    let first = |value: u8| int8(&[1, 2], Some(vec![value; 2]));
    // Input, output, what is read of a and b, their first values.
    let tensors = vec![
        int8(&[1, 2], None),
        int8(&[1, 4], None),
        int8(&[1, 2], None),
        int8(&[1, 2], None),
        first(7),
        first(9),
    ];
    let operator = |kind, reads: &[usize], outputs: &[usize]| Operator {
        name: "it".into(),
        kind,
        inputs: reads.iter().map(|&index| Some(index)).collect(),
        outputs: outputs.to_vec(),
    };
    let variable = |name: &str, constant| Variable { name: name.into(), initial: Some(constant) };
    let graph = Graph {
        tensors,
        operators: vec![
            operator(Kind::ReadVariable { variable: 0 }, &[], &[2]),
            operator(Kind::ReadVariable { variable: 1 }, &[], &[3]),
            operator(Kind::AssignVariable { variable: 0 }, &[0, 3], &[]),
            operator(Kind::AssignVariable { variable: 1 }, &[0, 0], &[]),
            operator(Kind::Concatenation { axis: 1 }, &[2, 3], &[1]),
        ],
        inputs: vec![0],
        outputs: vec![1],
        variables: vec![variable("a", 4), variable("b", 5)],
    };
    let file = pack(&lower(&graph).unwrap(), 0, 0).unwrap();
    let pack = file.pack();
    let mut arena = vec![0; pack.sizes().arena_bytes];
    for _ in 0..2 {
        flatmin::inference::reset(&pack, &mut arena);
        let answers = [[1, 2], [3, 4], [5, 6]].map(|hop| flatmin::infer(&pack, &hop, &mut arena).to_vec());
        assert_eq!(answers, [[7, 7, 9, 9], [9, 9, 1, 2], [1, 2, 3, 4]]);
    }
}
