//! What this machine has of what firmware, emulators, Python and C need, and how to get the rest.

use crate::firmware::{BOARDS, sources, toolchain};
use serde::Serialize;
use std::fmt;
use std::process::{Command, Stdio};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// `flatmin emulate` and `flatmin device --qemu`.
    Emulate,
    /// Firmware on a board of one's own.
    Device,
    /// The Python package.
    Python,
    /// The static library for firmware in C.
    C,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulate => "emulate",
            Self::Device => "device",
            Self::Python => "python",
            Self::C => "c",
        })
    }
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is there, new enough.
    Found,
    /// It is there, too old.
    Old,
    /// It is not there.
    Missing,
}

/// One thing that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub state: State,
    /// Its version or place, where it is there.
    pub found: Option<String>,
    /// What cannot be done without it.
    pub needed_for: Vec<Purpose>,
    /// What only some of these need it for; empty where it is needed in any case.
    pub only_for: String,
    /// How to get it, where it is missing or too old.
    pub remedy: Option<String>,
}

impl Finding {
    /// Whether `purpose` cannot do without it, and has to.
    pub fn stops(&self, purpose: Purpose) -> bool {
        self.state != State::Found && self.only_for.is_empty() && self.needed_for.contains(&purpose)
    }
}

/// A program that says its version.
struct Tool {
    name: &'static str,
    /// Programs, the first that is there counts, with what makes them say their version.
    commands: &'static [&'static [&'static str]],
    least: (u32, u32),
    needed_for: &'static [Purpose],
    only_for: &'static str,
    remedy: &'static str,
}

const TOOLS: [Tool; 7] = [
    Tool {
        name: "Rust compiler",
        commands: &[&["rustc", "--version"]],
        least: (1, 95),
        needed_for: &[Purpose::Emulate, Purpose::Device, Purpose::Python, Purpose::C],
        only_for: "",
        remedy: "install rustup from https://rustup.rs, then `rustup update stable`",
    },
    Tool {
        name: "QEMU for Arm",
        commands: &[&["qemu-system-arm", "--version"]],
        least: (9, 2),
        needed_for: &[Purpose::Emulate],
        only_for: "",
        remedy: "install QEMU 9.2 or newer: `bash tests/setup-qemu.sh` in a checkout, `apt install qemu-system-arm`, `dnf install qemu-system-arm` or `brew install qemu`",
    },
    Tool {
        name: "QEMU for RISC-V",
        commands: &[&["qemu-system-riscv32", "--version"]],
        least: (9, 2),
        needed_for: &[Purpose::Emulate],
        only_for: "riscv32-virt",
        remedy: "install QEMU 9.2 or newer: `bash tests/setup-qemu.sh` in a checkout, `apt install qemu-system-misc`, `dnf install qemu-system-riscv` or `brew install qemu`",
    },
    Tool {
        name: "probe-rs",
        commands: &[&["probe-rs", "--version"]],
        least: (0, 0),
        needed_for: &[Purpose::Device],
        only_for: "",
        remedy: "`cargo install probe-rs-tools --locked`, or https://probe.rs/docs/getting-started/installation",
    },
    Tool {
        name: "espflash",
        commands: &[&["espflash", "--version"]],
        least: (0, 0),
        needed_for: &[Purpose::Device],
        only_for: "ESP32-C3",
        remedy: "`cargo install espflash --locked`",
    },
    Tool {
        name: "Python",
        commands: &[&["python3", "--version"], &["python", "--version"]],
        least: (3, 10),
        needed_for: &[Purpose::Python],
        only_for: "",
        remedy: "install Python 3.10 or newer from your package manager or https://www.python.org, with pip",
    },
    Tool {
        name: "C compiler for Arm",
        commands: &[&["arm-none-eabi-gcc", "--version"]],
        least: (0, 0),
        needed_for: &[Purpose::C],
        only_for: "",
        remedy: "`bash tests/setup-c.sh` in a checkout, `apt install gcc-arm-none-eabi`, or https://developer.arm.com/downloads/-/arm-gnu-toolchain-downloads",
    },
];

/// All that is looked for.
pub fn examine() -> Vec<Finding> {
    let mut findings: Vec<Finding> = TOOLS.iter().map(Tool::find).collect();
    let rust = findings.first().is_some_and(|own| own.state != State::Missing);
    findings.extend(targets().into_iter().map(|target| found_target(target, rust)));
    let root = sources("this");
    findings.push(Finding {
        name: "flatmin's sources".into(),
        state: if root.is_ok() { State::Found } else { State::Missing },
        found: root.as_ref().ok().map(|root| root.display().to_string()),
        needed_for: vec![Purpose::Emulate, Purpose::C],
        only_for: String::new(),
        remedy: root.err().map(|_| "run flatmin in a checkout, or name one in FLATMIN_SOURCES".into()),
    });
    findings
}

/// The targets of emulated boards and of the ESP32-C3, each with the boards that need it; the default board's is first and
/// needed in any case.
fn targets() -> Vec<(&'static str, String)> {
    let mut targets: Vec<(&str, String)> = Vec::new();
    for board in BOARDS {
        match targets.iter_mut().find(|(target, _)| *target == board.target) {
            Some((_, boards)) => *boards += &format!(", {}", board.name),
            None => targets.push((board.target, board.name.to_owned())),
        }
    }
    if let Some((_, boards)) = targets.first_mut() {
        boards.clear();
    }
    targets.push(("riscv32imc-unknown-none-elf", "ESP32-C3".into()));
    targets
}

fn found_target((target, only_for): (&str, String), rust: bool) -> Finding {
    let found = if rust { toolchain(target).ok() } else { None };
    let emulated = BOARDS.iter().any(|board| board.target == target);
    let mut needed_for = vec![Purpose::Device];
    if emulated {
        needed_for.insert(0, Purpose::Emulate);
    }
    if only_for.is_empty() {
        needed_for.push(Purpose::C);
    }
    Finding {
        name: format!("target {target}"),
        state: if found.is_some() { State::Found } else { State::Missing },
        remedy: found.is_none().then(|| format!("`rustup target add {target}`")),
        found: found.map(|argument| argument.unwrap_or("default toolchain").to_owned()),
        needed_for,
        only_for,
    }
}

impl Tool {
    fn find(&self) -> Finding {
        let answer = self.commands.iter().find_map(|command| first_line(command));
        let version = answer.as_deref().and_then(version);
        let state = match (&answer, version) {
            (None, _) => State::Missing,
            (Some(_), Some(version)) if version < self.least => State::Old,
            (Some(_), _) => State::Found,
        };
        Finding {
            name: self.name.to_owned(),
            state,
            found: answer.map(|line| numbered(&line).unwrap_or(&line).to_owned()),
            needed_for: self.needed_for.to_vec(),
            only_for: self.only_for.to_owned(),
            remedy: (state != State::Found).then(|| self.remedy.to_owned()),
        }
    }
}

/// The first line that a program prints.
fn first_line(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// The word with the version in what a program says.
fn numbered(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

/// The first two numbers with a point between them.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut numbers = word.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_programs_say_them() {
        for (text, expected) in [
            ("QEMU emulator version 9.2.0 (Debian 1:9.2.0+ds-2~bpo12+1)", Some((9, 2))),
            ("rustc 1.95.0 (59807616e 2026-04-14)", Some((1, 95))),
            ("arm-none-eabi-gcc (15:12.2.rel1-1) 12.2.1 20221205", Some((12, 2))),
            ("Python 3.9", Some((3, 9))),
            ("probe-rs", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn every_emulated_board_has_its_target_among_them_once() {
        let targets = targets();
        for board in BOARDS {
            let own: Vec<_> = targets.iter().filter(|(target, _)| *target == board.target).collect();
            assert!(
                own.len() == 1 && (own[0].1.is_empty() || own[0].1.contains(board.name)),
                "{}",
                board.name
            );
        }
        assert!(targets[0].1.is_empty(), "the default board is no exception");
    }
}
