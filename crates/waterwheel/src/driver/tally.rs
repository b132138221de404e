//! What a worker has done, counted by its shards a batch at a time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of one stretch of work.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counts { $($(#[$doc])* pub $name: u64),* }

        /// The sum over all shards.
        #[derive(Debug, Default)]
        pub(crate) struct Tally { $($name: AtomicU64),* }

        impl Tally {
            /// Adds the counts of a stretch of work.
            pub(crate) fn add(&self, counts: &Counts) {
                $(if counts.$name > 0 { self.$name.fetch_add(counts.$name, Relaxed); })*
            }

            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed)),* }
            }
        }
    };
}

tally! {
    /// Records fetched.
    fetched,
    /// Attempts begun.
    attempts,
    /// Records finished because their handler said ok.
    succeeded,
    /// Failed attempts that are followed by another.
    retried,
    /// Records finished because the dead-letter topic acknowledged them.
    dead_lettered,
    /// Records finished because the topic of the next retry tier acknowledged them; they come again from there.
    tiered,
    /// Records given to the dead-letter topic untried, because an earlier one of their key is there.
    followed,
    /// Records finished by an explicit skip.
    skipped,
    /// Attempts that panicked.
    panicked,
    /// Attempts that took longer than the handler timeout.
    timed_out,
    /// Records that could not be decoded.
    undecodable,
    /// Records whose time and the worker's clock disagree, where there is a process delay: they have no time, or one that is
    /// more than a second ahead.
    clocks_disagreed,
    /// Attempts cut off at a drain's deadline, or because their partition was lost.
    cut_off,
    /// Offsets reported as gone before they could be read (retention).
    gaps,
    /// Commits acknowledged by the broker.
    commits,
    /// Commit requests that failed.
    commit_failures,
    /// Transactions that were aborted; their records came again.
    transactions_aborted,
    /// Commits of which the map had to be cut to fit.
    maps_cut,
    /// Dead letters, and letters to retry tiers, that could not be written at the first try.
    dead_letter_failures,
    /// Times that partitions were assigned.
    assignments,
    /// Partitions given back after a drain.
    revoked,
    /// Partitions lost.
    lost,
    /// Moments that a hook was not told, because it was too far behind.
    hook_moments_dropped,
    /// Calls of hooks that panicked, or did not end in time.
    hook_failures,
    /// Times that the circuit breaker opened.
    breaker_opened,
}
