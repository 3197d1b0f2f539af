//! What patch-based execution of the first operators would save (MCUNetV2: Lin et al. 2021, "Memory-efficient
//! Patch-based Inference for Tiny Deep Learning", section 3.1): arithmetic alone, nothing runs so.
//!
//! The first operators are computed for one patch of the last one's output after another; the network's input and that
//! output are alive whole, everything between for one patch with its halo, which neighbours compute again.

use super::super::network::{Network, Step};
use flatmin::internals::pack::format::operator as code;
use serde::Serialize;
use std::collections::HashMap;
use std::ops::Range;

/// The best that patches of one grid do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Patched {
    /// Patches along each axis.
    pub grid: usize,
    /// How many operators run in patches.
    pub operators: usize,
    /// Bytes alive at the worst moment, of the patches or of the operators behind them.
    pub peak_bytes: usize,
    /// Multiply-adds that halos repeat.
    pub extra_macs: u64,
}

/// Rows and columns of a tensor.
type Region = [Range<usize>; 2];

/// The number of first operators that gives the lowest peak, fewest repeated multiply-adds among equals; `None` where
/// the first operator has no spatial extent to divide.
pub fn patches(network: &Network, grid: usize) -> Option<Patched> {
    let stages = (1..=network.steps.len()).map_while(|operators| stage(network, grid, operators));
    stages.flatten().min_by_key(|patched| (patched.peak_bytes, patched.extra_macs))
}

/// `Some(None)` where this many cannot be a stage but more may; `None` where more cannot either.
fn stage(network: &Network, grid: usize, operators: usize) -> Option<Option<Patched>> {
    let (first, rest) = network.steps.split_at_checked(operators)?;
    let [input] = network.inputs.as_slice() else { return None };
    let known = |tensor: usize, before: usize| {
        tensor == input.tensor || first[..before].iter().any(|step| step.output == tensor)
    };
    let local = |(place, step): (usize, &Step)| {
        let kinds = [code::CONV_2D, code::GROUPED_CONV_2D, code::DEPTHWISE_CONV_2D, code::MAX_POOL_2D];
        let windowed = kinds.contains(&step.kind) || step.kind == code::AVERAGE_POOL_2D;
        (windowed || step.in_place()) && step.inputs().all(|tensor| known(tensor, place))
    };
    if !first.iter().enumerate().all(local) {
        return None;
    }
    let output = first.last()?.output;
    let [_, height, width, _] = network.tensors[output].shape;
    // What is read behind the stage must be whole: the stage's output alone may be.
    let storage = |tensor: usize| network.tensors[tensor].storage;
    let behind = rest.iter().flat_map(Step::inputs).chain(network.outputs.iter().map(|border| border.tensor));
    let inner: Vec<usize> =
        first.iter().map(|s| s.output).filter(|&t| storage(t) != storage(output)).collect();
    let leaves =
        behind.into_iter().any(|t| inner.iter().any(|&i| storage(i) == storage(t)) || t == input.tensor);
    if leaves || height < grid || width < grid {
        return Some(None);
    }
    let whole = network.tensors[input.tensor].len() + network.tensors[output].len();
    let (mut most, mut macs) = (0, 0);
    for patch in 0..grid * grid {
        let part = |index: usize, extent: usize| index * extent / grid..(index + 1) * extent / grid;
        let regions = regions(network, first, [part(patch / grid, height), part(patch % grid, width)]);
        let bytes = |tensor: usize| {
            regions.get(&tensor).map_or(0, |region| area(region) * network.tensors[tensor].shape[3])
        };
        macs += first.iter().map(|step| share(network, step, &regions)).sum::<u64>();
        for time in 0..operators {
            let alive = |&&tensor: &&usize| {
                let born = first.iter().position(|step| step.output == tensor).is_some_and(|at| at <= time);
                born && first[time..]
                    .iter()
                    .any(|step| step.output == tensor || step.inputs().any(|t| t == tensor))
            };
            most = most.max(inner.iter().filter(alive).map(|&tensor| bytes(tensor)).sum());
        }
    }
    let lives = network.lives();
    let later = (operators..=network.steps.len()).map(|time| {
        lives.iter().flatten().filter(|l| l.first <= time && time <= l.last).map(|l| l.bytes).sum::<usize>()
    });
    let peak_bytes = later.max().unwrap_or(0).max(whole + most);
    let once: u64 = first.iter().map(|step| network.macs(step)).sum();
    Some(Some(Patched { grid, operators, peak_bytes, extra_macs: macs.saturating_sub(once) }))
}

