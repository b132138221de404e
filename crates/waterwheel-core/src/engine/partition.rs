//! One assigned partition inside the engine.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::slots::SlotId;
use crate::budget::Share;
use crate::commit_map::{Failing, FollowedKey};
use crate::lanes::Lanes;
use crate::ledger::Ledger;
use crate::types::{Epoch, Now};

/// A fetched batch and how far it has been taken up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) batch: u32,
    pub(super) next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Active,
    /// Starts nothing; what runs may end until the deadline.
    Draining {
        deadline: Now,
    },
    /// Nothing runs any more. Waits for its commit and [`Engine::close`](super::Engine::close).
    Drained {
        cut_off: usize,
    },
}

pub(super) struct Partition {
    pub(super) epoch: Epoch,
    pub(super) phase: Phase,
    pub(super) ledger: Ledger,
    pub(super) lanes: Lanes,
    pub(super) backlog: VecDeque<Cursor>,
    /// Records whose back-off is over.
    pub(super) due: VecDeque<SlotId>,
    pub(super) share: Share,
    /// Records in the lanes' queues, and those on their way there.
    pub(super) waiting: usize,
    /// Records kept as offsets only.
    pub(super) deferred: usize,
    /// Attempts that run in a slot, or wait there for their batch to be full.
    pub(super) running: usize,
    /// Records handed over to be dead-lettered and not answered yet.
    pub(super) settling: usize,
    /// Records whose dead letter could not be written so far, whether they wait to be sent again or are under way. While
    /// there are some, nothing starts.
    pub(super) unsettled: usize,
    /// Records in slots. Those that do not run are set aside.
    pub(super) slotted: usize,
    /// Those of them that are not due yet.
    pub(super) delayed: usize,
    /// Its number, if it is of a retry tier.
    pub(super) tier: Option<usize>,
    /// How long after its own time a record may start first.
    pub(super) delay: Option<Duration>,
    /// How far the fetch went on without records behind what is in `backlog`.
    pub(super) skip_to: Option<i64>,
    /// Bytes held by the partition's batches.
    pub(super) bytes: usize,
    /// The fetch port was told to hold the partition.
    pub(super) held: bool,
    /// Its commit map did not fit, and no more records are to be taken up until it does.
    pub(super) map_full: bool,
    /// It yields nothing until it is resumed.
    pub(super) paused: bool,
    /// The partition is in the engine's turn queue.
    pub(super) in_turn: bool,
    /// The partition is in the engine's queue for credits.
    pub(super) in_starved: bool,
    /// Where the records stand that failed and are not finished, by offset: those of the commit map, fetched or not, and
    /// those that failed since. They stay when the partition drains, for its last commit.
    pub(super) failing: BTreeMap<i64, Failing>,
    /// Records of batches that failed, which were not counted as run: they may be what it failed by, and run alone.
    pub(super) suspects: HashSet<i64>,
    /// The leader epoch of the commit map's marks, while marks are left.
    pub(super) known_epoch: Option<i32>,
    /// Where each leader epoch seen began: first offset, epoch.
    pub(super) leader_epochs: Vec<(i64, i32)>,
    /// Keys of which a record was dead-lettered, and its offset: what comes behind it follows it. Here or in an earlier
    /// assignment, of which the commit map told.
    pub(super) followed: HashMap<FollowedKey, i64>,
    /// Something finished since [`Engine::commit_point`](super::Engine::commit_point) was last taken.
    pub(super) dirty: bool,
    /// The record that holds the commit, and when it was first seen to; see [`Engine::see_heads`](super::Engine::see_heads).
    pub(super) head: Option<(i64, Now)>,
}

impl Partition {
    pub(super) fn new(epoch: Epoch, ledger: Ledger, delay: Option<Duration>) -> Self {
        Self {
            epoch,
            phase: Phase::Active,
            ledger,
            lanes: Lanes::default(),
            backlog: VecDeque::new(),
            due: VecDeque::new(),
            share: Share::default(),
            waiting: 0,
            deferred: 0,
            running: 0,
            settling: 0,
            unsettled: 0,
            slotted: 0,
            delayed: 0,
            tier: None,
            delay,
            skip_to: None,
            bytes: 0,
            held: false,
            map_full: false,
            paused: false,
            in_turn: false,
            in_starved: false,
            failing: BTreeMap::new(),
            suspects: HashSet::new(),
            known_epoch: None,
            leader_epochs: Vec::new(),
            followed: HashMap::new(),
            dirty: false,
            head: None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    /// Records that wait in slots: for their time, a retry, a credit, or an answer about their dead letter.
    pub(super) fn aside(&self) -> usize {
        self.slotted.saturating_sub(self.running)
    }

    /// Whether it has records in slots, and none of them is due yet; nor does it wait for its turn or a credit.
    pub(super) fn only_delays(&self) -> bool {
        self.delayed > 0 && self.delayed == self.slotted && !self.in_turn && !self.in_starved
    }

    /// Notes the leader epoch that records from `offset` on were fetched under.
    pub(super) fn see_leader_epoch(&mut self, offset: i64, epoch: i32) {
        if self.leader_epochs.last().is_none_or(|(_, e)| *e != epoch) {
            self.leader_epochs.push((offset, epoch));
        }
    }

    /// The leader epoch of the record at `offset`, as far as it was seen.
    pub(super) fn leader_epoch_at(&self, offset: i64) -> Option<i32> {
        self.leader_epochs.iter().rev().find(|(from, _)| *from <= offset).map(|(_, e)| *e)
    }

    /// Forgets leader epochs that lie wholly below the frontier.
    pub(super) fn trim_leader_epochs(&mut self) {
        let frontier = self.ledger.frontier();
        while self.leader_epochs.len() > 1 && self.leader_epochs[1].0 < frontier {
            self.leader_epochs.remove(0);
        }
    }

    /// Where the record at `offset` stands if it failed before.
    pub(super) fn known(&self, offset: i64) -> Option<Failing> {
        if self.failing.is_empty() { None } else { self.failing.get(&offset).copied() }
    }

    /// Whether the record at `offset` is to run alone: it failed before, or may have been what a batch failed by.
    pub(super) fn is_suspect(&self, offset: i64) -> bool {
        self.known(offset).is_some() || !self.suspects.is_empty() && self.suspects.contains(&offset)
    }

    /// How often the record at `offset` failed.
    pub(super) fn failures(&self, offset: i64) -> u32 {
        self.failing.get(&offset).map_or(0, |f| f.attempts)
    }
}
