//! What to read by hand, and from where to where.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future;

use super::AssignedConsumer;
use super::mending::Mending;
use crate::client::{Admin, OffsetSpec, TopicDescription};
use crate::config::{ConfigError, check_topic};
use crate::connection::Client;
use crate::driver::places::{no_answer, places};
use crate::error::{Error, KafkaError, code};
use crate::record::TopicPartition;
use crate::settings::{OnGap, Start};

/// Where the reading of a partition ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Until {
    /// Nowhere: it goes on with what is written later.
    #[default]
    Stopped,
    /// Where the partition ended when reading it began; with `isolation.level=read_committed`, the default, its last stable
    /// offset then.
    End,
    /// Before that offset, in every partition; it is waited for.
    Offset(i64),
    /// Before the first record as late as that, or at the end there was if no record is.
    Timestamp(SystemTime),
}

/// Describes an [`AssignedConsumer`]. Made by [`Client::assigned`].
#[derive(Clone)]
pub struct AssignedBuilder {
    client: Client,
    topics: Vec<(String, Start)>,
    partitions: BTreeMap<TopicPartition, Start>,
    until: Until,
    on_gap: OnGap,
}

impl Client {
    /// A consumer of partitions that are named by hand, without a group: nothing is committed, and nobody else's reading
    /// changes by it.
    pub fn assigned(&self) -> AssignedBuilder {
        AssignedBuilder {
            client: self.clone(),
            topics: Vec::new(),
            partitions: BTreeMap::new(),
            until: Until::default(),
            on_gap: OnGap::default(),
        }
    }
}

impl AssignedBuilder {
    /// Reads all partitions that the topic has when it is opened; repeatable.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>, start: Start) -> Self {
        self.topics.push((topic.into(), start));
        self
    }

    /// Reads that partition; repeatable. Goes before [`topic`](Self::topic), for its start.
    #[must_use]
    pub fn partition(mut self, topic: impl Into<Arc<str>>, partition: i32, start: Start) -> Self {
        self.partitions.insert(TopicPartition::new(topic, partition), start);
        self
    }

    /// Where the reading of each partition ends. Default: [`Until::Stopped`].
    #[must_use]
    pub fn until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// What happens when the records to be read next are gone. Default: [`OnGap::Continue`], told as
    /// [`ReadEvent::Gap`](super::ReadEvent::Gap); with [`OnGap::Stop`] the partition fails.
    #[must_use]
    pub fn on_gap(mut self, on_gap: OnGap) -> Self {
        self.on_gap = on_gap;
        self
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.topics.is_empty() && self.partitions.is_empty() {
            return Err(ConfigError::new("topics", "there is nothing to read").remedy("name one with .topic(..)"));
        }
        let names = self.topics.iter().map(|(name, _)| name.as_str());
        names.chain(self.partitions.keys().map(|partition| &*partition.topic)).try_for_each(check_topic)?;
        let mut starts = self.topics.iter().map(|(_, start)| start).chain(self.partitions.values());
        if starts.any(|start| *start == Start::Nowhere) {
            let problem = "nothing is committed without a group: there is nowhere to begin";
            return Err(ConfigError::new("start", problem).remedy("use Start::Earliest"));
        }
        Ok(())
    }

    /// Asks the cluster for the partitions of topics, for where they begin and where they end. An error where one of them
    /// is not there ([`is_unknown_topic`](KafkaError::is_unknown_topic)); asking makes none. Gives up after 30 s. Dropping
    /// the future changes nothing.
    pub async fn open(self) -> Result<AssignedConsumer, Error> {
        self.check()?;
        let names = self.topics.iter().map(|(name, _)| name.as_str());
        let client = self.client.for_topics(names.chain(self.partitions.keys().map(|partition| &*partition.topic)))?;
        let (backend, properties) = (client.backend(), client.properties());
        let fetcher = backend.fetcher(properties)?;
        let by_hand = self.partitions.keys().map(|partition| &*partition.topic);
        let names: BTreeSet<&str> = self.topics.iter().map(|(name, _)| name.as_str()).chain(by_hand).collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        fetcher.warm(&names);
        let locator = Locator { admin: backend.admin(properties)?, until: self.until };
        let counts = locator.count_partitions(names).await?;
        let mut wanted = BTreeMap::new();
        for (name, start) in &self.topics {
            let partitions = 0..counts.get(name).copied().unwrap_or(0);
            wanted.extend(partitions.map(|n| (TopicPartition::new(name.as_str(), n as i32), *start)));
        }
        wanted.extend(self.partitions);
        let located = locator.locate(wanted.into_iter().collect(), &counts).await?;
        let mut consumer = AssignedConsumer {
            queue: fetcher.queue()?,
            fetcher,
            locator,
            on_gap: self.on_gap,
            parts: Vec::new(),
            ids: BTreeMap::new(),
            last_epoch: 0,
            open: 0,
            backlog: VecDeque::new(),
            told: VecDeque::new(),
            mending: Mending::new(),
        };
        located.into_iter().try_for_each(|located| consumer.place(located))?;
        Ok(consumer)
    }
}

