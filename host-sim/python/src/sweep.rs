//! What a search chooses among, and trials of a choice: for samplers of other packages.

use crate::errors::raised;
use crate::network::Network;
use crate::recipe::{method, parsed};
use anyhow::ensure;
use flatmin::{Loss, Method, Recipe};
use flatmin_model::recipe_file::{NamedMethod, RecipeFile};
use flatmin_sim::planning::{Budget, Candidate, Objective, Space};
use flatmin_sim::subject::check_outputs;
use flatmin_sim::tuning::Start;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use serde_json::json;

/// What `flatmin plan` chooses among, for tails of at most so many layers, as JSON; and the usual learning rate and radius of each
/// method.
#[pyfunction]
pub fn space(network: &Network, layers: usize) -> PyResult<(String, String)> {
    let known = || {
        let depth = layers.min(network.model.network.trainable_layers());
        let usual = |name: &str, method: Method| {
            let own = RecipeFile::default().recipe(method, Start::Factory);
            (name.to_owned(), json!({ "learning_rate": own.learning_rate, "rho": own.rho }))
        };
        let methods = [("sgd", Method::Sgd), ("sam", Method::Sam), ("asam", Method::Asam)];
        let usual: serde_json::Map<_, _> = methods.map(|(name, own)| usual(name, own)).into_iter().collect();
        anyhow::Ok((serde_json::to_string(&Space::new(depth))?, serde_json::to_string(&usual)?))
    };
    known().map_err(raised)
}

/// A choice's trials on all parts of the samples, as JSON: each sample judges after tuning on others, twice.
#[pyfunction]
pub fn evaluate(
    py: Python<'_>,
    network: &Network,
    data: PyBackedBytes,
    labels: PyBackedBytes,
    recipe: &str,
) -> PyResult<String> {
    // All samples judge in turn, and there are none beside them.
    let test = Some((data.clone_ref(py), Some(labels.clone_ref(py))));
    let judge = || {
        let file = parsed(recipe)?;
        let own = network.with_loss(file.loss);
        check_outputs(&own.model)?;
        let squared = own.model.network.loss() == Loss::SquaredError;
        ensure!(!squared, "choices are compared by their accuracy, and a squared error has none");
        ensure!(file.compact != Some(true), "compact is not searched; leave it out");
        let closed = method(&file) == NamedMethod::ClosedForm;
        let layers = file.layers.map(usize::from).or(closed.then_some(1));
        let plan = own.model.tail_plan(layers, file.train.as_deref().unwrap_or_default())?;
        let start = file.start.map_or_else(|| Start::usual(&own.model, &plan), Ok)?;
        let usual = file.recipe(Recipe::DEFAULT.method, Start::Factory);
        let subject = own.subject((data, Some(labels)), test, 0.0, Vec::new(), usual.seed)?;
        let subject = subject.labelled("sweep")?;
        let budget = Budget { ram_bytes: file.budget.ram, step_macs: file.budget.macs };
        let candidate = Candidate::usual(&file, plan, method(&file), start);
        let objective = Objective::new(&subject, budget, &usual)?;
        if objective.cost(&candidate)?.is_none() {
            return Ok(json!(null).to_string());
        }
        Ok(serde_json::to_string(&objective.evaluate(&candidate)?)?)
    };
    py.detach(judge).map_err(raised)
}
