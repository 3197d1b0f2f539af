//! `recipe.toml`: the model, what of it is trained and how, and what that may take. Every command reads it.
//!
//! All but the version may be left out, and is then as without the option of its name.
//!
//! ```toml
//! version = 1
//! model = "model.tflite" # as seen from this file
//! layers = 2
//! train = ["biases", "all"]
//!
//! [recipe] # the fields of flatmin::Recipe
//! method = "sam"
//! learning_rate = 0.002
//!
//! [budget]
//! ram = 65536
//! ```

mod entry;
mod firmware;
mod hyperparameters;
#[cfg(test)]
mod tests;

pub use firmware::{Firmware, OverBudget, training_constants};
pub use hyperparameters::Hyperparameters;

use crate::output::write_file;
use crate::packer::Trains;
use crate::training::{Start, Tail};
use flatmin::{Loss, Method, Recipe, RhoUnit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// The version that is read and written. A further field raises nothing; one that is renamed, goes or means another thing does.
pub const VERSION: i64 = 1;

/// A method that takes steps, or the one that takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedMethod {
    /// Gradient steps.
    Steps(Method),
    /// The last layer's head solved in closed form.
    ClosedForm,
}

/// The form that files have: [`VERSION`]. A file of another one is refused before its fields are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(VERSION)
    }
}

impl<'d> Deserialize<'d> for Version {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(|_| Self)
    }
}

/// What a recipe's file says, or as much of it as is given on a command line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecipeFile {
    /// The file's form.
    pub version: Version,
    /// The network's file; in the recipe's file as seen from there.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Layers with weights in the tail, 1 or more.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub layers: Option<u16>,
    /// What of each is trained, the deepest first.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub train: Option<Vec<Trains>>,
    /// What is made small.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Outputs for classes that the model lacks, 1 or more.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub spare_classes: Option<u16>,
    /// Integers alone, in few bytes.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub compact: Option<bool>,
    /// The tail has other layers than a chain of fully connected ones: known once the model is, and in no file.
    #[serde(skip)]
    pub any_layers: bool,
    /// What gradient steps begin with.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Hyperparameters.
    pub recipe: Hyperparameters,
    /// What training may take.
    pub budget: Limits,
}

/// The most that training may take.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// All RAM of a firmware, in bytes.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub ram: Option<usize>,
    /// Multiply-adds of a sample's share of a step.
    #[serde(with = "entry", skip_serializing_if = "Option::is_none")]
    pub macs: Option<u64>,
}

/// What stands beside each field of the file that is written, but for those of `[recipe]`.
const COMMENTS: &[(&str, &str)] = &[
    ("version", "of this form of file"),
    ("model", "as seen from this file"),
    ("layers", "layers with weights, counted from the end"),
    ("train", "of each, first to last: all, N%, channels:N, inputs:N%, scales, biases or nothing"),
    ("loss", "cross-entropy, bce or mse"),
    ("spare_classes", "outputs for classes to add"),
    ("compact", "train in integers, in few bytes"),
    ("start", "factory or closed-form"),
    ("ram", "bytes, of a whole firmware"),
    ("macs", "multiply-adds of a sample's share of a step"),
];

/// Why a recipe's file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecipeFileError {
    /// It could not be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        why: std::io::Error,
    },
    /// What stands there is no recipe.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// The file holds no such value.
    #[error("a recipe's file cannot hold {0}")]
    Unwritten(String),
}

