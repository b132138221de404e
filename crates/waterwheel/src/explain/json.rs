//! Explanations as JSON: durations in seconds, times in milliseconds since the Unix epoch.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use waterwheel_core::engine::Place;

use super::{Explanation, KeyExplanation, LastCommit, PartitionExplanation, RecordExplanation, word_of};

impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = json!({
            "worker": self.worker,
            "group": self.group,
            "state": self.state.name(),
            "partitions": self.partitions.iter().map(partition).collect::<Vec<_>>(),
        });
        value.serialize(serializer)
    }
}

fn partition(of: &PartitionExplanation) -> Value {
    let committed = of.committed.map(|LastCommit { offset, age, metadata, room, is_cut }| {
        let age = age.as_secs_f64();
        json!({ "offset": offset, "age_seconds": age, "metadata": metadata, "room": room, "is_cut": is_cut })
    });
    let head = of.head.as_ref().map(|head| {
        let mut value = record(&head.record);
        value["age_seconds"] = head.age.as_secs_f64().into();
        value
    });
    let mut value = json!({
        "topic": &*of.partition.topic,
        "partition": of.partition.partition,
        "frontier": of.frontier,
        "finished_above": of.finished_above,
        "head": head,
        "committed": committed,
        "next": of.next,
        "fetched": of.fetched,
        "end": of.end,
        "lag": of.lag(),
        "running": of.running,
        "waiting": of.waiting,
        "set_aside": of.set_aside,
        "bytes": of.bytes,
        "held": of.held.map(word_of),
    });
    // Only what was asked about.
    if let Some(of) = &of.record {
        value["record"] = record(of);
    }
    if let Some(KeyExplanation { in_work, queued, kept, first }) = &of.key {
        let in_work: Vec<_> = in_work.iter().map(record).collect();
        value["key"] = json!({ "in_work": in_work, "queued": queued, "kept": kept, "first": first });
    }
    if let Some(letter) = of.follows {
        value["follows"] = letter.into();
    }
    value
}

pub(super) fn record(of: &RecordExplanation) -> Value {
    let mut value = json!({
        "offset": of.offset,
        "attempts": of.attempts,
        "last_failure": of.last_failure.map(|class| class.as_str()),
        "is_parked": of.is_parked,
        "first_failed_ms": of.first_failed_ms,
        "timestamp_ms": of.timestamp_ms,
    });
    let (stage, time, behind) = match of.place {
        Place::Finished => ("finished", None, None),
        Place::Gathered(since) => ("gathered", Some(since), None),
        Place::Running(since) => ("running", Some(since), None),
        Place::Cutting(since) => ("cutting", Some(since), None),
        Place::Backoff(left) => ("backoff", Some(left), None),
        Place::Delayed(left) => ("delayed", Some(left), None),
        Place::Due => ("due", None, None),
        Place::Settling => ("settling", None, None),
        Place::Resending => ("resending", None, None),
        Place::Queued { behind, head } => ("queued", None, Some((behind, head))),
        Place::Kept { behind, head } => ("kept", None, Some((behind, head))),
        Place::Fetched => ("fetched", None, None),
        Place::Unfetched => ("unfetched", None, None),
        Place::Absent => ("absent", None, None),
    };
    value["stage"] = stage.into();
    if let Some(time) = time {
        let name = match of.place {
            Place::Backoff(_) => "retry_in_seconds",
            Place::Delayed(_) => "starts_in_seconds",
            _ => "since_seconds",
        };
        value[name] = time.as_secs_f64().into();
    }
    if let Some((behind, head)) = behind {
        value["behind"] = behind.into();
        value["behind_offset"] = head.into();
    }
    value
}
