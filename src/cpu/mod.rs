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
        #[cfg(flatmin_floats)]
        let ($($slice,)*) = {
            let done = super::floats::$name($($argument),*);
            ($(super::Rest::rest($slice, done),)*)
        };
    };
}

#[cfg(flatmin_dsp)]
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
mod x86_64;

#[cfg(flatmin_vfp)]
use armv7em::vfp as floats;
#[cfg(flatmin_mve_float)]
use helium::floats;

/// A result as a scalar computes it. Vectors of Helium, which LLVM would take of its own accord, flush subnormal numbers;
/// where loops of this room run beside such a path, they are there for those alone.
#[inline(always)]
fn scalar(result: f32) -> f32 {
    if cfg!(flatmin_mve_float) { core::hint::black_box(result) } else { result }
}

/// What is left when the first elements are done.
#[cfg(flatmin_floats)]
trait Rest {
    fn rest(self, done: usize) -> Self;
}

#[cfg(flatmin_floats)]
impl<T> Rest for &[T] {
    #[inline(always)]
    fn rest(self, done: usize) -> Self {
        self.get(done..).unwrap_or(&[])
    }
}

#[cfg(flatmin_floats)]
impl<T> Rest for &mut [T] {
    #[inline(always)]
    fn rest(self, done: usize) -> Self {
        self.get_mut(done..).unwrap_or(&mut [])
    }
}

#[cfg(flatmin_floats)]
impl<S: Rest, const N: usize> Rest for [S; N] {
    #[inline(always)]
    fn rest(self, done: usize) -> Self {
        self.map(|slice| slice.rest(done))
    }
}
