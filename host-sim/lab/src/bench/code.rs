//! How much code a firmware holds.

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use serde::Serialize;
use std::path::Path;

/// Bytes of machine code in an executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CodeSize {
    /// All of it: start-up, the line to the desktop and formatted printing among it.
    pub firmware: u64,
    /// The functions of flatmin alone, with what the compiler put into them; what they call in Rust's core library is
    /// not among it.
    pub flatmin: u64,
}

impl CodeSize {
    /// Counts an ELF file.
    ///
    /// # Errors
    /// A file that cannot be read or is no ELF file with code.
    pub fn of(executable: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(executable).with_context(|| format!("cannot read {}", executable.display()))?;
        let elf = object::File::parse(&*bytes).context("the firmware is no ELF file")?;
        let text = elf.section_by_name(".text").context("the firmware has no section .text")?;
        let own = |symbol: &object::Symbol| {
            let named = symbol.name().is_ok_and(is_of_flatmin);
            named && symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(text.index())
        };
        let flatmin = elf.symbols().filter(own).map(|symbol| symbol.size()).sum();
        Ok(Self { firmware: text.size(), flatmin })
    }
}

/// Mangled paths count the letters of each name.
fn is_of_flatmin(symbol: &str) -> bool {
    symbol.contains("7flatmin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_whose_names_begin_alike_are_others() {
        assert!(is_of_flatmin("_ZN7flatmin7kernels6conv2d6conv2d17h09b7d77ee82a34abE"));
        assert!(!is_of_flatmin("_ZN13flatmin_bench5crc3217h09b7d77ee82a34abE"));
        assert!(!is_of_flatmin("_ZN4core3fmt5write17h09b7d77ee82a34abE"));
    }
}
