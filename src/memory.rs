//! Who gets which bytes of the arena, known when the firmware is compiled.

use crate::label::Loss;
use crate::pack::Sizes;
use crate::recipe::{Method, Recipe};
use crate::replay::{ClassCount, Policy};

/// Alignment of the arena and of every part, in bytes.
pub const ALIGNMENT: usize = 16;

/// One part of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Region {
    /// First byte.
    pub offset: usize,
    /// Size in bytes.
    pub bytes: usize,
}

impl Region {
    /// The next one after it, of so many bytes, on a boundary of `alignment`.
    pub(crate) const fn after(self, bytes: usize, alignment: usize) -> Self {
        let end = self.offset.saturating_add(self.bytes);
        Self { offset: end.saturating_add(alignment - 1) / alignment * alignment, bytes }
    }

    /// Size of the arena whose last region it is.
    pub(crate) const fn end_of_arena(self) -> usize {
        self.after(0, ALIGNMENT).offset
    }

    /// Its bytes and those that alignment adds in front of the next.
    pub(crate) fn upto(self, next: usize) -> usize {
        next - self.offset
    }
}

/// The arena's plan: a `const fn` of a pack's sizes and a recipe. The trunk's activations and the tail's
/// workspace are never alive together and share [`MemoryPlan::scratch`].
///
/// ```
/// use flatmin::{MemoryPlan, Method, Recipe, Sizes};
/// let sizes = Sizes { input_length: 600, feature_length: 192, output_length: 7, arena_bytes: 3000,
///     tail_layers: 2, tail_weights: 192 * 64 + 64 * 7, tail_outputs: 71,
///     tail_parameters: 192 * 64 + 64 * 7 + 71, workspace_floats: 192 + 4 * 71, tail_is_chain: true,
///     loss: flatmin::Loss::CrossEntropy, last_features: 64, layer_room: [0; 4], feature_count: 1 };
/// let bytes = |method| MemoryPlan::new(&sizes, &Recipe { method, ..Recipe::DEFAULT }).total_bytes();
/// assert_eq!(bytes(Method::Sam), bytes(Method::Sgd)); // sharpness-awareness costs no RAM
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct MemoryPlan {
    /// f32 parameters w.
    #[doc(hidden)]
    pub weights: Region,
    /// f32 velocity v, which is also the gradient's accumulator; of Adam the gradient, then its moments. Between runs it
    /// keeps the running tail while another is judged, and the samples' scores: of a tail that has more int8 bytes than
    /// f32 parameters take, or whose loss takes no classes and fewer parameters than the replay has samples, it is that
    /// long.
    #[doc(hidden)]
    pub velocity: Region,
    /// f32 gradient g, then the weights' backup: only for stored perturbations.
    #[doc(hidden)]
    pub gradient: Region,
    /// f32 parameters, the best that a run has seen: only for [`Recipe::keep_best`].
    #[doc(hidden)]
    pub best: Region,
    /// The tuned tail in int8, with its biases, multipliers and scales.
    #[doc(hidden)]
    pub tuned_tail: Region,
    /// int8 latents, each with its target after it: [`Sizes::target_length`] bytes, none of a loss that takes labels.
    #[doc(hidden)]
    pub replay: Region,
    /// u16 labels.
    #[doc(hidden)]
    pub labels: Region,
    /// What a balanced replay knows of the classes: only for [`Policy::Balanced`].
    #[doc(hidden)]
    pub class_counts: Region,
    /// f32 mean loss of every sample: only for [`Recipe::sample_losses`].
    #[doc(hidden)]
    pub losses: Region,
    /// u16 order of samples in an epoch.
    #[doc(hidden)]
    pub order: Region,
    /// int8 activations, or the tail's f32 workspace.
    #[doc(hidden)]
    pub scratch: Region,
    /// int8 features of one sample, gathered; of a chain nothing.
    #[doc(hidden)]
    pub latent: Region,
}

/// int32 or float32 words that a tuned layer keeps for every output: bias, mantissa, shift, scale.
pub(crate) const TUNED_WORDS: usize = 4;

