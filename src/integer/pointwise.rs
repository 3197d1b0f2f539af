//! Backward passes of operators without weights: every element of an input gathers what the outputs that read it have.

use super::backward::Pass;
use super::forward::arrays;
use super::gradient::Writer;
use super::pass::Scratch;
use crate::op::{Axis, Mean, Move};
use crate::pack::format::operator;
use crate::pack::{Function, Pack, TailNode, TensorRecord};
use crate::part::Part;
use core::ops::Range;

/// Fractional bits of the share that an output of a pool gives each of its taps.
const SHARE_BITS: u32 = 12;
/// Fractional bits of PRELU's slopes.
const SLOPE_BITS: u32 = 12;

/// Says what of a node the integer tail has no backward pass for.
pub(super) fn left_out(pack: &Pack, own: &TailNode) -> Option<&'static str> {
    let [first, second, output] = [own.operator.input, own.operator.second_input, own.operator.output]
        .map(|t| pack.tensor(t).extents());
    match own.operator.kind {
        operator::LOOKUP if own.function != Function::Identity => {
            Some("table functions in front of trained layers")
        }
        operator::ADD | operator::SUB | operator::MUL | operator::PRELU => {
            let repeated = own.input.is_some() && first != output || own.second.is_some() && second != output;
            repeated.then_some("repeated operands of element-wise operators")
        }
        _ => None,
    }
}

/// Writes `of(i)`, in steps of `unit` and below 2^`bits`, to every element of a gradient, or adds it to what is there in steps of
/// `before`. Returns the unit of the elements; `room` is for some of the sums.
pub(super) fn gather(
    (to, room): (&mut [i8], &mut [i32]),
    (unit, bits): (f32, u32),
    before: Option<f32>,
    of: impl Fn(usize) -> i32,
) -> f32 {
    let length = to.len();
    let mut writer = Writer::new(to, unit, bits, before);
    for start in (0..length).step_by(room.len().max(1)) {
        let sums = room.part_mut(..room.len().min(length - start));
        sums.iter_mut().enumerate().for_each(|(index, sum)| *sum = of(start + index));
        writer.push(sums);
    }
    writer.finish()
}

/// [`gather`] of the gradient by the first or the second input.
fn hand_on(
    pass: &mut Pass,
    second: bool,
    steps: (f32, u32),
    memory: (&mut [i8], &mut [i32]),
    of: impl Fn(usize) -> i32,
) -> Option<()> {
    let (value, before) = pass.wanted(second)?;
    let unit = gather(memory, steps, before, of);
    pass.units.set(value, unit);
    Some(())
}

pub(super) fn backward(pass: &mut Pass, scratch: &mut Scratch) -> Option<()> {
    let (pack, own) = (pass.pack, pass.node);
    let [input, output] = [own.operator.input, own.operator.output].map(|tensor| pack.tensor(tensor));
    match own.operator.kind {
        operator::ADD | operator::SUB | operator::MUL | operator::PRELU => return pairwise(pass, scratch),
        operator::FILL => return Some(()),
        _ => {}
    }
    let Some((value, _)) = pass.wanted(false) else { return Some(()) };
    let unit = pass.unit() * (input.affine.scale / output.affine.scale);
    let ranges = [own.output.delta.as_ref()?, value.delta.as_ref()?];
    let Scratch { workspace, sums, .. } = scratch;
    match own.operator.kind {
        operator::MEAN => {
            let Mean { axes, .. } = Mean::read(pack.parameters(&own.operator))?;
            let [delta, d] = arrays(workspace, ranges)?;
            let extents = input.extents();
            let averaged = extents.into_iter().zip(axes).map(|(extent, over)| if over { extent } else { 1 });
            let unit = unit / averaged.product::<usize>() as f32;
            hand_on(pass, false, (unit, 7), (d, sums), |index| by_mean(delta, extents, axes, index))
        }
        operator::AVERAGE_POOL_2D => {
            let windows = Windows::new(own, &input, &output);
            let unit = windows.unit_of_shares(unit);
            let [delta, d] = arrays(workspace, ranges)?;
            hand_on(pass, false, (unit, 30), (d, sums), |index| windows.by_average(delta, index))
        }
        operator::MAX_POOL_2D => {
            let windows = Windows::new(own, &input, &output);
            let [x] = [own.input.as_ref()?.activation.clone()];
            let [x, delta, d] = arrays(workspace, [&x, ranges[0], ranges[1]])?;
            hand_on(pass, false, (unit, 24), (d, sums), |index| windows.by_largest(x, delta, index))
        }
        operator::LOOKUP => {
            let [delta, d] = arrays(workspace, ranges)?;
            hand_on(pass, false, (unit, 7), (d, sums), |index| value_at(delta, index))
        }
        operator::RESIZE_NEAREST => {
            let (rows, columns) = pack.parameters(&own.operator).split_at_checked(output.height)?;
            let [delta, d] = arrays(workspace, ranges)?;
            let extents = input.extents();
            hand_on(pass, false, (unit, 24), (d, sums), |index| {
                by_resized(delta, extents, [rows, columns], index)
            })
        }
        operator::MOVE => movement(pass, unit, ranges, scratch),
        _ => None,
    }
}

