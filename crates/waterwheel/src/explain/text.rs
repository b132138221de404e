//! Explanations as people read them on a terminal.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use waterwheel_core::engine::{HoldReason, Place};

use super::{Explanation, KeyExplanation, LastCommit, PartitionExplanation, RecordExplanation};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} of group {}: {}", self.worker, self.group, self.state.name())?;
        if self.partitions.is_empty() {
            write!(f, "\n  has nothing of it: another member does, or nobody")?;
        }
        self.partitions.iter().try_for_each(|partition| write!(f, "\n{partition}"))
    }
}

impl Display for PartitionExplanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.partition)?;
        match &self.head {
            Some(head) => {
                write!(f, "the commit is held at {} for {}", self.frontier, Time(head.age))?;
                write!(f, "\n  by {}", head.record)?;
            }
            None => write!(f, "nothing holds the commit at {}", self.frontier)?,
        }
        match self.committed {
            Some(LastCommit { offset, age, metadata, room, is_cut }) => {
                let cut = if is_cut { ", cut" } else { "" };
                write!(f, "\n  committed {offset} {} ago, metadata {metadata} of {room}{cut}", Time(age))?;
            }
            None => write!(f, "\n  nothing committed yet")?,
        }
        write!(f, "; {} finished above {}", self.finished_above, self.frontier)?;
        write!(f, "\n  next {}, fetched to {}", self.next, self.fetched)?;
        if let (Some(end), Some(lag)) = (self.end, self.lag()) {
            write!(f, ", end {end}, lag {lag}")?;
        }
        let (running, waiting, aside) = (self.running, self.waiting, self.set_aside);
        write!(f, "\n  {running} running, {waiting} waiting for their key, {aside} set aside, {} bytes", self.bytes)?;
        if let Some(reason) = self.held {
            write!(f, "\n  held: {}", because(reason))?;
        }
        if let Some(record) = &self.record {
            write!(f, "\n  asked about: {record}")?;
        }
        self.key.iter().try_for_each(|key| write!(f, "\n  {key}"))?;
        self.follows
            .iter()
            .try_for_each(|letter| write!(f, "\n  the key follows its dead letter at {letter}, until it is released"))
    }
}

fn because(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::Bytes => "its batches hold their share of in_work_bytes",
        HoldReason::DeadLetter => "its dead letters cannot be written",
        HoldReason::Draining => "it is being drained",
        HoldReason::Paused => "the worker is paused, or this partition",
        HoldReason::Lease => "the group's coordinator has not answered for too long",
        HoldReason::Breaker => "the circuit breaker is open, or waits for its probes",
        HoldReason::RateLimit => "the rate limit is reached",
        HoldReason::Delayed => "none of its records that are taken up is due yet",
        HoldReason::MapFull => "its commit map is full (on_map_full = hold)",
    }
}

impl Display for RecordExplanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.offset)?;
        let behind = |f: &mut Formatter<'_>, behind: usize, head: Option<i64>| {
            let plural = if behind == 1 { "" } else { "s" };
            write!(f, "waits behind {behind} record{plural} of its key")?;
            head.map_or(Ok(()), |head| write!(f, ", first {head}"))
        };
        match self.place {
            Place::Finished => write!(f, "finished"),
            Place::Gathered(since) => write!(f, "waits for its batch since {}", Time(since)),
            Place::Running(since) => write!(f, "running since {}", Time(since)),
            Place::Cutting(since) => write!(f, "running since {}, and was told to end", Time(since)),
            Place::Delayed(left) => write!(f, "not due yet: starts in {}", Time(left)),
            Place::Backoff(left) => write!(f, "next attempt in {}", Time(left)),
            Place::Due => write!(f, "its attempt is due, and waits for a free handler"),
            Place::Settling => write!(f, "waits for its dead letter to be acknowledged"),
            Place::Resending => write!(f, "its dead letter could not be written, and is sent again"),
            Place::Queued { behind: n, head } => behind(f, n, head),
            Place::Kept { behind: n, head } => {
                behind(f, n, head)?;
                write!(f, ", and is read again in its turn")
            }
            Place::Fetched => write!(f, "fetched, and not taken up yet"),
            Place::Unfetched => write!(f, "not fetched yet"),
            Place::Absent => write!(f, "a hole in the log"),
        }?;
        match self.attempts {
            0 => {}
            1 => write!(f, ", 1 attempt")?,
            n => write!(f, ", {n} attempts")?,
        }
        if let Some(class) = self.last_failure {
            write!(f, ", failed last by {class}")?;
        }
        if self.is_parked {
            write!(f, ", parked")?;
        }
        Ok(())
    }
}

