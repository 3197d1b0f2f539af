//! Networks of fully connected layers, for tails that no file holds, and for those that are pretrained here.

use anyhow::Result;
use flatmin::internals::pack::Function;
use flatmin::internals::pack::format::operator as code;
use flatmin::{Affine, Recipe, Tuner, internals::Multiplier};
use flatmin_model::graph::Element;
use flatmin_model::packer::{Activations, Border, Network, PackFile, Step, TailPlan, pack_tail};
use flatmin_sim::subject::Labelled;
use flatmin_sim::tuning::tuner_arena;

/// Layers of these widths, input first, with ReLUs between; weights zero and scales provisional until
/// [`super::start`] draws or [`pretrained`] trains them.
pub fn network(input: Affine, widths: &[usize]) -> Network {
    let tensor = |(index, &width): (usize, &usize)| Activations {
        name: format!("layer {index}"),
        shape: [1, 1, 1, width],
        affine: if index == 0 { input } else { Affine::covering(-4.0, 4.0) },
        storage: index,
        constant: None,
        unsigned: false,
    };
    let tensors: Vec<Activations> = widths.iter().enumerate().map(tensor).collect();
    let last = widths.len() - 1;
    let border = |tensor: usize| Border {
        tensor,
        element: Element::I8,
        shape: vec![1, widths[tensor]],
        order: vec![0, 1],
    };
    let mut network = Network {
        steps: (0..last)
            .map(|index| Step::new(index, "FULLY_CONNECTED", code::FULLY_CONNECTED, index, index + 1))
            .collect(),
        inputs: vec![border(0)],
        outputs: vec![border(last)],
        tensors,
        greedy_arena_bytes: 0,
        loss: None,
        spare_classes: 0,
        statistics: None,
        energies: std::collections::BTreeMap::new(),
        variables: Vec::new(),
    };
    for index in 0..last {
        let (inputs, outputs) = (widths[index], widths[index + 1]);
        let function = if index + 1 < last { Function::Relu } else { Function::Identity };
        network.steps[index].function = Some(function);
        let scales = vec![1.0 / 128.0; outputs];
        fill(
            &mut network,
            index,
            Weights { weights: &vec![0; inputs * outputs], biases: &vec![0; outputs], scales: &scales },
        );
    }
    network
}

/// Layers of so many units and how many of them are hidden, between so many inputs and classes.
pub fn hidden(input: Affine, inputs: usize, (units, layers): (u16, u8), classes: usize) -> Network {
    let hidden = std::iter::repeat_n(usize::from(units), layers.into());
    let widths: Vec<usize> = std::iter::once(inputs).chain(hidden).chain([classes]).collect();
    network(input, &widths)
}

struct Weights<'w> {
    weights: &'w [i8],
    biases: &'w [i32],
    scales: &'w [f32],
}

/// Constants of a step, one scale an output, and what follows from its tensors' quantizations.
fn fill(network: &mut Network, step: usize, from: Weights) {
    let Step { input, output, .. } = network.steps[step];
    let (input, output) = (network.tensors[input].affine, network.tensors[output].affine);
    let step = &mut network.steps[step];
    let multiplier = |&scale: &f32| {
        let Multiplier { mantissa, shift } = Multiplier::of_scales(input.scale, scale, output.scale);
        (mantissa, shift)
    };
    step.constants.multipliers = from.scales.iter().map(multiplier).collect();
    step.constants.weights = from.weights.to_vec();
    step.constants.biases = from.biases.to_vec();
    step.constants.scales = from.scales.to_vec();
    step.constants.per_channel = true;
    let low = if step.function == Some(Function::Relu) { output.quantize(0.0) } else { -128 };
    step.clamp = [low, 127];
}

/// Packs all of its layers as the tail.
///
/// # Errors
/// What the runtime refuses.
pub fn pack(network: &Network) -> Result<PackFile> {
    Ok(pack_tail(network, 0, &TailPlan::of(network.steps.len()))?)
}

/// The network as the crate's own tuner trains it on `samples`, from weights drawn with the recipe's seed, in int8.
///
/// # Errors
/// What the runtime refuses; more samples than a replay holds.
pub fn pretrained(network: &Network, samples: &[Labelled], recipe: Recipe) -> Result<Network> {
    let file = pack(network)?;
    let recipe = Recipe { replay_capacity: u16::try_from(samples.len())?, ..recipe };
    let mut words = tuner_arena(&file, &recipe);
    let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words))?;
    for (input, label) in samples {
        tuner.observe(input, *label)?;
    }
    let draw = super::trial::Draw { seed: recipe.seed, ..super::trial::Draw::WEARERS };
    super::start::Start::Random.begin(&mut tuner, &draw)?;
    tuner.start(recipe)?;
    while !tuner.step()?.finished {}
    tuner.requantize()?;
    let mut trained = network.clone();
    for (index, layer) in tuner.tuned_layers().enumerate() {
        let output = trained.steps[index].output;
        trained.tensors[output].affine = layer.output;
        fill(
            &mut trained,
            index,
            Weights { weights: layer.weights, biases: layer.biases, scales: layer.scales },
        );
    }
    Ok(trained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin::{Method, Version};

    /// Which of two coordinates is the larger one.
    fn samples(count: usize) -> Vec<Labelled> {
        let mut random = flatmin_sim::wearers::SplitMix64::new(5);
        let one = |_| {
            let input = [random.below(200) as i16 - 100, random.below(200) as i16 - 100].map(|x| x as i8);
            (input.to_vec(), usize::from(input[1] > input[0]))
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn what_is_pretrained_answers_as_an_int8_network() {
        let affine = Affine { scale: 0.02, zero_point: 0 };
        let recipe = Recipe { method: Method::Sgd, learning_rate: 0.05, epochs: 40, ..Recipe::DEFAULT };
        let trained = pretrained(&network(affine, &[2, 8, 2]), &samples(400), recipe).unwrap();
        let file = pack(&trained).unwrap();
        let recipe = Recipe { replay_capacity: 1, ..recipe };
        let mut words = tuner_arena(&file, &recipe);
        let mut tuner = Tuner::new(file.pack(), recipe, bytemuck::cast_slice_mut(&mut words)).unwrap();
        let all = samples(600);
        let accuracy = flatmin_sim::tuning::accuracy_on(&mut tuner, &all[400..], Version::Factory).unwrap();
        assert!(accuracy > 0.95, "{accuracy}");
    }
}
