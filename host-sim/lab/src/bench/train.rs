//! What training costs on an emulated board: passes of trainable layers, and whole steps.

use super::board::Emulated;
use super::cycles::{Cost, Tracer};
use super::instructions;
use super::lines::{Desktop, Line, parse};
use super::row::{Figures, Row};
use super::tails;
use super::tuners::{self, Pair};
use anyhow::{Context, Result, bail, ensure};
use flatmin_bench::tails::TAILS_MEMORY;
use flatmin_bench::train::{TRAINING, run_training};
use flatmin_bench::tuners::TUNERS_MEMORY;
use flatmin_model::table::Table;
use rayon::prelude::*;
use serde::Serialize;
use std::fmt;
use std::io::BufReader;
use std::process::Stdio;

/// Instructions of the best other library, in the order of [`TRAINING`]: f32, built at its best of -O3 and -Ofast,
/// counted in QEMU on the same core. PULP-TrainLib for layers and for the step of one sample, without momentum and
/// bias; KANN for sixteen; SAM as written around KANN.
const PEERS: [Option<u64>; 15] = [
    Some(696_780),
    Some(555_229),
    Some(864_516),
    Some(62_049),
    Some(55_664),
    Some(61_617),
    Some(87_903),
    Some(59_885),
    Some(216_443),
    Some(37_886),
    Some(147_920),
    None,
    Some(575_235),
    Some(1_172_213),
    None,
];

/// What training takes on a board; every result equalled the desktop's in every bit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainReport {
    /// What `--board` calls it.
    pub board: String,
    /// Its core.
    pub core: String,
    /// Passes and steps.
    pub kernels: Vec<Row>,
    /// Whole steps of both tuners.
    pub tuners: Vec<Pair>,
    /// Slice boundaries of every run that was saved and resumed at all of them; its weights equalled those of the run in
    /// one piece, and the desktop's.
    pub resumed: Vec<u32>,
}

/// Builds, runs and compares what has a name that contains `only`: of a tail all methods run, though. Of the Cortex-M4F
/// `cycles`, too: they take a trace, and that takes minutes.
///
/// # Errors
/// No such name, QEMU missing, or a result that is not the desktop's.
pub fn measure(board: &Emulated, only: &str, cycles: bool) -> Result<TrainReport> {
    ensure!(board.holds_cases, "{} has too little RAM for training's layers", board.name);
    let mut desktop = Desktop::default();
    let is_m4 = board.name == "mps2-an386";
    // Of the others, not all have the RAM.
    let packs = if is_m4 { tails::packs(only)? } else { Vec::new() };
    let tuned = tuners::packs(only)?;
    let packs = Packs { tails: bytemuck::cast_slice(&packs), tuned: bytemuck::cast_slice(&tuned) };
    let mut arena = vec![0u128; TUNERS_MEMORY.div_ceil(16)];
    let arena = (packs.tuned, bytemuck::cast_slice_mut(&mut arena));
    run_training(&mut desktop, packs.tails, &mut vec![0.0; TAILS_MEMORY], arena, only)?;
    let expected = Results::of(&desktop.0)?;
    expected.check_resumed()?;
    // On the M4F the compiler chooses other instructions if it is told the core.
    let cores: &[&'static str] = if is_m4 { &["", "cortex-m4"] } else { &[board.cpu] };
    let single = TRAINING.iter().filter(|own| own.name.contains(only));
    let single = single.map(|own| (own.name.to_owned(), own.shape.to_owned(), own.macs()));
    let tails = tails::work(packs.tails, only)?.into_iter().chain(tuners::work(packs.tuned, only)?);
    let work: Vec<_> = single.chain(tails).collect();
    ensure!(!work.is_empty(), "no training's name on {} contains `{only}`", board.name);
    let mut rows: Vec<Row> = Vec::new();
    // A trace is QEMU's work, on one thread.
    let traced = is_m4 && cycles;
    let builds: Vec<_> = (cores.par_iter())
        .map(|core| measure_build(board, core, packs, only, &expected, traced))
        .collect::<Result<_>>()?;
    for (&target_cpu, costs) in cores.iter().zip(builds) {
        for (index, ((name, shape, macs), (instructions, cycles))) in work.iter().zip(costs).enumerate() {
            let figures = Figures { target_cpu, instructions, m4_cycles_estimate: cycles };
            match rows.get_mut(index) {
                Some(row) => {
                    row.instructions = row.instructions.min(instructions);
                    row.m4_cycles_estimate = row.m4_cycles_estimate.min(cycles);
                    row.builds.push(figures);
                }
                None => rows.push(Row {
                    name: name.clone(),
                    shape: shape.clone(),
                    macs: *macs,
                    instructions,
                    m4_cycles_estimate: cycles,
                    builds: vec![figures],
                    peer_instructions: None,
                    ratio: None,
                }),
            }
        }
    }
    if is_m4 {
        for row in &mut rows {
            let peer = TRAINING.iter().zip(PEERS).find(|(own, _)| own.name == row.name);
            row.peer_instructions = peer.and_then(|(_, peer)| peer);
            row.ratio = row.peer_instructions.map(|peer| row.instructions as f64 / peer as f64);
        }
    }
    let resumed = expected.resumed.iter().map(|(boundaries, _)| *boundaries).collect();
    let mut pairs = tuners::pairs(&mut rows);
    rows.retain(|row| row.name.contains(only));
    pairs.retain(|pair| [&pair.f32, &pair.compact].iter().any(|row| row.name.contains(only)));
    Ok(TrainReport {
        board: board.name.into(),
        core: board.core.into(),
        kernels: rows,
        tuners: pairs,
        resumed,
    })
}

/// What training takes beside the shapes that are built in.
#[derive(Clone, Copy)]
struct Packs<'p> {
    tails: &'p [u8],
    /// For both tuners.
    tuned: &'p [u8],
}

