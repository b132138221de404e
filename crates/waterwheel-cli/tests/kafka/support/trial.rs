//! Trials: a topic, a group whose members keep journals, and the verdict over all of them.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use waterwheel_cli::audit::{Auditor, Line, Order, Records, Verdict};

use super::commits::{self, Said};
use super::produce::Produced;
use super::{Kafka, PATIENCE, Process, topic_name, wait_until};

/// How a group moves its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The classic protocol; every rebalance revokes everything.
    Eager,
    /// The classic protocol; a rebalance revokes what moves.
    Cooperative,
    /// KIP-848.
    Consumer,
}

impl Protocol {
    /// The client properties that ask for it, with time-outs that a test can wait for.
    pub(crate) fn properties(self) -> Vec<(&'static str, &'static str)> {
        let classic = |strategy| {
            let times = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")];
            [&[("partition.assignment.strategy", strategy)][..], &times].concat()
        };
        match self {
            Protocol::Eager => classic("range"),
            Protocol::Cooperative => classic("cooperative-sticky"),
            Protocol::Consumer => vec![("group.protocol", "consumer")],
        }
    }
}

/// One topic, one group, and what its members do.
pub(crate) struct Trial<'a> {
    pub(crate) kafka: &'a Kafka,
    name: &'static str,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) partitions: i32,
    pub(crate) seed: u64,
    random: u64,
    began: Instant,
    /// How often the journals were looked at.
    pass: u32,
    dir: TempDir,
    produced: Produced,
    journals: Vec<Tail>,
    finished: HashSet<(i32, i64)>,
    figures: serde_json::Map<String, serde_json::Value>,
    faults: usize,
    /// Where the group's log of commits ended before its first one.
    commits_from: i64,
    /// Commits that the test itself made.
    by_hand: Vec<(i32, i64)>,
    /// Partitions whose logs were cut off.
    cut_off: Vec<i32>,
    /// What members said that ended.
    said: Vec<String>,
}

impl<'a> Trial<'a> {
    /// A new topic of so many partitions.
    pub(crate) fn new(kafka: &'a Kafka, name: &'static str, partitions: i32) -> Self {
        Self::with(kafka, name, partitions, &[])
    }

    pub(crate) fn with(kafka: &'a Kafka, name: &'static str, partitions: i32, configs: &[(&str, &str)]) -> Self {
        let topic = topic_name(name);
        kafka.create_topic(&topic, partitions, configs);
        Self::of(kafka, name, topic, partitions)
    }

    /// A new topic whose partitions' copies are on those brokers.
    pub(crate) fn of_copies(
        kafka: &'a Kafka,
        name: &'static str,
        brokers: &[&[i32]],
        configs: &[(&str, &str)],
    ) -> Self {
        let topic = topic_name(name);
        kafka.create_topic_on(&topic, brokers, configs);
        Self::of(kafka, name, topic, brokers.len() as i32)
    }