impl Display for KeyExplanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the key: {} in work, {} queued, {} to be read again", self.in_work.len(), self.queued, self.kept)?;
        self.in_work.iter().try_for_each(|record| write!(f, "\n    {record}"))?;
        if !self.first.is_empty() {
            let first: Vec<_> = self.first.iter().map(ToString::to_string).collect();
            write!(f, "\n    then {}", first.join(", "))?;
        }
        Ok(())
    }
}

/// A time in its two largest units.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{}ms", self.0.as_millis()),
            1..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m {}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h {}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d {}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureClass;
    use crate::record::TopicPartition;
    use waterwheel_core::lifecycle::WorkerState;

    fn record(offset: i64, place: Place) -> RecordExplanation {
        let (last_failure, is_parked) = (None, false);
        RecordExplanation {
            offset,
            place,
            attempts: 0,
            last_failure,
            is_parked,
            first_failed_ms: None,
            timestamp_ms: None,
        }
    }

    fn explanation() -> Explanation {
        let secs = Duration::from_secs;
        let failed = RecordExplanation {
            attempts: 3,
            last_failure: Some(FailureClass::Timeout),
            is_parked: true,
            ..record(4711, Place::Backoff(secs(90)))
        };
        let queued = record(4720, Place::Queued { behind: 2, head: Some(4711) });
        let partition = PartitionExplanation {
            partition: TopicPartition::new("orders", 3),
            frontier: 4711,
            finished_above: 120,
            head: Some(super::super::HeadExplanation { record: failed.clone(), age: secs(7_300) }),
            committed: Some(LastCommit { offset: 4711, age: secs(1), metadata: 88, room: 4096, is_cut: false }),
            next: 5000,
            fetched: 5100,
            end: Some(6000),
            running: 0,
            waiting: 9,
            set_aside: 1,
            bytes: 4096,
            held: Some(HoldReason::DeadLetter),
            record: Some(queued),
            key: Some(KeyExplanation { in_work: vec![failed], queued: 2, kept: 0, first: vec![4715, 4720] }),
            follows: Some(4690),
        };
        let (worker, group) = ("packing".to_owned(), "billing".to_owned());
        Explanation { worker, group, state: WorkerState::Consuming, partitions: vec![partition] }
    }

    #[test]
    fn an_explanation_reads_as_sentences() {
        let text = "packing of group billing: consuming
orders-3: the commit is held at 4711 for 2h 1m
  by 4711: next attempt in 1m 30s, 3 attempts, failed last by timeout, parked
  committed 4711 1s ago, metadata 88 of 4096; 120 finished above 4711
  next 5000, fetched to 5100, end 6000, lag 1169
  0 running, 9 waiting for their key, 1 set aside, 4096 bytes
  held: its dead letters cannot be written
  asked about: 4720: waits behind 2 records of its key, first 4711
  the key: 1 in work, 2 queued, 0 to be read again
    4711: next attempt in 1m 30s, 3 attempts, failed last by timeout, parked
    then 4715, 4720
  the key follows its dead letter at 4690, until it is released";
        assert_eq!(explanation().to_string(), text);
    }

    #[test]
    fn an_explanation_is_json_with_numbers() {
        let json = serde_json::to_value(explanation()).unwrap();
        let partition = &json["partitions"][0];
        assert_eq!((&json["state"], &partition["lag"]), (&"consuming".into(), &1169.into()));
        assert_eq!(partition["head"]["retry_in_seconds"], 90.0);
        assert_eq!(partition["follows"], 4690);
        let delayed = super::super::json::record(&record(1, Place::Delayed(Duration::from_secs(3))));
        assert_eq!((&delayed["starts_in_seconds"], &delayed["since_seconds"]), (&3.0.into(), &serde_json::Value::Null));
        assert_eq!((&partition["record"]["stage"], &partition["record"]["behind"]), (&"queued".into(), &2.into()));
        assert_eq!((&partition["key"]["first"][1], &partition["held"]), (&4720.into(), &"dead_letter".into()));
    }
}
