//! Commits that transactions take along: what is finished is offered to one, and counts as committed when it is.
//!
//! ```text
//! begin ─▶ open ── offer: all shards are asked; what they say is given ── committed ─▶ not open
//!            └── aborted, dropped, or never offered ─▶ the next begin lets all partitions go back to what is committed
//! ```
//!
//! A partition that leaves with work in the open transaction and without its offsets makes the transaction one that can
//! only be aborted: committed, it would hold results of records that the partition's next owner works on again.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use waterwheel_core::engine::{CommitPoint, Resume};
use waterwheel_core::group::CommitTrouble;
use waterwheel_core::{Epoch, PartitionId};

use super::Coordinator;
use crate::client::{Commit, GroupMetadata};
use crate::driver::shard::ToShard;
use crate::driver::spawn;
use crate::driver::tally::Counts;
use crate::error::{Error, KafkaError, code};
use crate::record::TopicPartition;

/// What a transaction is to take along.
pub(crate) struct Offer {
    pub(crate) commits: Vec<Commit>,
    /// `None` only where there is nothing to commit.
    pub(crate) of: Option<GroupMetadata>,
    /// To be told when the transaction was committed. Dropped: it was not, or nobody knows.
    pub(crate) committed: oneshot::Sender<()>,
}

/// Commits on their way into a transaction.
#[derive(Default)]
pub(super) struct Offered {
    /// Nothing is committed otherwise.
    on: bool,
    /// A transaction has begun and was not committed.
    open: bool,
    /// The partition for which the open transaction can only be aborted.
    broken: Option<TopicPartition>,
    /// An offer of the open transaction was given up. Shards tell what is finished once: a second one would lack it.
    given_up: bool,
    /// Whoever waits for an offer, and whether the shards are being asked for it.
    asked: Option<oneshot::Sender<Result<Offer, Error>>>,
    collecting: bool,
    /// A commit that waits for a transaction.
    parked: Option<Parked>,
    /// One that a transaction has taken, and who tells of its end.
    given: Option<(Parked, oneshot::Receiver<()>)>,
    /// What is committed of each assignment: the offset, and what is finished above it.
    stands: HashMap<PartitionId, (Epoch, i64, Vec<Range<i64>>)>,
    /// Partitions that go back and have something uncommitted.
    leaving: BTreeSet<PartitionId>,
    /// Partitions whose assignment is about to end because somebody asked for it.
    moved: BTreeSet<PartitionId>,
}

/// A commit of the group side, as it was encoded.
struct Parked {
    number: u64,
    points: Vec<(PartitionId, CommitPoint)>,
    commits: Vec<Commit>,
}

impl Offered {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Ready when the transaction that took the offer has ended: whether it was committed.
    pub(super) async fn outcome(&mut self) -> bool {
        match &mut self.given {
            Some((_, outcome)) => outcome.await.is_ok(),
            None => std::future::pending().await,
        }
    }

    /// A partition's work begins.
    pub(super) fn assigned(&mut self, partition: PartitionId, epoch: Epoch, resume: &Resume) {
        if self.on {
            self.stands.insert(partition, (epoch, resume.offset, resume.finished.clone()));
            self.leaving.remove(&partition);
        }
    }

    /// Somebody wants the partition's assignment to end.
    pub(super) fn will_move(&mut self, partition: PartitionId) {
        if self.on {
            self.moved.insert(partition);
        }
    }

    fn is_news(&self, partition: PartitionId, point: &CommitPoint) -> bool {
        let stands = self.stands.get(&partition).filter(|(epoch, ..)| *epoch == point.epoch);
        !point.failing.is_empty()
            || stands.is_none_or(|(_, offset, finished)| (*offset, finished) != (point.offset, &point.finished))
    }
}

