//! Operators whose geometry the file gives as constant inputs: resolved here, checked against the ranks.

use super::ReadError;
use super::field::{concatenation, gather, pack, strided_slice, unpack};
use super::operators::Record;
use crate::graph::{Element, Kind, Tensor};

impl Record<'_> {
    fn tensor(&self, input: usize) -> Option<&Tensor> {
        self.inputs.get(input).copied().flatten().and_then(|index| self.tensors.get(index))
    }

    fn shape(&self, input: usize) -> &[usize] {
        self.tensor(input).map_or(&[], |t| &t.shape)
    }

    /// A constant input's integers; `None` where something computes them.
    fn integers(&self, input: usize) -> Result<Option<Vec<i64>>, ReadError> {
        let Some(tensor) = self.tensor(input) else { return Ok(None) };
        let Some(data) = &tensor.data else { return Ok(None) };
        match tensor.element {
            Element::I8 => Ok(Some(data.iter().map(|&b| b.cast_signed().into()).collect())),
            Element::U8 => Ok(Some(data.iter().map(|&b| b.into()).collect())),
            Element::I32 => {
                Ok(Some(data.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect()))
            }
            Element::I64 => Ok(Some(data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect())),
            other => Err(self.error(format!("input {input} is {other:?}, integers are expected"))),
        }
    }

    fn not_constant(&self, input: usize) -> Kind {
        Kind::Unsupported(format!("{} whose input {input} is not a constant", self.name()))
    }

    /// An axis, counted from the back where negative.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize, ReadError> {
        let from_front = if axis < 0 { axis.saturating_add_unsigned(rank as u64) } else { axis };
        usize::try_from(from_front)
            .ok()
            .filter(|&a| a < rank)
            .ok_or_else(|| self.error(format!("axis {axis} of a tensor of rank {rank}")))
    }

    fn expect_length(&self, what: &str, found: usize, expected: usize) -> Result<(), ReadError> {
        if found == expected {
            return Ok(());
        }
        Err(self.error(format!("{found} {what}, expected {expected}")))
    }

    /// A reduction, by its axes.
    pub(super) fn axes(&self, kind: impl FnOnce(Vec<usize>) -> Kind) -> Result<Kind, ReadError> {
        let Some(axes) = self.integers(1)? else { return Ok(self.not_constant(1)) };
        let rank = self.shape(0).len();
        let mut axes = axes.into_iter().map(|axis| self.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(kind(axes))
    }

    pub(super) fn pad(&self) -> Result<Kind, ReadError> {
        let Some(flat) = self.integers(1)? else { return Ok(self.not_constant(1)) };
        self.expect_length("paddings", flat.len(), 2 * self.shape(0).len())?;
        let amount = |value: i64| {
            usize::try_from(value).map_err(|_| self.error(format!("padding of {value} elements")))
        };
        let pairs = flat.as_chunks::<2>().0.iter();
        let amounts = pairs.map(|&[front, behind]| Ok([amount(front)?, amount(behind)?]));
        let amounts = amounts.collect::<Result<Vec<_>, ReadError>>()?;
        let value = match (self.inputs.len(), self.integers(2)?) {
            (..=2, _) => None,
            (_, Some(values)) => values.first().copied(),
            (_, None) => return Ok(self.not_constant(2)),
        };
        Ok(Kind::Pad { amounts, value })
    }

    pub(super) fn transpose(&self) -> Result<Kind, ReadError> {
        let Some(axes) = self.integers(1)? else { return Ok(self.not_constant(1)) };
        let rank = self.shape(0).len();
        self.expect_length("axes", axes.len(), rank)?;
        let permutation =
            axes.into_iter().map(|axis| self.axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = vec![false; rank];
        permutation.iter().for_each(|&axis| seen[axis] = true);
        if seen.contains(&false) {
            return Err(self.error(format!("{permutation:?} is no permutation")));
        }
        Ok(Kind::Transpose { permutation })
    }

    pub(super) fn concatenation(&self) -> Result<Kind, ReadError> {
        if self.inputs.contains(&None) {
            return Err(self.error("an omitted input".into()));
        }
        let axis = self.option::<i32>(concatenation::AXIS, 0)?;
        Ok(Kind::Concatenation { axis: self.axis(axis.into(), self.shape(0).len())? })
    }

    pub(super) fn pack(&self) -> Result<Kind, ReadError> {
        if self.inputs.contains(&None) {
            return Err(self.error("an omitted input".into()));
        }
        let axis = self.option::<i32>(pack::AXIS, 0)?;
        Ok(Kind::Pack { axis: self.axis(axis.into(), self.shape(0).len() + 1)? })
    }

    pub(super) fn unpack(&self) -> Result<Kind, ReadError> {
        let axis = self.option::<i32>(unpack::AXIS, 0)?;
        Ok(Kind::Unpack { axis: self.axis(axis.into(), self.shape(0).len())? })
    }

    pub(super) fn gather(&self) -> Result<Kind, ReadError> {
        let Some(places) = self.integers(1)? else { return Ok(self.not_constant(1)) };
        if self.option::<i32>(gather::BATCH_DIMS, 0)? != 0 {
            return Ok(Kind::Unsupported(format!("{} with batch axes", self.name())));
        }
        let shape = self.shape(0);
        let axis = self.axis(self.option::<i32>(gather::AXIS, 0)?.into(), shape.len())?;
        let place = |value: i64| {
            let place = usize::try_from(value).ok().filter(|&place| place < shape[axis]);
            place.ok_or_else(|| self.error(format!("slice {value} of {}", shape[axis])))
        };
        let places = places.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
        Ok(Kind::Gather { axis, places })
    }

    pub(super) fn tile(&self) -> Result<Kind, ReadError> {
        let Some(times) = self.integers(1)? else { return Ok(self.not_constant(1)) };
        self.expect_length("multiples", times.len(), self.shape(0).len())?;
        let time = |value: i64| {
            let time = usize::try_from(value).ok().filter(|&time| time > 0);
            time.ok_or_else(|| self.error(format!("an axis {value} times")))
        };
        Ok(Kind::Tile { times: times.into_iter().map(time).collect::<Result<Vec<_>, _>>()? })
    }

    pub(super) fn split(&self, axis_input: usize, input: usize) -> Result<Kind, ReadError> {
        let Some(axis) = self.integers(axis_input)? else { return Ok(self.not_constant(axis_input)) };
        self.expect_length("axes", axis.len(), 1)?;
        Ok(Kind::Split { input, axis: self.axis(axis[0], self.shape(input).len())? })
    }

    pub(super) fn slice(&self) -> Result<Kind, ReadError> {
        let Some(begin) = self.integers(1)? else { return Ok(self.not_constant(1)) };
        let Some(size) = self.integers(2)? else { return Ok(self.not_constant(2)) };
        let shape = self.shape(0);
        self.expect_length("beginnings", begin.len(), shape.len())?;
        self.expect_length("sizes", size.len(), shape.len())?;
        let (mut first, mut extent) = (Vec::new(), Vec::new());
        for ((&begin, &size), &available) in begin.iter().zip(&size).zip(shape) {
            let start = usize::try_from(begin).ok().filter(|&b| b < available);
            let rest = available - start.unwrap_or(0);
            let count = if size == -1 { Some(rest) } else { usize::try_from(size).ok() };
            let (Some(start), Some(count)) = (start, count.filter(|c| (1..=rest).contains(c))) else {
                return Err(self.error(format!("{size} elements from {begin} of {available}")));
            };
            first.push(start);
            extent.push(count);
        }
        Ok(Kind::Slice { begin: first, stride: vec![1; shape.len()], extent })
    }

    /// Masks as in numpy's slices. New axes move nothing: the output's shape has them.
    pub(super) fn strided_slice(&self) -> Result<Kind, ReadError> {
        let Some(begins) = self.integers(1)? else { return Ok(self.not_constant(1)) };
        let Some(ends) = self.integers(2)? else { return Ok(self.not_constant(2)) };
        let Some(strides) = self.integers(3)? else { return Ok(self.not_constant(3)) };
        let shape = self.shape(0);
        self.expect_length("ends", ends.len(), begins.len())?;
        self.expect_length("strides", strides.len(), begins.len())?;
        let mask = |field| self.option::<i32>(field, 0);
        let [begin_mask, end_mask, shrink_mask] = [
            mask(strided_slice::BEGIN_MASK)?,
            mask(strided_slice::END_MASK)?,
            mask(strided_slice::SHRINK_AXIS_MASK)?,
        ];
        let (ellipses, new_axes) = (mask(strided_slice::ELLIPSIS_MASK)?, mask(strided_slice::NEW_AXIS_MASK)?);
        let entries = self.slice_entries(begins.len(), shape.len(), ellipses, new_axes)?;
        let offset = self.option::<u8>(strided_slice::OFFSET, 0)? != 0;
        let mut slice = (Vec::new(), Vec::new(), Vec::new());
        for (axis, (&extent, entry)) in shape.iter().zip(entries).enumerate() {
            let length = i64::try_from(extent).unwrap_or(i64::MAX);
            let set = |mask: i32| entry.is_some_and(|entry| bit(mask, entry));
            let (start, stop, stride) = entry.map_or((0, 0, 1), |e| (begins[e], ends[e], strides[e]));
            if stride == 0 {
                return Err(self.error(format!("stride 0 along axis {axis}")));
            }
            let from_front = |p: i64| if p < 0 { p.saturating_add(length) } else { p };
            let (low, high) = if stride > 0 { (0, length) } else { (-1, length - 1) };
            let begin = if entry.is_none() || set(begin_mask) {
                if stride > 0 { low } else { high }
            } else {
                from_front(start).clamp(low, high)
            };
            let end = if set(shrink_mask) {
                begin.saturating_add(stride.signum())
            } else if entry.is_none() || set(end_mask) {
                if stride > 0 { high } else { low }
            } else if offset {
                begin.saturating_add(stop).clamp(low, high)
            } else {
                from_front(stop).clamp(low, high)
            };
            let stride_here = if set(shrink_mask) { stride.signum() } else { stride };
            let span = (end - begin) * stride_here.signum();
            let count = if span > 0 { (span - 1) / stride_here.abs() + 1 } else { 0 };
            let (Ok(first), Ok(count @ 1..)) = (usize::try_from(begin), usize::try_from(count)) else {
                return Err(self.error(format!("takes no element along axis {axis}")));
            };
            slice.0.push(first);
            slice.1.push(if count == 1 { 1 } else { stride_here });
            slice.2.push(count);
        }
        let (begin, stride, extent) = slice;
        Ok(Kind::Slice { begin, stride, extent })
    }

    /// Which of `count` slice entries each of the input's axes takes; none where an ellipsis or the end of the
    /// entries leaves it whole.
    fn slice_entries(
        &self,
        count: usize,
        axes: usize,
        ellipses: i32,
        new_axes: i32,
    ) -> Result<Vec<Option<usize>>, ReadError> {
        let ellipsis = (0..count).find(|&entry| bit(ellipses, entry));
        let takes_axis = |entry: &usize| Some(*entry) != ellipsis && !bit(new_axes, *entry);
        let taking = (0..count).filter(takes_axis).count();
        let Some(whole) = axes.checked_sub(taking) else {
            return Err(self.error(format!("slices {taking} axes of {axes}")));
        };
        let before = ellipsis.unwrap_or(count);
        let mut entries: Vec<_> = (0..before).filter(takes_axis).map(Some).collect();
        entries.resize(entries.len() + whole, None);
        entries.extend((before..count).filter(takes_axis).map(Some));
        Ok(entries)
    }
}

/// Whether bit `index` of a mask is set.
fn bit(mask: i32, index: usize) -> bool {
    index < 32 && mask >> index & 1 == 1
}
