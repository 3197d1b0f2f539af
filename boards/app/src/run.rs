//! Requests about a run's bytes and about how samples do, which take a tuner and no board.

use flatmin::wire::{COUNTS, Request, Response};
use flatmin::{Arithmetic, Tuner, TunerError};

/// Carries a request out; `None` where there is nothing to answer but that it is done.
pub(crate) fn carry_out<'r, 'p, A: Arithmetic<'p>>(
    tuner: &mut Tuner<'p, A>,
    request: &Request,
    part: &'r mut [u8],
) -> Result<Option<Response<'r>>, TunerError> {
    Ok(Some(match *request {
        Request::PullRun { offset } => {
            let count = tuner.save_run(size(offset), part)?;
            let length = u32::try_from(tuner.run_bytes()).unwrap_or(u32::MAX);
            Response::Tail { length, bytes: part.get(..count).unwrap_or(&[]) }
        }
        Request::PushRun { offset, bytes } => {
            tuner.write_run(size(offset), bytes)?;
            return Ok(None);
        }
        Request::AdoptRun { head } => {
            tuner.adopt_run(head)?;
            return Ok(None);
        }
        Request::Watch(watch) => {
            tuner.watch(watch);
            return Ok(None);
        }
        Request::Drift => Response::Drift(tuner.drift()),
        Request::Confusion { version, label, first } => {
            let classes = tuner.classes();
            let mut counts = [0; COUNTS];
            let count = classes.saturating_sub(first.into()).min(counts.len());
            tuner.confusion_row(
                version,
                label.into(),
                first.into(),
                counts.get_mut(..count).unwrap_or(&mut []),
            )?;
            for (place, count) in part.as_chunks_mut::<2>().0.iter_mut().zip(counts) {
                *place = count.to_le_bytes();
            }
            let classes = u16::try_from(classes).unwrap_or(u16::MAX);
            Response::Counts { classes, counts: part.get(..2 * count).unwrap_or(&[]) }
        }
        _ => Response::Refused("unknown request"),
    }))
}

fn size(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
