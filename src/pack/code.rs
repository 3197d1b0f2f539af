//! Places for the code that a pack is run with. This room declares them and knows no code: [`mod@crate::linked`]
//! fills them, above all rooms that have some.

use super::format::{node, operator};
use super::{Function, OperatorRecord, Pack, PackError, TailNode};
use crate::optim::BiasTreatment;
use crate::quant::Affine;
use core::any::Any;

/// Runs an operator in int8, its inputs and its output being in their places in the arena.
pub(crate) type Kernel = fn(&Pack, &OperatorRecord, &mut [i8]);

/// Who wants to see every trained layer, and its output's lowest and highest value.
pub(crate) type See<'s> = &'s mut dyn FnMut(usize, f32, f32);

/// Parameters, workspace, and who wants to see every trained layer's range, if anybody does.
type Forward = fn(&Pack, &[f32], &mut [f32], Option<See>);

/// Parameters, the gradient's factor, biases, workspace, the gradient that is added to.
type Backward = fn(&Pack, &[f32], f32, BiasTreatment, &mut [f32], &mut [f32]);

/// The code that a tail of any layers takes: a firmware around a pack without one does without.
#[derive(Debug)]
pub(crate) struct GraphCode {
    pub check: fn(&Pack) -> Result<(), PackError>,
    pub forward: Forward,
    pub backward: Backward,
}

/// The code that a network with variables takes: a firmware around a pack without any does without.
#[derive(Debug)]
pub(crate) struct StreamCode {
    pub check: PartCheck,
    /// Runs the backbone on all hops of a window but the last, which is put in its place; false if the window is no whole
    /// number of hops.
    pub enter: fn(&Pack, window: &[i8], arena: &mut [i8]) -> bool,
}

/// A node of a tail with what it is computed from.
pub(crate) struct NodePass<'s, 'p> {
    pub pack: &'s Pack<'p>,
    pub node: &'s TailNode,
    /// Parameters of the whole tail.
    pub parameters: &'s [f32],
}

/// What a tail of any layers does with a kind of operator.
#[derive(Debug)]
pub(crate) struct NodeOp {
    /// Writes the output, before its fused activation.
    pub forward: fn(&NodePass, workspace: &mut [f32]),
    /// Adds to the gradients by its inputs, and `scale` times that by its parameters to `gradient`; the gradient by its
    /// output is there, before its fused activation.
    pub backward: fn(&NodePass, scale: f32, BiasTreatment, workspace: &mut [f32], gradient: &mut [f32]),
    /// What `backward` reads, by the node's function and flags.
    pub keeps: fn(Function, u16) -> Keeps,
    /// Says what is wrong with a node.
    pub check: fn(&Pack, &TailNode) -> Result<(), &'static str>,
    /// Inputs that it has, if they are no constants.
    pub inputs: usize,
}

/// How an int8 operator's inputs and output are quantized in a tuned tail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affines {
    pub first: Affine,
    /// As packed where there is no second input.
    pub second: Affine,
    pub output: Affine,
}

/// What a tuned tail does with a kind of operator without weights whose output is quantized anew.
#[derive(Debug)]
pub(crate) struct RefitOp {
    /// The output's quantization, where `output` is that of the range that was seen: itself, or the next that the operator
    /// can have.
    pub settle: fn(&Affines) -> Affine,
    /// Runs the operator in its place in the arena, with an output within the clamp.
    pub run: fn(&Pack, &OperatorRecord, &Affines, clamp: [i8; 2], arena: &mut [i8]),
}

/// The activations that are read in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    /// The inputs'.
    pub inputs: bool,
    /// The output's.
    pub output: bool,
}

impl Keeps {
    pub(crate) const NOTHING: Self = Self { inputs: false, output: false };
    pub(crate) const INPUTS: Self = Self { inputs: true, output: false };
    pub(crate) const OUTPUT: Self = Self { inputs: false, output: true };
}

impl NodeOp {
    /// What a node's backward pass reads, that of a fused activation included.
    pub fn kept(&self, kind: u16, function: Function, flags: u16) -> Keeps {
        let own = (self.keeps)(function, flags);
        let clamped = function.fused(kind) != Function::Identity && flags & node::KEEPS_MASK == 0;
        let output = own.output || clamped;
        Keeps { output, ..own }
    }
}

/// Says what is wrong with a part of a pack that few have: spare classes, statistics.
type PartCheck = fn(&Pack) -> Result<(), &'static str>;

/// Code whose type only a room above this one can name: it asks for it by its type.
pub(crate) type Above = &'static (dyn Any + Send + Sync);

/// The kernels that a pack is run with, and the further code that it needs.
///
/// ```
/// use flatmin::{Operators, Pack, include_pack};
/// static MODEL: &[u8] = include_pack!("../../tests/examples/motion.pack");
/// static OPERATORS: Operators = Operators::of(MODEL); // those of this pack; `ALL` are linked by `Pack::new`
/// assert!(Pack::with_operators(MODEL, &OPERATORS).is_ok());
/// assert!(Pack::with_operators(MODEL, &Operators::NONE).is_err());
/// # let _ = Operators::ALL;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Operators {
    pub(crate) kernels: [Option<Kernel>; operator::KINDS],
    pub(crate) graph: Option<&'static GraphCode>,
    /// Its nodes' code.
    pub(crate) nodes: [Option<&'static NodeOp>; operator::KINDS],
    /// What its int8 operators without weights do where their outputs are quantized anew.
    pub(crate) refits: [Option<&'static RefitOp>; operator::KINDS],
    /// Checks and feeds a network with variables.
    pub(crate) stream: Option<&'static StreamCode>,
    /// Checks a pack with spare classes.
    pub(crate) spare_check: Option<PartCheck>,
    /// Checks a pack with statistics of the last layer's input.
    pub(crate) statistics_check: Option<PartCheck>,
    /// Adds classes on the device: a firmware around a pack without spare ones does without.
    pub(crate) spare: Option<Above>,
    /// Measures how well anomalies are found: only losses beside cross-entropy know any.
    pub(crate) anomalies: Option<Above>,
    /// Solves the last layer in closed form: a firmware around a pack without statistics does without, unless it asks.
    pub(crate) solver: Option<Above>,
}

impl Operators {
    /// No operator, for a firmware without a pack.
    pub const NONE: Self = Self {
        kernels: [None; operator::KINDS],
        graph: None,
        nodes: [None; operator::KINDS],
        refits: [None; operator::KINDS],
        stream: None,
        spare_check: None,
        statistics_check: None,
        spare: None,
        anomalies: None,
        solver: None,
    };

    /// Whether the code of [`crate::Tuner::solve`] is among them.
    pub const fn has_solver(&self) -> bool {
        self.solver.is_some()
    }

    pub(crate) fn kernel(&self, kind: u16) -> Option<Kernel> {
        self.kernels.get(usize::from(kind)).copied().flatten()
    }

    pub(crate) fn refit(&self, kind: u16) -> Option<&'static RefitOp> {
        self.refits.get(usize::from(kind)).copied().flatten()
    }

    pub(crate) fn node(&self, kind: u16) -> Option<&'static NodeOp> {
        self.nodes.get(usize::from(kind)).copied().flatten()
    }
}
