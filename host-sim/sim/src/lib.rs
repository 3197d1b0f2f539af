//! Tuning on the desktop: subjects with their samples, the calls that a device makes, what came of them, and searches
//! for what to train and how.

pub mod adding;
pub mod calibration;
pub mod chart;
pub mod contenders;
pub mod curvature;
pub mod delta;
pub mod export;
pub mod inference;
pub mod objective;
pub mod planning;
pub mod report;
pub mod samples;
pub mod sensors;
pub mod setting;
pub mod subject;
pub mod tail_weights;
pub mod tuned;
pub mod tuning;
pub mod watch;
pub mod wearers;
