//! Who gets which bytes of an integer tuner's arena.

use crate::memory::{Region, TUNED_WORDS};
use crate::pack::Sizes;
use crate::recipe::{Method, Recipe};

/// The regions of an [`IntegerTuner`](crate::IntegerTuner)'s arena, in their order.
///
/// ```
/// use flatmin::{IntegerPlan, Recipe, Sizes, include_pack};
/// static MODEL: &[u8] = include_pack!("../../tests/examples/motion.pack");
/// const PLAN: IntegerPlan = IntegerPlan::new(&Sizes::of(MODEL), &Recipe::INTEGER);
/// assert_eq!(PLAN.by_purpose().iter().map(|(_, bytes)| bytes).sum::<usize>(), PLAN.total_bytes());
/// ```
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
    /// Biases, multipliers and scales of the int8 tail in force.
    #[doc(hidden)]
    pub tail_words: Region,
    /// int8 fractional bits of the channels' differences.
    #[doc(hidden)]
    pub bits: Region,
    /// int8 weights of the tail in force, or the differences under training.
    #[doc(hidden)]
    pub weights: Region,
    /// The ascent of SAM and ASAM.
    #[doc(hidden)]
    pub ascent: Region,
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
    /// u16 answers of a tail in force that has given its place to a run.
    #[doc(hidden)]
    pub answers: Region,
    /// int8 activations, or the tail's workspace.
    #[doc(hidden)]
    pub scratch: Region,
    /// The features of one sample, where these are several or the method ascends.
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
        // A byte for each weight, and two words for each output.
        let ascent = weights.saturating_add(3) / 4 * 4 + 2 * words;

        let biases = Region { offset: 0, bytes: words };
        let squares = after(biases, words);
        let tail_words = after(squares, words.saturating_mul(TUNED_WORDS));
        let bits = after(tail_words, outputs);
        let tail_weights = after(bits, sizes.integer_place_bytes());
        let ascent = after(tail_weights, if matches!(recipe.method, Method::Sgd) { 0 } else { ascent });
        let replay = after(ascent, sizes.feature_length.saturating_mul(capacity));
        let labels = after(replay, capacity * 2);
        let class_counts = after(labels, sizes.class_count_bytes(recipe));
        let order = after(class_counts, capacity * 2);
        let answers = after(order, capacity * 2);
        let scratch = after(answers, sizes.scratch_bytes(sizes.integer_words()));
        // One feature stays where the trunk writes it, but for ascents, which are made of it and then used on it.
        let in_place = sizes.feature_count == 1 && ascent.bytes == 0;
        let latent = after(scratch, if in_place { 0 } else { sizes.feature_length });
        Self {
            biases,
            squares,
            tail_words,
            bits,
            weights: tail_weights,
            ascent,
            replay,
            labels,
            class_counts,
            order,
            answers,
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
            ("biases and mean squares", self.biases.upto(self.tail_words.offset)),
            ("tuned biases and scales", self.tail_words.upto(self.bits.offset)),
            ("weights or differences int8", self.bits.upto(self.ascent.offset)),
            ("ascent int8", self.ascent.upto(self.replay.offset)),
            ("replay latents int8", self.replay.upto(self.labels.offset)),
            ("labels", self.labels.upto(self.order.offset)),
            ("sample order and answers", self.order.upto(self.scratch.offset)),
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
        if self.integer_place_bytes() / 4 * 4 < needed { needed } else { 0 }
    }

    /// Bytes of the place that weights and differences share: where an int8 tail's bytes together are as many as solving the
    /// head takes, that many.
    pub(super) const fn integer_place_bytes(&self) -> usize {
        let needed = self.solve_words().saturating_mul(4);
        if self.tail_weights < needed && needed <= self.tuned_bytes() { needed } else { self.tail_weights }
    }
}