    #[expect(clippy::disallowed_methods, reason = "figures have times")]
    fn of(kafka: &'a Kafka, name: &'static str, topic: String, partitions: i32) -> Self {
        let from_clock = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        let seed = std::env::var("WATERWHEEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(from_clock);
        let group = format!("group-{topic}");
        Self {
            kafka,
            name,
            commits_from: kafka.end_of_commits(&group).map_or(0, |(_, end)| end),
            group,
            topic,
            partitions,
            seed,
            random: seed,
            began: Instant::now(),
            pass: 0,
            dir: tempfile::tempdir().expect("a temporary directory"),
            produced: Produced::default(),
            journals: Vec::new(),
            finished: HashSet::new(),
            figures: serde_json::Map::new(),
            faults: 0,
            by_hand: Vec::new(),
            cut_off: Vec::new(),
            said: Vec::new(),
        }
    }

    /// The same topic, made again after it was deleted, and the same group; other records and journals.
    pub(crate) fn anew(self) -> Self {
        self.kafka.create_topic(&self.topic, self.partitions, &[]);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (produced, journals, finished) = Default::default();
        let commits_from = self.kafka.end_of_commits(&self.group).map_or(0, |(_, end)| end);
        Self { dir, produced, journals, finished, commits_from, by_hand: Vec::new(), ..self }
    }

    /// A random number below `end`.
    pub(crate) fn random(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    /// So many records, of that many keys, chosen at random; not produced yet.
    pub(crate) fn records(&mut self, count: usize, keys: u64) -> Vec<(Option<String>, String)> {
        (0..count).map(|n| (Some(format!("k{}", self.random(keys))), format!("v{n}"))).collect()
    }

    /// Produces that many records, of that many keys, chosen at random.
    pub(crate) fn produce(&mut self, count: usize, keys: u64) {
        let records = self.records(count, keys);
        let produced = self.kafka.produce(&self.topic, records);
        self.was_produced(produced);
    }

    /// Adds to what must be finished.
    pub(crate) fn was_produced(&mut self, produced: Produced) {
        self.produced.add(produced);
    }

    pub(crate) fn produced(&self) -> &Produced {
        &self.produced
    }

    /// Seconds since its beginning.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_millis() as f64 / 1000.0
    }

    /// A number to be told with the verdict.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// So many faults were injected, and happened. A case without any proves nothing, and fails.
    pub(crate) fn injected(&mut self, faults: usize) {
        self.faults += faults;
    }

    /// Commits for the group, which has no members now: partition, offset, metadata. The verdict knows of it.
    pub(crate) fn commit(&mut self, commits: &[(i32, i64, &str)]) {
        self.kafka.commit(&self.group, &self.topic, commits);
        self.by_hand.extend(commits.iter().map(|(partition, offset, _)| (*partition, *offset)));
    }

    /// The partition's log was cut off: its commits go back once, on purpose.
    pub(crate) fn may_go_back(&mut self, partition: i32) {
        self.cut_off.push(partition);
    }

    /// A journal for one more member.
    pub(crate) fn new_journal(&mut self) -> (usize, PathBuf) {
        let number = self.journals.len();
        let path = self.dir.path().join(format!("journal-{number}"));
        File::create(&path).expect("the temporary directory can be written to");
        self.journals.push(Tail::new(path.clone()));
        (number, path)
    }

    /// Starts a member as a process of its own: `bench consume` with a journal, until it is told to end.
    pub(crate) fn member(&mut self, properties: &[(&str, &str)], arguments: &[&str]) -> Member {
        let properties: Vec<String> =
            properties.iter().flat_map(|(key, value)| ["-X".to_owned(), format!("{key}={value}")]).collect();
        let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
        let command = [env!("CARGO_BIN_EXE_waterwheel"), "bench"];
        self.member_of(&command, &[&["-v"], &properties[..], arguments].concat())
    }

    /// Starts a member of a program that speaks the command line of `bench consume`; `command` is all before `consume`.
    pub(crate) fn member_of(&mut self, command: &[&str], arguments: &[&str]) -> Member {
        let (number, path) = self.new_journal();
        let path = path.to_string_lossy();
        let mut words = [&command[1..], &["consume", "--count", "1000000000"]].concat();
        if !arguments.iter().any(|word| word.starts_with("bootstrap.servers=")) {
            words.extend(["--bootstrap", self.kafka.bootstrap()]);
        }
        words.extend(["--topic", &self.topic, "--group", &self.group, "--journal", &path]);
        words.extend(arguments);
        Member { number, process: Process::start(command[0], &words) }
    }

    /// All that is in the journals.
    pub(crate) fn journal_texts(&self) -> Vec<String> {
        let text = |tail: &Tail| std::fs::read(&tail.path).expect("the journal was made at the start");
        self.journals.iter().map(|tail| String::from_utf8_lossy(&text(tail)).into_owned()).collect()
    }

    /// Reads what members have written since the last look.
    pub(crate) fn look(&mut self) {
        self.pass += 1;
        let reading = Reading { pass: self.pass, at: self.began.elapsed() };
        for tail in &mut self.journals {
            tail.read(&mut self.finished, reading);
        }
    }

    /// The number of the last look, and the time now.
    pub(crate) fn reading(&self) -> Reading {
        Reading { pass: self.pass, at: self.began.elapsed() }
    }

    /// The journals, as far as they were read, by the members' numbers.
    pub(crate) fn journals(&self) -> &[Tail] {
        &self.journals
    }

    /// What is known of a member's journal, after a look at it.
    pub(crate) fn journal(&mut self, number: usize) -> &Tail {
        self.look();
        &self.journals[number]
    }

    /// Distinct records that are finished by now.
    pub(crate) fn finished(&mut self) -> usize {
        self.look();
        self.finished.len()
    }

    /// Whether that record is finished by the last look.
    pub(crate) fn has_finished(&self, place: (i32, i64)) -> bool {
        self.finished.contains(&place)
    }

    /// Whether everything that was produced is finished.
    pub(crate) fn is_done(&mut self) -> bool {
        // The log may have more than what was acknowledged to its producer.
        self.finished() >= self.produced.len() && self.produced.places().all(|place| self.finished.contains(&place))
    }

    /// Waits until everything that was produced is finished.
    #[track_caller]
    pub(crate) fn await_done(&mut self, limit: Duration) {
        let what = format!("all {} records to be finished (seed {})", self.produced.len(), self.seed);
        wait_until(limit, &what, || self.is_done());
    }

    /// Waits until a member has begun so many records more.
    #[track_caller]
    pub(crate) fn await_starts(&mut self, number: usize, more: usize) {
        let before = self.journal(number).starts;
        let what = format!("member {number} to start {more} records more (seed {})", self.seed);
        wait_until(PATIENCE, &what, || self.journal(number).starts >= before + more);
    }

    /// Waits until a member has begun so many records, or everything is finished.
    #[track_caller]
    pub(crate) fn await_starts_or_done(&mut self, number: usize, starts: usize) {
        let what = format!("member {number} to start {starts} records (seed {})", self.seed);
        wait_until(PATIENCE, &what, || self.journal(number).starts >= starts || self.is_done());
    }

    /// Waits until these members hold all partitions, each of them at least one.
    #[track_caller]
    pub(crate) fn await_settled(&mut self, members: &[&Member]) {
        let numbers: Vec<usize> = members.iter().map(|member| member.number).collect();
        let what = format!("members {numbers:?} to share all partitions (seed {})", self.seed);
        wait_until(PATIENCE, &what, || {
            self.look();
            let held: Vec<usize> = numbers.iter().map(|n| self.journals[*n].held.len()).collect();
            held.iter().all(|held| *held > 0) && held.iter().sum::<usize>() == self.partitions as usize
        });
    }

    /// SIGTERM; the member ends with 0.
    #[track_caller]
    pub(crate) fn end(&mut self, member: Member) {
        let Member { mut process, number } = member;
        process.signal(Signal::TERM);
        let status = process.wait(PATIENCE);
        assert!(
            status.code() == Some(0),
            "{}: member {number} ended with {status} after SIGTERM (seed {}); it said:\n{}",
            self.name,
            self.seed,
            process.stderr()
        );
        self.said.push(format!("member {number}: {}", process.stderr()));
    }

    /// Judges all journals, and the commits that the brokers wrote. Fails the test unless the verdict holds, with no more
    /// duplicates than `most`, and some fault was injected.
    #[track_caller]
    pub(crate) fn judge(self, most: u64) -> Verdict {
        assert!(self.faults > 0, "{}: void: no fault was injected (seed {})", self.name, self.seed);
        self.conclude(most)
    }

    /// Judges a case that is no fault: nothing may be lost, nothing done twice.
    #[track_caller]
    pub(crate) fn judge_undisturbed(self) -> Verdict {
        self.conclude(0)
    }

    #[track_caller]
    fn conclude(mut self, most: u64) -> Verdict {
        let verdict = self.audit();
        let (commits, wrong) = self.judge_commits();
        let mut line = self.line(&verdict);
        line["most_duplicates"] = most.into();
        line["faults"] = self.faults.into();
        line["commits"] = commits.into();
        let holds = verdict.holds() && verdict.duplicates.count <= most && commits > 0 && wrong.none();
        line["holds"] = holds.into();
        println!("{line}");
        if !holds {
            let kept = self.dir.keep();
            panic!(
                "{line}\n{verdict:#?}\nCommits as the brokers wrote them: {wrong:#?}\nThe journals and the produced list are kept in {}; `waterwheel audit` judges them.",
                kept.display()
            );
        }
        verdict
    }

    /// How many commits the brokers wrote for the group, and what is wrong with them.
    fn judge_commits(&self) -> (usize, commits::Faults) {
        let written = self.kafka.written_commits(&self.group, &self.topic, self.commits_from);
        let mut said = Said::default();
        for tail in &self.journals {
            said.read(&tail.path);
        }
        let mut produced: Vec<_> = self.produced.places().collect();
        produced.sort_unstable();
        let wrong = commits::judge(&written, &said, &self.by_hand, &self.cut_off, &produced);
        (written.iter().filter(|commit| commit.offset.is_some()).count() - self.by_hand.len(), wrong)
    }

    /// Judges all journals, and tells what was found, whatever it is.
    pub(crate) fn report(mut self) {
        let verdict = self.audit();
        println!("{}", self.line(&verdict));
    }

    fn line(&mut self, verdict: &Verdict) -> serde_json::Value {
        let mut line = serde_json::json!({
            "case": self.name, "seed": self.seed, "members": self.journals.len(),
            "seconds": self.seconds(),
        });
        for (key, value) in std::mem::take(&mut self.figures) {
            line[key] = value;
        }
        line["produced"] = verdict.produced.into();
        line["lost"] = verdict.lost.count.into();
        line["duplicates"] = verdict.duplicates.count.into();
        line["interrupted"] = verdict.interrupted.into();
        line
    }

    fn audit(&self) -> Verdict {
        let open = |path: &PathBuf| BufReader::new(File::open(path).expect("the file was written"));
        let list = self.produced.write(self.dir.path());
        let records = Records::read(open(&list), "produced").expect("the list is what the audit reads");
        let mut auditor = Auditor::new(records, Order::Key);
        for tail in &self.journals {
            let name = tail.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            auditor.read_journal(open(&tail.path), &name).expect("the journal is what the audit reads");
        }
        auditor.verdict()
    }

    /// Fails the test unless the group has committed the end of every partition.
    #[track_caller]
    pub(crate) fn assert_all_committed(&self) {
        let committed = self.kafka.committed(&self.group, &self.topic, self.partitions);
        let committed: Vec<i64> = committed.iter().map(|commit| commit.offset.unwrap_or(0)).collect();
        let ends = self.kafka.ends(&self.topic, self.partitions);
        assert_eq!(
            committed,
            ends,
            "{}: committed offsets and ends; {} records were acknowledged, {} are finished (seed {}); members said:\n{}",
            self.name,
            self.produced.len(),
            self.finished.len(),
            self.seed,
            self.said.join("\n")
        );
    }
}

/// A member that is a process of its own.
pub(crate) struct Member {
    pub(crate) number: usize,
    pub(crate) process: Process,
}

/// A journal that is being written, as far as it was read.
pub(crate) struct Tail {
    path: PathBuf,
    at: u64,
    part: Vec<u8>,
    failed: BTreeSet<(i32, i64)>,
    /// Starts so far.
    pub(crate) starts: usize,
    /// Partitions held.
    pub(crate) held: BTreeSet<i32>,
    /// Everything so far, without keys.
    pub(crate) entries: Vec<Entry>,
    /// When each of them was read.
    pub(crate) readings: Vec<Reading>,
}

/// A look at all journals, one after the other. What a look finds was written after all that the last one but one had
/// found: the look between them did not find it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Its number, from 1.
    pub(crate) pass: u32,
    /// Since the trial began.
    pub(crate) at: Duration,
}

