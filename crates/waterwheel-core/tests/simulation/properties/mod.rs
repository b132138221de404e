//! The properties P1 to P20, and the reference by which they are judged: plain sets of what happened, which share no code
//! with the core.
//!
//! | | holds | judged in |
//! |---|---|---|
//! | P1 | a commit never passes an unfinished record | `point`, at the broker in `world/commits` |
//! | P2 | a map says exactly what finished above it, a cut one a part of that, and fits | `point` |
//! | P3 | one record of a key at a time, in order | `start` |
//! | P4 | attempts, waiting records and bytes stay under their budgets | `start`, `full` |
//! | P5 | nothing starts in an assignment that ends | `start` |
//! | P6 | nothing is committed for a partition that is not held; no broker takes it | `point`, `world/commits` |
//! | P7 | a committed offset goes back only for a log that was read anew | `world/commits` |
//! | P8 | a failed record is finished by its acknowledged dead letter, or because that was configured | `endings` |
//! | P9 | the end of a log is reached when all below it is finished, and not before | `full`, `rest` |
//! | P10 | what is paused, out of its lease, or held for its map starts nothing new | `start` |
//! | P11 | memory is bounded by what is unfinished | `full`, `rest` |
//! | P12 | every visible record is finished at the end | `rest` |
//! | P13 | ... and every partition has come to its end, gaps and control records included | `rest` |
//! | P14 | ... and no lag, queue or timer is left | `rest` |
//! | P15 | what was finished comes again only where a death, a cut drain or a cut map explains it | `start`, `point` |
//! | P16 | a stop ends in time, with nothing held | `rest` |
//! | P17 | no record starts before its time and the delay have passed; one from the future waits from when it came | `start` |
//! | P18 | no record of a key starts behind its dead letter, where they follow it, until it is released; over hand-overs as far as maps have room | `start`, `point`, `world/opening` |
//! | P19 | nothing starts while a breaker is open, no more probes than are allowed, nothing beyond a rate | `world/gate` |
//! | P20 | whatever its headers claim, a record has no attempts beyond the cap, and comes to the retry tier behind each visit below it | `start`, `endings` |
//!
//! (P9 and P13 speak of a caught-up signal; the core has none yet, so they are judged by the position it would go by.)
//! I3, I4 and R2 name what the invariants and promises of `ARCHITECTURE.md` add.

pub(crate) mod endings;
pub(crate) mod full;
pub(crate) mod point;
pub(crate) mod rest;
pub(crate) mod start;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use waterwheel_core::Now;
use waterwheel_core::engine::Resume;

use crate::world::log::{Committed, Log, What};

/// What a check says.
pub(crate) type Checked = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}
pub(crate) use ensure;

pub(crate) type WorkerId = u32;

/// Keys that follow a dead letter, and its offset; `None` stands for the whole partition.
pub(crate) type Follows = Rc<BTreeMap<Option<u8>, i64>>;

/// An assignment: which worker, in which of its epochs.
pub(crate) type LifeId = (WorkerId, u64);

