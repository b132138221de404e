//! Groups that change their assignor, or their protocol, member by member.

use super::topic;
use crate::support::{Consumers, Half, Kafka, PATIENCE, Process, Protocol, Source, wait_until};

const RANGE: &str = "org.apache.kafka.clients.consumer.RangeAssignor";
const ROUND_ROBIN: &str = "org.apache.kafka.clients.consumer.RoundRobinAssignor";

/// `ConsumerRollingUpgradeTest.rolling_update_test`: from range to round robin, with a member of either half.
#[test]
fn a_group_goes_from_range_to_round_robin_member_by_member() {
    const BY_RANGE: [&[i32]; 2] = [&[0, 1], &[2, 3]];
    const BY_ROUND_ROBIN: [&[i32]; 2] = [&[0, 2], &[1, 3]];
    let Some((kafka, topic)) = topic("verifiable-upgrade", 4, true) else { return };
    let mut consumers = Consumers::new(kafka, &topic, Protocol::Eager, &[]);
    let halves = [Half::Ours, Half::Java];
    let mut members = halves.map(|half| consumers.start_with(half, &["--assignment-strategy", RANGE]));
    consumers.await_all_joined(2, 4);
    consumers.await_assignments(&BY_RANGE);
    // Both are spoken of, and the other member knows only one; then both prefer round robin; then range is dropped.
    let both = format!("{ROUND_ROBIN},{RANGE}");
    let steps = [
        (0, &*both, BY_RANGE),
        (1, &both, BY_ROUND_ROBIN),
        (0, ROUND_ROBIN, BY_ROUND_ROBIN),
        (1, ROUND_ROBIN, BY_ROUND_ROBIN),
    ];
    for (number, strategy, shares) in steps {
        consumers.stop(members[number]);
        members[number] = consumers.start_with(halves[number], &["--assignment-strategy", strategy]);
        consumers.await_all_joined(2, 4);
        consumers.await_assignments(&shares);
    }
    consumers.stop_all();
}

/// Java's way from range to cooperative-sticky is two such rounds; librdkafka speaks one kind of assignor at a time.
#[test]
fn assignors_that_revoke_all_and_those_that_do_not_are_refused_together() {
    let both = format!("org.apache.kafka.clients.consumer.CooperativeStickyAssignor,{RANGE}");
    let server = ["verifiable-consumer", "--bootstrap-server", "127.0.0.1:1", "--topic", "t", "--group-id", "g"];
    let mut process = Process::waterwheel(&[&server[..], &["--assignment-strategy", &both]].concat());
    let code = process.wait(PATIENCE).code();
    let said = process.stderr();
    assert_eq!((code, &*process.stdout()), (Some(2), ""), "{said}");
    assert!(said.contains("partition.assignment.strategy"), "{said}");
}

/// What the broker's list of groups says of this one, in lower case, in the column that the option asks for.
fn listed(kafka: &Kafka, consumers: &Consumers<'_>, column: &str) -> String {
    let all = kafka.tool("groups", &["--list", column]);
    let line = all.lines().find(|line| line.split_whitespace().next() == Some(consumers.group()));
    let found = line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_lowercase);
    found.unwrap_or_else(|| panic!("the group is not listed: {all}"))
}

/// What kind of group the broker takes it for.
fn assert_group_type(kafka: &Kafka, consumers: &Consumers<'_>, kind: &str) {
    assert_eq!(listed(kafka, consumers, "--type"), kind);
}

/// A group whose members change its protocol: that of `test_consumer_rolling_upgrade`, `test_consumer_rolling_downgrade`
/// and `test_consumer_offline_migration`.
struct Migration<'a> {
    kafka: &'a Kafka,
    consumers: Consumers<'a>,
    is_static: bool,
    members: Vec<usize>,
}

/// One of the other half among them.
const MIGRATING: [Half; 3] = [Half::Ours, Half::Java, Half::Ours];

