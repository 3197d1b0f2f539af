//! What a test goes without is said on the terminal, past the harness, which keeps what passing tests print.
//!
//! `cargo test` leaves the slow part out: emulated boards, and passes over many recordings. `tests/run` sets
//! `FLATMIN_SLOW_TESTS`, and then the emulators must be there.
#![allow(dead_code)] // each test uses its part

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says what is left out, and what would have it run.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// Whether the slow part runs; if not, `what` is skipped.
pub fn slowly(what: &str) -> bool {
    let wanted = std::env::var_os("FLATMIN_SLOW_TESTS").is_some();
    if !wanted {
        skipped(&format!("{what}; FLATMIN_SLOW_TESTS=1 runs it"));
    }
    wanted
}

/// Whether boards are emulated with this program.
pub fn emulating(program: &str) -> bool {
    let wanted = slowly(&format!("emulated boards ({program})"));
    let found = || Command::new(program).arg("--version").output().is_ok();
    assert!(!wanted || found(), "{program} is not installed; tests/setup-qemu.sh installs it");
    wanted
}

/// A file or folder beside the checkout, which users need not have.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path);
    if !path.exists() {
        skipped(&format!("no {}", path.display()));
    }
    path.exists().then_some(path)
}
