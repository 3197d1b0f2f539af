//! The full-precision truth: candle's tensors and automatic differentiation, in f64.

use candle_core::{Device, Result, Tensor, Var};
use flatmin::internals::pack::Activation;
use flatmin::internals::tail::DenseChain;

/// Loss and gradient of one sample's softmax cross-entropy.
pub fn loss_and_gradient(
    tail: &DenseChain,
    parameters: &[f64],
    features: &[f32],
    label: usize,
) -> (f64, Vec<f64>) {
    differentiate(tail, parameters, features, label).expect("candle")
}

fn differentiate(
    tail: &DenseChain,
    parameters: &[f64],
    features: &[f32],
    label: usize,
) -> Result<(f64, Vec<f64>)> {
    let device = Device::Cpu;
    let features: Vec<f64> = features.iter().copied().map(f64::from).collect();
    let mut x = Tensor::from_slice(&features, (tail.features(), 1), &device)?;
    let (mut variables, mut rest) = (Vec::new(), parameters);
    for layer in tail.layers() {
        let (own, behind) = rest.split_at(layer.parameters());
        let (weights, biases) = own.split_at(layer.weights());
        let weights = Var::from_slice(weights, (layer.outputs, layer.inputs), &device)?;
        let biases = Var::from_slice(biases, (layer.outputs, 1), &device)?;
        let z = weights.matmul(&x)?.add(&biases)?;
        x = match layer.activation {
            Activation::None => z,
            Activation::Relu => z.relu()?,
            Activation::Relu6 => z.clamp(0f64, 6f64)?,
        };
        variables.extend([weights, biases]);
        rest = behind;
    }
    // Logits of a few units: no overflow to guard against in f64.
    let target = x.get(label)?.sum_all()?;
    let loss = x.exp()?.sum_all()?.log()?.sub(&target)?;
    let gradients = loss.backward()?;
    let mut flat = Vec::with_capacity(parameters.len());
    for variable in &variables {
        let gradient = gradients.get(variable).expect("every parameter takes part");
        flat.extend(gradient.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok((loss.to_scalar()?, flat))
}
