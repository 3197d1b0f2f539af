// Made of a network by `flatmin pack` or a build script; do not edit.

/// The packed network, 16-byte aligned.
#[allow(dead_code)]
pub static PACK: &[u8] = flatmin::include_pack!("model.pack");
/// Its sizes, for buffers that are sized when the firmware is compiled.
#[allow(dead_code)]
pub const SIZES: flatmin::Sizes = flatmin::Sizes {
    input_length: 600,
    feature_length: 192,
    output_length: 7,
    arena_bytes: 2632,
    tail_layers: 2,
    tail_weights: 12736,
    tail_outputs: 71,
    tail_parameters: 12807,
    workspace_floats: 476,
    tail_is_chain: true,
    loss: flatmin::Loss::CrossEntropy,
    last_features: 64,
    layer_room: [0, 0, 0, 0],
    feature_count: 1,
};
/// CRC-32 of the pack.
#[allow(dead_code)]
pub const CRC32: u32 = 0xa46a6086;
/// How it is tuned.
#[allow(dead_code)]
pub const RECIPE: flatmin::Recipe = flatmin::Recipe {
    method: flatmin::Method::Sam,
    optimizer: flatmin::Optimizer::Sgd,
    rho: 0.3,
    rho_unit: flatmin::RhoUnit::Nats,
    eta: 0.01,
    sharpness_batch: 1,
    ascent_every: 1,
    store_perturbation: false,
    learning_rate: 0.002,
    momentum: 0.9,
    weight_decay: 0.001,
    label_smoothing: 0.4,
    schedule: flatmin::Schedule::Cosine,
    warm_up: 0.0,
    bias: flatmin::BiasTreatment::Unit,
    epochs: 30,
    minibatch: 16,
    seed: 1,
    replay_capacity: 128,
    replay_policy: flatmin::Policy::Oldest,
    held_out: 0.0,
    keep_best: false,
    sample_losses: false,
    ..flatmin::Recipe::DEFAULT
};
/// The tuner that the recipe asks for.
#[allow(dead_code)]
pub type Tuner<'a> = flatmin::CompactTuner<'a>;
/// What its store keeps of a tail.
#[allow(dead_code)]
pub const CONTENTS: flatmin::store::Contents = flatmin::store::Contents::Int8AndCompact;
/// The operators that the pack uses: no other is linked.
#[allow(dead_code)]
pub static OPERATORS: flatmin::Operators = flatmin::Operators::of(PACK).with_solver(false);
/// Bytes of the tuner's arena.
#[allow(dead_code)]
pub const ARENA_BYTES: usize = SIZES.compact_bytes(&RECIPE);
