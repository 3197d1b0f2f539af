//! The bundled task: which of seven physiotherapy exercises does a wearer do whom the factory model never saw?
//!
//! `data/watch_dataset.bin` holds 140 recordings of a wrist-worn inertial sensor (10 wearers, 2 sides,
//! 7 exercises; 50 Hz; acceleration and rotation on three axes), `models/wearerNN.tflite` the factory model
//! that was pretrained on the nine other wearers. The README next to each says how it was made.
//!
//! # Protocol
//!
//! Each recording of the held-out wearer is cut in the middle, at sample `length / 2`. The **first half** gives
//! the adaptation windows, the **second half** the test windows; no window reaches over the cut.
//!
//! - Adaptation candidates do not overlap ([`ADAPTATION_STRIDE`] samples apart): at least 9 a class and wearer
//!   (wearers 3 and 4; 12 or more for all others), at most 24; both sides together.
//! - Test windows start [`TEST_STRIDE`] samples apart, so neighbours share half of their samples: 136 to 270 a
//!   wearer, and their number overstates how many independent observations there are.
//!
//! A window is `[f32; WINDOW_VALUES]` in the order of the model's input, `[1, 100, 1, 6]`: all channels of the
//! first sample, then of the second. Values are in the unit of the model's input, before quantization:
//! acceleration in g, rotation in units of 2 rad/s.

mod error;
mod protocol;
mod random;
mod recordings;
#[cfg(test)]
mod tests;

pub use error::WearersError;
pub use protocol::{Window, flip_labels};
pub use random::SplitMix64;
pub use recordings::{Recording, Recordings};

/// Exercises by label, as the source abbreviates them: pendulum, abduction, forward elevation, internal
/// rotation, external rotation, trapezius, row.
pub const EXERCISES: [&str; 7] = ["PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"];
/// Wearers are numbered 1 to this.
pub const WEARERS: usize = 10;
/// Samples a second.
pub const SAMPLE_RATE_HZ: usize = 50;
/// Samples in a window: two seconds.
pub const WINDOW: usize = 100;
/// Values in a sample: acceleration x, y, z, rotation x, y, z.
pub const CHANNELS: usize = 6;
/// Values in a window.
pub const WINDOW_VALUES: usize = WINDOW * CHANNELS;
/// Distance between the first samples of neighbouring adaptation candidates: they do not overlap.
pub const ADAPTATION_STRIDE: usize = WINDOW;
/// Distance between the first samples of neighbouring test windows: they overlap by half.
pub const TEST_STRIDE: usize = WINDOW / 2;

static DATA: &[u8] = include_bytes!("../../../data/watch_dataset.bin");

static MODELS: [&[u8]; WEARERS] = [
    include_bytes!("../../../models/wearer01.tflite"),
    include_bytes!("../../../models/wearer02.tflite"),
    include_bytes!("../../../models/wearer03.tflite"),
    include_bytes!("../../../models/wearer04.tflite"),
    include_bytes!("../../../models/wearer05.tflite"),
    include_bytes!("../../../models/wearer06.tflite"),
    include_bytes!("../../../models/wearer07.tflite"),
    include_bytes!("../../../models/wearer08.tflite"),
    include_bytes!("../../../models/wearer09.tflite"),
    include_bytes!("../../../models/wearer10.tflite"),
];

/// The factory model that never saw this wearer (1 to [`WEARERS`]), as `.tflite`.
pub fn model_bytes(wearer: usize) -> Option<&'static [u8]> {
    MODELS.get(wearer.checked_sub(1)?).copied()
}
