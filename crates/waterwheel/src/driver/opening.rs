//! Opening partitions: what the group has committed, what its map says, and where work begins.

use std::collections::BTreeMap;
use std::num::NonZeroU128;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use waterwheel_core::commit_map::{self, MapRefusal};
use waterwheel_core::engine::Resume;
use waterwheel_core::retry::Retry;
use waterwheel_core::{Epoch, PartitionId};

use super::clock::wall_ms;
use super::places::{no_answer, places};
use crate::client::{Admin, Committed, Membership, OffsetSpec};
use crate::error::KafkaError;
use crate::events::Event;
use crate::record::TopicPartition;
use crate::retry_tiers::TierTopics;
use crate::settings::{CommitMetadata, Start};

/// Where a partition's work begins, or why it cannot.
pub(crate) struct Opened {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) resume: Result<Resume, KafkaError>,
    /// `None` where the cluster does not tell topic ids.
    pub(crate) topic_id: Option<NonZeroU128>,
    pub(crate) note: Option<Event>,
}

/// What a partition is that stopped.
pub(crate) struct Found {
    pub(crate) first: i64,
    pub(crate) topic_id: Option<NonZeroU128>,
}

/// Opens partitions, and tries again while the cluster cannot answer.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) membership: Arc<dyn Membership>,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) start: Start,
    /// Topics that begin at their first record, whatever that says: what is in them was begun before.
    pub(crate) tiers: Option<Arc<TierTopics>>,
    pub(crate) metadata: CommitMetadata,
}

impl Opener {
    /// Finds out where the work of these partitions begins.
    pub(crate) fn open(
        &self,
        partitions: Vec<(PartitionId, Epoch, TopicPartition)>,
    ) -> BoxFuture<'static, Vec<Opened>> {
        let this = self.clone();
        async move {
            let names: Vec<TopicPartition> = partitions.iter().map(|(_, _, name)| name.clone()).collect();
            let committed = again(|| this.membership.committed(names.clone()));
            let (committed, ids) = future::join(committed, this.topic_ids(&names)).await;
            let mut opened = Vec::with_capacity(partitions.len());
            let mut unplaced = Vec::new();
            for (at, (partition, epoch, name)) in partitions.into_iter().enumerate() {
                let topic_id = ids.get(&*name.topic).copied().flatten();
                let (resume, note) = match &committed {
                    Err(error) => (Err(error.clone()), None),
                    Ok(all) => match all.iter().find(|c| c.partition == name) {
                        Some(c) if this.metadata == CommitMetadata::Own => {
                            (Ok(c.offset.map(|offset| Resume { offset, ..Resume::default() })), None)
                        }
                        Some(c) => resume_of(c, topic_id),
                        None => (Ok(None), None),
                    },
                };
                let resume = resume.map(|r| {
                    r.unwrap_or_else(|| {
                        // A topic made again begins at its start whatever the policy for a new group says.
                        let from_first = note.is_some() || this.is_tier(&name.topic);
                        let start = if from_first { Start::Earliest } else { this.start };
                        unplaced.push((at, name.clone(), start));
                        Resume::default()
                    })
                });
                opened.push(Opened { partition, epoch, resume, topic_id, note });
            }
            this.place(&mut opened, unplaced).await;
            this.check_marks(&mut opened, &names).await;
            opened
        }
        .boxed()
    }

    fn is_tier(&self, topic: &str) -> bool {
        self.tiers.as_ref().is_some_and(|tiers| tiers.of(topic).is_some())
    }

    /// What a partition is now: the first offset that it still has, and its topic's id, if the cluster tells.
    pub(crate) fn look_up(&self, partition: TopicPartition) -> BoxFuture<'static, Result<Found, KafkaError>> {
        let this = self.clone();
        async move {
            // The id first: a topic made again in between is at worst believed to be the one before.
            let ids = this.topic_ids(std::slice::from_ref(&partition)).await;
            let topic_id = ids.get(&*partition.topic).copied().flatten();
            let ask = || async {
                let answers = this.admin.list_offsets(vec![(partition.clone(), OffsetSpec::Earliest)]).await?;
                answers.into_iter().next().unwrap_or_else(|| Err(no_answer()))
            };
            Ok(Found { first: again(ask).await?, topic_id })
        }
        .boxed()
    }

    async fn topic_ids(&self, names: &[TopicPartition]) -> BTreeMap<String, Option<NonZeroU128>> {
        let mut topics: Vec<String> = names.iter().map(|n| n.topic.to_string()).collect();
        topics.sort();
        topics.dedup();
        match again(|| self.admin.describe_topics(topics.clone())).await {
            Ok(described) => {
                described.into_iter().flatten().map(|d| (d.name, d.id.and_then(NonZeroU128::new))).collect()
            }
            Err(error) => {
                tracing::warn!(%error, "topic ids are not known: a topic made again is not told from the old one");
                BTreeMap::new()
            }
        }
    }

    /// Drops the marks of partitions whose log ends below them: it was cut off, and what is written there later is other
    /// records. (Marks below the end of a log that was cut off and grew again are dropped by the engine, when the first
    /// record of a later leader epoch comes.)
    async fn check_marks(&self, opened: &mut [Opened], names: &[TopicPartition]) {
        let highest = |o: &Opened| o.resume.as_ref().ok().and_then(|r| r.finished.last()).map(|range| range.end);
        let marked: Vec<(usize, i64)> =
            opened.iter().enumerate().filter_map(|(at, o)| highest(o).map(|end| (at, end))).collect();
        if marked.is_empty() {
            return;
        }
        let wanted: Vec<_> = marked.iter().map(|(at, _)| (names[*at].clone(), OffsetSpec::Latest)).collect();
        let ends = again(|| self.admin.list_offsets(wanted.clone())).await.unwrap_or_default();
        for (n, (at, highest)) in marked.into_iter().enumerate() {
            // Without an answer nothing is known of the log's end: what may have been finished runs again.
            let covers = ends.get(n).is_some_and(|end| end.as_ref().is_ok_and(|end| *end >= highest));
            if let (false, Ok(resume)) = (covers, &mut opened[at].resume) {
                resume.finished.clear();
                resume.failing.clear();
                let partition = names[at].clone();
                let reason = "the log ends below what the map marks".to_owned();
                tracing::warn!(%partition, %reason, "the commit map is not used");
                opened[at].note = Some(Event::MapRefused { partition, reason });
            }
        }
    }

    /// Gives partitions without a committed offset the one that the start policy names.
    async fn place(&self, opened: &mut [Opened], unplaced: Vec<(usize, TopicPartition, Start)>) {
        let wanted: Vec<_> = unplaced.iter().map(|(_, name, start)| (name.clone(), *start)).collect();
        let found = again(|| places(&*self.admin, &wanted)).await;
        for (n, (at, _, _)) in unplaced.iter().enumerate() {
            let offset = match &found {
                Ok(all) => all.get(n).cloned().unwrap_or_else(|| Err(no_answer())),
                Err(error) => Err(error.clone()),
            };
            opened[*at].resume = offset.map(|offset| Resume { offset, ..Resume::default() });
        }
    }
}

