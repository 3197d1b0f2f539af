//! How the elements of an ONNX tensor lie in a tensor of the graph.
//!
//! ONNX names axes in the order batch, channels, height, width; the graph keeps channels last. Instead of moving
//! elements around whenever a node permutes or reshapes axes, each value carries where its axes lie; elements move
//! when an operator needs another order, which in most networks is never.

use std::collections::VecDeque;

/// The axes of an ONNX tensor, cut into atoms, and the order of the atoms in memory. Axes of extent 1 have no atom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Atoms of each axis, the slowest first.
    axes: Vec<Vec<usize>>,
    /// Extent of each atom, at least 2.
    extents: Vec<usize>,
    /// Atoms as they lie, the slowest first.
    order: Vec<usize>,
}

/// Axes in the order batch, height, width, channels; ranks below 3 have no channels to move.
pub(super) fn channels_last(rank: usize) -> Vec<usize> {
    if rank < 3 { (0..rank).collect() } else { [0].into_iter().chain(2..rank).chain([1]).collect() }
}

/// The shape whose axis `i` is axis `order[i]` of `shape`.
pub(super) fn permuted<T: Copy>(shape: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|&axis| shape[axis]).collect()
}

impl Layout {
    /// The elements of `shape` with its axes lying in `order`.
    pub fn ordered(shape: &[usize], order: &[usize]) -> Self {
        let (mut axes, mut extents) = (Vec::new(), Vec::new());
        for &extent in shape {
            axes.push(if extent == 1 { Vec::new() } else { vec![extents.len()] });
            if extent != 1 {
                extents.push(extent);
            }
        }
        let order = order.iter().flat_map(|&axis| axes[axis].iter().copied()).collect();
        Self { axes, extents, order }
    }

    /// The elements of `shape` in the order of its axes.
    pub fn plain(shape: &[usize]) -> Self {
        Self::ordered(shape, &(0..shape.len()).collect::<Vec<_>>())
    }

