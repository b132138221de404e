//! The program `waterwheel`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// For librdkafka too; why, and what it gives: `docs/performance.md`.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    waterwheel_cli::main()
}
