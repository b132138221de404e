//! What a worker file says, as plain data.

use std::time::Duration;

use waterwheel::RetryTiers;
use waterwheel::config::dead_letter_topic;

use super::limits::LimitsSpec;
use crate::body::BodyFormat;

/// One `[[worker]]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkerSpec {
    /// Default: the group's name.
    pub(crate) name: String,
    /// At least one; a name, or a pattern that begins with `^`.
    pub(crate) topics: Vec<String>,
    pub(crate) group: String,
    pub(crate) start: StartSpec,
    /// What a value has to be.
    pub(crate) value: BodyFormat,
    pub(crate) order: OrderSpec,
    /// Most handlers at once, 1 to 1,000,000; default 256.
    pub(crate) concurrency: u32,
    /// Most records held; default 10,000.
    pub(crate) in_work: u64,
    /// Most bytes held; default 64 MiB.
    pub(crate) in_work_bytes: u64,
    /// Default: none.
    pub(crate) process_delay: Duration,
    /// Default 1 s.
    pub(crate) commit_every: Duration,
    /// Default 25 s.
    pub(crate) drain_timeout: Duration,
    /// Default 5 min.
    pub(crate) stall_after: Duration,
    /// Default: warn.
    pub(crate) on_stall: OnStall,
    /// Default: no.
    pub(crate) start_when_healthy: bool,
    pub(crate) time_attempts: bool,
    pub(crate) on_drain_deadline: OnDrainDeadline,
    pub(crate) retry: RetrySpec,
    pub(crate) dead_letter: Option<DeadLetterSpec>,
    /// Default: the dead letter if one is configured, else park.
    pub(crate) on_exhausted: OnExhausted,
    /// Default: continue.
    pub(crate) after_dead_letter: AfterDeadLetter,
    /// Default: none.
    pub(crate) retry_tiers: Option<RetryTiers>,
    pub(crate) handler: HandlerSpec,
    /// With [`HandlerSpec::Forward`] only.
    pub(crate) exactly_once: Option<ExactlyOnceSpec>,
    /// Default: none.
    pub(crate) limits: LimitsSpec,
}

impl WorkerSpec {
    /// The topics of the retry tiers of a topic, which the worker reads and writes.
    pub(crate) fn tiers_of(&self, topic: &str) -> Vec<String> {
        let tiers = self.retry_tiers.as_ref();
        // Names that cannot be made are refused with the file.
        tiers.and_then(|tiers| tiers.topics(topic, &self.group).ok()).unwrap_or_default()
    }

    /// Where records go from each topic that is named (patterns are not followed): dead letters, retry tiers and copies.
    pub(super) fn routes(&self) -> Vec<(String, String)> {
        let mut routes = Vec::new();
        for topic in self.topics.iter().filter(|topic| !topic.starts_with('^')) {
            if let Some(dead_letter) = &self.dead_letter
                && let Ok(to) = dead_letter_topic(&dead_letter.topic, topic, &self.group)
            {
                routes.push((topic.clone(), to));
            }
            routes.extend(self.tiers_of(topic).into_iter().map(|to| (topic.clone(), to)));
            if let HandlerSpec::Forward { topic: to } = &self.handler {
                routes.push((topic.clone(), to.clone()));
            }
        }
        routes
    }
}

/// Where a group without commits begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartSpec {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// That long before now.
    Ago(Duration),
}

/// What runs one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderSpec {
    Key,
    Partition,
    None,
}

/// What happens to handlers that run past the drain deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrainDeadline {
    Cancel,
    Abandon,
}

/// What happens to handlers that run for longer than `stall_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStall {
    Warn,
    TimeOut,
    DeadLetter,
    Park,
    Stop,
}

/// What happens after the last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnExhausted {
    DeadLetter,
    Park,
    Skip,
    Stop,
}

/// What becomes of later records of a key of which one is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterDeadLetter {
    Continue,
    Follow,
}

/// `[worker.retry]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RetrySpec {
    /// The first one counts; at least 1, default 5.
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
}

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Backoff {
    /// Default 200 ms.
    pub(crate) initial: Duration,
    /// At least 1; default 2.
    pub(crate) factor: f64,
    /// Default 30 s.
    pub(crate) max: Duration,
    /// Part of the wait that is random, 0 to 1; default 0.2.
    pub(crate) jitter: f64,
}

/// `[worker.dead_letter]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetterSpec {
    /// With `{topic}` and `{group}` still to be filled in; default `{topic}.{group}.dlt`.
    pub(crate) topic: String,
    pub(crate) too_large: TooLarge,
}

/// `[worker.exactly_once]`: copies and offsets in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExactlyOnceSpec {
    /// What the transactional ids begin with; default: one of the run's own.
    pub(crate) transactional_id: Option<String>,
    /// Default 100 ms.
    pub(crate) every: Duration,
    /// Default 50,000.
    pub(crate) records: u64,
    /// Default 32 MiB.
    pub(crate) bytes: u64,
}

/// What happens to a record that the dead-letter topic does not take for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLarge {
    /// The partition is held.
    Hold,
    /// The value is replaced by a pointer to the original.
    Pointer,
}

/// `[worker.handler]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandlerSpec {
    Exec {
        /// Program and arguments; at least the program.
        command: Vec<String>,
        /// 1 to 1,000; default 1.
        processes: u32,
        /// Of one attempt; default 30 s.
        timeout: Duration,
    },
    Print,
    Forward {
        topic: String,
    },
}
