//! Answers about what work waits for: the shards', with what the coordinator alone knows, the last commits.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use waterwheel_core::{Now, PartitionId};

use super::Coordinator;
use crate::driver::shard::ToShard;
use crate::driver::spawn;
use crate::explain::{LastCommit, PartitionExplanation, Subject};

/// A commit as it was sent.
#[derive(Clone, Copy)]
struct Sent {
    offset: i64,
    metadata: usize,
    room: usize,
    is_cut: bool,
}

/// What was committed last of each partition, for whoever asks.
#[derive(Default)]
pub(super) struct LastCommits {
    sent: HashMap<PartitionId, Sent>,
    answered: HashMap<PartitionId, (Sent, Now)>,
}

impl LastCommits {
    /// A commit goes out, with that text beside its offset, of `room` UTF-16 units at most.
    pub(super) fn sent(&mut self, id: PartitionId, offset: i64, text: &str, room: usize, is_cut: bool) {
        self.sent.insert(id, Sent { offset, metadata: text.encode_utf16().count(), room, is_cut });
    }

    /// The broker took it.
    pub(super) fn answered(&mut self, id: PartitionId, now: Now) {
        if let Some(sent) = self.sent.get(&id) {
            self.answered.insert(id, (*sent, now));
        }
    }

    /// A new assignment: what was committed under an earlier one is not this one's.
    pub(super) fn forget(&mut self, id: PartitionId) {
        self.sent.remove(&id);
        self.answered.remove(&id);
    }

    fn of(&self, id: PartitionId, now: Now) -> Option<LastCommit> {
        let (Sent { offset, metadata, room, is_cut }, at) = *self.answered.get(&id)?;
        Some(LastCommit { offset, age: now.since(at), metadata, room, is_cut })
    }
}

impl Coordinator<'_> {
    /// Collects the shards' answers on a task of its own, so that the group is served meanwhile.
    pub(super) fn explain(&self, subject: Subject, answer: oneshot::Sender<Vec<PartitionExplanation>>) {
        let (now, subject) = (self.now(), Arc::new(subject));
        let asked = self.owned.iter().filter(|partition| subject.has(partition)).filter_map(|partition| {
            let id = *self.ids.get(partition)?;
            let (sender, receiver) = oneshot::channel();
            self.shard(id).post(ToShard::Explain { partition: id, subject: subject.clone(), answer: sender });
            Some((receiver, self.last_commits.of(id, now)))
        });
        let asked: Vec<_> = asked.collect();
        spawn(async move {
            let mut all = Vec::new();
            for (told, committed) in asked {
                if let Ok(Some(told)) = told.await {
                    all.push(PartitionExplanation { committed, ..told });
                }
            }
            // Whoever asked may have gone.
            let _ = answer.send(all);
        });
    }
}