/// Instructions and, where they are traced, the Cortex-M4's estimated cycles of everything.
fn measure_build(
    board: &Emulated,
    target_cpu: &str,
    packs: Packs,
    only: &str,
    expected: &Results,
    traced: bool,
) -> Result<Vec<(u64, Option<u64>)>> {
    let folder =
        format!("{}-train-{}", board.name, if target_cpu.is_empty() { "generic" } else { target_cpu });
    let executable = board.compile(&folder, target_cpu, |cargo, target_folder| {
        cargo.env("FLATMIN_TRAIN", "1").env("FLATMIN_ONLY", only);
        let files =
            [("FLATMIN_PACK", "tails.pack", packs.tails), ("FLATMIN_TUNERS", "tuners.pack", packs.tuned)];
        for (variable, name, bytes) in files.into_iter().filter(|(_, _, bytes)| !bytes.is_empty()) {
            let path = target_folder.join(name);
            std::fs::write(&path, bytes)?;
            cargo.env(variable, path);
        }
        Ok(())
    })?;
    if board.cpu.starts_with("cortex") {
        instructions::check_unfused(&executable)?;
    }
    let output = board.run(&mut board.emulator(&executable)?)?;
    let Results { measured: found, resumed } = Results::of(&output)?;
    let count = expected.measured.len();
    ensure!(found.len() == count, "{} ran {} of {count}", board.name, found.len());
    for ((name, _, crc), (_, _, wanted)) in found.iter().zip(&expected.measured) {
        ensure!(
            crc == wanted,
            "{name} on {}: the result's CRC-32 is {crc}, the desktop's {wanted}",
            board.name
        );
    }
    ensure!(resumed.len() == expected.resumed.len(), "{} resumed {} runs", board.name, resumed.len());
    for (number, (found, expected)) in resumed.iter().zip(&expected.resumed).enumerate() {
        ensure!(
            found == expected,
            "run {number} on {}: slice boundaries, and CRC-32 in one piece and resumed at all of them, are {found:?}, the desktop's {expected:?}",
            board.name
        );
    }
    let counted: Vec<u64> = found.iter().map(|(_, ticks, _)| board.instructions_in(*ticks)).collect();
    if !traced {
        return Ok(counted.into_iter().map(|instructions| (instructions, None)).collect());
    }
    let costs = trace(board, &executable, 1 + counted.len())?;
    ensure!(costs.len() == counted.len(), "the trace shows {} of {}", costs.len(), counted.len());
    for ((cost, counted), (name, ..)) in costs.iter().zip(counted).zip(&found) {
        // A tick is less than an instruction, and interrupts of the clock may fall between: more in longer work.
        if cost.instructions.abs_diff(counted) > 40 + counted / 10_000 {
            bail!("{name}: the clock counts {counted} instructions, the trace {}", cost.instructions);
        }
    }
    Ok(costs.into_iter().map(|cost| (cost.instructions, Some(cost.cycles))).collect())
}

