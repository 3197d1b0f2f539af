//! `flatmin device` as users run it, against riscv32 `virt` in QEMU behind a socket: tune, keep, pull the plug, go on.
//!
//! Part of the slow tests.

use crate::skipping;

use assert_cmd::Command;
use flatmin::Recipe;
use flatmin_link::emulate::{Firmware, LogSink};
use flatmin_sim::subject::Subject;
use flatmin_sim::tuning::sized;
use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A machine that whoever connects talks to; killed with this.
struct Machine {
    qemu: Child,
    address: String,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Machine {
    fn start(kernel: &Path, flash: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let qemu = std::process::Command::new("qemu-system-riscv32")
            .args(["-M", "virt", "-bios", "none", "-display", "none", "-monitor", "none"])
            .args(["-semihosting-config", "enable=on,target=native"])
            .args(["-serial", &format!("tcp:{address},server=on,wait=off,nodelay=on")])
            .args(["-drive", &format!("if=pflash,unit=1,format=raw,file={}", flash.display())])
            .arg("-kernel")
            .arg(kernel)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let up = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            TcpStream::connect(&address).is_ok()
        });
        assert!(up, "QEMU does not listen");
        Self { qemu, address }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::cargo_bin("flatmin").unwrap();
        command.args(["device", "--tcp", &self.address]).args(arguments.split_whitespace());
        command
    }

    fn json(&self, arguments: &str) -> Value {
        let output = self.command(arguments).arg("--json").assert().success().get_output().stdout.clone();
        let document = serde_json::from_slice(&output).unwrap();
        let definition = match arguments.split_whitespace().next().unwrap() {
            "classify" => "classified",
            "add-class" => "label",
            "commit" | "roll-back" | "factory-reset" => "in_force",
            "backup" | "pause" => "file",
            "restore" => "restored",
            "resume" => "resumed",
            "provision" => "provisioned",
            "monitor" => "monitored",
            // tune, info, label, diff
            own => own,
        };
        crate::cli::schema::check(definition, &document);
        document
    }

    fn error(&self, arguments: &str) -> String {
        let output = self.command(arguments).assert().failure().get_output().clone();
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn a_device_is_tuned_kept_pulled_and_compared_over_its_line() {
    if !skipping::emulating("qemu-system-riscv32") {
        return;
    }
    // The packs of bundled wearers have the others' statistics, from which heads are solved.
    let subject = Subject::wearer(2, 9, 0.0, 1).unwrap().calibrated(2).unwrap();
    let recipe = sized(&subject, Recipe::DEFAULT).unwrap();
    let firmware = Firmware::build("riscv32-virt", &subject.model, 2, &recipe, LogSink::new(|_| {})).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (flash, file) = (folder.path().join("pflash.bin"), folder.path().join("tail.bin"));
    std::fs::write(&flash, vec![0xFF; 32 << 20]).unwrap();
    let machine = Machine::start(firmware.image().path(), &flash);

    let info = machine.json("info");
    assert_eq!((&info["samples"], &info["tuned"]), (&0.into(), &false.into()));
    assert_eq!(info["slot_states"], serde_json::json!(["blank", "blank"]));
    let factory = info["weights_crc32"].clone();
    assert_eq!(machine.json("monitor --count 1")["metrics"], serde_json::json!([null]));
    for early in ["commit", "roll-back"] {
        assert!(machine.error(early).contains("the device refuses"));
    }
    assert!(machine.error("tune --wearer 3 --epochs 1").contains("another pack"));
    assert!(machine.error("tune --wearer 2 --windows-per-class 10 --epochs 1").contains("70 samples"));

    // Steps too small to move an int8 weight: the factory's tail stays, and there is nothing to keep.
    let unmoved = "tune --wearer 2 --method sgd --epochs 1 --learning-rate 1e-9 --held-out 0.2 --commit";
    let said = machine.command(unmoved).assert().success().get_output().stdout.clone();
    assert!(String::from_utf8(said).unwrap().contains("nothing was committed"));
    assert_eq!(machine.json("info")["sequence"], Value::Null);

    // It fails where the weights are not the simulation's.
    let tuned = machine.json("tune --wearer 2 --method asam --epochs 3");
    let run = &tuned["runs"][0];
    let crc32 = run["weights_crc32"].clone();
    assert_ne!(crc32, factory);
    let metrics = &machine.json("monitor --count 2 --interval 0.1")["metrics"];
    assert_eq!(metrics[0], metrics[1]);
    assert_eq!(metrics[0]["samples"], 63);
    assert!(metrics[0]["accuracy"].as_f64().unwrap() > 0.5 && metrics[0]["sharpness"].is_f64());
    let classified = machine.json("classify --wearer 2");
    assert_eq!(classified["tuned"], true);
    assert_eq!(classified["accuracy"], run["accuracy_int8"]);
    let compared = machine.json("diff --wearer 2 --sample 5");
    assert_eq!(compared["parting"], Value::Null);
    assert!(compared["operators"].as_array().unwrap().len() >= 10);

    // The tail as a file: away from the device and back, with the same answers.
    let path = file.display();
    machine.json(&format!("backup -o {path}"));
    assert_eq!(machine.json("factory-reset")["weights_crc32"], factory);
    assert_ne!(machine.json("classify --wearer 2"), classified);
    assert_eq!(machine.json(&format!("restore {path}"))["weights_crc32"], crc32);
    assert_eq!(machine.json("classify --wearer 2"), classified);
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[5_000] ^= 4;
    let other = folder.path().join("damaged.bin");
    std::fs::write(&other, damaged).unwrap();
    assert!(machine.error(&format!("restore {}", other.display())).contains("damaged"));

    // Kept, it outlasts the machine.
    assert_eq!(machine.json("commit")["sequence"], 1);
    drop(machine);
    let machine = Machine::start(firmware.image().path(), &flash);
    let info = machine.json("info");
    assert_eq!((&info["sequence"], &info["weights_crc32"]), (&1.into(), &crc32));
    assert_eq!(machine.json("classify --wearer 2"), classified);
    let rolled_back = machine.json("roll-back");
    assert_eq!((&rolled_back["sequence"], &rolled_back["weights_crc32"]), (&Value::Null, &factory));

    // The head in closed form, tuned over the line: in force, kept, there after the plug was pulled, better than the factory's.
    let solved = machine.json("tune --wearer 2 --method closed-form --commit");
    let run = &solved["runs"][0];
    assert_eq!((&run["method"], solved["runs"].as_array().unwrap().len()), (&"closed-form".into(), 1));
    let command = "tune --wearer 2 --layers 2 --method closed-form --json";
    let desktop = Command::cargo_bin("flatmin").unwrap().args(command.split_whitespace()).assert().success();
    let desktop: Value = serde_json::from_slice(&desktop.get_output().stdout).unwrap();
    assert_eq!(run["weights_crc32"], desktop["runs"][0]["weights_crc32"]);
    let accuracy = |name: &str| run["subjects"][0][name].as_f64().unwrap();
    assert!(accuracy("accuracy_int8") > accuracy("factory_accuracy") + 0.01, "{run}");
    drop(machine);
    let machine = Machine::start(firmware.image().path(), &flash);
    let info = machine.json("info");
    assert!(info["sequence"].is_u64(), "{info}");
    assert_eq!(info["weights_crc32"], run["weights_crc32"]);
    let classified = machine.json("classify --wearer 2");
    assert_eq!((&classified["tuned"], &classified["accuracy"]), (&true.into(), &run["accuracy_int8"]));
    // Held-out samples judge it on the device as they do on the desktop.
    let judged = machine.json("tune --wearer 2 --method closed-form --held-out 0.2");
    assert!(judged["runs"][0]["subjects"][0]["verdict"].is_object(), "{judged}");
}
