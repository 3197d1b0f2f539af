//! What a pack makes the linker keep: tables that are made when the firmware is compiled, so that it leaves out all
//! code that no packed model uses. This room knows all others that a pack needs code of, and none of them knows it.

use crate::label::Loss;
use crate::pack::bytes::{size_at, u16_at};
use crate::pack::format::{header, operator};
use crate::pack::{
    Above, GraphCode, Operators, Pack, PackError, StreamCode, check_nodes, check_spares, check_state,
    check_statistics,
};
use crate::tail::{backward_nodes, forward_nodes, node_op_of};
use crate::trunk::{enter_window, kernel_of, refit_op_of};
use crate::tuner::code::{AUC_CODE, SOLVER_CODE, SPARE_CODE};

static GRAPH_CODE: GraphCode =
    GraphCode { check: check_nodes, forward: forward_nodes, backward: backward_nodes };

static STREAM_CODE: StreamCode = StreamCode { check: check_state, enter: enter_window };

const SPARE: Option<Above> = Some(&SPARE_CODE);
const ANOMALIES: Option<Above> = Some(&AUC_CODE);
const SOLVER: Option<Above> = Some(&SOLVER_CODE);

impl Operators {
    /// All operators.
    pub const ALL: Self = {
        let (mut kernels, mut nodes) = ([None; operator::KINDS], [None; operator::KINDS]);
        let mut refits = [None; operator::KINDS];
        let mut kind = 0;
        while kind < operator::KINDS {
            kernels[kind] = kernel_of(kind as u16);
            nodes[kind] = node_op_of(kind as u16);
            refits[kind] = refit_op_of(kind as u16);
            kind += 1;
        }
        let (graph, spare_check) = (Some(&GRAPH_CODE), Some(check_spares as fn(&Pack) -> _));
        let statistics_check = Some(check_statistics as fn(&Pack) -> _);
        let (spare, anomalies, solver, stream) = (SPARE, ANOMALIES, SOLVER, Some(&STREAM_CODE));
        Self {
            kernels,
            graph,
            nodes,
            refits,
            stream,
            spare_check,
            statistics_check,
            spare,
            anomalies,
            solver,
        }
    };

    /// The operators that `pack` uses, for a constant: `static OPERATORS: Operators = Operators::of(PACK)`.
    pub const fn of(pack: &[u8]) -> Self {
        let mut own = Self::NONE;
        let records = size_at(pack, header::OPERATORS);
        let count = u16_at(pack, header::OPERATOR_COUNT) as usize;
        let trunk = u16_at(pack, header::TRUNK_OPERATORS) as usize;
        let graph = u16_at(pack, header::NODE_COUNT) > 0;
        let resets = u16_at(pack, header::RESET_OPERATORS) as usize;
        let mut index = 0;
        while index < count + resets {
            let kind = u16_at(pack, records.saturating_add(index * operator::BYTES + operator::KIND));
            if (kind as usize) < operator::KINDS {
                own.kernels[kind as usize] = kernel_of(kind);
                if graph && index >= trunk && index < count {
                    own.nodes[kind as usize] = node_op_of(kind);
                    own.refits[kind as usize] = refit_op_of(kind);
                }
            }
            index += 1;
        }
        if graph {
            own.graph = Some(&GRAPH_CODE);
        }
        if resets > 0 {
            own.stream = Some(&STREAM_CODE);
        }
        if u16_at(pack, header::SPARE_CLASSES) > 0 {
            own.spare_check = Some(check_spares);
            own.spare = SPARE;
        }
        if size_at(pack, header::STATISTICS) > 0 {
            own.statistics_check = Some(check_statistics);
            own.solver = SOLVER;
        }
        own.anomalies = match Loss::from_code(u16_at(pack, header::LOSS)) {
            None | Some(Loss::CrossEntropy) => None,
            Some(Loss::BinaryCrossEntropy | Loss::SquaredError) => ANOMALIES,
        };
        own
    }

    /// These operators with the code of [`crate::Tuner::solve`], or without. [`Self::of`] has it for packs with statistics; others
    /// are solved from the samples and the factory's answers to them. A [`crate::CompactTuner`] does without.
    pub const fn with_solver(self, linked: bool) -> Self {
        Self { solver: if linked { SOLVER } else { None }, ..self }
    }
}

impl<'a> Pack<'a> {
    /// Validates `bytes`.
    ///
    /// # Errors
    /// [`PackError`] names the first thing that is wrong.
    pub fn new(bytes: &'a [u8]) -> Result<Self, PackError> {
        Self::with_operators(bytes, &Operators::ALL)
    }
}