/// A line of a journal, without its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Start(i32, i64),
    End(i32, i64),
    Cut(i32, i64),
    Assigned(i32, i64),
    Revoked(i32),
    Lost(i32),
    Commit(i32, i64),
    Other,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            at: 0,
            part: Vec::new(),
            failed: BTreeSet::new(),
            starts: 0,
            held: BTreeSet::new(),
            entries: Vec::new(),
            readings: Vec::new(),
        }
    }

    fn read(&mut self, finished: &mut HashSet<(i32, i64)>, reading: Reading) {
        let mut file = File::open(&self.path).expect("the journal was made at the start");
        file.seek(SeekFrom::Start(self.at)).expect("a file can be read from any place");
        self.at += file.read_to_end(&mut self.part).expect("a file can be read") as u64;
        let part = std::mem::take(&mut self.part);
        let whole = part.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in part[..whole].split_inclusive(|byte| *byte == b'\n') {
            self.take(&line[..line.len() - 1], finished);
        }
        self.readings.resize(self.entries.len(), reading);
        self.part = part[whole..].to_vec();
    }

    fn take(&mut self, line: &[u8], finished: &mut HashSet<(i32, i64)>) {
        let line = Line::parse(line).unwrap_or_else(|fault| panic!("{}: {fault}", self.path.display()));
        let entry = match line {
            Line::Start { partition, offset, .. } => {
                self.starts += 1;
                Entry::Start(partition, offset)
            }
            Line::End { partition, offset, .. } => {
                if !self.failed.remove(&(partition, offset)) {
                    finished.insert((partition, offset));
                }
                Entry::End(partition, offset)
            }
            Line::Failed { partition, offset } => {
                self.failed.insert((partition, offset));
                Entry::Other
            }
            Line::Finished { partition, offset, .. } => {
                finished.insert((partition, offset));
                Entry::Other
            }
            Line::Assigned { partition, start, .. } => {
                self.held.insert(partition);
                Entry::Assigned(partition, start)
            }
            Line::Revoked { partition, .. } => {
                self.held.remove(&partition);
                Entry::Revoked(partition)
            }
            Line::Lost { partition, .. } => {
                self.held.remove(&partition);
                Entry::Lost(partition)
            }
            Line::Commit { partition, offset, .. } => Entry::Commit(partition, offset),
            Line::Cut { partition, offset } => Entry::Cut(partition, offset),
            Line::Remark => Entry::Other,
        };
        self.entries.push(entry);
    }

    /// How many records the member ended that the group's commits may not have: those since the commit before the last
    /// one that it wrote. (Not since the last one: what ends between the shard's answer and the coordinator's line in the
    /// journal stands before that line and is not in the commit; and the last one may not have arrived.)
    pub(crate) fn ended_since_commit(&self, partitions: usize) -> usize {
        (0..partitions as i32).map(|partition| self.ended_since_commit_of(partition)).sum()
    }

    fn ended_since_commit_of(&self, partition: i32) -> usize {
        let (mut ends, mut commits) = (0, 0);
        for entry in self.entries.iter().rev() {
            match *entry {
                Entry::End(p, _) if p == partition => ends += 1,
                Entry::Commit(p, _) if p == partition && commits == 0 => commits = 1,
                Entry::Commit(p, _) | Entry::Assigned(p, _) if p == partition => return ends,
                _ => {}
            }
        }
        ends
    }
}
