//! The one room that knows CPUs: int8 products and their way back to int8 ([`int8`]), f32 sums and sweeps ([`lanes`],
//! [`block`]).
//!
//! Every loop exists in portable Rust; a path is a CPU's own version of some of them, chosen when the crate is compiled
//! (see `build.rs`), on x86-64 when it runs. One contract: a path's function does a whole number of its blocks from the
//! first element on and returns how many elements it did, none at all if it can do nothing with them; the portable loop
//! does the rest. Results are the same in every bit.

/// Lets the path, if there is one, do what it can, and takes what it did off the slices:
/// `path!(add_scaled(y, factor, x) of y, x)`.
macro_rules! path {
    ($name:ident($($argument:expr),*) of $($slice:ident),*) => {
        #[cfg(flatmin_vfp)]
        let ($($slice,)*) = {
            let done = super::floats::$name($($argument),*);
            ($(super::Rest::rest($slice, done),)*)
        };
    };
}

#[cfg(any(flatmin_dsp, flatmin_vfp))]
mod armv7em;
pub(crate) mod block;
pub(crate) mod grid;
#[cfg(flatmin_helium)]
mod helium;
pub(crate) mod int8;
pub(crate) mod lanes;
#[cfg(any(flatmin_plain, test))]
mod plain;
// What a path does not speed up, it takes from here.
#[cfg_attr(any(flatmin_dsp, flatmin_helium, flatmin_plain), allow(dead_code, unused_imports))]
mod portable;
#[cfg(flatmin_avx)]
pub(crate) mod x86_64;

#[cfg(flatmin_vfp)]
use armv7em::vfp as floats;

/// Whether f32 arithmetic keeps numbers below 2^-126, as every path presumes: not with FPSCR.FZ set, nor MXCSR.FTZ or DAZ.
pub(crate) fn keeps_subnormals() -> bool {
    // Floats in software, and those of RISC-V, know no such mode.
    if cfg!(any(
        target_arch = "riscv32",
        target_arch = "riscv64",
        all(target_arch = "arm", target_abi = "eabi")
    )) {
        return true;
    }
    // Not before it runs: the compiler knows no mode either.
    let half = core::hint::black_box(f32::MIN_POSITIVE) * core::hint::black_box(0.5);
    core::hint::black_box(half) * core::hint::black_box(2.0) == f32::MIN_POSITIVE
}

/// What is left when the first elements are done.
#[cfg(flatmin_vfp)]
trait Rest {
    fn rest(self, done: usize) -> Self;
}

#[cfg(flatmin_vfp)]
impl<T> Rest for &[T] {
    #[inline(always)]
    fn rest(self, done: usize) -> Self {
        self.get(done..).unwrap_or(&[])
    }
}

#[cfg(flatmin_vfp)]
impl<T> Rest for &mut [T] {
    #[inline(always)]
    fn rest(self, done: usize) -> Self {
        self.get_mut(done..).unwrap_or(&mut [])
    }
}

#[cfg(flatmin_vfp)]
impl<S: Rest, const N: usize> Rest for [S; N] {
    #[inline(always)]
    fn rest(self, done: usize) -> Self {
        self.map(|slice| slice.rest(done))
    }
}
