//! What happens to the topic while it is read: records, transactions, compaction, deletion, leaders, a topic made anew.

use super::World;
use super::clock::WALL;
use super::log::{Log, Said, What};
use super::worker::Cursor;
use crate::counters::Seen;

impl World {
    pub(crate) fn produce(&mut self, partition: u32, most: u64) {
        let n = self.rng.range(1..=most);
        let in_txn = self.rng.percent(self.setup.transactional);
        for _ in 0..n {
            // Half of the records have one key; key 0 stands for the empty one.
            let keys = self.setup.keys;
            let key = match self.rng.below(10) {
                0 => None,
                1..=4 => Some(1),
                _ => Some(self.rng.below(keys) as u8),
            };
            let what = match self.rng.below(100) {
                0..=84 => What::Record,
                85..=94 => What::Gone,
                _ => What::Control,
            };
            let serial = self.model.new_record();
            // What anybody may write: nothing decides by it but in a retry tier, and there it is no more than a claim.
            let claimed = [None, Some(0), Some(3), Some(u32::MAX), Some(serial % 9)][serial as usize % 5];
            let said = Said { written_ms: self.written_ms(serial), claimed };
            self.logs[partition as usize].append(key, what, serial, said, in_txn);
        }
        self.note(format_args!("{partition} now ends at {}", self.logs[partition as usize].end()));
    }

    /// What a record that is written now says of its time: some have none, and some one that is far off.
    fn written_ms(&self, serial: u32) -> Option<i64> {
        match serial % 16 {
            0 => None,
            1 => Some(i64::MAX),
            _ => Some(WALL + self.now.since_start().as_millis() as i64),
        }
    }

    pub(crate) fn end_txn(&mut self, partition: u32) {
        let commit = self.calm || self.rng.percent(60);
        let log = &mut self.logs[partition as usize];
        if log.in_txn() {
            log.end_txn(commit);
            self.saw(if commit { Seen::TxnCommitted } else { Seen::TxnAborted });
        }
    }

    /// Some record that is not the last goes.
    pub(crate) fn compact(&mut self, partition: u32) {
        let log = &self.logs[partition as usize];
        let from = log.committed.as_ref().map_or(0, |c| c.offset);
        let candidates: Vec<i64> = log.visible(from).collect();
        if candidates.len() > 2 {
            let offset = candidates[self.rng.below(candidates.len() - 1)];
            // Often one that the commit map marks: a gap where something is known to be finished.
            let marks = log.committed.as_ref().map(|c| &*c.marks);
            let marked: Vec<i64> =
                candidates.iter().copied().filter(|o| marks.is_some_and(|m| m.contains_key(o))).collect();
            let offset = if marked.is_empty() || self.rng.percent(50) { offset } else { self.rng.pick(&marked) };
            let entry = &mut self.logs[partition as usize].entries[offset as usize];
            entry.what = What::Gone;
            let serial = entry.serial;
            if !self.model.is_finished(serial) {
                self.saw(Seen::GapInUnfinished);
            }
        }
    }

    pub(crate) fn change_leader(&mut self, partition: u32) {
        self.logs[partition as usize].leader_epoch += 1;
        self.saw(Seen::LeaderChanged);
    }

    /// Retention, or somebody, deletes the oldest records.
    pub(crate) fn delete_records(&mut self, partition: u32) {
        let log = &self.logs[partition as usize];
        let committed = log.committed.as_ref().map_or(0, |c| c.offset).max(log.start);
        // Mostly what is done with, at times more than that.
        let most = if self.rng.percent(60) { committed } else { committed + 6 };
        let start = self.rng.range(log.start as u64..=most.max(log.start) as u64) as i64;
        let unread = log
            .visible(log.start)
            .take_while(|o| *o < start)
            .any(|o| !self.model.is_finished(log.entries[o as usize].serial));
        self.logs[partition as usize].delete_below(start);
        self.saw(Seen::Deleted);
        if unread {
            self.saw(Seen::DeletedUnread);
        }
    }

    /// A replica that lacks the newest records becomes the leader.
    pub(crate) fn truncate(&mut self, partition: u32) {
        let log = &mut self.logs[partition as usize];
        if log.end() <= log.start + 1 {
            return;
        }
        let most = (log.end() - log.start - 1).min(8) as u64;
        let cut = log.end() - self.rng.range(1..=most) as i64;
        // Often at what the commit map marks, which is what there is to be misled by.
        let mark = log.committed.as_ref().and_then(|c| c.marks.keys().next().copied());
        let cut = mark.filter(|m| *m > log.start && *m < log.end() && self.rng.percent(50)).unwrap_or(cut);
        log.truncate(cut);
        self.saw(Seen::Truncated);
        if self.diverge(partition, cut, false) {
            self.saw(Seen::TruncatedUnderWorker);
        }
        if self.rng.percent(70) {
            self.produce(partition, 12);
        }
    }

    /// The topic of one partition is deleted and made again. (The others stand for partitions of other topics.)
    pub(crate) fn recreate(&mut self, partition: u32) {
        self.logs[partition as usize].recreate();
        self.saw(Seen::Recreated);
        if self.diverge(partition, 0, true) {
            self.saw(Seen::RecreatedUnderWorker);
        }
        if self.rng.percent(70) {
            self.produce(partition, 20);
        }
    }

    pub(crate) fn add_partition(&mut self) {
        if (self.logs.len() as u32) < self.setup.most_partitions {
            let topic = self.logs[0].topic;
            self.logs.push(Log::new(topic));
            let partition = self.logs.len() as u32 - 1;
            self.coordinator.add_partition(&mut self.rng, self.now);
            self.produce(partition, 12);
            self.saw(Seen::PartitionAdded);
        }
    }

    /// Readers beyond `cut` are no longer where they believe to be. Whether there are some.
    fn diverge(&mut self, partition: u32, cut: i64, anew: bool) -> bool {
        let id = waterwheel_core::PartitionId(partition);
        let mut untouched = Vec::new();
        let mut some = false;
        for (number, worker) in &mut self.workers {
            let shard = worker.shard_of(id);
            let Some(cursor): Option<&mut Cursor> = worker.shards[shard].cursors.get_mut(&id) else { continue };
            let marks = self.model.has_marks((*number, cursor.epoch.0));
            // One that stopped is to go on where its log began before; one with marks has them of the topic before.
            if cursor.next > cut || cursor.stopped || anew && marks {
                cursor.diverged = true;
                some = true;
            } else {
                untouched.push((*number, cursor.epoch.0));
            }
        }
        self.model.cut(partition, cut, &untouched);
        some
    }
}
