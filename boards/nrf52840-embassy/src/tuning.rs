//! The tuning task: between two slices of a run it lets the other tasks have their turn, and does what they ask for.

use crate::link::Command;
use crate::sensor::Window;
use crate::{COMMANDS, NEWS, WINDOWS, model};
use embassy_futures::select::{Either, select};
use embassy_futures::yield_now;
use flatmin::{Arena, Pack, Progress, TunerError, Version};
use static_cell::ConstStaticCell;

static ARENA: ConstStaticCell<Arena<{ model::ARENA_BYTES }>> = ConstStaticCell::new(Arena::new());

/// What the link tells.
pub enum News {
    /// A window without a label is of this class.
    Class {
        /// The class.
        label: usize,
        /// By the tuned tail.
        tuned: bool,
    },
    /// A window with a label was kept.
    Kept {
        /// Windows that are held now.
        samples: usize,
    },
    /// A run has ended.
    Tuned {
        /// The tuned tail is in force.
        accepted: bool,
        /// The weights', as the desktop shows it.
        crc32: u32,
    },
    /// Something was not done.
    Refused(TunerError),
}

enum Event {
    Asked(Command),
    Seen(Window),
}

/// What comes next; while a run is under way what has come meanwhile, if anything.
async fn next(underway: bool) -> Option<Event> {
    if underway {
        yield_now().await;
        let asked = COMMANDS.try_receive().ok().map(Event::Asked);
        return asked.or_else(|| WINDOWS.try_receive().ok().map(Event::Seen));
    }
    Some(match select(COMMANDS.receive(), WINDOWS.receive()).await {
        Either::First(command) => Event::Asked(command),
        Either::Second(window) => Event::Seen(window),
    })
}

/// Tunes and classifies for ever.
pub async fn run() {
    let Ok(pack) = Pack::with_operators(model::PACK, &model::OPERATORS) else { return };
    let mut tuner = match model::Tuner::in_arena(pack, model::RECIPE, ARENA.take().bytes()) {
        Ok(tuner) => tuner,
        Err(why) => return NEWS.send(News::Refused(why)).await,
    };
    let (mut label, mut underway) = (None, false);
    loop {
        let news = match next(underway).await {
            None => Ok(None),
            Some(Event::Asked(Command::Label(own))) => {
                label = own;
                Ok(None)
            }
            Some(Event::Asked(Command::Tune)) => tuner.start(model::RECIPE).map(|()| {
                underway = true;
                None
            }),
            Some(Event::Seen(window)) => match label {
                Some(label) => {
                    tuner.observe(&window, label).map(|_| Some(News::Kept { samples: tuner.samples() }))
                }
                None => tuner.classify(&window).map(|answer| {
                    Some(News::Class { label: answer.label, tuned: answer.version == Version::Tuned })
                }),
            },
        };
        tell(news).await;
        if underway {
            // A slice is one sample's way through the tail and back: the sensor's next frame is not late by more than that.
            let news = tuner.poll().and_then(|progress| match progress {
                Progress::Stepped(report) if report.finished => {
                    let accepted = tuner.accept()?.accepted;
                    underway = false;
                    Ok(Some(News::Tuned { accepted, crc32: tuner.weights_crc32() }))
                }
                _ => Ok(None),
            });
            underway &= news.is_ok();
            tell(news).await;
        }
    }
}

async fn tell(news: Result<Option<News>, TunerError>) {
    match news {
        Ok(None) => {}
        Ok(Some(news)) => NEWS.send(news).await,
        Err(why) => NEWS.send(News::Refused(why)).await,
    }
}
