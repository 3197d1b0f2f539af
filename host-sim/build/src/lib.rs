//! For a firmware's `build.rs`: packs a network as its `recipe.toml` says.
//!
//! ```no_run
//! flatmin_build::model("recipe.toml");
//! ```
//!
//! The firmware includes what that writes:
//!
//! ```ignore
//! mod model {
//!     include!(concat!(env!("OUT_DIR"), "/model.rs"));
//! }
//! ```
//!
//! It has the packed network (`PACK`, `SIZES`, `CRC32`), how that is tuned (`RECIPE`, `Tuner`, `CONTENTS`), the operators to link
//! (`OPERATORS`), the arena's size (`ARENA_BYTES`), and what the recipe asks for: the head in closed form (`SOLVES`, with `SOLVE_BYTES`
//! beside the arena), steps (`STEPS`), or both. A recipe whose firmware takes more RAM than its `[budget]` allows does not build.

use anyhow::{Context, Result};
use flatmin_model::recipe_file::{Firmware, RecipeFile};
use std::path::{Path, PathBuf};

/// Packs the network that the file `recipe` names into cargo's `OUT_DIR`: `model.pack`, and `model.rs` to be included. Where that
/// cannot be done the build ends with an error that says what is wrong, and where.
pub fn model(recipe: impl AsRef<Path>) {
    let written = std::env::var_os("OUT_DIR")
        .context("there is no OUT_DIR: this is for build scripts, which cargo runs")
        .and_then(|folder| pack(recipe.as_ref(), Path::new(&folder)));
    match written {
        Ok(read) => read.iter().for_each(|path| println!("cargo::rerun-if-changed={}", path.display())),
        Err(error) => {
            println!("cargo::rerun-if-changed={}", recipe.as_ref().display());
            // An error of cargo has one line.
            println!("cargo::error={}", format!("{error:#}").replace('\n', " "));
            std::process::exit(1);
        }
    }
}

/// Packs the network that the file `recipe` names into `folder`. Returns the files that were read.
///
/// # Errors
/// A recipe that is none, with its line; a network that cannot be read, or tuned as asked for; more RAM than the recipe's budget.
pub fn pack(recipe: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let file = RecipeFile::read(recipe)?;
    let named = || recipe.display().to_string();
    let model =
        file.open().with_context(named)?.with_spare_classes(file.spare_classes.unwrap_or(0).into())?;
    let pack = model.pack(file.tail(&model).with_context(named)?)?;
    let output = folder.join("model.pack");
    let constants = file.rust(&pack, &output, Firmware::Own).with_context(named)?;
    for (path, bytes) in [(&output, pack.bytes()), (&folder.join("model.rs"), constants.as_bytes())] {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok([recipe.to_owned()].into_iter().chain(file.model).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(recipe: &str) -> (tempfile::TempDir, Result<Vec<PathBuf>>) {
        let folder = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/wearer01.tflite");
        std::fs::copy(model, folder.path().join("m.tflite")).unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, format!("version = 1\n{recipe}")).unwrap();
        let outcome = pack(&path, folder.path());
        (folder, outcome)
    }

    #[test]
    fn what_was_read_is_told_and_what_is_written_is_of_the_recipe() {
        let (folder, read) = packed("model = \"m.tflite\"\nlayers = 1\n[recipe]\nepochs = 7\n");
        let read = read.unwrap();
        assert_eq!(read, ["recipe.toml", "m.tflite"].map(|name| folder.path().join(name)));
        let constants = std::fs::read_to_string(folder.path().join("model.rs")).unwrap();
        assert!(constants.contains("epochs: 7,") && constants.contains("tail_layers: 1,"), "{constants}");
        assert!(constants.contains("include_pack!(\"model.pack\")"), "{constants}");
        let bytes = std::fs::read(folder.path().join("model.pack")).unwrap();
        let model = flatmin_model::model::Model::open(&folder.path().join("m.tflite")).unwrap();
        assert_eq!(bytes, model.pack(1).unwrap().bytes());
    }

    /// Each message names the recipe's file, and what is wrong.
    #[test]
    fn refusals_name_the_file() {
        for (recipe, expected) in [
            ("layers = 1", "recipe.toml: no model is named"),
            ("model = \"none.tflite\"", "none.tflite"),
            ("model = \"m.tflite\"\nlayers = 90", "recipe.toml: "),
            ("model = \"m.tflite\"\nlayer = 1", "recipe.toml:3: unknown field `layer`"),
            ("model = \"m.tflite\"\n[budget]\nram = 20000", "recipe.toml: the budget is 20000 bytes of RAM"),
        ] {
            let error = format!("{:#}", packed(recipe).1.unwrap_err());
            assert!(error.contains(expected), "{recipe}: {error}");
        }
    }

    #[test]
    fn a_budget_is_kept_to_the_byte() {
        let recipe = |ram: usize| {
            format!("model = \"m.tflite\"\nlayers = 2\n[budget]\nram = {ram}\n[recipe]\nmethod = \"sgd\"")
        };
        let error = format!("{:#}", packed(&recipe(30_000)).1.unwrap_err());
        let needed = error.split("takes ").nth(1).unwrap().split(':').next().unwrap();
        let needed: usize = needed.parse().unwrap();
        assert!(packed(&recipe(needed)).1.is_ok());
        let error = format!("{:#}", packed(&recipe(needed - 1)).1.unwrap_err());
        assert!(error.contains("keep fewer samples (replay_capacity = "), "{error}");
    }
}
