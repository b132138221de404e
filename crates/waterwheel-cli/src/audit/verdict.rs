//! What the checker found.

use std::fmt;

use serde::Serialize;

/// How many of a finding's cases are told one by one.
const TOLD: usize = 5;

/// Cases of one kind: how many, and the first few of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How many cases there are.
    pub count: u64,
    /// The first few: `partition@offset`, with the journal and line where one case has a line.
    pub first: Vec<String>,
}

impl Finding {
    pub(super) fn add(&mut self, case: impl fmt::Display) {
        self.count += 1;
        if self.first.len() < TOLD {
            self.first.push(case.to_string());
        }
    }
}

/// The verdict over all journals. Records are counted once, however often they ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Records that the brokers acknowledged.
    pub produced: u64,
    /// Of these, records whose handler succeeded.
    pub handled: u64,
    /// Records that the dead-letter topic acknowledged.
    pub dead_lettered: u64,
    /// Records skipped by policy.
    pub skipped: u64,
    /// Attempts that did not succeed.
    pub failed_attempts: u64,
    /// Handlers that never ended: their process died, or they were dropped unfinished.
    pub interrupted: u64,
    /// Lines cut short by the death of their process.
    pub torn_lines: u64,
    /// Records that finished more than once, or were started again by the member that had finished them.
    pub duplicates: Finding,
    /// Records that never finished.
    pub lost: Finding,
    /// Starts while a record of the same key and partition, or the record itself, was running in the same member.
    pub overlaps: Finding,
    /// Starts of a record after a later one of the same key and partition, within an assignment (in a journal that
    /// tells no assignments: the first start of each record).
    pub reorders: Finding,
    /// Records that had not finished when a commit passed them.
    pub commits_past_unfinished: Finding,
    /// Commits below an earlier one of the same assignment.
    pub commits_back: Finding,
    /// Starts in a partition that the member did not hold.
    pub unowned_starts: Finding,
    /// Commits for a partition that the member did not hold.
    pub unowned_commits: Finding,
    /// Partitions that two members held at once, by assignments that both ended with an orderly revoke.
    pub double_ownership: Finding,
    /// Starts of records that are not in the produced list.
    pub unproduced: Finding,
    /// Ends without a start.
    pub stray_ends: Finding,
}

impl Verdict {
    /// Whether nothing was found that must never happen. Duplicates may happen; whoever asks knows how many.
    pub fn holds(&self) -> bool {
        let never = [
            &self.lost,
            &self.overlaps,
            &self.reorders,
            &self.commits_past_unfinished,
            &self.commits_back,
            &self.unowned_starts,
            &self.unowned_commits,
            &self.double_ownership,
            &self.unproduced,
            &self.stray_ends,
        ];
        never.iter().all(|finding| finding.count == 0)
    }
}
