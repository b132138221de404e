//! What Kafka's own system tests assert of verifiable producers and consumers (`tests/kafkatest/services/`), of programs of
//! either half: this command's and Kafka's.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{Kafka, PATIENCE, Process, Protocol, wait_until};

/// Whose programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Ours,
    Java,
}

impl Half {
    fn start(self, kafka: &Kafka, name: &str, arguments: &[&str]) -> Process {
        match self {
            Half::Ours => {
                Process::waterwheel(&[&[name, "--bootstrap-server", kafka.bootstrap()][..], arguments].concat())
            }
            Half::Java => kafka.tool_process(name, arguments),
        }
    }
}

/// The events of a process, as they come.
struct Told {
    half: Half,
    process: Process,
    at: u64,
    part: Vec<u8>,
}

impl Told {
    fn new(half: Half, process: Process) -> Self {
        Self { half, process, at: 0, part: Vec::new() }
    }

    fn read(&mut self) -> Vec<Value> {
        let new = self.process.stdout_since(self.at);
        self.at += new.len() as u64;
        self.part.extend(new);
        let whole = self.part.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.part.split_off(whole);
        let lines = std::mem::replace(&mut self.part, rest);
        let lines = String::from_utf8(lines).expect("events are text");
        let event = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(event) => Some(event),
            // Kafka's programs print warnings among their events, and its harness passes over them.
            Err(_) if self.half == Half::Java => None,
            Err(error) => panic!("not an event: {line}: {error}"),
        };
        lines.lines().filter_map(event).collect()
    }
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {event}"))
}

fn number(event: &Value, name: &str) -> i64 {
    event[name].as_i64().unwrap_or_else(|| panic!("{name} is no number in {event}"))
}

fn list<'a>(event: &'a Value, name: &str) -> &'a [Value] {
    event[name].as_array().unwrap_or_else(|| panic!("{name} is no list in {event}"))
}

/// A verifiable producer.
pub(crate) struct Source {
    told: Told,
    /// Values that were acknowledged, in the order in which that was told.
    pub(crate) acked: Vec<String>,
    names: Vec<String>,
    pub(crate) tool_data: Option<Value>,
}

impl Source {
    pub(crate) fn start(kafka: &Kafka, half: Half, topic: &str, arguments: &[&str]) -> Self {
        let process = half.start(kafka, "verifiable-producer", &[&["--topic", topic][..], arguments].concat());
        Self { told: Told::new(half, process), acked: Vec::new(), names: Vec::new(), tool_data: None }
    }

    fn look(&mut self) {
        for event in self.told.read() {
            let name = text(&event, "name");
            match name {
                "producer_send_success" => self.acked.push(text(&event, "value").to_owned()),
                "producer_send_error" => panic!("a record was not acknowledged: {event}"),
                "tool_data" => self.tool_data = Some(event.clone()),
                "startup_complete" | "shutdown_complete" => {}
                other => panic!("no event of a producer: {other}"),
            }
            if !name.starts_with("producer_") {
                self.names.push(name.to_owned());
            }
        }
    }

    /// Waits until so many more were acknowledged.
    #[track_caller]
    pub(crate) fn await_acked(&mut self, more: usize) {
        self.look();
        let wanted = self.acked.len() + more;
        wait_until(PATIENCE, "records to be acknowledged", || {
            self.look();
            self.acked.len() >= wanted
        });
    }

    /// Ends it by SIGTERM.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.told.process.signal(Signal::TERM);
        self.await_end();
    }

    /// Waits until it ends, by itself or told to.
    #[track_caller]
    pub(crate) fn await_end(&mut self) {
        let status = self.told.process.wait(PATIENCE);
        self.look();
        if self.told.half == Half::Ours {
            assert_eq!(status.code(), Some(0), "{}", self.told.process.stderr());
        }
        assert_eq!(self.names, ["startup_complete", "shutdown_complete", "tool_data"]);
        let data = self.tool_data.as_ref().expect("it was told last");
        assert_eq!(number(data, "acked"), self.acked.len() as i64, "{data}");
        assert_eq!(number(data, "sent"), self.acked.len() as i64, "{data}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Started,
    Joined,
    Rebalancing,
    Dead,
}

struct Consumer {
    told: Told,
    protocol: Protocol,
    state: State,
    assigned: usize,
    revoked: usize,
    assignment: BTreeSet<i32>,
    position: BTreeMap<i32, i64>,
    shut_down: bool,
}

/// The members of a group, those that have ended included.
pub(crate) struct Consumers<'a> {
    kafka: &'a Kafka,
    topic: String,
    group: String,
    protocol: Protocol,
    session: &'static str,
    options: Vec<String>,
    members: Vec<Consumer>,
    position: BTreeMap<i32, i64>,
    committed: BTreeMap<i32, i64>,
    /// Events that are too new: another member may have told something before them that is not read yet.
    waiting: Vec<(usize, Value)>,
    pub(crate) total: i64,
    /// Values, with `--verbose`, and who read each first.
    pub(crate) values: HashMap<String, Half>,
    /// Records that came again after one of ours had read them.
    pub(crate) duplicates: usize,
    /// The same after Java's: it gives partitions back without the commits that a cooperative rebalance refused it.
    pub(crate) javas_duplicates: i64,
}

