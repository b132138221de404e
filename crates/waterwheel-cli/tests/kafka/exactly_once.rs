//! Workers that work exactly once, as processes of the command that die, come and go: what a reader of what is committed
//! finds is held against what was produced.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::support::{Cluster, Kafka, PATIENCE, Process, Protocol, is_whole, topic_name, wait_until};

const PARTITIONS: i32 = 6;

/// An input, an output, and the group whose members copy from one to the other.
struct Pipeline<'a> {
    kafka: &'a Kafka,
    input: String,
    output: String,
    protocol: Protocol,
    dir: tempfile::TempDir,
    produced: usize,
    keys: usize,
}

impl<'a> Pipeline<'a> {
    fn new(kafka: &'a Kafka, purpose: &str, protocol: Protocol) -> Self {
        let (input, output) = (topic_name(purpose), topic_name(&format!("{purpose}-out")));
        kafka.create_topic(&input, PARTITIONS, &[]);
        kafka.create_topic(&output, 4, &[]);
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { kafka, input, output, protocol, dir, produced: 0, keys: 500 }
    }

    fn group(&self) -> String {
        format!("g-{}", self.input)
    }

    /// Writes the next records: values count up, so those of a key ascend.
    fn produce(&mut self, count: usize) {
        let from = self.produced;
        self.produced += count;
        let keys = self.keys;
        self.kafka.produce(&self.input, (from..from + count).map(|n| (Some(format!("k{}", n % keys)), n.to_string())));
    }

    /// Starts a member; one of the same seat that died left it its transactional id.
    fn member(&self, seat: usize) -> Process {
        let properties =
            self.protocol.properties().iter().map(|(k, v)| format!("\"{k}\" = \"{v}\"\n")).collect::<String>();
        let text = format!(
            "[kafka]\n\"bootstrap.servers\" = \"{}\"\n{properties}[[worker]]\nname = \"w\"\ntopics = [\"{}\"]\ngroup = \"{}\"\n\
             drain_timeout = \"10s\"\n[worker.handler]\nkind = \"forward\"\ntopic = \"{}\"\n\
             [worker.exactly_once]\nevery = \"200ms\"\ntransactional_id = \"{}-{seat}\"\n",
            self.kafka.bootstrap(),
            self.input,
            self.group(),
            self.output,
            self.input
        );
        let file = self.dir.path().join(format!("worker-{seat}.toml"));
        std::fs::write(&file, text).expect("the temporary directory can be written to");
        Process::waterwheel(&["run", file.to_str().expect("a UTF-8 path")])
    }

    fn committed(&self) -> i64 {
        let committed = self.kafka.committed(&self.group(), &self.input, PARTITIONS);
        committed.iter().filter_map(|c| c.offset).sum()
    }

    /// Waits until so many are committed.
    #[track_caller]
    fn await_committed(&self, count: usize) {
        let count = i64::try_from(count).expect("a count");
        wait_until(PATIENCE, "the group to commit what was produced", || self.committed() >= count);
    }

    /// Each record is in the output once, and those of a key in their order.
    #[track_caller]
    fn judge(&self) {
        let mut seen = Vec::new();
        let mut last = BTreeMap::new();
        for record in self.kafka.read_all(&self.output, 4) {
            let value = String::from_utf8(record.value.expect("a value")).expect("UTF-8");
            let n: usize = value.parse().expect("a number");
            let before = last.insert(record.key.expect("a key"), n);
            assert!(before.is_none_or(|before| before < n), "{n} behind {before:?} in {}", self.output);
            seen.push(n);
        }
        seen.sort_unstable();
        let twice = seen.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let missing = (0..self.produced).filter(|n| seen.binary_search(n).is_err()).count();
        assert!(twice == 0 && missing == 0, "{twice} twice and {missing} missing in {}", self.output);
        assert_eq!(seen.len(), self.produced);
    }
}

fn ended_by_term(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.wait(PATIENCE).code(), Some(0), "{}", process.stderr());
}

/// Two members; one after the other is killed in the midst of its transactions, and another takes its seat.
fn killed(purpose: &str, protocol: Protocol, records: usize, kills: usize) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut pipeline = Pipeline::new(kafka, purpose, protocol);
    let mut members = vec![pipeline.member(0), pipeline.member(1)];
    let part = records / (kills + 1);
    pipeline.produce(part);
    pipeline.await_committed(part / 2);
    for kill in 0..kills {
        let seat = kill % 2;
        let before = pipeline.committed();
        pipeline.produce(part);
        // At another moment of a transaction each time.
        let ready = before + i64::try_from(part * kill / kills / 2).expect("a count");
        wait_until(PATIENCE, "a part to be committed", || pipeline.committed() >= ready);
        members[seat].signal(Signal::KILL);
        members[seat].wait(PATIENCE);
        members[seat] = pipeline.member(seat);
    }
    pipeline.await_committed(pipeline.produced);
    members.into_iter().for_each(ended_by_term);
    pipeline.judge();
}

#[test]
fn no_kill_loses_or_repeats_an_output_when_all_is_revoked() {
    killed("exact-eager", Protocol::Eager, 20_000, 4);
}

#[test]
fn no_kill_loses_or_repeats_an_output_when_partitions_move_by_and_by() {
    killed("exact-cooperative", Protocol::Cooperative, 20_000, 4);
}

#[test]
fn no_kill_loses_or_repeats_an_output_in_the_consumer_protocol() {
    killed("exact-consumer", Protocol::Consumer, 20_000, 4);
}

#[test]
fn no_kill_of_many_loses_or_repeats_an_output() {
    if !is_whole() {
        return;
    }
    killed("exact-long-eager", Protocol::Eager, 100_000, 20);
    killed("exact-long-cooperative", Protocol::Cooperative, 100_000, 20);
    killed("exact-long-consumer", Protocol::Consumer, 100_000, 20);
}

/// Members come and go in order, under load.
fn rebalanced(purpose: &str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut pipeline = Pipeline::new(kafka, purpose, protocol);
    let first = pipeline.member(0);
    for _ in 0..3 {
        pipeline.produce(3_000);
        let second = pipeline.member(1);
        pipeline.produce(3_000);
        pipeline.await_committed(pipeline.produced - 3_000);
        ended_by_term(second);
    }
    pipeline.await_committed(pipeline.produced);
    ended_by_term(first);
    pipeline.judge();
}

#[test]
fn no_rebalance_loses_or_repeats_an_output_when_all_is_revoked() {
    rebalanced("exact-moves-eager", Protocol::Eager);
}

#[test]
fn no_rebalance_loses_or_repeats_an_output_when_partitions_move_by_and_by() {
    rebalanced("exact-moves-cooperative", Protocol::Cooperative);
}

#[test]
fn no_rebalance_loses_or_repeats_an_output_in_the_consumer_protocol() {
    rebalanced("exact-moves-consumer", Protocol::Consumer);
}

/// The broker, and with it both coordinators, is killed and comes back, three times.
#[test]
fn no_broker_that_dies_loses_or_repeats_an_output() {
    let Some(kafka) = Cluster::of(1).start() else { return };
    let mut pipeline = Pipeline::new(&kafka, "exact-bounce", Protocol::Cooperative);
    let member = pipeline.member(0);
    for _ in 0..3 {
        pipeline.produce(3_000);
        pipeline.await_committed(pipeline.produced / 2);
        pipeline.produce(3_000);
        kafka.kill(1);
        kafka.boot(1);
        kafka.await_brokers(1);
    }
    pipeline.await_committed(pipeline.produced);
    ended_by_term(member);
    pipeline.judge();
}