fn value_at(delta: &[i8], index: usize) -> i32 {
    delta.get(index).map_or(0, |&g| g.into())
}

/// What element `index` of the input has of the mean over `axes`, but for their number.
pub(super) fn by_mean(delta: &[i8], extents: [usize; 4], axes: [bool; 4], index: usize) -> i32 {
    let mut at = 0;
    for (axis, place) in place_of(index, extents).into_iter().enumerate() {
        let over = axes.get(axis).copied().unwrap_or(false);
        let extent = extents.get(axis).copied().unwrap_or(1);
        at = if over { at } else { at * extent + place };
    }
    value_at(delta, at)
}

/// What element `index` of an input of `extents` has of an output that takes these of its rows and columns.
pub(super) fn by_resized(
    delta: &[i8],
    extents: [usize; 4],
    [rows, columns]: [&[i32]; 2],
    index: usize,
) -> i32 {
    let [_, row, column, channel] = place_of(index, extents);
    let [_, _, _, channels] = extents;
    let is = |own: &i32, place: usize| usize::try_from(*own) == Ok(place);
    let each = rows.iter().enumerate().filter(|(_, own)| is(own, row)).flat_map(|(r, _)| {
        let columns_of = columns.iter().enumerate().filter(|(_, own)| is(own, column));
        columns_of.map(move |(c, _)| (r * columns.len() + c) * channels + channel)
    });
    each.map(|at| value_at(delta, at)).sum()
}

/// `[n, h, w, c]` of element `index`.
fn place_of(index: usize, [_, height, width, channels]: [usize; 4]) -> [usize; 4] {
    let [height, width, channels] = [height, width, channels].map(|extent| extent.max(1));
    let pixel = index / channels;
    [pixel / width / height, pixel / width % height, pixel % width, index % channels]
}

/// The windows of a pool.
pub(super) struct Windows {
    pub rows: Axis,
    pub columns: Axis,
    pub channels: usize,
}

impl Windows {
    fn new(node: &TailNode, input: &TensorRecord, output: &TensorRecord) -> Self {
        let window = &node.operator.window;
        Self {
            rows: Axis::new(window, 0, input.height, output.height),
            columns: Axis::new(window, 1, input.width, output.width),
            channels: input.channels.max(1),
        }
    }

    /// Real value of a step of [`Self::by_average`] where the gradient by the output is in steps of `unit`.
    pub fn unit_of_shares(&self, unit: f32) -> f32 {
        unit / (self.rows.filter * self.columns.filter) as f32 / (1u32 << SHARE_BITS) as f32
    }

    /// What element `index` of the input has of an average pool.
    pub fn by_average(&self, delta: &[i8], index: usize) -> i32 {
        let area = self.rows.filter * self.columns.filter;
        let mut sum = 0;
        self.for_each_over(index, |place, taps| {
            // Padding does not count, so that taps at a border may have larger shares.
            let share = (area << SHARE_BITS) / taps.max(1);
            sum += value_at(delta, place) * share as i32;
        });
        sum
    }

    /// What element `index` of the input `x` has of a max pool.
    pub fn by_largest(&self, x: &[i8], delta: &[i8], index: usize) -> i32 {
        let mut sum = 0;
        self.for_each_over(index, |place, _| {
            if self.largest(place, x) == Some(index) {
                sum += value_at(delta, place);
            }
        });
        sum
    }