impl MemoryPlan {
    /// Plans an arena.
    pub const fn new(sizes: &Sizes, recipe: &Recipe) -> Self {
        const fn after(region: Region, bytes: usize) -> Region {
            region.after(bytes, ALIGNMENT)
        }
        let parameters = sizes.tail_parameters.saturating_mul(4);
        let capacity = recipe.replay_capacity as usize;
        let tuned = sizes.tuned_bytes();
        let record = sizes.feature_length.saturating_add(sizes.target_length());

        let weights = Region { offset: 0, bytes: parameters };
        let state = recipe.velocity_floats(sizes.tail_parameters).saturating_mul(4);
        let scores = if matches!(sizes.loss, Loss::CrossEntropy) { 0 } else { capacity * 4 };
        let velocity = after(weights, largest([tuned.div_ceil(4) * 4, state, scores]));
        let gradient = after(velocity, if sizes.needs_gradient_buffer(recipe) { parameters } else { 0 });
        let best = after(gradient, if recipe.keep_best { parameters } else { 0 });
        let tuned_tail = after(best, tuned);
        let replay = after(tuned_tail, record.saturating_mul(capacity));
        let labels = after(replay, capacity * 2);
        let class_counts = after(labels, sizes.class_count_bytes(recipe));
        let losses = after(class_counts, if recipe.sample_losses { capacity * 4 } else { 0 });
        let order = after(losses, capacity * 2);
        let scratch = after(order, sizes.scratch_bytes(sizes.workspace_floats));
        // Several features lie apart in the scratch memory.
        let latent = after(scratch, if sizes.tail_is_chain { 0 } else { sizes.feature_length });
        Self {
            weights,
            velocity,
            gradient,
            best,
            tuned_tail,
            replay,
            labels,
            class_counts,
            losses,
            order,
            scratch,
            latent,
        }
    }

    /// Size of the arena.
    pub const fn total_bytes(&self) -> usize {
        self.latent.end_of_arena()
    }

    /// The arena's bytes by purpose; what alignment adds counts to the region before it, so that the bytes add
    /// up to [`Self::total_bytes`].
    pub fn by_purpose(&self) -> [(&'static str, usize); 9] {
        [
            ("weights f32", self.weights.upto(self.velocity.offset)),
            ("velocity f32", self.velocity.upto(self.gradient.offset)),
            ("gradient f32", self.gradient.upto(self.best.offset)),
            ("best weights f32", self.best.upto(self.tuned_tail.offset)),
            ("tuned tail int8", self.tuned_tail.upto(self.replay.offset)),
            ("replay latents int8", self.replay.upto(self.labels.offset)),
            ("labels", self.labels.upto(self.order.offset)),
            ("sample order", self.order.upto(self.scratch.offset)),
            ("activations and workspace", self.scratch.upto(self.total_bytes())),
        ]
    }
}

impl Sizes {
    /// Whether tuning with this recipe takes a gradient buffer beside weights and velocity. Of a chain, the method has
    /// no say in it, so that it can be changed on a running device; of any other tail, SGD alone is spared.
    #[doc(hidden)]
    pub const fn needs_gradient_buffer(&self, recipe: &Recipe) -> bool {
        recipe.needs_gradient_buffer() || !self.tail_is_chain && !matches!(recipe.method, Method::Sgd)
    }

    /// Bytes beside the arena that [`crate::Tuner::solve`] takes: 0 where the velocity's memory is large enough, and where
    /// there is no such head to solve.
    pub const fn solve_bytes(&self, recipe: &Recipe) -> usize {
        let needed = self.solve_words().saturating_mul(4);
        if MemoryPlan::new(self, recipe).velocity.bytes < needed { needed } else { 0 }
    }

    /// Words that [`crate::Tuner::solve`] works in.
    pub(crate) const fn solve_words(&self) -> usize {
        if self.last_features == 0 {
            return 0;
        }
        let (classes, features) = (self.output_length, self.last_features);
        let head = classes.saturating_mul(features.saturating_add(1));
        crate::closed_form::scratch_words(classes, features).saturating_add(head)
    }

    /// Bytes of a tuned int8 tail.
    pub(crate) const fn tuned_bytes(&self) -> usize {
        self.tail_outputs.saturating_mul(4 * TUNED_WORDS).saturating_add(self.tail_weights)
    }

    /// Bytes of what a replay knows of the classes.
    pub(crate) const fn class_count_bytes(&self, recipe: &Recipe) -> usize {
        match recipe.replay_policy {
            Policy::Oldest => 0,
            Policy::Balanced => self.loss.groups(self.output_length).saturating_mul(size_of::<ClassCount>()),
        }
    }

    /// Bytes that the trunk's activations, with the weights that a tuned tail makes beside them, and a workspace of so many words
    /// share.
    pub(crate) const fn scratch_bytes(&self, workspace: usize) -> usize {
        let [.., beside] = self.layer_room;
        let arena = self.arena_bytes.saturating_add(beside);
        largest([workspace.saturating_mul(4), arena, 0]).saturating_add(3) / 4 * 4
    }

