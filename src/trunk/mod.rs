//! Runs int8 operators over the planned arena.

mod operators;
mod refit;

use crate::pack::{OperatorRecord, Pack, TensorRecord};
use core::cell::Cell;
pub(crate) use operators::kernel_of;
pub(crate) use refit::refit_op_of;

impl TensorRecord {
    /// This tensor's place in the arena.
    pub(crate) fn of<'a>(&self, arena: &'a [i8]) -> &'a [i8] {
        arena.get(self.arena_offset..self.arena_offset + self.len()).unwrap_or(&[])
    }

    /// This tensor's place in the arena, to write.
    pub(crate) fn of_mut<'a>(&self, arena: &'a mut [i8]) -> &'a mut [i8] {
        arena.get_mut(self.arena_offset..self.arena_offset + self.len()).unwrap_or(&mut [])
    }
}

/// An operator's input and output in one arena; validation has made sure that they are disjoint.
pub(crate) fn input_and_output<'a>(
    arena: &'a mut [i8],
    input: &TensorRecord,
    output: &TensorRecord,
) -> (&'a [i8], &'a mut [i8]) {
    if input.arena_offset < output.arena_offset {
        let (front, back) = arena.split_at_mut(output.arena_offset.min(arena.len()));
        (input.of(front), back.get_mut(..output.len()).unwrap_or(&mut []))
    } else {
        let (front, back) = arena.split_at_mut(input.arena_offset.min(arena.len()));
        (back.get(..input.len()).unwrap_or(&[]), output.of_mut(front))
    }
}

/// Runs the frozen operators; the input must be in its place in `arena`, the feature is then in its own.
pub(crate) fn run_trunk(pack: &Pack, arena: &mut [i8]) {
    for index in 0..pack.trunk_operators() {
        run_operator(pack, &pack.operator(index), arena);
    }
}

/// Runs the tail's operators as they were packed.
pub(crate) fn run_factory_tail(pack: &Pack, arena: &mut [i8]) {
    for index in pack.trunk_operators()..pack.operator_count() {
        run_operator(pack, &pack.operator(index), arena);
    }
}

/// Runs one operator, its inputs being in their places in `arena`: for profilers. [`run`] runs all.
pub fn run_operator(pack: &Pack, op: &OperatorRecord, arena: &mut [i8]) {
    // Validation lets no kind without a kernel through.
    if let Some(kernel) = pack.operators().kernel(op.kind) {
        kernel(pack, op, arena);
    }
}

/// The place of `tensor` in `arena`, where [`run_operator`] reads and writes it. Empty if the arena is too short.
pub fn place<'a>(tensor: &TensorRecord, arena: &'a mut [i8]) -> &'a mut [i8] {
    tensor.of_mut(arena)
}

/// A tensor's cells in the arena.
fn of<'a>(tensor: &TensorRecord, cells: &'a [Cell<i8>]) -> &'a [Cell<i8>] {
    cells.get(tensor.arena_offset..tensor.arena_offset.saturating_add(tensor.len())).unwrap_or(&[])
}

/// Copies `input` to its place as the network's input `place`; false where there is no such input or its length
/// is another.
/// [`run`] has an example.
pub fn load(pack: &Pack, place: usize, input: &[i8], arena: &mut [i8]) -> bool {
    let target = pack.input_at(place).of_mut(arena);
    let fits = !input.is_empty() && target.len() == input.len();
    if fits {
        target.copy_from_slice(input);
    }
    fits
}

/// Runs all operators as they were packed, on inputs that [`load`] put into the arena. Output `place` is then
/// what [`output`] returns. `arena` needs [`crate::Sizes::arena_bytes`].
///
/// ```
/// use flatmin::{Pack, include_pack, inference};
/// static MODEL: &[u8] = include_pack!("../../tests/examples/motion.pack");
/// let pack = Pack::new(MODEL)?;
/// let mut arena = vec![0; pack.sizes().arena_bytes];
/// inference::reset(&pack, &mut arena); // of a stream: before its first hop
/// assert!(inference::load(&pack, 0, &[0; 600], &mut arena)); // each of pack.input_count()
/// inference::run(&pack, &mut arena);
/// assert_eq!(inference::output(&pack, 0, &arena).len(), 7);
/// # Ok::<(), flatmin::PackError>(())
/// ```
pub fn run(pack: &Pack, arena: &mut [i8]) {
    run_trunk(pack, arena);
    run_factory_tail(pack, arena);
}

/// Gives the variables of a network that keeps some ([`Pack::keeps_state`]) their first values: before the first hop of a
/// stream. [`run`] then changes them, so `arena` must keep its bytes from one hop to the next. Other networks are left as
/// they are.
/// [`run`] has an example.
pub fn reset(pack: &Pack, arena: &mut [i8]) {
    let first = pack.operator_count();
    for index in first..first.saturating_add(pack.reset_operators()) {
        run_operator(pack, &pack.operator(index), arena);
    }
}

/// Puts `window` in: all hops but the last go through the backbone, from the variables' first values on, and the last is put
/// in its place as the network's input. False where the window is no whole number of hops.
pub(crate) fn enter_window(pack: &Pack, window: &[i8], arena: &mut [i8]) -> bool {
    let hop = pack.sizes().input_length;
    let hops = window.chunks_exact(hop.max(1));
    if !hops.remainder().is_empty() || window.is_empty() {
        return false;
    }
    reset(pack, arena);
    let last = hops.len() - 1;
    for (place, hop) in hops.enumerate() {
        if !load(pack, 0, hop, arena) {
            return false;
        }
        if place < last {
            run_trunk(pack, arena);
        }
    }
    true
}

/// The network's output `place` after [`run`]; empty where there is none.
/// [`run`] has an example.
pub fn output<'a>(pack: &Pack, place: usize, arena: &'a [i8]) -> &'a [i8] {
    pack.output_at(place).of(arena)
}

/// Plain int8 inference of a network with one input and one output: `input` as long as the network's, its output
/// is returned. `arena` needs [`crate::Sizes::arena_bytes`]; a shorter input or arena gives an empty slice. A network that keeps
/// variables goes on from those in the arena: [`reset`] gives them their first values.
///
/// ```
/// use flatmin::{Aligned, Pack, include_pack, infer};
/// static MODEL: &[u8] = include_pack!("../../tests/examples/motion.pack");
/// let pack = Pack::new(MODEL)?;
/// let mut arena = vec![0; pack.sizes().arena_bytes];
/// assert_eq!(infer(&pack, &[0; 600], &mut arena).len(), 7);
/// # Ok::<(), flatmin::PackError>(())
/// ```
pub fn infer<'a>(pack: &Pack, input: &[i8], arena: &'a mut [i8]) -> &'a [i8] {
    if !load(pack, 0, input, arena) {
        return &[];
    }
    run(pack, arena);
    output(pack, 0, arena)
}
