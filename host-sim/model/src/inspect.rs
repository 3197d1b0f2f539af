//! What is in a model, and what training each of its possible tails would take.

use crate::graph::Element;
use crate::model::Model;
use crate::packer::{self, Border, Network, PackFile, TailPlan, Trains};
use crate::table::Table;
use crate::tflite::printable;
use crate::training;
use anyhow::{Context, Result};
use flatmin::internals::tail::{PackedTail, Tail};
use flatmin::{Affine, CompactTuner, IntegerTuner, MemoryPlan, Method, Recipe, Tuner};
use flatmin_app::{RamBudget, SOLVING};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// One operator.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// Place in the file.
    pub index: usize,
    /// Schema's name.
    pub operator: String,
    /// Images, height, width, channels of the output.
    pub output: [usize; 4],
    /// Scale of the output.
    pub scale: f32,
    /// Zero point of the output.
    pub zero_point: i32,
    /// Bytes of weights.
    pub weights: usize,
    /// Multiply-adds.
    pub macs: u64,
}

/// An input or output of the network.
#[derive(Debug, Clone, Serialize)]
pub struct End {
    /// Its name in the file.
    pub name: String,
    /// The file's shape, batch included.
    pub shape: Vec<usize>,
    /// Element type in the file: `int8`, `uint8` or `float32`.
    pub element: &'static str,
    /// Scale of the int8 values: `real = scale * (int8 - zero_point)`.
    pub scale: f32,
    /// Zero point of the int8 values.
    pub zero_point: i32,
}

impl End {
    fn new(network: &Network, border: &Border) -> Self {
        let tensor = &network.tensors[border.tensor];
        let element = match border.element {
            Element::U8 => "uint8",
            Element::F32 => "float32",
            _ => "int8",
        };
        let (name, shape) = (tensor.name.clone(), border.shape.clone());
        let Affine { scale, zero_point } = tensor.affine;
        Self { name, shape, element, scale, zero_point }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, shape, element, scale, zero_point } = self;
        let [low, high] =
            [-128, 127].map(|q| Affine { scale: *scale, zero_point: *zero_point }.dequantize(q));
        write!(
            f,
            "`{}` {shape:?} {element}, real = {scale} * (int8 - {zero_point}), from {low:.4} to {high:.4}",
            printable(name)
        )
    }
}

/// What a network keeps from one inference to the next.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    /// Name in the file.
    pub name: String,
    /// Bytes of the arena.
    pub bytes: usize,
}

/// What tuning the last `layers` fully connected layers takes.
#[derive(Debug, Clone, Serialize)]
pub struct Cut {
    /// Trainable layers.
    pub layers: usize,
    /// int8 elements of a latent.
    pub feature_length: usize,
    /// Trainable parameters.
    pub tail_parameters: usize,
    /// Size of the pack in flash.
    pub flash_bytes: usize,
    /// Size of the arena.
    pub train_ram_bytes: usize,
    /// Size of the arena of a tuner in integers; `None` where none takes this tail.
    pub integer_ram_bytes: Option<usize>,
    /// That with a quarter of the input channels of all layers but the last trained.
    pub integer_quarter_ram_bytes: Option<usize>,
    /// Bytes beside the arena that the last layer is solved in, in closed form: 0 where the arena has room for that, or no
    /// such layer is there.
    pub solving_bytes: usize,
    /// The arena by purpose.
    #[serde(serialize_with = "crate::json::serialize_parts")]
    pub memory: Vec<(String, usize)>,
    /// All RAM of a firmware (`boards/app`) that tunes this tail and, where it can, solves the last layer: arena,
    /// `solving_bytes`, link frames, stack and statics.
    pub firmware_ram_bytes: usize,
    /// The same by purpose.
    #[serde(serialize_with = "crate::json::serialize_parts")]
    pub firmware_ram: Vec<(String, usize)>,
    /// Multiply-adds of the trunk, once a sample.
    pub trunk_macs: u64,
    /// Multiply-adds of a sample's share of a step with SGD.
    pub sgd_macs: u64,
    /// Multiply-adds of a sample's share of a step with SAM.
    pub sam_macs: u64,
    /// Multiply-adds of a sample's share of a step with ASAM.
    pub asam_macs: u64,
}

