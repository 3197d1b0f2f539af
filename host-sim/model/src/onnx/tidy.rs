//! What is left to do when the graph is whole.

use crate::graph::{Activation, Graph, Kind, Unary};

/// A clamp behind its own QuantizeLinear becomes the activation of the operator before it, where both have one
/// quantization and nothing else reads what lies between: the same numbers.
pub(super) fn fuse_clamps(graph: &mut Graph) {
    let mut readers = vec![0_usize; graph.tensors.len()];
    let mut writer = vec![None; graph.tensors.len()];
    for (place, operator) in graph.operators.iter().enumerate() {
        operator.inputs.iter().flatten().for_each(|&input| readers[input] += 1);
        operator.outputs.iter().for_each(|&output| writer[output] = Some(place));
    }
    graph.outputs.iter().for_each(|&output| readers[output] += 1);
    let mut fused = vec![false; graph.operators.len()];
    for (place, fused) in fused.iter_mut().enumerate() {
        let operator = &graph.operators[place];
        let (&Kind::Unary(Unary::Clamp(clamp)), &[Some(input)], &[output]) =
            (&operator.kind, operator.inputs.as_slice(), operator.outputs.as_slice())
        else {
            continue;
        };
        let same = graph.tensors[input].quantization == graph.tensors[output].quantization;
        let Some(before) = writer[input].filter(|_| same && readers[input] == 1) else { continue };
        let (Kind::Conv2d(_, activation)
        | Kind::DepthwiseConv2d(_, activation, _)
        | Kind::FullyConnected(activation)
        | Kind::Binary(_, activation)) = &mut graph.operators[before].kind
        else {
            continue;
        };
        if *activation == Activation::None {
            *activation = clamp;
            graph.operators[before].outputs = vec![output];
            writer[output] = Some(before);
            *fused = true;
        }
    }
    let mut place = 0;
    graph.operators.retain(|_| {
        place += 1;
        !fused[place - 1]
    });
}

/// Quantizers drop the Relu of a layer whose quantization holds no negative number. The int8 result is the same, but
/// training wants to know: between dense layers it is put back.
pub(super) fn restore_relu(graph: &mut Graph) {
    let mut feeds_dense = vec![false; graph.tensors.len()];
    for operator in graph.operators.iter().rev() {
        let Some(Some(input)) = operator.inputs.first().copied() else { continue };
        feeds_dense[input] |= match operator.kind {
            Kind::FullyConnected(_) => true,
            Kind::Reshape => operator.outputs.iter().any(|&output| feeds_dense[output]),
            _ => false,
        };
    }
    for operator in &mut graph.operators {
        let Some(&output) = operator.outputs.first() else { continue };
        let quantization = graph.tensors[output].quantization.as_ref();
        let nonnegative = quantization.is_some_and(|q| q.zero_points == [-128]);
        if operator.kind == Kind::FullyConnected(Activation::None) && nonnegative && feeds_dense[output] {
            operator.kind = Kind::FullyConnected(Activation::Relu);
        }
    }
}

/// SOFTMAX writes a quantization of its own, and a requantization to that of the file follows it. Where what reads it
/// can do with any quantization, it reads the first: one rounding less.
pub(super) fn skip_requantization(graph: &mut Graph) {
    let mut fixed = vec![false; graph.tensors.len()];
    let mut before = vec![None; graph.tensors.len()];
    for operator in &graph.operators {
        match (&operator.kind, operator.inputs.as_slice(), operator.outputs.as_slice()) {
            (Kind::Softmax(_), _, &[output]) => fixed[output] = true,
            (Kind::Quantize, &[Some(input)], &[output]) if fixed[input] => before[output] = Some(input),
            _ => {}
        }
    }
    let mut readers = vec![0_usize; graph.tensors.len()];
    for operator in &mut graph.operators {
        let indifferent = matches!(
            operator.kind,
            Kind::Binary(..)
                | Kind::Unary(_)
                | Kind::Mean { .. }
                | Kind::Prelu
                | Kind::Quantize
                | Kind::Dequantize
        );
        for input in operator.inputs.iter_mut().flatten() {
            if let (true, Some(first)) = (indifferent, before[*input]) {
                *input = first;
            }
            readers[*input] += 1;
        }
    }
    graph.outputs.iter().for_each(|&output| readers[output] += 1);
    graph.operators.retain(|operator| {
        let skipped = |&output: &usize| before[output].is_some() && readers[output] == 0;
        !operator.outputs.iter().any(skipped)
    });
}
