//! The end of a demo: the audit of its journals, and what it says.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Serialize;
use waterwheel::Counts;

use super::journals::Journals;
use crate::audit::{AuditError, Auditor, Finding, Order, Records, Verdict};
use crate::exit::{Exit, Failure};
use crate::words::grouped;

/// What a demo did, and whether it held what is promised.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Whether the audit holds.
    pub(super) ok: bool,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) members: usize,
    pub(super) group_protocol: &'static str,
    /// Records that the broker acknowledged.
    pub(super) produced: u64,
    /// Of these, records whose handler succeeded.
    pub(super) finished: u64,
    pub(super) dead_lettered: u64,
    pub(super) skipped: u64,
    /// Records that ran again after they were finished.
    pub(super) duplicates: u64,
    /// Failed attempts that another one followed.
    pub(super) retries: u64,
    pub(super) attempts: u64,
    /// Records sent that were not acknowledged; they are in no list.
    pub(super) unacknowledged: u64,
    /// Of the records produced, those that somebody else wrote.
    pub(super) written_by_others: u64,
    /// Whether producing ended early because the cluster could hold no more.
    pub(super) full: bool,
    pub(super) audit: Verdict,
}

/// Judges a run by its journals.
pub(super) fn audit(journals: &Journals) -> Result<Verdict, Failure> {
    if journals.are_broken() {
        return Err(Failure::new(Exit::Failed, "a journal could not be written: there is nothing to audit"));
    }
    let judge = || {
        let (list, name) = open(&journals.produced())?;
        let mut auditor = Auditor::new(Records::read(list, &name)?, Order::Key);
        for path in journals.members() {
            let (journal, name) = open(path)?;
            auditor.read_journal(journal, &name)?;
        }
        Ok(auditor.verdict())
    };
    judge().map_err(|error: AuditError| Failure::new(Exit::Failed, error))
}

fn open(path: &Path) -> Result<(BufReader<File>, String), AuditError> {
    let file = path.display().to_string();
    match File::open(path) {
        Ok(opened) => Ok((BufReader::new(opened), file)),
        Err(cause) => Err(AuditError::Read { file, cause }),
    }
}

/// Whether a verdict is what is promised: all that was produced was finished in one of three ways, and nothing else is
/// wrong either.
pub(super) fn holds(verdict: &Verdict) -> bool {
    // A record that ran twice may have been dead-lettered once and handled once.
    let twice = verdict.duplicates.count;
    let ended = verdict.handled + verdict.dead_lettered + verdict.skipped;
    verdict.holds() && (verdict.produced..=verdict.produced + twice).contains(&ended)
}

impl Summary {
    pub(super) fn new(verdict: Verdict, counts: &Counts) -> Self {
        Self {
            ok: holds(&verdict),
            seed: 0,
            seconds: 0.0,
            members: 0,
            group_protocol: "consumer",
            produced: verdict.produced,
            finished: verdict.handled,
            dead_lettered: verdict.dead_lettered,
            skipped: verdict.skipped,
            duplicates: verdict.duplicates.count,
            retries: counts.retried,
            attempts: counts.attempts,
            unacknowledged: 0,
            written_by_others: 0,
            full: false,
            audit: verdict,
        }
    }

