//! Where groups stand: their members, and for each partition what is there, what is committed, and what is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use waterwheel::admin::{Admin, Committed, GroupDescription, GroupType, OffsetSpec};
use waterwheel::{Error, KafkaError, TopicPartition};

use crate::asking::or_dash;
use crate::words::{about, grouped, now_ms};

/// A group's name, and what was found of it, or why nothing was.
pub(crate) type Found<T> = (String, Result<T, KafkaError>);

/// Groups that are asked about at once.
const AT_ONCE: usize = 8;

/// A group and its partitions.
pub(crate) struct Standing {
    pub(crate) group: GroupDescription,
    /// Those for which it has committed something, and those that its members have; by topic and partition.
    pub(crate) places: Vec<Place>,
}

/// A group's partition.
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    /// The place of its member in the group's description.
    pub(crate) owner: Option<usize>,
    /// The log's first offset.
    pub(crate) begin: Option<i64>,
    /// The offset behind the last record (that is in no open transaction).
    pub(crate) end: Option<i64>,
    pub(crate) committed: Option<i64>,
    /// How many offsets above the committed one are finished, by the commit map.
    pub(crate) finished: u64,
    /// How old the record is at the committed offset; zero where there is none behind it.
    pub(crate) time_lag: Option<Duration>,
    /// Why something is unknown or not as it should be.
    pub(crate) reason: Option<String>,
}

impl Place {
    /// Offsets from the committed one to the end; `None` where nothing is committed, or the end is unknown.
    pub(crate) fn lag(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.committed?).max(0).unsigned_abs())
    }

    /// The same without those that are finished above the committed one.
    pub(crate) fn unfinished(&self) -> Option<u64> {
        Some(self.lag()?.saturating_sub(self.finished))
    }

    /// Where a member would begin to read: what was deleted is no longer there to be read.
    fn next(&self) -> Option<i64> {
        Some(self.committed?.max(self.begin.unwrap_or(0)))
    }

    /// Of [`cells`](Self::cells).
    pub(crate) const HEADINGS: [&'static str; 7] =
        ["PARTITION", ">COMMITTED", ">END", ">LAG", ">UNFINISHED", ">TIME", "NOTE"];

    pub(crate) fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            or_dash(self.committed),
            or_dash(self.end),
            or_dash(self.lag().map(grouped)),
            or_dash(self.unfinished().map(grouped)),
            or_dash(self.time_lag.map(about)),
            self.reason.clone().unwrap_or_default(),
        ]
    }

    fn as_json(&self, group: &GroupDescription) -> Value {
        json!({
            "topic": &*self.partition.topic,
            "partition": self.partition.partition,
            "owner": self.owner.map(|at| &group.members[at].id),
            "begin": self.begin,
            "end": self.end,
            "committed": self.committed,
            "lag": self.lag(),
            "unfinished": self.unfinished(),
            "time_lag_s": self.time_lag.map(|lag| lag.as_secs_f64()),
            "reason": self.reason,
        })
    }
}

impl Standing {
    /// `None` where it is known of no partition.
    pub(crate) fn lag(&self) -> Option<u64> {
        sum(self.places.iter().map(Place::lag))
    }

    pub(crate) fn unfinished(&self) -> Option<u64> {
        sum(self.places.iter().map(Place::unfinished))
    }

    /// That of the partition that is furthest behind.
    pub(crate) fn time_lag(&self) -> Option<Duration> {
        self.places.iter().filter_map(|place| place.time_lag).max()
    }

    pub(crate) fn partitions_as_json(&self) -> Vec<Value> {
        self.places.iter().map(|place| place.as_json(&self.group)).collect()
    }
}

fn sum(of: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    of.flatten().reduce(|sum, one| sum + one)
}

/// As `consumer` or `classic`.
pub(crate) fn protocol(of: Option<GroupType>) -> Option<&'static str> {
    of.map(GroupType::as_str)
}

/// Where each of these groups stands, in their order, or why it cannot be told.
pub(crate) async fn standings(admin: &Admin, groups: Vec<String>) -> Result<Vec<Found<Standing>>, Error> {
    let described = admin.describe_groups(groups.clone()).await?;
    let committed = |(name, described): (String, Result<GroupDescription, KafkaError>)| async move {
        let group = match described {
            Ok(group) => group,
            Err(error) => return Ok((name, Err(error))),
        };
        let found = match admin.committed(name.as_str(), None).await {
            // This group's alone, as missing rights are.
            Err(Error::Kafka(error)) if !error.is_unreachable() => Err(error),
            committed => committed?.into_iter().collect(),
        };
        Ok::<_, Error>((name, found.map(|committed| begun(group, committed))))
    };
    let mut all: Vec<Found<(Standing, Vec<Committed>)>> =
        stream::iter(groups.into_iter().zip(described)).map(committed).buffered(AT_ONCE).try_collect().await?;

    let logs = Logs::ask(admin, all.iter().filter_map(|(_, found)| Some(&found.as_ref().ok()?.0))).await?;
    for (standing, committed) in all.iter_mut().filter_map(|(_, found)| found.as_mut().ok()) {
        logs.fill(standing, committed);
    }
    let mut all: Vec<_> = all.into_iter().map(|(name, found)| (name, found.map(|(standing, _)| standing))).collect();
    fill_times(admin, all.iter_mut().filter_map(|(_, standing)| standing.as_mut().ok())).await?;
    Ok(all)
}

