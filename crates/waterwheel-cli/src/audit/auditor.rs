//! Reads journals one after the other and collects what they show.
//!
//! Within a journal, order is time. Between journals only the times of assignments are known, so that a record which
//! another member finished counts as finished from the start: the checker may miss a fault, but tells no false one.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::BufRead;

use super::line::each_line;
use super::records::{Place, Records};
use super::{AuditError, Line, Order, Verdict};

/// Collects the evidence of journals.
#[derive(Debug)]
pub struct Auditor {
    records: Records,
    order: Order,
    verdict: Verdict,
    journals: u16,
    /// Assignments that ended in order.
    tenures: Vec<Tenure>,
    /// Records that a commit passed before any journal had shown them finished.
    passed: Vec<Passed>,
}

#[derive(Debug)]
struct Tenure {
    partition: i32,
    from: u64,
    to: u64,
    journal: u16,
}

#[derive(Debug)]
struct Passed {
    place: Place,
    journal: u16,
    line: u64,
}

/// What is known of one member while its journal is read.
#[derive(Default)]
struct Member {
    number: u16,
    /// Records that run, by partition and offset.
    running: HashMap<(i32, i64), Attempt>,
    /// How many records of a lane run; lanes without any are absent.
    busy: HashMap<(i32, u64), u32>,
    /// The last record of each lane that was started, by partition.
    last_started: HashMap<i32, HashMap<u64, i64>>,
    /// Partitions held now.
    held: HashMap<i32, Held>,
    /// By partition, the index below which commits were judged.
    judged: HashMap<i32, usize>,
    /// Whether this journal tells assignments.
    tells_assignments: bool,
}

struct Attempt {
    lane: Option<u64>,
    failed: bool,
}

struct Held {
    epoch: u64,
    since: u64,
    committed: Option<i64>,
}

/// A place to point at: `partition@offset` at a line of a journal.
struct At<'a>(i32, i64, &'a str, u64);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} ({}:{})", self.0, self.1, self.2, self.3)
    }
}

impl Auditor {
    /// Will judge journals by these produced records.
    pub fn new(records: Records, order: Order) -> Self {
        let verdict = Verdict { torn_lines: records.torn(), ..Verdict::default() };
        Self { records, order, verdict, journals: 0, tenures: Vec::new(), passed: Vec::new() }
    }

    /// Reads one member's journal; `file` names it in errors and findings.
    pub fn read_journal(&mut self, input: impl BufRead, file: &str) -> Result<(), AuditError> {
        self.journals += 1;
        let mut member = Member { number: self.journals, ..Member::default() };
        let torn = each_line(input, file, |number, line| {
            let line = Line::parse(line)?;
            self.take(&mut member, line, file, number)
        })?;
        self.verdict.torn_lines += torn;
        self.verdict.interrupted += member.running.len() as u64;
        Ok(())
    }

