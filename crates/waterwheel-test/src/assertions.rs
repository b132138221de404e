//! What a test waits for. An assertion that does not come true in time says what was there instead.

use std::panic::Location;
use std::time::Duration;

use waterwheel::{DeadLetterOrigin, Record, TopicPartition};

use crate::cluster::Cluster;

/// How often an assertion looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Cluster {
    /// Waits until the group has finished and committed everything that is in the topic, in all its partitions: handled,
    /// dead-lettered or skipped. Dropping the future ends only the waiting.
    ///
    /// # Panics
    /// If that is not so within the cluster's patience; then it says how far each partition is.
    #[track_caller]
    pub fn assert_finished<'a>(&'a self, group: &'a str, topic: &'a str) -> impl Future<Output = ()> + 'a {
        let place = |partition: &TopicPartition| {
            let committed = self.committed(group, topic, partition.partition).map(|c| c.offset);
            (committed, self.control.ends(partition).map_or(0, |(_, end)| end))
        };
        // An empty partition may have nothing committed.
        let done = move || {
            let partitions = self.partitions(topic);
            !partitions.is_empty()
                && partitions.iter().map(place).all(|(c, end)| end == 0 || c.is_some_and(|c| c >= end))
        };
        let found = move || {
            let partitions = self.partitions(topic);
            let each = partitions.iter().map(|partition| {
                let (committed, end) = place(partition);
                let committed = committed.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
                format!("{partition}: {committed} committed of {end}{}", self.owner(group, partition))
            });
            each.collect::<Vec<_>>().join("; ")
        };
        self.eventually(format!("group {group} to finish topic {topic}"), done, found)
    }

    /// Waits until the group has committed that offset, or a higher one, for the partition. Dropping the future ends only the
    /// waiting.
    ///
    /// # Panics
    /// If that is not so within the cluster's patience; then it says what is committed.
    #[track_caller]
    pub fn assert_committed<'a>(
        &'a self,
        group: &'a str,
        topic: &'a str,
        partition: i32,
        offset: i64,
    ) -> impl Future<Output = ()> + 'a {
        let committed = move || self.committed(group, topic, partition).map(|c| c.offset);
        let found = move || {
            let at = TopicPartition::new(topic, partition);
            format!("committed: {:?}{}", committed(), self.owner(group, &at))
        };
        let done = move || committed().is_some_and(|c| c >= offset);
        self.eventually(format!("group {group} to commit {offset} of {topic}-{partition}"), done, found)
    }

    /// Waits until that many records, and not more, are in the dead-letter topic; gives them. [`DeadLetterOrigin`] reads from
    /// one where it came from and why it failed. Dropping the future ends only the waiting.
    ///
    /// # Panics
    /// If that is not so within the cluster's patience; then it says which dead letters are there.
    #[track_caller]
    pub fn assert_dead_lettered<'a>(&'a self, topic: &'a str, count: usize) -> impl Future<Output = Vec<Record>> + 'a {
        let done = move || self.records(topic).len() == count;
        let found = move || {
            let records = self.records(topic);
            let from = |record: &Record| match DeadLetterOrigin::of(record) {
                Ok(Some(o)) => format!("{}-{}@{} ({:?})", o.topic, o.partition, o.offset, o.error_class),
                Ok(None) => format!("a record that is no dead letter at {}", record.offset()),
                Err(error) => error.to_string(),
            };
            format!("{} are there: {}", records.len(), records.iter().map(from).collect::<Vec<_>>().join("; "))
        };
        let wait = self.eventually(format!("{count} dead letters in {topic}"), done, found);
        async move {
            wait.await;
            self.records(topic)
        }
    }

    fn owner(&self, group: &str, partition: &TopicPartition) -> &'static str {
        let owners = self.control.group(group).unwrap_or_default().owners;
        if owners.iter().any(|(p, _)| p == partition) { "" } else { " (no member has it)" }
    }

    #[track_caller]
    #[expect(clippy::panic, reason = "an assertion ends the test")]
    fn eventually<'a>(
        &'a self,
        what: String,
        done: impl Fn() -> bool + 'a,
        found: impl Fn() -> String + 'a,
    ) -> impl Future<Output = ()> + 'a {
        let caller = Location::caller();
        async move {
            let end = tokio::time::Instant::now() + self.patience;
            while !done() {
                if tokio::time::Instant::now() >= end {
                    panic!("{caller}: waited {:?} in vain for {what}. {}", self.patience, found());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}
