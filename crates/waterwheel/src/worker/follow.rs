//! Key follow-up: what becomes of a key of which a record is a dead letter.

use waterwheel_core::lanes::Order;

use super::{WorkerBuilder, WorkerHandle};
use crate::config::ConfigError;
use crate::driver::coordinator::Ask;
use crate::record::TopicPartition;
use crate::settings::AfterDeadLetter;

impl WorkerBuilder {
    /// What becomes of later records of a key of which one is a dead letter. Default: [`AfterDeadLetter::Continue`].
    ///
    /// With [`AfterDeadLetter::Follow`] what is followed is kept with the commits, so that the partition's next owner, or this one
    /// when it comes back, goes on with it. Some 700 keys of a partition fit there; those that do not are followed for as long as
    /// this worker has the partition, as [`Event::MapCut`](crate::Event::MapCut) tells.
    /// At most 10,000 keys of a partition are followed; a record whose key would be one more is parked rather than dead-lettered.
    /// [`CommitMetadata::Own`](crate::CommitMetadata::Own) keeps none, and where offsets are reset all keys go on.
    pub fn after_dead_letter(mut self, policy: AfterDeadLetter) -> Self {
        self.after_dead_letter = policy;
        self
    }

    pub(super) fn follows(&self) -> bool {
        self.after_dead_letter == AfterDeadLetter::Follow
    }

    pub(super) fn check_follow(&self) -> Result<(), ConfigError> {
        let mistake = |problem: &str, remedy: &str| Err(ConfigError::new("after_dead_letter", problem).remedy(remedy));
        if self.follows() && self.dead_letter.is_none() {
            return mistake("says follow, but no dead-letter topic is configured", "add .dead_letter(..)");
        }
        if self.follows() && self.order == Order::None {
            return mistake("says follow, but records have no order to keep", "leave it out, or use Order::Key");
        }
        Ok(())
    }
}

impl WorkerHandle {
    /// Starts records of that key in that partition again, which follow a dead letter
    /// ([`AfterDeadLetter::Follow`]); with [`Order::Partition`] those of the whole partition. Those that are on their way to
    /// the dead-letter topic stay there. False where the key follows none, or the worker does not have the partition or
    /// does not answer within five seconds. Kept with the next commit: a crash before that forgets it. Dropping the future does
    /// not take it back.
    pub async fn release_key(&self, partition: &TopicPartition, key: Option<&[u8]>) -> bool {
        let (partition, key) = (partition.clone(), key.map(Into::into));
        self.asked(|done| Ask::ReleaseKey { partition, key, done }).await.unwrap_or(false)
    }
}
