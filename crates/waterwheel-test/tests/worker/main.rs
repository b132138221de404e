//! Workers on the memory cluster, in paused time: what only a cluster under the test's control makes cheap to show.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "what goes wrong in a test's support ends it")]

mod cancel_safety;
mod classes;
mod delays;
mod exactly_once;
mod exactly_once_storms;
mod faults;
mod follow;
mod kit;
mod limits;
mod lives;
mod metrics;
mod seeds;
mod spans;
mod stalls;
mod storms;
mod support;
mod tiers;
mod transactions;
