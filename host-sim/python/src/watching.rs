//! Ctrl-C, and the caller's progress.

use anyhow::{Result, anyhow, bail};
use flatmin_sim::planning::Onlooker;
use flatmin_sim::report::CurvePoint;
use flatmin_sim::watch::Watch;
use pyo3::prelude::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Time from one look for Ctrl-C to the next.
const BETWEEN: Duration = Duration::from_millis(50);

/// The Python caller, who waits for a run with the interpreter free for others.
pub struct Caller {
    progress: Option<Py<PyAny>>,
    epochs: u16,
    epoch: Cell<u32>,
    asked: Cell<Instant>,
}

impl Caller {
    /// `progress` is called after each of `epochs` with `(epoch, epochs, loss, accuracy)`.
    pub fn new(progress: Option<Py<PyAny>>, epochs: u16) -> Self {
        Self { progress, epochs, epoch: Cell::new(0), asked: Cell::new(Instant::now()) }
    }
}

impl Watch for Caller {
    fn pause(&self) -> Result<()> {
        if self.asked.get().elapsed() >= BETWEEN {
            self.asked.set(Instant::now());
            Python::attach(|py| py.check_signals())?;
        }
        Ok(())
    }

    fn epoch(&self, point: Option<&CurvePoint>) -> Result<()> {
        self.epoch.set(self.epoch.get() + 1);
        if let Some(progress) = &self.progress {
            let loss = point.map(|own| own.adaptation_loss);
            let accuracy = point.and_then(|own| own.test_accuracy);
            let news = (self.epoch.get(), self.epochs, loss, accuracy);
            Python::attach(|py| progress.call1(py, news))?;
        }
        Ok(())
    }
}

/// Says stop to a search's threads.
#[derive(Default)]
struct Stop(AtomicBool);

impl Onlooker for Stop {
    fn tried(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("stopped");
        }
        Ok(())
    }
}

/// Runs a search, and ends it at Ctrl-C.
pub fn stoppable<T: Send>(search: impl FnOnce(&dyn Onlooker) -> Result<T> + Send) -> Result<T> {
    let stop = Stop::default();
    interruptible(&stop.0, || search(&stop))
}

/// Works on a thread, and raises the flag at Ctrl-C: Python tells its main thread alone, which waits here.
pub fn interruptible<T: Send>(stop: &AtomicBool, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let (working, ended) = channel::<()>();
        let worker = scope.spawn(move || {
            let _working = working;
            work()
        });
        let mut signal = Ok(());
        while ended.recv_timeout(BETWEEN) == Err(RecvTimeoutError::Timeout) {
            if signal.is_ok() {
                signal = Python::attach(|py| py.check_signals());
                if signal.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        let found = worker.join().map_err(|_| anyhow!("what was asked for has failed"))?;
        signal?;
        found
    })
}