    /// Calls `each(element of the output, taps of its window that lie inside)` for all windows over element `index`.
    fn for_each_over(&self, index: usize, mut each: impl FnMut(usize, usize)) {
        let Self { rows, columns, channels } = self;
        // No tensor is empty: the compiler does not know it.
        let (channels, width) = ((*channels).max(1), columns.input.max(1));
        let pixel = index / channels;
        let (row, column, channel) = (pixel / width, pixel % width, index % channels);
        for r in (0..rows.filter).filter_map(|i| rows.output_of(row, i)) {
            for c in (0..columns.filter).filter_map(|j| columns.output_of(column, j)) {
                let taps = rows.taps(r).len() * columns.taps(c).len();
                each((r * columns.output + c) * channels + channel, taps);
            }
        }
    }

    /// The largest element under the window of an element of the output; of equals the first.
    fn largest(&self, place: usize, x: &[i8]) -> Option<usize> {
        let Self { rows, columns, channels } = self;
        let (channels, width) = ((*channels).max(1), columns.output.max(1));
        let pixel = place / channels;
        let (row_taps, top) = rows.inside(pixel / width);
        let (column_taps, left) = columns.inside(pixel % width);
        let mut best: Option<(usize, i8)> = None;
        for i in 0..row_taps.len() {
            for j in 0..column_taps.len() {
                let line = (top + i * rows.dilation) * columns.input;
                let at = (line + left + j * columns.dilation) * channels + place % channels;
                let value = x.get(at).copied()?;
                if best.is_none_or(|(_, most)| value > most) {
                    best = Some((at, value));
                }
            }
        }
        best.map(|(at, _)| at)
    }
}

/// ADD, SUB, MUL and PRELU of operands as large as the output, or of one that is constant.
fn pairwise(pass: &mut Pass, scratch: &mut Scratch) -> Option<()> {
    let (pack, own) = (pass.pack, pass.node);
    let op = &own.operator;
    let [first, second, output] = [op.input, op.second_input, op.output].map(|tensor| pack.tensor(tensor));
    let unit = pass.unit() / output.affine.scale;
    let delta_range = own.output.delta.as_ref()?;
    for by_second in [false, true] {
        let Some((value, _)) = pass.wanted(by_second) else { continue };
        let (this, other) = if by_second { (&second, &first) } else { (&first, &second) };
        let Scratch { workspace, sums, .. } = &mut *scratch;
        let d_range = value.delta.as_ref()?;
        if op.kind == operator::ADD || op.kind == operator::SUB {
            let [delta, d] = arrays(workspace, [delta_range, d_range])?;
            let sign = if by_second && op.kind == operator::SUB { -1 } else { 1 };
            let unit = unit * this.affine.scale;
            hand_on(pass, by_second, (unit, 7), (d, sums), |index| sign * value_at(delta, index))?;
            continue;
        }
        // Both operands are read: with the gradients they are apart, or the same array.
        let operand = |value: &Option<crate::pack::TailValue>| value.as_ref().map(|v| v.activation.clone());
        let (a, b) = (operand(&own.input), operand(&own.second));
        let (workspace, d) = outside(workspace, d_range)?;
        let delta = workspace.of(delta_range)?;
        let elements = |range: Option<Range<usize>>, tensor: &TensorRecord| match range {
            Some(range) => workspace.of(&range),
            None => Some(pack.int8(tensor.arena_offset, tensor.len())),
        };
        let (a, b) = (elements(a, &first)?, elements(b, &second)?);
        let at = |elements: &[i8], tensor: &TensorRecord, index: usize| {
            repeated_at(elements, tensor.extents(), output.extents(), index) - tensor.affine.zero_point
        };
        if op.kind == operator::MUL {
            let unit = unit * this.affine.scale * other.affine.scale;
            let (elements, tensor) = if by_second { (a, &first) } else { (b, &second) };
            let operand = (elements, tensor.extents(), tensor.affine.zero_point);
            let extents = output.extents();
            hand_on(pass, by_second, (unit, 16), (d, sums), |index| {
                product_at(delta, operand, extents, index)
            })?;
            continue;
        }
        let slope = crate::math::round(second.affine.scale * (1u32 << SLOPE_BITS) as f32) as i32;
        let unit = unit * first.affine.scale / (1u32 << SLOPE_BITS) as f32;
        hand_on(pass, by_second, (unit, 31), (d, sums), |index| {
            let (g, below) = (value_at(delta, index), at(a, &first, index) < 0);
            let factor = if below { slope.saturating_mul(at(b, &second, index)) } else { 1 << SLOPE_BITS };
            g.saturating_mul(factor)
        })?;
    }
    Some(())
}

