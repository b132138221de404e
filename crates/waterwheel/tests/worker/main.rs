//! The public `Worker`, in process, against the embedded cluster.
//!
//! One program, so that its tests share one cluster and are linked once. A test that needs a real Kafka stands in
//! `crates/waterwheel-cli/tests/kafka/`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what goes wrong in a test's support ends it"
)]

mod assigned;
mod batches;
mod bodies;
mod canary;
mod concurrency;
mod consumer;
mod dead_letters;
mod examples;
mod explain;
mod failures;
mod handover;
mod history;
mod hooks;
mod layers;
mod life;
mod order;
mod restarts;
mod spans;
mod states;
mod steering;
mod support;
