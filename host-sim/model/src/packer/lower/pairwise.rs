//! Element-wise operators of two operands.

use super::super::network::Step;
use super::{Fault, Lowering, clamp, words};
use crate::graph::{Activation, Binary, Operator};
use flatmin::internals::Multiplier;
use flatmin::internals::op::SumMultipliers;
use flatmin::internals::pack::format::operator as code;

impl Lowering<'_> {
    /// Both operands and the output, whose shape must be the broadcast of theirs.
    fn pair(&mut self, op: &Operator) -> Result<[usize; 3], Fault> {
        let (first, second) = (self.read(op, 0)?, self.read(op, 1)?);
        let output = self.write(op, 0)?;
        let shape = |index: usize| self.tensors[index].shape;
        let (a, b, y) = (shape(first), shape(second), shape(output));
        let broadcast = (0..4).all(|axis| {
            y[axis] == a[axis].max(b[axis])
                && [1, y[axis]].contains(&a[axis])
                && [1, y[axis]].contains(&b[axis])
        });
        if !broadcast {
            return Err(format!("shapes {a:?} and {b:?} do not broadcast to {y:?}"));
        }
        Ok([first, second, output])
    }

    pub(super) fn binary(
        &mut self,
        index: usize,
        op: &Operator,
        function: Binary,
        activation: Activation,
    ) -> Result<(), Fault> {
        let [first, second, output] = self.pair(op)?;
        let scale = |tensor: usize| self.tensors[tensor].affine.scale;
        let (a, b, y) = (scale(first), scale(second), scale(output));
        let (kind, parameters) = match function {
            Binary::Mul => {
                // The reference kernel takes product and quotient in single precision.
                (code::MUL, words(Multiplier::from_real(f64::from(a * b / y))).to_vec())
            }
            Binary::SquaredDifference => {
                (code::SQUARED_DIFFERENCE, SumMultipliers::of_squares(a, b, y).words().to_vec())
            }
            Binary::Add | Binary::Sub => {
                let multipliers = SumMultipliers::new(a, b, y)
                    .ok_or_else(|| format!("output scale {y} is too small for operands of {a} and {b}"))?;
                let kind = if function == Binary::Add { code::ADD } else { code::SUB };
                (kind, multipliers.words().to_vec())
            }
        };
        // Nothing is trained through a squared difference.
        let trained = function != Binary::SquaredDifference;
        self.steps.push(Step {
            second_input: Some(second),
            clamp: clamp(activation, self.tensors[output].affine),
            function: trained.then(|| super::function(activation)),
            parameters,
            ..Step::new(index, &op.name, kind, first, output)
        });
        Ok(())
    }

    pub(super) fn prelu(&mut self, index: usize, op: &Operator) -> Result<(), Fault> {
        let [first, second, output] = self.pair(op)?;
        let scale = |tensor: usize| self.tensors[tensor].affine.scale;
        let (x, alpha, y) = (scale(first), scale(second), scale(output));
        let [identity, slope] =
            [x / y, x * alpha / y].map(|factor| words(Multiplier::from_real(f64::from(factor))));
        self.steps.push(Step {
            second_input: Some(second),
            parameters: [identity, slope].concat(),
            ..Step::new(index, &op.name, code::PRELU, first, output)
        });
        Ok(())
    }
}
