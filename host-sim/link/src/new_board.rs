//! The skeleton of a further board's crate: it builds, its stack overflows into a fault, and what is to be filled in says
//! TO DO.

use crate::firmware::sources;
use anyhow::{Context, Result, bail, ensure};
use flatmin::{Recipe, Sizes};
use flatmin_app::RamBudget;
use flatmin_model::inspect::pack_constants;
use flatmin_model::output::write_file;
use flatmin_model::packer::PackFile;
use flatmin_model::recipe_file::training_constants;
use flatmin_sim::tuning::Tail;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the stack gets: what the application is allowed, and room for a HAL's interrupts.
const STACK_BYTES: u32 = 12 << 10;

/// What is tuned where no pack is named.
const BUNDLED: &[u8] = include_bytes!("../../../boards/app/model.pack");
/// The pack's file in the crate.
const PACK_NAME: &str = "model.pack";

/// Fewer samples than that are no training set.
const FEWEST_SAMPLES: u16 = 8;

/// Chips by the begin of their names, as probe-rs spells them, and their targets.
const CHIPS: [(&str, &str); 24] = [
    ("STM32F0", V6M),
    ("STM32L0", V6M),
    ("STM32G0", V6M),
    ("STM32C0", V6M),
    ("nRF51", V6M),
    ("STM32F3", V7EM),
    ("STM32F4", V7EM),
    ("STM32F7", V7EM),
    ("STM32H7", V7EM),
    ("STM32G4", V7EM),
    ("STM32L4", V7EM),
    ("STM32WB5", V7EM),
    ("STM32WB1", V7EM),
    ("nRF52", V7EM),
    ("STM32H5", V8M),
    ("STM32L5", V8M),
    ("STM32U3", V8M),
    ("STM32U5", V8M),
    ("STM32N6", V8M),
    ("STM32WBA", V8M),
    ("nRF53", V8M),
    ("nRF54", V8M),
    ("nRF91", V8M),
    ("CH32V2", "riscv32imac-unknown-none-elf"),
];
const V6M: &str = "thumbv6m-none-eabi";
const V7EM: &str = "thumbv7em-none-eabihf";
const V8M: &str = "thumbv8m.main-none-eabihf";

/// Chips that the skeleton is not for: why, and what to do. The first that fits.
const OTHERS: [(&str, &str); 7] = [
    ("ESP32C", OWN_ESP32),
    ("ESP32H", OWN_ESP32),
    ("ESP32P", OWN_ESP32),
    (
        "ESP32",
        "has an Xtensa core, which rustc has no target for; boards are Cortex-M or RISC-V, as the ESP32-C3 is",
    ),
    ("RP235", "starts in its own way: copy boards/pico2"),
    (
        "RP2040",
        "starts with a second-stage bootloader in the first 256 bytes of its flash, which this skeleton has not; \
        copy boards/pico2, and put crate rp2040-boot2 in the place of its start block",
    ),
    ("STM32MP", "starts as its Cortex-A has it do: flatmin has no board of that kind"),
];
const OWN_ESP32: &str = "starts in its own way: copy boards/esp32-c3";

/// What to say where the chip is not known.
const TARGETS: &str = "thumbv6m-none-eabi (Cortex-M0, M0+), thumbv7em-none-eabihf (M4F, M7), thumbv8m.main-none-eabihf \
    (M33, M55, M85) or riscv32imac-unknown-none-elf";

/// A range of the chip's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// First address.
    pub origin: u32,
    /// Bytes.
    pub bytes: u32,
}

impl FromStr for Memory {
    type Err = String;

    /// `0x08000000:512K`; K and M are 1,024 and 1,024 times that.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: an address and a size are expected, as in 0x20000000:128K");
        let (origin, bytes) = text.split_once(':').ok_or_else(wrong)?;
        let origin = origin.strip_prefix("0x").ok_or_else(wrong)?;
        let origin = u32::from_str_radix(origin, 16).map_err(|_| wrong())?;
        let (digits, unit) = match bytes.split_at_checked(bytes.len().wrapping_sub(1)) {
            Some((digits, "K")) => (digits, 1 << 10),
            Some((digits, "M")) => (digits, 1 << 20),
            _ => (bytes, 1),
        };
        let bytes = digits.parse::<u32>().ok().and_then(|count| count.checked_mul(unit)).ok_or_else(wrong)?;
        let inside = bytes > 0 && origin.checked_add(bytes - 1).is_some();
        if inside && origin.is_multiple_of(4) { Ok(Self { origin, bytes }) } else { Err(wrong()) }
    }
}

