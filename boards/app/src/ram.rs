//! The RAM of a firmware by purpose, known when it is compiled: what `flatmin inspect` announces is what the
//! firmware's buffers are sized by.

use flatmin::{CompactPlan, IntegerPlan, MemoryPlan, Recipe, Sizes, wire};

/// Stack that the firmware is allowed, in bytes: the most that was measured on an emulated board (8,936, on the
/// STM32F405 with its store; 7,704 on the mps2-an386), and a seventh more; nearly half are the buffers of a
/// convolution. It hardly depends on the network: what does lies in the arena.
pub const STACK_BYTES: usize = 10 * 1024;

/// Stack with a compact tail on a core without the DSP extension, whose convolution has fewer buffers: 5,612 were
/// measured on the microbit, and it is all that it has.
pub const COMPACT_STACK_BYTES: usize = 5696;

/// Stack with a tail of any layers in integers: 10,476 were measured on the mps2-an386, with ASAM.
pub const INTEGER_STACK_BYTES: usize = 12 * 1024;

/// What is left, in bytes: the board's own statics and the logger's, and alignment between the buffers.
pub const FIXED_BYTES: usize = 256;

/// What the memory beside the arena that heads are solved in is called.
pub const SOLVING: &str = "solving the head";

/// RAM by purpose, in bytes.
///
/// ```
/// use flatmin::{Recipe, Sizes};
/// use flatmin_app::RamBudget;
/// let sizes = Sizes { input_length: 600, feature_length: 192, output_length: 7, arena_bytes: 3000,
///     tail_layers: 2, tail_weights: 192 * 64 + 64 * 7, tail_outputs: 71,
///     tail_parameters: 192 * 64 + 64 * 7 + 71, workspace_floats: 192 + 4 * 71, tail_is_chain: true,
///     loss: flatmin::Loss::CrossEntropy, last_features: 64, layer_room: [0; 4], feature_count: 1 };
/// let budget = RamBudget::new(&sizes, &Recipe::DEFAULT);
/// assert_eq!(budget.by_purpose().map(|(_, bytes)| bytes).sum::<usize>(), budget.total_bytes());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamBudget {
    /// The arena's plan.
    pub arena: ArenaPlan,
    /// Beside the arena: what heads are solved in, 0 where the arena has room for that or nothing is solved.
    pub solving: usize,
    /// Buffers for frames; 0 without a link.
    pub link: usize,
    /// [`STACK_BYTES`], [`COMPACT_STACK_BYTES`] or [`INTEGER_STACK_BYTES`].
    pub stack: usize,
    /// [`FIXED_BYTES`].
    pub fixed: usize,
}

impl RamBudget {
    /// The budget of a network that is tuned with this recipe.
    pub const fn new(sizes: &Sizes, recipe: &Recipe) -> Self {
        Self {
            arena: ArenaPlan::Full(MemoryPlan::new(sizes, recipe)),
            solving: 0,
            link: link_bytes(sizes),
            stack: STACK_BYTES,
            fixed: FIXED_BYTES,
        }
    }

    /// The budget of a network whose tail is tuned in few bytes, on a core of `stack` bytes of stack.
    pub const fn compact(sizes: &Sizes, recipe: &Recipe, stack: usize) -> Self {
        let arena = ArenaPlan::Compact(CompactPlan::new(sizes, recipe));
        Self { arena, stack, ..Self::new(sizes, recipe) }
    }

    /// The budget of a network whose tail of any layers is tuned in integers. The head is solved within the arena.
    pub const fn integer(sizes: &Sizes, recipe: &Recipe) -> Self {
        let arena = ArenaPlan::Integer(IntegerPlan::new(sizes, recipe));
        Self { arena, stack: INTEGER_STACK_BYTES, ..Self::new(sizes, recipe) }
    }

    /// The budget of a firmware that also solves the last layer in closed form.
    pub const fn with_solver(self, sizes: &Sizes, recipe: &Recipe) -> Self {
        Self { solving: sizes.solve_bytes(recipe), ..self }
    }

    /// The budget of a firmware of one's own, without the application's link.
    pub const fn without_link(self) -> Self {
        Self { link: 0, ..self }
    }

    /// All of it.
    pub const fn total_bytes(&self) -> usize {
        self.arena.total_bytes() + self.solving + self.link + self.stack + self.fixed
    }

    /// The arena's parts, then the rest; they add up to [`Self::total_bytes`].
    pub fn by_purpose(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let own = [("stack", self.stack), ("statics", self.fixed)];
        let solving = (self.solving > 0).then_some((SOLVING, self.solving));
        let link = (self.link > 0).then_some(("link frames", self.link));
        self.arena.by_purpose().chain(solving).chain(link).chain(own)
    }
}

/// The plan of either tuner's arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArenaPlan {
    /// Of a `flatmin::Tuner`.
    Full(MemoryPlan),
    /// Of a `flatmin::CompactTuner`.
    Compact(CompactPlan),
    /// Budget of an [`IntegerTuner`](flatmin::IntegerTuner).
    Integer(IntegerPlan),
}

impl ArenaPlan {
    /// Size of the arena.
    pub const fn total_bytes(&self) -> usize {
        match self {
            Self::Full(plan) => plan.total_bytes(),
            Self::Compact(plan) => plan.total_bytes(),
            Self::Integer(plan) => plan.total_bytes(),
        }
    }

    /// The arena's bytes by purpose.
    pub fn by_purpose(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let (full, integers) = match self {
            Self::Full(plan) => (Some(plan.by_purpose()), None),
            Self::Compact(plan) => (None, Some(plan.by_purpose())),
            Self::Integer(plan) => (None, Some(plan.by_purpose())),
        };
        full.into_iter().flatten().chain(integers.into_iter().flatten())
    }
}

/// Bytes of the body buffer: a response before it is framed, and a latent while a sample is judged.
const fn body_bytes(sizes: &Sizes) -> usize {
    if sizes.feature_length > wire::RESPONSE_BYTES { sizes.feature_length } else { wire::RESPONSE_BYTES }
}

/// Bytes that [`Buffers::new`] divides.
pub const fn link_bytes(sizes: &Sizes) -> usize {
    wire::longest_request_bytes(sizes) + body_bytes(sizes) + wire::RESPONSE_BYTES
}

/// Buffers of the link.
#[derive(Debug)]
pub struct Buffers<'a> {
    /// The frame that comes in.
    pub(crate) request: &'a mut [u8],
    /// The message that goes out, before it is framed; a latent until then.
    pub(crate) body: &'a mut [u8],
    /// The frame that goes out.
    pub(crate) response: &'a mut [u8],
    /// Memory to solve heads in.
    pub(crate) solving: &'a mut [u32],
}

impl<'a> Buffers<'a> {
    /// Divides `memory`; `None` if it has fewer than [`link_bytes`].
    pub fn new(sizes: &Sizes, memory: &'a mut [u8]) -> Option<Self> {
        let (request, rest) = memory.split_at_mut_checked(wire::longest_request_bytes(sizes))?;
        let (body, rest) = rest.split_at_mut_checked(body_bytes(sizes))?;
        let (response, _) = rest.split_at_mut_checked(wire::RESPONSE_BYTES)?;
        Some(Self { request, body, response, solving: &mut [] })
    }

    /// These buffers with memory to solve heads in, where the arena has no room for that: [`Sizes::solve_bytes`].
    pub fn with_solver(self, memory: &'a mut [u32]) -> Self {
        Self { solving: memory, ..self }
    }
}