/// Says which topic it is about.
fn absent(error: KafkaError, topic: &str) -> KafkaError {
    if error.is_unknown_topic() {
        return KafkaError::new(code::UNKNOWN_TOPIC_OR_PARTITION, "the cluster does not know the topic", topic);
    }
    error
}

/// Finds out where partitions begin and end.
pub(super) struct Locator {
    pub(super) admin: Arc<dyn Admin>,
    until: Until,
}

/// A partition, and from where to where it is read.
pub(super) struct Located {
    pub(super) partition: TopicPartition,
    pub(super) start: i64,
    pub(super) from_beginning: bool,
    pub(super) end: i64,
    pub(super) stop: Option<i64>,
    pub(super) stops_at_end: bool,
}

/// A partition that is led by nobody yet, or not known everywhere, is asked for again that often.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);

impl Locator {
    /// How many partitions each topic has.
    pub(super) async fn count_partitions(&self, topics: Vec<String>) -> Result<BTreeMap<String, usize>, KafkaError> {
        let described = self.admin.describe_topics(topics.clone()).await?;
        let count = |(topic, described): (String, Result<TopicDescription, KafkaError>)| match described {
            Ok(description) => Ok((topic, description.partitions.len())),
            Err(error) => Err(absent(error, &topic)),
        };
        topics.into_iter().zip(described).map(count).collect()
    }

    /// Where these begin and end. `counts`: how many partitions their topics have.
    pub(super) async fn locate(
        &self,
        wanted: Vec<(TopicPartition, Start)>,
        counts: &BTreeMap<String, usize>,
    ) -> Result<Vec<Located>, KafkaError> {
        let is_there = |p: &TopicPartition| {
            let count = counts.get(&*p.topic).copied().unwrap_or(0);
            usize::try_from(p.partition).is_ok_and(|n| n < count)
        };
        if let Some((partition, _)) = wanted.iter().find(|(partition, _)| !is_there(partition)) {
            let name = "the topic has no such partition";
            return Err(KafkaError::new(code::UNKNOWN_TOPIC_OR_PARTITION, name, partition.to_string()));
        }
        let mut tries = 0;
        loop {
            let passes = |e: &KafkaError| e.is_retriable() && !e.is_unreachable() && !e.is_unknown_topic();
            match self.locate_once(&wanted).await {
                Err(error) if passes(&error) && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                located => return located,
            }
        }
    }

    async fn locate_once(&self, wanted: &[(TopicPartition, Start)]) -> Result<Vec<Located>, KafkaError> {
        let ends = wanted.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::Latest)).collect();
        let stops: Vec<_> = match self.until {
            Until::Timestamp(at) => wanted.iter().map(|(p, _)| (p.clone(), Start::Timestamp(at))).collect(),
            Until::Stopped | Until::End | Until::Offset(_) => Vec::new(),
        };
        let admin = &*self.admin;
        let (starts, ends, stops) =
            future::try_join3(places(admin, wanted), admin.list_offsets(ends), places(admin, &stops)).await?;
        let (mut starts, mut ends, mut stops) = (starts.into_iter(), ends.into_iter(), stops.into_iter());
        let locate = |(partition, policy): &(TopicPartition, Start)| {
            let told = |next: Option<Result<i64, KafkaError>>| {
                let answer = next.unwrap_or_else(|| Err(no_answer()));
                answer.map_err(|e| KafkaError::new(e.code(), e.name(), partition.to_string()))
            };
            let (start, end) = (told(starts.next())?, told(ends.next())?);
            let stop = match self.until {
                Until::Stopped => None,
                Until::End => Some(end),
                Until::Offset(offset) => Some(offset),
                Until::Timestamp(_) => Some(told(stops.next())?),
            };
            Ok(Located {
                partition: partition.clone(),
                start,
                from_beginning: *policy == Start::Earliest,
                end,
                stop,
                stops_at_end: self.until == Until::End,
            })
        };
        wanted.iter().map(locate).collect()
    }
}
