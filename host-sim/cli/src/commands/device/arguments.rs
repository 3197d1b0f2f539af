//! The arguments of `flatmin device`, and the device and the samples that they name.

use super::key;
use crate::arguments::{
    Adaptation, BasisArguments, CompactArguments, FurtherArguments, JudgementArguments, LossArguments,
    PageArguments, PartsArguments, SpareArguments, StepArguments, TuneOptions,
};
use crate::commands::emulate::log_sink;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use flatmin::Method;
use flatmin_link::device::Device;
use flatmin_link::emulate::{Firmware, Kind, Options};
use flatmin_model::packer::{PackFile, TailPlan};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::{Start, with_replay};
use indicatif::ProgressBar;
use std::path::PathBuf;

/// Ask a device on a serial port, a TCP socket or in QEMU: tune there, keep, roll back, watch, compare
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    after_help = "Examples:\n  flatmin device --port /dev/ttyACM0 info\n  \
    flatmin device --qemu riscv32-virt --flash pflash.bin tune --commit --wearer 3\n  \
    flatmin device --tcp localhost:4000 backup -o tail.bin"
)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Args)]
pub(super) struct Connection {
    #[command(flatten)]
    place: Place,
    /// Baud rate of --port
    #[arg(long, default_value_t = 115_200, global = true)]
    baud: u32,
    /// With --qemu: a file with the contents of the board's flash, made where there is none
    #[arg(long, value_name = "FILE", requires = "qemu")]
    flash: Option<PathBuf>,
    /// With --qemu: write the firmware's log here (default: standard error)
    #[arg(long, value_name = "FILE", requires = "qemu")]
    log: Option<PathBuf>,
    /// A file with the device's key: 64 hexadecimal digits. Needed where the firmware has the feature `signed`
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Place {
    /// A serial port, for instance /dev/ttyACM0
    #[arg(long)]
    port: Option<String>,
    /// A device on a TCP socket
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Option<String>,
    /// Build the firmware around the model and start it in QEMU
    #[arg(long, value_name = "BOARD")]
    qemu: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct Source {
    /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
    #[arg(long, requires = "data")]
    model: Option<PathBuf>,
    #[command(flatten)]
    adaptation: Adaptation,
    #[command(flatten)]
    basis: BasisArguments,
    #[command(flatten)]
    parts: PartsArguments,
    #[command(flatten)]
    spare: SpareArguments,
    #[command(flatten)]
    loss: LossArguments,
    #[command(flatten)]
    compact: CompactArguments,
}

/// How the device is to tune, or how the run is judged that it goes on with.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Run {
    #[command(flatten)]
    steps: StepArguments,
    #[command(flatten)]
    judgement: JudgementArguments,
}

/// A source, its recipe's file read.
#[derive(Debug)]
pub(super) struct Asked {
    source: Source,
    pub(super) options: TuneOptions,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Board, pack, samples, the tail in force, and what lies in the store's slots
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 info")]
    Info(Source),
    /// Send the samples, tune there, and check that the weights are the simulation's
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 tune --wearer 3 --commit")]
    Tune {
        /// Keep the last method's tail in the device's flash
        #[arg(long)]
        commit: bool,
        /// Slice by slice; between any two the device classifies and its weights are checked
        #[arg(long)]
        sliced: bool,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        run: Run,
        #[command(flatten)]
        page: PageArguments,
    },
    /// Classify test samples with the tail in force
    #[command(
        after_help = "Example: flatmin device --port /dev/ttyACM0 classify --model model.tflite --data x.npy y.npy"
    )]
    Classify(Source),
    /// What the device sees from now on: it keeps windows with this label, or those that its button is pressed for
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 label 3")]
    Label {
        /// The class, from 0 (default: none any more)
        class: Option<u16>,
        #[command(flatten)]
        source: Source,
    },
    /// Make a class of a spare output (`pack --spare-classes`), of the samples that wait for it
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 add-class")]
    AddClass(Source),
    /// Keep the tuned tail in the device's flash
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 commit")]
    Commit(Source),
    /// Take the last commit back
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 roll-back")]
    RollBack(Source),
    /// Back to the factory tail, in flash, too
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 factory-reset")]
    FactoryReset(Source),
    /// Loss, accuracy and sharpness over the samples that the device keeps, again and again
    #[command(
        after_help = "Example: flatmin device --port /dev/ttyACM0 monitor --interval 5 --drift-loss 1.5"
    )]
    Monitor {
        /// Seconds from one to the next
        #[arg(long, default_value_t = 1.0)]
        interval: f64,
        /// How often (default: until interrupted)
        #[arg(long)]
        count: Option<u64>,
        /// Call it drift where the running loss of the samples observed from now on is above this
        #[arg(long)]
        drift_loss: Option<f32>,
        /// Or where the running rise of their loss at a worst step of length 0.05 is
        #[arg(long)]
        drift_rise: Option<f32>,
        #[command(flatten)]
        source: Source,
    },
    /// Write the run under way into a file, wherever it stands; it stays on the device
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 pause -o run.bin")]
    Pause {
        /// Where to
        #[arg(short, long)]
        output: PathBuf,
        #[command(flatten)]
        source: Source,
    },
    /// Go on with a run from a file, to its end; a device without samples is sent those to tune on. Of a run that holds
    /// samples out give --held-out again: its tail is then taken only if it is the better one
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 resume run.bin --wearer 3")]
    Resume {
        /// What pause wrote
        input: PathBuf,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        run: Run,
    },
    /// Write the tuned tail into a file
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 backup -o tail.bin")]
    Backup {
        /// Where to
        #[arg(short, long)]
        output: PathBuf,
        /// Only what of the int8 tail differs from the factory's; the f32 weights are left out
        #[arg(long)]
        delta: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Put a tail from a file in force
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 restore tail.bin")]
    Restore {
        /// What backup or `export --delta` wrote
        input: PathBuf,
        #[command(flatten)]
        source: Source,
    },
    /// Give the device the key in the file that --key names, which is made where there is none; with a key, another one
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 provision --key device.key\n\n\
        To replace a key: flatmin device --port /dev/ttyACM0 --key old.key provision --new-key new.key")]
    Provision {
        /// The key to be kept in place of --key's
        #[arg(long, value_name = "FILE")]
        new_key: Option<PathBuf>,
        #[command(flatten)]
        source: Source,
    },
    /// Where device and simulation part, operator by operator
    #[command(after_help = "Example: flatmin device --port /dev/ttyACM0 diff --sample 5")]
    Diff {
        /// Which of the test samples
        #[arg(long, default_value_t = 0)]
        sample: usize,
        #[command(flatten)]
        source: Source,
    },
}