/// What is known of one assignment. Times are by its worker's clock.
pub(crate) struct Life {
    pub(crate) partition: u32,
    pub(crate) from: i64,
    /// What the commit map said: offset and record.
    pub(crate) resumed: BTreeMap<i64, u32>,
    /// One past the highest offset that the map said is finished.
    pub(crate) marked_to: i64,
    /// What finished in it: offset and record.
    pub(crate) finished: BTreeMap<i64, u32>,
    /// Records that failed: attempts that count, and when the next one may start.
    pub(crate) failed: BTreeMap<i64, (u32, Now)>,
    /// Results count until then.
    pub(crate) deadline: Option<Now>,
    pub(crate) over: bool,
    /// How far it has read.
    pub(crate) read_to: i64,
    /// From here on its log is another one.
    pub(crate) horizon: i64,
    /// It begins where the log does, whatever was committed.
    pub(crate) anew: bool,
    /// Its last commit is given up then.
    pub(crate) give_up: Option<Now>,
    /// Nothing of it runs any more, and the group side knows.
    pub(crate) drained: bool,
    /// How much had finished when its commit point was taken last.
    pub(crate) pointed: usize,
    /// The last commit of it that the broker took and that it knows of: the offset, and whether all that had finished
    /// was in it.
    pub(crate) acknowledged: Option<(i64, usize, bool)>,
    /// A commit of it was refused, or not answered.
    pub(crate) doubtful: bool,
    /// The highest frontier and the highest commit point that were seen.
    pub(crate) frontier: Cell<i64>,
    /// Keys that follow a dead letter, and its offset; `None` stands for the whole partition.
    pub(crate) followed: BTreeMap<Option<u8>, i64>,
    /// The key of each dead letter that was ever followed in it.
    pub(crate) letters: BTreeMap<i64, Option<u8>>,
    /// Records that followed one.
    pub(crate) followers: BTreeSet<i64>,
    /// When the records that it was given came.
    pub(crate) arrived: BTreeMap<i64, Now>,
    /// Records whose dead letter could not be written so far.
    pub(crate) unsettled: BTreeSet<i64>,
    /// Records on their way to the retry tier.
    pub(crate) tiered: BTreeSet<i64>,
    /// Below this, all that is visible is done.
    lowest: Cell<i64>,
}

impl Life {
    /// Whether the record at `offset` of the log needs no work in it.
    pub(crate) fn is_done(&self, offset: i64, log: &Log) -> bool {
        let Some(serial) = log.entry(offset).map(|e| e.serial) else { return true };
        self.finished.get(&offset) == Some(&serial) || self.resumed.get(&offset) == Some(&serial)
    }

    /// Whether the map marks the record at `offset`, which it has not read. Only reading shows that the log was cut off
    /// there since, and is another one: a limit of maps that `ARCHITECTURE.md` names.
    pub(crate) fn is_unread_mark(&self, offset: i64) -> bool {
        offset >= self.read_to && self.resumed.contains_key(&offset)
    }

    /// P7: its frontier does not go back, unless marks proved to be of a log that was cut off.
    pub(crate) fn advance(&self, frontier: i64, log: &Log) -> Checked {
        let before = self.frontier.replace(frontier);
        let forward = frontier >= before || log.was_cut();
        ensure!(forward, "P7: the frontier of {} was {before} and is {frontier}", self.partition);
        Ok(())
    }

    /// Whether a result that comes now counts.
    pub(crate) fn counts(&self, now: Now) -> bool {
        !self.over && self.deadline.is_none_or(|at| now < at)
    }

    /// The lowest visible offset that it has not finished.
    pub(crate) fn unfinished(&self, log: &Log) -> i64 {
        let to = log.stable_end().min(self.horizon);
        let mut visible = log.visible(self.lowest.get()).take_while(|o| *o < to);
        let found = visible.find(|o| !self.is_done(*o, log) && !self.is_unread_mark(*o));
        self.lowest.set(found.unwrap_or(to.max(self.from)));
        found.unwrap_or(i64::MAX)
    }
}

/// The name of no record.
const NOBODY: u32 = u32::MAX;

/// What is known of one record.
#[derive(Clone, Copy, Default)]
struct Record {
    finished: bool,
    /// A commit of a log of before stands above it, which no reader can know.
    hidden: bool,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) lives: BTreeMap<LifeId, Life>,
    records: Vec<Record>,
    /// By partition: below this, all that is visible is finished.
    settled: BTreeMap<u32, i64>,
}

impl Model {
    /// Names a record.
    pub(crate) fn new_record(&mut self) -> u32 {
        self.records.push(Record::default());
        self.records.len() as u32 - 1
    }

    /// Handled, dead-lettered or skipped, by anyone.
    pub(crate) fn is_finished(&self, serial: u32) -> bool {
        self.records[serial as usize].finished
    }

    pub(crate) fn finish(&mut self, serial: u32) {
        self.records[serial as usize].finished = true;
    }

    fn is_settled(&self, serial: u32) -> bool {
        let record = &self.records[serial as usize];
        record.finished || record.hidden
    }