/// A model's layers and cuts.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Name of the model.
    pub model: String,
    /// Size of the file.
    pub file_bytes: usize,
    /// Planned bytes of the int8 activation arena.
    pub arena_bytes: usize,
    /// The largest sum of activations alive at one operator: no plan can be smaller.
    pub arena_lower_bound: usize,
    /// What a greedy planner by size takes without reordering and sharing, as TensorFlow Lite Micro's.
    pub arena_greedy_bytes: usize,
    /// What the arena's lower bound would be if the first operators ran in patches (which they do not), for grids of
    /// 2 x 2 and 4 x 4 patches; only what is less than the arena.
    pub patched: Vec<packer::Patched>,
    /// What the network keeps from one inference to the next, in the arena.
    pub variables: Vec<Kept>,
    /// Inputs of the network, in the file's order.
    pub inputs: Vec<End>,
    /// Outputs of the network, in the file's order.
    pub outputs: Vec<End>,
    /// Operators.
    pub layers: Vec<Layer>,
    /// Possible tails.
    pub cuts: Vec<Cut>,
    /// What keeps further layers from being tuned; `None` where all layers with weights can be.
    pub obstacle: Option<String>,
    /// Latents that the cuts' RAM counts.
    pub replay_capacity: u16,
}

/// Inspects a model; `recipe` decides what the cuts take.
///
/// # Errors
/// Everything that the runtime does not support, in one list.
pub fn inspect(model: &Model, recipe: &Recipe) -> Result<Inspection> {
    let network = &model.network;
    let layers = network.steps.iter().map(|step| {
        let output = &network.tensors[step.output];
        Layer {
            index: step.index,
            operator: step.name.clone(),
            output: output.shape,
            scale: output.affine.scale,
            zero_point: output.affine.zero_point,
            weights: step.constants.weights.len(),
            macs: network.macs(step),
        }
    });
    let plan = packer::plan(network);
    let mut cuts = Vec::new();
    for layers in 1..=network.trainable_layers() {
        let file = model.pack(layers)?;
        let (pack, sizes) = (file.pack(), file.pack().sizes());
        let memory = MemoryPlan::new(&sizes, recipe);
        let tail = PackedTail::of(&pack)?;
        let solving = if Tuner::can_solve(&pack) { sizes.solve_bytes(recipe) } else { 0 };
        let budget = RamBudget { solving, ..RamBudget::new(&sizes, recipe) };
        let macs = |method| {
            let own = Recipe { method, ..*recipe };
            tail.step_macs(
                own.geometry().as_ref(),
                flatmin::internals::step::stores_perturbation(&tail, &own),
            )
        };
        cuts.push(Cut {
            layers,
            feature_length: sizes.feature_length,
            tail_parameters: sizes.tail_parameters,
            flash_bytes: file.bytes().len(),
            train_ram_bytes: memory.total_bytes(),
            integer_ram_bytes: integer_bytes(&file, recipe),
            integer_quarter_ram_bytes: (layers > 1)
                .then(|| TailPlan { layers, trains: vec![Trains::Inputs(25); layers - 1] })
                .and_then(|plan| integer_bytes(&model.pack(plan).ok()?, recipe)),
            solving_bytes: solving,
            memory: memory.by_purpose().map(|(purpose, bytes)| (purpose.to_owned(), bytes)).into(),
            firmware_ram_bytes: budget.total_bytes(),
            firmware_ram: budget.by_purpose().map(|(purpose, bytes)| (purpose.to_owned(), bytes)).collect(),
            trunk_macs: pack.trunk_macs(),
            sgd_macs: tail.step_macs(None, false),
            sam_macs: macs(Method::Sam),
            asam_macs: macs(Method::Asam),
        });
    }
    Ok(Inspection {
        model: model.name.clone(),
        file_bytes: model.file_bytes(),
        arena_bytes: plan.bytes,
        arena_lower_bound: plan.lower_bound,
        arena_greedy_bytes: network.greedy_arena_bytes,
        patched: [2, 4]
            .into_iter()
            .filter_map(|grid| packer::patches(network, grid))
            .filter(|patched| patched.peak_bytes < plan.bytes)
            .collect(),
        variables: network
            .variables
            .iter()
            .map(|own| Kept { name: own.name.clone(), bytes: network.tensors[own.tensor].len() })
            .collect(),
        inputs: network.inputs.iter().map(|border| End::new(network, border)).collect(),
        outputs: network.outputs.iter().map(|border| End::new(network, border)).collect(),
        layers: layers.collect(),
        cuts,
        obstacle: Some(packer::obstacle(network).trim_start_matches([':', ' ']).to_owned())
            .filter(|reason| !reason.is_empty()),
        replay_capacity: recipe.replay_capacity,
    })
}

