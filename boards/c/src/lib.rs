//! flatmin for firmware in C: a static library and `flatmin.h`.
//!
//! All memory is the caller's: [`flatmin_memory_bytes`] says how much, [`flatmin_open`] puts the tuner there. The same
//! tuner, so the same bits, as in Rust. Nothing here is safe to call from two threads or interrupts at once for one tuner.
//!
//! ```sh
//! cargo build --release --target thumbv7em-none-eabihf # libflatmin_c.a, with all operators
//! FLATMIN_PACK=model.pack cargo build --release --target thumbv7em-none-eabihf # with those of this pack alone
//! ```

// The tests run on the desktop, whose standard library has the panic handler.
#![cfg_attr(target_os = "none", no_std)]
// The border to C is the one place where pointers are what they are said to be by contract alone.
#![allow(unsafe_code)]
#![allow(non_camel_case_types)]

mod flash;
mod recipe;
mod status;

pub use flash::{flatmin_flash, flatmin_store};
pub use recipe::{
    FLATMIN_ASAM, FLATMIN_SAM, FLATMIN_SGD, flatmin_recipe, flatmin_recipe_default,
    flatmin_recipe_from_closed_form,
};
pub use status::{flatmin_status, flatmin_status_text};

use core::mem::{align_of, size_of};
use core::slice;
use flash::Flash;
use flatmin::{Operators, Pack, Progress, Tuner, TunerError};

#[cfg(not(one_pack))]
static OPERATORS: Operators = Operators::ALL;
#[cfg(one_pack)]
static OPERATORS: Operators = {
    static PACK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/model.pack"));
    Operators::of(PACK)
};

#[cfg(all(feature = "panic-handler", target_os = "none"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// A tuner. It lies at the start of the memory that `flatmin_open` was given; there is nothing to close.
pub struct flatmin_tuner {
    tuner: Tuner<'static>,
}

/// Bytes at the start of the memory that the tuner itself takes; the arena follows.
const TUNER_BYTES: usize = size_of::<flatmin_tuner>().next_multiple_of(ALIGNMENT);
const ALIGNMENT: usize = 16;
const _: () = assert!(align_of::<flatmin_tuner>() <= ALIGNMENT);

/// What tuned and factory tail give for a sample.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flatmin_answer {
    /// The class with the largest output; of a network of yes-or-no outputs one bit per output.
    pub label: u32,
    /// The largest output: a probability where the network ends in a softmax or a logistic function, else a logit.
    pub score: f32,
}

/// What a call of `flatmin_accept` found.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flatmin_acceptance {
    /// The tuned tail is in force now; else the one of before still is.
    pub accepted: bool,
    /// Samples that judged: those held out, or all where none is.
    pub samples: u32,
    /// Samples among them that the factory's tail has right.
    pub factory_right: u32,
    /// Samples among them that the tuned tail has right.
    pub tuned_right: u32,
}

/// Bytes of memory that `flatmin_open` takes for a pack and a recipe.
///
/// # Safety
/// `pack` points to `pack_bytes` bytes, `recipe` to a recipe, `bytes` to a place for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_memory_bytes(
    pack: *const u8,
    pack_bytes: usize,
    recipe: *const flatmin_recipe,
    bytes: *mut usize,
) -> flatmin_status {
    // SAFETY: both are null or point to what the caller promises.
    let (Some(recipe), Some(bytes)) = (unsafe { recipe.as_ref() }, unsafe { bytes.as_mut() }) else {
        return flatmin_status::FLATMIN_NULL;
    };
    // SAFETY: the caller promises `pack_bytes` bytes that stay as they are.
    let pack = match unsafe { open_pack(pack, pack_bytes) } {
        Ok(pack) => pack,
        Err(status) => return status,
    };
    match recipe.read() {
        Ok(recipe) => {
            *bytes = TUNER_BYTES.saturating_add(pack.sizes().train_bytes(&recipe));
            flatmin_status::FLATMIN_OK
        }
        Err(status) => status,
    }
}

