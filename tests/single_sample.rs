//! A minibatch of one sample goes over velocity and weights in one pass: every bit is what the three passes give.

use flatmin::internals::optim::sgd;
use flatmin::internals::step::{self, Buffers};
use flatmin::internals::tail::{DenseChain, Workspace, dense::DenseShape};
use flatmin::{BiasTreatment, Method, Recipe, internals::pack::Activation};

const FEATURES: usize = 21;
const CLASSES: usize = 5;
const LEARNING_RATE: f32 = 0.05;

#[test]
fn one_pass_gives_the_bits_of_three() {
    let layer = |inputs, outputs, activation| DenseShape { inputs, outputs, activation };
    let tail = DenseChain::new(&[
        layer(FEATURES, 18, Activation::Relu),
        layer(18, 11, Activation::Relu6),
        layer(11, CLASSES, Activation::None),
    ])
    .expect("a chain");
    let mut place = 0.0f32;
    let mut next = || {
        place += 1.7;
        0.5 * place.sin()
    };
    for bias in [BiasTreatment::Unit, BiasTreatment::Frozen] {
        let recipe = Recipe {
            method: Method::Sgd,
            momentum: 0.9,
            weight_decay: 0.0,
            label_smoothing: 0.1,
            bias,
            ..Recipe::DEFAULT
        };
        let mut weights: Vec<f32> = (0..tail.parameters()).map(|_| next()).collect();
        let mut velocity = vec![0.0f32; weights.len()];
        let mut memory = vec![0.0f32; DenseChain::workspace_length(FEATURES, tail.outputs())];
        let (mut w, mut v) = (weights.clone(), velocity.clone());
        for round in 0..20 {
            let sample: Vec<f32> = (0..FEATURES).map(|_| 4.0 * next()).collect();
            let label = round % CLASSES;

            sgd::prepare(&mut v, &w, recipe.momentum, 0.0, bias, tail.segments());
            let mut workspace = Workspace::new(&tail, &mut memory).expect("long enough");
            workspace.features.copy_from_slice(&sample);
            let target =
                flatmin::internals::label::Target::Label { label, smoothing: recipe.label_smoothing };
            tail.first_pass(&w, target, &mut workspace);
            tail.accumulate(1.0, bias, &workspace, false, &mut v);
            sgd::descend(&mut w, &v, LEARNING_RATE);

            let buffers = Buffers {
                weights: &mut weights,
                velocity: &mut velocity,
                gradient: &mut [],
                workspace: &mut memory,
            };
            step::minibatch(&tail, &recipe, LEARNING_RATE, buffers, 1, |_, features| {
                features.copy_from_slice(&sample);
                label
            })
            .expect("a step");
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&velocity), bits(&v), "velocity after step {round}, {bias:?}");
            assert_eq!(bits(&weights), bits(&w), "weights after step {round}, {bias:?}");
        }
    }
}
