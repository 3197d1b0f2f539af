//! The host's random numbers.

/// The generator SplitMix64: add `0x9e3779b97f4a7c15` to the state, then mix the state into the output.
///
/// Its outputs are fixed by this definition and never change with a dependency's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Starts the stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next output.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `bound` (0 if `bound` is 0): the high word of `output * bound`.
    ///
    /// Its bias, at most `bound / 2^64`, is of no consequence here.
    pub const fn below(&mut self, bound: usize) -> usize {
        ((self.next_u64() as u128 * bound as u128) >> 64) as usize
    }

    /// Fisher and Yates, from the first element on: swaps element `i` with one drawn from `i` to the last.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in 0..items.len() {
            let chosen = i + self.below(items.len() - i);
            items.swap(i, chosen);
        }
    }
}