    /// The log of a partition is another one from `cut` on. `untouched`: assignments that have read nothing there.
    pub(crate) fn cut(&mut self, partition: u32, cut: i64, untouched: &[LifeId]) {
        for (id, life) in self.lives.iter_mut().filter(|(_, l)| l.partition == partition) {
            if !untouched.contains(id) {
                life.horizon = life.horizon.min(cut);
            }
            life.lowest.set(life.from.min(life.lowest.get()));
        }
        self.settled.entry(partition).and_modify(|at| *at = (*at).min(cut));
    }

    /// Whether a commit map said something of an assignment.
    pub(crate) fn has_marks(&self, id: LifeId) -> bool {
        self.lives.get(&id).is_some_and(|life| !life.resumed.is_empty())
    }

    /// An assignment was given what is below `next`. What it finished by marks is judged anew.
    pub(crate) fn read(&mut self, id: LifeId, next: i64) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.lowest.set(life.lowest.get().min(life.read_to));
            life.read_to = next;
        }
    }

    /// Records were given to an assignment.
    pub(crate) fn arrived(&mut self, id: LifeId, offsets: &[i64], at: Now) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.arrived.extend(offsets.iter().map(|offset| (*offset, at)));
        }
    }

    /// All that an assignment knows from `cut` on is of another log.
    pub(crate) fn end_horizon(&mut self, id: LifeId, cut: i64) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.horizon = life.horizon.min(cut);
        }
    }

    /// The lowest visible record that nobody finished.
    pub(crate) fn unsettled(&mut self, partition: u32, log: &Log) -> Option<i64> {
        let from = self.settled.get(&partition).copied().unwrap_or(0);
        let found = log.visible(from).find(|o| !self.is_settled(log.entries[*o as usize].serial));
        self.settled.insert(partition, found.unwrap_or(log.stable_end()));
        found
    }

    /// Excuses the records below `offset`: no reader can know of them. How many.
    pub(crate) fn hide(&mut self, log: &Log, offset: i64) -> usize {
        let mut hidden = 0;
        // Those of an open transaction, too, which are not visible yet.
        for entry in log.entries.iter().take(offset as usize) {
            let record = &mut self.records[entry.serial as usize];
            if !record.finished && !record.hidden {
                record.hidden = true;
                hidden += usize::from(entry.what == What::Record);
            }
        }
        hidden
    }

    /// An assignment begins.
    pub(crate) fn begin(
        &mut self,
        id: LifeId,
        partition: u32,
        resume: &Resume,
        committed: Option<&Committed>,
        log: &Log,
    ) -> Checked {
        let mut resumed = BTreeMap::new();
        for offset in resume.finished.iter().cloned().flatten() {
            match committed.and_then(|c| c.marks.get(&offset)) {
                Some(serial) => _ = resumed.insert(offset, *serial),
                None => {
                    let gap = log.entry(offset).is_none() || !log.is_visible(offset);
                    ensure!(gap || log.was_cut(), "P2: the map of {partition} marks {offset}, which never finished");
                    // A gap, or of a log that is no more.
                    resumed.insert(offset, NOBODY);
                }
            }
        }
        let failed = resume.failing.iter().map(|f| (f.offset, (f.attempts, Now::default()))).collect();
        // What its text could not say, or nobody could read, is not followed.
        let follows = committed.filter(|_| !resume.followed.is_empty()).map(|c| BTreeMap::clone(&c.follows));
        let followed = follows.unwrap_or_default();
        let life = Life {
            partition,
            from: resume.offset,
            resumed,
            marked_to: resume.finished.last().map_or(resume.offset, |r| r.end),
            finished: BTreeMap::new(),
            failed,
            deadline: None,
            over: false,
            read_to: resume.offset,
            horizon: i64::MAX,
            anew: committed.is_none(),
            give_up: None,
            drained: false,
            pointed: 0,
            acknowledged: None,
            doubtful: false,
            frontier: Cell::new(resume.offset),
            letters: followed.iter().map(|(key, offset)| (*offset, *key)).collect(),
            followed,
            followers: BTreeSet::new(),
            arrived: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            tiered: BTreeSet::new(),
            lowest: Cell::new(resume.offset),
        };
        self.lives.insert(id, life);
        Ok(())
    }
}
