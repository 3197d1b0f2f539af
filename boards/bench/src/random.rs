//! Numbers that are the same everywhere.

/// Marsaglia's xorshift32 ("Xorshift RNGs", 2003): enough for test data, small enough for compile time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random(u32);

impl Random {
    pub(crate) const fn new(seed: u32) -> Self {
        // Zero is the generator's fixed point.
        Self(if seed == 0 { 0x9e37_79b9 } else { seed })
    }

    pub(crate) const fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// From `low` to `high`, both included.
    pub(crate) const fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = (high - low + 1) as u32;
        low + (self.next() % span) as i32
    }

    pub(crate) const fn int8(&mut self) -> i8 {
        // The high byte: xorshift's low bits are its weakest.
        (self.next() >> 24) as u8 as i8
    }
}

/// Fills `values` with the sequence of `seed`.
pub fn fill(seed: u32, values: &mut [i8]) {
    let mut random = Random::new(seed);
    for value in values {
        *value = random.int8();
    }
}

/// From -limit to limit.
pub(crate) fn fill_uniform(seed: u32, limit: f32, values: &mut [f32]) {
    let mut random = Random::new(seed);
    for value in values {
        *value = limit * ((random.next() >> 8) as f32 * (1.0 / 8_388_608.0) - 1.0);
    }
}

/// The numbers of [`fill`], drawn at compile time.
pub(crate) const fn int8s<const N: usize>(seed: u32) -> [i8; N] {
    let mut random = Random::new(seed);
    let mut values = [0; N];
    let mut i = 0;
    while i < N {
        values[i] = random.int8();
        i += 1;
    }
    values
}

/// `N` integers from `low` to `high`.
pub(crate) const fn integers<const N: usize>(seed: u32, low: i32, high: i32) -> [i32; N] {
    let mut random = Random::new(seed);
    let mut values = [0; N];
    let mut i = 0;
    while i < N {
        values[i] = random.between(low, high);
        i += 1;
    }
    values
}

/// Mantissas in `[2^30, 2^31)` of 24 significant bits.
pub(crate) const fn mantissas<const N: usize>(seed: u32) -> [i32; N] {
    let mut values = integers(seed, 1 << 23, (1 << 24) - 1);
    let mut i = 0;
    while i < N {
        values[i] <<= 7;
        i += 1;
    }
    values
}

/// `mantissa * 2^(shift - 31)`, exactly: the mantissa has 24 significant bits or is 0.
pub(crate) const fn scale(mantissa: i32, shift: i32) -> f32 {
    if mantissa == 0 {
        return 0.0;
    }
    // A float's significand is in [1, 2), the mantissa stands for [0.5, 1).
    f32::from_bits(((shift + 126) as u32) << 23 | ((mantissa >> 7) as u32 & 0x007f_ffff))
}

/// The same for arrays.
pub(crate) const fn scales<const N: usize>(mantissas: &[i32; N], shifts: &[i32; N]) -> [f32; N] {
    let mut values = [0.0; N];
    let mut i = 0;
    while i < N {
        values[i] = scale(mantissas[i], shifts[i]);
        i += 1;
    }
    values
}
