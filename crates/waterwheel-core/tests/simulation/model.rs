//! The reference: plain sets of what happened. Shares no code with the core.

use std::collections::{BTreeMap, BTreeSet};

use waterwheel_core::Now;
use waterwheel_core::engine::{CommitPoint, Resume};

use crate::log::Log;

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

/// An assignment: which worker, in which of its epochs.
pub(crate) type LifeId = (WorkerId, u64);

/// What is known of one assignment.
pub(crate) struct Life {
    pub(crate) partition: u32,
    pub(crate) from: i64,
    /// What the commit map said.
    pub(crate) resumed: BTreeSet<i64>,
    /// What finished in it.
    pub(crate) finished: BTreeSet<i64>,
    /// Results count until then.
    pub(crate) deadline: Option<Now>,
    pub(crate) over: bool,
}

impl Life {
    pub(crate) fn is_done(&self, offset: i64) -> bool {
        self.resumed.contains(&offset) || self.finished.contains(&offset)
    }

    /// Whether a result that comes now counts.
    pub(crate) fn counts(&self, now: Now) -> bool {
        !self.over && self.deadline.is_none_or(|at| now < at)
    }
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) lives: BTreeMap<LifeId, Life>,
    /// Handled, dead-lettered or skipped, by anyone: partition, offset.
    pub(crate) finished: BTreeSet<(u32, i64)>,
    pub(crate) attempts: BTreeMap<(u32, i64), u32>,
}

impl Model {
    pub(crate) fn begin(&mut self, id: LifeId, partition: u32, resume: &Resume, log: &Log) -> Checked {
        let resumed: BTreeSet<i64> = resume.finished.iter().cloned().flatten().collect();
        for offset in &resumed {
            let known = self.finished.contains(&(partition, *offset)) || !log.is_visible(*offset);
            ensure!(known, "P2: the map of {partition} marks {offset}, which never finished");
        }
        let (from, finished) = (resume.offset, BTreeSet::new());
        self.lives.insert(id, Life { partition, from, resumed, finished, deadline: None, over: false });
        Ok(())
    }

    /// The lowest offset that an assignment has not finished.
    pub(crate) fn unfinished(&self, life: &Life, log: &Log) -> i64 {
        log.visible(life.from).find(|o| !life.is_done(*o)).unwrap_or(i64::MAX)
    }

    /// What an assignment wants to commit: P1, P2, P8.
    pub(crate) fn check_point(&self, id: LifeId, point: &CommitPoint, log: &Log) -> Checked {
        let Some(life) = self.lives.get(&id) else { return Err(format!("I4: a commit of unknown {id:?}")) };
        let p = life.partition;
        ensure!(!life.over, "P6: a commit of {p} after {id:?} was over");
        let lowest = self.unfinished(life, log);
        ensure!(point.offset <= lowest, "P1: {p} commits {} with {lowest} unfinished ({id:?})", point.offset);
        ensure!(point.offset <= log.end(), "P1: {p} commits {} beyond its end", point.offset);
        let mut below = point.offset;
        for range in &point.finished {
            ensure!(range.start > below && range.end > range.start, "P2: ranges out of order in {point:?}");
            below = range.end;
            for offset in range.clone() {
                let done = life.is_done(offset) || !log.is_visible(offset);
                ensure!(done, "P2: {p} marks {offset}, which is not finished ({id:?})");
            }
        }
        for failing in &point.failing {
            let tried = self.attempts.get(&(p, failing.offset)).copied().unwrap_or(0);
            ensure!(
                failing.attempts <= tried,
                "{p}@{} has failed {} times of {tried}",
                failing.offset,
                failing.attempts
            );
        }
        Ok(())
    }
}
