//! Tests on a real Kafka, of the built command as separate processes.
//!
//! One program, so that they share one broker and are linked once. A test gets its Kafka from [`support`] and ends early
//! if there is none to be had; with `WATERWHEEL_KAFKA=required` it fails instead.

#![expect(clippy::expect_used, clippy::panic, reason = "what goes wrong in a test's support ends the test")]

mod administration;
mod assigned;
mod batches;
mod bench;
mod beside;
mod brokers;
mod canary;
mod clients;
mod commits;
mod consumers;
mod dead_letters;
mod deaths;
mod delays;
mod doctor;
mod exactly_once;
mod explain;
mod forgotten;
mod frozen;
mod gates;
mod groups;
mod harness;
mod history;
mod hostile;
mod limits;
mod network;
mod produce_verb;
mod producing;
mod reading;
mod rebalances;
mod records;
mod run;
mod security;
mod soak;
mod states;
mod statics;
mod support;
mod tiers;
mod topic_verb;
mod topics;
mod transactions;
mod verifiable;