impl RecipeFile {
    /// Reads a file; its model's path is then one from the current folder.
    ///
    /// # Errors
    /// [`RecipeFileError`], with file and line: TOML that is none, another version, unknown fields, wrong types, values out
    /// of range.
    pub fn read(path: &Path) -> Result<Self, RecipeFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| RecipeFileError::File { path: path.to_owned(), why })?;
        let mut file = Self::parse(&text).map_err(|(line, why)| RecipeFileError::Line {
            path: path.to_owned(),
            line,
            why,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        file.model = file.model.map(|model| folder.join(model));
        Ok(file)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong there.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let line_at =
            |place: usize| text.as_bytes().iter().take(place).filter(|&&byte| byte == b'\n').count() + 1;
        let refused = |error: toml::de::Error| {
            (line_at(error.span().map_or(0, |span| span.start)), error.message().trim_end().to_owned())
        };
        let table = DeTable::parse(text).map_err(refused)?;
        // The version comes first: a file of another one may well have other fields.
        let line_of = |name: &str| {
            let inner = table.get_ref().iter().filter_map(|(_, value)| value.get_ref().as_table());
            let mut all = inner.flat_map(|own| own.iter()).chain(table.get_ref().iter());
            all.find(|(key, _)| key.get_ref() == name).map_or(1, |(key, _)| line_at(key.span().start))
        };
        match table.get_ref().iter().find(|(key, _)| key.get_ref() == "version") {
            None => return Err((1, format!("no version: `version = {VERSION}` is to stand at the top"))),
            Some((_, value)) => {
                let found = value.get_ref().as_integer().and_then(|own| own.as_str().parse::<i64>().ok());
                if found != Some(VERSION) {
                    let own = &text[value.span()];
                    return Err((
                        line_of("version"),
                        format!("version {own} is not known here; recipes of version {VERSION} are read"),
                    ));
                }
            }
        }
        let file: Self = toml::from_str(text).map_err(refused)?;
        let method = file.recipe.method.map_or(Recipe::DEFAULT.method, |own| own.method());
        file.recipe(method, file.start.unwrap_or_default()).check().map_err(|error| {
            // A product is refused at its first factor's line.
            let name = error.field.split(' ').next().unwrap_or_default();
            let (lowest, highest) = (error.lowest, error.highest);
            (line_of(name), format!("{} is {}, must be from {lowest} to {highest}", error.field, error.found))
        })?;
        Ok(file)
    }

    /// The file's text, each value with what it may be; the model's path as it is.
    ///
    /// # Errors
    /// A seed of 2^63 or more: TOML knows none.
    pub fn to_text(&self) -> Result<String, RecipeFileError> {
        let plain = toml::to_string(self).map_err(|error| RecipeFileError::Unwritten(error.to_string()))?;
        let comments = || COMMENTS.iter().chain(hyperparameters::COMMENTS);
        let mut text = String::new();
        for line in plain.lines() {
            let key = line.split(" = ").next().unwrap_or_default();
            match comments().find(|(name, _)| *name == key) {
                Some((_, comment)) => text += &format!("{line:34} # {comment}\n"),
                None => text += &format!("{line}\n"),
            }
        }
        Ok(text)
    }

    /// Writes a file, with the model's path as seen from it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecipeFileError> {
        let failed = |why| RecipeFileError::File { path: path.to_owned(), why };
        let seen_from_there = |model: &PathBuf| -> std::io::Result<PathBuf> {
            let (own, model) = (std::path::absolute(path)?, std::path::absolute(model)?);
            let folder = own.parent().unwrap_or(Path::new(""));
            Ok(pathdiff::diff_paths(&model, folder).unwrap_or(model))
        };
        let model = self.model.as_ref().map(seen_from_there).transpose().map_err(failed)?;
        let text = Self { model, ..self.clone() }.to_text()?;
        write_file(path, text.as_bytes()).map_err(failed)
    }

    /// What is given here, and from `other` what is not. A radius in units of the weights goes with the method: another method
    /// has its own.
    pub fn or(self, other: &Self) -> Self {
        let mut theirs = other.recipe;
        let another = self.recipe.method.is_some() && self.recipe.method != theirs.method;
        if another && theirs.rho_unit == Some(RhoUnit::Weights) {
            (theirs.rho, theirs.rho_unit) = (None, None);
        }
        Self {
            version: Version,
            model: self.model.or_else(|| other.model.clone()),
            layers: self.layers.or(other.layers),
            train: self.train.or_else(|| other.train.clone()),
            loss: self.loss.or(other.loss),
            spare_classes: self.spare_classes.or(other.spare_classes),
            compact: self.compact.or(other.compact),
            any_layers: self.any_layers || other.any_layers,
            start: self.start.or(other.start),
            recipe: self.recipe.or(&theirs),
            budget: Limits {
                ram: self.budget.ram.or(other.budget.ram),
                macs: self.budget.macs.or(other.budget.macs),
            },
        }
    }

    /// The recipe for a method and a start: what is given, and the usual values for the rest.
    pub fn recipe(&self, method: Method, start: Start) -> Recipe {
        let optimizer = self.recipe.optimizer.unwrap_or(Recipe::DEFAULT.optimizer);
        let usual = match self.tuner() {
            Tail::Integer => Recipe { method, optimizer, ..Recipe::INTEGER },
            Tail::Full | Tail::Compact => start.recipe(method, optimizer),
        };
        self.recipe.applied_to(usual)
    }

    /// Which tuner.
    pub fn tuner(&self) -> Tail {
        match (self.compact == Some(true), self.any_layers) {
            (false, _) => Tail::Full,
            (true, false) => Tail::Compact,
            (true, true) => Tail::Integer,
        }
    }

    /// Whether the last layer is solved in closed form.
    pub fn is_closed_form(&self) -> bool {
        self.recipe.method == Some(NamedMethod::ClosedForm)
    }
}

impl NamedMethod {
    /// What steps are taken by; SGD where none are.
    fn method(self) -> Method {
        match self {
            Self::Steps(method) => method,
            Self::ClosedForm => Method::Sgd,
        }
    }
}