/// Size of the arena of the tuner in integers that takes this tail.
fn integer_bytes(file: &PackFile, recipe: &Recipe) -> Option<usize> {
    let (method, replay_capacity) = (recipe.method, recipe.replay_capacity);
    let pack = file.pack();
    let chain = pack.sizes().tail_is_chain;
    let (kind, base) = match chain {
        true => (training::Tail::Compact, *recipe),
        false => (training::Tail::Integer, Recipe::INTEGER),
    };
    let recipe = Recipe { method, replay_capacity, ..base };
    let mut arena = kind.arena(file, &recipe);
    let bytes = bytemuck::cast_slice_mut(&mut arena);
    let taken = match kind {
        training::Tail::Integer => IntegerTuner::in_arena(pack, recipe, bytes).is_ok(),
        _ => CompactTuner::in_arena(pack, recipe, bytes).is_ok(),
    };
    taken.then(|| kind.arena_bytes(&pack.sizes(), &recipe))
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let macs: u64 = self.layers.iter().map(|l| l.macs).sum();
        let arena = self.arena_bytes;
        writeln!(
            f,
            "{}: {} bytes, {macs} MACs, activation arena {arena} bytes (lower bound {}, greedy planner {})",
            self.model, self.file_bytes, self.arena_lower_bound, self.arena_greedy_bytes
        )?;
        for (what, ends) in [("input", &self.inputs), ("output", &self.outputs)] {
            for end in ends {
                writeln!(f, "{what} {end}")?;
            }
        }
        if !self.variables.is_empty() {
            let own: Vec<_> = self
                .variables
                .iter()
                .map(|Kept { name, bytes }| format!("{} {bytes}", printable(name)))
                .collect();
            writeln!(
                f,
                "a stream, hop by hop: {} bytes of the arena are kept from one inference to the next ({})",
                self.variables.iter().map(|own| own.bytes).sum::<usize>(),
                own.join(", ")
            )?;
        }
        let heading = ["#", "operator", "output HWC", "scale", "zero point", "weights", "MACs"];
        let mut table = Table::new(2, heading);
        for l in &self.layers {
            let [_, h, w, c] = l.output;
            let shape = format!("{h}x{w}x{c}");
            let (index, scale, zero) = (l.index.to_string(), l.scale.to_string(), l.zero_point.to_string());
            let or_none = |count: u64| if count > 0 { count.to_string() } else { "–".to_owned() };
            let [weights, macs] = [l.weights as u64, l.macs].map(or_none);
            table.add_row([index, l.operator.clone(), shape, scale, zero, weights, macs]);
        }
        writeln!(f, "{table}")?;
        for packer::Patched { grid, operators, peak_bytes, extra_macs } in &self.patched {
            writeln!(
                f,
                "the first {operators} operators in {grid}x{grid} patches (not built) would need {peak_bytes} bytes, \
                 {:.2} of the arena, and {extra_macs} more MACs",
                *peak_bytes as f64 / arena as f64
            )?;
        }
        if self.cuts.is_empty() {
            let reason = self.obstacle.as_deref().unwrap_or("it has no layer with weights");
            return write!(f, "nothing of this network can be tuned: {reason}");
        }
        writeln!(f, "tuning the last layers, replay of {} latents:", self.replay_capacity)?;
        let costs = [
            "layers",
            "latent",
            "parameters",
            "flash",
            "arena",
            "in integers",
            "a quarter",
            "solver",
            "firmware RAM",
        ];
        let macs = ["trunk MACs", "SGD MACs", "SAM MACs", "ASAM MACs"];
        let mut table = Table::new(0, costs.iter().chain(&macs));
        for c in &self.cuts {
            let numbers = [c.layers, c.feature_length, c.tail_parameters, c.flash_bytes, c.train_ram_bytes];
            let [integers, quarter] = [c.integer_ram_bytes, c.integer_quarter_ram_bytes]
                .map(|bytes| bytes.map_or("–".to_owned(), |bytes| bytes.to_string()));
            let solver = if c.solving_bytes > 0 { c.solving_bytes.to_string() } else { "–".to_owned() };
            let macs = [c.trunk_macs, c.sgd_macs, c.sam_macs, c.asam_macs];
            let row = numbers.iter().map(ToString::to_string).chain([integers, quarter]);
            let row = row.chain([solver, c.firmware_ram_bytes.to_string()]);
            table.add_row(row.chain(macs.iter().map(ToString::to_string)));
        }
        writeln!(f, "{table}")?;
        let layers = self.cuts.iter().map(|c| match c.layers {
            1 => "1 layer".to_owned(),
            layers => format!("{layers} layers"),
        });
        let heading = std::iter::chain(["firmware RAM in bytes by purpose".to_owned()], layers);
        let mut table = Table::new(1, heading);
        // Not each of them is there at every depth.
        let most = self.cuts.iter().max_by_key(|c| c.firmware_ram.len());
        for (name, _) in most.iter().flat_map(|c| &c.firmware_ram) {
            let of =
                |c: &Cut| c.firmware_ram.iter().find(|(own, _)| own == name).map_or(0, |(_, bytes)| *bytes);
            if self.cuts.iter().any(|c| of(c) > 0) {
                let bytes = |c: &Cut| if of(c) > 0 { of(c).to_string() } else { "–".to_owned() };
                table.add_row(std::iter::chain([name.clone()], self.cuts.iter().map(bytes)));
            }
        }
        write!(
            f,
            "{table}\n\"in integers\" is the arena of --integer, with its own recipe. MACs of the trunk are per sample, of a step per sample and pass; firmware without \
             the closed form does without the memory of \"{SOLVING}\""
        )
    }
}

