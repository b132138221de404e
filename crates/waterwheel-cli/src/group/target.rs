//! Where a group is to be set: what `--to` and `--topic` say, and what offsets that means.

use std::collections::BTreeMap;
use std::path::PathBuf;

use waterwheel::admin::{Admin, Committed, OffsetSpec};
use waterwheel::config::{check_group, check_topic, parse_duration};
use waterwheel::{Error, KafkaError, TopicPartition};

use crate::file::parse_instant;
use crate::words::now_ms;

/// What `--to` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Earliest,
    Latest,
    /// The first record at or after that time, in milliseconds since the Unix epoch.
    Time(i64),
    Offset(i64),
    /// So many records on, or back, from what is committed.
    Shift(i64),
    /// What that group has committed.
    Group(String),
    /// What an undo file says.
    File(PathBuf),
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(time) = text.strip_prefix('@') {
            return match time.parse() {
                Ok(millis) => Ok(Self::Time(millis)),
                Err(_) => parse_instant(time)
                    .map(Self::Time)
                    .map_err(|problem| format!("{problem}; write it as @2026-01-01T00:00:00Z, or @ and milliseconds")),
            };
        }
        if let Some(ago) = text.strip_prefix('-') {
            let ago = parse_duration(ago).map_err(|error| error.to_string())?;
            let millis = now_ms().saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
            return Ok(Self::Time(i64::try_from(millis).unwrap_or(i64::MAX)));
        }
        if let Some(by) = text.strip_prefix("shift:") {
            return by.parse().map(Self::Shift).map_err(|_| "is not shift: and a number, as shift:-10".to_owned());
        }
        if let Some(group) = text.strip_prefix("group:") {
            return check_group(group).map(|()| Self::Group(group.to_owned())).map_err(|error| error.to_string());
        }
        Ok(match text {
            "earliest" => Self::Earliest,
            "latest" => Self::Latest,
            _ => text.parse().map_or_else(|_| Self::File(text.into()), Self::Offset),
        })
    }
}

/// What `--topic` says: a topic, and which of its partitions if not all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: Option<Vec<i32>>,
}

impl Topic {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, partitions) = text.split_once(':').map_or((text, None), |(name, numbers)| (name, Some(numbers)));
        check_topic(name).map_err(|error| error.to_string())?;
        let number = |text: &str| text.trim().parse::<i32>().ok().filter(|n| (0..100_000).contains(n));
        let run = |text: &str| match text.split_once('-') {
            None => number(text).map(|n| n..=n),
            Some((from, to)) => number(from).zip(number(to)).map(|(from, to)| from..=to).filter(|run| !run.is_empty()),
        };
        let partitions = partitions.map(|text| {
            let runs: Option<Vec<_>> = text.split(',').map(run).collect();
            runs.map(|runs| runs.into_iter().flatten().collect())
        });
        match partitions {
            Some(None) => Err("is not a topic, or a topic and partitions as orders:0,2-5".to_owned()),
            partitions => Ok(Self { name: name.to_owned(), partitions: partitions.flatten() }),
        }
    }

    pub(super) fn holds(&self, partition: &TopicPartition) -> bool {
        *partition.topic == *self.name && self.partitions.as_ref().is_none_or(|of| of.contains(&partition.partition))
    }
}

/// What a partition's log has, and so where a group may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) begin: i64,
    pub(super) end: i64,
}

/// Where each partition is to be set, with what its log has.
pub(super) type Aims = BTreeMap<TopicPartition, (i64, Log)>;

/// The offsets that `target` means for partitions, within what their logs have. Partitions for which it means nothing (to
/// shift what is not committed, or to copy what the other group has not) are left out.
pub(super) async fn aims(
    admin: &Admin,
    target: &Target,
    partitions: &[TopicPartition],
    committed: &[Committed],
) -> Result<Result<Aims, KafkaError>, Error> {
    let of = |spec| partitions.iter().map(|partition| (partition.clone(), spec)).collect::<Vec<_>>();
    let (begins, ends) =
        tokio::try_join!(admin.offsets(of(OffsetSpec::Earliest)), admin.offsets(of(OffsetSpec::Latest)))?;
    let times = match target {
        Target::Time(millis) => admin.offsets(of(OffsetSpec::Timestamp(*millis))).await?,
        _ => Vec::new(),
    };
    let other = match target {
        Target::Group(group) => admin.committed(group.as_str(), Some(partitions.to_vec())).await?,
        _ => Vec::new(),
    };
    let aim = |n: usize, partition: &TopicPartition, log: &Log| -> Result<Option<i64>, KafkaError> {
        let of = |committed: &[Committed]| committed.iter().find(|c| c.partition == *partition)?.offset;
        Ok(match target {
            Target::Earliest => Some(log.begin),
            Target::Latest => Some(log.end),
            Target::Time(_) => Some(times[n].clone()?),
            Target::Offset(offset) => Some(*offset),
            Target::Shift(by) => of(committed).map(|offset| offset.saturating_add(*by)),
            Target::Group(_) => other[n].clone()?.offset,
            Target::File(_) => None,
        })
    };
    let mut aims = Aims::new();
    for (n, partition) in partitions.iter().enumerate() {
        let log = match (begins[n].clone(), ends[n].clone()) {
            (Ok(begin), Ok(end)) => Log { begin, end },
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        };
        match aim(n, partition, &log) {
            Ok(Some(offset)) => {
                aims.insert(partition.clone(), (offset, log));
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(aims))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_a_time_a_number_another_group_or_a_file() {
        let table = [
            ("earliest", Target::Earliest),
            ("latest", Target::Latest),
            ("@2026-01-01T00:00:00Z", Target::Time(1_767_225_600_000)),
            ("@1767225600000", Target::Time(1_767_225_600_000)),
            ("17", Target::Offset(17)),
            ("shift:-10", Target::Shift(-10)),
            ("shift:5", Target::Shift(5)),
            ("group:other", Target::Group("other".to_owned())),
            ("undo.json", Target::File("undo.json".into())),
        ];
        for (text, target) in table {
            assert_eq!(Target::parse(text), Ok(target), "{text}");
        }
        let Ok(Target::Time(ago)) = Target::parse("-1h") else { panic!("a time") };
        let now = i64::try_from(now_ms()).unwrap();
        assert!((now - 3_600_000 - ago).abs() < 60_000, "{ago} and {now}");
        for wrong in ["@yesterday", "-", "-1", "shift:", "shift:x", "group:"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_topic_may_have_partitions() {
        let topic = |text: &str| Topic::parse(text).map(|topic| (topic.name, topic.partitions));
        assert_eq!(topic("orders"), Ok(("orders".to_owned(), None)));
        assert_eq!(topic("orders:0,2-4"), Ok(("orders".to_owned(), Some(vec![0, 2, 3, 4]))));
        for wrong in ["", "a b", "orders:", "orders:x", "orders:-1", "orders:4-2", "orders:1,"] {
            assert!(topic(wrong).is_err(), "{wrong}");
        }
        let some = Topic::parse("orders:0,2-4").unwrap();
        assert!(some.holds(&TopicPartition::new("orders", 3)) && !some.holds(&TopicPartition::new("orders", 1)));
        assert!(!some.holds(&TopicPartition::new("other", 3)));
    }
}
