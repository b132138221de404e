//! The driver: moves data and time around the pure core, and is the only place that spawns.
//!
//! ```text
//! coordinator (1 task): membership ─ Group ─ commits          shard (one a core): fetch queue ─ Engine ─ handlers
//!        │  ▲                                                       ▲  │
//!        └──┼──────────── mailbox: assign, drain, lose, collect ────┘  │
//!           └──────────── mailbox: drained, collected, stopped ────────┘
//! ```
//!
//! A message passes between them for each control action, never for a record. Owns **I8** (polling never stops: the
//! membership has a thread of its own, and the coordinator never waits for a handler) and **I9** (after a drain nothing
//! runs, or the report names what was cut off).

#[cfg(any(test, feature = "__bench"))]
pub(crate) mod alone;
pub(crate) mod attempt;
pub(crate) mod claims;
pub(crate) mod classes;
pub(crate) mod clock;
pub(crate) mod coordinator;
pub(crate) mod delivery;
pub(crate) mod gate;
pub(crate) mod groupless;
pub(crate) mod hooking;
pub(crate) mod mailbox;
pub(crate) mod opening;
pub(crate) mod outbound;
pub(crate) mod places;
pub(crate) mod pool;
pub(crate) mod quiet;
pub(crate) mod shard;
pub(crate) mod tally;
pub(crate) mod tasks;
pub(crate) mod transaction;
pub(crate) mod watched;

use tokio::task::JoinHandle;

/// Starts a task on the caller's runtime. The only way to do so in this crate, so that every task has an owner.
#[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs a closure on a thread where it may block.
#[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub(crate) fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(work)
}
