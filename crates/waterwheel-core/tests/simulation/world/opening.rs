//! Where a partition's work begins: what is committed, what its map says, what the log still has.

use std::collections::BTreeSet;

use waterwheel_core::commit_map::{self, MapRefusal};
use waterwheel_core::engine::Resume;
use waterwheel_core::{Epoch, PartitionId};

use super::World;
use super::log::Committed;
use super::worker::{Lookup, Opening, ToShard};
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId, ensure};

impl World {
    /// One answer to a worker that opens partitions: what the group has committed, then what the log is.
    pub(crate) fn open(&mut self, id: WorkerId) -> Checked {
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.frozen) else { return Ok(()) };
        let Some(opening) = worker.opens.pop_front() else { return Ok(()) };
        let Opening { partition, epoch, committed } = opening;
        let log = &self.logs[partition.index()];
        let Some(committed) = committed else {
            let committed = Some(log.committed.clone());
            worker.cuts.insert(partition, log.cuts);
            worker.opens.push_front(Opening { partition, epoch, committed });
            return Ok(());
        };
        worker.topics.insert(partition, log.topic);
        let resume = self.resume(partition, committed.as_ref())?;
        self.note(format_args!("{id} opened {partition:?} {resume:?}"));
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        worker.opened.extend(committed.map(|c| (epoch, c)));
        worker.group.opened(partition, epoch, resume);
        self.act_group(id)
    }

    fn resume(&mut self, p: PartitionId, committed: Option<&Committed>) -> Result<Resume, String> {
        let (topic, start, end) = {
            let log = &self.logs[p.index()];
            (log.topic, log.start, log.end())
        };
        let Some(committed) = committed else { return Ok(Resume { offset: start, ..Resume::default() }) };
        let bare = Resume { offset: committed.offset, ..Resume::default() };
        if committed.text.is_empty() {
            return Ok(bare);
        }
        match commit_map::decode(&committed.text, Some(topic), committed.offset) {
            Ok(map) => {
                let follows: BTreeSet<i64> = map.followed().iter().map(|f| f.offset).collect();
                let wrote = committed.follows.values().copied().collect();
                ensure!(follows == wrote, "P18: the map of {p:?} says {follows:?}, of {:?}", committed.follows);
                if !follows.is_empty() {
                    self.saw(Seen::FollowedResumed);
                }
                let mut resume = Resume {
                    offset: committed.offset,
                    finished: map.finished().collect(),
                    failing: map.failing().to_vec(),
                    followed: map.followed().to_vec(),
                    leader_epoch: map.leader_epoch(),
                };
                if resume.finished.last().is_some_and(|last| last.end > end) {
                    self.saw(Seen::MapBeyondEnd);
                    resume.finished.clear();
                    resume.failing.clear();
                }
                Ok(resume)
            }
            Err(MapRefusal::OtherTopic) => {
                let own = committed.topic == topic && committed.named == Some(topic);
                ensure!(!own, "P2: the map of {p:?} at {} names another topic than its own", committed.offset);
                self.saw(Seen::MapOfOtherTopic);
                Ok(Resume { offset: start, ..Resume::default() })
            }
            Err(why) => {
                ensure!(committed.garbled, "P2: the map of {p:?} is refused: {why}");
                self.saw(Seen::MapRefused);
                Ok(bare)
            }
        }
    }

    /// A partition's fetch ended, because the log has no such offset.
    pub(crate) fn out_of_range(&mut self, id: WorkerId, partition: PartitionId, epoch: Epoch, was: i64) {
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.group.is_current(partition, epoch)
        {
            worker.lookups.push_back(Lookup { partition, epoch, was });
        }
    }

    /// What the log of such a partition begins with was found out.
    pub(crate) fn look_up(&mut self, id: WorkerId) -> Checked {
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.frozen) else { return Ok(()) };
        let Some(Lookup { partition, epoch, was }) = worker.lookups.pop_front() else { return Ok(()) };
        if !worker.group.is_current(partition, epoch) {
            return Ok(());
        }
        let log = &self.logs[partition.index()];
        let to = log.start;
        if was >= to {
            worker.topics.insert(partition, log.topic);
            worker.cuts.insert(partition, log.cuts);
            worker.group.restarted(partition, Resume { offset: to, ..Resume::default() });
            self.saw(Seen::Restarted);
        } else {
            worker.tell(partition, ToShard::Refetch(partition, epoch, to));
            self.saw(Seen::GapSkipped);
        }
        self.note(format_args!("{id} looked up {partition:?} at {was}: begins at {to}"));
        self.loss_is_due = true;
        self.act_group(id)?;
        self.loss_is_due = false;
        Ok(())
    }

    /// Somebody commits a later offset, and takes the map of before along.
    fn move_base(&mut self, partition: u32) {
        let by = self.rng.range(1..=3) as i64;
        let log = &mut self.logs[partition as usize];
        let end = log.stable_end();
        let Some(committed) = log.committed.as_mut().filter(|c| !c.text.is_empty() && c.offset + by <= end) else {
            return;
        };
        committed.offset += by;
        (committed.garbled, committed.tainted, committed.by) = (true, true, None);
        let offset = committed.offset;
        self.model.hide(&self.logs[partition as usize], offset);
        self.saw(Seen::BaseMoved);
    }

    /// Somebody changes what is committed in a way that no worker does.
    pub(crate) fn garble(&mut self, partition: u32) {
        let chance = self.rng.below(4);
        if chance == 3 {
            return self.move_base(partition);
        }
        let at = self.rng.next() as usize;
        let Some(committed) = self.logs[partition as usize].committed.as_mut().filter(|c| !c.text.is_empty()) else {
            return;
        };
        let mut text: Vec<char> = committed.text.chars().collect();
        let at = at % text.len();
        match chance {
            0 => text.truncate(at),
            1 => text[at] = char::from_u32(text[at] as u32 ^ 1).unwrap_or('x'),
            _ => text.insert(at, text[at]),
        }
        committed.text = text.into_iter().collect();
        committed.garbled = true;
        self.saw(Seen::MapGarbled);
    }
}
