//! What a commit says of a partition, and what its refusal means.

use std::num::NonZeroU128;

use waterwheel_core::commit_map::{self, Limit, MapHead};
use waterwheel_core::engine::CommitPoint;
use waterwheel_core::group::CommitTrouble;

use crate::client::Commit;
use crate::error::{KafkaError, code};
use crate::events::Event;
use crate::record::TopicPartition;

/// A commit, and what its map had no room for.
pub(crate) struct Mapped {
    pub(crate) commit: Commit,
    /// What to tell, if it had to be cut.
    pub(crate) cut: Option<Event>,
    /// Finished offsets or failing records were left out: there will be room when more is finished. For keys that are
    /// followed there may be none until they are released, so they do not count here.
    pub(crate) is_full: bool,
}

/// A commit of that point, with a commit map of at most `limit` UTF-16 units.
pub(crate) fn with_map(
    partition: TopicPartition,
    point: CommitPoint,
    topic_id: Option<NonZeroU128>,
    limit: usize,
) -> Mapped {
    let head = MapHead { topic_id, base: point.offset, leader_epoch: point.marks_epoch };
    let map = commit_map::encode(&head, point.finished, &point.failing, &point.followed, Limit::Utf16(limit));
    let unfollowed = point.followed.len() - map.followed;
    let cut = || Event::MapCut { partition: partition.clone(), reach: map.reach, unfollowed };
    let cut = (map.cut || unfollowed > 0).then(cut);
    let commit = Commit { partition, offset: point.offset, leader_epoch: point.leader_epoch, metadata: map.text };
    Mapped { commit, cut, is_full: map.cut }
}

/// What a refusal of a commit means (`ARCHITECTURE.md`, "Commits").
pub(crate) fn trouble_of(error: &KafkaError) -> CommitTrouble {
    match error.code() {
        code::UNKNOWN_MEMBER_ID | code::FENCED_INSTANCE_ID | code::FENCED_MEMBER_EPOCH => CommitTrouble::Fenced,
        code::UNKNOWN | code::OFFSET_METADATA_TOO_LARGE | code::INVALID_COMMIT_OFFSET_SIZE => CommitTrouble::TooLarge,
        code::UNKNOWN_TOPIC_OR_PARTITION => CommitTrouble::Refused,
        _ if error.is_unauthorised() => CommitTrouble::Refused,
        _ => CommitTrouble::Again,
    }
}
