//! Who gets which bytes of a compact tuner's arena.

use super::pass::workspace_words;
use crate::memory::Region;
use crate::pack::Sizes;
use crate::recipe::Recipe;

/// The arena's plan: a `const fn` of a pack's sizes and a recipe. Method and hyperparameters have no say in it.
///
/// ```
/// use flatmin::{CompactPlan, MemoryPlan, Recipe, Sizes};
/// let sizes = Sizes { input_length: 600, feature_length: 64, output_length: 7, arena_bytes: 3000,
///     tail_layers: 1, tail_weights: 64 * 7, tail_outputs: 7, tail_parameters: 65 * 7,
///     workspace_floats: 64 + 4 * 7, tail_is_chain: true, loss: flatmin::Loss::CrossEntropy,
///     last_features: 64, layer_room: [0; 4], feature_count: 1 };
/// let plan = CompactPlan::new(&sizes, &Recipe::DEFAULT);
/// assert_eq!(plan.parameter_bytes(), 448 * 5 + 7 * 28); // 5.4 bytes per parameter; the f32 tail takes 9.2
/// assert!(plan.total_bytes() < MemoryPlan::new(&sizes, &Recipe::DEFAULT).total_bytes());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct CompactPlan {
    /// int32 biases.
    #[doc(hidden)]
    pub biases: Region,
    /// int32 velocity of the biases.
    #[doc(hidden)]
    pub bias_velocity: Region,
    /// f32 scales of the outputs' weights.
    #[doc(hidden)]
    pub scales: Region,
    /// int8 weights.
    #[doc(hidden)]
    pub weights: Region,
    /// int8 residuals: what is smaller than a weight's step.
    #[doc(hidden)]
    pub residuals: Region,
    /// int16 velocity, which is also the gradient's accumulator. Between runs it keeps the running tail while another is
    /// judged: of a tail that has more int8 bytes than that, it is that long.
    #[doc(hidden)]
    pub velocity: Region,
    /// The tuned tail in int8, with its biases, multipliers and scales.
    #[doc(hidden)]
    pub tuned_tail: Region,
    /// int8 latents.
    #[doc(hidden)]
    pub replay: Region,
    /// u16 labels.
    #[doc(hidden)]
    pub labels: Region,
    /// What a balanced replay knows of the classes: only for [`crate::replay::Policy::Balanced`].
    #[doc(hidden)]
    pub class_counts: Region,
    /// u16 order of samples in an epoch.
    #[doc(hidden)]
    pub order: Region,
    /// int8 activations, or the tail's integer workspace.
    #[doc(hidden)]
    pub scratch: Region,
}

impl CompactPlan {
    /// Plans an arena for a tail that is a chain of fully connected layers.
    pub const fn new(sizes: &Sizes, recipe: &Recipe) -> Self {
        const fn after(region: Region, bytes: usize) -> Region {
            // Words are the largest element; the arena alone is aligned beyond that.
            region.after(bytes, 4)
        }
        let outputs = sizes.tail_outputs.saturating_mul(4);
        let capacity = recipe.replay_capacity as usize;
        let tuned = sizes.tuned_bytes();
        let halves = sizes.tail_weights.saturating_mul(2);

        let biases = Region { offset: 0, bytes: outputs };
        let bias_velocity = after(biases, outputs);
        let scales = after(bias_velocity, outputs);
        let weights = after(scales, sizes.tail_weights);
        let residuals = after(weights, sizes.tail_weights);
        let velocity = after(residuals, if tuned > halves { tuned.div_ceil(2) * 2 } else { halves });
        let tuned_tail = after(velocity, tuned);
        let replay = after(tuned_tail, sizes.feature_length.saturating_mul(capacity));
        let labels = after(replay, capacity * 2);
        let class_counts = after(labels, sizes.class_count_bytes(recipe));
        let order = after(class_counts, capacity * 2);
        let workspace = workspace_words(sizes.feature_length, sizes.tail_outputs);
        let scratch = after(order, sizes.scratch_bytes(workspace));
        Self {
            biases,
            bias_velocity,
            scales,
            weights,
            residuals,
            velocity,
            tuned_tail,
            replay,
            labels,
            class_counts,
            order,
            scratch,
        }
    }

    /// Size of the arena.
    pub const fn total_bytes(&self) -> usize {
        self.scratch.end_of_arena()
    }

    /// Bytes that grow with the parameters: weights, residuals, velocity, and the tuned tail.
    pub const fn parameter_bytes(&self) -> usize {
        self.tuned_tail.offset + self.tuned_tail.bytes
    }

    /// The arena's bytes by purpose; what alignment adds counts to the region before it, so that the bytes add up to
    /// [`Self::total_bytes`].
    pub fn by_purpose(&self) -> [(&'static str, usize); 8] {
        [
            ("biases and scales", self.biases.upto(self.weights.offset)),
            ("weights int8 and residuals", self.weights.upto(self.velocity.offset)),
            ("velocity int16", self.velocity.upto(self.tuned_tail.offset)),
            ("tuned tail int8", self.tuned_tail.upto(self.replay.offset)),
            ("replay latents int8", self.replay.upto(self.labels.offset)),
            ("labels", self.labels.upto(self.order.offset)),
            ("sample order", self.order.upto(self.scratch.offset)),
            ("activations and workspace", self.scratch.upto(self.total_bytes())),
        ]
    }
}

impl Sizes {
    /// Bytes of the arena that tuning with this recipe takes with a [`crate::CompactTuner`].
    pub const fn compact_bytes(&self, recipe: &Recipe) -> usize {
        CompactPlan::new(self, recipe).total_bytes()
    }
}
