//! Typed bodies: formats by themselves, with a registry over HTTP, with workers, and against another client.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test's support ends the test")]

mod cluster;
mod codecs;
mod evolution;
mod examples;
mod python;
#[path = "../../examples/registry/mod.rs"]
mod registry;
mod requests;
mod tls;
mod types;
mod workers;