/// Where a commit says that work begins; `None` where the start policy has to say it.
fn resume_of(
    committed: &Committed,
    topic_id: Option<NonZeroU128>,
) -> (Result<Option<Resume>, KafkaError>, Option<Event>) {
    let Some(offset) = committed.offset else { return (Ok(None), None) };
    let bare = Resume { offset, ..Resume::default() };
    if committed.metadata.is_empty() {
        return (Ok(Some(bare)), None);
    }
    let partition = committed.partition.clone();
    match commit_map::decode(&committed.metadata, topic_id, offset) {
        Ok(map) => {
            let resume = Resume {
                offset,
                finished: map.finished().collect(),
                failing: map.failing().to_vec(),
                followed: map.followed().to_vec(),
                leader_epoch: map.leader_epoch(),
            };
            (Ok(Some(resume)), None)
        }
        Err(MapRefusal::OtherTopic) => {
            tracing::warn!(%partition, "the topic was made again: starting at the beginning of the new one");
            (Ok(None), Some(Event::TopicRecreated { partition }))
        }
        Err(refusal) => {
            let reason = refusal.to_string();
            tracing::warn!(%partition, %reason, "committed metadata is not a commit map: nothing above the offset counts as finished");
            (Ok(Some(bare)), Some(Event::MapRefused { partition, reason }))
        }
    }
}

/// Asks until there is an answer that repeating would not change. Whoever waits gives up when the partition goes.
async fn again<T, F>(mut ask: impl FnMut() -> F) -> Result<T, KafkaError>
where
    F: Future<Output = Result<T, KafkaError>>,
{
    let back_off = Retry::exponential(Duration::from_millis(100), Duration::from_secs(5)).forever();
    let mut tries = 0;
    loop {
        match ask().await {
            Err(error) if error.may_pass() => {
                tries += 1;
                tracing::warn!(%error, tries, "cannot open partitions yet");
                #[expect(clippy::cast_sign_loss, reason = "a seed")]
                tokio::time::sleep(back_off.wait(tries, wall_ms() as u64)).await;
            }
            answer => return answer,
        }
    }
}