    fn take(&mut self, member: &mut Member, line: Line<'_>, file: &str, number: u64) -> Result<(), &'static str> {
        let at = |partition, offset| At(partition, offset, file, number);
        match line {
            Line::Start { partition, offset, key } => {
                let lane = self.lane(key);
                self.start(member, lane, &at(partition, offset));
            }
            Line::End { partition, offset, .. } => match member.end(partition, offset) {
                Some(attempt) if attempt.failed => self.verdict.failed_attempts += 1,
                Some(_) => self.finish(member, partition, offset, None),
                None => self.verdict.stray_ends.add(at(partition, offset)),
            },
            Line::Failed { partition, offset } => match member.running.get_mut(&(partition, offset)) {
                Some(attempt) => attempt.failed = true,
                None => self.verdict.stray_ends.add(at(partition, offset)),
            },
            Line::Cut { partition, offset } => match member.end(partition, offset) {
                Some(_) => self.verdict.interrupted += 1,
                None => self.verdict.stray_ends.add(at(partition, offset)),
            },
            Line::Finished { partition, offset, how } => self.finish(member, partition, offset, Some(how)),
            Line::Assigned { partition, epoch, start, ns } => {
                let held = Held { epoch, since: ns, committed: None };
                if member.held.insert(partition, held).is_some() {
                    return Err("assigns a partition that the member holds already");
                }
                member.tells_assignments = true;
                member.last_started.remove(&partition);
                member.judged.insert(partition, self.records.index_from(partition, start));
            }
            Line::Revoked { partition, epoch, ns } => {
                let held = member.release(partition, epoch)?;
                self.tenures.push(Tenure { partition, from: held.since, to: ns, journal: member.number });
            }
            // Until when the member really held it is not known.
            Line::Lost { partition, epoch, .. } => {
                member.release(partition, epoch)?;
            }
            Line::Commit { partition, offset, .. } => self.commit(member, &at(partition, offset)),
            Line::Remark => {}
        }
        Ok(())
    }

    fn lane(&self, key: &[u8]) -> Option<u64> {
        match self.order {
            Order::Key if key.is_empty() => None,
            Order::Key => {
                let mut hasher = DefaultHasher::new();
                key.hash(&mut hasher);
                Some(hasher.finish())
            }
            Order::Partition => Some(0),
            Order::None => None,
        }
    }

    fn start(&mut self, member: &mut Member, lane: Option<u64>, at: &At<'_>) {
        let At(partition, offset, ..) = *at;
        let mut first_here = true;
        match self.records.find(partition, offset).and_then(|place| self.records.state(place)) {
            Some(state) => {
                first_here = state.started_in != member.number;
                state.started_in = member.number;
                state.duplicate |= state.finished_in == member.number;
            }
            None => self.verdict.unproduced.add(at),
        }
        if member.tells_assignments && !member.held.contains_key(&partition) {
            self.verdict.unowned_starts.add(at);
        }
        if member.running.contains_key(&(partition, offset)) {
            self.verdict.overlaps.add(at);
            return;
        }
        if let Some(lane) = lane {
            let busy = member.busy.entry((partition, lane)).or_default();
            if *busy > 0 {
                self.verdict.overlaps.add(at);
            }
            *busy += 1;
            let last = member.last_started.entry(partition).or_default().entry(lane).or_insert(offset);
            if offset < *last && (first_here || member.tells_assignments) {
                self.verdict.reorders.add(at);
            }
            *last = offset.max(*last);
        }
        member.running.insert((partition, offset), Attempt { lane, failed: false });
    }

    fn finish(&mut self, member: &Member, partition: i32, offset: i64, how: Option<super::Finish>) {
        if let Some(state) = self.records.find(partition, offset).and_then(|place| self.records.state(place)) {
            state.finish(how, member.number);
        }
    }

    fn commit(&mut self, member: &mut Member, at: &At<'_>) {
        let At(partition, offset, _, line) = *at;
        match member.held.get_mut(&partition) {
            None if member.tells_assignments => self.verdict.unowned_commits.add(at),
            None => {}
            Some(held) => {
                if held.committed.is_some_and(|earlier| offset < earlier) {
                    self.verdict.commits_back.add(at);
                }
                held.committed = held.committed.max(Some(offset));
            }
        }
        let from = member.judged.entry(partition).or_default();
        let to = self.records.index_from(partition, offset);
        for index in *from..to {
            let place = Place { partition, index };
            if self.records.state(place).is_some_and(|state| !state.finished()) {
                self.passed.push(Passed { place, journal: member.number, line });
            }
        }
        *from = to.max(*from);
    }

    /// The verdict over all journals read.
    pub fn verdict(mut self) -> Verdict {
        self.judge_passed();
        self.judge_tenures();
        let verdict = &mut self.verdict;
        for (partition, offset, state) in self.records.iter() {
            verdict.produced += 1;
            verdict.handled += u64::from(state.handled);
            verdict.dead_lettered += u64::from(state.dead_lettered);
            verdict.skipped += u64::from(state.skipped);
            if state.duplicate {
                verdict.duplicates.add(format_args!("{partition}@{offset}"));
            }
            if !state.finished() {
                verdict.lost.add(format_args!("{partition}@{offset}"));
            }
        }
        self.verdict
    }

    /// A record that only the committing member finished was finished too late.
    fn judge_passed(&mut self) {
        for passed in &self.passed {
            let finished_in = self.records.state(passed.place).map_or(0, |state| state.finished_in);
            if finished_in == 0 || finished_in == passed.journal {
                let offset = self.records.offset(passed.place).unwrap_or_default();
                self.verdict.commits_past_unfinished.add(format_args!(
                    "{}@{offset} (journal {}, line {})",
                    passed.place.partition, passed.journal, passed.line
                ));
            }
        }
    }

    fn judge_tenures(&mut self) {
        self.tenures.sort_unstable_by_key(|tenure| (tenure.partition, tenure.from));
        for pair in self.tenures.windows(2) {
            let (one, next) = (&pair[0], &pair[1]);
            if one.partition == next.partition && one.journal != next.journal && next.from < one.to {
                self.verdict.double_ownership.add(format_args!(
                    "{} (journals {} and {}, {} ns)",
                    one.partition,
                    one.journal,
                    next.journal,
                    one.to.min(next.to) - next.from
                ));
            }
        }
    }
}

impl Member {
    fn end(&mut self, partition: i32, offset: i64) -> Option<Attempt> {
        let attempt = self.running.remove(&(partition, offset))?;
        if let Some(lane) = attempt.lane
            && let Some(busy) = self.busy.get_mut(&(partition, lane))
        {
            *busy -= 1;
            if *busy == 0 {
                self.busy.remove(&(partition, lane));
            }
        }
        Some(attempt)
    }

    fn release(&mut self, partition: i32, epoch: u64) -> Result<Held, &'static str> {
        match self.held.remove(&partition) {
            Some(held) if held.epoch == epoch => Ok(held),
            _ => Err("ends an assignment that the member does not hold"),
        }
    }
}
