//! Tests of handlers and workers on a Kafka in memory.
//!
//! A [`Cluster`] is a small Kafka: topics, consumer groups with several members, commits, transactions. Its
//! [`client`](Cluster::client) is a [`waterwheel::Client`] like any other, so that what is tested is what runs: workers,
//! histories, producers. A test tells it what is to go wrong (a request that fails, a member that is cut off, a rebalance),
//! and waits for what has to come of it.
//!
//! ```
//! use waterwheel::{DeadLetter, Failure, Message, Raw, Retry};
//! use waterwheel_test::Cluster;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::new().topic("orders", 3).topic("failed", 1);
//! cluster.produce("orders", "ann", "1200").await;
//! cluster.produce("orders", "bob", "much").await;
//!
//! let worker = cluster.client().worker("billing").topic("orders").dead_letter(DeadLetter::topic("failed"));
//! let worker = worker.handler(|order: Message<Raw>| async move {
//!     let cents: u32 = std::str::from_utf8(order.value().unwrap_or_default())?.parse()?;
//!     println!("{cents} cents");
//!     anyhow::Ok(())
//! });
//! let worker = worker.build()?;
//! let handle = worker.handle();
//! let running = tokio::spawn(worker.run());
//!
//! cluster.assert_dead_lettered("failed", 1).await;
//! cluster.assert_finished("billing", "orders").await;
//! handle.close();
//! assert_eq!(running.await??.counts.succeeded, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Time
//!
//! The cluster and its workers go by the runtime's clock. With `#[tokio::test(start_paused = true)]` that clock is paused:
//! it goes on by itself to the next timer whenever everything waits, so that retries of minutes take no time, and
//! [`Cluster::advance`] lets as much of it pass as one likes. On such a runtime, which has one thread, a test runs the same
//! way each time. On a runtime whose clock runs it works as well, and takes as long as it takes.
//!
//! A cluster's wall clock begins at 2026-01-01T00:00:00Z; records without a time of their own get its.
//!
//! # What it leaves out
//!
//! Compression, quotas, limits of request sizes, and rights: [`Cluster::fail`] with code 29 stands in for a missing right.
//! Replication: [`Cluster::change_leader`] does to a log what a change of leaders can do. Of patterns in subscriptions it
//! knows characters, `.`, `*`, `+`, `\` and a `$` at the end. The same suite of tests runs on it and on a real Kafka,
//! for what the library's clients promise.

#![forbid(unsafe_code)]

mod assertions;
mod cluster;
mod host;
mod transaction;

pub use cluster::Cluster;
pub use host::Host;
pub use transaction::Transaction;
pub use waterwheel::memory::{CommittedOffset, Lasts, Request};
