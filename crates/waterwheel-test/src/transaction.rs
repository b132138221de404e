//! Transactions of a producer.

use waterwheel::TopicPartition;
use waterwheel::memory::Control;

/// A transaction under way. Readers of what is committed (the default) see its records once it is committed, and none
/// behind them in their partitions before it has ended. One that is dropped stays open.
pub struct Transaction {
    control: Control,
    number: u64,
}

impl Transaction {
    pub(crate) fn new(control: Control) -> Self {
        let number = control.begin();
        Self { control, number }
    }

    /// Writes a record; its offset, or `None` where there is no such partition.
    pub fn write(&self, topic: &str, partition: i32, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Option<i64> {
        self.control.write_in(self.number, &TopicPartition::new(topic, partition), key.as_ref(), value.as_ref())
    }

    /// Commits: a marker is written to each partition that has records of it.
    pub fn commit(self) {
        self.control.end(self.number, true);
    }

    /// Aborts: its records are never seen, and a marker is written all the same.
    pub fn abort(self) {
        self.control.end(self.number, false);
    }
}