/// Gradient by output element `index`, times the factor that it is made of: elements, extents, zero point.
pub(super) fn product_at(
    delta: &[i8],
    (elements, own, zero_point): (&[i8], [usize; 4], i32),
    output: [usize; 4],
    index: usize,
) -> i32 {
    value_at(delta, index) * (repeated_at(elements, own, output, index) - zero_point)
}

/// The element of an operand of `own` extents that output element `index` is made of.
fn repeated_at(elements: &[i8], own: [usize; 4], output: [usize; 4], index: usize) -> i32 {
    let mut at = 0;
    for (extent, place) in own.into_iter().zip(place_of(index, output)) {
        at = at * extent + if extent == 1 { 0 } else { place };
    }
    value_at(elements, at)
}

/// The workspace but for one array.
struct Outside<'w> {
    front: &'w [i8],
    back: &'w [i8],
    back_start: usize,
}

impl<'w> Outside<'w> {
    fn of(&self, range: &Range<usize>) -> Option<&'w [i8]> {
        match range.start.checked_sub(self.back_start) {
            Some(start) => self.back.get(start..start + range.len()),
            None => self.front.get(range.clone()),
        }
    }
}

fn outside<'w>(workspace: &'w mut [i8], own: &Range<usize>) -> Option<(Outside<'w>, &'w mut [i8])> {
    let (front, rest) = workspace.split_at_mut_checked(own.start)?;
    let (d, back) = rest.split_at_mut_checked(own.len())?;
    Some((Outside { front, back, back_start: own.end }, d))
}

/// MOVE: the box's gradient goes to where it came from.
fn movement(pass: &mut Pass, unit: f32, [delta, d]: [&Range<usize>; 2], scratch: &mut Scratch) -> Option<()> {
    let movement = Move::read(pass.pack.parameters(&pass.node.operator))?;
    let (value, before) = pass.wanted(false)?;
    let Scratch { workspace, sums, .. } = scratch;
    let [delta, d] = arrays(workspace, [delta, d])?;
    let unit = move_back(&movement, (&*delta, unit), (d, sums), before);
    pass.units.set(value, unit);
    Some(())
}

/// Writes the box of `delta`, in steps of `unit`, to where it came from, and zeros elsewhere, or adds it to what is there in steps
/// of `before`. Returns the unit of the elements; `room` is for some of the sums.
pub(super) fn move_back(
    movement: &Move,
    (delta, unit): (&[i8], f32),
    (d, room): (&mut [i8], &mut [i32]),
    before: Option<f32>,
) -> f32 {
    if before.is_none() && reads_each_once(movement) {
        d.fill(0);
        movement.for_each(|from, to| {
            if let (Some(d), Some(&g)) = (d.get_mut(from), delta.get(to)) {
                *d = g;
            }
        });
        return unit;
    }
    let length = d.len();
    let mut writer = Writer::new(d, unit, 24, before);
    for start in (0..length).step_by(room.len().max(1)) {
        let sums = room.part_mut(..room.len().min(length - start));
        sums.fill(0);
        movement.for_each(|from, to| {
            let own = from.checked_sub(start).and_then(|own| sums.get_mut(own));
            if let (Some(sum), Some(&g)) = (own, delta.get(to)) {
                *sum += i32::from(g);
            }
        });
        writer.push(sums);
    }
    writer.finish()
}

/// Whether no element of the input is read twice, as tiles and gathered rows are: each axis steps beyond all that those with smaller
/// steps reach.
fn reads_each_once(movement: &Move) -> bool {
    let strides = movement.from_strides.map(isize::unsigned_abs);
    let axes =
        || strides.into_iter().zip(movement.extents).enumerate().filter(|(_, (_, extent))| *extent > 1);
    axes().all(|(axis, (stride, _))| {
        let smaller = axes().filter(|&(other, (own, _))| other != axis && own <= stride);
        let reach = smaller.map(|(_, (own, extent))| own.saturating_mul(extent - 1));
        reach.fold(0, usize::saturating_add) < stride
    })
}
