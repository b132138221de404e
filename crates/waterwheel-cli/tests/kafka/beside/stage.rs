//! A stage: a topic into which records flow steadily, and members of one arm that work on it.
//!
//! Whatever is waited for, records go on being sent and the journals being read, every [`PAUSE`].

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rustix::process::Signal;

use super::arm::{Arm, CONCURRENCY};
use super::timeline::{Struck, Timeline, exposed};
use crate::support::{Entry, Flow, Kafka, Member, PATIENCE, Trial, wait_each};

const PARTITIONS: i32 = 24;
const KEYS: u64 = 3_000;

/// Records that are sent each second.
pub(super) const RATE: usize = 600;

/// What a handler waits, in µs: 12 records are in work on average.
const WORK_US: &str = "20000";

/// A group that has had the same members for so long has all of them.
const REST: Duration = Duration::from_secs(3);

/// Between two questions to the group's coordinator.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(250);

/// Between two looks at the journals.
const PAUSE: Duration = Duration::from_millis(2);

/// How long anything may take that a scenario waits for.
const IN_VAIN: Duration = Duration::from_secs(40);

/// When nothing has finished for so long, nothing more will.
const QUIET: Duration = Duration::from_secs(20);

/// What one handler in a hundred does: those of fixed places in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// As all others.
    None,
    /// It takes 3 s.
    Long,
    /// It does not end.
    Stuck,
}