/// Makes a tuner in `memory`. Pack and memory belong to it from now on: neither may be moved, written or freed.
///
/// Pack and memory begin on 16-byte boundaries. The pack is checked once, by its CRC-32 and everything that the kernels rely on.
///
/// # Safety
/// `pack` points to `pack_bytes` bytes that never change, `memory` to `memory_bytes` bytes that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_open(
    pack: *const u8,
    pack_bytes: usize,
    recipe: *const flatmin_recipe,
    memory: *mut u8,
    memory_bytes: usize,
    tuner: *mut *mut flatmin_tuner,
) -> flatmin_status {
    // SAFETY: both are null or point to what the caller promises.
    let (Some(recipe), Some(place)) = (unsafe { recipe.as_ref() }, unsafe { tuner.as_mut() }) else {
        return flatmin_status::FLATMIN_NULL;
    };
    *place = core::ptr::null_mut();
    if memory.is_null() {
        return flatmin_status::FLATMIN_NULL;
    }
    if !memory.addr().is_multiple_of(ALIGNMENT) {
        return flatmin_status::FLATMIN_MISALIGNED;
    }
    let Some(arena_bytes) = memory_bytes.checked_sub(TUNER_BYTES) else {
        return flatmin_status::FLATMIN_MEMORY_TOO_SMALL;
    };
    // SAFETY: the caller promises `pack_bytes` bytes that stay as they are.
    let pack = match unsafe { open_pack(pack, pack_bytes) } {
        Ok(pack) => pack,
        Err(status) => return status,
    };
    let recipe = match recipe.read() {
        Ok(recipe) => recipe,
        Err(status) => return status,
    };
    // SAFETY: `memory` has TUNER_BYTES + arena_bytes bytes that are nobody else's; zeroed, they are all initialized.
    let arena = unsafe {
        memory.write_bytes(0, memory_bytes);
        slice::from_raw_parts_mut(memory.add(TUNER_BYTES), arena_bytes)
    };
    match Tuner::new(pack, recipe, arena) {
        Ok(opened) => {
            let own: *mut flatmin_tuner = memory.cast();
            // SAFETY: the first TUNER_BYTES bytes are aligned, large enough, and no part of the arena.
            unsafe { own.write(flatmin_tuner { tuner: opened }) };
            *place = own;
            flatmin_status::FLATMIN_OK
        }
        Err(error) => error.into(),
    }
}

/// Keeps a labelled sample. `input` has as many values as the network takes, quantized as its input is.
///
/// # Safety
/// `tuner` comes from `flatmin_open`, `input` points to `values` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_observe(
    tuner: *mut flatmin_tuner,
    input: *const i8,
    values: usize,
    label: u32,
) -> flatmin_status {
    // SAFETY: the caller promises a tuner and so many values.
    unsafe { with_input(tuner, input, values, |tuner, input| tuner.observe(input, label as usize)) }
}

/// Solves the last layer in closed form from the samples: no rate and no epochs. `flatmin_accept` takes the head,
/// `flatmin_start` goes on from it. `scratch` may be null where the tuner's own memory is large enough, which
/// `FLATMIN_MEMORY_TOO_SMALL` denies. Networks without factory statistics (`flatmin pack --calibration`) are solved from
/// the samples alone.
///
/// # Safety
/// `tuner` comes from `flatmin_open`; `scratch` is null or points to `words` words that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_solve(
    tuner: *mut flatmin_tuner,
    scratch: *mut u32,
    words: usize,
) -> flatmin_status {
    let scratch = if scratch.is_null() {
        &mut []
    } else if !scratch.is_aligned() {
        return flatmin_status::FLATMIN_MISALIGNED;
    } else {
        // SAFETY: the caller promises so many words.
        unsafe { slice::from_raw_parts_mut(scratch, words) }
    };
    // SAFETY: the caller promises a tuner.
    unsafe { with(tuner, |tuner| tuner.solve(*tuner.recipe(), scratch, &mut || {})) }
}

/// Starts a tuning run over the samples, with the hyperparameters of `recipe`; null takes those of `flatmin_open`.
///
/// # Safety
/// `tuner` comes from `flatmin_open`, `recipe` is null or points to a recipe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_start(
    tuner: *mut flatmin_tuner,
    recipe: *const flatmin_recipe,
) -> flatmin_status {
    // SAFETY: null, or a recipe as the caller promises.
    let recipe = match unsafe { recipe.as_ref() }.map(flatmin_recipe::read).transpose() {
        Ok(recipe) => recipe,
        Err(status) => return status,
    };
    // SAFETY: the caller promises a tuner.
    unsafe {
        with(tuner, |tuner| {
            let recipe = recipe.unwrap_or(*tuner.recipe());
            tuner.start(recipe)
        })
    }
}

/// Does the next slice of the run, about the work of one sample, and says whether the run is finished.
///
/// # Safety
/// `tuner` comes from `flatmin_open`, `finished` points to a place for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_poll(tuner: *mut flatmin_tuner, finished: *mut bool) -> flatmin_status {
    // SAFETY: both are null or as the caller promises.
    unsafe {
        answered(tuner, finished, |tuner| {
            Ok(matches!(tuner.poll()?, Progress::Stepped(report) if report.finished))
        })
    }
}