impl Coordinator<'_> {
    /// A transaction begins: if the one before was not committed, all partitions go back to what is.
    pub(super) fn begin_transaction(&mut self, answer: oneshot::Sender<Result<(), Error>>) {
        match self.offered.given.as_mut().map(|(_, outcome)| outcome.try_recv()) {
            Some(Err(TryRecvError::Empty)) => {
                let error = KafkaError::new(code::LOCAL_STATE, "the consumer is part of another transaction", "");
                // Who asked may have gone.
                let _ = answer.send(Err(error.into()));
                return;
            }
            Some(outcome) => self.transaction_ended(outcome.is_ok()),
            None => {}
        }
        let goes_back = self.offered.open;
        self.offered.open = true;
        self.offered.given_up = false;
        self.offered.asked = None;
        self.offered.collecting = false;
        if !goes_back {
            self.offered.broken = None;
            // As above.
            let _ = answer.send(Ok(()));
            return;
        }
        self.refuse_parked();
        let current: Vec<PartitionId> =
            self.epochs.iter().filter(|(id, epoch)| self.group.is_current(**id, **epoch)).map(|(id, _)| *id).collect();
        tracing::info!(partitions = current.len(), "a transaction was not committed: going back to what is");
        self.offered.moved.extend(&current);
        self.group.assigned(&current);
        self.act();
        self.offered.broken = None;
        // Answered when every shard has let go of what it had: what is pulled from then on is of the new transaction.
        let (views, gone): (Vec<_>, Vec<_>) = self.shards.iter().map(|_| oneshot::channel()).unzip();
        self.shards.iter().zip(views).for_each(|(shard, view)| shard.post(ToShard::View(view)));
        spawn(async move {
            for gone in gone {
                // A shard that has ended has let go, too.
                let _ = gone.await;
            }
            let _ = answer.send(Ok(()));
        });
    }

    /// A transaction wants what is finished.
    pub(super) fn offer(&mut self, answer: oneshot::Sender<Result<Offer, Error>>) {
        self.offered.asked = Some(answer);
        self.offered.collecting = false;
    }

    /// Has the shards asked for an offer, and gives what they said.
    pub(super) fn serve_offer(&mut self) {
        // For somebody who has gone nothing is taken out.
        if self.offered.asked.as_ref().is_none_or(oneshot::Sender::is_closed) {
            self.offered.asked = None;
            return;
        }
        let problem = match &self.offered.broken {
            Some(partition) => Some(format!("{partition} left while the transaction had work of it")),
            // What this session knows is not all that the transaction may have.
            None if !self.offered.open => Some("the consumer was stopped since the transaction began".to_owned()),
            None if self.offered.given_up => Some("the transaction's offsets were given up".to_owned()),
            None => None,
        };
        if let Some(problem) = problem {
            self.answer_offer(Err(KafkaError::new(code::ILLEGAL_GENERATION, problem, "").into()));
        } else if !self.offered.collecting {
            self.offered.collecting = self.group.collect();
        } else if self.group.has_collected() {
            // What was collected is parked now.
            self.act();
            if self.group.has_pending()
                && let Some(parked) = self.offered.parked.take()
            {
                // Something was parked before: it goes with the rest.
                self.group.recommit(parked.number);
                self.act();
            }
            let parked = self.offered.parked.take();
            self.give(parked);
        }
    }

    fn give(&mut self, parked: Option<Parked>) {
        let (committed, outcome) = oneshot::channel();
        let Some(mut parked) = parked else {
            return self.answer_offer(Ok(Offer { commits: Vec::new(), of: None, committed }));
        };
        // Those that were given up meanwhile are not this member's any more.
        let held: Vec<bool> = parked.points.iter().map(|(id, point)| self.group.holds(*id, point.epoch)).collect();
        let mut of_commits = held.iter();
        parked.commits.retain(|_| of_commits.next().copied().unwrap_or_default());
        let commits = std::mem::take(&mut parked.commits);
        let of = self.membership.group_metadata();
        if of.is_none() && !commits.is_empty() {
            self.offered.parked = Some(Parked { commits, ..parked });
            let error = KafkaError::new(code::UNKNOWN_MEMBER_ID, "the consumer is no member of its group now", "");
            return self.answer_offer(Err(error.into()));
        }
        self.offered.given = Some((parked, outcome));
        self.answer_offer(Ok(Offer { commits, of, committed }));
    }

    fn answer_offer(&mut self, answer: Result<Offer, Error>) {
        self.offered.collecting = false;
        // Who asked may have gone: the offer's end tells so.
        let _ = self.offered.asked.take().map(|asked| asked.send(answer));
    }

    /// A commit of the group side: kept for a transaction, or done at once where it says nothing new.
    pub(super) fn park(&mut self, number: u64, points: Vec<(PartitionId, CommitPoint)>, commits: Vec<Commit>) {
        if points.iter().any(|(id, point)| self.offered.is_news(*id, point)) {
            self.offered.parked = Some(Parked { number, points, commits });
        } else {
            self.end_commit(number, points, Ok(()));
        }
    }

    /// The transaction that took the offer has ended, or nobody knows how: then what is committed will say it.
    pub(super) fn transaction_ended(&mut self, committed: bool) {
        let Some((Parked { number, points, .. }, _)) = self.offered.given.take() else { return };
        if committed {
            for (id, point) in &points {
                let stands = (point.epoch, point.offset, point.finished.clone());
                self.offered.stands.insert(*id, stands);
                if let Some(witness) = &self.common.witness {
                    witness.committed(&self.names[id.index()], point.offset, Ok(()));
                }
            }
            self.offered.open = false;
            self.count(Counts { commits: 1, ..Counts::default() });
            self.trouble.committed();
            self.end_commit(number, points, Ok(()));
        } else {
            self.offered.given_up = true;
            self.end_commit(number, points, Err(CommitTrouble::Refused));
            self.refuse_parked();
        }
    }

    /// What has not been committed will not be: partitions that go back, go back without it.
    fn refuse_parked(&mut self) {
        self.act();
        while let Some(Parked { number, points, .. }) = self.offered.parked.take() {
            self.end_commit(number, points, Err(CommitTrouble::Refused));
            self.act();
        }
    }

    fn end_commit(&mut self, number: u64, points: Vec<(PartitionId, CommitPoint)>, how: Result<(), CommitTrouble>) {
        if how.is_ok() {
            for (id, _) in &points {
                self.offered.leaving.remove(id);
            }
        }
        let results: Vec<_> = points.iter().map(|(id, _)| (*id, how)).collect();
        let now = self.now();
        self.group.committed(number, &results, now);
    }

    /// A partition is drained: what it has finished is not committed yet.
    pub(super) fn note_drained(&mut self, partition: PartitionId, point: &CommitPoint, cut_off: usize) {
        if self.offered.on && (cut_off > 0 || self.offered.is_news(partition, point)) {
            self.offered.leaving.insert(partition);
        }
        if cut_off > 0 {
            self.note_gone(&[partition]);
        }
    }

    /// Partitions go back after their last commit, or without it.
    pub(super) fn note_closed(&mut self, partitions: &[PartitionId]) {
        let without: Vec<_> = partitions.iter().copied().filter(|id| self.offered.leaving.remove(id)).collect();
        self.note_gone(&without);
    }

    /// Assignments end without a last commit.
    pub(super) fn note_gone(&mut self, partitions: &[PartitionId]) {
        for id in partitions {
            if !self.offered.moved.remove(id) && self.offered.open {
                self.offered.broken.get_or_insert_with(|| self.names[id.index()].clone());
            }
        }
    }
}
