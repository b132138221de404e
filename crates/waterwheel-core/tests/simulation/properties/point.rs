//! What may be committed: P1, P2, P6, P15.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use waterwheel_core::commit_map::{self, Encoded, MapHead};
use waterwheel_core::engine::CommitPoint;

use super::{Checked, Follows, LifeId, Model, ensure};
use crate::world::log::Log;

impl Model {
    /// What an assignment offers for a commit, when it is taken.
    pub(crate) fn check_point(&mut self, id: LifeId, point: &CommitPoint, log: &Log) -> Checked {
        let Some(life) = self.lives.get_mut(&id) else { return Err(format!("I4: a commit point of unknown {id:?}")) };
        let p = life.partition;
        let lowest = life.unfinished(log);
        life.advance(point.offset, log)?;
        ensure!(point.offset <= lowest, "P1: {p} commits {} with {lowest} unfinished ({id:?})", point.offset);
        let cut = life.horizon < i64::MAX;
        let read = point.offset <= log.end().max(life.from) || life.is_unread_mark(point.offset - 1);
        ensure!(cut || read, "P1: {p} commits {} beyond its end", point.offset);
        let mut below = point.offset;
        for range in &point.finished {
            ensure!(range.start > below && range.end > range.start, "P2: ranges out of order in {point:?}");
            below = range.end;
            for offset in range.clone() {
                let done = life.finished.contains_key(&offset) || life.is_done(offset, log);
                let done = done || !log.is_visible(offset) || offset >= life.horizon || life.is_unread_mark(offset);
                ensure!(done, "P2: {p} marks {offset}, which is not finished ({id:?})");
            }
        }
        let is_in = |o: i64| o < point.offset || point.finished.iter().any(|r| r.contains(&o));
        let missing = life.finished.keys().rev().take(64).find(|o| !is_in(**o));
        ensure!(missing.is_none(), "P2: {p} commits {point:?}, and {missing:?} finished ({id:?})");
        life.pointed = life.finished.len();
        let followed: BTreeSet<i64> = life.followed.values().copied().collect();
        let told: BTreeSet<i64> = point.followed.iter().map(|f| f.offset).collect();
        ensure!(told == followed, "P18: {p} commits that {told:?} are followed, of {followed:?} ({id:?})");
        let failing: Vec<_> = point.failing.iter().map(|f| (f.offset, f.attempts)).collect();
        for (offset, attempts) in failing {
            let known = self.lives[&id].failed.get(&offset).map_or(0, |(n, _)| *n);
            ensure!(attempts <= known, "P2: {p}@{offset} is said to have failed {attempts} times of {known}");
        }
        Ok(())
    }

    /// An assignment of which nothing new is committed: P15.
    pub(crate) fn check_clean(&self, id: LifeId) -> Checked {
        let Some(life) = self.lives.get(&id) else { return Ok(()) };
        let (done, pointed) = (life.finished.len(), life.pointed);
        ensure!(
            done == pointed,
            "P15: {done} finished in {id:?}, its last commit point has {pointed}, and it is clean"
        );
        Ok(())
    }

    /// The text of a commit, when it is sent.
    pub(crate) fn check_text(&self, id: LifeId, point: &CommitPoint, head: &MapHead, map: &Encoded) -> Checked {
        let Some(life) = self.lives.get(&id) else { return Err(format!("P6: a commit of unknown {id:?}")) };
        ensure!(!life.over, "P6: a commit of {} after {id:?} was over", life.partition);
        if map.text.is_empty() {
            let nothing = point.finished.is_empty() && point.failing.is_empty();
            ensure!(nothing || map.cut, "P2: the map of {point:?} is empty");
            return Ok(());
        }
        let read = commit_map::decode(&map.text, head.topic_id, head.base);
        let read = read.map_err(|why| format!("P2: the map of {point:?} cannot be read: {why}"))?;
        let marks: Vec<i64> = read.finished().flatten().collect();
        let finished: Vec<i64> = point.finished.iter().cloned().flatten().collect();
        let whole = marks == finished && read.failing() == point.failing;
        let part = finished.starts_with(&marks) && point.failing.starts_with(read.failing());
        let follows = read.followed() == &point.followed[..map.followed];
        ensure!(follows, "P18: the map of {point:?} says {:?}", read.followed());
        ensure!(if map.cut { part } else { whole }, "P2: the map of {point:?} says {marks:?}, {:?}", read.failing());
        Ok(())
    }

    /// What a map marks, and of which records.
    pub(crate) fn marks_of(&self, id: LifeId, point: &CommitPoint) -> BTreeMap<i64, u32> {
        let Some(life) = self.lives.get(&id) else { return BTreeMap::new() };
        let marked = point.finished.iter().cloned().flatten();
        marked.filter_map(|o| Some((o, *life.finished.get(&o).or_else(|| life.resumed.get(&o))?))).collect()
    }

    /// The first so many of the keys that a commit says are followed.
    pub(crate) fn follows_of(&self, id: LifeId, point: &CommitPoint, count: usize) -> Follows {
        let letters = self.lives.get(&id).map(|life| &life.letters);
        let key = |offset| letters.and_then(|letters| letters.get(&offset)).copied();
        let told = point.followed.iter().take(count);
        Rc::new(told.filter_map(|f| Some((key(f.offset)?, f.offset))).collect())
    }

    /// A partition goes back after its drain and its last commit: P15.
    pub(crate) fn check_given_back(&self, id: LifeId, given_up: bool, log: &Log) -> Checked {
        let Some(life) = self.lives.get(&id).filter(|l| !l.over) else { return Ok(()) };
        if given_up || life.doubtful || life.finished.is_empty() {
            return Ok(());
        }
        // After a commit over a mark that proved to be of a log that was cut off, none is sent below it.
        let misled = life.acknowledged.is_some_and(|(offset, _, _)| offset > life.unfinished(log));
        if misled {
            return Ok(());
        }
        let committed = life.acknowledged.is_some_and(|(_, n, whole)| n == life.finished.len() || !whole);
        ensure!(
            committed,
            "P15: {} goes back with {} finished, committed {:?}",
            life.partition,
            life.finished.len(),
            life.acknowledged
        );
        Ok(())
    }
}
