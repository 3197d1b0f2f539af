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