/// What a board's crate is made of.
#[derive(Debug)]
pub struct NewBoard {
    name: String,
    chip: String,
    target: String,
    flash: Memory,
    ram: Memory,
    pack: PackFile,
    capacity: u16,
}

impl NewBoard {
    /// A board around `chip`, as probe-rs calls it. The target is that of the chip, if it is known, else one has to be
    /// given. The arena gets as many samples of the pack's model (by default, the bundled one) as the RAM has room for, up
    /// to the default recipe's.
    ///
    /// # Errors
    /// A name that is no crate's, an unknown chip without a target, a pack that cannot be read, too little RAM.
    pub fn new(
        name: &str,
        chip: &str,
        target: Option<&str>,
        [flash, ram]: [Memory; 2],
        pack: Option<&Path>,
    ) -> Result<Self> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        ensure!(
            name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_plain),
            "{name}: a board's name has small letters, digits and hyphens, and begins with a letter"
        );
        ensure!(
            !chip.is_empty() && chip.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
            "{chip}: no chip is called so; `probe-rs chip list` has their names"
        );
        // probe-rs has esp32c3 and STM32F4.
        let is_one = |begin: &str| chip.get(..begin.len()).is_some_and(|own| own.eq_ignore_ascii_case(begin));
        if let Some((_, why)) = OTHERS.iter().find(|(begin, _)| is_one(begin)) {
            bail!("{chip} {why}");
        }
        let known = CHIPS.iter().find(|(begin, _)| is_one(begin)).map(|&(_, target)| target);
        let Some(target) = target.or(known) else {
            bail!("{chip}: this chip's target is not known here; give it with --target: {TARGETS}");
        };
        ensure!(
            target.starts_with("thumb") || target.starts_with("riscv32"),
            "{target}: boards are Cortex-M (thumb…) or riscv32…"
        );
        let pack = match pack {
            Some(path) => read(path)?,
            None => PackFile::new(BUNDLED),
        };
        let capacity = capacity(&pack.pack().sizes(), ram)?;
        let (name, chip, target) = (name.to_owned(), chip.to_owned(), target.to_owned());
        Ok(Self { name, chip, target, flash, ram, pack, capacity })
    }

    /// The target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Samples that the arena holds.
    pub fn capacity(&self) -> u16 {
        self.capacity
    }

    /// Writes the crate into a folder of its name inside `parent` (by default, this checkout's boards).
    ///
    /// # Errors
    /// A folder that is there already; those of the file system.
    pub fn write(&self, parent: Option<&Path>) -> Result<PathBuf> {
        let boards = sources("`flatmin new-board`")?.join("boards");
        let folder = parent.unwrap_or(&boards).join(&self.name);
        ensure!(!folder.exists(), "{} is there already; choose another name", folder.display());
        let paths = if parent.is_none() { "..".to_owned() } else { boards.display().to_string() };
        std::fs::create_dir_all(folder.join("src"))?;
        std::fs::create_dir_all(folder.join(".cargo"))?;
        let includes = parent.is_some_and(|parent| is_outside(parent, &boards));
        let mut files: Vec<(&str, Vec<u8>)> =
            self.files(&paths, includes).map(|(file, text)| (file, text.into_bytes())).into();
        files.push((PACK_NAME, self.pack.bytes().to_vec()));
        for (file, bytes) in files {
            let path = folder.join(file);
            write_file(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(folder)
    }

    /// The files; `boards` leads to the crates that they depend on. `includes` what firmware there is compiled with.
    fn files(&self, boards: &str, includes: bool) -> [(&'static str, String); 7] {
        let arm = self.target.starts_with("thumb");
        // Cores without compare-and-swap.
        let lacks_atomics = self.target == V6M || self.target.starts_with("riscv32imc-");
        let more = if lacks_atomics {
            "# Atomics, which this core has not, inside critical sections.\n\
             portable-atomic = { version = \"1\", default-features = false, features = [\"critical-section\"] }\n"
        } else {
            ""
        };
        let (own, more, defmt) = if arm {
            let own = "cortex-m = { version = \"0.7.10\", features = [\"critical-section-single-core\"] }\n\
                       cortex-m-rt = { version = \"0.7.7\", features = [\"paint-stack\"] }\n";
            let crates =
                format!("flatmin-systick = {{ path = \"{boards}/systick\" }}\npanic-probe = \"1\"\n{more}");
            (own, crates, ", \"panic-probe/print-defmt\"")
        } else {
            let crates = format!(
                "{more}riscv = {{ version = \"0.16\", features = [\"critical-section-single-hart\"] }}\nriscv-rt = \"0.18\"\n"
            );
            ("", crates, "")
        };
        let defmt = format!("[\"dep:defmt\", \"dep:defmt-rtt\", \"flatmin-firmware/defmt\"{defmt}]");
        // riscv-rt's script includes memory.x only where it is told.
        let first = if arm { "" } else { "    println!(\"cargo:rustc-link-arg=-Tmemory.x\");\n" };
        let flags =
            format!("# What all firmware is compiled with.\ninclude = ['{boards}/.cargo/config.toml']\n\n");
        let address = |memory: Memory| format!("{:#010x}", memory.origin);
        let fields = [
            ("{uart}", include_str!("new_board/uart.rs.in").to_owned()),
            ("{name}", self.name.clone()),
            ("{chip}", self.chip.clone()),
            ("{target}", self.target.clone()),
            ("{flash}", address(self.flash)),
            ("{flash_bytes}", self.flash.bytes.to_string()),
            ("{ram}", address(self.ram)),
            ("{ram_bytes}", self.ram.bytes.to_string()),
            ("{stack_bytes}", STACK_BYTES.to_string()),
            ("{boards}", boards.to_owned()),
            ("{flags}", if includes { flags } else { String::new() }),
            ("{defmt}", defmt),
            ("{own}", own.to_owned()),
            ("{more}", more),
            ("{first}", first.to_owned()),
        ];
        let fill = |template: &str| {
            fields.iter().fold(template.to_owned(), |text, (field, value)| text.replace(field, value))
        };
        let (memory, main) = if arm {
            (include_str!("new_board/cortex_m.x.in"), include_str!("new_board/cortex_m.rs.in"))
        } else {
            (include_str!("new_board/riscv.x.in"), include_str!("new_board/riscv.rs.in"))
        };
        [
            ("Cargo.toml", fill(include_str!("new_board/Cargo.toml.in"))),
            ("build.rs", fill(include_str!("new_board/build.rs.in"))),
            ("memory.x", fill(memory)),
            (".cargo/config.toml", fill(include_str!("new_board/config.toml.in"))),
            ("Embed.toml", fill(include_str!("new_board/Embed.toml.in"))),
            ("src/main.rs", fill(main)),
            ("model.rs", self.constants()),
        ]
    }
}

impl NewBoard {
    /// What `boards/firmware` is built around: the pack beside it, in f32, with an arena for as many samples as there is room for.
    fn constants(&self) -> String {
        let recipe = Recipe { replay_capacity: self.capacity, ..Recipe::DEFAULT };
        pack_constants(&self.pack, PACK_NAME) + &training_constants(Tail::Full, &recipe, false)
    }
}

/// Whether cargo does not find the configuration of `boards` by itself, for a crate in `parent`.
fn is_outside(parent: &Path, boards: &Path) -> bool {
    let inside = |parent: PathBuf| boards.canonicalize().is_ok_and(|boards| parent.starts_with(boards));
    !parent.canonicalize().is_ok_and(inside)
}

/// A pack in a file.
fn read(path: &Path) -> Result<PackFile> {
    let bytes = std::fs::read(path).with_context(|| format!("no pack {}", path.display()))?;
    let file = PackFile::new(&bytes);
    file.check().with_context(|| path.display().to_string())?;
    Ok(file)
}

/// Samples that the RAM has room for beside the stack.
fn capacity(sizes: &Sizes, ram: Memory) -> Result<u16> {
    let total = |replay_capacity: u16| {
        let budget = RamBudget::new(sizes, &Recipe { replay_capacity, ..Recipe::DEFAULT });
        // The stack's part is larger here.
        budget.total_bytes() - budget.stack + STACK_BYTES as usize
    };
    let mut room = (FEWEST_SAMPLES..=Recipe::DEFAULT.replay_capacity).rev();
    room.find(|&capacity| total(capacity) <= ram.bytes as usize).with_context(|| {
        format!(
            "the model takes {} bytes of RAM with {FEWEST_SAMPLES} samples, this chip has {}; \
             pack fewer layers to tune, or a smaller model, and name it: --pack small.pack",
            total(FEWEST_SAMPLES),
            ram.bytes
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flatmin_model::model::Model;

    const FLASH: Memory = Memory { origin: 0x0800_0000, bytes: 512 << 10 };
    const RAM: Memory = Memory { origin: 0x2000_0000, bytes: 192 << 10 };

    #[test]
    fn memories_are_read_or_refused() {
        assert_eq!("0x08000000:512K".parse(), Ok(FLASH));
        assert_eq!("0x20000000:196608".parse(), Ok(RAM));
        assert_eq!("0x0:2M".parse(), Ok(Memory { origin: 0, bytes: 2 << 20 }));
        for wrong in
            ["", "0x0", "0:1K", "0x0:", "0x0:K", "0x0:0", "0x0:5G", "0x2:1K", "0xffffff00:1K", "0x0:4096M"]
        {
            assert!(wrong.parse::<Memory>().unwrap_err().contains("0x20000000:128K"), "{wrong}");
        }
    }

    #[test]
    fn chips_have_targets_and_what_is_wrong_is_named() {
        let board = |name: &str, chip: &str, target| NewBoard::new(name, chip, target, [FLASH, RAM], None);
        for (chip, target) in [
            ("STM32L476RGTx", V7EM),
            ("nRF5340_xxAA", V8M),
            ("STM32G0B1RETx", V6M),
            ("STM32N657X0HxQ", V8M),
            ("STM32WBA52CGUx", V8M),
            ("STM32WB55RGVx", V7EM),
            ("nRF54L15_xxAA", V8M),
            ("nRF52840_xxAA", V7EM),
            ("CH32V208", "riscv32imac-unknown-none-elf"),
        ] {
            assert_eq!(board("mine", chip, None).unwrap().target(), target);
        }
        assert_eq!(board("mine", "GD32E230", Some(V8M)).unwrap().target(), V8M);
        let why = |name, chip, target| board(name, chip, target).unwrap_err().to_string();
        let unknown = why("mine", "GD32E230", None);
        assert!(unknown.contains("--target") && unknown.contains(V8M) && unknown.contains(V6M), "{unknown}");
        assert!(why("mine", "GD32E230", Some("x86_64-unknown-linux-gnu")).contains("riscv32"));
        assert!(why("Mine", "nRF52832_xxAA", None).contains("small letters"));
        assert!(why("mine", "nRF52832\"", None).contains("probe-rs chip list"));
        assert!(why("mine", "esp", None).contains("--target"));
        for (chip, what) in [
            ("ESP32C3", "boards/esp32-c3"),
            ("esp32c6", "boards/esp32-c3"),
            ("esp32s3", "Xtensa"),
            ("ESP32", "Xtensa"),
            ("RP2350", "boards/pico2"),
            ("RP2040", "rp2040-boot2"),
        ] {
            let why = why("mine", chip, None);
            assert!(why.starts_with(chip) && why.contains(what), "{why}");
            let s3 = what == "Xtensa";
            assert_eq!(why.contains("copy boards"), !s3, "{why}");
        }
        let little = [FLASH, Memory { bytes: 128 << 10, ..RAM }];
        let why = NewBoard::new("mine", "STM32F401CC", None, little, None).unwrap_err().to_string();
        assert!(why.contains("131072") && why.contains("--pack"), "{why}");
    }

    /// One layer instead of two, in 64 KiB; a file that is no pack is refused by name.
    #[test]
    fn a_smaller_pack_fits_a_smaller_chip() {
        let folder = tempfile::tempdir().unwrap();
        let (small, wrong) = (folder.path().join("small.pack"), folder.path().join("wrong.pack"));
        let model = Model::bundled("one".to_owned(), flatmin_sim::wearers::model_bytes(1).unwrap()).unwrap();
        std::fs::write(&small, model.pack(1).unwrap().bytes()).unwrap();
        std::fs::write(&wrong, b"nonsense").unwrap();
        let memory = [FLASH, Memory { bytes: 64 << 10, ..RAM }];
        let board = |pack: &Path| NewBoard::new("mine", "STM32F401RE", None, memory, Some(pack));
        let written = board(&small).unwrap().write(Some(folder.path())).unwrap();
        assert_eq!(std::fs::read(written.join("model.pack")).unwrap(), std::fs::read(&small).unwrap());
        let constants = std::fs::read_to_string(written.join("model.rs")).unwrap();
        assert!(constants.contains("    tail_layers: 1,"), "{constants}");
        assert!(format!("{:#}", board(&wrong).unwrap_err()).contains("wrong.pack"));
        assert!(board(Path::new("none")).unwrap_err().to_string().contains("none"));
    }

    /// Cargo looks for its configuration in all folders above a crate: what lies there must not be included as well.
    #[test]
    fn what_firmware_is_compiled_with_is_said_once() {
        let new = |name| NewBoard::new(name, "STM32F429ZITx", None, [FLASH, RAM], None).unwrap();
        let boards = sources("this test").unwrap().join("boards");
        let config = |written: PathBuf| std::fs::read_to_string(written.join(".cargo/config.toml")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        let included = config(new("outside").write(Some(outside.path())).unwrap());
        let line = included.lines().find_map(|line| line.strip_prefix("include = ['")?.strip_suffix("']"));
        assert!(std::fs::read_to_string(line.unwrap()).unwrap().contains("rustflags = ["), "{included}");
        assert!(!new("inside").files("..", false)[3].1.contains("include"));
        for inside in [boards.clone(), boards.join("app"), boards.join("app/..")] {
            assert!(!is_outside(&inside, &boards), "{}", inside.display());
        }
        assert!(is_outside(&boards.join(".."), &boards));
    }

    /// As many samples as fit, by the same sums that size the firmware's statics.
    #[test]
    fn the_arena_fills_the_ram() {
        let sizes = Sizes::of(flatmin::include_pack!("../../../boards/app/model.pack"));
        let capacity = |bytes| capacity(&sizes, Memory { bytes, ..RAM }).unwrap();
        assert_eq!(capacity(512 << 10), Recipe::DEFAULT.replay_capacity);
        let samples = capacity(140 << 10);
        assert!((FEWEST_SAMPLES..Recipe::DEFAULT.replay_capacity).contains(&samples), "{samples}");
        // Two samples more take 392 bytes more.
        assert!(capacity((140 << 10) + 400) > samples);
    }

    #[test]
    fn no_field_is_left_open_and_a_folder_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        for (name, target) in [("arm", V7EM), ("small", V6M), ("risc", "riscv32imc-unknown-none-elf")] {
            let board = NewBoard::new(name, "STM32F429ZITx", Some(target), [FLASH, RAM], None).unwrap();
            let written = board.write(Some(folder.path())).unwrap();
            for (file, text) in board.files("..", false) {
                let open = text.match_indices('{').filter(|&(at, _)| {
                    let rest = &text[at + 1..];
                    rest.find('}').is_some_and(|end| {
                        end > 0 && rest[..end].chars().all(|c| c.is_ascii_lowercase() || c == '_')
                    })
                });
                assert_eq!(open.count(), 0, "{file}: {text}");
                assert!(written.join(file).is_file());
            }
            assert!(board.write(Some(folder.path())).unwrap_err().to_string().contains("already"));
        }
    }
}
