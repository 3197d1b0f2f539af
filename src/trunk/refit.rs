//! Operators without weights whose outputs are quantized anew, as the ranges after tuning want it: their multipliers are made
//! where they run, from the same formulas that the packer uses.

use super::input_and_output;
use super::operators::{
    add_by, average_pool2d, copy_box, max_pool2d, multiply_by, resize_nearest, subtract_by,
};
use crate::kernels::{self, Mean, SumMultipliers, ZeroPoints};
use crate::pack::format::operator as code;
use crate::pack::{Affines, OperatorRecord, RefitOp};
use crate::quant::{Affine, Multiplier};

/// Largest factor from a product of input steps to output steps: above it, shifts to the left would drop bits.
const LARGEST_PRODUCT: f32 = 8192.0;
/// Likewise from one input step.
const LARGEST_MEAN: f32 = 256.0;
/// Likewise of a sum, where the reference kernels want less than 2^19.
const LARGEST_SUM: f32 = 262_144.0;

/// What a kind of operator does where its output is quantized anew; `None` of kinds that keep the factory's quantization.
pub(crate) const fn refit_op_of(kind: u16) -> Option<&'static RefitOp> {
    Some(match kind {
        code::ADD => &ADD,
        code::SUB => &SUB,
        code::MUL => &MUL,
        code::MEAN => &MEAN,
        code::AVERAGE_POOL_2D => &AVERAGE_POOL,
        code::MAX_POOL_2D => &MAX_POOL,
        code::RESIZE_NEAREST => &RESIZE_NEAREST,
        code::MOVE => &MOVE,
        _ => return None,
    })
}

fn sum_multipliers(affines: &Affines) -> Option<SumMultipliers> {
    let multipliers = SumMultipliers::new(affines.first.scale, affines.second.scale, affines.output.scale);
    debug_assert!(multipliers.is_some(), "`settle` keeps the output's scale large enough");
    multipliers
}

static ADD: RefitOp = RefitOp {
    settle: of_a_sum,
    run: |pack, op, affines, clamp, arena| {
        if let Some(multipliers) = sum_multipliers(affines) {
            add_by(pack, op, &multipliers, &zero_points(affines, clamp), arena);
        }
    },
};

static SUB: RefitOp = RefitOp {
    settle: of_a_sum,
    run: |pack, op, affines, clamp, arena| {
        if let Some(multipliers) = sum_multipliers(affines) {
            subtract_by(pack, op, &multipliers, &zero_points(affines, clamp), arena);
        }
    },
};

static MUL: RefitOp = RefitOp {
    settle: |affines| at_least(affines, affines.first.scale * affines.second.scale / LARGEST_PRODUCT),
    run: |pack, op, affines, clamp, arena| {
        // In single precision, as the reference kernels have it.
        let factor = affines.first.scale * affines.second.scale / affines.output.scale;
        let multiplier = Multiplier::from_real(f64::from(factor));
        multiply_by(pack, op, multiplier, &zero_points(affines, clamp), arena);
    },
};

static MEAN: RefitOp = RefitOp {
    settle: |affines| at_least(affines, affines.first.scale / LARGEST_MEAN),
    run: |pack, op, affines, _, arena| {
        let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
        let (x, y) = input_and_output(arena, &input, &output);
        let packed = Mean::read(pack.parameters(op));
        debug_assert!(packed.is_some(), "validation lets no other parameters through");
        if let Some(packed) = packed {
            let count = input.len() / output.len().max(1);
            let mean = Mean::new(affines.first.scale, affines.output.scale, count, packed.axes);
            let zero_points = [affines.first.zero_point, affines.output.zero_point];
            kernels::mean(x, input.extents(), &mean, zero_points, y);
        }
    },
};

static AVERAGE_POOL: RefitOp = RefitOp {
    settle: of_the_input,
    run: |pack, op, _, clamp, arena| average_pool2d(pack, &OperatorRecord { clamp, ..*op }, arena),
};

static MAX_POOL: RefitOp = RefitOp {
    settle: of_the_input,
    run: |pack, op, _, clamp, arena| max_pool2d(pack, &OperatorRecord { clamp, ..*op }, arena),
};

static RESIZE_NEAREST: RefitOp =
    RefitOp { settle: of_the_input, run: |pack, op, _, _, arena| resize_nearest(pack, op, arena) };

static MOVE: RefitOp =
    RefitOp { settle: of_the_input, run: |pack, op, _, _, arena| copy_box(pack, op, arena) };

fn zero_points(affines: &Affines, clamp: [i8; 2]) -> ZeroPoints {
    let Affines { first, second, output } = affines;
    ZeroPoints { first: first.zero_point, second: second.zero_point, output: output.zero_point, clamp }
}

fn of_the_input(affines: &Affines) -> Affine {
    affines.first
}

fn of_a_sum(affines: &Affines) -> Affine {
    at_least(affines, affines.first.scale.max(affines.second.scale) / LARGEST_SUM)
}

fn at_least(affines: &Affines, least: f32) -> Affine {
    Affine { scale: affines.output.scale.max(least), ..affines.output }
}
