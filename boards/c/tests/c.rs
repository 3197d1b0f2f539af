//! The header is that of the code, and a C program ends in the bits of a Rust one: on the desktop, and on a Cortex-M4F in
//! QEMU where `arm-none-eabi-gcc` is installed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flatmin::{Arena, Method, Pack, Recipe, Sizes, Tuner, include_pack};

const PACK: &[u8] = include_pack!("../../../tests/examples/motion.pack");
const RECIPE: Recipe = Recipe { held_out: 0.2, ..Recipe::DEFAULT };
const ARENA_BYTES: usize = Sizes::of(PACK).train_bytes(&RECIPE);

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}{errors}");
    said
}

#[test]
fn the_header_is_that_of_the_code() {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    cbindgen::generate_with_config(folder(), config).unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = folder().join("include/flatmin.h");
    if std::env::var_os("FLATMIN_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept == made, "include/flatmin.h is not the code's: FLATMIN_WRITE_HEADER=1 cargo test");
}

/// Tunes on the gestures of examples/main.c in Rust alone: the weights after SGD, SAM and ASAM.
fn in_rust() -> [u32; 3] {
    let mut arena = Box::new(Arena::<ARENA_BYTES>::new());
    let mut tuner = Tuner::new(Pack::new(PACK).unwrap(), RECIPE, arena.bytes()).unwrap();
    let mut noise = 1u32;
    for index in 0..60 {
        let label = index % 3;
        let window: [i8; 600] = core::array::from_fn(|at| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let shaken = if at % 6 == label { ((at / 6 + index) % 10) as i32 * 12 - 54 } else { 0 };
            (shaken + (noise >> 28) as i32 - 8) as i8
        });
        tuner.observe(&window, label).unwrap();
    }
    [Method::Sgd, Method::Sam, Method::Asam].map(|method| {
        tuner.factory_reset();
        tuner.start(Recipe { method, learning_rate: 0.05, ..RECIPE }).unwrap();
        while !tuner.step().unwrap().finished {}
        tuner.accept().unwrap();
        tuner.weights_crc32()
    })
}

/// The pack as C, and where it lies.
fn pack_in_c(build: &Path) -> PathBuf {
    let mut text =
        String::from("#include <stddef.h>\n#include <stdint.h>\n_Alignas(16) const uint8_t model_pack[] = {");
    for byte in PACK {
        write!(text, "{byte},").unwrap();
    }
    write!(text, "}};\nconst size_t model_pack_bytes = {};\n", PACK.len()).unwrap();
    let path = build.join("model_pack.c");
    std::fs::write(&path, text).unwrap();
    path
}

/// Builds the static library of a target; the desktop's where none is named.
fn library(target: Option<&str>) -> PathBuf {
    let own: PathBuf =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder().join("target"), Into::into);
    let own = own.join("c-library");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["rustc", "--release", "--quiet", "--lib", "--crate-type", "staticlib", "--target-dir"])
        .arg(&own);
    cargo.current_dir(folder()).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let Some(target) = target else {
        run(&mut cargo);
        return own.join("release");
    };
    cargo.args(["--target", target]).env("FLATMIN_PACK", folder().join("../../tests/examples/motion.pack"));
    let libraries = run(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    if !Path::new(libraries.trim()).exists() {
        // Where rustup has no bare-metal targets, a toolchain of its own has them.
        cargo.env("RUSTUP_TOOLCHAIN", "embedded");
    }
    run(&mut cargo);
    own.join(target).join("release")
}

fn check(said: &str) {
    let lines: Vec<&str> = said.lines().collect();
    let after = |line: &str, word: &str| -> u32 {
        let rest = line.split(word).nth(1).unwrap_or_else(|| panic!("{word}: {line}"));
        rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let own = in_rust();
    assert_eq!(lines[1], "a kept tail is in force: no", "{said}");
    for (method, crc32) in own.iter().enumerate() {
        let line = lines[2 + method];
        assert_eq!(after(line, "weights_crc32"), *crc32, "{said}");
        assert!(after(line, "tuned") > after(line, "factory") && line.contains(", accepted,"), "{said}");
    }
    let kept = lines[5];
    assert!(kept.contains("in force: yes"), "{said}");
    assert_eq!(after(kept, "weights_crc32"), own[2], "{said}");
    let (_, right) = kept.rsplit_once(", ").unwrap();
    let right: u32 = right.split(' ').next().unwrap().parse().unwrap();
    assert!(right > 45, "{said}");
    assert!(lines[6].contains("not as long as the network's"), "{said}");
    assert!(lines[7].contains("no output for this label"), "{said}");
    assert!(lines[8].contains("no run is under way"), "{said}");
    assert!(lines[9].contains("no pack"), "{said}");
}

#[test]
fn a_c_program_ends_in_the_bits_of_a_rust_one() {
    let build = tempfile::tempdir().unwrap();
    let program = build.path().join("main");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-I"]).arg(folder().join("include"));
    cc.args(["main.c", "host.c"].map(|file| folder().join("examples").join(file)))
        .arg(pack_in_c(build.path()));
    cc.arg("-L").arg(library(None)).args(["-lflatmin_c", "-lm", "-lpthread", "-ldl", "-o"]).arg(&program);
    run(&mut cc);
    check(&run(&mut Command::new(&program)));
}

#[test]
fn a_c_firmware_on_a_cortex_m4f_ends_in_the_bits_of_the_desktop() {
    for tool in ["arm-none-eabi-gcc", "qemu-system-arm"] {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("SKIPPED: no {tool} here; the C firmware was not run");
            return;
        }
    }
    let build = tempfile::tempdir().unwrap();
    let firmware = build.path().join("firmware.elf");
    let mut gcc = Command::new("arm-none-eabi-gcc");
    gcc.args([
        "-std=c11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-mcpu=cortex-m4",
        "-mthumb",
        "-mfloat-abi=hard",
    ]);
    gcc.args(["-mfpu=fpv4-sp-d16", "-ffreestanding", "-fno-builtin", "-nostdlib", "-Wl,--gc-sections", "-I"]);
    gcc.arg(folder().join("include")).arg("-T").arg(folder().join("examples/mps2-an386.ld"));
    gcc.args(["main.c", "mps2-an386.c"].map(|file| folder().join("examples").join(file)))
        .arg(pack_in_c(build.path()));
    gcc.arg("-L")
        .arg(library(Some("thumbv7em-none-eabihf")))
        .args(["-lflatmin_c", "-lgcc", "-o"])
        .arg(&firmware);
    run(&mut gcc);
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args(["-machine", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none"]);
    qemu.args(["-chardev", "stdio,id=log", "-semihosting-config", "enable=on,target=native,chardev=log"]);
    qemu.arg("-kernel").arg(&firmware);
    check(&run(&mut qemu));
}
