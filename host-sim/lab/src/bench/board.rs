//! Instruction counts on emulated boards.
//!
//! QEMU's `-icount shift=6` lets every instruction take 64 ns of virtual time; the board's own clock reads that
//! time before and after a kernel, and what measuring nothing takes is subtracted. The count is the same in every
//! run; a QEMU plugin that counts executed instructions gave the same to within five.

use super::code::CodeSize;
use super::grid::Grid;
use super::instructions::{self, Expectation};
use super::lines::{Line, parse};
use super::references::{
    Reference, case_references, front_end_references, kernel_references, operator_references,
};
use anyhow::{Context, Result, bail, ensure};
use flatmin_link::firmware::{self, sources};
use flatmin_model::model::Model;
use flatmin_model::table::Table;
use serde::Serialize;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PICOSECONDS_AN_INSTRUCTION: u64 = 64_000;
/// The longest run so far takes 10 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// An emulated machine.
#[derive(Debug, Clone, Copy)]
pub struct Emulated {
    /// What `--board` calls it.
    pub name: &'static str,
    /// QEMU's name of it.
    machine: &'static str,
    /// Its core, for people.
    pub core: &'static str,
    target: &'static str,
    /// rustc's name of the core; empty for the target's own.
    pub(super) cpu: &'static str,
    package: &'static str,
    qemu: &'static [&'static str],
    picoseconds_a_tick: u64,
    /// What its kernels must multiply with.
    instructions: &'static [Expectation],
    /// Whether a generated layer fits into its RAM.
    pub(super) holds_cases: bool,
    /// Instructions of CMSIS-NN's kernels on this core, in the order of `flatmin_bench::KERNELS`: built with GCC 12
    /// at its best of -O2 and -Ofast, counted in QEMU.
    cmsis_nn: [Option<u64>; 4],
}

const ARM: &[&str] =
    &["qemu-system-arm", "-serial", "null", "-semihosting-config", "enable=on,target=native"];
const RISCV: &[&str] = &[
    "qemu-system-riscv32",
    "-bios",
    "none",
    "-serial",
    "stdio",
    "-semihosting-config",
    "enable=on,target=native",
];

/// All machines that there is a benchmark for.
pub const BOARDS: [Emulated; 6] = [
    Emulated {
        name: "mps2-an386",
        machine: "mps2-an386",
        core: "Cortex-M4F",
        target: "thumbv7em-none-eabihf",
        cpu: "cortex-m4",
        package: "bench-cortex-m",
        qemu: ARM,
        picoseconds_a_tick: 40_000,
        instructions: instructions::DSP,
        holds_cases: true,
        cmsis_nn: [Some(160_036), Some(1_373_108), Some(560_966), Some(1_068_916)],
    },
    Emulated {
        name: "mps3-an547",
        machine: "mps3-an547",
        core: "Cortex-M55",
        target: "thumbv8m.main-none-eabihf",
        cpu: "cortex-m55",
        package: "bench-cortex-m",
        qemu: ARM,
        picoseconds_a_tick: 31_250,
        instructions: instructions::HELIUM,
        holds_cases: true,
        cmsis_nn: [Some(40_158), Some(228_755), Some(166_871), Some(202_867)],
    },
    Emulated {
        name: "mps2-an505",
        machine: "mps2-an505",
        core: "Cortex-M33",
        target: "thumbv8m.main-none-eabihf",
        cpu: "cortex-m33",
        package: "bench-cortex-m",
        qemu: ARM,
        picoseconds_a_tick: 50_000,
        instructions: instructions::DSP,
        holds_cases: true,
        cmsis_nn: [None; 4],
    },
    Emulated {
        name: "microbit",
        machine: "microbit",
        core: "Cortex-M0",
        target: "thumbv6m-none-eabi",
        cpu: "cortex-m0",
        package: "bench-cortex-m",
        qemu: ARM,
        picoseconds_a_tick: 62_500,
        instructions: &[],
        holds_cases: false,
        cmsis_nn: [None; 4],
    },
    // QEMU's only Armv6-M board has 16 KB of RAM. The code of a Cortex-M0+ runs on an M4 too, instruction by
    // instruction.
    Emulated {
        name: "cortex-m0plus",
        machine: "mps2-an386",
        core: "Cortex-M0+'s code on a Cortex-M4F",
        target: "thumbv6m-none-eabi",
        cpu: "cortex-m0plus",
        package: "bench-cortex-m",
        qemu: ARM,
        picoseconds_a_tick: 40_000,
        instructions: &[],
        holds_cases: true,
        cmsis_nn: [None; 4],
    },
    Emulated {
        name: "riscv32",
        machine: "virt",
        core: "riscv32imafc",
        target: "riscv32imafc-unknown-none-elf",
        cpu: "",
        package: "bench-riscv32",
        qemu: RISCV,
        picoseconds_a_tick: PICOSECONDS_AN_INSTRUCTION,
        instructions: &[],
        holds_cases: true,
        cmsis_nn: [None; 4],
    },
];

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The kernel, or the operator's index and name.
    pub name: String,
    /// Input and output.
    pub shape: String,
    /// Multiply-adds.
    pub macs: u64,
    /// Instructions of the whole kernel; none if it does not fit into the board.
    pub instructions: Option<u64>,
    /// Both.
    pub instructions_per_mac: Option<f64>,
    /// CMSIS-NN's instructions.
    pub cmsis_nn: Option<u64>,
    /// Ours divided by theirs.
    pub ratio: Option<f64>,
}

