//! Hooks: what the user does before a partition's first record and after its last one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use waterwheel_core::engine::{CommitPoint, Resume};
use waterwheel_core::{Epoch, Now, PartitionId};

use super::Coordinator;
use crate::error::Error;
use crate::failure::BoxError;
use crate::record::TopicPartition;

/// How long a hook before the first record may take.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(60);

/// How far a hook after the last record may go beyond the drain's deadline: what is left of the group's patience then is
/// for the commit.
const REVOKED_BEYOND: Duration = Duration::from_secs(2);

type OnAssigned =
    dyn Fn(Vec<TopicPartition>) -> BoxFuture<'static, Result<Vec<(TopicPartition, i64)>, BoxError>> + Send + Sync;
type OnRevoked = dyn Fn(Vec<TopicPartition>) -> BoxFuture<'static, ()> + Send + Sync;

/// What the user wants to do when partitions come and go.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    /// Before the first record. May name offsets to begin at.
    pub(crate) on_assigned: Option<Arc<OnAssigned>>,
    /// After the last attempt, before the last commit.
    pub(crate) on_revoked: Option<Arc<OnRevoked>>,
}

/// Partitions whose work may begin, and where.
type Ready = Vec<(PartitionId, Epoch, Resume)>;
/// The places that a hook names, or why it does not.
type Named = Result<Vec<(TopicPartition, i64)>, String>;
type Drained = Vec<(PartitionId, CommitPoint)>;

/// Hooks under way.
pub(super) struct Hooked {
    hooks: Hooks,
    pub(super) assigned: FuturesUnordered<BoxFuture<'static, (Ready, Named)>>,
    pub(super) revoked: FuturesUnordered<BoxFuture<'static, Drained>>,
    /// Partitions that are drained while others, for which the hook waits, are not.
    drained: Drained,
    /// The latest deadline of a drain.
    deadline: Now,
}

impl Hooked {
    pub(super) fn new(hooks: Hooks) -> Self {
        let (assigned, revoked) = (FuturesUnordered::new(), FuturesUnordered::new());
        Self { hooks, assigned, revoked, drained: Vec::new(), deadline: Now::default() }
    }

    pub(super) fn draining_until(&mut self, deadline: Now) {
        self.deadline = deadline;
    }
}

impl Coordinator<'_> {
    pub(super) fn call_on_assigned(&mut self, ready: Ready) {
        if ready.is_empty() {
            return;
        }
        let Some(hook) = self.hooked.hooks.on_assigned.clone() else {
            self.starts_named((ready, Ok(Vec::new())));
            return;
        };
        let names = ready.iter().map(|(id, ..)| self.names[id.index()].clone()).collect();
        let called = async move {
            let named = match tokio::time::timeout(ASSIGNED_WITHIN, hook(names)).await {
                Ok(named) => named.map_err(|error| error.to_string()),
                Err(_) => Err(format!("it took longer than {ASSIGNED_WITHIN:?}")),
            };
            (ready, named)
        };
        self.hooked.assigned.push(called.boxed());
    }

    /// The hook before the first record has ended: work begins.
    pub(super) fn starts_named(&mut self, (ready, named): (Ready, Named)) {
        let named = match named {
            Ok(named) => named,
            Err(reason) => {
                let place = ready.first().map(|(id, ..)| self.names[id.index()].to_string()).unwrap_or_default();
                let reason = format!("on_assigned failed: {reason}");
                self.error.get_or_insert(Error::Stopped { place, reason });
                let now = self.now();
                self.close(now, None);
                return;
            }
        };
        for (id, epoch, resume) in ready {
            let name = self.names[id.index()].clone();
            let start = named.iter().find(|(partition, _)| *partition == name);
            let resume = start.map_or(resume, |(_, offset)| Resume { offset: *offset, ..Resume::default() });
            self.group.opened(id, epoch, resume);
            if self.group.is_current(id, epoch)
                && let Some(offset) = self.take_seek(&name)
            {
                self.offered.will_move(id);
                self.group.reset(id, offset);
            }
        }
    }

    /// Nothing of a partition runs any more.
    pub(super) fn drained(&mut self, partition: PartitionId, point: CommitPoint) {
        if self.hooked.hooks.on_revoked.is_some() {
            self.hooked.drained.push((partition, point));
        } else {
            let now = self.now();
            self.group.drained(partition, point, now);
        }
    }

    /// Calls the hook after the last record once all are drained that go back together.
    pub(super) fn call_on_revoked(&mut self) {
        if self.hooked.drained.is_empty() || self.hooked.drained.len() < self.group.draining() {
            return;
        }
        let Some(hook) = self.hooked.hooks.on_revoked.clone() else { return };
        let drained = std::mem::take(&mut self.hooked.drained);
        let names = drained.iter().map(|(id, _)| self.names[id.index()].clone()).collect();
        let limit = self.common.clock.until(self.hooked.deadline) + REVOKED_BEYOND;
        let called = async move {
            if tokio::time::timeout(limit, hook(names)).await.is_err() {
                tracing::warn!("on_revoked took too long: the partitions go back without it");
            }
            drained
        };
        self.hooked.revoked.push(called.boxed());
    }

    /// The hook after the last record has ended: what was finished is committed, and goes back.
    pub(super) fn revoked(&mut self, drained: Drained) {
        let now = self.now();
        for (partition, point) in drained {
            self.group.drained(partition, point, now);
        }
    }
}
