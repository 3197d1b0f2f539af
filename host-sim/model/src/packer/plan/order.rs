//! The order of operators: any that computes everything before it is read gives the same bytes, but not the same
//! number of activations alive at a time.

use super::super::network::Network;

/// Drops what no output needs and takes the better of the file's order and a greedy one.
pub(super) fn arrange(network: &mut Network) {
    drop_unused(network);
    let before = peak(network);
    let order = greedy(network);
    let mut reordered = network.clone();
    reordered.steps = order.iter().map(|&i| network.steps[i].clone()).collect();
    if peak(&reordered) < before {
        *network = reordered;
    }
}

fn peak(network: &Network) -> usize {
    let lives = network.lives();
    let alive = |time: usize| {
        let lives = lives.iter().flatten().filter(|l| l.first <= time && time <= l.last);
        lives.map(|l| l.bytes).sum()
    };
    (0..=network.steps.len()).map(alive).max().unwrap_or(0)
}

fn drop_unused(network: &mut Network) {
    let storage = |tensor: usize| network.tensors[tensor].storage;
    let mut needed = vec![false; network.tensors.len()];
    network.outputs.iter().for_each(|output| needed[storage(output.tensor)] = true);
    network.variables.iter().for_each(|variable| needed[storage(variable.tensor)] = true);
    let mut kept = vec![false; network.steps.len()];
    for (index, step) in network.steps.iter().enumerate().rev() {
        kept[index] = needed[storage(step.output)];
        if kept[index] {
            step.inputs().for_each(|input| needed[storage(input)] = true);
        }
    }
    let mut kept = kept.into_iter();
    network.steps.retain(|_| kept.next().unwrap_or(true));
}

/// Operators that must have run before each: those that write what it reads, and earlier writers of what it
/// writes.
fn dependencies(network: &Network) -> Vec<Vec<usize>> {
    let storage = |tensor: usize| network.tensors[tensor].storage;
    let steps = &network.steps;
    let of = |(index, step): (usize, &super::super::network::Step)| {
        let (reads, writes): (Vec<usize>, usize) =
            (step.inputs().map(storage).collect(), storage(step.output));
        let depends = |(other, earlier): (usize, &super::super::network::Step)| {
            let written = storage(earlier.output);
            // Every writer of an array precedes every reader, whatever their places in the list.
            let read = reads.contains(&written) && written != writes && !network.is_variable(written);
            let same = written == writes && other < index;
            // A variable has several values, one after the other.
            let read_earlier = network.is_variable(writes) && earlier.inputs().any(|t| storage(t) == writes);
            let written_earlier = network.is_variable(written) && reads.contains(&written);
            let value = other < index && (read_earlier || written_earlier);
            (other != index && (read || same || value)).then_some(other)
        };
        steps.iter().enumerate().filter_map(depends).collect()
    };
    steps.iter().enumerate().map(of).collect()
}

/// Among the operators that can run, always the one after which the least is alive.
fn greedy(network: &Network) -> Vec<usize> {
    let steps = &network.steps;
    let storage = |tensor: usize| network.tensors[tensor].storage;
    let dependencies = dependencies(network);
    let mut readers = vec![0usize; network.tensors.len()];
    for step in steps {
        step.inputs().for_each(|input| readers[storage(input)] += 1);
    }
    network.outputs.iter().for_each(|output| readers[storage(output.tensor)] += 1);
    let mut done = vec![false; steps.len()];
    let mut alive = vec![false; network.tensors.len()];
    network.inputs.iter().for_each(|input| alive[storage(input.tensor)] = true);
    for variable in &network.variables {
        alive[storage(variable.tensor)] = true;
        readers[storage(variable.tensor)] += 1;
    }
    let mut order = Vec::new();
    while order.len() < steps.len() {
        let ready = (0..steps.len()).filter(|&i| !done[i] && dependencies[i].iter().all(|&d| done[d]));
        // Bytes that come alive less those that die.
        let growth = |i: usize| {
            let bytes = |tensor: usize| network.tensors[tensor].len() as i64;
            let output = steps[i].output;
            let born = if alive[storage(output)] { 0 } else { bytes(output) };
            let mut inputs: Vec<usize> = steps[i].inputs().collect();
            inputs.dedup_by_key(|tensor| storage(*tensor));
            let dying = |&&tensor: &&usize| {
                let reads = steps[i].inputs().filter(|&t| storage(t) == storage(tensor)).count();
                readers[storage(tensor)] == reads && network.tensors[tensor].constant.is_none()
            };
            born - inputs.iter().filter(dying).map(|&t| bytes(t)).sum::<i64>()
        };
        let Some(next) = ready.min_by_key(|&i| (growth(i), i)) else {
            // A circle: no order is right; the reader's is as good as any.
            return (0..steps.len()).collect();
        };
        done[next] = true;
        alive[storage(steps[next].output)] = true;
        for input in steps[next].inputs() {
            readers[storage(input)] = readers[storage(input)].saturating_sub(1);
        }
        order.push(next);
    }
    order
}