    /// Extents of the ONNX tensor.
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|atoms| atoms.iter().map(|&a| self.extents[a]).product()).collect()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.axes.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.extents.iter().product()
    }

    /// The same elements where axis `i` is axis `permutation[i]` of this one; nothing moves.
    pub fn transposed(&self, permutation: &[usize]) -> Self {
        let axes = permutation.iter().map(|&axis| self.axes[axis].clone()).collect();
        Self { axes, ..self.clone() }
    }

    /// With axes of extent 1 in front until there are `rank`.
    pub fn extended(&self, rank: usize) -> Self {
        let mut axes = vec![Vec::new(); rank.saturating_sub(self.rank())];
        axes.extend(self.axes.iter().cloned());
        Self { axes, ..self.clone() }
    }

    /// The same elements under another shape; `None` if they would have to move for it.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        let (mut extents, mut order) = (self.extents.clone(), self.order.clone());
        let mut left: VecDeque<usize> = self.axes.iter().flatten().copied().collect();
        let mut axes = Vec::new();
        for &extent in shape {
            let (mut wanted, mut atoms) = (extent, Vec::new());
            while wanted > 1 {
                let atom = left.pop_front()?;
                let found = extents[atom];
                if wanted.is_multiple_of(found) {
                    wanted /= found;
                } else if found.is_multiple_of(wanted) {
                    let rest = extents.len();
                    extents[atom] = wanted;
                    extents.push(found / wanted);
                    let place = order.iter().position(|&other| other == atom)?;
                    order.insert(place + 1, rest);
                    left.push_front(rest);
                    wanted = 1;
                } else {
                    return None;
                }
                atoms.push(atom);
            }
            axes.push(atoms);
        }
        left.is_empty().then_some(Self { axes, extents, order })
    }

    /// The same elements as a row in the order in which they lie.
    pub fn as_lying(&self) -> Self {
        Self::plain(&[1, self.len()])
    }

    fn atoms(&self, order: &[usize]) -> Vec<usize> {
        order.iter().flat_map(|&axis| self.axes[axis].iter().copied()).collect()
    }

    /// True if the axes lie in `order`.
    pub fn lies(&self, order: &[usize]) -> bool {
        self.atoms(order) == self.order
    }

    /// An order of the axes in which nothing has to move if there is one; channels last otherwise.
    pub fn axis_order(&self) -> Vec<usize> {
        let preferred = channels_last(self.rank());
        let plain: Vec<usize> = (0..self.rank()).collect();
        let mut sorted = plain.clone();
        sorted.sort_by_key(|&axis| {
            self.axes[axis].first().map(|first| self.order.iter().position(|atom| atom == first))
        });
        let candidates = [&preferred, &plain, &sorted];
        candidates.into_iter().find(|order| self.lies(order)).unwrap_or(&preferred).clone()
    }

    /// For each element as it lies, its place in the ONNX tensor's own order.
    pub fn places(&self) -> Vec<usize> {
        let mut stride = vec![0; self.extents.len()];
        let mut next = 1;
        for &atom in self.axes.iter().flatten().rev() {
            stride[atom] = next;
            next *= self.extents[atom];
        }
        let mut places = vec![0];
        for &atom in &self.order {
            let along = (0..self.extents[atom]).map(|i| i * stride[atom]);
            places = places.iter().flat_map(|place| along.clone().map(move |step| place + step)).collect();
        }
        places
    }

    /// How to bring the axes into `order` by one transposition: the shape to take it on, in which axes that stay
    /// together are one, and its permutation; a batch axis of 1 comes first in both.
    pub fn movement(&self, order: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let wanted = self.atoms(order);
        let mut runs: Vec<Vec<usize>> = Vec::new();
        let follows = |a: usize, b: usize| wanted.windows(2).any(|pair| pair == [a, b]);
        for &atom in &self.order {
            match runs.last_mut() {
                Some(run) if run.last().is_some_and(|&last| follows(last, atom)) => run.push(atom),
                _ => runs.push(vec![atom]),
            }
        }
        let extent = |run: &Vec<usize>| run.iter().map(|&a| self.extents[a]).product::<usize>();
        let shape = [1].into_iter().chain(runs.iter().map(extent)).collect();
        let firsts = wanted.iter().filter_map(|atom| runs.iter().position(|run| run.first() == Some(atom)));
        let permutation = [0].into_iter().chain(firsts.map(|run| run + 1)).collect();
        (shape, permutation)
    }

    /// The permutation that takes a tensor of shape `from` to one of shape `to` with the axes in `order`, if it is
    /// no more than that.
    pub fn permutation(&self, order: &[usize], from: &[usize], to: &[usize]) -> Option<Vec<usize>> {
        let wanted = self.atoms(order);
        let extents = |atoms: &[usize]| atoms.iter().map(|&a| self.extents[a]).collect::<Vec<_>>();
        let axes = |shape: &[usize], trivial: bool| {
            (0..shape.len()).filter(|&axis| (shape[axis] == 1) == trivial).collect::<Vec<_>>()
        };
        let ([ones, axes_from], [ones_to, axes_to]) =
            ([axes(from, true), axes(from, false)], [axes(to, true), axes(to, false)]);
        if from.len() != to.len()
            || permuted(from, &axes_from) != extents(&self.order)
            || permuted(to, &axes_to) != extents(&wanted)
        {
            return None;
        }
        let mut permutation = vec![0; to.len()];
        for (&axis, &one) in ones_to.iter().zip(&ones) {
            permutation[axis] = one;
        }
        for (&axis, atom) in axes_to.iter().zip(&wanted) {
            permutation[axis] = axes_from[self.order.iter().position(|other| other == atom)?];
        }
        Some(permutation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposition_and_its_inverse_move_nothing() {
        let image = Layout::ordered(&[1, 3, 4, 5], &[0, 2, 3, 1]);
        let there = image.transposed(&[0, 2, 3, 1]);
        assert_eq!(there.shape(), [1, 4, 5, 3]);
        assert!(there.lies(&[0, 1, 2, 3]) && !image.lies(&[0, 1, 2, 3]));
        assert_eq!(there.transposed(&[0, 3, 1, 2]), image);
    }

    /// By hand: channel c, row h, column w of a 2x2x3 image is element 6c + 3h + w of the file and lies at
    /// 6h + 2w + c.
    #[test]
    fn places_behind_a_flatten() {
        let image = Layout::ordered(&[1, 2, 2, 3], &[0, 2, 3, 1]);
        let flat = image.reshaped(&[1, 12]).unwrap();
        assert_eq!(flat.shape(), [1, 12]);
        assert_eq!(flat.places(), [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]);
        assert_eq!(flat.reshaped(&[1, 2, 2, 3]).unwrap(), image);
    }

    #[test]
    fn reshapes_that_split_and_those_that_cannot() {
        let image = Layout::ordered(&[1, 4, 3, 5], &[0, 2, 3, 1]);
        let grouped = image.reshaped(&[1, 2, 2, 3, 5]).unwrap();
        assert_eq!(grouped.places(), image.places());
        assert_eq!(image.reshaped(&[1, 6, 10]), None);
        assert_eq!(image.reshaped(&[1, 4, 3]), None);
        assert_eq!(image.reshaped(&[2, 4, 3, 5]), None);
    }

    #[test]
    fn movements() {
        let image = Layout::ordered(&[1, 4, 3, 5], &[0, 2, 3, 1]);
        // Height and width stay together.
        assert_eq!(image.movement(&[0, 1, 2, 3]), (vec![1, 15, 4], vec![0, 2, 1]));
        let permutation = image.permutation(&[0, 1, 2, 3], &[1, 3, 5, 4], &[1, 4, 3, 5]);
        assert_eq!(permutation, Some(vec![0, 3, 1, 2]));
        assert_eq!(image.permutation(&[0, 1, 2, 3], &[1, 15, 4], &[1, 4, 3, 5]), None);
        // An axis of 1 is nowhere, so nothing moves.
        let one = Layout::ordered(&[1, 1, 3, 5], &[0, 2, 3, 1]);
        assert!(one.lies(&[0, 1, 2, 3]));
    }
}