/// What the desktop or a board said.
struct Results {
    /// Name, ticks without those of measuring nothing, and CRC-32.
    measured: Vec<(String, u64, String)>,
    /// Slice boundaries at which a run was resumed, and its weights' CRC-32 in one piece and in pieces.
    resumed: Vec<(u32, [String; 2])>,
}

impl Results {
    fn of(output: &str) -> Result<Self> {
        let (mut empty, mut measured, mut resumed) = (0, Vec::new(), Vec::new());
        for line in parse(output)? {
            match line {
                Line::Empty(ticks) => empty = ticks,
                Line::Measured(name, ticks, crc) => measured.push((name, ticks.saturating_sub(empty), crc)),
                Line::Resumed(boundaries, crcs) => resumed.push((boundaries, crcs)),
                Line::Skipped(name) => bail!("{name} does not fit into the board"),
                Line::Case(_) | Line::FrontEnd(..) | Line::Grid(..) | Line::End => {}
            }
        }
        Ok(Self { measured, resumed })
    }

    /// Every run ends with the same weights in one piece and in pieces.
    fn check_resumed(&self) -> Result<()> {
        for (number, (boundaries, [whole, pieces])) in self.resumed.iter().enumerate() {
            ensure!(
                whole == pieces,
                "run {number} ends with weights {whole}, resumed at {boundaries} slice boundaries with {pieces}"
            );
        }
        Ok(())
    }
}

/// Runs the firmware with a line of log an instruction.
fn trace(board: &Emulated, executable: &std::path::Path, measurements: usize) -> Result<Vec<Cost>> {
    let tracer = Tracer::new(&std::fs::read(executable)?)?;
    let mut qemu = board.emulator(executable)?;
    qemu.args(["-accel", "tcg,one-insn-per-tb=on", "-d", "exec,nochain"]);
    let mut qemu = qemu.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start QEMU")?;
    let log = qemu.stderr.take().context("the log was asked for")?;
    let costs = tracer.read(BufReader::with_capacity(1 << 20, log), measurements);
    // Resumed runs would follow, which nobody traces.
    qemu.kill()?;
    qemu.wait()?;
    let costs = costs?;
    let (empty, costs) = costs.split_first().context("the trace shows no measurement")?;
    let without = |cost: &Cost| Cost {
        instructions: cost.instructions.saturating_sub(empty.instructions),
        cycles: cost.cycles.saturating_sub(empty.cycles),
    };
    Ok(costs.iter().map(without).collect())
}

impl fmt::Display for TrainReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut header: Vec<String> = ["training", "shape", "MACs"].map(String::from).into();
        let builds = self.kernels.first().map_or(&[][..], |row| &row.builds);
        for figures in builds {
            let build = if figures.target_cpu.is_empty() { "generic" } else { figures.target_cpu };
            header.push(format!("instructions, {build}"));
            if figures.m4_cycles_estimate.is_some() {
                header.push(format!("M4 cycles (estimate), {build}"));
            }
        }
        header.extend(["best peer", "ratio"].map(String::from));
        let mut table = Table::new(2, header);
        let optional = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        for row in &self.kernels {
            let mut cells = vec![row.name.clone(), row.shape.clone(), row.macs.to_string()];
            for figures in &row.builds {
                cells.push(figures.instructions.to_string());
                cells.extend(figures.m4_cycles_estimate.map(|c| c.to_string()));
            }
            cells.push(optional(row.peer_instructions.map(|p| p.to_string())));
            cells.push(optional(row.ratio.map(|r| format!("{r:.3}"))));
            table.add_row(cells);
        }
        writeln!(f, "{}, {} in QEMU", self.board, self.core)?;
        if !self.kernels.is_empty() {
            writeln!(f, "{table}")?;
        }
        if !self.tuners.is_empty() {
            tuners::write(f, &self.tuners)?;
        }
        if !self.resumed.is_empty() {
            let (runs, boundaries) = (self.resumed.len(), self.resumed.iter().sum::<u32>());
            writeln!(
                f,
                "{runs} runs, saved and resumed at all their {boundaries} slice boundaries, end with the bits of the run in one piece"
            )?;
        }
        write!(f, "results equal the desktop's in every bit")
    }
}
