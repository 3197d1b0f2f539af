//! The arguments of `flatmin`, and what clap refuses of them.

use crate::adaptation::Adaptation;
use crate::device_command::DeviceArguments;
use crate::sensors_command::SensorsArguments;
use crate::tune_options::{LossArgument, TuneOptions};
use clap::{Parser, Subcommand};
use flatmin::Recipe;
use host_sim::experiments::Experiment;
use host_sim::experiments::ledger::Shard;
use host_sim::new_board::Memory;
use host_sim::packer::Trains;
use std::path::PathBuf;

/// Fine-tunes the last layers of int8 networks with SAM and ASAM, by the code that runs on the microcontroller.
///
/// Without a command: tunes the bundled model for each of ten held-out wearers with SGD, SAM and ASAM, prints
/// one table and writes an HTML report.
#[derive(Debug, Parser)]
#[command(
    name = "flatmin",
    version,
    // Options in front of a command would be read and have no effect.
    args_conflicts_with_subcommands = true,
    after_help = "Example: flatmin --label-noise 0.2 --report report.html"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub options: TuneOptions,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tune one model: a held-out wearer's, or your own on your own data
    #[command(after_help = "Examples:\n  flatmin tune --wearer 3 --method asam --label-noise 0.2\n  \
        flatmin tune model.tflite --data x.npy y.npy --layers 2 --json\n  \
        flatmin tune autoencoder.tflite --data x.npy --loss mse --layers 1\n  \
        flatmin tune model.tflite --data windows.csv --auto=120")]
    Tune {
        /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
        #[arg(requires = "data")]
        model: Option<PathBuf>,
        #[command(flatten)]
        adaptation: Adaptation,
        /// Choose the recipe by nested validation on the samples to tune on, within so many seconds (60); methods and
        /// strengths are the search's unless --method names one
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60",
            value_parser = parse_seconds)]
        auto: Option<f64>,
        #[command(flatten)]
        options: TuneOptions,
    },
    /// Leave a class out of the last layer, add it again from samples, and tell what became of the others
    #[command(after_help = "Examples:\n  flatmin add-class --wearer 1 --leave-out 6\n  \
        flatmin add-class model.tflite --data x.npy y.npy --leave-out 3 --layers 1 --method sam --json")]
    AddClass {
        /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
        #[arg(requires = "data")]
        model: Option<PathBuf>,
        #[command(flatten)]
        adaptation: Adaptation,
        /// The class, from 0; it becomes the last one
        #[arg(long, value_name = "CLASS")]
        leave_out: usize,
        #[command(flatten)]
        options: TuneOptions,
    },
    /// Tune, and write the tuned layers back into the .tflite: it answers as the tuned device does
    #[command(after_help = "Examples:\n  flatmin export --wearer 3 --method asam -o tuned.tflite\n  \
        flatmin export model.tflite --data x.npy y.npy --method sam -o tuned.tflite")]
    Export {
        /// A full-integer int8 .tflite; without it the bundled model of --wearer
        #[arg(requires = "data")]
        model: Option<PathBuf>,
        #[command(flatten)]
        adaptation: Adaptation,
        /// Where to write the tuned .tflite
        #[arg(short, long)]
        output: PathBuf,
        /// Also write what of the tail differs from the factory's: `flatmin device restore` takes it
        #[arg(long, value_name = "FILE")]
        delta: Option<PathBuf>,
        #[command(flatten)]
        options: TuneOptions,
    },
    /// Build the firmware, run it in QEMU with the same data and seed, and compare it with the desktop
    #[command(after_help = "Examples:\n  flatmin emulate --board mps2-an386 --method sam --json\n  \
        flatmin emulate model.tflite --data x.npy y.npy --layers 1 --method asam")]
    Emulate {
        /// A board of docs/boards.md that runs in QEMU; mps2-an386-m0plus is a Cortex-M0+ there
        #[arg(long, default_value = "mps2-an386")]
        board: String,
        /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
        #[arg(requires = "data")]
        model: Option<PathBuf>,
        /// Write the firmware's log here (default: standard error)
        #[arg(long)]
        log: Option<PathBuf>,
        #[command(flatten)]
        adaptation: Adaptation,
        #[command(flatten)]
        options: TuneOptions,
    },
    /// Ask a device on a serial port, behind a socket or in QEMU: tune there, keep, roll back, watch, compare
    #[command(after_help = "Examples:\n  flatmin device --port /dev/ttyACM0 info\n  \
        flatmin device --qemu riscv32-virt --flash pflash.bin tune --commit --wearer 3\n  \
        flatmin device --tcp localhost:4000 backup -o tail.bin")]
    Device(DeviceArguments),
    /// Begin a further board: a crate that builds and runs, with TO DO where the chip's drivers go
    #[command(
        after_help = "Example: flatmin new-board nucleo-f429zi --chip STM32F429ZITx --flash 0x08000000:2M \
        --ram 0x20000000:192K"
    )]
    NewBoard {
        /// The crate's name and the board's: small letters, digits, hyphens
        name: String,
        /// The chip, as probe-rs calls it
        #[arg(long)]
        chip: String,
        /// The chip's flash, as far as the firmware may have it: address and size
        #[arg(long, value_name = "ADDRESS:SIZE")]
        flash: Memory,
        /// The chip's RAM, in one piece
        #[arg(long, value_name = "ADDRESS:SIZE")]
        ram: Memory,
        /// rustc's target (default: that of the chip, if it is known)
        #[arg(long)]
        target: Option<String>,
        /// The model, as `flatmin pack` wrote it (default: the bundled one, two layers of which take 131 KiB)
        #[arg(long)]
        pack: Option<PathBuf>,
        /// Make it in this folder (default: this checkout's boards)
        #[arg(long)]
        folder: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Run the sensors' applications on recordings, as the device does on what it measures
    #[command(after_help = "Examples:\n  flatmin sensors motion --wearer 3\n  \
        flatmin sensors keywords kws_ref_model.tflite --wavs clips --speaker 893705bb")]
    Sensors(SensorsArguments),
    /// Layers, shapes, scales and MACs of a model, and what training each possible tail would take
    #[command(after_help = "Example: flatmin inspect model.tflite --json")]
    Inspect {
        /// A full-integer int8 .tflite or QDQ .onnx
        model: PathBuf,
        /// Labelled samples that the device keeps
        #[arg(long, default_value_t = Recipe::DEFAULT.replay_capacity)]
        replay_capacity: u16,
        /// Samples that share one ascent: more than one takes a gradient buffer
        #[arg(long, default_value_t = Recipe::DEFAULT.sharpness_batch)]
        sharpness_batch: u16,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Search what to train: which layers, and what of them, within a budget of RAM and multiply-adds; half of every
    /// class has no say and tests
    #[command(after_help = "Examples:\n  flatmin plan --wearer 1 --ram 96K\n  \
        flatmin plan model.tflite --ram 64K --macs 2000000 --data x.npy y.npy --method sam --report plan.html")]
    Plan {
        /// A full-integer int8 .tflite or QDQ .onnx; without it the bundled model of --wearer
        #[arg(requires = "data")]
        model: Option<PathBuf>,
        /// All RAM that a firmware may take: bytes, or KiB with a K, MiB with an M
        #[arg(long, value_parser = parse_bytes)]
        ram: usize,
        /// Multiply-adds that a sample's share of a step may take
        #[arg(long)]
        macs: Option<u64>,
        #[command(flatten)]
        adaptation: Adaptation,
        /// --layers is how far back to search (default: 8), --method what to train with (default: sam)
        #[command(flatten)]
        options: TuneOptions,
    },
    /// Write the device format, and a Rust file with its constants beside it
    #[command(
        after_help = "Examples:\n  flatmin pack model.tflite --layers 3 --train biases,biases,all -o model.pack\n  \
            flatmin pack model.tflite --layers 1 --spare-classes 2 -o model.pack"
    )]
    Pack {
        /// A full-integer int8 .tflite or QDQ .onnx
        model: PathBuf,
        /// Layers with weights to train, counted from the end; 0 packs it for inference alone (default: 2,
        /// or 1 if the network has no more)
        #[arg(long)]
        layers: Option<usize>,
        /// What of each layer is trained, first to last; the rest whole
        #[arg(long, value_delimiter = ',', value_name = "WHAT,WHAT")]
        train: Vec<Trains>,
        /// What its tail is to be tuned with (default: binary cross-entropy where the network ends in a logistic
        /// function, else cross-entropy)
        #[arg(long)]
        loss: Option<LossArgument>,
        /// Spare outputs behind the known classes, for classes that are added on the device
        #[arg(long, default_value_t = 0, value_name = "N")]
        spare_classes: usize,
        /// Where to write the pack; the Rust file gets the same name with .rs
        #[arg(short, long)]
        output: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Instructions of the kernels, or of a model's operators, on an emulated board; nanoseconds on this machine
    #[command(after_help = "Examples:\n  flatmin bench --board mps2-an386\n  \
        flatmin bench --board mps3-an547 model.tflite --json\n  flatmin bench --board host model.tflite\n  \
        flatmin bench --board mps3-an547 --grid target/operator-grid\n  \
        flatmin bench --board mps2-an386 --train --only b16_sgd\n  flatmin bench --board host --train   (beside PyTorch, if \
        FLATMIN_PYTHON names a Python that has it)")]
    Bench {
        /// mps2-an386 (Cortex-M4F), mps3-an547 (M55), mps2-an505 (M33), microbit (M0), cortex-m0plus, riscv32, or host
        #[arg(long)]
        board: String,
        /// A full-integer int8 .tflite or QDQ .onnx; without it four kernel shapes (host: and the bundled model)
        model: Option<PathBuf>,
        /// Also run the generated layers and compare their outputs with the desktop's
        #[arg(long)]
        cases: bool,
        /// Also run a folder of single-operator models and compare their outputs with LiteRT's, which lie there
        /// (host-sim/tests/operators/generate.py makes it)
        #[arg(long, value_name = "FOLDER")]
        grid: Option<PathBuf>,
        /// What training costs instead: passes of trainable layers, and steps of SGD, SAM and ASAM
        #[arg(long, conflicts_with_all = ["model", "cases", "grid"])]
        train: bool,
        /// With --train: of that, what has a name that this is part of
        #[arg(long, value_name = "NAME", requires = "train", default_value = "", hide_default_value = true)]
        only: String,
        /// With --train on mps2-an386: minutes faster, without cycles, which take a trace of every instruction
        #[arg(long, requires = "train")]
        without_cycles: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Measure what SAM and ASAM do for a device that fine-tunes, and write tables and figures
    #[command(after_help = "Examples:\n  flatmin experiment noisy-labels --output results\n  \
        flatmin experiment finetune --data-folder data\n  \
        flatmin experiment noisy-labels --shard 2/8 --output results   (again when all shards are done: choices \
        come before results)")]
    Experiment {
        /// Which
        name: Experiment,
        /// Few wearers, draws and trials: for directions, not for digits
        #[arg(long)]
        quick: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Everything random derives from it
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Do this part of the runs alone, I of N; results of all parts merge by lying in one folder
        #[arg(long, value_name = "I/N")]
        shard: Option<Shard>,
        /// Folder of the data that are not bundled (fsdd, gas_drift, gesture_magic_wand, cifar10); what is not there
        /// is skipped
        #[arg(long, default_value = "../shared/data", value_name = "FOLDER")]
        data_folder: PathBuf,
        /// Folder of the results; what is there is not computed again
        #[arg(long, default_value = "flatmin-experiments")]
        output: PathBuf,
    },
    /// Plain int8 inference with the crate's own kernels
    #[command(after_help = "Example: flatmin run model.tflite --input x.npy --output y.npy")]
    Run {
        /// A full-integer int8 .tflite or QDQ .onnx
        model: PathBuf,
        /// int8 or float32 .npy, batch first; float32 is quantized with the model's input parameters. Once for
        /// each input of the model
        #[arg(long, required = true)]
        input: Vec<PathBuf>,
        /// Where to write the network's outputs, batch first, in the model's own type. Once for each output
        #[arg(long, required = true)]
        output: Vec<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|&bytes| bytes > 0).ok_or_else(|| "must be a number of bytes, such as 65536 or 64K".into())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1e6).contains(&seconds) { Ok(seconds) } else { Err("must be from 0 to a million".into()) }
}
