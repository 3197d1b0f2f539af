//! Who gets which bytes of an integer tuner's arena.

use crate::memory::Region;
use crate::pack::Sizes;
use crate::recipe::{Method, Recipe};

/// The regions of an [`IntegerTuner`](crate::IntegerTuner)'s arena, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct IntegerPlan {
    /// int32 differences of the biases.
    #[doc(hidden)]
    pub biases: Region,
    /// f32 mean squares of the channels' gradients.
    #[doc(hidden)]
    pub squares: Region,
    /// int8 fractional bits of the channels' differences.
    #[doc(hidden)]
    pub bits: Region,
    /// int8 differences of the weights, and in front of them room, so that all of it holds an int8 tail.
    #[doc(hidden)]
    pub deltas: Region,
    /// The ascent of SAM and ASAM.
    #[doc(hidden)]
    pub ascent: Region,
    /// int8 tail in force.
    #[doc(hidden)]
    pub tuned_tail: Region,
    /// int8 latents.
    #[doc(hidden)]
    pub replay: Region,
    /// u16 labels.
    #[doc(hidden)]
    pub labels: Region,
    /// What a balanced replay knows of the classes.
    #[doc(hidden)]
    pub class_counts: Region,
    /// u16 order of samples in an epoch.
    #[doc(hidden)]
    pub order: Region,
    /// int8 activations, or the tail's workspace.
    #[doc(hidden)]
    pub scratch: Region,
    /// The features of one sample.
    #[doc(hidden)]
    pub latent: Region,
}

impl IntegerPlan {
    /// Plans an arena for a tail that is no chain of fully connected layers.
    pub const fn new(sizes: &Sizes, recipe: &Recipe) -> Self {
        const fn after(region: Region, bytes: usize) -> Region {
            region.after(bytes, 4)
        }
        let (outputs, weights) = (sizes.tail_outputs, sizes.tail_weights);
        let words = outputs.saturating_mul(4);
        let capacity = recipe.replay_capacity as usize;
        let tuned = sizes.tuned_bytes();
        // A byte for each weight, and two words for each output.
        let ascent = weights.saturating_add(3) / 4 * 4 + 2 * words;

        let biases = Region { offset: 0, bytes: words };
        let squares = after(biases, words);
        let bits = after(squares, outputs);
        let deltas = after(bits, tuned);
        let ascent = after(deltas, if matches!(recipe.method, Method::Sgd) { 0 } else { ascent });
        let tuned_tail = after(ascent, tuned);
        let replay = after(tuned_tail, sizes.feature_length.saturating_mul(capacity));
        let labels = after(replay, capacity * 2);
        let class_counts = after(labels, sizes.class_count_bytes(recipe));
        let order = after(class_counts, capacity * 2);
        let scratch = after(order, sizes.scratch_bytes(sizes.integer_words()));
        let latent = after(scratch, sizes.feature_length);
        Self {
            biases,
            squares,
            bits,
            deltas,
            ascent,
            tuned_tail,
            replay,
            labels,
            class_counts,
            order,
            scratch,
            latent,
        }
    }

    /// Size of the arena.
    pub const fn total_bytes(&self) -> usize {
        self.latent.end_of_arena()
    }

    /// The arena's bytes by purpose; what alignment adds counts to the region before it, so that the bytes add up to
    /// [`Self::total_bytes`].
    pub fn by_purpose(&self) -> [(&'static str, usize); 8] {
        [
            ("biases and mean squares", self.biases.upto(self.bits.offset)),
            ("differences int8", self.bits.upto(self.ascent.offset)),
            ("ascent int8", self.ascent.upto(self.tuned_tail.offset)),
            ("tuned tail int8", self.tuned_tail.upto(self.replay.offset)),
            ("replay latents int8", self.replay.upto(self.labels.offset)),
            ("labels", self.labels.upto(self.order.offset)),
            ("sample order", self.order.upto(self.scratch.offset)),
            ("activations and workspace", self.scratch.upto(self.total_bytes())),
        ]
    }
}

impl Sizes {
    /// Bytes of the arena that tuning with this recipe takes with an [`IntegerTuner`](crate::IntegerTuner).
    pub const fn integer_bytes(&self, recipe: &Recipe) -> usize {
        IntegerPlan::new(self, recipe).total_bytes()
    }

    /// Bytes beside the arena that [`Tuner::solve`](crate::Tuner::solve) takes of an
    /// [`IntegerTuner`](crate::IntegerTuner): 0 where the differences' memory is large enough.
    pub const fn integer_solve_bytes(&self) -> usize {
        let needed = self.solve_words().saturating_mul(4);
        if self.tuned_bytes() / 4 * 4 < needed { needed } else { 0 }
    }
}
