//! The laboratory: what SAM and ASAM do for a device that fine-tunes, and what that costs. No part of the product
//! depends on it.

pub mod bench;
pub mod experiments;