impl Migration<'_> {
    fn start(&mut self, number: usize) -> usize {
        match self.is_static {
            true => self.consumers.start_static(MIGRATING[number], &format!("migration-{number}")),
            false => self.consumers.start(MIGRATING[number]),
        }
    }

    fn start_all(&mut self) {
        self.members = (0..MIGRATING.len()).map(|number| self.start(number)).collect();
        self.consumers.await_all_joined(MIGRATING.len(), 6);
        self.consumers.await_consumed(100);
    }

    /// Waits until every member has come to the group's epoch. The broker makes a classic group of one whose last member of
    /// the consumer protocol leaves, and gives it that epoch as its generation: a classic member that has not joined again
    /// since an earlier epoch then loses its partitions, and with them what it has finished since its last commit.
    fn await_settled(&mut self) {
        let what = "every member to be at the group's epoch";
        wait_until(PATIENCE, what, || listed(self.kafka, &self.consumers, "--state") == "stable");
        self.consumers.await_all_joined(MIGRATING.len(), 6);
    }

    /// Member by member, each when all others have taken in what became of the group before.
    fn roll_to(&mut self, protocol: Protocol, kind: &str) {
        self.consumers.change_to(protocol);
        for number in 0..self.members.len() {
            self.await_settled();
            self.consumers.stop(self.members[number]);
            self.members[number] = self.start(number);
            self.consumers.await_all_joined(MIGRATING.len(), 6);
            self.consumers.await_consumed(1);
        }
        assert_group_type(self.kafka, &self.consumers, kind);
    }

    /// All at once, while the group has no members.
    fn restart_as(&mut self, protocol: Protocol, kind: &str) {
        self.consumers.change_to(protocol);
        self.consumers.stop_together(&self.members);
        self.start_all();
        assert_group_type(self.kafka, &self.consumers, kind);
    }
}

fn migration(purpose: &str, protocol: Protocol, is_static: bool, there_and_back: impl FnOnce(&mut Migration<'_>)) {
    let Some((kafka, topic)) = topic(purpose, 6, true) else { return };
    let mut source = Source::start(kafka, Half::Ours, &topic, &["--throughput", "500"]);
    source.await_acked(1);
    let consumers = Consumers::new(kafka, &topic, protocol, &["--verbose"]);
    let mut migration = Migration { kafka, consumers, is_static, members: Vec::new() };
    migration.start_all();
    assert_group_type(kafka, &migration.consumers, "classic");
    there_and_back(&mut migration);
    source.stop();
    let Migration { mut consumers, .. } = migration;
    consumers.await_values(&source.acked);
    consumers.stop_all();
    let once = consumers.total - consumers.javas_duplicates;
    assert_eq!((consumers.duplicates, once), (0, source.acked.len() as i64));
}

#[test]
fn a_group_goes_to_the_consumer_protocol_and_back_member_by_member() {
    migration("verifiable-migration", Protocol::Eager, false, |group| {
        group.roll_to(Protocol::Consumer, "consumer");
        group.roll_to(Protocol::Eager, "classic");
    });
}

/// Beyond Kafka's tests. librdkafka's cooperative-sticky assignor writes into each assignment what the member said of itself,
/// and the broker takes no group whose assignments hold user data from the classic to the consumer protocol (KAFKA-18134).
#[test]
fn a_cooperative_group_of_ours_lets_the_consumer_protocol_in_when_its_members_have_gone() {
    let Some((kafka, topic)) = topic("verifiable-migration-coop", 6, true) else { return };
    let mut source = Source::start(kafka, Half::Ours, &topic, &["--throughput", "500"]);
    source.await_acked(1);
    let mut consumers = Consumers::new(kafka, &topic, Protocol::Cooperative, &["--verbose"]);
    // The second assignment is the first before which a member has something to say.
    let mut members = Vec::new();
    for alive in 1..=2 {
        members.push(consumers.start(Half::Ours));
        consumers.await_all_joined(alive, 6);
    }
    consumers.change_to(Protocol::Consumer);
    let newcomer = consumers.start(Half::Ours);
    consumers.await_consumed(2_000);
    assert_eq!((consumers.joined(), listed(kafka, &consumers, "--type")), (2, "classic".to_owned()));
    consumers.stop_together(&members);
    consumers.await_all_joined(1, 6);
    assert_eq!(consumers.owner(0), newcomer);
    assert_group_type(kafka, &consumers, "consumer");
    source.stop();
    consumers.await_values(&source.acked);
    consumers.stop_all();
    assert_eq!((consumers.duplicates, consumers.total), (0, source.acked.len() as i64));
}

#[test]
fn a_group_that_stops_goes_to_the_consumer_protocol_and_back() {
    migration("verifiable-migration-offline", Protocol::Cooperative, false, |group| {
        group.restart_as(Protocol::Consumer, "consumer");
        group.restart_as(Protocol::Cooperative, "classic");
    });
}
