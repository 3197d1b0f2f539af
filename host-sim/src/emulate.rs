//! Builds the firmware, runs it in QEMU and tunes there: the same data and seed as on the desktop, over the
//! emulated serial line.

use crate::model::Model;
use crate::packer::PackFile;
use crate::report::{CurvePoint, TuningRun};
use crate::tuning::{SHARPNESS_RHO, Subject, accuracy, method_name};
use anyhow::{Context, Result, bail};
use flatmin::wire::{self, Request, Response};
use flatmin::{MemoryPlan, Method, Recipe};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TARGET: &str = "thumbv7em-none-eabihf";
/// Latents that the firmware's arena holds (boards/qemu-mps2/src/main.rs).
const REPLAY_CAPACITY: u16 = 256;
/// With `-icount shift=6` an instruction takes 64 ns; the board's timer ticks every 40 ns.
const NANOSECONDS_AN_INSTRUCTION: u64 = 64;
const NANOSECONDS_A_TICK: u64 = 40;

/// A firmware with a model in it.
#[derive(Debug)]
pub struct Firmware {
    machine: String,
    executable: PathBuf,
    pack: PackFile,
}

impl Firmware {
    /// Builds the firmware of `board` around `model`.
    ///
    /// # Errors
    /// An unknown board, a missing target, or what the compiler says.
    pub fn build(board: &str, model: &Model, layers: usize) -> Result<Self> {
        if board != "mps2-an386" {
            bail!("no board `{board}`; there is mps2-an386");
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("host-sim lies in the checkout")?;
        let folder = root.join("boards/qemu-mps2");
        let target_folder = root.join("target/firmware");
        std::fs::create_dir_all(&target_folder)?;
        let pack = model.pack(layers)?;
        let pack_path = target_folder.join("emulated.pack");
        std::fs::write(&pack_path, pack.bytes())?;
        let mut cargo = Command::new("cargo");
        if let Some(toolchain) = toolchain()? {
            cargo.arg(toolchain);
        }
        // The host's own flags and toolchain must not reach the firmware.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO", "RUSTC"] {
            cargo.env_remove(variable);
        }
        let status = cargo
            .args(["build", "--release", "--quiet"])
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", &target_folder)
            .env("FLATMIN_PACK", &pack_path)
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("the firmware did not build");
        }
        let executable = target_folder.join(TARGET).join("release/qemu-mps2");
        Ok(Self { machine: board.to_owned(), executable, pack })
    }

    /// Tunes `subject` on the emulated board.
    ///
    /// # Errors
    /// QEMU missing, or what the device refuses.
    pub fn tune(&self, subject: &Subject, recipe: Recipe, epoch_done: impl Fn()) -> Result<TuningRun> {
        let recipe = Recipe { replay_capacity: REPLAY_CAPACITY, ..recipe };
        let mut device = Device::start(&self.machine, &self.executable)?;
        match device.ask(&Request::Identify)? {
            Answer::Identity(crc) if crc == self.pack.pack().crc32() => {}
            other => bail!("the device holds another pack: {other:?}"),
        }
        for (input, label) in &subject.adaptation {
            device.ask(&Request::Observe {
                label: u16::try_from(*label)?,
                input: bytemuck::cast_slice(input),
            })?;
        }
        device.ask(&Request::Start(recipe))?;
        let (mut ticks, mut losses, mut curve) = (0u64, Vec::new(), Vec::new());
        loop {
            let Answer::Stepped { epoch, loss, epoch_finished, finished, ticks: own } =
                device.ask(&Request::Step)?
            else {
                bail!("the device did not answer with a step");
            };
            ticks += u64::from(own);
            losses.push(f64::from(loss));
            if epoch_finished {
                let adaptation_loss = losses.iter().sum::<f64>() / losses.len() as f64;
                curve.push(CurvePoint {
                    epoch: u32::from(epoch) + 1,
                    adaptation_loss,
                    test_accuracy: f64::NAN,
                });
                losses.clear();
                epoch_done();
            }
            if finished {
                break;
            }
        }
        device.ask(&Request::Requantize)?;
        let classes = subject.classes.len();
        let (mut factory, mut tuned) = (vec![vec![0; classes]; classes], vec![vec![0; classes]; classes]);
        let (mut right_f32, mut loss_sum) = (0usize, 0.0);
        for (input, label) in &subject.test {
            let request =
                Request::Judge { label: u16::try_from(*label)?, input: bytemuck::cast_slice(input) };
            let Answer::Judged { factory: f, tuned_f32, tuned_int8: Some(int8), loss } =
                device.ask(&request)?
            else {
                bail!("the device did not answer with a judgement");
            };
            factory[*label][usize::from(f)] += 1;
            tuned[*label][usize::from(int8)] += 1;
            right_f32 += usize::from(usize::from(tuned_f32) == *label);
            loss_sum += f64::from(loss);
        }
        let Answer::Summary { weights_crc32, macs, sharpness } =
            device.ask(&Request::Summarize { rho: SHARPNESS_RHO })?
        else {
            bail!("the device did not answer with a summary");
        };
        let sizes = self.pack.pack().sizes();
        let plan = MemoryPlan::new(&sizes, &recipe);
        let tests = subject.test.len().max(1) as f64;
        Ok(TuningRun {
            subject: subject.name.clone(),
            method: method_name(recipe.method).to_owned(),
            rho: if recipe.method == Method::Sgd { 0.0 } else { recipe.rho },
            factory_accuracy: accuracy(&factory),
            accuracy_f32: right_f32 as f64 / tests,
            accuracy_int8: accuracy(&tuned),
            loss: loss_sum / tests,
            sharpness: f64::from(sharpness),
            memory: plan.by_purpose().map(|(purpose, bytes)| (purpose.to_owned(), bytes)).into(),
            train_ram_bytes: plan.total_bytes(),
            tail_parameters: sizes.tail_parameters(),
            macs,
            weights_crc32,
            instructions: Some(ticks * NANOSECONDS_A_TICK / NANOSECONDS_AN_INSTRUCTION),
            curve,
            confusion_factory: factory,
            confusion_tuned: tuned,
        })
    }
}

