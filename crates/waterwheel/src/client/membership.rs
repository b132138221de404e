//! The membership port: a member of a consumer group that never sees a record.

use std::num::NonZeroU128;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Duration;

use waterwheel_core::commit_map;

use super::{GroupMetadata, PortFuture};
use crate::error::KafkaError;
use crate::record::TopicPartition;

/// How the group moves partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    /// Every rebalance revokes all partitions.
    Eager,
    /// A rebalance revokes only what moves: cooperative-sticky, or the consumer protocol of KIP-848.
    Incremental,
}

/// What the group tells its member.
#[derive(Debug)]
pub(crate) enum MembershipEvent {
    /// These partitions are this member's from now on, in addition to those it has; none where it joined and the group
    /// has none for it.
    Assigned(Vec<TopicPartition>),
    /// The group wants these back and waits until [`Membership::release`] is called. At most one revocation is open.
    Revoking(Vec<TopicPartition>),
    /// These are gone already: another member may be working on them. Nothing is to be answered, nothing committed. They
    /// may be those of the open revocation, which this closes.
    Lost(Vec<TopicPartition>),
    /// The group's coordinator last answered this long ago; told about once a second while it is known.
    CoordinatorAnswered { ago: Duration },
    /// Something went wrong that the client repeats by itself.
    Trouble(KafkaError),
    /// The membership ended and will not come back: fenced by a newer member, or not allowed.
    Fatal(KafkaError),
}

/// One partition of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record below `offset`, where it is known.
    pub leader_epoch: Option<i32>,
    /// What is kept with it; the commit map of a worker.
    pub metadata: String,
}

/// What the broker said to one partition of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOutcome {
    /// The partition.
    pub partition: TopicPartition,
    /// Whether the commit stands.
    pub result: Result<(), KafkaError>,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to read; `None` where the group has committed nothing.
    pub offset: Option<i64>,
    /// The leader epoch of the last record below it, where it is known.
    pub leader_epoch: Option<i32>,
    /// What was kept with it; empty where it is no text.
    pub metadata: String,
}

impl Committed {
    /// The offsets above the committed one that a worker's commit map says are finished, in ascending ranges that do not
    /// touch; none where there is no such map, or where it was written for another topic than the one with this id.
    pub fn finished_above(&self, topic_id: Option<u128>) -> Vec<Range<i64>> {
        let map = self
            .offset
            .and_then(|base| commit_map::decode(&self.metadata, topic_id.and_then(NonZeroU128::new), base).ok());
        map.map_or_else(Vec::new, |map| map.finished().collect())
    }
}

/// A member of a consumer group.
pub(crate) trait Membership: Send + Sync {
    /// The next event. One task at a time may wait here; the group is served whether or not one does (invariant I8).
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<MembershipEvent>;

    /// Gives back the partitions of the open revocation, of which [`poll_event`](Self::poll_event) has told. Returns at
    /// once, and does nothing where none is open.
    fn release(&self);

    /// Commits. `Err` where it failed for all partitions at once (no member any more, no coordinator); else an outcome for
    /// each partition.
    fn commit(&self, commits: Vec<Commit>) -> PortFuture<Vec<CommitOutcome>>;

    /// What the group has committed, for each of `partitions`.
    fn committed(&self, partitions: Vec<TopicPartition>) -> PortFuture<Vec<Committed>>;

    /// How this member's group moves partitions, once it has joined.
    fn protocol(&self) -> GroupProtocol;

    /// Who this member is now, for offsets that are committed with a transaction; `None` while it is none. Asks the client,
    /// not a broker.
    fn group_metadata(&self) -> Option<GroupMetadata>;

    /// Leaves the group (a static member stays in it) and ends the client. The caller sets the deadline by giving up:
    /// the client then ends on a thread of its own. Dropping the member does the same, and does not wait.
    fn close(&self) -> PortFuture<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_of_this_topic_and_offset_says_what_is_finished() {
        let head = commit_map::MapHead { topic_id: NonZeroU128::new(5), base: 10, leader_epoch: None };
        let metadata = commit_map::encode(&head, [12..20, 25..26], &[], &[], commit_map::Limit::KAFKA).text;
        let of = |offset, metadata: &str| Committed {
            partition: TopicPartition::new("orders", 0),
            offset,
            leader_epoch: None,
            metadata: metadata.to_owned(),
        };
        let finished = vec![12..20, 25..26];
        assert_eq!(of(Some(10), &metadata).finished_above(Some(5)), finished);
        assert_eq!(of(Some(10), &metadata).finished_above(None), finished);
        for (offset, metadata, topic) in [
            (Some(10), &*metadata, 6),
            (Some(11), &*metadata, 5),
            (None, &*metadata, 5),
            (Some(10), "someone else's", 5),
        ] {
            assert_eq!(of(offset, metadata).finished_above(Some(topic)), [], "{offset:?} of topic {topic}");
        }
    }
}