impl Action {
    /// What it is asked with, a recipe's file read.
    pub(super) fn read(&self) -> Result<Asked> {
        let (run, page) = (Run::default(), PageArguments::default());
        match self {
            Self::Tune { source, run, page, .. } => source.read(run, page),
            Self::Resume { source, run, .. } => source.read(run, &page),
            _ => self.source().read(&run, &page),
        }
    }

    fn source(&self) -> &Source {
        match self {
            Self::Info(source)
            | Self::Tune { source, .. }
            | Self::Label { source, .. }
            | Self::Classify(source)
            | Self::AddClass(source)
            | Self::Commit(source)
            | Self::RollBack(source)
            | Self::FactoryReset(source)
            | Self::Monitor { source, .. }
            | Self::Backup { source, .. }
            | Self::Pause { source, .. }
            | Self::Provision { source, .. }
            | Self::Resume { source, .. }
            | Self::Restore { source, .. }
            | Self::Diff { source, .. } => source,
        }
    }
}

impl Source {
    fn read(&self, run: &Run, page: &PageArguments) -> Result<Asked> {
        let Run { steps, judgement } = run.clone();
        let Self { parts, spare, loss, compact, .. } = self.clone();
        let further = FurtherArguments { parts, spare, loss, steps, judgement, compact, page: page.clone() };
        Ok(Asked { source: self.clone(), options: self.basis.clone().read(further)? })
    }
}

impl Asked {
    pub(super) fn pack(&self) -> Result<PackFile> {
        let subject = self.subject()?;
        subject.model.pack(self.tail(&subject)?)
    }

    pub(super) fn subject(&self) -> Result<Subject> {
        let model = self.source.model.as_deref();
        self.source
            .adaptation
            .calibrated_subject(model, &self.options)?
            .labelled("device")?
            .of_single_hops("device")
    }

    pub(super) fn tail(&self, subject: &Subject) -> Result<TailPlan> {
        self.options.tail_of_firmware(subject)
    }
}

impl Connection {
    /// The device, asked by the holder of its key, if one is named.
    pub(super) fn open(&self, source: &Asked, provisions: bool, bar: &ProgressBar) -> Result<Device> {
        // Before minutes of building.
        let key = match &self.key {
            Some(path) if !provisions || path.exists() => Some(key::read(path)?),
            _ => None,
        };
        let device = self.reach(source, bar)?;
        Ok(match key {
            Some(key) => device.with_key(key),
            None => device,
        })
    }

    fn reach(&self, source: &Asked, bar: &ProgressBar) -> Result<Device> {
        match &self.place {
            Place { port: Some(port), .. } => Device::serial(port, self.baud),
            Place { tcp: Some(address), .. } => Device::tcp(address),
            Place { qemu: Some(board), .. } => {
                let subject = source.subject()?;
                let tail = source.tail(&subject)?;
                let options = &source.options.for_tail(&subject, &tail)?;
                options.without_compact_closed_form()?;
                // Of a chain, the arena's size is the same for all methods, else ASAM takes most.
                let capacity = options.recipe_file.recipe.replay_capacity;
                let recipe = with_replay(&subject, options.recipe(Method::Asam), capacity)?;
                let sink = log_sink(self.log.as_deref(), bar)?;
                let (_, trainings) = options.trainings_on_device(&subject, &tail, options.tuner())?;
                let solver = trainings.iter().any(|own| own.start == Start::ClosedForm);
                let kind = Kind { tail: options.tuner(), solver, signed: self.key.is_some() };
                let firmware = Firmware::build_as(kind, board, &subject.model, &tail, &recipe, sink.clone())?;
                let started = Options { flash: self.flash.as_deref(), count_instructions: false };
                Device::emulated(firmware.image(), started, sink)
            }
            _ => bail!("no device: give --port, --tcp or --qemu"),
        }
    }
}
