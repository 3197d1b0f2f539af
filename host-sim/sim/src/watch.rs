//! Who looks on while a run is under way, and may end it: a progress bar, Ctrl-C.

use crate::report::CurvePoint;
use anyhow::Result;

/// Who looks on while a run is under way, and may end it. A closure without arguments is called after every epoch.
pub trait Watch {
    /// Between samples, and between steps.
    ///
    /// # Errors
    /// What is to end the run, which returns it.
    fn pause(&self) -> Result<()> {
        Ok(())
    }

    /// After an epoch; `point` is there where the run keeps a curve.
    ///
    /// # Errors
    /// What is to end the run, which returns it.
    fn epoch(&self, point: Option<&CurvePoint>) -> Result<()>;
}

impl<F: Fn()> Watch for F {
    fn epoch(&self, _: Option<&CurvePoint>) -> Result<()> {
        self();
        Ok(())
    }
}
