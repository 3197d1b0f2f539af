//! Variables: what a network keeps from one inference to the next, and what a CALL_ONCE's subgraph begins them with.

use super::field::{call_once, subgraph, var_handle};
use super::operators::{Record, code};
use super::view::Table;
use super::{ReadError, Source};
use crate::graph::{Kind, Tensor, Variable};
use std::collections::{BTreeMap, BTreeSet};

/// The variables that operators have named so far.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// `initial` is an index into `constants`.
    list: Vec<Variable>,
    /// Container and shared name, to the place in `list`.
    named: BTreeMap<(String, String), usize>,
    /// Resource tensors of the subgraph that is read, to the place in `list`.
    handles: BTreeMap<usize, usize>,
    /// Tensors of the subgraphs that CALL_ONCE names.
    constants: Vec<Tensor>,
    /// Variables that were read.
    begun: BTreeSet<usize>,
    /// The subgraph of a CALL_ONCE is being read.
    inside: bool,
    /// What cannot be done once.
    problem: Option<String>,
}

impl Variables {
    /// A VAR_HANDLE that writes the tensor `handle`.
    pub fn declare(&mut self, options: &Table<'_>, handle: usize) -> Result<(), ReadError> {
        let key = (options.string(var_handle::CONTAINER)?, options.string(var_handle::SHARED_NAME)?);
        let next = self.list.len();
        let place = *self.named.entry(key).or_insert_with_key(|(_, name)| {
            self.list.push(Variable { name: name.clone(), initial: None });
            next
        });
        self.handles.insert(handle, place);
        Ok(())
    }

    /// A CALL_ONCE: reads the subgraph that gives variables their first values.
    pub fn begin(&mut self, source: &Source<'_>, options: &Table<'_>) -> Result<(), ReadError> {
        let number = options.scalar(call_once::INIT_SUBGRAPH_INDEX, 0_i32)?;
        let place = usize::try_from(number).ok().filter(|&place| place > 0);
        let found = place.and_then(|place| Some((place, source.subgraphs.get(place)?)));
        let (place, table) = found.ok_or_else(|| ReadError::Index {
            owner: "CALL_ONCE".into(),
            what: "subgraph",
            index: number.into(),
            count: source.subgraphs.len(),
        })?;
        if self.inside {
            self.problem = Some("calls CALL_ONCE".into());
        }
        if self.inside || !self.begun.insert(place) {
            return Ok(());
        }
        self.inside = true;
        let first = self.constants.len();
        let outer = std::mem::take(&mut self.handles);
        let tensors = source.tensors(table)?;
        for (index, table) in table.tables(subgraph::OPERATORS, "operator")?.iter().enumerate() {
            let operator = source.operator(&tensors, self, index, table)?;
            match operator.kind {
                Kind::Declaration => {}
                Kind::AssignVariable { variable } => {
                    let value = operator.inputs.get(1).copied().flatten();
                    match value.filter(|&tensor| tensors[tensor].data.is_some()) {
                        Some(tensor) => self.list[variable].initial = Some(first + tensor),
                        None => self.problem = Some("gives a variable what is no constant".into()),
                    }
                }
                _ => self.problem = Some(format!("does {}", operator.name)),
            }
        }
        (self.handles, self.inside) = (outer, false);
        self.constants.extend(tensors);
        Ok(())
    }

    /// The variables, their first values after `tensors`.
    pub fn with_constants(self, tensors: &mut Vec<Tensor>) -> Vec<Variable> {
        let first = tensors.len();
        tensors.extend(self.constants);
        let moved =
            |variable: Variable| Variable { initial: variable.initial.map(|i| first + i), ..variable };
        self.list.into_iter().map(moved).collect()
    }
}

impl Record<'_> {
    /// CALL_ONCE and VAR_HANDLE.
    pub(super) fn declaration(&self) -> Kind {
        match &self.variables.problem {
            Some(problem) if self.code == code::CALL_ONCE => {
                Kind::Unsupported(format!("{}: {problem}", self.name()))
            }
            _ => Kind::Declaration,
        }
    }

    /// What does something with the variable that input 0 is the handle of.
    pub(super) fn variable(&self, kind: impl FnOnce(usize) -> Kind) -> Result<Kind, ReadError> {
        let handle = self.inputs.first().copied().flatten();
        let known = handle.and_then(|tensor| self.variables.handles.get(&tensor));
        known.map_or_else(
            || Ok(Kind::Unsupported(format!("{}: no VAR_HANDLE names its variable", self.name()))),
            |&variable| Ok(kind(variable)),
        )
    }
}
