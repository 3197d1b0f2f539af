//! A firmware, built around a pack: the executable and what the linker says about it.

use super::board::Board;
use super::compile::{self, sources};
use anyhow::{Context, Result, bail};
use flatmin::{Method, Optimizer, Recipe};
use flatmin_model::inspect;
use flatmin_model::packer::PackFile;
use flatmin_model::recipe_file::training_constants;
use flatmin_sim::tuning::Tail;
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, elf};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Held while the one target folder is in use.
static BUILDING: Mutex<()> = Mutex::new(());

/// What a firmware is built with beside board, pack and recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kind {
    /// Its tuner.
    pub tail: Tail,
    /// It solves heads in closed form even where its pack has no statistics.
    pub solver: bool,
    /// Only the holder of its key changes it.
    pub signed: bool,
}

impl From<Tail> for Kind {
    fn from(tail: Tail) -> Self {
        Self { tail, ..Self::default() }
    }
}

/// An executable for a board.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) board: Board,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

impl Image {
    /// Builds the board's firmware around the bytes of a pack, with an arena for `recipe`.
    ///
    /// # Errors
    /// A missing target, or what the compiler says.
    pub fn build(board: Board, pack: &[u8], recipe: &Recipe) -> Result<Self> {
        Self::build_as(Kind::default(), board, pack, recipe)
    }

    /// Builds a firmware of the kind asked for.
    ///
    /// # Errors
    /// A missing target, or what the compiler says.
    pub fn build_as(kind: Kind, board: Board, pack: &[u8], recipe: &Recipe) -> Result<Self> {
        let Kind { tail, solver, signed } = kind;
        let root = sources("building firmware (`flatmin emulate`, `flatmin device --qemu`)")?;
        let target_folder = root.join("target/firmware");
        let mut cargo = compile::cargo(&root, board.package, board.target, board.cpu, &target_folder)?;
        let (capacity, batch) = (recipe.replay_capacity, recipe.sharpness_batch);
        let best = u16::from(recipe.keep_best);
        let adam = u16::from(recipe.optimizer == Optimizer::Adam);
        let sgd = recipe.method == Method::Sgd;
        // Runs at the same time do not meet in a file unless it is the same.
        let kind = match (tail, solver) {
            (Tail::Compact, _) => "-compact",
            (Tail::Integer, _) => "-integer",
            (Tail::Full, true) => "-solver",
            (Tail::Full, false) => "",
        };
        let lock = if signed { "-signed" } else { "" };
        let crc32 = flatmin::crc32(pack);
        let sgd_name = u16::from(sgd);
        let name =
            format!("{}-{crc32:08x}-{capacity}-{batch}-{best}-{adam}-{sgd_name}{kind}{lock}", board.name);
        let pack_path = target_folder.join(&name).with_extension("pack");
        // What decides the arena's size; the rest of a recipe comes over the link.
        let base = if tail == Tail::Integer { Recipe::INTEGER } else { Recipe::DEFAULT };
        let method = if sgd { Method::Sgd } else { base.method };
        let (optimizer, sharpness_batch) = (recipe.optimizer, batch);
        let recipe = Recipe {
            method,
            optimizer,
            sharpness_batch,
            replay_capacity: capacity,
            keep_best: recipe.keep_best,
            ..base
        };
        let rust = inspect::constants(&PackFile::new(pack), &pack_path)?
            + &training_constants(tail, &recipe, solver);
        let model = pack_path.with_extension("rs");
        for (path, bytes) in [(&pack_path, pack), (&model, rust.as_bytes())] {
            // A file that is written is compiled anew.
            if std::fs::read(path).ok().as_deref() != Some(bytes) {
                std::fs::write(path, bytes)?;
            }
        }
        // Between a build and the reading of its executable no other build may come.
        let _building = BUILDING.lock();
        let status = cargo
            .args(board.features.iter().flat_map(|feature| ["--features", feature]))
            .args(signed.then_some(["--features", "signed"]).into_iter().flatten())
            .env("FLATMIN_BOARD", board.name)
            .env("FLATMIN_MODEL", &model)
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("the firmware did not build");
        }
        let built = target_folder.join(board.target).join("release").join(board.package);
        let bytes = std::fs::read(&built).with_context(|| built.display().to_string())?;
        let path = target_folder.join(&name).with_extension("elf");
        std::fs::write(&path, &bytes)?;
        Ok(Self { board, path, bytes })
    }

    /// Where the executable lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// RAM that the linker has given to statics, in bytes: all writable sections but the stack's, which riscv-rt
    /// gives all that is left.
    ///
    /// # Errors
    /// Bytes that are not an ELF file.
    pub fn static_ram_bytes(&self) -> Result<usize> {
        let file = object::File::parse(self.bytes.as_slice())?;
        let needed = u64::from(elf::SHF_ALLOC | elf::SHF_WRITE);
        let writable = file.sections().filter(|section| {
            let flags = section.flags();
            matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & needed == needed)
                && section.name() != Ok(".stack")
        });
        Ok(usize::try_from(writable.map(|section| section.size()).sum::<u64>())?)
    }

    /// Names of the symbols that are linked in.
    ///
    /// # Errors
    /// Bytes that are not an ELF file, or a name that is not text.
    pub fn symbols(&self) -> Result<Vec<String>> {
        let file = object::File::parse(self.bytes.as_slice())?;
        file.symbols().map(|symbol| Ok(symbol.name()?.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Rust files beside the bundled pack, for boards that are built by hand, are made of it. `FLATMIN_ACCEPT=1` writes them
    /// anew.
    #[test]
    fn the_bundled_packs_constants_are_its_own() {
        let folder = sources("this test").unwrap().join("boards/app");
        let path = folder.join("model.pack");
        let pack = PackFile::new(&std::fs::read(&path).unwrap());
        let few = Recipe { replay_capacity: 49, ..Recipe::DEFAULT };
        for (name, tail, recipe) in [
            ("model.rs", Tail::Full, Recipe::DEFAULT),
            ("model-compact.rs", Tail::Compact, Recipe::DEFAULT),
            ("model-49-samples.rs", Tail::Full, few),
        ] {
            let made = inspect::constants(&pack, &path).unwrap() + &training_constants(tail, &recipe, false);
            let file = folder.join(name);
            if std::env::var_os("FLATMIN_ACCEPT").is_some() {
                std::fs::write(&file, &made).unwrap();
            }
            assert!(std::fs::read_to_string(&file).unwrap() == made, "{name} is not of model.pack");
        }
    }
}
