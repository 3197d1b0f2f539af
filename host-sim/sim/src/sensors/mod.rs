//! A device's sensors on the desktop: the same front ends and applications, fed from recordings.

pub mod imu;
pub mod keywords;
pub mod motion;
