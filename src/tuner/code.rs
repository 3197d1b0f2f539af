//! The tuner's code that only some packs need, as [`Operators`] keeps it.

use super::{Float, Tuner, TunerError, Version, anomalies, classes, solve};
use crate::pack::{Operators, Pack};
use crate::recipe::Recipe;

/// Adds classes to a pack with spare ones.
pub(crate) struct SpareCode {
    pub add: fn(&mut Tuner) -> Result<usize, TunerError>,
    pub count: fn(&mut Float, &Pack),
}

pub(crate) static SPARE_CODE: SpareCode = SpareCode { add: classes::add, count: classes::count };

/// Area under the ROC curve by one of the int8 tails, and what is called before every sample.
type Auc = fn(&mut Tuner, Version, &mut dyn FnMut()) -> Result<f32, TunerError>;

pub(crate) struct AucCode(Auc);

pub(crate) static AUC_CODE: AucCode = AucCode(anomalies::auc);

/// Solves the last layer in closed form: by a recipe, in a scratch memory, with what is called after every slice.
type Solve = fn(&mut Tuner, &Recipe, &mut [u32], &mut dyn FnMut()) -> Result<(), TunerError>;

pub(crate) struct SolverCode(Solve);

pub(crate) static SOLVER_CODE: SolverCode = SolverCode(solve::solve);

impl Operators {
    pub(crate) fn spare(&self) -> Option<&'static SpareCode> {
        self.spare?.downcast_ref()
    }

    pub(crate) fn auc(&self) -> Option<Auc> {
        self.anomalies?.downcast_ref().map(|code: &AucCode| code.0)
    }

    pub(crate) fn solver(&self) -> Option<Solve> {
        self.solver?.downcast_ref().map(|code: &SolverCode| code.0)
    }
}