/// From the time of an event to its being read.
const SETTLED: Duration = Duration::from_millis(100);

impl<'a> Consumers<'a> {
    pub(crate) fn new(kafka: &'a Kafka, topic: &str, protocol: Protocol, options: &[&str]) -> Self {
        Self {
            kafka,
            topic: topic.to_owned(),
            group: format!("group-{topic}"),
            protocol,
            session: "6000",
            options: options.iter().map(|&option| option.to_owned()).collect(),
            members: Vec::new(),
            position: BTreeMap::new(),
            committed: BTreeMap::new(),
            waiting: Vec::new(),
            total: 0,
            values: HashMap::new(),
            duplicates: 0,
            javas_duplicates: 0,
        }
    }

    /// A group of another name, so that several can read one topic.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.group = format!("group-{}-{name}", self.topic);
        self
    }

    /// Members whose session in a classic group is so many milliseconds.
    pub(crate) fn with_session(mut self, session: &'static str) -> Self {
        self.session = session;
        self
    }

    /// The group's name.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Members that start from now on speak this protocol.
    pub(crate) fn change_to(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Starts a member; its number.
    pub(crate) fn start(&mut self, half: Half) -> usize {
        self.start_with(half, &[])
    }

    /// Starts a member that has a name; its number.
    pub(crate) fn start_static(&mut self, half: Half, name: &str) -> usize {
        self.start_with(half, &["--group-instance-id", name])
    }

    /// Starts a member with further options; its number.
    pub(crate) fn start_with(&mut self, half: Half, further: &[&str]) -> usize {
        let session = ["--session-timeout", self.session];
        let cooperative = ["--assignment-strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"];
        let protocol: Vec<&str> = match self.protocol {
            Protocol::Eager => session.to_vec(),
            Protocol::Cooperative => [session, cooperative].concat(),
            Protocol::Consumer => vec!["--group-protocol", "consumer"],
        };
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let all = [&["--topic", &self.topic, "--group-id", &self.group][..], &protocol, &options, further].concat();
        let process = half.start(self.kafka, "verifiable-consumer", &all);
        self.members.push(Consumer {
            told: Told::new(half, process),
            protocol: self.protocol,
            state: State::Dead,
            assigned: 0,
            revoked: 0,
            assignment: BTreeSet::new(),
            position: BTreeMap::new(),
            shut_down: false,
        });
        self.members.len() - 1
    }

    pub(crate) fn look(&mut self) {
        let settled = super::now_ms().saturating_sub(SETTLED.as_millis() as u64);
        self.look_until(settled);
    }

    fn look_until(&mut self, settled: u64) {
        for (number, member) in self.members.iter_mut().enumerate() {
            self.waiting.extend(member.told.read().into_iter().map(|event| (number, event)));
        }
        // Those of one member stay in their order.
        self.waiting.sort_by_key(|(_, event)| event["timestamp"].as_u64());
        let ready = self.waiting.partition_point(|(_, event)| event["timestamp"].as_u64() <= Some(settled));
        let rest = self.waiting.split_off(ready);
        for (member, event) in std::mem::replace(&mut self.waiting, rest) {
            self.take(member, &event);
        }
    }

    /// The assertions of Kafka's harness.
    fn take(&mut self, number_of: usize, event: &Value) {
        let member = &mut self.members[number_of];
        let protocol = member.protocol;
        let about = format!("member {number_of}: {event}");
        assert!(!member.shut_down, "after its end: {about}");
        let partitions = |name| list(event, name).iter().map(|p| number(p, "partition") as i32);
        match text(event, "name") {
            "startup_complete" => member.state = State::Started,
            "shutdown_complete" => {
                member.shut_down = true;
                member.die();
            }
            "partitions_assigned" => {
                member.state = State::Joined;
                member.assigned += 1;
                if protocol == Protocol::Eager {
                    member.assignment.clear();
                }
                member.assignment.extend(partitions("partitions"));
            }
            "partitions_revoked" => {
                member.revoked += 1;
                if protocol != Protocol::Consumer {
                    member.state = State::Rebalancing;
                }
                member.position.clear();
                if protocol != Protocol::Eager {
                    for partition in partitions("partitions") {
                        let was = member.assignment.remove(&partition);
                        assert!(was || protocol == Protocol::Consumer, "not assigned before: {about}");
                    }
                }
            }
            "records_consumed" => {
                assert_eq!(member.state, State::Joined, "{about}");
                self.total += number(event, "count");
                for span in list(event, "partitions") {
                    let (partition, min, max) =
                        (number(span, "partition") as i32, number(span, "minOffset"), number(span, "maxOffset"));
                    assert!(member.assignment.contains(&partition), "not assigned: {about}");
                    let expected = member.position.insert(partition, max + 1);
                    assert!(expected.is_none_or(|expected| expected == min), "{expected:?} was next: {about}");
                    let committed = self.committed.get(&partition);
                    assert!(committed.is_none_or(|committed| *committed <= min), "behind {committed:?}: {about}");
                    self.position.insert(partition, max + 1);
                }
            }
            "record_data" => match self.values.entry(text(event, "value").to_owned()) {
                Entry::Vacant(new) => drop(new.insert(member.told.half)),
                Entry::Occupied(first) if *first.get() == Half::Java => self.javas_duplicates += 1,
                Entry::Occupied(_) => self.duplicates += 1,
            },
            "offsets_committed" => {
                if event["success"] != true {
                    return;
                }
                for commit in list(event, "offsets").iter().filter(|commit| commit["error"].is_null()) {
                    let (partition, offset) = (number(commit, "partition") as i32, number(commit, "offset"));
                    assert!(member.assignment.contains(&partition), "not assigned: {about}");
                    let position = member.position.get(&partition);
                    assert!(position.is_some_and(|position| *position >= offset), "beyond {position:?}: {about}");
                    assert!(self.position.get(&partition).is_some_and(|position| *position >= offset), "{about}");
                    self.committed.insert(partition, offset);
                }
            }
            _ => panic!("no event of a consumer: {about}"),
        }
    }

    #[track_caller]
    fn await_that(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        wait_until(PATIENCE, what, || {
            self.look();
            for (number, member) in self.members.iter_mut().enumerate() {
                let ended = !member.shut_down && member.told.process.has_ended() && member.state != State::Dead;
                assert!(!ended || !self.waiting.is_empty(), "member {number} ended: {}", member.told.process.stderr());
            }
            holds(self)
        });
    }

    /// Waits until all that live have joined, and share all partitions.
    #[track_caller]
    pub(crate) fn await_all_joined(&mut self, alive: usize, partitions: usize) {
        self.await_that("all members to have joined", |all| {
            let joined: Vec<&Consumer> = all.members.iter().filter(|member| member.state == State::Joined).collect();
            joined.len() == alive
                && all.members.iter().all(|member| matches!(member.state, State::Joined | State::Dead))
                && joined.iter().map(|member| member.assignment.len()).sum::<usize>() == partitions
        });
    }

    /// Waits until so many have joined, those that have ended aside.
    #[track_caller]
    pub(crate) fn await_joined(&mut self, count: usize) {
        self.await_that("members to have joined", |all| all.joined() == count);
    }

    /// How many have joined.
    pub(crate) fn joined(&self) -> usize {
        self.members.iter().filter(|member| member.state == State::Joined).count()
    }

    /// How many have told their end.
    pub(crate) fn ended(&self) -> usize {
        self.members.iter().filter(|member| member.shut_down).count()
    }

    /// The most assignments that any member was told.
    pub(crate) fn rebalances(&self) -> usize {
        self.members.iter().map(|member| member.assigned).max().unwrap_or(0)
    }

    /// How often a member was told to give partitions back.
    pub(crate) fn revocations(&self, number: usize) -> usize {
        self.members[number].revoked
    }

    /// The partitions of each member that has joined.
    pub(crate) fn assignments(&self) -> BTreeSet<Vec<i32>> {
        let joined = self.members.iter().filter(|member| member.state == State::Joined);
        joined.map(|member| member.assignment.iter().copied().collect()).collect()
    }

    /// Waits for what two sets of members do, which may be of one group.
    #[track_caller]
    pub(crate) fn await_together(&mut self, other: &mut Self, what: &str, holds: impl Fn(&Self, &Self) -> bool) {
        wait_until(PATIENCE, what, || {
            self.look();
            other.look();
            holds(self, other)
        });
    }

    /// Waits until so many records, in all partitions, are behind the positions.
    #[track_caller]
    pub(crate) fn await_position(&mut self, position: i64) {
        self.await_that("all that was written to be consumed", |all| all.positions() >= position);
    }

    /// Waits until the members that have joined have exactly these partitions each.
    #[track_caller]
    pub(crate) fn await_assignments(&mut self, wanted: &[&[i32]]) {
        let wanted: BTreeSet<Vec<i32>> = wanted.iter().map(|partitions| partitions.to_vec()).collect();
        self.await_that("the assignor's shares", |all| all.assignments() == wanted);
    }

    /// Waits until so many more records are consumed.
    #[track_caller]
    pub(crate) fn await_consumed(&mut self, more: i64) {
        let wanted = self.total + more;
        self.await_that("records to be consumed", |all| all.total >= wanted);
    }

    /// Waits until all these values are consumed.
    #[track_caller]
    pub(crate) fn await_values(&mut self, values: &[String]) {
        self.await_that("all that was acknowledged to be consumed", |all| {
            all.values.len() >= values.len() && values.iter().all(|value| all.values.contains_key(value))
        });
    }

    /// The member that has that partition.
    pub(crate) fn owner(&self, partition: i32) -> usize {
        let owner = |member: &Consumer| member.state == State::Joined && member.assignment.contains(&partition);
        self.members.iter().position(owner).expect("all partitions are shared")
    }

    /// Ends a member by SIGTERM.
    #[track_caller]
    pub(crate) fn stop(&mut self, number: usize) {
        self.members[number].told.process.signal(Signal::TERM);
        self.await_end(number);
    }

    /// Ends members by SIGTERM, all at the same time.
    #[track_caller]
    pub(crate) fn stop_together(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.members[*number].told.process.signal(Signal::TERM);
        }
        for number in numbers {
            self.await_end(*number);
        }
    }

    /// Waits until it ends, by itself or told to.
    #[track_caller]
    pub(crate) fn await_end(&mut self, number: usize) {
        let status = self.members[number].told.process.wait(PATIENCE);
        let member = &self.members[number];
        if member.told.half == Half::Ours {
            assert_eq!(status.code(), Some(0), "{}", member.told.process.stderr());
        }
        self.await_that("the end to be told", |all| all.members[number].shut_down);
    }

    /// Waits until it ends because something went wrong; what it says of it.
    #[track_caller]
    pub(crate) fn await_failure(&mut self, number: usize) -> String {
        let status = self.members[number].told.process.wait(PATIENCE);
        let said = self.members[number].told.process.stderr();
        if self.members[number].told.half == Half::Ours {
            assert_eq!(status.code(), Some(8), "{said}");
        }
        self.await_that("the end to be told", |all| all.members[number].shut_down);
        said
    }

    /// Ends a member by SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) {
        self.members[number].told.process.signal(Signal::KILL);
        self.members[number].told.process.wait(PATIENCE);
        self.look_until(u64::MAX);
        self.members[number].die();
    }

    /// Ends all that live.
    #[track_caller]
    pub(crate) fn stop_all(&mut self) {
        for number in 0..self.members.len() {
            if self.members[number].state != State::Dead {
                self.stop(number);
            }
        }
        self.look_until(u64::MAX);
    }

    /// The next offsets of all partitions, added up.
    pub(crate) fn positions(&self) -> i64 {
        self.position.values().sum()
    }

    /// Fails unless the last commit of every partition is the position.
    #[track_caller]
    pub(crate) fn assert_all_committed(&self) {
        assert_eq!(self.committed, self.position);
        self.assert_broker_has_all();
    }

    /// Fails unless the broker has the position of every partition.
    #[track_caller]
    pub(crate) fn assert_broker_has_all(&self) {
        let partitions = self.position.last_key_value().map_or(0, |(last, _)| last + 1);
        let broker = self.kafka.committed(&self.group, &self.topic, partitions);
        let broker = (0..).zip(broker).filter_map(|(partition, commit)| Some((partition, commit.offset?)));
        let broker: BTreeMap<i32, i64> = broker.filter(|(_, offset)| *offset > 0).collect();
        // A position of 0 is that of a partition of which nothing was read.
        let read: BTreeMap<i32, i64> = self.position.clone().into_iter().filter(|(_, offset)| *offset > 0).collect();
        assert_eq!(broker, read, "what the broker has");
    }
}

impl Consumer {
    fn die(&mut self) {
        self.state = State::Dead;
        self.assignment.clear();
        self.position.clear();
    }
}