    /// Bytes of the arena that tuning with this recipe takes.
    pub const fn train_bytes(&self, recipe: &Recipe) -> usize {
        MemoryPlan::new(self, recipe).total_bytes()
    }

    /// [`Self::train_bytes`], or a build error that names both numbers where `budget` is too small.
    ///
    /// # Panics
    /// When the arena needs more than `budget` bytes; meant for constants, where the panic is a build error.
    pub const fn train_bytes_within(&self, recipe: &Recipe, budget: usize) -> usize {
        let needed = self.train_bytes(recipe);
        if needed > budget {
            let mut message = Message { text: [0; 96], length: 0 };
            message.text("tuning needs an arena of ");
            message.number(needed);
            message.text(" bytes, the budget is ");
            message.number(budget);
            message.text(" bytes");
            panic!("{}", message.as_str());
        }
        needed
    }
}

const fn largest(bytes: [usize; 3]) -> usize {
    let [a, b, c] = bytes;
    let most = if a > b { a } else { b };
    if most > c { most } else { c }
}

/// Text put together at compile time, where `format_args!` cannot reach a panic message.
struct Message {
    text: [u8; 96],
    length: usize,
}

impl Message {
    const fn byte(&mut self, byte: u8) {
        if self.length < self.text.len() {
            self.text[self.length] = byte;
            self.length += 1;
        }
    }

    const fn text(&mut self, text: &str) {
        let mut i = 0;
        while i < text.len() {
            self.byte(text.as_bytes()[i]);
            i += 1;
        }
    }

    const fn number(&mut self, number: usize) {
        let mut unit = 1;
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            // A digit: below 10.
            self.byte(b'0' + (number / unit % 10) as u8);
            unit /= 10;
        }
    }

    const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.text.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => "tuning does not fit into the budget",
        }
    }
}

/// A static arena: `static ARENA: StaticCell<Arena<{ MODEL.train_bytes(&RECIPE) }>>`.
/// [The crate's example](crate) has one.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Arena<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Arena<BYTES> {
    /// An arena of zeros.
    pub const fn new() -> Self {
        Self([0; BYTES])
    }

    /// The memory, as [`crate::Tuner::new`] takes it.
    pub const fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const BYTES: usize> Default for Arena<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        input_length: 600,
        feature_length: 190,
        output_length: 7,
        arena_bytes: 2_001,
        tail_layers: 2,
        tail_weights: 190 * 64 + 64 * 7,
        tail_outputs: 71,
        tail_parameters: 190 * 64 + 64 * 7 + 71,
        workspace_floats: 190 + 4 * 71,
        tail_is_chain: true,
        loss: Loss::CrossEntropy,
        last_features: 64,
        layer_room: [0; 4],
        feature_count: 1,
    };

    #[test]
    fn regions_are_disjoint_aligned_and_add_up() {
        for (sharpness_batch, keep_best) in [(1, false), (4, false), (1, true), (4, true)] {
            let replay_policy = if keep_best { Policy::Balanced } else { Policy::Oldest };
            let recipe = Recipe {
                sharpness_batch,
                keep_best,
                replay_policy,
                sample_losses: keep_best,
                ..Recipe::DEFAULT
            };
            let plan = MemoryPlan::new(&SIZES, &recipe);
            assert_eq!(plan.losses.bytes, if keep_best { 128 * 4 } else { 0 });
            assert_eq!(plan.class_counts.bytes, if keep_best { 7 * 8 } else { 0 });
            assert_eq!(plan.best.bytes, if keep_best { SIZES.tail_parameters * 4 } else { 0 });
            let regions = [
                plan.weights,
                plan.velocity,
                plan.gradient,
                plan.best,
                plan.tuned_tail,
                plan.replay,
                plan.labels,
                plan.class_counts,
                plan.losses,
                plan.order,
                plan.scratch,
            ];
            for pair in regions.windows(2) {
                assert!(pair[0].offset + pair[0].bytes <= pair[1].offset);
                assert_eq!(pair[1].offset % ALIGNMENT, 0);
            }
            let sum: usize = plan.by_purpose().iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(sum, plan.total_bytes());
        }
    }

    #[test]
    #[should_panic(expected = "bytes, the budget is 1000 bytes")]
    fn a_budget_too_small_names_both_numbers() {
        SIZES.train_bytes_within(&Recipe::DEFAULT, 1_000);
    }
}
