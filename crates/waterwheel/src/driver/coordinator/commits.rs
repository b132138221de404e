//! Commits: from the shards' commit points to the broker, and what its answer means.

use std::collections::HashMap;

use waterwheel_core::engine::CommitPoint;
use waterwheel_core::group::CommitTrouble;
use waterwheel_core::{Epoch, Now, PartitionId};

use super::Coordinator;
use crate::client::{Commit, CommitOutcome};
use crate::driver::claims::{self, Mapped, trouble_of};
use crate::driver::shard::ToShard;
use crate::driver::tally::Counts;
use crate::error::KafkaError;
use crate::events::Event;
use crate::hooks::Moment;
use crate::record::TopicPartition;
use crate::settings::{CommitMetadata, OnMapFull};

/// A commit's number, when it was sent, what it was of, and what the broker said.
pub(super) type CommitAnswer =
    (u64, Now, Vec<(PartitionId, TopicPartition, i64)>, Result<Vec<CommitOutcome>, KafkaError>);

/// The first error of a commit's answer.
fn error_in(answer: &Result<Vec<CommitOutcome>, KafkaError>) -> Option<&KafkaError> {
    match answer {
        Ok(outcomes) => outcomes.iter().find_map(|outcome| outcome.result.as_ref().err()),
        Err(error) => Some(error),
    }
}

impl Coordinator<'_> {
    pub(super) fn commit(&mut self, number: u64, points: Vec<(PartitionId, CommitPoint, usize)>) {
        let now = self.now();
        let mut commits = Vec::with_capacity(points.len());
        let mut ids = Vec::with_capacity(points.len());
        let mut whole = Vec::new();
        for (id, point, limit) in points {
            if self.offered.is_on() {
                whole.push((id, point.clone()));
            }
            let name = self.names[id.index()].clone();
            let (offset, leader_epoch, epoch) = (point.offset, point.leader_epoch, point.epoch);
            let (commit, is_cut) = match self.metadata {
                CommitMetadata::Map => {
                    let topic_id = self.topic_ids.get(&id).copied().flatten();
                    let Mapped { commit, cut, is_full } = claims::with_map(name.clone(), point, topic_id, limit);
                    let is_cut = cut.is_some();
                    if let Some(cut) = cut {
                        self.count(Counts { maps_cut: 1, ..Counts::default() });
                        self.tell(cut);
                    }
                    self.hold_while_full(id, epoch, is_full);
                    (commit, is_cut)
                }
                CommitMetadata::Own => {
                    let metadata = self.asked.metadata(&name, limit);
                    (Commit { partition: name.clone(), offset, leader_epoch, metadata }, false)
                }
            };
            if let Some(witness) = &self.common.witness {
                witness.committing(&name, offset);
            }
            self.last_commits.sent(id, offset, &commit.metadata, limit, is_cut);
            ids.push((id, name, offset));
            commits.push(commit);
        }
        if self.offered.is_on() {
            return self.park(number, whole, commits);
        }
        if let Some(hooks) = &self.common.hooks {
            hooks.tell(Moment::BeforeCommit(ids.iter().map(|(_, name, offset)| (name.clone(), *offset)).collect()));
        }
        let spans = self.common.spans.as_ref();
        let span = spans.map(|(spans, group)| spans.commit(group, ids.iter().map(|(_, name, _)| name)));
        let answer = self.membership.commit(commits);
        self.commits.push(Box::pin(async move {
            let answer = answer.await;
            if let Some(span) = span {
                span.end(error_in(&answer).map(|error| error.code().to_string()).as_deref());
            }
            (number, now, ids, answer)
        }));
    }

    /// Tells the shard when a map stops fitting, and when it fits again, if that is to hold the partition.
    fn hold_while_full(&mut self, partition: PartitionId, epoch: Epoch, full: bool) {
        let was_full = self.full.get(&partition) == Some(&epoch);
        if self.on_map_full == OnMapFull::Continue || full == was_full {
            return;
        }
        if full {
            self.full.insert(partition, epoch);
        } else {
            self.full.remove(&partition);
        }
        self.shard(partition).post(ToShard::MapFull { partition, epoch, full });
    }

    pub(super) fn commit_answered(&mut self, (number, sent_at, ids, answer): CommitAnswer) {
        let now = self.now();
        let mut worst = None;
        let results: Vec<(PartitionId, Result<(), CommitTrouble>)> = match answer {
            Ok(outcomes) => {
                self.group.coordinator_answered(sent_at);
                let by_name: HashMap<&TopicPartition, &CommitOutcome> =
                    outcomes.iter().map(|o| (&o.partition, o)).collect();
                ids.iter()
                    .map(|(id, name, offset)| match by_name.get(name).map(|o| &o.result) {
                        Some(Ok(())) => {
                            self.last_commits.answered(*id, now);
                            self.witness_committed(name, *offset, Ok(()));
                            (*id, Ok(()))
                        }
                        Some(Err(error)) => {
                            self.witness_committed(name, *offset, Err(error));
                            worst = Some(error.clone());
                            (*id, Err(trouble_of(error)))
                        }
                        None => (*id, Err(CommitTrouble::Again)),
                    })
                    .collect()
            }
            Err(error) => {
                let trouble = trouble_of(&error);
                ids.iter().for_each(|(_, name, offset)| self.witness_committed(name, *offset, Err(&error)));
                worst = Some(error);
                ids.iter().map(|(id, ..)| (*id, Err(trouble))).collect()
            }
        };
        self.asked.commit_answered(worst.clone());
        match worst {
            None => {
                self.count(Counts { commits: 1, ..Counts::default() });
                self.trouble.committed();
            }
            Some(error) => {
                self.count(Counts { commit_failures: 1, ..Counts::default() });
                self.trouble.commit_failed(&error);
                tracing::warn!(%error, "a commit failed");
                self.tell(Event::CommitFailed { error });
            }
        }
        self.group.committed(number, &results, now);
    }

    fn witness_committed(&self, partition: &TopicPartition, offset: i64, answer: Result<(), &KafkaError>) {
        if let Some(witness) = &self.common.witness {
            witness.committed(partition, offset, answer);
        }
    }
}