/// Quantizes the tuned tail to int8 and puts it in force if the samples speak for it.
///
/// # Safety
/// `tuner` comes from `flatmin_open`, `acceptance` points to a place for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_accept(
    tuner: *mut flatmin_tuner,
    acceptance: *mut flatmin_acceptance,
) -> flatmin_status {
    // SAFETY: both are null or as the caller promises.
    unsafe {
        answered(tuner, acceptance, |tuner| {
            let found = tuner.accept()?;
            Ok(flatmin_acceptance {
                accepted: found.accepted,
                samples: found.candidate.samples,
                factory_right: found.factory.right,
                tuned_right: found.candidate.right,
            })
        })
    }
}

/// Quantizes the tuned tail to int8 and puts it in force, whatever the samples say.
///
/// # Safety
/// `tuner` comes from `flatmin_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_requantize(tuner: *mut flatmin_tuner) -> flatmin_status {
    // SAFETY: the caller promises a tuner.
    unsafe { with(tuner, |tuner| tuner.requantize()) }
}

/// The answer of the tail in force.
///
/// # Safety
/// `tuner` comes from `flatmin_open`, `input` points to `values` values, `answer` to a place for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_classify(
    tuner: *mut flatmin_tuner,
    input: *const i8,
    values: usize,
    answer: *mut flatmin_answer,
) -> flatmin_status {
    // SAFETY: null or a place, as the caller promises.
    let Some(answer) = (unsafe { answer.as_mut() }) else { return flatmin_status::FLATMIN_NULL };
    let classify = |tuner: &mut Tuner<'static>, input: &[i8]| {
        let found = tuner.classify(input)?;
        *answer = flatmin_answer { label: count(found.label), score: found.score };
        Ok(())
    };
    // SAFETY: the caller promises a tuner and so many values.
    unsafe { with_input(tuner, input, values, classify) }
}

/// CRC-32 of the f32 parameters: the same on every processor and on the desktop after the same calls.
///
/// # Safety
/// `tuner` comes from `flatmin_open`, `crc32` points to a place for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_weights_crc32(tuner: *mut flatmin_tuner, crc32: *mut u32) -> flatmin_status {
    // SAFETY: both are null or as the caller promises.
    unsafe { answered(tuner, crc32, |tuner| Ok(tuner.weights_crc32())) }
}

/// Samples that the tuner has.
///
/// # Safety
/// `tuner` comes from `flatmin_open`, `samples` points to a place for the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_samples(tuner: *mut flatmin_tuner, samples: *mut u32) -> flatmin_status {
    // SAFETY: both are null or as the caller promises.
    unsafe { answered(tuner, samples, |tuner| Ok(count(tuner.samples()))) }
}

/// Forgets all samples; the tail stays.
///
/// # Safety
/// `tuner` comes from `flatmin_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_forget(tuner: *mut flatmin_tuner) -> flatmin_status {
    // SAFETY: the caller promises a tuner.
    unsafe {
        with(tuner, |tuner| {
            tuner.forget();
            Ok(())
        })
    }
}

/// Keeps the tail in force in flash. After a power cut at any moment `flatmin_restore` finds this one or the one before.
///
/// # Safety
/// `tuner` comes from `flatmin_open`; `store` and `flash` point to what their names say, with functions that keep to their contract.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_commit(
    tuner: *mut flatmin_tuner,
    store: *const flatmin_store,
    flash: *const flatmin_flash,
) -> flatmin_status {
    // SAFETY: all are null or as the caller promises.
    unsafe { stored(tuner, store, flash, |tuner, store, flash| tuner.commit(store, flash).map(drop)) }
}

/// At boot: puts the newest tail that was kept in force, or the factory's where there is none.
///
/// # Safety
/// As for `flatmin_commit`; `restored` points to a place for the answer: whether a kept tail is in force.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_restore(
    tuner: *mut flatmin_tuner,
    store: *const flatmin_store,
    flash: *const flatmin_flash,
    restored: *mut bool,
) -> flatmin_status {
    // SAFETY: null or a place, as the caller promises.
    let Some(restored) = (unsafe { restored.as_mut() }) else { return flatmin_status::FLATMIN_NULL };
    let restore = |tuner: &mut Tuner<'static>, store: &_, flash: &mut _| {
        *restored = tuner.restore(store, flash)?.in_force().is_some();
        Ok(())
    };
    // SAFETY: all are null or as the caller promises.
    unsafe { self::stored(tuner, store, flash, restore) }
}

