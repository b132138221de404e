//! The parts of the command `waterwheel` that other programs and tests use, too.

#![forbid(unsafe_code)]

pub mod audit;
pub mod journal;
