//! What goes wrong on command: requests that fail, requests that take their time, hosts that are cut off.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What a client asks of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Request {
    /// Records of a partition.
    Fetch,
    /// Records to be written.
    Produce,
    /// Offsets to be committed.
    Commit,
    /// The offsets that a group has committed.
    Committed,
    /// To be a member of a group.
    Join,
    /// What topics there are.
    Describe,
    /// Where a partition's log begins and ends.
    Offsets,
    /// A topic to be made.
    CreateTopic,
    /// Topics to be deleted, or to be changed by tools: partitions, records, configurations.
    Topics,
    /// What groups there are, and changes to them by tools.
    Groups,
    /// A transactional id to be taken.
    InitProducer,
    /// Offsets to be part of a transaction.
    AddOffsets,
    /// A transaction to be committed or aborted.
    EndTransaction,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// So many requests fail.
    Times(usize),
    /// All that are made until then fail.
    For(Duration),
}

#[derive(Clone, Copy)]
enum Left {
    Times(usize),
    Until(Instant),
}

/// What a host that is cut off still reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody.
    Nobody,
    /// Leaders of partitions, but no group's coordinator.
    Leaders,
}

/// The test's own host: no fault is for it.
pub(super) const TESTS_HOST: u32 = 0;

/// What is to go wrong.
#[derive(Default)]
pub(super) struct Faults {
    /// In the order in which they were asked for; the first that fits is met.
    errors: Vec<(Request, i32, Left)>,
    latency: BTreeMap<Request, Duration>,
    /// Hosts that reach nobody, or all but the groups' coordinators, and since when.
    cut_off: BTreeMap<u32, (Instant, Reach)>,
}

impl Faults {
    pub(super) fn fail(&mut self, request: Request, code: i32, lasts: Lasts, now: Instant) {
        let left = match lasts {
            Lasts::Times(times) => Left::Times(times),
            Lasts::For(time) => Left::Until(now + time),
        };
        self.errors.push((request, code, left));
    }

    /// The code that a request made now fails with, if it is to.
    pub(super) fn meet(&mut self, host: u32, request: Request, now: Instant) -> Option<i32> {
        if host == TESTS_HOST {
            return None;
        }
        self.errors.retain(|(.., left)| match left {
            Left::Times(times) => *times > 0,
            Left::Until(end) => now < *end,
        });
        let (_, code, left) = self.errors.iter_mut().find(|(of, ..)| *of == request)?;
        if let Left::Times(times) = left {
            *times -= 1;
        }
        Some(*code)
    }

    pub(super) fn slow(&mut self, request: Request, latency: Duration) {
        self.latency.insert(request, latency);
    }

    pub(super) fn latency(&self, host: u32, request: Request) -> Duration {
        if host == TESTS_HOST {
            return Duration::ZERO;
        }
        self.latency.get(&request).copied().unwrap_or_default()
    }

    pub(super) fn cut_off(&mut self, host: u32, reach: Reach, now: Instant) {
        self.cut_off.insert(host, (now, reach));
    }

    pub(super) fn heal(&mut self, host: u32) {
        self.cut_off.remove(&host);
    }

    pub(super) fn reaches_brokers(&self, host: u32) -> bool {
        self.cut_off.get(&host).is_none_or(|(_, reach)| *reach == Reach::Leaders)
    }

    pub(super) fn reaches_group(&self, host: u32) -> bool {
        !self.cut_off.contains_key(&host)
    }

    /// How long no coordinator has heard of a host; `None` while they do.
    pub(super) fn silent_for(&self, host: u32, now: Instant) -> Option<Duration> {
        self.cut_off.get(&host).map(|(since, _)| now - *since)
    }
}
