//! The pure core of Waterwheel: everything that decides, and nothing that does.
//!
//! No runtime, no clock, no randomness, no I/O: whoever drives the core tells it what happened and what time it is, and
//! carries out what it asks for. So the whole of it can be tested by simulation, and the same seed gives the same run.

#![forbid(unsafe_code)]

pub mod adaptive;
pub mod breaker;
pub mod budget;
pub mod commit_map;
pub mod delay;
pub mod engine;
pub mod gate;
pub mod group;
pub mod history;
pub mod lanes;
pub mod ledger;
pub mod lifecycle;
pub mod rate;
pub mod retry;
pub mod tiers;
mod types;

pub use types::{Epoch, Now, PartitionId, Records};