fn area([rows, columns]: &Region) -> usize {
    rows.len() * columns.len()
}

/// Multiply-adds of a step for its output's region.
fn share(network: &Network, step: &Step, regions: &HashMap<usize, Region>) -> u64 {
    let [_, height, width, _] = network.tensors[step.output].shape;
    let part = regions.get(&step.output).map_or(0, area) as u64;
    network.macs(step) * part / (height * width).max(1) as u64
}

/// What a patch of the last step's output needs of every tensor before it.
fn regions(network: &Network, first: &[Step], patch: Region) -> HashMap<usize, Region> {
    let mut regions = HashMap::new();
    if let Some(last) = first.last() {
        regions.insert(last.output, patch);
    }
    for step in first.iter().rev() {
        let Some(region) = regions.get(&step.output).cloned() else { continue };
        for tensor in step.inputs() {
            let shape = network.tensors[tensor].shape;
            let needed: Region = [0, 1].map(|axis| {
                let (window, extent) = (&step.window, shape[axis + 1]);
                if step.in_place() {
                    return region[axis].start.min(extent)..region[axis].end.min(extent);
                }
                let reach = (window.filter[axis] - 1) * window.dilation[axis] + 1;
                let start = (region[axis].start * window.stride[axis]).saturating_sub(window.padding[axis]);
                let last = region[axis].end.saturating_sub(1) * window.stride[axis];
                start.min(extent)..(last + reach).saturating_sub(window.padding[axis]).min(extent)
            });
            let all = regions.entry(tensor).or_insert_with(|| needed.clone());
            *all = [0, 1]
                .map(|axis| all[axis].start.min(needed[axis].start)..all[axis].end.max(needed[axis].end));
        }
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Element;
    use crate::packer::{Activations, Border};

    fn tensor(index: usize, shape: [usize; 4]) -> Activations {
        let affine = flatmin::Affine { scale: 1.0, zero_point: 0 };
        Activations { name: String::new(), shape, affine, storage: index, constant: None, unsigned: false }
    }

    fn border(tensor: usize, shape: &[usize]) -> Border {
        Border { tensor, element: Element::I8, shape: shape.to_vec(), order: vec![0, 1, 2, 3] }
    }

    fn convolution(input: usize, output: usize, stride: usize, padding: usize) -> Step {
        let mut step = Step::new(input, "CONV_2D", code::CONV_2D, input, output);
        (step.window.filter, step.window.stride, step.window.padding) = ([3; 2], [stride; 2], [padding; 2]);
        step.constants.weights = vec![0; 36];
        step
    }

    #[test]
    fn halos_by_hand() {
        let shapes = [[1, 8, 8, 1], [1, 8, 8, 4], [1, 4, 4, 1]];
        let network = Network {
            tensors: shapes.iter().enumerate().map(|(index, shape)| tensor(index, *shape)).collect(),
            // SAME: a row above with stride 1, none with stride 2.
            steps: vec![convolution(0, 1, 1, 1), convolution(1, 2, 2, 0)],
            inputs: vec![border(0, &shapes[0])],
            outputs: vec![border(2, &shapes[2])],
            greedy_arena_bytes: 0,
            loss: None,
            spare_classes: 0,
            statistics: None,
            energies: std::collections::BTreeMap::new(),
            variables: Vec::new(),
        };
        // Two output rows with stride 2 read five rows, the lower two but four: 5x5, 5x4, 4x5 and 4x4 pixels in
        // place of 8x8, of four bytes and 36 multiply-adds each.
        let expected = Patched {
            grid: 2,
            operators: 2,
            peak_bytes: 64 + 5 * 5 * 4 + 16,
            extra_macs: (25 + 20 + 20 + 16 - 64) * 36,
        };
        assert_eq!(patches(&network, 2), Some(expected));
    }

    #[test]
    fn what_has_no_rows_has_no_patches() {
        let network = Network {
            tensors: vec![tensor(0, [1, 1, 1, 9]), tensor(1, [1, 1, 1, 3])],
            steps: vec![Step::new(0, "FULLY_CONNECTED", code::FULLY_CONNECTED, 0, 1)],
            inputs: vec![border(0, &[1, 1, 1, 9])],
            outputs: vec![border(1, &[1, 1, 1, 3])],
            greedy_arena_bytes: 0,
            loss: None,
            spare_classes: 0,
            statistics: None,
            energies: std::collections::BTreeMap::new(),
            variables: Vec::new(),
        };
        assert_eq!(patches(&network, 2), None);
    }
}