pub(super) struct Stage<'a> {
    pub(super) trial: Trial<'a>,
    arm: &'a Arm,
    flow: Option<Flow>,
    /// Since when records are sent.
    since: Option<Duration>,
    /// A number of records that are sent in up to 5 s: the interval of commits in many clients.
    pub(super) some: usize,
    struck: Vec<Struck>,
    /// Records that may run again: in work, and finished in the second before, when members were struck.
    exposed: (usize, usize),
    /// What the arm did that its journals do not tell.
    remarks: Vec<String>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(kafka: &'a Kafka, case: &'static str, arm: &'a Arm) -> Self {
        let mut trial = Trial::new(kafka, case, PARTITIONS);
        trial.figure("arm", arm.name.clone());
        let flow = Some(kafka.flow(&trial.topic));
        let some = trial.random(5 * RATE as u64) as usize;
        Self { trial, arm, flow, since: None, some, struck: Vec::new(), exposed: (0, 0), remarks: Vec::new() }
    }

    /// Starts a member.
    pub(super) fn join(&mut self, tail: Tail) -> Member {
        let (command, own) = self.arm.words();
        let tail = match tail {
            Tail::None => ["0", "0"],
            Tail::Long => ["3000000", "1"],
            Tail::Stuck => ["1000000000", "1"],
        };
        let load = ["--concurrency", CONCURRENCY, "--work-us", WORK_US, "--tail-us", tail[0], "--tail-pct", tail[1]];
        self.trial.member_of(&command, &[&load[..], &own].concat())
    }

    /// Starts two members, waits until they share the partitions, and begins to send. `None` if one of them ended, which
    /// ours may not.
    #[track_caller]
    pub(super) fn pair(&mut self, tail: Tail) -> Option<(Member, Member)> {
        let (mut first, mut second) = (self.join(tail), self.join(tail));
        if self.arm.is_ours {
            self.trial.await_settled(&[&first, &second]);
        } else {
            let (mut members, mut since) = (None, self.trial.reading().at);
            let settled = wait_each(BETWEEN_QUESTIONS, IN_VAIN, || {
                let (now, at) = (self.trial.kafka.settled_members(&self.trial.group), self.trial.reading().at);
                if now != members {
                    (members, since) = (now, at);
                }
                let ended = first.process.has_ended() || second.process.has_ended();
                (ended || members >= Some(2) && at - since > REST).then_some(())
            });
            self.remarks.extend(settled.is_none().then(|| "the group did not come to rest".to_owned()));
        }
        for member in [&mut first, &mut second] {
            if member.process.has_ended() {
                let said = member.process.stderr();
                assert!(!self.arm.is_ours, "a member ended by itself: {said}");
                self.remarks.push(format!("void: it ended by itself: {}", said.lines().last().unwrap_or_default()));
                return None;
            }
        }
        self.since = Some(self.trial.reading().at);
        self.await_starts(&first, 100);
        self.await_starts(&second, 100);
        Some((first, second))
    }

    /// Sends what is due, and reads the journals.
    fn tick(&mut self) {
        if let (Some(flow), Some(since)) = (&mut self.flow, self.since) {
            let due = (self.trial.reading().at - since).as_secs_f64() * RATE as f64;
            while flow.sent() < due as usize {
                let key = format!("k{}", self.trial.random(KEYS));
                flow.send(&key, "0123456789");
            }
        }
        self.trial.look();
    }

    /// Waits until `holds`; whether it did in time. Ours must.
    #[track_caller]
    pub(super) fn wait(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let held = wait_each(PAUSE, IN_VAIN, || {
            self.tick();
            holds(self).then_some(())
        });
        if held.is_none() {
            let excused = !self.arm.is_ours || self.arm.may_stall;
            assert!(excused, "{}: waited in vain for {what} (seed {})", self.arm.name, self.trial.seed);
            self.remarks.push(format!("waited in vain for {what}"));
        }
        held.is_some()
    }

    /// Waits until so many records more are sent.
    pub(super) fn flow_on(&mut self, more: usize) {
        let wanted = self.sent() + more;
        self.wait("records to be sent", |stage| stage.sent() >= wanted);
    }

    fn sent(&self) -> usize {
        self.flow.as_ref().map_or(usize::MAX, Flow::sent)
    }

    /// Waits until a member has begun so many records more.
    #[track_caller]
    pub(super) fn await_starts(&mut self, member: &Member, more: usize) -> bool {
        let wanted = self.trial.journal(member.number).starts + more;
        let what = format!("member {} to start {wanted} records", member.number);
        self.wait(&what, |stage| stage.trial.journals()[member.number].starts >= wanted)
    }

    /// Waits until from now on all partitions had starts in that member.
    #[track_caller]
    pub(super) fn await_all_partitions(&mut self, member: &Member) -> bool {
        let mut at = self.trial.journal(member.number).entries.len();
        let mut begun = BTreeSet::new();
        self.wait("the other member to work on all partitions", |stage| {
            let entries = &stage.trial.journals()[member.number].entries;
            begun.extend(entries[at..].iter().filter_map(|entry| match entry {
                Entry::Start(partition, _) => Some(*partition),
                _ => None,
            }));
            at = entries.len();
            begun.len() == PARTITIONS as usize
        })
    }

    /// SIGTERM; ours ends with 0.
    #[track_caller]
    pub(super) fn stop(&mut self, mut member: Member) {
        if !member.process.has_ended() {
            member.process.signal(Signal::TERM);
        }
        let ended = self.wait("a member to end", |_| member.process.has_ended());
        if !ended {
            // Dropping it kills it.
            return self.remarks.push(format!("member {} was killed, as it did not end", member.number));
        }
        let status = member.process.wait(PATIENCE);
        if status.code() != Some(0) {
            let said = member.process.stderr();
            let last = said.lines().last().unwrap_or_default();
            assert!(!self.arm.is_ours, "member {} ended with {status}: {last}", member.number);
            self.remarks.push(format!("member {} ended with {status}: {last}", member.number));
        }
    }

    /// SIGKILL, to all at once, while each has something in work.
    #[track_caller]
    pub(super) fn kill<const N: usize>(&mut self, members: [Member; N]) {
        self.wait("all that are to be killed to have something in work", |stage| {
            let journals = stage.trial.journals();
            members.iter().all(|member| exposed(&journals[member.number], Duration::ZERO).0 > 0)
        });
        let since = self.trial.reading().at.saturating_sub(Duration::from_secs(1));
        members.iter().for_each(|member| member.process.signal(Signal::KILL));
        for mut member in members {
            member.process.wait(PATIENCE);
            self.trial.look();
            self.strike(&member, since);
        }
        assert!(self.exposed.0 > 0 || !self.arm.is_ours, "void: nothing was in work when {} was killed", self.arm.name);
    }

    /// SIGSTOP.
    pub(super) fn freeze(&mut self, member: &Member) {
        self.wait("the one that is to be frozen to have something in work", |stage| {
            exposed(&stage.trial.journals()[member.number], Duration::ZERO).0 > 0
        });
        let since = self.trial.reading().at.saturating_sub(Duration::from_secs(1));
        member.process.signal(Signal::STOP);
        self.trial.look();
        self.strike(member, since);
    }

    /// SIGCONT.
    pub(super) fn thaw(&mut self, member: &Member) {
        let now = self.trial.reading();
        let frozen = self.struck.iter_mut().filter(|struck| struck.member == member.number);
        frozen.for_each(|struck| struck.until = Some(now));
        member.process.signal(Signal::CONT);
    }

    fn strike(&mut self, member: &Member, since: Duration) {
        let from = self.trial.reading();
        self.struck.push(Struck { member: member.number, from, until: None });
        self.trial.injected(1);
        let (in_work, finished) = exposed(&self.trial.journals()[member.number], since);
        self.exposed = (self.exposed.0 + in_work, self.exposed.1 + finished);
    }

    /// Sends no more, and waits until all that was sent is finished or nothing goes on.
    #[track_caller]
    pub(super) fn await_done(&mut self) {
        self.tick();
        if let Some(flow) = self.flow.take() {
            let sent = flow.end();
            self.trial.was_produced(sent);
        }
        let (mut finished, mut since) = (0, self.trial.reading().at);
        let done = wait_each(PAUSE, 3 * PATIENCE, || {
            self.tick();
            let now = self.trial.reading().at;
            if self.trial.finished() > finished {
                (finished, since) = (self.trial.finished(), now);
            }
            if self.trial.is_done() { Some(true) } else { (now - since > QUIET).then_some(false) }
        });
        if done != Some(true) {
            self.remarks
                .push(format!("{finished} of {} records were finished, and no more", self.trial.produced().len()));
        }
    }

    /// Judges the arm. Ours is held to the promises: nothing lost, nothing out of order, nothing side by side but what ran
    /// in a frozen member, nothing twice but what was in work or finished in the last second when members were struck.
    pub(super) fn judge(mut self) {
        self.trial.look();
        let keyed = self.trial.produced().keyed();
        let keys: HashMap<(i32, i64), String> =
            keyed.filter_map(|(partition, offset, key)| Some(((partition, offset), key?.to_owned()))).collect();
        let shown = Timeline::new(self.trial.journals(), &keys, &self.struck).shown();
        let committed = self.trial.kafka.committed(&self.trial.group, &self.trial.topic, PARTITIONS);
        let below_commits =
            |place: (i32, i64)| committed[place.0 as usize].offset.is_some_and(|offset| place.1 < offset);
        let (mut past, mut behind) = (0_usize, 0_usize);
        for (partition, offset, _) in self.trial.produced().keyed() {
            let place = (partition, offset);
            let (finished, committed) = (self.trial.has_finished(place), below_commits(place));
            past += usize::from(committed && !finished);
            behind += usize::from(finished && !committed);
        }
        let (in_work, last_second) = self.exposed;
        for (name, value) in [
            ("overlaps", shown.overlaps),
            ("overlaps_of_frozen", shown.overlaps_of_frozen),
            ("reorders", shown.reorders),
            ("committed_past", past),
            ("finished_not_committed", behind),
            ("in_work_when_struck", in_work),
            ("finished_in_the_second_before", last_second),
        ] {
            self.trial.figure(name, value);
        }
        self.trial.figure("standstill_s", shown.standstill.as_millis() as f64 / 1000.0);
        self.trial.figure("remarks", std::mem::take(&mut self.remarks));
        if !self.arm.is_ours {
            return self.trial.report();
        }
        self.trial.assert_all_committed();
        let (name, seed) = (&self.arm.name, self.trial.seed);
        assert_eq!((shown.overlaps, shown.reorders, past), (0, 0, 0), "{name} (seed {seed}): {shown:?}");
        assert!(shown.overlaps_of_frozen <= in_work, "{name} (seed {seed}): {shown:?}, {in_work} in work");
        self.trial.judge((in_work + last_second) as u64);
    }
}
