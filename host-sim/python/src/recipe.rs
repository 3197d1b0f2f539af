//! Recipes as JSON: the fields of a recipe's file that are given, as usual what is not.

use crate::errors::raised;
use anyhow::{Context, Result, anyhow};
use flatmin::{Method, Recipe};
use flatmin_model::recipe_file::{Hyperparameters, NamedMethod, RecipeFile, RecipeFileError};
use flatmin_sim::tuning::Start;
use pyo3::prelude::*;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What a JSON object says.
///
/// # Errors
/// The field, and what is wrong with it.
pub fn parsed(text: &str) -> Result<RecipeFile> {
    let whole: Value = serde_json::from_str(text).context("recipe")?;
    // One field at a time first, so that the message has its name.
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    for (name, value) in fields(&whole) {
        let inner = if name == "recipe" { fields(&value) } else { Map::new() };
        let one = |object: Value| serde_json::from_value::<RecipeFile>(object).map(drop);
        for (name, value) in inner {
            one(json!({"version": 1, "recipe": {&*name: value}}))
                .with_context(|| format!("recipe: {name}"))?;
        }
        if !["recipe", "version"].contains(&name.as_str()) {
            one(json!({"version": 1, &*name: value})).with_context(|| format!("recipe: {name}"))?;
        }
    }
    let file: RecipeFile = serde_json::from_value(whole).context("recipe")?;
    file.recipe(steps(&file), file.start.unwrap_or_default()).check()?;
    Ok(file)
}

/// What steps are taken by, SGD where none are.
fn steps(file: &RecipeFile) -> Method {
    match file.recipe.method {
        None => Recipe::DEFAULT.method,
        Some(NamedMethod::Steps(method)) => method,
        Some(NamedMethod::ClosedForm) => Method::Sgd,
    }
}

/// The method that is asked for, or the default recipe's.
pub fn method(file: &RecipeFile) -> NamedMethod {
    file.recipe.method.unwrap_or(NamedMethod::Steps(Recipe::DEFAULT.method))
}

/// All hyperparameters of a run by their names.
///
/// # Errors
/// None that is known.
pub fn described(recipe: &Recipe, method: NamedMethod) -> Result<Value> {
    let own = Hyperparameters { method: Some(method), ..Hyperparameters::of(recipe) };
    // By way of a text, in which 0.05 is that, and not the number in single precision that is nearest to it.
    Ok(serde_json::from_str(&serde_json::to_string(&own)?)?)
}

/// All hyperparameters that these fields lead to, as JSON.
#[pyfunction]
pub fn recipe(fields: &str) -> PyResult<String> {
    let whole = || {
        let file = parsed(fields)?;
        let recipe = file.recipe(steps(&file), file.start.unwrap_or_default());
        Ok(described(&recipe, method(&file))?.to_string())
    };
    whole().map_err(raised)
}

/// The kind of the system's error decides on Python's.
fn of_file(error: RecipeFileError) -> anyhow::Error {
    match error {
        RecipeFileError::File { path, why } => anyhow!(why).context(path.display().to_string()),
        other => other.into(),
    }
}

/// Reads a `recipe.toml`: its fields as JSON.
#[pyfunction]
pub fn read_recipe(path: PathBuf) -> PyResult<String> {
    let read = || {
        let file = RecipeFile::read(&path).map_err(of_file)?;
        Ok(serde_json::to_string(&file)?)
    };
    read().map_err(raised)
}

/// Writes a `recipe.toml` with these fields.
#[pyfunction]
pub fn write_recipe(fields: &str, path: PathBuf) -> PyResult<()> {
    let write = || parsed(fields)?.write(&path).map_err(of_file);
    write().map_err(raised)
}

/// Its name.
pub fn start_name(start: Start) -> &'static str {
    match start {
        Start::Factory => "factory",
        Start::ClosedForm => "closed-form",
    }
}
