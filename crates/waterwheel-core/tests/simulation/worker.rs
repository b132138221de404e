//! One worker: the core's group side and engines, and around them what a driver does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use waterwheel_core::engine::{CommitPoint, CutReason, Engine, Resume, Settings, SlotId};
use waterwheel_core::group::{Group, GroupSettings};
use waterwheel_core::{Epoch, Now, PartitionId};

use crate::broker::MemberId;
use crate::log::SimBatch;
use crate::model::WorkerId;

/// A letter to a shard.
pub(crate) enum ToShard {
    Assign(PartitionId, Epoch, Resume),
    Drain(Vec<PartitionId>, Now),
    Lose(Vec<PartitionId>),
    Close(Vec<PartitionId>),
    Collect,
    Partitions(usize),
    Lease(Now),
    Pause,
    Resume,
}

/// A letter to the coordinator.
pub(crate) enum FromShard {
    Drained(PartitionId, CommitPoint),
    Collected(Vec<(PartitionId, CommitPoint)>),
}

/// Where a shard reads a partition.
pub(crate) struct Cursor {
    pub(crate) epoch: Epoch,
    pub(crate) next: i64,
    pub(crate) held: bool,
    /// To be read again.
    pub(crate) wanted: BTreeSet<i64>,
}

pub(crate) struct Shard {
    pub(crate) engine: Engine<SimBatch>,
    pub(crate) inbox: VecDeque<ToShard>,
    pub(crate) cursors: BTreeMap<PartitionId, Cursor>,
}

/// An attempt that runs.
pub(crate) struct Run {
    pub(crate) worker: WorkerId,
    pub(crate) shard: usize,
    pub(crate) slot: SlotId,
    pub(crate) partition: u32,
    pub(crate) epoch: Epoch,
    pub(crate) offset: i64,
    pub(crate) key: Option<u8>,
    /// Ends only when it is cut.
    pub(crate) hangs: bool,
    pub(crate) cut: Option<CutReason>,
}

/// A dead letter without an answer.
pub(crate) struct Send {
    pub(crate) worker: WorkerId,
    pub(crate) shard: usize,
    pub(crate) slot: SlotId,
    pub(crate) partition: u32,
    pub(crate) epoch: Epoch,
    pub(crate) offset: i64,
}

/// A commit on its way.
pub(crate) struct Commit {
    pub(crate) number: u64,
    pub(crate) member: MemberId,
    pub(crate) sent_at: Now,
    /// Partition, offset, metadata and its size.
    pub(crate) entries: Vec<(u32, i64, String, usize)>,
    /// The broker has it already, or never got it.
    pub(crate) over: bool,
}

pub(crate) struct Worker {
    pub(crate) group: Group,
    pub(crate) member: MemberId,
    pub(crate) shards: Vec<Shard>,
    /// Credits that no shard has.
    pub(crate) pool: usize,
    pub(crate) opens: VecDeque<(PartitionId, Epoch)>,
    pub(crate) commits: VecDeque<Commit>,
    pub(crate) inbox: VecDeque<FromShard>,
    /// What the group side gave to shards and did not take back.
    pub(crate) held: BTreeMap<PartitionId, Epoch>,
    /// Given back in order since: to see a partition come again.
    pub(crate) had: BTreeSet<PartitionId>,
    pub(crate) revoking: bool,
    /// The broker has thrown it out, and it does not know.
    pub(crate) zombie: bool,
    pub(crate) stop_by: Option<Now>,
    pub(crate) left: bool,
}

impl Worker {
    pub(crate) fn new(settings: &Settings, group: &GroupSettings, shards: usize, member: MemberId, now: Now) -> Self {
        let shard =
            |_| Shard { engine: Engine::new(settings.clone()), inbox: VecDeque::new(), cursors: BTreeMap::new() };
        Self {
            group: Group::new(group.clone(), now),
            member,
            shards: (0..shards).map(shard).collect(),
            pool: settings.concurrency,
            opens: VecDeque::new(),
            commits: VecDeque::new(),
            inbox: VecDeque::new(),
            held: BTreeMap::new(),
            had: BTreeSet::new(),
            revoking: false,
            zombie: false,
            stop_by: None,
            left: false,
        }
    }

    pub(crate) fn shard_of(&self, id: PartitionId) -> usize {
        id.index() % self.shards.len()
    }

    pub(crate) fn tell(&mut self, id: PartitionId, letter: ToShard) {
        let shard = self.shard_of(id);
        self.shards[shard].inbox.push_back(letter);
    }

    /// One letter for each shard that has some of these.
    pub(crate) fn tell_of(&mut self, ids: &[PartitionId], letter: impl Fn(Vec<PartitionId>) -> ToShard) {
        let shards = self.shards.len();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let of_shard: Vec<_> = ids.iter().copied().filter(|id| id.index() % shards == number).collect();
            if !of_shard.is_empty() {
                shard.inbox.push_back(letter(of_shard));
            }
        }
    }

    pub(crate) fn tell_all(&mut self, letter: impl Fn() -> ToShard) {
        self.shards.iter_mut().for_each(|s| s.inbox.push_back(letter()));
    }

    pub(crate) fn partitions_changed(&mut self) {
        let n = self.group.partitions();
        self.tell_all(|| ToShard::Partitions(n));
    }

    pub(crate) fn next_timer(&self) -> Option<Now> {
        let engines = self.shards.iter().filter_map(|s| s.engine.next_timer());
        engines.chain(self.group.next_timer()).min()
    }
}

/// The longest that a stop may take.
pub(crate) fn stop_limit(group: &GroupSettings, patience: Duration) -> Duration {
    patience + 2 * group.commit_timeout
}
