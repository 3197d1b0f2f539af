//! Variables: arrays of their own that the arena keeps, read where they lie and written by a move.

use super::super::network::{Network, Step, Variable};
use super::{Activations, Fault, Lowering};
use crate::graph::{Kind, Operator};
use crate::tflite::printable;
use flatmin::internals::op::Move;
use flatmin::internals::pack::format::operator as code;

impl Lowering<'_> {
    pub(super) fn read_variable(
        &mut self,
        index: usize,
        op: &Operator,
        variable: usize,
    ) -> Result<(), Fault> {
        let output = self.write(op, 0)?;
        let own = self.variable(variable, output)?;
        if self.is_read_in_time(index, op.outputs[0], variable) {
            self.tensors[output].storage = self.tensors[own].storage;
            return Ok(());
        }
        self.moved((index, op), own, output, Move::row(self.tensors[own].len()))
    }

    pub(super) fn assign_variable(
        &mut self,
        index: usize,
        op: &Operator,
        variable: usize,
    ) -> Result<(), Fault> {
        let input = self.read(op, 1)?;
        let own = self.variable(variable, input)?;
        self.moved((index, op), input, own, Move::row(self.tensors[own].len()))
    }

    /// Whether all that read the value that operator `index` has read of a variable run before it is assigned anew.
    fn is_read_in_time(&self, index: usize, value: usize, variable: usize) -> bool {
        let later = self.graph.operators.iter().enumerate().skip(index + 1);
        let assigned = |(_, op): &(usize, &Operator)| op.kind == Kind::AssignVariable { variable };
        let Some((end, _)) = later.clone().find(assigned) else { return true };
        // Views of it may be read at any time.
        let late = |(place, op): (usize, &Operator)| {
            let view = matches!(op.kind, Kind::Reshape | Kind::Dequantize);
            op.inputs.contains(&Some(value)) && (view || place >= end)
        };
        !later.into_iter().any(late) && !self.graph.outputs.contains(&value)
    }

    /// The array of a variable, for a value that is read from or written to it.
    fn variable(&mut self, variable: usize, value: usize) -> Result<usize, Fault> {
        let graph = self.graph;
        let declared = &graph.variables[variable];
        let name = printable(&declared.name);
        let length = self.tensors[value].len();
        let known = match &self.variables[variable] {
            Some(known) => known.tensor,
            None => {
                let storage = self.tensors.len();
                // int8 whatever its values are: its bytes are moved alone.
                let mut own =
                    Activations { name: declared.name.clone(), storage, ..self.tensors[value].clone() };
                if own.unsigned {
                    own.unsigned = false;
                    own.affine.zero_point -= 128;
                }
                own.constant = None;
                let zero = self.tensors[value].affine.zero_point.to_le_bytes()[0].cast_signed();
                self.tensors.push(own.clone());
                let initial = match declared.initial {
                    Some(constant) => self.define(constant)?,
                    // What was never assigned is 0.
                    None => {
                        let place = self.tensors.len();
                        self.tensors.push(Activations {
                            storage: place,
                            constant: Some(vec![zero; length]),
                            ..own
                        });
                        place
                    }
                };
                let name = declared.name.clone();
                self.variables[variable] = Some(Variable { name, tensor: storage, initial });
                let found = self.tensors[initial].len();
                if found != length {
                    return Err(format!(
                        "variable `{}` begins with {found} elements",
                        printable(&declared.name)
                    ));
                }
                storage
            }
        };
        let expected = self.tensors[known].len();
        if expected != length {
            return Err(format!("variable `{name}` has {expected} elements, {length} are given"));
        }
        Ok(known)
    }
}

impl Network {
    /// Lets what computes a variable's next value write it where the variable lies, where nothing reads the old value
    /// afterwards and nothing else the new one; and keeps all that touch a variable out of tails.
    pub(super) fn with_assignments_in_place(mut self) -> Self {
        let mut place = 0;
        while place < self.steps.len() {
            if self.is_written_in_place(place) {
                let step = self.steps.remove(place);
                let [from, to] = [step.input, step.output].map(|tensor| self.tensors[tensor].storage);
                self.tensors.iter_mut().filter(|t| t.storage == from).for_each(|t| t.storage = to);
            } else {
                place += 1;
            }
        }
        for place in 0..self.steps.len() {
            if self.touches(&self.steps[place], |storage| self.is_variable(storage)) {
                self.steps[place].function = None;
            }
        }
        self
    }

    fn touches(&self, step: &Step, which: impl Fn(usize) -> bool) -> bool {
        step.inputs().chain([step.output]).any(|tensor| which(self.tensors[tensor].storage))
    }

    /// Whether the step at `place` assigns a variable what could be written there at once.
    fn is_written_in_place(&self, place: usize) -> bool {
        let storage = |tensor: usize| self.tensors[tensor].storage;
        let step = &self.steps[place];
        let (from, to) = (storage(step.input), storage(step.output));
        let assigns = step.kind == code::MOVE && self.is_variable(to) && from != to;
        let constant = self.tensors[step.input].constant.is_some();
        let border = self.inputs.iter().chain(&self.outputs).any(|border| storage(border.tensor) == from);
        let whole = self
            .tensors
            .iter()
            .filter(|t| t.storage == from)
            .all(|t| t.len() == self.tensors[step.output].len());
        if !assigns || constant || border || !whole || self.is_variable(from) {
            return false;
        }
        let writers = self.steps.iter().position(|step| storage(step.output) == from);
        let Some(first) = writers.filter(|&first| first < place) else { return false };
        let read = self
            .steps
            .iter()
            .enumerate()
            .any(|(other, step)| other != place && step.inputs().any(|tensor| storage(tensor) == from));
        let written_later = self.steps[place..].iter().any(|step| storage(step.output) == from);
        let between = &self.steps[first..place];
        !read && !written_later && !between.iter().any(|step| self.touches(step, |storage| storage == to))
    }
}