/// The toolchain argument for cargo: none if the default one has the target, `+embedded` if a toolchain of that
/// name has it.
fn toolchain() -> Result<Option<&'static str>> {
    for argument in [None, Some("+embedded")] {
        let mut rustc = Command::new("rustc");
        rustc.env_remove("RUSTUP_TOOLCHAIN").args(argument).args([
            "--print",
            "target-libdir",
            "--target",
            TARGET,
        ]);
        let output = rustc.stderr(Stdio::null()).output().context("cannot start rustc")?;
        let folder = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && Path::new(folder.trim()).is_dir() {
            return Ok(argument);
        }
    }
    bail!("no toolchain has the target {TARGET}: `rustup target add {TARGET}`")
}

#[derive(Debug)]
enum Answer {
    Identity(u32),
    Done,
    Stepped { epoch: u16, loss: f32, epoch_finished: bool, finished: bool, ticks: u32 },
    Judged { factory: u16, tuned_f32: u16, tuned_int8: Option<u16>, loss: f32 },
    Summary { weights_crc32: u32, macs: u64, sharpness: f32 },
}

/// An emulated device and the line to it.
struct Device {
    qemu: Child,
    line: BufReader<TcpStream>,
}

impl Drop for Device {
    fn drop(&mut self) {
        // It has nothing to save; a process that is gone already is fine.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Device {
    fn start(machine: &str, executable: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let mut qemu = Command::new("qemu-system-arm")
            .args(["-M", machine, "-display", "none", "-monitor", "none", "-icount", "shift=6"])
            .args(["-semihosting-config", "enable=on,target=native"])
            .args(["-serial", &format!("tcp:127.0.0.1:{port}")])
            .arg("-kernel")
            .arg(executable)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start qemu-system-arm: install QEMU 9.2 or newer")?;
        for _ in 0..200 {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                    return Ok(Self { qemu, line: BufReader::new(stream) });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        let _ = qemu.kill();
        bail!("QEMU did not open its serial line within 10 seconds")
    }

    fn ask(&mut self, request: &Request) -> Result<Answer> {
        let (mut scratch, mut frame) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let bytes = wire::encode(request, &mut scratch, &mut frame)?;
        self.line.get_mut().write_all(bytes)?;
        let mut incoming = Vec::new();
        self.line.read_until(0, &mut incoming).context("the device does not answer")?;
        Ok(match wire::decode::<Response>(&mut incoming).context("the device's answer")? {
            Response::Identity { pack_crc32, .. } => Answer::Identity(pack_crc32),
            Response::Done { .. } => Answer::Done,
            Response::Stepped { epoch, loss, epoch_finished, finished, ticks } => {
                Answer::Stepped { epoch, loss, epoch_finished, finished, ticks }
            }
            Response::Judged { factory, tuned_f32, tuned_int8, loss } => {
                Answer::Judged { factory, tuned_f32, tuned_int8, loss }
            }
            Response::Summary { weights_crc32, macs, sharpness, .. } => {
                Answer::Summary { weights_crc32, macs, sharpness }
            }
            Response::Refused(why) => bail!("the device refuses {request:?}: {why}"),
            other => bail!("the device answers {other:?}, which this version does not know"),
        })
    }
}
