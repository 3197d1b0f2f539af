//! The file's `[recipe]`: the fields of [`flatmin::Recipe`] by their names.

use super::{NamedMethod, entry};
use flatmin::{BiasTreatment, Optimizer, Policy, Recipe, RhoUnit, Schedule};
use serde::{Deserialize, Serialize};

macro_rules! hyperparameters {
    ($($field:ident: $type:ty, $comment:literal;)*) => {
        /// Hyperparameters that are given; those of a recipe by their names.
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Hyperparameters {
            /// Steps by this method, or the head in closed form.
            #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
            pub method: Option<NamedMethod>,
            $(
                #[doc = concat!("[`Recipe::", stringify!($field), "`].")]
                #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        /// What stands beside each field in a file that is written.
        pub(super) const COMMENTS: &[(&str, &str)] = &[
            ("method", "sgd, sam, asam, sam-on or closed-form"),
            $((stringify!($field), $comment),)*
        ];

        impl Hyperparameters {
            /// All of a recipe.
            pub fn of(recipe: &Recipe) -> Self {
                let Recipe { method, $($field,)* } = *recipe;
                Self { method: Some(NamedMethod::Steps(method)), $($field: Some($field),)* }
            }

            /// These, and from `other` what they lack.
            pub(super) fn or(self, other: &Self) -> Self {
                Self { method: self.method.or(other.method), $($field: self.$field.or(other.$field),)* }
            }

            /// The recipe with what is given in place of its own; its method stays.
            pub(super) fn applied_to(&self, usual: Recipe) -> Recipe {
                Recipe { method: usual.method, $($field: self.$field.unwrap_or(usual.$field),)* }
            }
        }
    };
}

hyperparameters! {
    optimizer: Optimizer, "sgd or adam";
    rho: f32, "radius of the ascent, 0 to 1000; 0 is SGD";
    rho_unit: RhoUnit, "nats, the same for all networks, or weights: what rho is measured in";
    eta: f32, "ASAM's floor under |w|, 0 to 1000";
    sharpness_batch: u16, "samples that share one ascent, 1 or more";
    ascent_every: u16, "steps from one ascent to the next, 1 or more";
    store_perturbation: bool, "write w + e into the weights; takes a gradient buffer";
    learning_rate: f32, "0 to 1000";
    momentum: f32, "0 to below 1";
    weight_decay: f32, "0 to 1";
    label_smoothing: f32, "share of each label, 0 to below 1";
    schedule: Schedule, "constant or cosine";
    warm_up: f32, "share of the steps, 0 to 1";
    bias: BiasTreatment, "unit, elementwise or frozen";
    epochs: u16, "1 or more";
    minibatch: u16, "samples per step, 1 or more";
    seed: u64, "seed of the order of samples";
    replay_capacity: u16, "samples that the device keeps, 1 or more";
    replay_policy: Policy, "oldest or balanced: which sample gives way";
    held_out: f32, "share of each class that judges the result, 0 to 0.5";
    keep_best: bool, "end with the best epoch's weights";
    sample_losses: bool, "keep each sample's mean loss";
}
