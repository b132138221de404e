//! Where a start policy puts a partition.

use std::time::{Duration, UNIX_EPOCH};

use super::clock::Clock;
use crate::client::{Admin, OffsetSpec};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;
use crate::settings::Start;

/// The offsets that a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// The first offset that it still has.
    pub low: i64,
    /// The offset of the next record that will be written; under `isolation.level=read_committed`, of the first record
    /// that belongs to an open transaction, where there is one.
    pub high: i64,
}

/// For each, in the order asked: the offset at which reading begins.
pub(crate) async fn places(
    admin: &dyn Admin,
    of: &[(TopicPartition, Start)],
) -> Result<Vec<Result<i64, KafkaError>>, KafkaError> {
    // Only those cost a look at the clock that go by it.
    let now = || Clock::start(admin.time()).wall_start_ms();
    let asked = of.iter().flat_map(|(partition, start)| {
        questions(*start, now).iter().flatten().map(|spec| (partition.clone(), *spec)).collect::<Vec<_>>()
    });
    let asked: Vec<_> = asked.collect();
    let told = if asked.is_empty() { Vec::new() } else { admin.list_offsets(asked).await? };
    let mut told = told.into_iter();
    let mut next = || told.next().unwrap_or_else(|| Err(no_answer()));
    let place = |(partition, start): &(TopicPartition, Start)| match *start {
        Start::Offset(offset) => Ok(offset),
        Start::Nowhere => Err(no_place(partition)),
        Start::BeforeEnd(offsets) => {
            let (first, end) = (next(), next());
            let back = i64::try_from(offsets).unwrap_or(i64::MAX);
            Ok(end?.saturating_sub(back).max(first?))
        }
        Start::Earliest | Start::Latest | Start::Timestamp(_) | Start::Ago(_) => next(),
    };
    Ok(of.iter().map(place).collect())
}

/// What has to be asked. `now`: milliseconds since the Unix epoch.
fn questions(start: Start, now: impl Fn() -> i64) -> [Option<OffsetSpec>; 2] {
    let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    match start {
        Start::Offset(_) | Start::Nowhere => [None; 2],
        Start::Earliest => [Some(OffsetSpec::Earliest), None],
        Start::Latest => [Some(OffsetSpec::Latest), None],
        Start::Timestamp(at) => [Some(OffsetSpec::Timestamp(at.duration_since(UNIX_EPOCH).map_or(0, ms))), None],
        Start::Ago(age) => [Some(OffsetSpec::Timestamp(now().saturating_sub(ms(age)).max(0))), None],
        Start::BeforeEnd(_) => [Some(OffsetSpec::Earliest), Some(OffsetSpec::Latest)],
    }
}

fn no_place(partition: &TopicPartition) -> KafkaError {
    let name = "the group has committed nothing for it: commit a place, or name one to start at";
    KafkaError::new(code::LOCAL_AUTO_OFFSET_RESET, name, partition.to_string())
}

/// For an answer that is shorter than its question.
pub(crate) fn no_answer() -> KafkaError {
    KafkaError::new(code::LOCAL_TIMED_OUT, "the cluster gave no answer", "listing offsets")
}