/// What is known without the logs.
fn begun(group: GroupDescription, committed: Vec<Committed>) -> (Standing, Vec<Committed>) {
    let of = |partition: &TopicPartition| Place {
        partition: partition.clone(),
        owner: None,
        begin: None,
        end: None,
        committed: None,
        finished: 0,
        time_lag: None,
        reason: None,
    };
    let mut places: BTreeMap<&TopicPartition, Place> = BTreeMap::new();
    for one in committed.iter().filter(|one| one.offset.is_some()) {
        places.insert(&one.partition, Place { committed: one.offset, ..of(&one.partition) });
    }
    for (at, member) in group.members.iter().enumerate() {
        for partition in &member.partitions {
            places.entry(partition).or_insert_with(|| of(partition)).owner = Some(at);
        }
    }
    let places = places.into_values().collect();
    (Standing { group, places }, committed)
}

/// What the logs say, of all partitions of all groups at once.
struct Logs {
    topics: BTreeMap<String, Option<u128>>,
    offsets: BTreeMap<TopicPartition, [Result<i64, KafkaError>; 2]>,
}

impl Logs {
    async fn ask(admin: &Admin, standings: impl Iterator<Item = &Standing>) -> Result<Self, Error> {
        let partitions: BTreeSet<TopicPartition> =
            standings.flat_map(|standing| &standing.places).map(|place| place.partition.clone()).collect();
        let names: BTreeSet<String> = partitions.iter().map(|partition| partition.topic.to_string()).collect();
        let described = admin.describe_topics(names.into_iter().collect()).await?;
        let topics: BTreeMap<_, _> = described.into_iter().flatten().map(|topic| (topic.name, topic.id)).collect();
        // A topic that is gone would be asked for until the deadline.
        let there: Vec<_> = partitions.into_iter().filter(|p| topics.contains_key(&*p.topic)).collect();
        let of = |spec| there.iter().map(|partition| (partition.clone(), spec)).collect();
        let (begins, ends) =
            tokio::try_join!(admin.offsets(of(OffsetSpec::Earliest)), admin.offsets(of(OffsetSpec::Latest)))?;
        let pairs = begins.into_iter().zip(ends).map(|(begin, end)| [begin, end]);
        Ok(Self { topics, offsets: there.iter().cloned().zip(pairs).collect() })
    }

    fn fill(&self, standing: &mut Standing, committed: &[Committed]) {
        for place in &mut standing.places {
            let [begin, end] = match self.offsets.get(&place.partition) {
                Some(offsets) => offsets.clone(),
                None => {
                    place.reason = Some("the topic is gone".to_owned());
                    continue;
                }
            };
            place.reason = begin.as_ref().or(end.as_ref()).err().map(ToString::to_string);
            (place.begin, place.end) = (begin.ok(), end.ok());
            let (Some(from), Some(begin), Some(end)) = (place.committed, place.begin, place.end) else { continue };
            let topic_id = self.topics.get(&*place.partition.topic).copied().flatten();
            let map = committed.iter().find(|one| one.partition == place.partition);
            let finished = map.map_or_else(Vec::new, |one| one.finished_above(topic_id));
            let below = |range: &std::ops::Range<i64>| range.end.min(end).saturating_sub(range.start).max(0);
            place.finished = finished.iter().map(|range| below(range).unsigned_abs()).sum();
            if from < begin {
                place.reason = Some(format!("{} deleted before they were read", begin - from));
            } else if from > end {
                place.reason = Some("committed beyond the log's end".to_owned());
            }
        }
    }
}

/// Reads the time of the record that each partition is to begin with.
async fn fill_times(admin: &Admin, standings: impl Iterator<Item = &mut Standing>) -> Result<(), Error> {
    let (mut asked, mut behind) = (Vec::new(), Vec::new());
    for place in standings.flat_map(|standing| &mut standing.places) {
        match (place.next(), place.end) {
            (Some(next), Some(end)) if next < end => {
                asked.push((place.partition.clone(), next));
                behind.push(place);
            }
            (Some(_), Some(_)) => place.time_lag = Some(Duration::ZERO),
            _ => {}
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    for (place, time) in behind.into_iter().zip(admin.record_times(&asked).await?) {
        match time {
            Ok(None) => place.time_lag = Some(Duration::ZERO),
            // A clock ahead of ours makes no record younger than new.
            Ok(Some(written)) => {
                place.time_lag = Some(Duration::from_millis(now.saturating_sub(written).max(0).unsigned_abs()));
            }
            Err(error) => place.reason = place.reason.take().or(Some(error.to_string())),
        }
    }
    Ok(())
}