    pub(super) fn exit(&self) -> Exit {
        if self.ok { Exit::Done } else { Exit::Failed }
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "audit: {} records in {:.1} s, judged by the journals of {}\n",
            grouped(self.produced),
            self.seconds,
            if self.members == 1 { "1 member".to_owned() } else { format!("{} members", self.members) },
        );
        let mut line = |words: &str, number: u64, more: &str| {
            let line = format!("  {words:<34}{:>9}  {more}", grouped(number));
            text.push_str(line.trim_end());
            text.push('\n');
        };
        line("produced", self.produced, "");
        line("= finished by a handler", self.finished, &format!("after {} retries", grouped(self.retries)));
        line("+ dead-lettered", self.dead_lettered, "");
        if self.skipped > 0 {
            line("+ skipped", self.skipped, "");
        }
        let audit = &self.audit;
        let mut judged = |words: &str, finding: &Finding| line(words, finding.count, &finding.first.join(", "));
        judged("lost", &audit.lost);
        judged("two of a key at once", &audit.overlaps);
        judged("out of order within an assignment", &audit.reorders);
        judged("commits past unfinished work", &audit.commits_past_unfinished);
        judged("partitions with two owners", &audit.double_ownership);
        for (words, finding) in [
            ("commits that went back", &audit.commits_back),
            ("started without owning", &audit.unowned_starts),
            ("committed without owning", &audit.unowned_commits),
            ("started, but never produced", &audit.unproduced),
            ("ended, but never started", &audit.stray_ends),
        ] {
            if finding.count > 0 {
                judged(words, finding);
            }
        }
        line("run twice (at-least-once allows it)", self.duplicates, &audit.duplicates.first.join(", "));
        if self.written_by_others > 0 {
            line("of these, written by others", self.written_by_others, "");
        }
        if self.unacknowledged > 0 {
            line("sent, but not acknowledged", self.unacknowledged, "not counted above");
        }
        if self.full {
            text.push_str("  orders ended early: the in-process cluster could hold no more\n");
        }
        text.push_str(if self.ok {
            "the audit holds: nothing lost, every key in order"
        } else {
            "THE AUDIT FAILS: this is a bug in waterwheel; please report it with the lines above and the seed"
        });
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict over one member's journal.
    fn verdict(produced: &str, journal: &str) -> Verdict {
        let mut auditor = Auditor::new(Records::read(produced.as_bytes(), "produced").unwrap(), Order::Key);
        auditor.read_journal(journal.as_bytes(), "A").unwrap();
        auditor.verdict()
    }

    #[test]
    fn a_planted_loss_fails_with_1() {
        let whole = "S 0 0 k\nE 0 0 k\nS 0 1 k\n# failed 0 1\nE 0 1 k\n# finished 0 1 dead-letter\n";
        let good = Summary::new(verdict("0 0 k\n0 1 k\n", whole), &Counts::default());
        assert_eq!((good.exit(), good.produced, good.finished, good.dead_lettered), (Exit::Done, 2, 1, 1));
        assert!(good.text().ends_with("the audit holds: nothing lost, every key in order\n"), "{}", good.text());

        let bad = Summary::new(verdict("0 0 k\n0 1 k\n0 2 k\n", whole), &Counts::default());
        assert_eq!((bad.exit(), bad.audit.lost.count), (Exit::Failed, 1));
        assert!(bad.text().contains("lost                                      1  0@2\n"), "{}", bad.text());
        assert!(bad.text().contains("THE AUDIT FAILS"), "{}", bad.text());
    }

    #[test]
    fn a_planted_overlap_and_a_planted_reordering_fail() {
        let produced = "0 0 k\n0 1 k\n";
        for journal in ["S 0 0 k\nS 0 1 k\nE 0 0 k\nE 0 1 k\n", "S 0 1 k\nE 0 1 k\nS 0 0 k\nE 0 0 k\n"] {
            assert_eq!(Summary::new(verdict(produced, journal), &Counts::default()).exit(), Exit::Failed, "{journal}");
        }
    }

    #[test]
    fn a_record_that_ran_twice_is_counted_and_allowed() {
        let journal = "S 0 0 k\nE 0 0 k\n";
        let mut auditor = Auditor::new(Records::of([(0, 0)]), Order::Key);
        auditor.read_journal(journal.as_bytes(), "A").unwrap();
        auditor.read_journal(journal.as_bytes(), "B").unwrap();
        let summary = Summary::new(auditor.verdict(), &Counts::default());
        assert_eq!((summary.exit(), summary.duplicates, summary.finished), (Exit::Done, 1, 1));
    }
}
