//! Fully connected tails for both tuners, and their steps side by side; a network of other layers, whose runs are resumed alone.

use super::row::Row;
use super::tails::{Builder, append};
use anyhow::{Context, Result};
use flatmin::Method;
use flatmin::internals::tail::{PackedTail, Tail};
use flatmin_bench::tails::{METHODS, recipe};
use flatmin_bench::train::RESUMED;
use flatmin_bench::tuners::{BATCHES, TUNERS};
use flatmin_model::graph::{Activation, Binary, Graph, Kind, Padding, Window};
use flatmin_model::packer::{TailPlan, lower, pack_tail};
use flatmin_model::table::Table;
use flatmin_sim::tuning::method_name;
use serde::Serialize;
use std::fmt;

/// A tail of random weights.
struct Dense {
    name: &'static str,
    /// Features, then every layer's outputs.
    widths: &'static [usize],
}

/// The two layers that other libraries are measured with, and the shape of the bundled model's last layer.
const TAILS: [Dense; 2] = [
    Dense { name: "dense_64_32_10", widths: &[64, 32, 10] },
    Dense { name: "bundled_last", widths: &[64, 7] },
];

impl Dense {
    fn row(&self, batch: u16, method: Method, tuner: &str) -> String {
        format!("train_tuner_{}_b{batch}_{}_{tuner}", self.name, method_name(method))
    }

    fn has(&self, only: &str) -> bool {
        RESUMED.contains(only)
            || steps().any(|(batch, method, tuner)| self.row(batch, method, tuner).contains(only))
    }

    fn graph(&self) -> Result<Graph> {
        let mut b = Builder::new();
        let (&features, outputs) = self.widths.split_first().context("a tail has features")?;
        let input = b.activation(&[1, features]);
        let (mut x, mut inputs) = (input, features);
        for (place, &width) in outputs.iter().enumerate() {
            let last = place + 1 == outputs.len();
            let kind = Kind::FullyConnected(if last { Activation::None } else { Activation::Relu });
            x = b.weighted("FULLY_CONNECTED", kind, &[width, inputs], x, &[1, width]);
            inputs = width;
        }
        Ok(b.graph(input, x))
    }
}

/// What is run of every tail, in its order.
fn steps() -> impl Iterator<Item = (u16, Method, &'static str)> {
    let methods = || METHODS.into_iter().flat_map(|method| TUNERS.map(|tuner| (method, tuner)));
    BATCHES.into_iter().flat_map(move |batch| methods().map(move |(method, tuner)| (batch, method, tuner)))
}

/// A residual block of three convolutions, an average and a dense layer.
fn residual() -> Graph {
    const SHAPE: [usize; 4] = [1, 5, 4, 6];
    let window = |padding| Window { padding, stride: [1; 2], dilation: [1; 2] };
    let (same, relu) = (window(Padding::Same), Activation::Relu);
    let mut b = Builder::new();
    let input = b.activation(&[1, 5, 4, 3]);
    let first = b.weighted("CONV_2D", Kind::Conv2d(same, relu), &[6, 3, 3, 3], input, &SHAPE);
    let depthwise = Kind::DepthwiseConv2d(same, relu, 1);
    let x = b.weighted("DEPTHWISE_CONV_2D", depthwise, &[1, 3, 3, 6], first, &SHAPE);
    let x = b.weighted("CONV_2D", Kind::Conv2d(same, Activation::None), &[6, 1, 1, 6], x, &SHAPE);
    let x = b.operator("ADD", Kind::Binary(Binary::Add, relu), &[first, x], &SHAPE);
    let pool = Kind::AveragePool2d(window(Padding::Valid), Activation::None, [5, 4]);
    let x = b.operator("AVERAGE_POOL_2D", pool, &[x], &[1, 1, 1, 6]);
    let x = b.operator("RESHAPE", Kind::Reshape, &[x], &[1, 6]);
    let dense = Kind::FullyConnected(Activation::None);
    let logits = b.weighted("FULLY_CONNECTED", dense, &[3, 6], x, &[1, 3]);
    b.graph(input, logits)
}

/// The tails with a step of whose name `only` is a part, one after the other, in 16-byte words; after them those whose runs
/// are resumed alone.
pub(super) fn packs(only: &str) -> Result<Vec<u128>> {
    let mut words = Vec::new();
    for tail in TAILS.iter().filter(|tail| tail.has(only)) {
        let file = pack_tail(&lower(&tail.graph()?)?, 0, &TailPlan::of(tail.widths.len() - 1))?;
        append(&mut words, file.bytes());
    }
    if RESUMED.contains(only) {
        let network = lower(&residual())?;
        for layers in 2..=4 {
            append(&mut words, pack_tail(&network, 0, &TailPlan::of(layers))?.bytes());
        }
    }
    Ok(words)
}

/// Name, shape and multiply-adds of what is run of them, in its order.
pub(super) fn work(packs: &[u8], only: &str) -> Result<Vec<(String, String, u64)>> {
    let mut all = Vec::new();
    let tails = TAILS.iter().filter(|tail| tail.has(only));
    for (pack, tail) in flatmin_bench::tails::packs(packs).zip(tails) {
        let packed = PackedTail::of(&pack)?;
        let widths: Vec<String> = tail.widths.iter().map(ToString::to_string).collect();
        for (batch, method, tuner) in steps() {
            let shape =
                format!("{}, {batch} sample{}", widths.join(" -> "), if batch == 1 { "" } else { "s" });
            let macs = packed.step_macs(recipe(method).geometry().as_ref(), false) * u64::from(batch);
            all.push((tail.row(batch, method, tuner), shape, macs));
        }
    }
    Ok(all)
}

/// A step of both tuners.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// With f32 weights.
    pub f32: Row,
    /// The compact one.
    pub compact: Row,
    /// Instructions of the compact one divided by the other's.
    pub ratio: f64,
}

/// Takes the steps of both tuners out of all rows.
pub(super) fn pairs(rows: &mut Vec<Row>) -> Vec<Pair> {
    let mut taken: Vec<Row> = rows.extract_if(.., |row| row.name.starts_with("train_tuner_")).collect();
    let mut pairs = Vec::new();
    while taken.len() > 1 {
        let (f32, compact) = (taken.remove(0), taken.remove(0));
        let ratio = compact.instructions as f64 / f32.instructions as f64;
        pairs.push(Pair { f32, compact, ratio });
    }
    pairs
}

/// Writes the table of pairs.
pub(super) fn write(f: &mut fmt::Formatter, pairs: &[Pair]) -> fmt::Result {
    let heading = ["step of a tuner", "shape", "instructions, f32", "instructions, compact", "ratio"];
    let mut table = Table::new(2, heading);
    for pair in pairs {
        let name = pair.f32.name.trim_end_matches("_f32");
        let [full, compact] = [&pair.f32, &pair.compact].map(|row| row.instructions.to_string());
        let ratio = format!("{:.3}", pair.ratio);
        table.add_row([name, &pair.f32.shape, &full, &compact, &ratio]);
    }
    writeln!(f, "{table}")
}
