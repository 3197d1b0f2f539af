//! Places for the code that a pack is run with. This room declares them and knows no code: [`mod@crate::linked`]
//! fills them, above all rooms that have some.

use super::format::operator;
use super::{OperatorRecord, Pack, PackError};
use crate::optim::BiasTreatment;
use core::any::Any;

/// Runs an operator in int8, its inputs and its output being in their places in the arena.
pub(crate) type Kernel = fn(&Pack, &OperatorRecord, &mut [i8]);

/// Parameters, workspace, and who wants to see every trained layer's range.
type Forward = fn(&Pack, &[f32], &mut [f32], &mut dyn FnMut(usize, f32, f32));

/// Parameters, the gradient's factor, biases, workspace, the gradient that is added to.
type Backward = fn(&Pack, &[f32], f32, BiasTreatment, &mut [f32], &mut [f32]);

/// The code that a tail of any layers takes: a firmware around a pack without one does without.
#[derive(Debug)]
pub(crate) struct GraphCode {
    pub check: fn(&Pack) -> Result<(), PackError>,
    pub forward: Forward,
    pub backward: Backward,
}

/// Says what is wrong with a pack's spare classes.
type SpareCheck = fn(&Pack) -> Result<(), &'static str>;

/// Code whose type only a room above this one can name: it asks for it by its type.
pub(crate) type Above = &'static (dyn Any + Send + Sync);

/// The kernels that a pack is run with, and the further code that it needs.
#[derive(Debug, Clone, Copy)]
pub struct Operators {
    pub(crate) kernels: [Option<Kernel>; operator::KINDS],
    pub(crate) graph: Option<&'static GraphCode>,
    /// Checks a pack with spare classes.
    pub(crate) spare_check: Option<SpareCheck>,
    /// Adds classes on the device: a firmware around a pack without spare ones does without.
    pub(crate) spare: Option<Above>,
    /// Measures how well anomalies are found: only losses beside cross-entropy know any.
    pub(crate) anomalies: Option<Above>,
}

impl Operators {
    /// None, for a firmware without a pack.
    pub const NONE: Self = Self {
        kernels: [None; operator::KINDS],
        graph: None,
        spare_check: None,
        spare: None,
        anomalies: None,
    };

    pub(crate) fn kernel(&self, kind: u16) -> Option<Kernel> {
        self.kernels.get(usize::from(kind)).copied().flatten()
    }
}
