//! Brokers that are restarted one after the other, and one that dies, under groups of all kinds: nothing moves a partition,
//! and nothing is read twice or not at all. Three brokers, one partition with three copies.

use crate::support::{Cluster, Consumers, Half, Kafka, Protocol, Source, is_whole};

const BROKERS: usize = 3;

/// Who is in a group, and how.
struct Group<'a> {
    consumers: Consumers<'a>,
    members: Vec<usize>,
    is_static: bool,
}

impl Group<'_> {
    fn start(&mut self, number: usize) -> usize {
        match self.is_static {
            true => self.consumers.start_static(Half::Ours, &format!("instance-{number}")),
            false => self.consumers.start(Half::Ours),
        }
    }

    fn await_all(&mut self, more: i64) {
        self.consumers.await_all_joined(self.members.len(), 1);
        self.consumers.await_consumed(more);
    }
}

/// Groups that read the same partition.
struct Groups<'a> {
    all: Vec<Group<'a>>,
    /// Rebalances of each before anything was done to a broker.
    rebalances: Vec<usize>,
}

impl Groups<'_> {
    fn rebalances(&self) -> Vec<usize> {
        self.all.iter().map(|group| group.consumers.rebalances()).collect()
    }

    /// All have their members, and go on; from here on nothing is to move.
    fn settle(&mut self) {
        self.all.iter_mut().for_each(|group| group.await_all(1));
        self.rebalances = self.rebalances();
    }

    /// All go on by so many records, and nothing has moved.
    fn stay(&mut self, more: i64, what: &str) {
        self.all.iter_mut().for_each(|group| group.await_all(more));
        assert_eq!(self.rebalances(), self.rebalances, "{what}");
    }
}

/// Groups of these protocols, with static members or others, that read what is written while `harm` is done.
fn under_groups(kinds: &[(Protocol, bool)], harm: impl FnOnce(&Kafka, &mut Groups<'_>)) {
    if !Kafka::has_tools() {
        return;
    }
    // As Kafka's test, whose sessions outlast what is done to the brokers.
    let Some(kafka) = Cluster::of(BROKERS).property("group.consumer.session.timeout.ms=30000").start() else { return };
    let topic = crate::support::topic_name("verifiable-brokers");
    kafka.create_topic(&topic, 1, &[]);
    // So that what is not acknowledged at once is sent again: every number is there once, and in order.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&file, "enable.idempotence=true\nretries=1000000\n").expect("the file can be written to");
    let file = file.path().to_string_lossy();
    let mut source = Source::start(&kafka, Half::Java, &topic, &["--throughput", "200", "--producer.config", &file]);
    source.await_acked(1);

    let group = |(number, &(protocol, is_static)): (usize, &(Protocol, bool))| {
        // Kafka's tests let these commit by themselves.
        let options: &[&str] = if protocol == Protocol::Cooperative { &["--enable-autocommit"] } else { &[] };
        let consumers = Consumers::new(&kafka, &topic, protocol, options).named(&number.to_string());
        let mut group = Group { consumers: consumers.with_session("30000"), members: Vec::new(), is_static };
        group.members = (0..2 + usize::from(!is_static)).map(|number| group.start(number)).collect();
        group
    };
    let mut groups = Groups { all: kinds.iter().enumerate().map(group).collect(), rebalances: Vec::new() };
    groups.settle();
    harm(&kafka, &mut groups);

    source.stop();
    let written = source.acked.len() as i64;
    for Group { consumers, .. } in &mut groups.all {
        consumers.await_position(written);
        consumers.stop_all();
        assert_eq!((consumers.positions(), consumers.total), (written, written), "{}", consumers.group());
        consumers.assert_broker_has_all();
    }
}

/// Each broker stops and comes back, one after the other.
fn bounce_all(kafka: &Kafka, groups: &mut Groups<'_>) {
    for broker in 1..=BROKERS {
        kafka.stop(broker);
        groups.stay(100, &format!("broker {broker} has stopped"));
        kafka.boot(broker);
        kafka.await_brokers(BROKERS);
        groups.stay(1, &format!("broker {broker} is back"));
    }
}

/// `test_broker_rolling_bounce`, with the assertions of `test_broker_failure` while each broker is away.
#[test]
fn brokers_that_bounce_move_no_partition_of_classic_groups() {
    if !is_whole() {
        return;
    }
    under_groups(&[(Protocol::Eager, false), (Protocol::Cooperative, false)], bounce_all);
}

#[test]
fn brokers_that_bounce_move_no_partition_in_the_consumer_protocol() {
    if !is_whole() {
        return;
    }
    under_groups(&[(Protocol::Consumer, false)], bounce_all);
}

/// `test_static_consumer_persisted_after_rejoin`, all and rolling: the broker gives a static member that comes again another
/// member id, which it has to keep.
#[test]
fn brokers_that_bounce_keep_static_members_that_came_again() {
    if !is_whole() {
        return;
    }
    under_groups(&[(Protocol::Eager, true), (Protocol::Consumer, true)], |kafka, groups| {
        let [together, rolling] = &mut groups.all[..] else { unreachable!("two groups were asked for") };
        together.consumers.stop_together(&together.members);
        together.members = (0..2).map(|number| together.start(number)).collect();
        together.await_all(1);
        for number in 0..2 {
            rolling.consumers.stop(rolling.members[number]);
            rolling.members[number] = rolling.start(number);
            rolling.await_all(1);
        }
        groups.settle();
        bounce_all(kafka, groups);
    });
}

/// `test_broker_failure`, with SIGKILL.
#[test]
fn a_broker_that_dies_moves_no_partition() {
    let kinds = [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer].map(|protocol| (protocol, false));
    under_groups(&kinds, |kafka, groups| {
        kafka.kill(1);
        groups.stay(1_000, "broker 1 was killed");
    });
}