/// A Rust file with a pack's constants, to be included by firmware.
///
/// # Errors
/// A pack path without a file name.
pub fn constants(file: &PackFile, path: &Path) -> Result<String> {
    let name = path.file_name().context("the pack's path has no file name")?.to_string_lossy();
    Ok(pack_constants(file, &name))
}

/// A Rust file with the constants of a pack that lies beside it under this name.
pub fn pack_constants(file: &PackFile, name: &str) -> String {
    let sizes = file.pack().sizes();
    format!(
        "// Made of a network by `flatmin pack` or a build script; do not edit.\n\n\
         /// The packed network, 16-byte aligned.\n\
         #[allow(dead_code)]\n\
         pub static PACK: &[u8] = flatmin::include_pack!({name:?});\n\
         /// Its sizes, for buffers that are sized when the firmware is compiled.\n\
         #[allow(dead_code)]\n\
         pub const SIZES: flatmin::Sizes = flatmin::Sizes {{\n    input_length: {},\n    feature_length: {},\n    \
         output_length: {},\n    arena_bytes: {},\n    tail_layers: {},\n    tail_weights: {},\n    \
         tail_outputs: {},\n    tail_parameters: {},\n    workspace_floats: {},\n    tail_is_chain: {},\n    loss: flatmin::Loss::{:?},\n    last_features: {},\n    layer_room: {:?},\n    feature_count: {},\n}};\n\
         /// CRC-32 of the pack.\n\
         #[allow(dead_code)]\n\
         pub const CRC32: u32 = {:#010x};\n",
        sizes.input_length,
        sizes.feature_length,
        sizes.output_length,
        sizes.arena_bytes,
        sizes.tail_layers,
        sizes.tail_weights,
        sizes.tail_outputs,
        sizes.tail_parameters,
        sizes.workspace_floats,
        sizes.tail_is_chain,
        sizes.loss,
        sizes.last_features,
        sizes.layer_room,
        sizes.feature_count,
        file.pack().crc32(),
    )
}