/// What a board took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoardReport {
    /// What `--board` calls it.
    pub board: String,
    /// Its core.
    pub core: String,
    /// Kernels, or a model's operators.
    pub kernels: Vec<Row>,
    /// Machine code of the benchmark's firmware, in bytes: with a model the kernels of its operators alone.
    pub code: CodeSize,
    /// Generated cases whose outputs equalled the desktop's.
    pub cases_equal: Option<usize>,
    /// Instructions of the microphone's front end, whose features equalled the desktop's.
    pub front_end: Option<FrontEnd>,
    /// Single-operator models whose outputs equalled LiteRT's.
    pub grid_equal: Option<usize>,
}

/// Instructions of the microphone's front end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FrontEnd {
    /// Of 20 ms of sound.
    pub hop: u64,
    /// Of the features of the last second.
    pub features: u64,
}

/// What a board runs beside the four shapes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras<'a> {
    /// The generated layers.
    pub cases: bool,
    /// Single-operator models with LiteRT's outputs.
    pub grid: Option<&'a Grid>,
}

impl Extras<'_> {
    fn any(&self) -> bool {
        self.cases || self.grid.is_some()
    }
}

impl Emulated {
    /// The board called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<Self> {
        let names = BOARDS.map(|b| b.name).join(", ");
        let found = BOARDS.into_iter().find(|b| b.name == name);
        found.with_context(|| format!("no board `{name}`; there are {names}, and host"))
    }

    /// Builds the benchmark, with `model` in it or the four shapes, and says where it is.
    ///
    /// # Errors
    /// A missing target, or what the compiler says.
    pub fn build(&self, pack: Option<&[u8]>, extras: Extras) -> Result<PathBuf> {
        self.compile(self.name, self.cpu, |cargo, target_folder| {
            if extras.cases {
                cargo.env("FLATMIN_CASES", "1");
            }
            if let Some(grid) = extras.grid {
                cargo.env("FLATMIN_GRID", "1");
                std::fs::write(target_folder.join("grid.bin"), grid.bytes())?;
            }
            if let Some(pack) = pack {
                let path = target_folder.join("model.pack");
                std::fs::write(&path, pack)?;
                cargo.env("FLATMIN_PACK", path);
            }
            Ok(())
        })
    }

    /// Builds into a folder of this name, for a core by rustc's name or, if that is empty, for the target's own.
    pub(super) fn compile(
        &self,
        folder: &str,
        cpu: &str,
        content: impl FnOnce(&mut Command, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let root = sources("`flatmin bench --board`")?;
        let target_folder = root.join("target/bench").join(folder);
        let mut cargo = firmware::cargo(&root, self.package, self.target, cpu, &target_folder)?;
        for variable in [
            "FLATMIN_PACK",
            "FLATMIN_TUNERS",
            "FLATMIN_CASES",
            "FLATMIN_GRID",
            "FLATMIN_TRAIN",
            "FLATMIN_ONLY",
        ] {
            cargo.env_remove(variable);
        }
        cargo.env("FLATMIN_BOARD", self.machine);
        content(&mut cargo, &target_folder)?;
        let status = cargo.status().context("cannot start cargo")?;
        ensure!(status.success(), "the benchmark for {} did not build: does the model fit?", self.name);
        Ok(target_folder.join(self.target).join("release").join(self.package))
    }

    /// Runs the four shapes and `extras` beside them, or every operator of `model`.
    ///
    /// # Errors
    /// QEMU missing, or an output that is not the desktop's, or for the grid not LiteRT's.
    pub fn measure(&self, model: Option<&Model>, extras: Extras) -> Result<BoardReport> {
        ensure!(
            !extras.any() || self.holds_cases,
            "{} has too little RAM for the generated layers",
            self.name
        );
        ensure!(
            !extras.any() || model.is_none(),
            "the generated layers run beside the four shapes, not beside a model"
        );
        let file = model.map(|m| m.pack(0)).transpose()?;
        let references = match (model, &file) {
            (Some(model), Some(file)) => operator_references(model, file)?,
            _ => kernel_references()?,
        };
        let executable = self.build(file.as_ref().map(|f| f.bytes()), extras)?;
        if model.is_none() {
            // A model's firmware need not have every kernel.
            instructions::check(&executable, self.instructions)?;
        }
        let lines = parse(&self.run(&mut self.emulator(&executable)?)?)?;
        let empty = lines.iter().find_map(|l| if let Line::Empty(t) = l { Some(*t) } else { None });
        let empty = empty.with_context(|| format!("{} printed nothing", self.name))?;
        let expected = references.len();
        let mut references = references.into_iter();
        let anchors = if model.is_some() { [None; 4] } else { self.cmsis_nn };
        let mut anchors = anchors.into_iter();
        let mut kernels = Vec::new();
        for line in &lines {
            let found = match line {
                Line::Measured(_, ticks, crc32) => Some((ticks.saturating_sub(empty), crc32)),
                Line::Skipped(_) => None,
                _ => continue,
            };
            let reference = references.next().context("the board ran more than it was asked to")?;
            kernels.push(self.row(reference, found, anchors.next().flatten())?);
        }
        ensure!(kernels.len() == expected, "{} ran {} of {expected} kernels", self.name, kernels.len());
        let cases_equal = if extras.cases { Some(check_cases(&lines)?) } else { None };
        let front_end = if extras.cases { Some(self.check_front_end(&lines, empty)?) } else { None };
        let grid_equal = extras.grid.map(|grid| grid.check(&lines)).transpose()?;
        ensure!(lines.last() == Some(&Line::End), "{} did not finish", self.name);
        let (board, core) = (self.name.into(), self.core.into());
        Ok(BoardReport {
            board,
            core,
            kernels,
            code: CodeSize::of(&executable)?,
            cases_equal,
            front_end,
            grid_equal,
        })
    }

    fn check_front_end(&self, lines: &[Line], empty: u64) -> Result<FrontEnd> {
        let mut counts = Vec::new();
        for (part, expected) in front_end_references()? {
            let of_part = |line: &Line| match line {
                Line::FrontEnd(name, ticks, crc32) if *name == part => Some((*ticks, crc32.clone())),
                _ => None,
            };
            let (ticks, found) = lines
                .iter()
                .find_map(of_part)
                .with_context(|| format!("the front end's {part} did not run"))?;
            ensure!(found == expected, "the front end's {part}: CRC-32 {found}, the desktop's {expected}");
            counts.push(self.instructions_in(ticks.saturating_sub(empty)));
        }
        let &[hop, features] = counts.as_slice() else { bail!("the front end has another number of parts") };
        Ok(FrontEnd { hop, features })
    }

    fn row(&self, reference: Reference, found: Option<(u64, &String)>, cmsis_nn: Option<u64>) -> Result<Row> {
        let Reference { name, shape, macs, crc32 } = reference;
        if let Some((_, found)) = found
            && *found != crc32
        {
            bail!("{name} on {}: the output's CRC-32 is {found}, the desktop's {crc32}", self.name);
        }
        let instructions = found.map(|(ticks, _)| self.instructions_in(ticks));
        let per = |other: u64| instructions.filter(|_| other > 0).map(|i| i as f64 / other as f64);
        let (instructions_per_mac, ratio) = (per(macs), per(cmsis_nn.unwrap_or(0)));
        Ok(Row { name, shape, macs, instructions, instructions_per_mac, cmsis_nn, ratio })
    }

    /// Instructions that so many ticks of the board's clock are.
    pub(super) fn instructions_in(&self, ticks: u64) -> u64 {
        (ticks * self.picoseconds_a_tick + PICOSECONDS_AN_INSTRUCTION / 2) / PICOSECONDS_AN_INSTRUCTION
    }

    /// The emulator with the firmware in it.
    pub(super) fn emulator(&self, executable: &Path) -> Result<Command> {
        let (program, arguments) = self.qemu.split_first().context("a board names its emulator")?;
        let folder = executable.ancestors().nth(3).context("the executable lies in its target folder")?;
        let mut qemu = Command::new(program);
        qemu.args(["-M", self.machine, "-display", "none", "-monitor", "none", "-icount", "shift=6"])
            .args(arguments)
            .arg("-kernel")
            .arg(executable)
            // Where the firmware finds what is handed to it.
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Ok(qemu)
    }

    /// What an emulator prints until it ends.
    pub(super) fn run(&self, qemu: &mut Command) -> Result<String> {
        let program = qemu.get_program().to_string_lossy().into_owned();
        let mut qemu = qemu.spawn().with_context(|| format!("cannot start {program}: install QEMU"))?;
        let mut stdout = qemu.stdout.take().context("the output was asked for")?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = qemu.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                qemu.kill()?;
                qemu.wait()?;
                bail!("{} did not finish within {} s: has it too little RAM?", self.name, PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let Ok(text) = reader.join() else { bail!("reading the board's output failed") };
        let text = text?;
        ensure!(status.success(), "{} failed: {status}\n{text}", self.name);
        Ok(text)
    }
}

fn check_cases(lines: &[Line]) -> Result<usize> {
    let found: Vec<&String> =
        lines.iter().filter_map(|l| if let Line::Case(crc32) = l { Some(crc32) } else { None }).collect();
    let expected = case_references();
    ensure!(found.len() == expected.len(), "{} of {} cases ran", found.len(), expected.len());
    for (index, (found, expected)) in found.into_iter().zip(&expected).enumerate() {
        ensure!(found == expected, "case {index}: the output's CRC-32 is {found}, the desktop's {expected}");
    }
    Ok(expected.len())
}

impl fmt::Display for BoardReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let heading = ["kernel", "shape", "MACs", "instructions", "per MAC", "CMSIS-NN", "ratio"];
        let mut table = Table::new(2, heading);
        let optional = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        for row in &self.kernels {
            table.add_row([
                row.name.clone(),
                row.shape.clone(),
                row.macs.to_string(),
                row.instructions.map_or("does not fit".into(), |i| i.to_string()),
                optional(row.instructions_per_mac.map(|r| format!("{r:.3}"))),
                optional(row.cmsis_nn.map(|a| a.to_string())),
                optional(row.ratio.map(|r| format!("{r:.3}"))),
            ]);
        }
        writeln!(f, "{}, {} in QEMU", self.board, self.core)?;
        writeln!(f, "{table}")?;
        let total: u64 = self.kernels.iter().filter_map(|row| row.instructions).sum();
        let macs: u64 = self.kernels.iter().filter(|r| r.instructions.is_some()).map(|r| r.macs).sum();
        write!(f, "all: {macs} MACs, {total} instructions; outputs equal the desktop's")?;
        if let Some(cases) = self.cases_equal {
            write!(f, ", and so do {cases} generated layers'")?;
        }
        let CodeSize { firmware, flatmin } = self.code;
        write!(f, "\ncode: {firmware} bytes in the firmware, {flatmin} of them flatmin's")?;
        if let Some(FrontEnd { hop, features }) = self.front_end {
            let second = 50 * hop + features;
            write!(
                f,
                "\nmicrophone's front end: {hop} instructions a hop of 20 ms, {features} for a second's features, "
            )?;
            write!(f, "{second} in all if asked once a second; features equal the desktop's")?;
        }
        if let Some(models) = self.grid_equal {
            write!(f, "\n{models} single-operator models: every output byte equals LiteRT's")?;
        }
        Ok(())
    }
}