/// Takes the newest tail that was kept back: the one before it comes into force, else the factory's.
///
/// # Safety
/// As for `flatmin_commit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_roll_back(
    tuner: *mut flatmin_tuner,
    store: *const flatmin_store,
    flash: *const flatmin_flash,
) -> flatmin_status {
    // SAFETY: all are null or as the caller promises.
    unsafe { stored(tuner, store, flash, |tuner, store, flash| tuner.roll_back(store, flash).map(drop)) }
}

/// Puts the factory's tail in force, and erases what was kept.
///
/// # Safety
/// As for `flatmin_commit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flatmin_factory_reset(
    tuner: *mut flatmin_tuner,
    store: *const flatmin_store,
    flash: *const flatmin_flash,
) -> flatmin_status {
    // SAFETY: all are null or as the caller promises.
    unsafe { stored(tuner, store, flash, |tuner, store, flash| tuner.factory_reset_stored(store, flash)) }
}

/// # Safety
/// `bytes` is null or points to `length` bytes that never change.
unsafe fn open_pack(bytes: *const u8, length: usize) -> Result<Pack<'static>, flatmin_status> {
    if bytes.is_null() {
        return Err(flatmin_status::FLATMIN_NULL);
    }
    // SAFETY: as the caller promises.
    let bytes = unsafe { slice::from_raw_parts(bytes, length) };
    Pack::with_operators(bytes, &OPERATORS).map_err(flatmin_status::from)
}

/// # Safety
/// `tuner` is null or comes from `flatmin_open`, and no other call with it is under way.
unsafe fn with(
    tuner: *mut flatmin_tuner,
    call: impl FnOnce(&mut Tuner<'static>) -> Result<(), TunerError>,
) -> flatmin_status {
    // SAFETY: as the caller promises.
    let Some(own) = (unsafe { tuner.as_mut() }) else { return flatmin_status::FLATMIN_NULL };
    call(&mut own.tuner).into()
}

/// # Safety
/// As for [`with`]; `place` is null or points to a place for the answer.
unsafe fn answered<T>(
    tuner: *mut flatmin_tuner,
    place: *mut T,
    call: impl FnOnce(&mut Tuner<'static>) -> Result<T, TunerError>,
) -> flatmin_status {
    if place.is_null() {
        return flatmin_status::FLATMIN_NULL;
    }
    let answer = |tuner: &mut Tuner<'static>| {
        let found = call(tuner)?;
        // SAFETY: a place for the answer, as the caller promises.
        unsafe { place.write(found) };
        Ok(())
    };
    // SAFETY: as the caller promises.
    unsafe { with(tuner, answer) }
}

/// # Safety
/// As for [`with`]; `input` is null or points to so many values.
unsafe fn with_input(
    tuner: *mut flatmin_tuner,
    input: *const i8,
    values: usize,
    call: impl FnOnce(&mut Tuner<'static>, &[i8]) -> Result<(), TunerError>,
) -> flatmin_status {
    if input.is_null() {
        return flatmin_status::FLATMIN_NULL;
    }
    // SAFETY: as the caller promises.
    let input = unsafe { slice::from_raw_parts(input, values) };
    // SAFETY: as the caller promises.
    unsafe { with(tuner, |tuner| call(tuner, input)) }
}

/// # Safety
/// As for [`with`]; the others are null or point to what their types say, the flash's functions keep to their contract.
unsafe fn stored(
    tuner: *mut flatmin_tuner,
    store: *const flatmin_store,
    flash: *const flatmin_flash,
    call: impl FnOnce(&mut Tuner<'static>, &flatmin::store::Store, &mut Flash) -> Result<(), TunerError>,
) -> flatmin_status {
    // SAFETY: as the caller promises.
    let (Some(store), Some(flash)) = (unsafe { store.as_ref() }, unsafe { flash.as_ref() }) else {
        return flatmin_status::FLATMIN_NULL;
    };
    let Some(mut flash) = Flash::new(flash) else { return flatmin_status::FLATMIN_NULL };
    if !flash.has_whole_pages(store) {
        return flatmin_status::FLATMIN_STORE;
    }
    // SAFETY: as the caller promises.
    unsafe { with(tuner, |tuner| call(tuner, &store.read(), &mut flash)) }
}

/// A count for C; none of these is beyond 32 bits.
fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
