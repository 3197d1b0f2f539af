//! Tuning on the samples that a device keeps, from the tail in force: what a round of a fleet asks of it.

use super::Device;
use crate::link::Answer;
use anyhow::{Result, bail};
use flatmin::wire::Request;
use flatmin::{Acceptance, Recipe};
use flatmin_sim::tuning::{Start, Training};

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// Samples that the device keeps.
    pub samples: u16,
    /// Steps taken.
    pub steps: u32,
    /// Mean loss over the last epoch's minibatches; NaN without steps.
    pub loss: f64,
    /// What held-out samples said, where some are held out.
    pub acceptance: Option<Acceptance>,
    /// CRC-32 of the weights after it.
    pub weights_crc32: u32,
    /// Ticks of the device's clock that it took.
    pub ticks: u64,
}

/// Tunes on the samples that a device keeps, from the tail in force. The replay's capacity is the device's.
///
/// # Errors
/// What the device refuses: no samples.
pub fn adapt(device: &mut Device, training: &Training) -> Result<Adapted> {
    let identity = device.identify()?;
    let recipe = Recipe { replay_capacity: identity.capacity, ..training.recipe };
    let mut ticks = 0;
    if training.start == Start::ClosedForm {
        ticks += super::run::done(device.ask(&Request::Solve(recipe))?)?;
    }
    let (mut steps, mut losses, mut in_epoch, mut loss) = (0, 0.0, 0, f64::NAN);
    if training.steps {
        ticks += super::run::done(device.ask(&Request::Start(recipe))?)?;
        loop {
            let Answer::Stepped { loss: own, epoch_finished, finished, ticks: taken, .. } =
                device.ask(&Request::Step)?
            else {
                bail!("the device did not answer with a step");
            };
            ticks += taken;
            steps += 1;
            losses += f64::from(own);
            in_epoch += 1;
            if epoch_finished {
                loss = losses / f64::from(in_epoch);
                (losses, in_epoch) = (0.0, 0);
            }
            if finished {
                break;
            }
        }
    }
    let acceptance = if recipe.held_out > 0.0 {
        let Answer::Accepted { acceptance, ticks: own } = device.ask(&Request::Accept)? else {
            bail!("the device did not answer whether it takes the tail");
        };
        ticks += own;
        Some(acceptance)
    } else {
        ticks += super::run::done(device.ask(&Request::Requantize)?)?;
        None
    };
    let weights_crc32 = device.identify()?.weights_crc32;
    Ok(Adapted { samples: identity.samples, steps, loss, acceptance, weights_crc32, ticks })
}
