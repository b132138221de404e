//! What handles ask of a worker that runs.

use std::collections::HashMap;

use tokio::sync::oneshot;
use waterwheel_core::{Epoch, PartitionId};

use super::Coordinator;
use super::offered::Offer;
use crate::client::Committed;
use crate::driver::shard::{ToShard, View};
use crate::driver::spawn;
use crate::error::{Error, KafkaError};
use crate::explain::{PartitionExplanation, Subject};
use crate::record::TopicPartition;

/// The shards' views, and the names that they are in.
pub(crate) type Views = Vec<(Vec<TopicPartition>, View)>;

/// What a handle asks of a worker that runs. Who asks may have gone before there is an answer.
pub(crate) enum Ask {
    View(oneshot::Sender<Views>),
    /// What partitions, records and keys wait for.
    Explain {
        subject: Subject,
        answer: oneshot::Sender<Vec<PartitionExplanation>>,
    },
    /// Go on at that offset, now or once the partition is there; unless nobody waits for it any more.
    Seek {
        partition: TopicPartition,
        offset: i64,
        done: oneshot::Sender<()>,
    },
    /// What was taken up to these offsets, they included, is finished.
    Mark(Vec<(TopicPartition, i64)>),
    Pause {
        partitions: Vec<TopicPartition>,
        paused: bool,
    },
    /// Start records of a key again that follow a dead letter; answers whether they did. No answer: the partition is not
    /// there.
    ReleaseKey {
        partition: TopicPartition,
        key: Option<Box<[u8]>>,
        done: oneshot::Sender<bool>,
    },
    /// Commit what is finished now.
    Commit(oneshot::Sender<Result<(), KafkaError>>),
    Committed {
        partitions: Vec<TopicPartition>,
        answer: oneshot::Sender<Result<Vec<Committed>, KafkaError>>,
    },
    /// A transaction begins that is to take offsets along.
    BeginTransaction(oneshot::Sender<Result<(), Error>>),
    /// What a transaction is to take along.
    Offer(oneshot::Sender<Result<Offer, Error>>),
    /// What commits of the partition say from now on, where they carry no commit map.
    Metadata {
        partition: TopicPartition,
        text: String,
    },
}

/// What was asked and is not done yet.
#[derive(Default)]
pub(super) struct Asked {
    seeks: HashMap<TopicPartition, Vec<(i64, oneshot::Sender<()>)>>,
    metadata: HashMap<TopicPartition, String>,
    /// Those who wait for a commit of which the shards have not been asked yet.
    commits: Vec<oneshot::Sender<Result<(), KafkaError>>>,
    /// Those who wait for one that is under way.
    committing: Vec<oneshot::Sender<Result<(), KafkaError>>>,
    /// Why the last commit failed, if it did.
    commit_error: Option<KafkaError>,
}

impl Asked {
    /// What a commit of that partition says, if there is room for it.
    pub(super) fn metadata(&self, partition: &TopicPartition, limit: usize) -> String {
        match self.metadata.get(partition) {
            Some(text) if text.encode_utf16().count() <= limit => text.clone(),
            Some(_) => {
                tracing::warn!(%partition, "the broker takes no metadata of that length: committed without it");
                String::new()
            }
            None => String::new(),
        }
    }

    pub(super) fn commit_answered(&mut self, error: Option<KafkaError>) {
        self.commit_error = error;
    }
}

impl Coordinator<'_> {
    pub(crate) fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::View(answer) => self.view(answer),
            Ask::Explain { subject, answer } => self.explain(subject, answer),
            Ask::Seek { partition, offset, done } => match self.current(&partition) {
                Some((id, _)) => {
                    self.offered.will_move(id);
                    self.group.reset(id, offset);
                    // Answered behind what ends the old place there: nothing of it is pulled after the answer.
                    self.act();
                    self.shard(id).post(ToShard::Answer(done));
                }
                None => self.asked.seeks.entry(partition).or_default().push((offset, done)),
            },
            Ask::Mark(marks) => {
                for (partition, last) in marks {
                    if let Some((partition, epoch)) = self.current(&partition) {
                        self.shard(partition).post(ToShard::Mark { partition, epoch, last });
                    }
                }
            }
            Ask::Pause { partitions, paused } => {
                for partition in partitions {
                    if let Some((partition, epoch)) = self.current(&partition) {
                        self.shard(partition).post(ToShard::PauseOf { partition, epoch, paused });
                    }
                }
            }
            Ask::ReleaseKey { partition, key, done } => {
                if let Some((partition, epoch)) = self.current(&partition) {
                    self.shard(partition).post(ToShard::ReleaseKey { partition, epoch, key, done });
                }
            }
            Ask::Commit(answer) => self.asked.commits.push(answer),
            Ask::BeginTransaction(answer) => self.begin_transaction(answer),
            Ask::Offer(answer) => self.offer(answer),
            Ask::Committed { partitions, answer } => {
                let asked = self.membership.committed(partitions);
                spawn(async move {
                    // Who asked may have gone.
                    let _ = answer.send(asked.await);
                });
            }
            Ask::Metadata { partition, text } => drop(self.asked.metadata.insert(partition, text)),
        }
    }

    /// A partition's assignment, if it is worked on.
    fn current(&self, partition: &TopicPartition) -> Option<(PartitionId, Epoch)> {
        let id = *self.ids.get(partition)?;
        let epoch = self.epochs.get(&id).copied()?;
        self.group.is_current(id, epoch).then_some((id, epoch))
    }

    /// The last place that was asked for while the partition was not there, and is still waited for.
    pub(super) fn take_seek(&mut self, partition: &TopicPartition) -> Option<i64> {
        let waiting = self.asked.seeks.remove(partition)?;
        let mut waiting: Vec<_> = waiting.into_iter().filter(|(_, done)| !done.is_closed()).collect();
        let (offset, _) = *waiting.last().as_ref()?;
        let offset = *offset;
        for (_, done) in waiting.drain(..) {
            // Who asked may have gone.
            let _ = done.send(());
        }
        Some(offset)
    }

    /// Begins the commits that were asked for, and answers those that are done.
    pub(super) fn serve_commits(&mut self) {
        if !self.asked.commits.is_empty() && self.group.collect() {
            self.asked.commit_error = None;
            self.asked.committing.append(&mut self.asked.commits);
        }
        if !self.asked.committing.is_empty() && self.group.is_settled() {
            for answer in self.asked.committing.drain(..) {
                // Who asked may have gone.
                let _ = answer.send(self.asked.commit_error.clone().map_or(Ok(()), Err));
            }
        }
    }

    /// Collects the shards' views on a task of its own, so that the group is served meanwhile.
    fn view(&self, answer: oneshot::Sender<Views>) {
        let views: Vec<_> = self
            .shards
            .iter()
            .map(|shard| {
                let (sender, receiver) = oneshot::channel();
                shard.post(ToShard::View(sender));
                receiver
            })
            .collect();
        let names = self.names.clone();
        spawn(async move {
            let mut all = Vec::new();
            for view in views {
                if let Ok(view) = view.await {
                    all.push((names.clone(), view));
                }
            }
            // Whoever asked may have gone.
            let _ = answer.send(all);
        });
    }
}
